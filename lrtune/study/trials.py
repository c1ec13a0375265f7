"""Optuna's own tables, written beside ours in the same transaction, so that its tools read them.

One run is one trial. Optuna's interface commits each of its calls, at some milliseconds each, and
outside our transactions; these are its tables of schema version 12 (Optuna 5), in plain SQL. Only
what is displayed goes in here: no answer of ours is ever read from them.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Enum,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.schedules import FEEDBACK, SCHEDULES

OPTUNA_SCHEMA = 12

_optuna = MetaData()
_STATES = ("RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING")
_TYPES = ("FINITE", "INF_POS", "INF_NEG")

version_info = Table("version_info", _optuna, Column("schema_version", Integer))
studies = Table(
    "studies", _optuna, Column("study_id", Integer, primary_key=True), Column("study_name", String)
)
directions = Table(
    "study_directions",
    _optuna,
    Column("study_direction_id", Integer, primary_key=True),
    Column("direction", Enum("NOT_SET", "MINIMIZE", "MAXIMIZE", name="studydirection")),
    Column("study_id", Integer),
    Column("objective", Integer),
)
trials = Table(
    "trials",
    _optuna,
    Column("trial_id", Integer, primary_key=True),
    Column("number", Integer),
    Column("study_id", Integer),
    Column("state", Enum(*_STATES, name="trialstate")),
    Column("datetime_start", DateTime),
    Column("datetime_complete", DateTime),
)
params = Table(
    "trial_params",
    _optuna,
    Column("param_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("param_name", String),
    Column("param_value", Float(53)),
    Column("distribution_json", Text),
)
attributes = Table(
    "trial_user_attributes",
    _optuna,
    Column("trial_user_attribute_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("key", String),
    Column("value_json", Text),
)
values = Table(
    "trial_values",
    _optuna,
    Column("trial_value_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("objective", Integer),
    Column("value", Float(53)),
    Column("value_type", Enum(*_TYPES, name="trialvaluetype")),
)
between = Table(
    "trial_intermediate_values",
    _optuna,
    Column("trial_intermediate_value_id", Integer, primary_key=True),
    Column("trial_id", Integer),
    Column("step", Integer),
    Column("intermediate_value", Float(53)),
    Column(
        "intermediate_value_type",
        Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype"),
    ),
)
_OF_A_STUDY = ("study_user_attributes", "study_system_attributes", "study_directions", "studies")
_OF_A_TRIAL = (
    "trial_params",
    "trial_user_attributes",
    "trial_system_attributes",
    "trial_values",
    "trial_intermediate_values",
    "trial_heartbeats",
    "trials",
)

_OWN = "own"
_CHOICES = (*SCHEDULES, *FEEDBACK, "growth", "untrained", _OWN)


def _calls(text: str) -> str:
    """The names of the calls in the text of a schedule, which tell it up to its numbers."""
    return "-".join(re.findall(r"([A-Za-z_]\w*)\(", text)).replace("_", "-")


_KNOWN = {_calls(repr(entry())): name for name, entry in reversed(SCHEDULES.items())} | {
    _calls(repr(make())): name for name, make in FEEDBACK.items()
}


def schedule_name(text: str) -> str:
    """What a schedule is called among Optuna's choices.

    >>> schedule_name("warmup(share=0.05, then=cosine(floor=0.1))"), schedule_name("mine")
    ('warmup-cosine', 'own')
    """
    calls = _calls(text)
    name = _KNOWN.get(calls, calls)
    return name if name in _CHOICES else _OWN


def enter(link: Connection, name: str) -> int:
    """A new Optuna study of that name, or the nearest that is free; returns its id."""
    taken = set(link.scalars(select(studies.c.study_name)))
    free = next(
        each for n in range(len(taken) + 1) if (each := f"{name}~{n}" if n else name) not in taken
    )
    row = insert(studies).values(study_name=free).returning(studies.c.study_id)
    number = int(link.execute(row).scalar_one())
    link.execute(insert(directions).values(study_id=number, direction="MINIMIZE", objective=0))
    return number


def begin(link: Connection, study: int, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Trials that run, one for each row with lr, schedule, seed, steps, and more to be told.

    Returns:
        Their ids, in the order of the rows.
    """
    last = link.execute(
        select(func.max(trials.c.number)).where(trials.c.study_id == study)
    ).scalar_one()
    first = 0 if last is None else int(last) + 1
    fresh = [
        {"number": first + n, "study_id": study, "state": "RUNNING", "datetime_start": _now()}
        for n in range(len(rows))
    ]
    made = insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True)
    ids = [int(one) for one in link.scalars(made, fresh)]
    told = [(number, row) for number, row in zip(ids, rows, strict=True)]
    link.execute(insert(params), [each for number, row in told for each in _params(number, row)])
    link.execute(
        insert(attributes),
        [
            {"trial_id": number, "key": key, "value_json": json.dumps(value)}
            for number, row in told
            for key, value in row.items()
        ],
    )
    return ids


def resume(link: Connection, ids: Sequence[int]) -> None:
    """Trials that had stopped at a rung run on."""
    link.execute(update(trials).where(trials.c.trial_id.in_(ids)).values(state="RUNNING"))


def finish(
    link: Connection, ends: Sequence[tuple[int, str, int, float]], *, complete: bool
) -> None:
    """Trials that ended at a step: (id, outcome, step, score); with `complete`, at their last."""
    ids = [number for number, *_ in ends]
    now = _now()
    by_state: dict[str, list[int]] = {}
    scored = []
    for number, outcome, step, score in ends:
        lost = outcome in FAILED_OUTCOMES or not math.isfinite(score)
        scored += [] if lost else [(number, step, score)]
        state = "FAIL" if lost else "COMPLETE" if complete else "PRUNED"
        by_state.setdefault(state, []).append(number)
    for state, several in by_state.items():
        ended = update(trials).where(trials.c.trial_id.in_(several))
        link.execute(ended.values(state=state, datetime_complete=now))
    link.execute(delete(values).where(values.c.trial_id.in_(ids)))
    if not scored:
        return
    link.execute(
        insert(values),
        [
            {"trial_id": number, "objective": 0, "value": score, "value_type": "FINITE"}
            for number, _, score in scored
        ],
    )
    steps = {step for _, step, _ in scored}
    link.execute(delete(between).where(between.c.trial_id.in_(ids), between.c.step.in_(steps)))
    link.execute(
        insert(between),
        [
            {
                "trial_id": number,
                "step": step,
                "intermediate_value": score,
                "intermediate_value_type": "FINITE",
            }
            for number, step, score in scored
        ],
    )


def fail(link: Connection, ids: Sequence[int]) -> None:
    """Trials that will not be finished."""
    ended = update(trials).where(trials.c.trial_id.in_(ids), trials.c.state == "RUNNING")
    link.execute(ended.values(state="FAIL", datetime_complete=_now()))


def running(link: Connection, study: int) -> list[int]:
    """The trials of a study that are said to run."""
    asked = select(trials.c.trial_id).where(trials.c.study_id == study)
    return [int(one) for one in link.scalars(asked.where(trials.c.state == "RUNNING"))]


def rename(link: Connection, study: int, name: str) -> None:
    """Call an Optuna study otherwise, where that name is free."""
    taken = link.scalar(select(studies.c.study_id).where(studies.c.study_name == name))
    if taken is None:
        link.execute(update(studies).where(studies.c.study_id == study).values(study_name=name))


def forget(link: Connection, study: int) -> None:
    """Delete an Optuna study and all its trials."""
    for name in _OF_A_TRIAL:
        table = _optuna.tables.get(name, Table(name, MetaData(), Column("trial_id", Integer)))
        mine = select(trials.c.trial_id).where(trials.c.study_id == study)
        link.execute(delete(table).where(table.c.trial_id.in_(mine)))
    for name in _OF_A_STUDY:
        table = _optuna.tables.get(name, Table(name, MetaData(), Column("study_id", Integer)))
        link.execute(delete(table).where(table.c.study_id == study))


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # as Optuna stores it


def _params(trial: int, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = schedule_name(row["schedule"])
    told = {
        "lr": (row["lr"], _distribution("Float", low=1e-30, high=1e30, log=True, step=None)),
        "schedule": (_CHOICES.index(name), _distribution("Categorical", choices=_CHOICES)),
        "seed": (row["seed"], _distribution("Int", low=0, high=2**63 - 1, log=False, step=1)),
        "steps": (row["steps"], _distribution("Int", low=1, high=2**63 - 1, log=False, step=1)),
    }
    return [
        {"trial_id": trial, "param_name": key, "param_value": float(value), "distribution_json": of}
        for key, (value, of) in told.items()
    ]


def _distribution(kind: str, **attributes: object) -> str:
    return json.dumps({"name": f"{kind}Distribution", "attributes": attributes})

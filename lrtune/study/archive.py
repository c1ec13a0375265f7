"""Reading studies: to list, show and report them, without torch and without anyone's code.

What stands in a database came from elsewhere: every row is checked, nothing is executed, and text
is shown without what a terminal would obey.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, delete, distinct, func, select

from lrtune.analysis.curves import end_level
from lrtune.errors import LrtuneError, StudyError
from lrtune.results import KINDS, Result, Trace, read
from lrtune.results.schema import RUNS, TRACE, VALIDATIONS
from lrtune.results.serialization import as_table
from lrtune.study import files, tables, trials
from lrtune.study.database import Database
from lrtune.study.leases import Watch
from lrtune.study.location import Place, named_in, place, shown
from lrtune.study.recorded_run import from_row

MOST = 500
"""Runs of traces in a report: with more, it would be larger than a browser can show."""

MEASURED = {
    "stage": "str",  # what it was first trained for
    "run": "str",  # its name there
    "lr": "float64",
    "schedule": "str",
    "seed": "int64",
    "steps": "int64",  # the horizon
    "until": "int64",  # trained up to this step
    "engine": "str",
    "outcome": "str",
    "updates": "int64",  # recorded
    "train": "float64",  # mean training loss of the last fifth
    "val": "float64",  # validation loss at the end; NaN without
}
"""One row per run and rung."""


@dataclass(frozen=True)
class Entry:
    """One line of the list.

    Attributes:
        place: As `--study` takes it.
        created: When, in UTC.
        runs: How many runs are recorded.
        results: The kinds of conclusions.
        fault: Why it cannot be read; empty where it can.
    """

    place: str
    created: str = ""
    runs: int = 0
    results: tuple[str, ...] = ()
    fault: str = ""


def listed(where: str | None = None) -> list[Entry]:
    """The studies of the working directory, or those of a database; one that cannot be read, too.

    Args:
        where: A URL, or the name of a study; None for all of `.lrtune/`.
    """
    places = named_in() if where is None else [place(where)]
    return [entry for each in places for entry in _entries(each)]


def _entries(where: Place) -> Iterator[Entry]:
    try:
        with Database(where, make=False).read() as link:
            for row in link.execute(
                select(tables.studies).order_by(tables.studies.c.id)
            ).mappings():
                yield Entry(
                    place=shown(Place(str(row["name"]), where.url, where.file)),
                    created=shown(row["created"]),
                    runs=count(link, row["id"]),
                    results=tuple(shown(kind) for kind in _kinds(link, row["id"])),
                )
    except LrtuneError as error:
        yield Entry(place=shown(where), fault=shown(error, 300))


def count(link: Connection, study: int) -> int:
    """How many runs are recorded."""
    keys = select(func.count(distinct(tables.rungs.c.key)))
    return int(link.scalar(keys.where(tables.rungs.c.study == study)) or 0)


def _kinds(link: Connection, study: int) -> list[str]:
    results = tables.results
    asked = select(results.c.kind).where(results.c.study == study).order_by(results.c.id)
    return list(dict.fromkeys(str(kind) for kind in link.scalars(asked)))


@dataclass(frozen=True, eq=False)
class Archive:
    """Everything that one study holds.

    Attributes:
        name: Its name.
        task: The parts of the task, in words.
        sessions: Their manifests, in order.
        results: The latest conclusion of each kind, in order.
        measured: One row per run and rung, see `MEASURED`.
        decisions: Name to value.
    """

    name: str
    created: str
    task: dict[str, str]
    sessions: list[dict[str, str]]
    results: list[Result]
    measured: pd.DataFrame
    decisions: dict[str, str]
    _rows: list[Mapping[Any, Any]] = field(repr=False)
    _mark: int = field(repr=False)

    @property
    def left_out(self) -> int:
        """Runs that no conclusion is made of, and that are too many for a report."""
        late = sum(bool(row["id"] > self._mark) for row in self._rows)
        return max(0, late - MOST)

    @property
    def reported(self) -> list[Result]:
        """What a report is made of: conclusions, and the traces that have not led to one yet.

        Of these the last `MOST` runs; an export has them all.
        """
        late = [row for row in self._rows if row["id"] > self._mark][-MOST:]
        groups: dict[tuple[str, int, int], list[Mapping[Any, Any]]] = {}
        for row in late:
            groups.setdefault((row["stage"], row["steps"], row["until"]), []).append(row)
        return [*self.results, *(_trace(rows) for rows in groups.values())]

    @property
    def curves(self) -> pd.DataFrame:
        """One row per run, rung and step, with what tells the run."""
        parts = []
        for row in self._rows:
            rung = from_row(row)
            part = {"lr": rung.rate, "loss": rung.loss, "batch": rung.batch}
            told = {name: row[name] for name in ("stage", "name", "schedule", "seed", "until")}
            parts.append(pd.DataFrame({**told, "step": np.arange(len(rung.loss)), **part}))
        columns = ["stage", "run", "schedule", "seed", "until", "step", "lr", "loss", "batch"]
        if not parts:
            return pd.DataFrame(columns=columns)
        return pd.concat(parts, ignore_index=True).rename(columns={"name": "run"})[columns]

    def to_json(self) -> str:
        """One object; `lrtune report` reads the results in it."""
        plain = {
            "study": self.name,
            "created": self.created,
            "task": self.task,
            "sessions": self.sessions,
            "decisions": self.decisions,
            "runs": json.loads(self.measured.to_json(orient="records", double_precision=15)),
            "results": [result.to_dict() for result in self.reported],
        }
        return json.dumps(plain, allow_nan=False)


def opened(study: str) -> Archive:
    """Read a study.

    Raises:
        StudyError: There is none, or it is damaged.
        ArgumentError: It is no name of one.
    """
    where = place(study)
    with Database(where, make=False).read() as link:
        row = study_row(link, where)
        mine = {each.name: _rows(link, each, row["id"]) for each in tables.OWNED}
    rows = mine["lrtune_rungs"]
    latest: dict[str, Result] = {}
    mark = 0
    for each in mine["lrtune_results"]:
        latest.pop(each["kind"], None)
        latest[each["kind"]] = _result(each)
        mark = max(mark, each["mark"])
    order = list(KINDS)
    return Archive(
        name=where.name,
        created=row["created"],
        task=_texts(row["task"], "words"),
        sessions=[_texts(each["manifest"]) for each in mine["lrtune_sessions"]],
        results=sorted(latest.values(), key=lambda one: order.index(one.to_dict()["kind"])),
        measured=_measured(rows),
        decisions={each["name"]: each["value"] for each in mine["lrtune_decisions"]},
        _rows=rows,
        _mark=mark,
    )


def study_row(link: Connection, where: Place) -> Mapping[Any, Any]:
    """The row of a study.

    Raises:
        StudyError: There is none of that name; the message names some that there are.
    """
    by_name = select(tables.studies).where(tables.studies.c.name == where.name)
    row = link.execute(by_name).mappings().first()
    if row is None:
        names = [shown(one) for one in link.scalars(select(tables.studies.c.name).limit(5))]
        raise StudyError(
            f"{where.where} holds no study {where.name!r}; there are {', '.join(names) or 'none'}."
        )
    return tables.intact(tables.studies, row)


def _rows(link: Connection, each: Any, study: int) -> list[Mapping[Any, Any]]:
    asked = select(each).where(each.c.study == study)
    if "id" in each.c:
        asked = asked.order_by(each.c.id)
    rows: list[Mapping[Any, Any]] = list(link.execute(asked).mappings())
    return [tables.intact(each, row) for row in rows] if "sum" in each.c else rows


def _result(row: Mapping[Any, Any]) -> Result:
    found = read(row["json"])
    if len(found) != 1:
        raise tables.damaged("a result is none, or several")
    return found[0]


def _texts(text: str, part: str | None = None) -> dict[str, str]:
    try:
        plain = json.loads(text)
        inside = plain if part is None else plain[part]
        return {str(name): str(value) for name, value in inside.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise tables.damaged(f"a manifest cannot be read ({error})") from error


def _measured(rows: list[Mapping[Any, Any]]) -> pd.DataFrame:
    told = []
    for row in rows:
        rung = from_row(row)
        told.append(
            {
                **{name: row[name] for name in ("stage", "lr", "schedule", "seed", "steps")},
                **{name: row[name] for name in ("until", "engine", "outcome")},
                "run": row["name"],
                "updates": row["count"],
                "train": end_level(rung.loss) if len(rung.loss) else np.nan,
                "val": float(rung.val[0]) if len(rung.val) else np.nan,
            }
        )
    return as_table(pd.DataFrame(told, columns=list(MEASURED)), MEASURED)


def _trace(rows: list[Mapping[Any, Any]]) -> Trace:
    """The trace of runs of one stage."""
    frames, runs, validations = [], [], []
    names: dict[str, int] = {}
    for row in rows:
        rung, count = from_row(row), row["count"]
        names[row["name"]] = names.get(row["name"], 0) + 1
        name = row["name"] + (f" ({names[row['name']]})" if names[row["name"]] > 1 else "")
        part = {"lr": rung.rate, "loss": rung.loss, "batch": rung.batch}
        frames.append(pd.DataFrame({"run": name, "step": np.arange(count), **part}))
        told = [row[each] for each in ("lr", "schedule", "seed", "outcome", "count")]
        runs.append((name, *told))
        validations += [(name, row["until"], float(val)) for val in rung.val]
    return Trace(
        frame=as_table(pd.concat(frames, ignore_index=True), TRACE),
        runs=as_table(pd.DataFrame(runs, columns=list(RUNS)), RUNS),
        validations=as_table(pd.DataFrame(validations, columns=list(VALIDATIONS)), VALIDATIONS),
        steps=rows[0]["steps"],
    )


def deleted(study: str) -> str:
    """Delete a study; returns what was deleted, in words.

    Raises:
        StudyError: A process trains for it, or it cannot be read: delete the file yourself then.
    """
    where = place(study)
    database, watch = Database(where, make=False), Watch()
    with database.write() as link:
        row = study_row(link, where)
        for owner in link.execute(_owners_of(row["id"])).mappings():
            if not watch.dead(owner):
                raise StudyError(
                    f"the study {str(where)!r} is in use by process {owner['pid']}. End it first."
                )
        runs = count(link, row["id"])
        for each in tables.OWNED:
            link.execute(delete(each).where(each.c.study == row["id"]))
        trials.forget(link, row["trials"])
        link.execute(delete(tables.studies).where(tables.studies.c.id == row["id"]))
        left = link.scalar(select(func.count()).select_from(tables.studies))
    if where.file is not None and not left:
        files.remove(where.file)
    return f"{where} with {runs} runs"


def _owners_of(study: int) -> Any:
    owners, claims = tables.owners, tables.claims
    mine = select(claims.c.owner).where(claims.c.study == study)
    return select(owners).where(owners.c.token.in_(mine))

"""A study as it is read: for `lrtune studies show`, for reports, and for exports to files.

Needs no torch and none of the user's code. The database may come from elsewhere, so every row is
checked and nothing in it is executed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, select

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level
from lrtune.errors import ArgumentError
from lrtune.results import KINDS, Result, Trace, read
from lrtune.results.optuna_export import ExportedTrial, add_to_optuna
from lrtune.results.schema import SELECTION, TEST, as_table
from lrtune.results.serialization import write
from lrtune.study import tables
from lrtune.study.catalog import study_location, study_row
from lrtune.study.database import Database
from lrtune.study.leases import WHOLE
from lrtune.study.recorded_runs import run_from_row, trace_from_runs

MOST_RUNS = 500
"""Runs of traces in a report. With more, no browser shows it."""

RECORDED = {
    "stage": "str",  # the stage that trained it
    "run": "str",  # its name there
    "lr": "float64",
    "schedule": "str",
    "seed": "int64",
    "steps": "int64",  # the horizon
    "until": "int64",  # trained up to this step
    "engine": "str",
    "outcome": "str",
    "recorded": "int64",  # steps with a loss
    "updates": "int64",  # made by the call that recorded it
    "val_samples": "int64",
    "seconds": "float64",
    "train": "float64",  # mean training loss of the last fifth
    "val": "float64",  # validation loss at the end, on the selection part; NaN without
    "val_test": "float64",  # on the test part
}
"""Columns of `StudyContents.recorded`: one row per run and step that it was recorded at."""

CURVES = ("stage", "run", "schedule", "seed", "until", "step", "lr", "loss", "batch")
"""Columns of `StudyContents.curves`: one row per recorded run and step."""


@dataclass(frozen=True, eq=False)
class StudyContents:
    """What one study holds, read from its database to be shown, reported or exported.

    Its task in words, one manifest per session, the newest result of each kind, one row per
    recorded run (see `RECORDED`), and decisions, such as the engine that was chosen.
    """

    name: str
    created: str
    task: dict[str, str]
    sessions: list[dict[str, str]]
    results: list[Result]
    recorded: pd.DataFrame
    decisions: dict[str, str]
    left_out: int  # number of runs without a result that are too many for a report
    _rows: list[Mapping[Any, Any]] = field(repr=False)
    _late: list[Mapping[Any, Any]] = field(repr=False)  # the runs after the last result

    @property
    def outcomes(self) -> dict[str, str]:
        """The key of every run, and its outcome at the last step up to which it was trained."""
        rows = sorted(self._rows, key=lambda row: int(row["until"]))
        return {row["key"]: row["outcome"] for row in rows}

    @property
    def reported(self) -> list[Result]:
        """The content of a report: the results, then the traces of later runs."""
        groups: dict[tuple[str, int, int], list[Mapping[Any, Any]]] = {}
        for row in self._late:
            groups.setdefault((row["stage"], row["steps"], row["until"]), []).append(row)
        return [*self.results, *map(_trace, groups.values())]

    @property
    def curves(self) -> pd.DataFrame:
        """One row per recorded run and step, with the columns `CURVES`."""
        parts = [pd.DataFrame(columns=list(CURVES))] * (not self._rows)
        for row in self._rows:
            run = run_from_row(row)
            part = {name: row[name] for name in ("stage", "schedule", "seed", "until")}
            part |= {"run": row["name"], "step": np.arange(len(run.loss)), "lr": run.rate}
            parts.append(pd.DataFrame({**part, "loss": run.loss, "batch": run.batch}))
        return pd.concat(parts, ignore_index=True)[list(CURVES)]

    def to_json(self) -> str:
        """One JSON object; `lrtune report` reads the results in it."""
        plain = {
            "study": self.name,
            "created": self.created,
            "task": self.task,
            "sessions": self.sessions,
            "decisions": self.decisions,
            "runs": json.loads(self.recorded.to_json(orient="records", double_precision=15)),
            "results": [result.to_dict() for result in self.reported],
        }
        return json.dumps(plain, allow_nan=False)

    def to_file(self, path: Path, *, curves: bool = False) -> Path:
        """Write one row per run, or per run and step, to a file in the format of its ending."""
        frame = self.curves if curves else self.recorded
        match path.suffix.lower():
            case ".json":
                content: str | bytes = self.to_json() + "\n"
            case ".csv":
                content = _without_formulas(frame).to_csv(index=False, lineterminator="\n")
            case ".parquet":
                content = _parquet(frame)
            case _:
                raise ArgumentError(
                    f"--out {path}: expected a name that ends in .csv, .parquet or .json."
                )
        return write(path, content)

    def to_optuna(self, storage: Any = None) -> Any:
        """Add every run that reached its horizon or failed as a trial to an Optuna study.

        The study has the same name, and lies in an Optuna storage; in memory if that is None.
        """
        trials: dict[str, ExportedTrial] = {}
        for row in sorted(self._rows, key=_validated_samples):
            if row["until"] == row["steps"] or row["outcome"] in FAILED_OUTCOMES:
                trials[row["key"]] = _trial(row)  # what was validated on more replaces the other
        return add_to_optuna(trials.values(), self.name, storage)


def open_study(study: str) -> StudyContents:
    """Read a study, named as `--study` takes it; StudyError if there is none, or it is damaged."""
    location = study_location(study)
    with Database(location, create=False).read() as link:
        row = study_row(link, location)
        runs, results, sessions, decisions = (
            _rows_of(link, each, row["id"])
            for each in (tables.runs, tables.results, tables.sessions, tables.decisions)
        )
    newest = {each["kind"]: _result(each) for each in results}
    last_run = max((each["last_run"] for each in results), default=0)
    late = [each for each in runs if each["id"] > last_run]
    return StudyContents(
        name=location.name,
        created=row["created"],
        task=_texts(row["task"], "words"),
        sessions=[_texts(each["manifest"]) for each in sessions],
        results=sorted(newest.values(), key=lambda one: list(KINDS).index(one.kind)),
        recorded=_recorded(runs),
        decisions={each["name"]: each["value"] for each in decisions},
        left_out=max(0, len(late) - MOST_RUNS),
        _rows=runs,
        _late=late[-MOST_RUNS:],
    )


def _rows_of(link: Connection, each: Any, study: int) -> list[Mapping[Any, Any]]:
    query = select(each).where(each.c.study == study)
    query = query.order_by(each.c.id) if "id" in each.c else query
    return [tables.verify_checksum(each, row) for row in link.execute(query).mappings()]


def _result(row: Mapping[Any, Any]) -> Result:
    found = read(row["json"])
    if len(found) != 1:
        raise tables.damaged(f"expected one result in a row, got {len(found)}")
    return found[0]


def _texts(text: str, part: str | None = None) -> dict[str, str]:
    try:
        plain = json.loads(text)
        inside = plain if part is None else plain[part]
        return {str(name): str(value) for name, value in inside.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise tables.damaged(f"a manifest cannot be read ({error})") from error


def _recorded(rows: list[Mapping[Any, Any]]) -> pd.DataFrame:
    records = []
    for row in rows:
        run = run_from_row(row)
        losses = {part.part: part.loss for part in run.validations}
        about = {
            "run": row["name"],
            "recorded": row["count"],
            "train": end_level(run.loss),
            "val": losses.get(SELECTION, np.nan),
            "val_test": losses.get(TEST, np.nan),
        }
        records.append([about.get(name, row.get(name)) for name in RECORDED])
    return as_table(records, RECORDED)


def _validated_samples(row: Mapping[Any, Any]) -> float:
    """The number of samples that were asked for; infinite for the whole validation data."""
    return math.inf if row["validated"] == WHOLE else row["validated"]


def _trace(rows: list[Mapping[Any, Any]]) -> Trace:
    """The trace of recorded runs of one stage; equal names are numbered."""
    named = []
    names: dict[str, int] = {}
    for row in rows:
        number = names[row["name"]] = names.get(row["name"], 0) + 1
        name = row["name"] + (f" ({number})" if number > 1 else "")
        named.append((name, row["lr"], row["schedule"], row["seed"], run_from_row(row)))
    return trace_from_runs(named, rows[0]["steps"], rows[0]["until"], validate=True)


def _trial(row: Mapping[Any, Any]) -> ExportedTrial:
    run = run_from_row(row)
    return ExportedTrial(
        key=row["key"],
        lr=row["lr"],
        schedule=row["schedule_name"],
        call=row["schedule"],
        seed=row["seed"],
        steps=row["steps"],
        outcome=run.outcome,
        value=run.final,
        losses=dict(enumerate(run.loss.tolist())),
        more={
            "value": "validation loss" if len(run.val) else "training loss",
            **{name: row[name] for name in ("stage", "name", "engine")},
        },
    )


def _parquet(frame: pd.DataFrame) -> bytes:
    try:
        return bytes(frame.to_parquet(engine="pyarrow", index=False))
    except ImportError as error:
        raise ArgumentError(
            "Parquet needs pyarrow, which is not installed. Try: pip install 'lrtune[parquet]', or "
            "name a .csv file."
        ) from error


def _without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    safe = frame.copy()
    for name in safe.columns:
        if pd.api.types.is_string_dtype(safe[name]) or safe[name].dtype == object:
            safe[name] = safe[name].astype(str).str.replace(r"^([=+\-@\t\r])", r"'\1", regex=True)
    return safe

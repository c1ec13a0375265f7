"""How often `diagnose` names the right cause, and what it says against healthy tasks.

`python -m benchmarks.diagnosis` diagnoses every broken task, its healthy twin, and the healthy
tasks of other kinds; it goes on where it was stopped, with what docs/diagnosis.csv holds.
`python -m benchmarks.diagnosis NAME...` does so for some names only, and records nothing.
`python -m benchmarks.diagnosis verbs` tells what check, range test and search say against healthy
tasks.
"""

import csv
import importlib
import pkgutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import benchmarks.diagnosis
from benchmarks.diagnosis.healthy import HEALTHY
from benchmarks.diagnosis.methods import METHODS
from benchmarks.diagnosis.trainings import Training, as_training
from lrtune import check, range_test, search
from lrtune.errors import AnswerWarning, LrtuneError

TABLE = Path(__file__).parents[2] / "docs" / "diagnosis.csv"
COLUMNS = ("kind", "name", "title", "found", "notes", "cost", "budget", "seconds")
BROKEN_TASK, TWIN, OTHER = "broken", "twin", "healthy"
STEPS = 200  # of the verbs


def cases() -> Iterator[tuple[str, str, str, Training]]:
    """Kind, name of the finding, title and training of every case."""
    for module in pkgutil.iter_modules(benchmarks.diagnosis.__path__):
        if module.name.startswith("broken_"):
            found = importlib.import_module(f"benchmarks.diagnosis.{module.name}").BROKEN
            for name, some in found.items():
                for title, broken, twin in some:
                    yield BROKEN_TASK, name, title, as_training(broken)
                    yield TWIN, name, title, as_training(twin)
    for title, make in (HEALTHY | METHODS).items():
        yield OTHER, "", title, Training(make)


def diagnosed(kind: str, name: str, title: str, training: Training) -> dict[str, object]:
    """A row of the table."""
    begin = time.perf_counter()
    seen = training.diagnose()
    return {
        "kind": kind,
        "name": name,
        "title": title,
        "found": " ".join(one.name for one in seen.findings if one.severity != "note"),
        "notes": " ".join(one.name for one in seen.findings if one.severity == "note"),
        "cost": round(seen.cost),
        "budget": round(max(300, training.steps / 2)),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def right(row: dict[str, object]) -> bool:
    """Whether the right name is among the first two findings."""
    return row["name"] in f"{row['found']} {row['notes']}".split()[:2]


def summary(rows: list[dict[str, object]]) -> str:
    """What the table shows, in three lines."""
    broken = [row for row in rows if row["kind"] == BROKEN_TASK]
    lines = [f"{sum(map(right, broken))} of {len(broken)} broken tasks: the right name among two"]
    for kind, words in ((TWIN, "healthy twins"), (OTHER, "other healthy tasks")):
        some = [row for row in rows if row["kind"] == kind]
        alarms = sum(bool(row["found"]) for row in some)
        lines.append(f"{alarms} of {len(some)} {words} with an error or a warning")
    over = sum(float(str(row["cost"])) > float(str(row["budget"])) for row in rows)
    costs = sorted(float(str(row["cost"])) / float(str(row["budget"])) for row in rows)
    half, most = (100 * costs[place] for place in (len(costs) // 2, -1))
    lines.append(f"cost: {half:.0f} % of the budget (median), {most:.0f} % at most, {over} above")
    return "\n".join(lines)


def measure(names: list[str]) -> None:
    """Diagnose all cases, or those of some names."""
    rows: list[dict[str, object]] = []
    if not names and TABLE.exists():
        with TABLE.open(newline="") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
    done = {(row["kind"], row["name"], row["title"]) for row in rows}
    chosen = [one for one in cases() if (not names or one[1] in names) and one[:3] not in done]
    for case in chosen:
        row = diagnosed(*case)
        rows.append(row)
        verdict = "" if row["kind"] != BROKEN_TASK else " ok" if right(row) else " MISSED"
        alarm = " ALARM" if row["kind"] != BROKEN_TASK and row["found"] else ""
        print(*row.values(), verdict + alarm, sep=" | ", flush=True)
        if not names:
            with TABLE.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    print(summary(rows))


def alarms(name: str) -> dict[str, list[str]]:
    """What each verb says against a task."""
    task = HEALTHY[name]()
    told = {"check": list(check(task).warnings)}
    for verb in (range_test, search):
        try:
            told[verb.__name__] = list(verb(task, steps=STEPS).warnings)
        except LrtuneError as error:
            told[verb.__name__] = [str(error).splitlines()[0]]
    return told


def verbs(names: list[str]) -> None:
    """Print what the verbs say against healthy tasks."""
    chosen = [name for name in HEALTHY if not names or name in names]
    quiet = 0
    for name in chosen:
        begin = time.perf_counter()
        told = alarms(name)
        quiet += not any(told.values())
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
        for verb, sentences in told.items():
            for sentence in sentences:
                print(f"  {verb}: {sentence}", flush=True)
    print(f"{quiet} of {len(chosen)} healthy tasks without a word against them")


if __name__ == "__main__":
    warnings.simplefilter("ignore", AnswerWarning)
    if sys.argv[1:2] == ["verbs"]:
        verbs(sys.argv[2:])
    else:
        measure(sys.argv[1:])

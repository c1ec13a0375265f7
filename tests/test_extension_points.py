"""A toy of everything that ARCHITECTURE.md says can be added, and in how few files."""

import dataclasses
import math
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from lrtune import Cohort, Run, check, compare, range_test, report, train
from lrtune.analysis import sweep_rules
from lrtune.cli.commands import app
from lrtune.diagnosis import registry
from lrtune.reporting import page
from lrtune.results import Finding
from lrtune.schedules import (
    SCHEDULES,
    FloatRange,
    ScheduleEntry,
    factory,
    formulas,
    multipliers,
    parse,
    snippet,
)
from lrtune.schedules.schedule import FACTORIES
from lrtune.testing import bowl
from lrtune.training.engines.loop import Loop

ROOT = Path(__file__).parent.parent
KINDS = ["schedule", "sweep rule", "chart", "check of a task", "engine", "CLI option"]
MOST_FILES = 3


def extension_table():
    """Name to files, of the table that follows "Where does a new ... go" in ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    _, *after = re.split("where does a new", text, maxsplit=1, flags=re.IGNORECASE)
    table = re.search(r"(?:^\|.*\n)+", after[0], flags=re.MULTILINE)
    rows = table.group().splitlines()[2:]
    cells = [row.strip("|").split("|", 1) for row in rows]
    return {name.strip(): re.findall(r"`([\w./-]+\.\w+)`", files) for name, files in cells}


TABLE = extension_table()


def files_of(kind):
    rows = [files for name, files in TABLE.items() if kind.lower() in name.lower()]
    assert len(rows) == 1, f"expected one row for a new {kind} in ARCHITECTURE.md, got {len(rows)}"
    return rows[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_names_at_most_three_files_and_they_exist(kind):
    files = files_of(kind)
    assert 1 <= len(files) <= MOST_FILES, f"a new {kind} touches {files}"
    for file in files:
        there = (ROOT / file).is_file() or (ROOT / "lrtune" / file).is_file()
        assert there, f"{file}, where a new {kind} goes, does not exist"


@pytest.mark.parametrize("name", ["rex", "exp_range"])
def test_a_schedule_is_named_in_three_files_of_the_package_at_most(name):
    package = ROOT / "lrtune"
    files = [
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(rf"\b{name}\b", file.read_text(encoding="utf-8"))
    ]
    assert len(files) <= MOST_FILES
    assert {Path(file).parent.name for file in files} == {"schedules"}
    named = {Path(file).name for file in files_of("schedule")}
    # shapes.py and cycles.py are two modules of factories; a new schedule goes into one of them.
    assert {Path(file).name for file in files} <= named | {"shapes.py", "cycles.py"}


# --- a schedule -----------------------------------------------------------------------------------


def toy_formula(p: float, floor: float) -> float:
    """A quarter circle from 1 to `floor`."""
    return floor + (1 - floor) * math.sqrt(1 - p**2)


@pytest.fixture
def toy(monkeypatch):
    """A formula, a factory and an entry of the registry: nothing else."""
    monkeypatch.setattr(formulas, "toy_formula", toy_formula, raising=False)
    monkeypatch.setitem(FACTORIES, "toy_circle", None)

    @factory
    def toy_circle(floor: float = 0.0):
        return partial(toy_formula, floor=floor)

    space = {"floor": FloatRange(0.0, low=0.0, high=0.1)}
    entry = ScheduleEntry("toy-circle", "A quarter circle.", "a toy", toy_circle, space, "a guess")
    monkeypatch.setitem(SCHEDULES, "toy-circle", entry)
    return toy_circle


def test_a_schedule_is_listed_and_read_from_its_text(toy):
    assert parse("toy-circle") == parse("toy_circle") == toy()
    assert parse("warmup(0.1, then=toy_circle(0.05))").text.endswith("toy_circle(floor=0.05))")
    listed = CliRunner().invoke(app, ["schedules"])
    assert listed.exit_code == 0
    (line,) = [line for line in listed.output.splitlines() if line.startswith("toy-circle")]
    assert line.rstrip().endswith("A quarter circle.")


def test_a_schedule_is_ranked_with_its_own_parameters(toy):
    ranked = compare(bowl(4.0), 0.25, schedules=["toy-circle"], steps=64, seeds=2)
    assert "toy-circle" in set(ranked.table["schedule"])


def test_a_schedule_becomes_a_snippet_that_trains_with_its_formula(toy):
    source = snippet(toy(floor=0.05), lr=0.2, steps=9)
    assert "def toy_formula(" in source
    script = {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.2)}
    exec(source, script)  # noqa: S102 - it is what users do with it
    rates = []
    for _ in range(9):
        rates.append(script["optimizer"].param_groups[0]["lr"])
        script["optimizer"].step()
        script["scheduler"].step()
    assert rates == pytest.approx([0.2 * one for one in multipliers(toy(floor=0.05), 9)])


# --- a sweep rule, a chart, an engine -------------------------------------------------------------


def test_a_sweep_rule_is_one_function_and_one_line(monkeypatch):
    def lowest(sweep):
        return float(sweep.lr[0]), "the lowest rate of the sweep"

    monkeypatch.setitem(sweep_rules.RULES, "lowest", lowest)
    found = range_test(bowl(4.0), steps=80, seeds=2)
    answers = found.answers[found.answers["rule"] == "lowest"]
    assert answers["lr"].nunique() == 1
    assert answers["lr"].iloc[0] < found.suggestion.lr


def test_a_chart_is_one_figure_and_its_place_in_a_section(monkeypatch, tmp_path):
    from plotly.graph_objects import Figure, Scatter

    trace = train(bowl(4.0), [Run("a", 0.1)], 9)
    written = page.SECTIONS[type(trace)]

    def with_toy(result):
        section = written(result)
        losses = result.frame["loss"].tolist()
        chart = dataclasses.replace(
            section.charts[0],
            title="Toy chart",
            draw=lambda: Figure(Scatter(y=losses, name="toy losses")),
        )
        return dataclasses.replace(section, charts=[*section.charts, chart])

    monkeypatch.setitem(page.SECTIONS, type(trace), with_toy)
    text = report(trace, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Toy chart" in text
    assert "toy losses" in text


def test_a_check_is_one_function_and_one_line(monkeypatch, tmp_path):
    def fussy(seen):
        yield Finding("fussy", "warning", f"{seen.task.epoch_steps} updates.", "It is a toy.", "")

    monkeypatch.setitem(registry.CHECKS, fussy, ("fussy",))
    seen = check(bowl(4.0))
    assert [one.name for one in seen.findings] == ["fussy"]
    assert seen.warnings == ("1000 updates. It is a toy.",)
    assert "It is a toy." in report(seen, tmp_path / "r.html").read_text(encoding="utf-8")


class CountingEngine:
    """The loop, and how often it was asked for an update."""

    def __init__(self, task):
        self._loop, self.updates = Loop(task), 0

    def update(self, *arguments):
        self.updates += 1
        return self._loop.update(*arguments)

    def __getattr__(self, name):
        return getattr(self._loop, name)


def test_an_engine_is_an_object_with_the_methods_of_one():
    task, runs = bowl(4.0, noise=0.1), [Run("a", 0.1), Run("b", 0.2, seed=1)]
    engine = CountingEngine(task)
    frame = Cohort(task, runs, 9, engine=engine).advance().trace.frame
    assert frame.equals(train(task, runs, 9).frame)
    assert engine.updates >= 9

"""What the command line prints, and shows while it trains; what its commands have in common."""

import ast
import dataclasses
import inspect
import io
import re
import subprocess
import sys

import pytest
from reporting import SAMPLES, a_search
from rich.console import Console

from lrtune.cli import options, progress
from lrtune.cli.answers import print_results
from lrtune.reporting.statements import PEAK
from lrtune.results import ComparisonResult
from lrtune.tuning.experiment import Event
from lrtune.tuning.planning import Sizes, make_plan


def printed(capsys, results, **more):
    print_results(results, **more)
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [44, 60, 80, 120])
@pytest.mark.parametrize("schedule", ["trapezoid", "warmup(share=0.05, then=cosine(floor=0.1))"])
def test_a_rate_and_its_schedule_stand_on_one_line(capsys, monkeypatch, width, schedule):
    monkeypatch.setenv("COLUMNS", str(width))
    found = dataclasses.replace(a_search(), schedule=schedule, warnings=())
    lines = printed(capsys, [found]).splitlines()
    assert lines[0].startswith(f"lr 0.02 with {schedule}")
    note = f"({options.as_options(PEAK)})"
    assert note in (lines[0][-len(note) :], lines[1])
    assert all(len(line) <= max(width, 36) for line in lines[2:12])


@pytest.mark.parametrize("width", [44, 60, 66, 80, 120])
def test_a_narrow_terminal_loses_columns_but_neither_names_nor_numbers(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    ranked = SAMPLES[ComparisonResult]("one-cycle")
    said = printed(capsys, [ranked])
    table = (
        said[re.search(r"^ *schedule +peak", said, re.MULTILINE).start() :]
        .split("\n\n")[0]
        .splitlines()
    )
    assert max(map(len, table)) <= width
    for row in ranked.table.itertuples():
        assert any(row.schedule in line and f"{row.lr:.3g}" in line for line in table)


def test_no_printed_line_is_taken_for_markup(capsys):
    text = "[bold]not bold[/bold] [/] [link=file:///]x[/link]"
    said = " ".join(printed(capsys, [make(text) for make in SAMPLES.values()]).split())
    assert said.count("[bold]not bold[/bold]") >= 4


def test_no_printed_line_obeys_a_control_character(capsys):
    assert "\x1b" not in printed(capsys, [make("\x1b[31m") for make in SAMPLES.values()])


@pytest.mark.parametrize("constant", [0.0, 1e4, -1e6])
def test_a_constant_on_top_hides_no_digit_of_a_loss(capsys, constant):
    found = a_search()
    columns = ["start", "train", "loss", "test"]
    best = dataclasses.replace(found.best, loss=found.best.loss + constant)
    moved = {"runs": found.runs.assign(**{name: found.runs[name] + constant for name in columns})}
    said = printed(capsys, [dataclasses.replace(found, best=best, **moved)])
    told = float(re.search(r"Best training +loss (\S+)", said)[1])
    assert told - constant == pytest.approx(0.45, abs=0.005)


def test_without_a_whole_training_no_loss_is_stated(capsys):
    said = printed(capsys, [a_search(whole=False)])
    assert "Best training" not in said
    assert "Retrained" not in said


# --- progress


@pytest.mark.parametrize(
    ("text", "seconds"), [("20m", 1200), ("90s", 90), ("2h", 7200), ("45", 45), ("1.5 H", 5400)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text, seconds):
    assert options.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "m", "1d", "1m30s", "nan"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(options.typer.BadParameter, match="is no duration"):
        options.duration(text)


class Ticks:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


def test_the_pace_is_measured_within_calls_only():
    clock = Ticks()
    pace = progress.Pace(clock)
    for calls in range(4):  # each of 10 updates, half a second apart, and a minute between them
        clock.now += 60
        pace.end_call()
        for done in range(10 * calls, 10 * calls + 11):
            pace.report(done)
            clock.now += 0.5
        assert (pace.seconds_per_update is None) == (calls < 1)
    assert pace.seconds_per_update == pytest.approx(0.5)
    assert pace.made == 40


def shown(width=100):
    """A display on a terminal of that width, what it says, and what it draws."""
    said, screen = [], io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width)
    return progress.ProgressDisplay(console, said.append), said, screen


def test_progress_tells_the_plan_the_estimate_and_the_first_answer_once():
    display, said, screen = shown()
    plan = make_plan(Sizes(100))
    display.start()
    display.show_plan("search", plan)
    display.event(Event("coarse", 0.0, plan.cost, None, "trapezoid"))
    for done in range(0, 60, 2):
        display.updates("coarse", done, 60)
    for spent in (0.6, 1.6):
        display.event(Event("fine", spent, plan.cost, 0.305, "trapezoid"))
        display.updates("fine", 1, 100)
    display.stop()
    first, estimate, answer = said
    assert first == str(plan)
    assert estimate.startswith("About 1 second to go")
    assert answer == "First answer, after 0.60 trainings: lr 0.305 with trapezoid"
    assert "lr 0.305 with trapezoid" in screen.getvalue(), "the bar shows the answer so far"


def test_stages_that_are_no_search_have_bars_of_their_own():
    display, said, screen = shown()
    display.start()
    display.updates("range test", 30, 60)
    display.stop()
    assert said == []
    assert "30 of 60 updates" in screen.getvalue()


# --- what the commands that train have in common


def test_commands_that_train_share_their_options_in_one_order():
    from lrtune.cli import commands

    shared = list(inspect.signature(commands._shared_options).parameters)
    for command in (commands.search, commands.range_test, commands.compare):
        names = list(inspect.signature(command).parameters)
        assert names[0] == shared[0]
        assert names[-len(shared) + 1 :] == shared[1:]


@pytest.mark.parametrize("command", ["search", "range_test", "compare"])
def test_a_command_holds_no_logic(command):
    from lrtune.cli import commands

    (function,) = ast.parse(inspect.getsource(inspect.unwrap(getattr(commands, command)))).body
    statements = [one for one in ast.walk(function) if isinstance(one, ast.stmt)][2:]
    assert len(statements) <= 12
    assert not any(isinstance(one, ast.For | ast.While | ast.Try) for one in statements)


@pytest.mark.parametrize("arguments", [["-h"], ["schedules"], ["report", "-h"], ["studies", "-h"]])
def test_commands_that_train_nothing_need_no_torch(arguments):
    code = (
        "import sys, typer.testing as t, lrtune.cli.commands as c\n"
        f"print(t.CliRunner().invoke(c.app, {arguments!r}).exit_code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 False"


def test_checkpoints_can_be_had_through_the_session():
    from lrtune import Evaluator, Run
    from lrtune.cli.session import _TraceKeeper
    from lrtune.testing import bowl

    traces, runs = [], [Run("a", 0.1)]
    evaluate = _TraceKeeper(Evaluator(bowl(4.0)), traces, lambda: None)
    name = evaluate(runs, 10, stage="s", checkpoint=True).runs["checkpoint"].item()
    assert evaluate.checkpoint(name)["step"] == 10
    assert [trace.cost.updates for trace in traces] == [10]
    assert not hasattr(_TraceKeeper(lambda *_, **__: None, [], lambda: None), "checkpoint")

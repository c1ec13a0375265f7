"""The command line: answers, exit codes, and what a user sees when something goes wrong."""

import inspect
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrtune.cli.commands import app
from lrtune.results import ComparisonResult
from lrtune.schedules import SCHEDULES, parse

QUICK = ["--steps", "24", "--seeds", "1", "--device", "cpu"]

BROKEN = """
import torch
from torch import nn
import lrtune

data = torch.randn(64, 3), torch.randn(64, 1)

calls = 0

def moody(output, target):
    global calls
    calls += 1
    if calls > 5:
        raise RuntimeError("the loss has had enough")
    return (output - target).square().mean()

task = lrtune.Task(nn.Linear(3, 1), data, loss=moody, device="cpu")
"""

SLOW = """
import pathlib, time, torch
from torch import nn
import lrtune

def slow(output, target):
    steps.append(0)
    if len(steps) > 9:
        pathlib.Path("training").touch()
    time.sleep(0.01)
    return (output - target).square().mean()

steps = []
data = torch.randn(64, 3), torch.randn(64, 1)
task = lrtune.Task(nn.Linear(3, 1), data, loss=slow, device="cpu")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke the command line in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    runner = CliRunner(env={"COLUMNS": "80"})
    yield lambda *arguments: runner.invoke(app, [str(one) for one in arguments])
    for name in ("broken", "syntax"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """What `lrtune search` gives, without a study; and the page that it writes."""
    out = tmp_path_factory.mktemp("searched") / "report.html"
    runner = CliRunner(env={"COLUMNS": "80"})
    result = runner.invoke(app, ["search", *QUICK, "--no-study", "--out", str(out)])
    return result, out.read_text()


def test_search_prints_rate_interval_and_report(searched):
    result, page = searched
    assert result.exit_code == 0, result.output
    assert "Range test" in result.stdout
    assert "Learning rate" in result.stdout
    assert result.stdout.rstrip().endswith("report.html")
    assert "<html" in page


def test_the_same_seed_prints_the_same_answer(run, searched):
    (first, page), second = searched, run("search", *QUICK, "--no-study")
    ends = first.stdout.rindex("\n", 0, -1)  # the last line is the place of the report
    assert first.stdout[:ends] == second.stdout[:ends]
    assert page == Path("report.html").read_text()


def test_one_schedule_is_recommended(searched):
    assert searched[0].stdout.count("Schedule ") == 1


def test_json_is_one_object_that_a_report_is_made_of(run):
    result = run("search", *QUICK, "--json")
    answer = json.loads(result.stdout)
    low, high = answer["interval"]
    assert low <= answer["lr"] <= high
    assert answer["steps"] == 24
    assert parse(answer["call"]) == SCHEDULES[answer["schedule"]]()
    kinds = ["range-test", "search", "comparison"]
    assert [one["kind"] for one in answer["results"]] == kinds
    Path("found.json").write_text(result.stdout)
    again = run("report", "found.json", "--out", "again.html")
    assert again.exit_code == 0, again.output
    assert again.stdout.strip() == "again.html"
    assert run("report", "again.html", "--out", "third.html").exit_code == 0


def test_no_compare_stops_at_the_rate(run):
    answer = json.loads(run("search", *QUICK, "--no-compare", "--json").stdout)
    assert [one["kind"] for one in answer["results"]] == ["range-test", "search"]
    assert (answer["schedule"], answer["winner"]) == ("trapezoid", None), "none was compared"
    assert answer["peak"] > answer["lr"]
    assert f"lr={answer['peak']:g}" in answer["snippet"]
    printed = run("search", *QUICK, "--no-compare").stdout
    assert answer["snippet"] in printed


def test_a_budget_is_planned_before_and_kept(run):
    quick = ["--steps", "96", "--seeds", "1", "--device", "cpu", "--budget", "1"]
    result = run("search", *quick)
    assert result.exit_code == 0, result.output
    assert "Plan: at most 96 updates" in result.stderr
    assert result.stdout.startswith("Learning rate")  # and neither range test nor comparison
    assert "trapezoid with a peak rate of" in result.stdout
    assert "No schedules were compared" in result.stdout
    spent = int(re.search(r"Spent (\d+) updates", result.stdout).group(1))
    assert 0 < spent <= 96
    page = Path("report.html").read_text()
    assert "No learning rate stayed stable" not in page
    assert "90 % interval" in page
    again = run("search", *quick, "--json")
    assert "trained 0" in again.stderr
    assert json.loads(again.stdout)["lr"] == pytest.approx(
        float(re.search(r"Learning rate +(\S+)", result.stdout).group(1)), rel=0.01
    )


def test_the_whole_grid_of_the_lecture_has_no_budget(run):
    answer = json.loads(run("search", *QUICK, "--budget", "inf", "--json").stdout)
    (found,) = answer["results"]
    assert {"coarse", "between", "fine"} <= set(found["frame"]["stage"])
    assert found["spending"]["stage"] == []


def test_a_budget_that_pays_for_nothing_is_refused(run):
    result = run("search", "--steps", "96", "--budget", "0.1")
    assert result.exit_code == 2
    assert "Give budget=" in result.stderr


def test_compare_ranks_the_schedules_that_are_named(run):
    result = run("compare", "--lr", "0.05", "--schedules", "step,one-cycle", *QUICK)
    assert result.exit_code == 0, result.output
    assert "Schedule" in result.stdout
    assert "one-cycle" in result.stdout
    assert "exponential" not in result.stdout
    assert "optimizer" in result.stdout


def test_schedules_are_listed_with_their_shapes(run):
    lines = run("schedules").stdout.splitlines()
    assert any(line.startswith("one-cycle ") and "█" in line for line in lines)
    assert any(line.startswith("reduce-on-plateau ") for line in lines)


def test_range_test_alone(run):
    result = run("range-test", "--steps", "30", "--seeds", "1", "--json", "--out", "sweep.html")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["report"] == "sweep.html"
    assert Path("sweep.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["search", "no_such.py:task"], 2, "there is no file 'no_such.py'"),
        (["search", "--steps", "0"], 2, "'--steps'"),
        (["search", "--seeds", "0"], 2, "'--seeds'"),
        (["search", "--device", "abacus"], 1, "device='abacus' is no torch device"),
        (["search", "--out", "no/such/folder/report.html"], 2, "there is no folder"),
        (["search", "--out", "."], 2, "--out . is a folder"),
        (["search", "--study", "mine", "--no-study"], 2, "--study mine and --no-study"),
        (["search", "--steps", "10"], 2, "steps must be a whole number >= 12, got 10"),
        (["search", "--steps", "100", "--budget", "0.1"], 2, "Give budget="),
        (["range-test", "--low", "1", "--high", "0.1"], 2, "low=1 must lie below high=0.1"),
        (["range-test", "--low", "-1"], 2, "low must be a finite number > 0, got -1.0"),
        (["report", "no_such.json"], 2, "no_such.json"),
        (["compare", "--lr", "0.1", "--schedules", "cosin"], 2, "Closest: cosine"),
        (["compare"], 2, "Missing option '--lr'"),
        (["serach"], 2, "No such command"),
    ],
)
def test_wrong_usage_is_answered_without_a_stack(run, arguments, code, says):
    result = run(*arguments)
    assert result.exit_code == code
    assert says in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert ".py:" not in result.output, "no line of the user's was involved"
    assert not Path("report.html").exists()


def test_a_task_that_fails_says_what_and_where(run):
    Path("broken.py").write_text(BROKEN)
    result = run("search", "broken.py:task", *QUICK)
    assert result.exit_code == 1
    seen = result.stderr
    assert "RuntimeError: the loss has had enough" in seen
    assert "broken.py:14, in moody" in seen
    assert re.search(r"while training run '\w+/0' \(peak rate 10, seed 0\)", seen)
    assert "at step 1 of 201, in the stage 'range test'" in seen
    assert "_cohort" not in seen


def test_a_file_that_does_not_parse_names_the_line(run):
    Path("syntax.py").write_text("task = (\n")
    result = run("search", "syntax.py", *QUICK)
    assert result.exit_code == 1
    assert "SyntaxError" in result.stderr
    assert "syntax.py:1" in result.stderr


def test_the_module_runs_as_the_command_does():
    seen = subprocess.run(
        [sys.executable, "-m", "lrtune", "--help"], capture_output=True, text=True, check=True
    )
    assert "range-test" in seen.stdout


@pytest.mark.parametrize(
    "stage",
    [
        *("range test", "between", "compare: pilot"),
        *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("coarse", "longer", "verify")),
    ],
)
def test_ctrl_c_in_any_stage_keeps_what_is_finished(run, monkeypatch, stage):
    from lrtune import Evaluator

    def interrupted(self, *arguments, **keywords):
        if keywords["stage"] == stage:
            raise KeyboardInterrupt
        return plain(self, *arguments, **keywords)

    plain = Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", interrupted)
    result = run("search", *QUICK, "--json")
    assert result.exit_code == 130
    assert "Interrupted." in result.stderr
    kinds = [one["kind"] for one in json.loads(result.stdout)["results"]]
    finished = {"range test": 0, "coarse": 1, "compare: pilot": 2}.get(stage, 2)
    assert kinds[:1] == ["range-test"][:finished]
    assert set(kinds[1:]) <= ({"search"} if "compare" in stage else {"trace"})
    assert Path("report.html").exists() == (finished > 0)
    assert len(kinds) >= finished


def test_a_real_ctrl_c_ends_a_real_process(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    # A shell's background jobs ignore interrupts, and so do their children; those of a process
    # that handles them do not.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [sys.executable, "-m", "lrtune", "search", "slow.py"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    try:
        while not (tmp_path / "training").exists():
            assert time.monotonic() < deadline, "it never began to train"
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130, (out, err)
    assert "Interrupted. Nothing was finished." in " ".join(err.split())
    assert "Traceback" not in err


SWALLOWS = """
import contextlib, signal, torch
from torch import nn
import lrtune

def loss(output, target):
    calls.append(0)
    if len(calls) == 50:
        with contextlib.suppress(BaseException):  # as Python does around a destructor
            signal.raise_signal(signal.SIGINT)
    return (output - target).square().mean()

calls = []
data = torch.randn(64, 3), torch.randn(64, 1)
task = lrtune.Task(nn.Linear(3, 1), data, loss=loss, device="cpu")
"""


def test_ctrl_c_ends_the_command_even_if_something_catches_it(run):
    Path("swallows.py").write_text(SWALLOWS)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("range-test", "swallows.py", "--seeds", "1", "--no-study")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert "Interrupted." in result.stderr


# --- the printed answer


def test_answers_stay_within_eighty_columns(searched):
    printed = searched[0].stdout
    lines = printed[: printed.index("# ")].splitlines()  # the code to paste may be wider
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines), "nothing is cut off"
    (heads,) = [line for line in lines if "difference" in line]
    assert all(head in heads for head in ("schedule", "peak", "loss", "90 % CI", "decrease"))


@pytest.mark.parametrize("width", [44, 60, 66, 80, 120])
def test_a_narrow_terminal_loses_columns_but_neither_names_nor_numbers(capsys, monkeypatch, width):
    from reporting import SAMPLES

    from lrtune.cli.output import print_results

    monkeypatch.setenv("COLUMNS", str(width))
    ranked = SAMPLES[ComparisonResult]("text")
    print_results([ranked])
    printed = capsys.readouterr().out
    table = printed[printed.index("schedule ") : printed.index("= tied")].splitlines()
    assert max(map(len, table)) <= width
    for row in ranked.table.itertuples():
        assert any(row.schedule in line and f"{row.lr:.3g}" in line for line in table)


def test_no_printed_line_is_taken_for_markup(capsys):
    from reporting import SAMPLES

    from lrtune.cli.output import print_results

    text = "[bold]not bold[/bold] [/] [link=file:///]x[/link]"
    print_results([make(text) for make in SAMPLES.values()])
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("[bold]not bold[/bold]") >= 4


# --- what the commands that train have in common


def test_commands_that_train_share_their_options_in_one_order():
    from lrtune.cli import commands

    shared = list(inspect.signature(commands._shared_options).parameters)
    for command in (commands.search, commands.range_test, commands.compare):
        names = list(inspect.signature(command).parameters)
        assert names[0] == shared[0]
        assert names[-len(shared) + 1 :] == shared[1:]


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
    evaluate = _TraceKeeper(Evaluator(bowl(4.0)), traces)
    name = evaluate(runs, 10, stage="s", checkpoint=True).runs["checkpoint"].item()
    assert evaluate.checkpoint(name)["step"] == 10
    assert [trace.cost.updates for trace in traces] == [10]
    assert not hasattr(_TraceKeeper(lambda *_, **__: None, []), "checkpoint")

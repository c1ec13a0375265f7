"""The command line when something goes wrong: wrong usage, failing tasks, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commanding import BROKEN, QUICK, SLOW, SWALLOWS, SWEEP, interrupt_at

import lrtune
from lrtune.cli import session
from lrtune.demo import digits
from lrtune.study import database


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["search", "no_such.py:task"], 2, "there is no file 'no_such.py'"),
        (["search", "--steps", "0"], 2, "'--steps'"),
        (["search", "--seeds", "3"], 2, "No such option"),
        (["search", "--no-compare"], 2, "No such option"),
        (["search", "--device", "abacus"], 2, "--device abacus is no torch device"),
        (["search", "--out", "no/such/folder/report.html"], 2, "there is no folder"),
        (["search", "--out", "."], 2, "--out . is a folder"),
        (["search", "--save", "no/such/folder/best.pt"], 2, "--save no/such/folder/best.pt"),
        (["search", "--study", "mine", "--no-study"], 2, "--study mine and --no-study"),
        (["search", "--steps", "100", "--budget", "0.1"], 2, "Give --budget 0.6 or more"),
        (["search", "--time", "soon"], 2, "such as 20m, 90s or 2h; without one it counts seconds"),
        (["search", "--schedule", "cosin"], 2, "Closest: cosine"),
        (["search", "--schedules", "cosine,cosin"], 2, "Closest: cosine"),
        (["search", "--schedules", ","], 2, "names no schedule"),
        (["search", "--fine", "coarse"], 2, "'--fine'"),
        (["search", "--around", "0"], 2, "'--around'"),
        (["search", "--min-gain", "-1"], 2, "'--min-gain'"),
        (["search", "--current-schedule", "cosine"], 2, "add --current LR"),
        (["search", "--rate-only", "--save", "b.pt"], 2, "--save needs one"),
        (["search", "--rate-only", "--fine", "grid"], 2, "--fine needs one"),
        (["search", "--rate-only", "--current", "0.1"], 2, "--current needs one"),
        (["search", "--rate-only", "--schedules", "step"], 2, "--schedules needs one"),
        (["search", "--rate-only", "--around", "0.1"], 2, "nothing would be trained"),
        (["search", "--budget", "0.5", "--save", "b.pt"], 2, "--save needs a whole training"),
        (["range-test", "--low", "1", "--high", "0.1"], 2, "low=1 must lie below high=0.1"),
        (["range-test", "--low", "-1"], 2, "low must be a finite number > 0, got -1.0"),
        (["report", "no_such.json"], 2, "no_such.json"),
        (["compare", "--lr", "0.1"], 2, "--lr 0.1 needs --steps"),
        (["compare", "--steps", "9"], 2, "--steps 9 goes with --lr only"),
        (["compare", "--lr", "1", "--steps", "9", "--from", "f"], 2, "Leave one of them out"),
        (["compare", "--no-study"], 2, "with --no-study there is none"),
        (["compare", "--fresh"], 2, "with --fresh there is none"),
        (["compare"], 2, "A comparison begins with a search"),
        (["compare", "--from", "no_such.json"], 2, "A comparison begins with a search"),
        (["compare", "--lr", "0.1", "--steps", "9", "--schedules", "cosin"], 2, "Closest: cosine"),
        (["compare", "--rank-by", "luck"], 2, "'--rank-by'"),
        (["serach"], 2, "No such command"),
    ],
)
def test_wrong_usage_is_answered_without_a_stack(run, arguments, code, says):
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert says in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())
    assert "Traceback" not in result.output
    assert ".py:" not in result.output.replace("no_such.py:", ""), "no line of the user's"
    assert not Path("report.html").exists()
    assert "trainings of" not in result.stderr, "refused before the plan"


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.9])
def test_the_budget_that_is_asked_for_holds_a_whole_training(run, budget):
    refused = run("search", "--device", "cpu", "--budget", budget, "--current", "0.1")
    enough = float(re.search(r"Give --budget ([\d.]+) or more", refused.stderr)[1])
    assert enough < 2.5
    assert lrtune.plan(digits("cpu"), budget=enough)["fine"]


def test_a_file_without_a_search_is_named(run):
    Path("sweep.json").write_text(run("range-test", *SWEEP, "--json").stdout)
    result = run("compare", "--from", "sweep.json")
    assert result.exit_code == 2
    assert "sweep.json holds no search" in " ".join(result.stderr.split())


def test_a_task_that_fails_says_what_and_where(run):
    Path("broken.py").write_text(BROKEN)
    result = run("search", "broken.py:task", "--steps", "40")
    assert result.exit_code == 1
    seen = result.stderr
    assert "RuntimeError: the loss has had enough" in seen
    assert "broken.py:14, in moody" in seen
    assert re.search("in the stage '(before|coarse|check)'", seen)
    assert "_cohort" not in seen


def test_a_worker_that_dies_while_results_are_printed_costs_none_of_them(run, monkeypatch):
    """Of dead workers torch tells in a signal handler, which raises wherever the program is."""
    real = session.answer_object

    def told(*_):
        raise RuntimeError("DataLoader worker is killed by signal: Killed.")

    def answer_object(*results, **more):
        signal.raise_signal(signal.SIGCHLD)
        return real(*results, **more)

    monkeypatch.setattr(session, "answer_object", answer_object)
    Path("broken.py").write_text(BROKEN)
    before = signal.signal(signal.SIGCHLD, told)
    try:
        result = run("search", "broken.py:task", "--steps", "40", "--json")
        assert signal.getsignal(signal.SIGCHLD) is told
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert "the loss has had enough" in json.loads(result.stdout)["error"]


def test_a_file_that_does_not_parse_names_the_line(run):
    Path("syntax.py").write_text("task = (\n")
    result = run("search", "syntax.py", "--steps", "40")
    assert result.exit_code == 1
    assert "SyntaxError" in result.stderr
    assert "syntax.py:1" in result.stderr


def test_the_module_runs_as_the_command_does():
    seen = subprocess.run(
        [sys.executable, "-m", "lrtune", "--help"], capture_output=True, text=True, check=True
    )
    assert "range-test" in seen.stdout


# --- Ctrl-C


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_before_the_first_answer_leaves_nothing_but_how_to_go_on(run, monkeypatch, as_json):
    interrupt_at(monkeypatch, "coarse")
    result = run("search", *QUICK, *["--json"] * as_json)
    assert result.exit_code == 130
    assert result.stderr.endswith("Interrupted. Run the same command again to go on.\n")
    if as_json:
        nothing = {"warnings": [], "saved": None, "report": None, "results": []}
        assert json.loads(result.stdout) == nothing
    else:
        assert result.stdout == ""
    assert not Path("report.html").exists()


def test_ctrl_c_after_the_first_answer_gives_the_best_so_far(run, monkeypatch, recwarn):
    interrupt_at(monkeypatch, "fine")
    result = run("search", *QUICK, "--save", "best.pt", "--schedules", "step")
    assert result.exit_code == 130
    said = " ".join(result.stderr.split())
    assert "Interrupted. What was finished is printed below. Run the same command" in said
    assert "best.pt was not written" in said
    warned, answer = result.stdout.split("\n\n")[:2]
    assert warned.startswith("Warning         The search was interrupted after")
    assert re.match(r"lr \S+ with trapezoid", answer)
    assert "ended because it was interrupted" in " ".join(result.stdout.split())
    assert "Use lr" in Path("report.html").read_text()
    assert not recwarn.list, "the command says it in its own words, once"
    again = run("search", *QUICK, "--no-study", "--json")
    assert json.loads(again.stdout)["stopped"] == "interrupted"
    monkeypatch.undo()


def test_a_range_test_that_was_finished_is_printed_after_ctrl_c(run, monkeypatch):
    interrupt_at(monkeypatch, "coarse")
    result = run("search", *QUICK, "--range-test", "--no-study", "--json")
    assert result.exit_code == 130
    said = " ".join(result.stderr.split())
    assert said.endswith("Nothing was recorded: the same command starts from the beginning.")
    assert [one["kind"] for one in json.loads(result.stdout)["results"]] == ["range-test"]


@pytest.mark.slow
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
    assert "Interrupted. Run the same command again to go on." in " ".join(err.split())
    assert out == ""
    assert "Traceback" not in err


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


@pytest.mark.parametrize("connection", [1, 4, 7, 10])
def test_ctrl_c_while_a_study_is_open_waits_until_it_is_closed(run, monkeypatch, connection):
    """An exception in there would break a connection, and SQLAlchemy would print a traceback."""
    real_connect, calls = database.connect_file, []

    def connect_file(file, mode):
        calls.append(mode)
        link = real_connect(file, mode)
        if len(calls) == connection:
            signal.raise_signal(signal.SIGINT)
        return link

    monkeypatch.setattr(database, "connect_file", connect_file)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("search", *QUICK)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(calls) >= connection
    assert result.exit_code == 130
    assert "Interrupted." in result.stderr
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr
    monkeypatch.setattr(database, "connect_file", real_connect)
    again = run("search", *QUICK)
    assert again.exit_code == 0, again.output


def test_ctrl_c_in_a_destructor_is_not_dropped_and_a_second_one_waits_for_nothing():
    class Falls:
        def __del__(self):
            seen.append(session.must_not_stop(sys._getframe()))

    seen = []
    Falls()
    assert seen == [True]
    assert not session.must_not_stop(sys._getframe())


INTERRUPTS = """
import signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            exec("signal.raise_signal(signal.SIGINT)", globals())  # as dataclasses run their code

sys.meta_path.insert(0, Interrupts())
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


@pytest.mark.slow
@pytest.mark.parametrize("module", ["typer", "torch", "sqlalchemy"])
def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_traceback(tmp_path, module):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS.format(module=module))
    found = [str(tmp_path), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-m", "lrtune", "search", "--steps", "40", "--device", "cpu"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(found)}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr

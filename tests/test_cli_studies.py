"""The command line with studies: it goes on, it refuses, it lists, shows, exports, deletes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrtune.cli.commands import app
from lrtune.reporting import load

QUICK = ["--steps", "40"]

TASK = """
import torch
from functools import partial
from torch import nn
import lrtune

draw = torch.Generator().manual_seed(0)
inputs = torch.randn(96, 4, generator=draw)
data = inputs, inputs.sum(1, keepdim=True)
task = lrtune.Task(
    lambda: nn.Linear(4, 1), data, loss=nn.MSELoss(), val=data, device="cpu",
    optimizer=partial(torch.optim.SGD, momentum={momentum}),
)
"""
UNSEEDED = TASK.replace("lambda: nn.Linear(4, 1)", "nn.Linear(4, 1)")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke the command line in a folder of its own, with a task in `train.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    Path("train.py").write_text(TASK.format(momentum=0.9))
    runner = CliRunner()
    yield lambda *arguments: runner.invoke(app, [str(one) for one in arguments])
    sys.modules.pop("train", None)


def measured(page):
    """The results of a page, without the places of checkpoints."""
    plain = json.dumps([result.to_dict() for result in load(page)])
    return re.sub(r'"checkpoint": ("[^"]*"|\[[^]]*\])', "", plain)


def said(result):
    return " ".join(result.stderr.split())


def test_a_search_that_is_run_again_trains_nothing_and_answers_the_same(run):
    first = run("search", "train.py:task", *QUICK)
    assert first.exit_code == 0, first.output
    assert "remembered" not in first.stderr
    page = Path("report.html").read_bytes()
    again = run("search", "train.py:task", *QUICK)
    assert again.stdout == first.stdout
    assert Path("report.html").read_bytes() == page
    count = int(re.search(r"remembered (\d+) runs, trained 0", said(again))[1])
    (line,) = run("studies", "list").stdout.splitlines()
    assert line.split()[:3] == ["train-task", str(count), "runs"]
    assert line.endswith("search")
    unremembered = run("search", "train.py:task", *QUICK, "--no-study")
    assert unremembered.stdout == first.stdout
    assert "Study" not in unremembered.stderr
    Path("first.html").write_bytes(page)
    assert measured("report.html") == measured("first.html")


def test_no_study_leaves_nothing_behind(run):
    assert run("range-test", "train.py", "--steps", "9", "--no-study").exit_code == 0
    assert {one.name for one in Path().iterdir()} == {"train.py", "report.html"}


@pytest.mark.parametrize("study", ["mine", "sqlite:///own/mine.db", "sqlite:///own/mine.db#night"])
def test_every_command_that_trains_takes_a_study(run, study):
    commands = [
        ["range-test", "train.py", "--steps", "9", "--seeds", "1"],
        ["search", "train.py", *QUICK],
        ["compare", "train.py", "--schedules", "step", "--seeds", "2"],
    ]
    for command in commands:
        result = run(*command, "--study", study)
        assert result.exit_code == 0, result.output
    shown = run("studies", "show", study)
    assert shown.exit_code == 0, shown.output
    for words in ("Range test", "Search          lr ", "Comparison", "Linear with 5 parameters"):
        assert words in shown.stdout
    assert not Path(".lrtune").exists() or "://" not in study


def test_another_task_begins_a_study_and_the_old_one_can_be_addressed(run):
    command = ["range-test", "train.py", "--steps", "9", "--study", "mine"]
    assert run(*command).exit_code == 0
    Path("train.py").write_text(TASK.format(momentum=0.5))
    edited = run(*command)
    assert edited.exit_code == 0
    assert "so a new study begins; the earlier one is kept as mine~1" in said(edited)
    assert "optimizer: SGD(momentum=0.9) there, SGD(momentum=0.5) now" in said(edited)
    listed = run("studies", "list").stdout.splitlines()
    assert [line.split()[0] for line in listed if line[0] != " "] == ["mine~1", "mine"]
    assert listed[1].split() == ["optimizer:", "SGD(momentum=0.9)"]
    for name in ("mine~1", "sqlite:///.lrtune/mine.db#mine~1"):
        assert "momentum=0.9" in run("studies", "show", name).stdout
    assert "momentum=0.5" in run("studies", "show", "mine").stdout
    refused = run(*command[:-1], "mine~1")
    assert refused.exit_code == 2
    assert "Use --study mine, which begins a new study" in said(refused)
    Path("train.py").write_text(TASK.format(momentum=0.9))
    back = run(*command)
    assert "The study mine~1 is of this task, and goes on." in said(back)
    assert re.search(r"Study mine~1: remembered \d+ runs, trained 0", said(back))
    assert run("studies", "delete", "mine~1", "--yes").exit_code == 0
    assert run("studies", "show", "mine~1").exit_code == 2
    assert run("studies", "show", "mine").exit_code == 0


def test_there_is_no_force(run):
    assert run("search", "train.py", "--force").exit_code == 2
    assert "--force" not in run("search", "--help").stdout


def test_a_comparison_begins_with_no_search_of_another_task(run):
    assert run("search", "train.py", *QUICK).exit_code == 0
    Path("train.py").write_text(TASK.format(momentum=0.5))
    refused = run("compare", "train.py", "--schedules", "step")
    assert refused.exit_code == 2
    assert "the study 'train-task' is of another task: optimizer: SGD(momentum=0.9)" in said(
        refused
    )
    assert "A comparison begins with a search" in said(refused)
    assert run("search", "train.py", *QUICK).exit_code == 0
    Path("train.py").write_text(TASK.format(momentum=0.9))
    assert run("compare", "train.py", "--schedules", "step", "--seeds", "2").exit_code == 0
    assert "Comparison" in run("studies", "show", "train-task~1").stdout


def test_a_model_with_unseeded_weights_is_told_what_to_do(run):
    Path("train.py").write_text(UNSEEDED.format(momentum=0.9))
    assert run("range-test", "train.py", "--steps", "9").exit_code == 0
    again = run("range-test", "train.py", "--steps", "9")
    assert again.exit_code == 0
    assert "hand Task a function that makes the model, or call torch.manual_seed" in said(again)


def test_a_report_of_a_study_needs_nothing_but_the_study(run):
    assert run("search", "train.py", *QUICK, "--out", "first.html").exit_code == 0
    Path("train.py").unlink()
    assert run("report", "--study", "train-task", "--out", "again.html").exit_code == 0
    assert Path("first.html").read_bytes() == Path("again.html").read_bytes()


def test_list_and_show_count_the_same_runs(run):
    assert run("search", "train.py", "--steps", "48", "--budget", "3").exit_code == 0
    listed = int(run("studies", "list").stdout.split()[1])
    shown = run("studies", "show", "train-task").stdout
    assert f"{listed} runs recorded: " in shown
    counts = re.search(r"runs recorded: (.*)", shown)[1].split(", ")
    assert sum(int(count.split()[0]) for count in counts) == listed
    run("studies", "export", "train-task", "--out", "x.csv")
    rows = Path("x.csv").read_text().splitlines()[1:]
    assert len(rows) > listed, "some run was recorded at several steps"


def test_wrong_usage_says_nothing_of_a_study(run):
    assert run("range-test", "train.py", "--steps", "9").exit_code == 0
    refused = run("range-test", "train.py", "--low", "-1")
    assert refused.exit_code == 2
    assert "remembered" not in said(refused)


def test_a_file_of_its_own_goes_before_the_one_of_a_study_put_aside(run):
    assert run("range-test", "train.py", "--steps", "9", "--study", "x").exit_code == 0
    Path(".lrtune/x~1.db").write_bytes(Path(".lrtune/x.db").read_bytes())
    listed = run("studies", "list").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["x", "sqlite:///.lrtune/x~1.db#x"]


def test_exports_and_deletes(run):
    assert run("range-test", "train.py", "--steps", "9", "--seeds", "1").exit_code == 0
    assert run("studies", "export", "train-task", "--out", "x.csv").stdout.strip() == "x.csv"
    assert len(Path("x.csv").read_text().splitlines()) == 3
    assert run("studies", "export", "train-task", "--out", "x.csv", "--curves").exit_code == 0
    assert len(Path("x.csv").read_text().splitlines()) == 21
    assert run("studies", "export", "train-task", "--out", "x.json").exit_code == 0
    assert [one["kind"] for one in json.loads(Path("x.json").read_text())["results"]] == [
        "range-test"
    ]
    assert run("report", "x.json").exit_code == 0
    kept = CliRunner().invoke(app, ["studies", "delete", "train-task"], input="n\n")
    assert kept.exit_code == 1
    assert "Delete train-task with 2 recorded runs?" in kept.stdout
    assert run("studies", "delete", "train-task", "--yes").exit_code == 0
    assert list(Path(".lrtune").iterdir()) == []
    assert "no study here" in run("studies", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["search", "--study", "../up"], 2, "is no name of a study"),
        (["search", "--study", "mysql://h/d"], 2, "not in mysql"),
        (["studies", "show", "nothing"], 2, "there is no study 'nothing'"),
        (["studies", "export", "nothing", "--out", "x.csv"], 2, "there is no study"),
        (["studies", "delete", "nothing", "--yes"], 2, "there is no study"),
        (["report", "--study", "nothing"], 2, "there is no study"),
        (["report"], 2, "a report needs at least one result"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence(run, arguments, code, says):
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert says in said(result)
    assert "Traceback" not in result.output
    assert not Path("report.html").exists()


@pytest.mark.slow
def test_ctrl_c_says_that_the_same_command_goes_on_and_it_does(tmp_path):
    """A real process, interrupted where it trains; then run to its end."""
    (tmp_path / "train.py").write_text(TASK.format(momentum=0.9))
    line = [sys.executable, "-m", "lrtune", "search", "train.py", "--steps", "3000", "--out"]
    where = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = subprocess.Popen([*line, "a.html"], **where, **pipes)
    study = tmp_path / ".lrtune" / "train-task.db"
    deadline = time.monotonic() + 60
    while not _runs(study, "fine"):
        assert time.monotonic() < deadline, "it never finished anything"
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, (out, err)
    assert "Run the same command again to go on" in " ".join(err.split())
    assert "\nlr " in out  # below the warning that it was interrupted
    again = subprocess.run([*line, "b.html"], **where, **pipes, check=True)
    assert "remembered" in again.stderr
    subprocess.run([*line, "c.html", "--no-study"], **where, **pipes, check=True)
    assert measured(tmp_path / "b.html") == measured(tmp_path / "c.html")


def _runs(file, stage):
    import sqlite3

    if not file.exists():
        return 0
    link = sqlite3.connect(file)
    try:
        query = "SELECT count(*) FROM lrtune_runs WHERE stage = ?"
        return link.execute(query, [stage]).fetchone()[0]
    finally:
        link.close()

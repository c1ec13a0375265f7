"""A target leads to a task, or to a sentence that tells where it ends."""

import json

import pytest
from typer.testing import CliRunner

from lrtune import Task
from lrtune.cli.commands import app
from lrtune.cli.task_file import load_task
from lrtune.errors import TargetError

FILE = """
import torch
from torch import nn
import lrtune

data = torch.randn(32, 3), torch.randn(32, 1)
task = lrtune.Task(nn.Linear(3, 1), data, loss=nn.MSELoss(), device="cpu")

def make():
    return task

number = 3
model = nn.Linear(3, 1)
Linear = nn.Linear

def wide(width):
    return task

def nothing():
    pass
"""


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    (tmp_path / "trained_here.py").write_text(FILE)
    (tmp_path / "raises_here.py").write_text("1 / 0\n")
    yield
    for name in ("trained_here", "raises_here"):
        __import__("sys").modules.pop(name, None)


@pytest.mark.parametrize(
    "target",
    ["trained_here.py:task", "trained_here.py", "trained_here.py:make", "trained_here:task"],
)
def test_a_file_or_module_leads_to_its_task(target):
    assert isinstance(load_task(target), Task)


def test_an_absolute_path_leads_to_it_too(tmp_path):
    assert isinstance(load_task(f"{tmp_path / 'trained_here.py'}:task"), Task)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("no_such.py:task", "there is no file 'no_such.py'. There are raises_here.py"),
        ("no_such_folder/train.py", "Check the path"),
        ("no_such_module:task", "there is no module 'no_such_module'"),
        ("a..b:task", "there is no module"),
        ("trained_here.py:tsak", "has no 'tsak'; expected a Task of that name. It has task."),
        ("trained_here.py:number", "is 3; expected a Task"),
        ("trained_here.py:model", "is a Linear; expected a Task"),
        ("trained_here.py:Linear", "is the class Linear; expected a Task"),
        ("trained_here.py:nothing", "returned None; expected a Task"),
        ("trained_here.py:wide", "(missing a required argument: 'width')"),
        ("trained_here.py:wide", "Give its arguments defaults."),
    ],
)
def test_what_leads_nowhere_is_said(target, says):
    with pytest.raises(TargetError) as raised:
        load_task(target)
    assert says in str(raised.value)


def test_what_the_users_file_raises_passes_through():
    with pytest.raises(ZeroDivisionError):
        load_task("raises_here.py:task")


# --- as a program of its own ----------------------------------------------------------------------

PRINTS = """
import argparse, sys
import torch
from torch import nn
import lrtune

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=7)
print("loading", sys.argv, parser.parse_args())

def noisy(output, target):
    print("a batch")
    return (output - target).square().mean()

def make():
    print("making", sys.argv)
    data = torch.randn(64, 3), torch.randn(64, 1)
    return lrtune.Task(nn.Linear(3, 1), data, loss=noisy, device="cpu")

task = make()
"""


@pytest.mark.parametrize("name", ["task", "make"])
@pytest.mark.parametrize("verb", ["check", "range-test"])
def test_a_file_sees_no_arguments_of_ours_and_its_prints_are_none_of_the_answer(
    tmp_path, monkeypatch, verb, name
):
    (tmp_path / "trained_here.py").write_text(PRINTS)
    more = [] if verb == "check" else ["--steps", "24", "--no-study"]
    words = [verb, f"trained_here.py:{name}", "--json", *more]
    monkeypatch.setattr("sys.argv", ["lrtune", *words])
    result = CliRunner().invoke(app, words)
    assert "results" in json.loads(result.stdout), result.output
    assert "loading ['trained_here.py'] Namespace(steps=7)" in result.stderr
    assert "a batch" in result.stderr
    assert __import__("sys").argv == ["lrtune", *words]


@pytest.mark.parametrize("code", ["0", "1", "", "'no data here'"])
@pytest.mark.parametrize("place", ["file", "function", "module"])
def test_a_file_that_ends_the_program_is_an_error(tmp_path, code, place):
    ends = f"import sys\ndef make():\n    sys.exit({code})\n" + "make()\n" * (place != "function")
    (tmp_path / "trained_here.py").write_text(ends)
    target = "trained_here:make" if place == "module" else "trained_here.py:make"
    for words in (["search", target, "--no-study"], ["check", target]):
        __import__("sys").modules.pop("trained_here", None)
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert not result.stdout
        assert f"ends the program while it is loaded (SystemExit: {code or None})" in result.stderr


def test_required_arguments_of_a_file_are_told(tmp_path):
    text = "import argparse\np = argparse.ArgumentParser()\np.add_argument('x')\np.parse_args()\n"
    (tmp_path / "trained_here.py").write_text(text)
    result = CliRunner().invoke(app, ["search", "trained_here.py:task", "--no-study"])
    assert result.exit_code == 2
    assert "It gets no arguments: give those of its own defaults" in result.stderr


def test_what_stands_under_main_does_not_run(tmp_path):
    main = "\nif __name__ == '__main__':\n    raise SystemExit(3)\n"
    (tmp_path / "trained_here.py").write_text(FILE + main)
    assert isinstance(load_task("trained_here.py:task"), Task)

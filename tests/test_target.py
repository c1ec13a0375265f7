"""A target leads to a task, or to a sentence that tells where it ends."""

import pytest

from lrtune import Task
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

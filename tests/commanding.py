"""What the tests of the command line share: quick options, and tasks that go wrong."""

import json

import lrtune

QUICK = ["--steps", "40", "--device", "cpu"]
SWEEP = ["--steps", "24", "--seeds", "1", "--device", "cpu"]

BROKEN = """
import torch
from torch import nn
import lrtune

data = torch.randn(64, 3), torch.randn(64, 1)

calls = 0

def moody(output, target):
    global calls
    calls += 1
    if calls > 30:
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


DEAD = """
import torch
from torch import nn
import lrtune

data = torch.randn(64, 3), torch.randn(64, 1)
task = lrtune.Task(
    nn.Linear(3, 1), data, loss=lambda output, target: (0 * output + target).square().mean(),
    val=data, device="cpu",
)
"""

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


def found_in(result):
    """The search in the output of `--json`."""
    (found,) = [one for one in json.loads(result.stdout)["results"] if one["kind"] == "search"]
    return found


def interrupt_at(monkeypatch, stage):
    """Press Ctrl-C when runs of this stage are asked for."""

    def interrupted(self, *arguments, **keywords):
        if keywords["stage"] == stage:
            raise KeyboardInterrupt
        return plain(self, *arguments, **keywords)

    plain = lrtune.Evaluator.__call__
    monkeypatch.setattr(lrtune.Evaluator, "__call__", interrupted)

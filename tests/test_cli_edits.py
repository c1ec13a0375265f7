"""Edits of a training script: what changes nothing of the task goes on with its study."""

import ast
from pathlib import Path

import pytest

SCRIPT = """
import math
import torch
from torch import nn
import lrtune

WIDTH = 8


class Rows(torch.utils.data.Dataset):
    def __init__(self, count):
        draw = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(count, 4, generator=draw)

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, place):
        row = self.inputs[place]
        return row, row.sum().reshape(1)


def make_model():
    hidden = nn.Linear(4, WIDTH)
    return nn.Sequential(hidden, nn.ReLU(), nn.Linear(WIDTH, 1))


def make_optimizer(model, lr):
    decayed = [one for one in model.parameters() if one.ndim > 1]
    rest = [one for one in model.parameters() if one.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": rest}]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def error(model, batch):
    inputs, targets = batch
    return nn.functional.huber_loss(model(inputs), targets, delta=0.5)


task = lrtune.Task(
    make_model, Rows(96), objective=error, val=Rows(40), optimizer=make_optimizer, device="cpu"
)
"""
HARMLESS = {
    "a comment": lambda code: code.replace("WIDTH = 8", "WIDTH = 8  # as in the paper"),
    "blank lines": lambda code: code.replace("\n    return", "\n\n\n    return"),
    "the format": lambda code: ast.unparse(ast.parse(code)),
    "quotes": lambda code: code.replace('"params"', "'params'"),
    "an unrelated function": lambda code: code.replace(
        "class Rows", "def plot(losses):\n    print(math.fsum(losses))\n\n\nclass Rows"
    ),
    "the order of imports": lambda code: code.replace(
        "import math\nimport torch\nfrom torch import nn\nimport lrtune",
        "import lrtune\nfrom torch import nn\nimport torch\nimport math, os",
    ),
    "a renamed local": lambda code: (
        code.replace("decayed", "weights")
        .replace("inputs,", "given,")
        .replace("model(inputs)", "model(given)")
    ),
    "renamed arguments": lambda code: (
        code.replace("(model, batch)", "(net, rows)")
        .replace("= batch", "= rows")
        .replace("model(inputs)", "net(inputs)")
    ),
    "a renamed factory": lambda code: code.replace("make_model", "new_model"),
    "a docstring": lambda code: code.replace(
        "    inputs, targets", '    """The loss."""\n    inputs, targets'
    ),
    "annotations": lambda code: code.replace(
        "(model, batch):", "(model: nn.Module, batch) -> object:"
    ),
    "the order of functions": lambda code: code.replace("WIDTH = 8", "").replace(
        "def make_model", "WIDTH = 8\n\n\ndef make_model"
    ),
    "a constant named like an attribute": lambda code: code.replace(
        "WIDTH = 8", "WIDTH = 8\nhuber_loss = functional = 3"
    ),
    "another way to write a number": lambda code: code.replace("1e-4", "0.0001"),
    "a print": lambda code: code + "\nprint('ready')\n",
}
HARMFUL = {
    "loss": lambda code: code.replace("delta=0.5", "delta=0.4"),
    "model": lambda code: code.replace("WIDTH = 8", "WIDTH = 9"),
    "optimizer": lambda code: code.replace("1e-4", "1e-3"),
    "the first batches": lambda code: code.replace("row.sum()", "row.mean()"),
    "validation": lambda code: code.replace("val=Rows(40)", "val=None"),
}


def said(result):
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("edit", HARMLESS)
def test_an_edit_that_changes_nothing_of_the_task_goes_on(run, edit):
    command = ["range-test", "train.py", "--steps", "80", "--seeds", "1"]
    Path("train.py").write_text(SCRIPT)
    assert run(*command).exit_code == 0
    edited = HARMLESS[edit](SCRIPT)
    assert edited != SCRIPT
    Path("train.py").write_text(edited)
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert "remembered 2 runs, trained 0" in said(again)
    assert "has changed" not in said(again)


@pytest.mark.parametrize("part", HARMFUL)
def test_an_edit_of_the_task_is_told_by_its_part(run, part):
    command = ["range-test", "train.py", "--steps", "80", "--seeds", "1"]
    Path("train.py").write_text(SCRIPT)
    assert run(*command).exit_code == 0
    edited = HARMFUL[part](SCRIPT)
    assert edited != SCRIPT
    Path("train.py").write_text(edited)
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert f"Differences: {part}" in said(again).replace("custom objective in both", "")
    assert "hand Task a function" not in said(again)

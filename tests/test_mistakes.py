"""Mistakes that users make, and what they are told: the value, what was expected, and a way out.

`mistakes.txt` holds the messages. After a message was changed on purpose, write it anew with

    python tests/test_mistakes.py
"""

import functools
import math
import re
import sys
import tempfile
import warnings
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
import torch
from pandas import DataFrame, concat
from torch import nn
from torch.optim import SGD, Adam, SparseAdam
from torch.optim import lr_scheduler as native
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import lrtune
from lrtune import Run, Task
from lrtune.cli.commands import app
from lrtune.testing import bowl

MESSAGES = Path(__file__).with_name("mistakes.txt")
X, Y = torch.linspace(-1, 1, 192).reshape(64, 3), torch.arange(64) % 3
TOKENS = torch.arange(128).reshape(64, 2) % 5
CURVE = {"step": range(5), "loss": [2.0, 1.5, 1.2, 1.1, 1.0]}
MODEL = nn.Linear(3, 3)
MINE = SGD(MODEL.parameters(), lr=0.1)


class Words(nn.Module):
    """A sparse layer and a dense one."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(5, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.out(self.words(tokens).mean(1))


class Detector(nn.Module):
    """Losses in train mode, boxes in eval mode, as torchvision's models for detection do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, inputs, _labels=None):
        boxes = self.layer(inputs)
        return {"boxes": boxes.square().mean()} if self.training else [{"boxes": boxes}]


def task(model=MODEL, train=(X, Y), **more):
    return Task(model, train, device=more.pop("device", "cpu"), **more)


def words(optimizer):
    return task(Words, (TOKENS, Y), optimizer=optimizer)


def make_wide(width):
    return nn.Linear(3, width)


def falls_below_zero(progress):
    return 0.5 - progress


def by_step(step, total):
    return 1 - step / total


def steps_lr(optimizer):
    return native.StepLR(optimizer, 30)


class Own(SGD):
    """Lowers its own rate."""

    def step(self, closure=None):
        super().step(closure)
        self.param_groups[0]["lr"] *= 0.5


class Copied(SGD):
    """Its groups are copies of those that it trains by."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.inner, self.param_groups = self.param_groups, [dict(self.param_groups[0])]

    def step(self, closure=None):
        with torch.no_grad():
            for one in self.inner[0]["params"]:
                one.sub_(self.inner[0]["lr"] * one.grad)


def by_the_slope(model, batch):
    """As of a PINN: the gradient of the outputs by the inputs."""
    x = batch[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return slope.square().mean()


def scheduled(model, lr):
    optimizer = SGD(model.parameters(), lr=lr)
    optimizer.warmup = native.LinearLR(optimizer)
    return optimizer


def widened(model, lr):
    model.added = nn.Linear(3, 3)
    return SGD(model.parameters(), lr=lr)


def late_label():
    labels = Y.clone()
    labels[60] = 3
    return task(train=DataLoader(TensorDataset(X, labels), 8))


def half():
    made = nn.Linear(3, 3)
    nn.init.zeros_(made.weight)
    nn.init.constant_(made.bias, 0.5)
    return made


def kept_graphs(runs, steps, *, until, **_):
    return lrtune.Trace.of(runs, steps, {run.name: [MODEL.bias.sum()] * until for run in runs})


def huge():
    return task(nn.Linear(3, 3), (X * 1e18, X * 1e18), loss=nn.MSELoss())


def calls_backward(model, batch):
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward(retain_graph=True)
    return loss


class Falling:
    """A schedule that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _progress):
        self.calls += 1
        return 1 / self.calls


# name: (what is done, the value that the message shows)
MISTAKES = {
    # --- the task: model
    "the name of a model": (lambda: task("resnet18"), "a str"),
    "a model class that takes arguments": (lambda: task(nn.Linear), "model=Linear"),
    "a factory that takes arguments": (lambda: task(make_wide), "model=make_wide"),
    "a factory that returns two things": (lambda: task(lambda: (MODEL, 1)), "a tuple of 2"),
    "a model that is frozen": (
        lambda: task(nn.Linear(3, 3).requires_grad_(requires_grad=False)), "none of the 2"),
    "a model that does not fit its data": (lambda: task(nn.Linear(4, 3)), "float32[64, 3]"),
    # --- loss and objective
    "a loss class": (lambda: task(loss=nn.MSELoss), "loss=MSELoss"),
    "the name of a loss": (lambda: task(loss="cross_entropy"), "'cross_entropy'"),
    "a tensor as loss": (lambda: task(loss=MODEL.weight), "a Parameter"),
    "a loss for each sample": (
        lambda: task(loss=nn.CrossEntropyLoss(reduction="none")), "shape (64,)"),
    "loss and objective": (
        lambda: task(loss=nn.MSELoss(), objective=lambda _m, _b: 0), "loss and objective"),
    "an objective that returns a float": (
        lambda: task(objective=lambda m, b: m(b[0]).sum().item()), "a float"),
    "an objective of the user's own model": (
        lambda: task(objective=lambda _m, b: MODEL(b[0]).sum()), "weight of your Linear"),
    "pseudo labels of the user's own model": (
        lambda: task(
            objective=lambda m, b: (m(b[0]) - MODEL(b[0]).detach()).square().mean(),
        ),
        "your Linear itself",
    ),
    "an objective that calls backward": (
        lambda: task(objective=calls_backward), "2 weights, such as weight"),
    "the outputs of an encoder as data": (
        lambda: task(train=[(MODEL(X), Y)]), "1 of 2 tensors of a batch"),
    "a floor above the losses": (
        lambda: lrtune.Trace.of([Run("a", 0.1)], 2, {"a": [2.0, 1.0]}, floor=1.5), "floor=1.5"),
    "an objective of one argument": (lambda: task(objective=lambda batch: batch), "[64, 3]"),
    "loss and accuracy": (
        lambda: task(loss=lambda o, y: (nn.functional.cross_entropy(o, y), 0.5)), "a tuple of 2"),
    "targets of 255": (
        lambda: task(train=(X, 255.0 * (X > 0)), loss=nn.BCEWithLogitsLoss()), "255 ... 255"),
    "outputs that are no probabilities": (
        lambda: lrtune.train(
            task(train=(X, (X > 0).float()), loss=nn.BCELoss(), model=half),
            [Run("a", 9.0)], 9), "between 0 and 1"),
    # --- data
    "the path of the data": (lambda: task(train="data/train"), "train='data/train'"),
    "a share in quotes": (lambda: task(val="0.1"), "val='0.1'"),
    "a list of inputs and targets": (lambda: task(val=[X, Y]), "float32[32, 3]"),
    "a label that is out of range later": (
        lambda: lrtune.train(late_label(), [Run("a", 0.1)], 9), "Target 3 is out of bounds"),
    "weights of zero": (lambda: task(val=(X, Y), batch_weight=lambda _b: 0), "(6) all have"),
    "labels that begin with 1": (lambda: task(train=(X, Y + 1)), "3 ... 3"),
    "labels that are floats": (lambda: task(train=(X, Y.float())), "float32[64])"),
    "data that can be read once": (lambda: task(train=iter([(X, Y)])), "a list_iterator"),
    "batches that are dicts": (lambda: task(train=[{"x": X, "y": Y}]), "{x: float32"),
    "a batch size for a loader": (
        lambda: task(train=DataLoader(TensorDataset(X, Y), 8), batch_size=8), "batch_size=8"),
    "a share of 150 %": (lambda: task(val=1.5), "val=1.5"),
    "a floor in words": (lambda: task(floor="zero"), "floor='zero'"),
    "boxes in eval mode": (
        lambda: task(Detector, val=(X, Y), objective=lambda m, b: sum(m(*b).values())), "a list"),
    "a validation that needs gradients": (
        lambda: task(val=(X, Y), objective=by_the_slope),
        "torch.enable_grad()"),
    # --- optimizer
    "an optimizer that is finished": (lambda: task(optimizer=MINE), "a finished SGD"),
    "the name of an optimizer": (lambda: task(optimizer="adam"), "'adam'"),
    "an optimizer that ignores the rate": (
        lambda: task(optimizer=lambda m, lr: SGD(m.parameters(), lr=0.1)), "[0.1]"),
    "an optimizer of another model": (
        lambda: task(optimizer=lambda m, lr: SGD(MODEL.parameters(), lr=lr)), "not in the model"),
    "an optimizer's factory of one argument": (
        lambda: task(optimizer=lambda m: SGD(m.parameters(), lr=0.1)), "[64, 3]"),
    "a scheduler for an optimizer": (
        lambda: task(optimizer=lambda m, lr: steps_lr(SGD(m.parameters(), lr=lr))), "a StepLR"),
    "an optimizer that needs a closure": (lambda: task(optimizer=torch.optim.LBFGS), "LBFGS"),
    "sparse gradients for Adam": (lambda: words(Adam), "words.weight is sparse"),
    "dense gradients for SparseAdam": (lambda: words(SparseAdam), "out.bias is dense"),
    "weight decay of sparse gradients": (
        lambda: words(functools.partial(SGD, weight_decay=0.1)), "SGD with these settings"),
    "a scheduler in the optimizer's function": (lambda: task(optimizer=scheduled), "LinearLR"),
    "an optimizer that changes its rate": (lambda: task(optimizer=Own), "0.0005"),
    "an optimizer with copies of its groups": (lambda: task(optimizer=Copied), "the Copied"),
    "an optimizer's function that adds a layer": (lambda: task(optimizer=widened), "added.bias"),
    # --- device
    "a device that is none": (lambda: task(device="gpu"), "device='gpu'"),
    "no device": (lambda: task(device=None), "device=None"),
    "a device that this torch lacks": (lambda: task(device="xpu"), "device='xpu'"),
    "a device of another vendor": (lambda: task(device="vulkan"), "device='vulkan'"),
    # --- range test, search, plan
    "a model in place of a task": (lambda: lrtune.search(MODEL), "a Linear"),
    "a plan of a model": (lambda: lrtune.plan(MODEL), "a Linear"),
    "a study of the wrong way round": (lambda: lrtune.Study(bowl(), "name"), "'name'"),
    "train in place of an evaluator": (
        lambda: lrtune.search(steps=60, evaluate=lrtune.train), "evaluate=train"),
    "losses with their graphs": (
        lambda: lrtune.search(steps=60, evaluate=kept_graphs), "requires grad"),
    "a seed without end": (lambda: lrtune.search(bowl(), seed=2**70), "1.18e+21"),
    "nothing to search": (lrtune.search, "neither a task nor evaluate"),
    "a sweep downwards": (lambda: lrtune.range_test(bowl(), low=1, high=0.1), "low=1"),
    "a list of seeds": (lambda: lrtune.range_test(bowl(), seeds=[0, 1]), "[0, 1]"),
    "a peak for each group": (lambda: lrtune.range_test(bowl(), high=[0.1, 1.0]), "[0.1, 1.0]"),
    "steps in quotes": (lambda: lrtune.search(bowl(), steps="500"), "'500'"),
    "half a step": (lambda: lrtune.plan(bowl(), steps=1.5), "1.5"),
    "a budget that is too small": (lambda: lrtune.search(bowl(), steps=100, budget=0.1), "0.1"),
    "a budget in quotes": (lambda: lrtune.plan(bowl(), budget="4"), "'4'"),
    "a time limit with a unit": (lambda: lrtune.search(bowl(), time_limit="20m"), "'20m'"),
    "one coarse rate without brackets": (lambda: lrtune.search(bowl(), coarse=0.1), "coarse=0.1"),
    "limits that leave out the grid": (
        lambda: lrtune.search(bowl(), limits=(1e-3, 1e-2)), "0.001 ... 0.01"),
    "a rate outside the limits": (lambda: lrtune.search(bowl(), around=100.0), "around, 100"),
    "a present rate without schedule": (lambda: lrtune.search(bowl(), current=0.1), "current=0.1"),
    "a setting that nobody has": (
        lambda: lrtune.range_test(bowl(), vary={"weightdecay": [0.1]}), "'weightdecay'"),
    "a momentum that the optimizer lacks": (
        lambda: lrtune.range_test(task(optimizer=torch.optim.Adagrad), vary={"momentum": [0.5]}),
        "Adagrad has no momentum"),
    "one value without brackets": (
        lambda: lrtune.range_test(bowl(), vary={"weight_decay": 0.1}), "{'weight_decay': 0.1}"),
    "a batch size between multiples": (
        lambda: lrtune.range_test(task(), vary={"batch_size": [100]}), "has 100"),
    "a transfer over the depth": (lambda: lrtune.transfer(task(), over="depth"), "over='depth'"),
    "a transfer over the width of a model": (
        lambda: lrtune.transfer(task(), over="width"), "an nn.Module"),
    "shares in percent": (lambda: lrtune.transfer(task(), values=[5, 100]), "values has 5"),
    "a share of less than a batch": (
        lambda: lrtune.transfer(task(batch_size=8), values=[0.05]), "5 % of 64 training samples"),
    "no runs in memory": (lambda: lrtune.search(bowl(), max_runs=0), "got 0"),
    "runs on a disk": (lambda: lrtune.search(bowl(), offload="disk"), "offload='disk'"),
    "options of another evaluator": (
        lambda: lrtune.search(bowl(), max_runs=2, evaluate=lrtune.Evaluator(bowl())), "max_runs=2"),
    "an evaluator that returns nothing": (
        lambda: lrtune.search(evaluate=lambda _runs, _steps, **_: None), "returned None"),
    "an evaluator of another task": (
        lambda: lrtune.search(bowl(4.0), evaluate=lrtune.Evaluator(task())), "its model is Linear"),
    "a loop that gives one loss": (
        lambda: lrtune.search(
            steps=60,
            evaluate=lambda runs, steps, **_: lrtune.Trace.of(
                runs, steps, {run.name: [1.0] for run in runs})),
        "returned 1 loss of run"),
    "an engine that is none": (
        lambda: lrtune.train(bowl(), [Run("a", 0.1)], 5, engine="fast"), "engine='fast'"),
    "a loss that always diverges": (lambda: lrtune.search(huge(), steps=60), "1e-07 to 0.1"),
    # --- schedules
    "a schedule that is misspelt": (lambda: lrtune.search(bowl(), schedule="cosin"), "'cosin'"),
    "two schedules for a search": (
        lambda: lrtune.search(bowl(), schedule=["cosine", "step"]), "['cosine', 'step']"),
    "a schedule for each group": (
        lambda: lrtune.search(bowl(), schedule=[by_step, falls_below_zero]), "a list of 2"),
    "a scheduler of torch's as a schedule": (
        lambda: lrtune.search(bowl(), schedule=steps_lr(MINE)), "StepLR"),
    "a schedule of the step": (lambda: lrtune.search(bowl(), schedule=by_step), "'by_step'"),
    "a schedule that draws": (
        lambda: lrtune.search(bowl(), schedule=Falling()), "gave 1 and then 0.5"),
    "a schedule below zero": (
        lambda: lrtune.search(bowl(), schedule=falls_below_zero), "returned -0.002"),
    "a schedule that is code": (
        lambda: lrtune.search(bowl(), schedule="open('file')"), "open('file')"),
    # --- comparison
    "a comparison with a name": (lambda: lrtune.compare(bowl(), "cosine"), "'cosine'"),
    "a comparison of two peaks": (lambda: lrtune.compare(bowl(), [0.1, 0.2]), "[0.1, 0.2]"),
    "schedules that are one string": (
        lambda: lrtune.compare(bowl(), 0.1, schedules="cosine"), "'cosine'"),
    "schedules with a comma": (
        lambda: lrtune.compare(bowl(), 0.1, schedules="wsd(0.2, 0.1), step"), "'step'"),
    "a recipe that is misspelt": (
        lambda: lrtune.compare(bowl(), 0.1, schedules=["recipe:renset-cifar"]), "'renset-cifar'"),
    "one seed": (lambda: lrtune.compare(bowl(), 0.1, seeds=1), "got 1"),
    "a ranking by nothing": (lambda: lrtune.compare(bowl(), 0.1, rank_by="loss"), "'loss'"),
    # --- from_torch
    "more steps than the scheduler has": (
        lambda: lrtune.from_torch(lambda o: native.OneCycleLR(o, 0.3, total_steps=50), 52),
        "steps=52"),
    "one step more than the scheduler has": (
        lambda: lrtune.from_torch(lambda o: native.OneCycleLR(o, 0.3, total_steps=50), 51),
        "steps=51"),
    "a lambda for each group": (
        lambda: lrtune.from_torch(
            lambda o: native.LambdaLR(o, [lambda e: 0.9**e, lambda _e: 1.0]), 50),
        "each of 2 parameter groups"),
    "a peak for each group of a scheduler": (
        lambda: lrtune.from_torch(lambda o: native.OneCycleLR(o, [0.1, 0.2], total_steps=9), 9),
        "each of 2 parameter groups"),
    "a lambda that divides by zero": (
        lambda: lrtune.from_torch(lambda o: native.LambdaLR(o, lambda e: 1 / (9 - e)), 20),
        "ZeroDivisionError at step 9"),
    "a scheduler instead of its function": (
        lambda: lrtune.from_torch(steps_lr(MINE), 50), "a StepLR"),
    "a scheduler class": (lambda: lrtune.from_torch(native.StepLR, 50), "TypeError"),
    "a function of progress for from_torch": (
        lambda: lrtune.from_torch(lambda progress: 1 - progress, 50), "TypeError"),
    "a function that returns no scheduler": (
        lambda: lrtune.from_torch(lambda _o: None, 50), "returned nothing"),
    "a scheduler of another optimizer": (
        lambda: lrtune.from_torch(lambda _o: steps_lr(MINE), 50), "the StepLR"),
    "a plateau of an accuracy": (
        lambda: lrtune.from_torch(lambda o: native.ReduceLROnPlateau(o, "max"), 50), "mode='max'"),
    # --- runs
    "rates in place of runs": (lambda: lrtune.train(bowl(), [0.1, 0.2], 5), "0.1"),
    "one run without brackets": (lambda: lrtune.train(bowl(), Run("a", 0.1), 5), "a Run"),
    "a rate of zero": (lambda: Run("a", 0), "got 0"),
    "two runs of one name": (
        lambda: lrtune.train(bowl(), [Run("a", 0.1)] * 2, 5), "'a' is there 2 times"),
    # --- verdicts
    "curves side by side": (
        lambda: lrtune.verdicts(DataFrame({"step": range(5), "a": 1.0, "b": 2.0})), "step, a, b"),
    "a curve of three losses": (lambda: lrtune.verdicts(DataFrame(CURVE)[:3]), "3 losses"),
    "two curves without names": (
        lambda: lrtune.verdicts(concat([DataFrame(CURVE)] * 2)), "at step 0"),
    "a range test among the curves": (
        lambda: lrtune.verdicts(DataFrame(CURVE | {"lr": [1e-5, 1e-4, 1e-3, 0.01, 0.1]})),
        "from 1e-05 to 0.1"),
    "a file of curves that is not there": (lambda: lrtune.verdicts("curve.csv"), "curve.csv"),
    # --- diagnosis
    "a diagnosis of a model": (lambda: lrtune.diagnose(MODEL), "a Linear"),
    "a diagnosis of a rate below zero": (lambda: lrtune.diagnose(task(), -1), "-1"),
    "a diagnosis of several rates": (lambda: lrtune.diagnose(task(), [0.1, 0.2]), "[0.1, 0.2]"),
    "a diagnosis of no steps": (lambda: lrtune.diagnose(task(), steps=0), "got 0"),
    "a diagnosis of a schedule that is misspelt": (
        lambda: lrtune.diagnose(task(), 0.1, schedule="cosin"), "'cosin'"),
    "a diagnosis of a scheduler of torch's": (
        lambda: lrtune.diagnose(task(), 0.1, schedule=steps_lr(MINE)), "StepLR"),
    "a diagnosis of a schedule below zero": (
        lambda: lrtune.diagnose(task(), 0.1, schedule=falls_below_zero), "returned -0.00"),
    "a model as a checkpoint": (lambda: lrtune.diagnose(task(), checkpoint=MODEL), "a Linear"),
    "a checkpoint that is not there": (lambda: lrtune.diagnose(task(), checkpoint="c.pt"), "c.pt"),
    "a checkpoint without a rate": (
        lambda: lrtune.diagnose(task(), checkpoint=MODEL.state_dict()), "no learning rate"),
    "a checkpoint of another model": (
        lambda: lrtune.diagnose(task(), 0.1, checkpoint=nn.Linear(2, 2).state_dict()),
        "the Linear"),
    "a checkpoint of another optimizer": (
        lambda: lrtune.diagnose(
            task(optimizer=Adam),
            checkpoint={
                "model": MODEL.state_dict(),
                "optimizer": SGD([{"params": [one]} for one in MODEL.parameters()], 1).state_dict(),
            },
        ),
        "the Adam"),
}  # fmt: skip

FILES = {
    "train.py": (
        "import torch, lrtune\nfrom torch import nn\nmodel = nn.Linear(3, 3)\n"
        "def make(width): return model\nnumber = 3\n"
    ),
    "ends.py": "import sys\nsys.exit(0)\n",
}
# name: (the words after `lrtune`, the value that the message shows)
COMMANDS = {
    "a file that is not there": ("search trian.py:task", "'trian.py'"),
    "a module that is not there": ("search trian:task", "'trian'"),
    "a name that is not in the file": ("search train.py:task", "no 'task'"),
    "a model in the file": ("search train.py:model", "a Linear"),
    "a function that takes arguments": ("range-test train.py:make", "train.py:make"),
    "a file that ends the program": ("search ends.py:task", "SystemExit: 0"),
    "a number in the file": ("search train.py:number", "is 3"),
    "a device that is not there": ("search --device xpu", "--device xpu"),
    "a report in no folder": ("search --out no/such/report.html", "no/such"),
    "options that exclude each other": ("search --rate-only --around 0.1", "--around"),
    "a comparison without a search": ("compare", "digits"),
    "a rate without its length": ("compare --lr 0.1", "--lr 0.1"),
    "a setting without values": ("range-test --vary momentum", "--vary momentum"),
    "a sweep from high to low": ("range-test --low 1 --high 0.1", "low=1"),
    "a checkpoint to diagnose that is not there": ("diagnose --checkpoint no.pt", "no.pt"),
    "curves to diagnose that are not there": ("diagnose no.csv", "no.csv"),
}


@contextmanager
def a_folder():
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, text in FILES.items():
            Path(name).write_text(text)
        yield


def told_in_python(name):
    """What is raised, after a check of its class."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is checked here
            MISTAKES[name][0]()
    assert isinstance(caught.value, lrtune.LrtuneError), "torch's or Python's own error"
    return caught.value


def told_by_the_command(name):
    """What the command prints on standard error."""
    before = set(sys.modules), list(sys.path)
    with a_folder():
        result = CliRunner().invoke(app, COMMANDS[name][0].split())
    for new in {"train", "ends"} & (set(sys.modules) - before[0]):
        del sys.modules[new]
    sys.path[:] = before[1]
    assert result.exit_code in (1, 2), result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line.removeprefix("Error: ")


def masked(message, error=None):
    """A message without what differs from one version of torch, and one computer, to the next."""
    cause = getattr(error, "__cause__", None)
    while cause is not None and isinstance(cause, lrtune.LrtuneError):
        cause = cause.__cause__
    if cause is not None and (text := str(cause).partition("\n")[0].rstrip(".")):
        message = message.replace(text, "<what was raised>")
    message = message.replace(torch.__version__, "<version>")
    message = re.sub(r"device here, only [a-z ]+\.", "device here, only cpu.", message)
    return re.sub(r"/\S+(?=/no/such)", "<folder>", message)


def messages():
    """Every message by the name of its mistake."""
    plain = {name: (error := told_in_python(name), masked(str(error), error))[1]
             for name in MISTAKES}  # fmt: skip
    return plain | {f"lrtune: {name}": masked(told_by_the_command(name)) for name in COMMANDS}


def recorded():
    """The messages of the file."""
    blocks = MESSAGES.read_text().strip().split("\n\n")
    return dict(block.removeprefix("## ").split("\n", 1) for block in blocks)


EXPECTS = re.compile(
    r"[Ee]xpected|must |needs? |such as|here, only|goes with|[Tt]here (is|are)|lies |leaves |"
    r"cannot be|is called with|takes one number|would train|no rate from|does not depend|is no |"
    r"fails on|so nothing would|lists all"
)
WAY_OUT = re.compile(
    r"(?:^|[.;:,] (?:and |or )?)(Add|Call|Check|Create|Draw|Give|Hand|Leave|Look|Make|Mend|Pass|"
    r"Put|Rename|Return|Swap|Take|Unfreeze|Use|Widen|Write|lower|raise|run|add|pass|use|give|write|"
    r"make|Expected (?:a|letters)|expected [^.]*such as|lrtune\.Trace\.of|Closest|Search|call|"
    r"Batches of any other form need)\b", re.MULTILINE,
)  # fmt: skip
WHOLE_REPRS = ("tensor(", "Parameter containing", "Parameter Group", "in_features=", " object at ")
LONGEST, LONGEST_SENTENCE = 420, 48


def check_message(message, value, error=None):
    """Value, expectation, way out; nothing that only a machine reads."""
    assert value in message, "the value"
    assert EXPECTS.search(message), "what is expected"
    assert WAY_OUT.search(message), "what to do"
    assert not re.search(r"0x[0-9a-f]{4}", message), "the address of an object"
    assert not any(text in message for text in WHOLE_REPRS), "a whole repr"
    assert message.isprintable(), "one line"
    assert len(message) <= LONGEST
    assert message.endswith((".", ")", "]"))
    assert "  " not in message
    assert ".." not in message.replace("...", "")
    sentences = re.split(r"(?<=[.;:])\s", message)
    assert max(len(sentence.split()) for sentence in sentences) <= LONGEST_SENTENCE
    cause = str(getattr(error, "__cause__", "") or "").partition("\n")[0].rstrip(".")
    assert not cause or not message.rstrip(".").endswith(cause), "torch has the last word"


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_plain_english(name):
    error = told_in_python(name)
    message = str(error)
    check_message(message, MISTAKES[name][1], error)
    assert masked(message, error) == recorded()[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_mistake_on_the_command_line_is_told_in_plain_english(name):
    message = told_by_the_command(name)
    check_message(message, COMMANDS[name][1])
    assert masked(message) == recorded()[f"lrtune: {name}"]


def test_the_file_has_the_messages_of_these_mistakes_and_no_others():
    assert list(recorded()) == [*MISTAKES, *(f"lrtune: {name}" for name in COMMANDS)]
    assert len(recorded()) >= 40


def test_clipping_as_a_message_advises_it_clips():
    """With any engine, and in each run by itself."""
    advice = str(told_in_python("a loss that always diverges"))
    (function,) = re.findall(r"`(def clip.*?)`", advice)
    (call,) = re.findall(r"call (optimizer\.register_step_pre_hook\(clip\))", advice)
    norms = []

    class Spy(SGD):
        def step(self, closure=None):
            gradients = [one.grad for group in self.param_groups for one in group["params"]]
            before = math.hypot(*(float(one.norm()) for one in gradients))
            super().step(closure)
            norms.append((before, math.hypot(*(float(one.norm()) for one in gradients))))

    def make(model, lr):
        optimizer = Spy(model.parameters(), lr=lr)
        scope = {"torch": torch, "model": model, "optimizer": optimizer}
        exec(f"{function}\n{call}", scope)  # noqa: S102 - it is what users do with it
        return optimizer

    clipped = task(nn.Linear(3, 3), (X * 100, X * 100), loss=nn.MSELoss(), optimizer=make)
    for engine in ("loop", "vmapped"):
        norms.clear()
        trace = lrtune.train(clipped, [Run("a", 0.1), Run("b", 0.01)], 6, engine=engine)
        assert norms
        assert all(after <= 1.0001 for _, after in norms)
        assert (trace.runs["outcome"] == "FINISHED").all()


if __name__ == "__main__":
    MESSAGES.write_text("".join(f"## {name}\n{text}\n\n" for name, text in messages().items()))
    sys.stdout.write(f"{MESSAGES}\n")

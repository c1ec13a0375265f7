"""diagnose(): laws of its cost, of what it leaves as it is, and of what it tells."""

import dataclasses
import functools
import json
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch
import zoo
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import lrtune
from benchmarks.diagnosis import healthy
from benchmarks.diagnosis.broken_plateaus import checkpoint_of
from benchmarks.diagnosis.trainings import as_training
from lrtune import Task, diagnose, report
from lrtune.cli.commands import app
from lrtune.diagnosis.observations.checkpoints import state_of
from lrtune.diagnosis.observations.curvature import CURVATURE
from lrtune.diagnosis.registry import CHECKS, CONTINUATIONS, TRIALS
from lrtune.errors import ArgumentError, CheckpointError, DataError, ScheduleError
from lrtune.reporting.diagnosis import diagnosis_section
from lrtune.results import Diagnosis, read
from lrtune.results.diagnosis import SEVERITIES
from lrtune.testing import bowl
from tests.sampling import law

NAMES = {name for some in (CHECKS | TRIALS | CONTINUATIONS).values() for name in some}
OF_TRIALS = {name for some in (TRIALS | CONTINUATIONS).values() for name in some}
ROWS = 192


def data(rows=ROWS):
    inputs = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0))
    return inputs, inputs.argmax(1)


def net(width=8):
    return nn.Sequential(
        nn.Linear(3, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 3)
    )


class Blind(nn.Module):
    """Says the same of all samples."""

    def __init__(self):
        super().__init__()
        self.tell = nn.Linear(3, 3)

    def forward(self, inputs):
        return self.tell(0 * inputs)


class Meter:
    """An objective that counts what is computed with it; and the updates of all optimizers.

    Passes are counted in rows, as validation batches are larger than others. What `check` does
    first is not counted.
    """

    def __init__(self, at=10**9, error=ValueError("the loss has had enough")):
        self.at, self.error, self.on, self.calls = at, error, False, 0
        self.stages, self.batch = [], 1
        self.forward = self.backward = self.updates = 0

    def __call__(self, model, batch):
        self.calls += self.on
        if self.on and self.calls >= self.at:
            raise self.error
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        if self.trying:
            self.forward += len(batch[1])
            if loss.requires_grad:
                loss.register_hook(lambda _: self._went_back(len(batch[1])))
        return loss

    def __deepcopy__(self, _memo):
        return self  # each run has a copy of the objective, and all of them count

    @property
    def trying(self):
        return self.on and bool({"training", "cannot-overfit-one-batch"} & {*self.stages})

    @property
    def cost(self):
        """In updates: a forward pass is a third of one."""
        return (self.forward + 2 * self.backward) / 3 / self.batch

    def _begun(self, stage, _done, _total):
        self.stages.append(stage)

    def _went_back(self, rows):
        self.backward += rows

    def diagnose(self, task, *given, **more):
        """Diagnose a task that has this objective."""

        def count(*_):
            self.updates += self.trying

        handle = register_optimizer_step_post_hook(count)
        self.on, self.batch = True, getattr(task, "batch_examples", 1)
        try:
            return diagnose(
                task, *given, progress=lambda stage, *_: self.stages.append(stage), **more
            )
        finally:
            self.on = False
            handle.remove()


def metered(meter, model=net, batch=8, *, validates=True, **more):
    x, y = data()
    val = {"val": (x[128:], y[128:])} if validates else {}
    return Task(
        model, (x[:128], y[:128]), objective=meter, batch_size=batch, device="cpu", **val, **more
    )


def most(steps):
    return max(300, steps / 2)


SLACK = 4
"""Updates: a wider twin is tried before it trains, as every task is; see `Task.changed`."""

rates = st.none() | st.floats(-14, 3).map(lambda power: 2.0**power)
models = st.sampled_from([net, Blind, functools.partial(nn.Linear, 3, 3)])


# --- what it costs


@law(
    few=8, cases=60, model=models, lr=rates, steps=st.integers(1, 1500),
    batch=st.sampled_from([1, 8, 30]), validates=st.booleans(),
    optimizer=st.sampled_from([SGD, Adam]),
)  # fmt: skip
def test_it_costs_half_a_training_or_300_updates_and_says_what_it_costs(model, lr, steps, **more):
    meter = Meter()
    found = meter.diagnose(metered(meter, model, **more), lr, steps)
    assert "Could not be looked at" not in found.facts
    assert found.cost <= most(steps)
    assert meter.updates <= found.cost
    assert meter.cost <= found.cost + SLACK
    assert meter.cost + 3 * CURVATURE >= found.cost / 2  # whose products are no passes
    assert found.facts["Cost"].startswith(f"{found.cost:,.0f} of {most(steps):,.0f} updates")


@law(
    few=8, cases=60, model=models, lr=rates, at=st.integers(1, 400), validates=st.booleans(),
    error=st.sampled_from([ValueError, KeyboardInterrupt, torch.OutOfMemoryError]),
)  # fmt: skip
def test_what_is_cut_short_costs_no_more_and_is_counted(model, lr, at, error, validates):
    """Memory runs out at every later call; Ctrl-C comes once; other errors are raised."""
    meter = Meter(at, error("enough"))
    task = metered(meter, model, validates=validates)
    try:
        found = meter.diagnose(task, lr)
    except KeyboardInterrupt:
        assert at <= 2, "before the first check"
        return
    except ValueError:
        assert error is ValueError
        assert meter.calls >= at
        assert meter.cost <= most(600) + SLACK
        return
    assert meter.calls < at or error is not ValueError
    assert meter.updates <= found.cost + SLACK
    assert meter.cost <= found.cost + SLACK
    assert found.cost <= most(600)


@pytest.mark.slow
@pytest.mark.parametrize("lr", [None, 0.1])
def test_a_trial_that_always_lacks_memory_is_not_made_again_for_each_check(lr):
    """Each check that needs it has the same error; the trial itself is made once."""
    for at in range(60, whole(lr)[1], 120):
        meter = Meter(at, torch.OutOfMemoryError("enough"))
        found = meter.diagnose(metered(meter), lr)
        assert meter.calls <= at + 15
        told = found.facts.get("Could not be looked at", "")
        assert "(enough)" in told or at > 200, "where some passes may fail"


# --- what it leaves as it is


@pytest.mark.parametrize("name", zoo.MODELS)
def test_nothing_of_the_user_changes(name):
    lr = 0.1 if len(name) % 2 else None
    model, tensors = zoo.model(name), zoo.tensors(name)
    with zoo.untouched(model, tensors, vars(SGD)):
        diagnose(Task(model, tensors, val=tensors, batch_size=8, device="cpu"), lr, 100)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [5, 60, 150, 250])
def test_nothing_of_the_user_changes_when_it_ends_in_the_middle(at, error):
    model, tensors, meter = net(), data(), Meter(at, error("enough"))
    task = metered(meter, model)
    before = dict(vars(SGD))
    with zoo.untouched(model, tensors):
        if error is ValueError:
            with pytest.raises(ValueError, match="enough"):
                meter.diagnose(task, 0.1)
        else:
            assert meter.diagnose(task, 0.1).stopped == "interrupted"
    assert vars(SGD) == before
    assert all(one.grad is None for one in model.parameters())


@pytest.mark.parametrize("lr", [None, 0.02])
def test_the_same_call_gives_the_same_findings(lr):
    def found():
        x, y = data()
        return diagnose(Task(net, (x, y), val=(x[:64], y[:64]), device="cpu"), lr, 400)

    one, other = found(), found()
    assert one.findings == other.findings
    assert one.looked_at == other.looked_at
    assert one.cost == other.cost
    assert one.manifest == other.manifest


# --- what it tells


@functools.cache
def healthy_one():
    return diagnose(healthy.KINDS["LSTM"]())


@functools.cache
def a_slow_one():
    return diagnose(bowl(1.0), 1e-4, 2000)


def test_a_healthy_task_has_nothing_and_lists_what_was_looked_at():
    seen = healthy_one()
    assert seen.findings == seen.warnings == ()
    assert not seen.failed
    assert set(seen.looked_at) <= NAMES
    assert {name for some in CHECKS.values() for name in some} <= set(seen.looked_at)
    count = len(seen.looked_at)
    assert str(seen).startswith(f"Diagnosis: Nothing found in {count} checks ({seen.cost:,.0f} of ")
    assert set(seen.looked_at) <= {one.strip(",") for one in str(seen).split()}


def test_what_the_budget_does_not_allow_for_was_not_looked_at():
    """Without a rate, 300 updates are not enough for continuations; 1500 are."""
    few, many = (diagnose(bowl(1.0, noise=0.5), steps=steps) for steps in (600, 3000))
    missed = {name for some in CONTINUATIONS.values() for name in some}
    assert not missed & set(few.looked_at)
    assert missed - {"capacity"} <= set(many.looked_at)
    assert len(few.looked_at) == len(set(few.looked_at))


def test_what_was_not_looked_at_says_why():
    """More steps are named where they help, and they do."""
    few = diagnose(bowl(1.0, noise=0.5))
    assert few.left_out["rate-too-low"] == "`steps=2000` leaves room."
    assert "Not looked at: rate-too-low, " in few.unseen
    assert "rate-too-low" in diagnose(bowl(1.0, noise=0.5), steps=2000).looked_at
    assert "`width`" in few.left_out["capacity"]
    broken = diagnose(Task(Blind, data(), batch_size=8, device="cpu"))
    assert "one batch" in broken.left_out["rate-too-low"]
    assert not {*few.looked_at} & {*few.left_out}
    x, _ = data()
    steep = Task(nn.Linear(3, 1), (x, x[:, :1]), loss=Steep(), batch_size=32, device="cpu")
    fails = diagnose(steep)
    assert fails.left_out["noise-floor"] == "Every rate that was tried fails."


class Steep(nn.Module):
    """No rate of a grid is low enough for it; Adam does not mind."""

    def forward(self, output, target):
        return 1e15 * (output - target).square().mean()


def test_every_name_can_be_looked_at():
    """The capacity, of a model whose function takes a width."""
    wide = diagnose(metered(Meter()), 0.1, 3000)
    assert set(wide.looked_at) | set(healthy_one().looked_at) == NAMES
    assert "capacity" not in a_slow_one().looked_at


def test_findings_are_worst_first_and_complete():
    for seen in (a_slow_one(), diagnose(metered(Meter(), Blind))):
        order = [SEVERITIES.index(one.severity) for one in seen.findings]
        assert order == sorted(order)
        assert seen.findings
        for one in seen.findings:
            assert one.name in NAMES & set(seen.looked_at)
            assert any(letter.isdigit() for letter in one.evidence)


def test_memory_that_runs_out_is_told_once_with_what_it_hides():
    meter = Meter(200, torch.OutOfMemoryError("there is no more"))
    told = meter.diagnose(metered(meter), 0.1).facts["Could not be looked at"]
    assert told.count("there is no more") == 1
    names, _, why = told.partition(" (")
    assert set(names.split(", ")) <= OF_TRIALS
    assert why == "there is no more)"


ERRORS = [RuntimeError("boom"), ValueError("bad"), KeyError("x"), IndexError("index out of range")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("lr", [None, 0.1])
@pytest.mark.parametrize("at", [60, 140, 260])
def test_what_the_users_code_raises_after_a_while_is_raised(error, lr, at):
    meter = Meter(at, error)
    with pytest.raises(type(error)) as caught:
        meter.diagnose(metered(meter), lr)
    assert caught.value is error


def test_a_token_that_the_embedding_lacks_is_raised_with_its_sample():
    inputs = torch.randint(0, 9, (400, 4), generator=torch.Generator().manual_seed(0))
    labels = inputs[:, 0] % 2
    inputs[313, 2] = 9  # the vocabulary has nine; no check and no first batch reads it
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(16, 2))
    loader = DataLoader(TensorDataset(inputs, labels), 8)
    with pytest.raises(DataError, match=r"Sample 313 .* tokens below the size"):
        diagnose(Task(model, loader, device="cpu"), 0.1)


class OnlyTrains(nn.Linear):
    """Has no eval mode, which nothing but a trial asks for without validation data."""

    def forward(self, inputs):
        if not self.training:
            raise ValueError("no eval mode")
        return super().forward(inputs)


def test_what_only_a_trial_provokes_is_told_and_not_raised():
    task = Task(lambda: OnlyTrains(3, 3), data(), batch_size=32, device="cpu")
    seen = diagnose(task)
    assert seen.facts["Could not be looked at"] == "eval-differs (no eval mode)"
    assert "eval-differs" not in {*seen.looked_at, *seen.left_out}


@functools.cache
def whole(lr):
    """A diagnosis that is not cut short, and how often it computed a loss."""
    meter = Meter()
    return meter.diagnose(metered(meter), lr), meter.calls


@pytest.mark.parametrize("lr", [None, 0.1])
@pytest.mark.parametrize("at", [20, 60, 120, 240])
def test_ctrl_c_leaves_what_was_found(lr, at):
    meter, (every, _) = Meter(at, KeyboardInterrupt()), whole(lr)
    seen = meter.diagnose(metered(meter), lr)
    assert seen.stopped == "interrupted"
    assert every.stopped == ""
    assert set(seen.looked_at) < set(every.looked_at)
    assert {*seen.looked_at, *seen.left_out} == NAMES
    assert f"Diagnosis: Interrupted after {seen.cost:,.0f} of " in str(seen)
    assert f"Not looked at  {next(iter(seen.left_out))}, " in re.sub(" {3,}", "  ", str(seen))
    assert set(seen.findings) <= set(every.findings)
    assert "interrupted" in read(seen.to_json())[0].stopped


def test_the_rate_that_is_asked_about_is_the_one_that_is_trained():
    """A bowl of curvature 1 is unstable above 2, and slow below a hundredth of that."""
    seen = {lr: diagnose(bowl(1.0), lr, 1500) for lr in (1e-3, 0.5, 4.0)}
    said = {lr: [one.name for one in some.findings] for lr, some in seen.items()}
    assert said[1e-3] == ["rate-too-low"]
    assert seen[0.5].warnings == ()
    assert "rate-too-high" in said[4.0]


# --- wrong arguments


class Drawing:
    """A schedule that is another one each time."""

    calls = 0

    def __call__(self, _progress):
        self.calls += 1
        return 1 / self.calls


WRONG = {
    "a model": ({"task": net()}, ArgumentError, "expected an lrtune.Task"),
    "a rate below zero": ({"lr": -1}, ArgumentError, "lr must be a finite number > 0"),
    "a rate in quotes": ({"lr": "0.1"}, ArgumentError, "lr must be a finite number > 0"),
    "no steps": ({"steps": 0}, ArgumentError, "whole number >= 1, got 0. Give one such as 600"),
    "half a step": ({"steps": 1.5}, ArgumentError, "steps must be a whole number >= 1"),
    "a seed below zero": ({"seed": -1}, ArgumentError, "seed must be a whole number >= 0"),
    "no such schedule": ({"schedule": "cosin"}, ArgumentError, "Closest: cosine"),
    "two schedules": ({"schedule": ["cosine", "step"]}, ScheduleError, "Pass a single one"),
    "no schedule": ({"schedule": None}, ScheduleError, "expected a schedule"),
    "a schedule below zero": ({"schedule": lambda p: 0.5 - p}, ScheduleError, "at step 301 of 600"),
    "a schedule that draws": ({"schedule": Drawing()}, ScheduleError, "pure function"),
    "a schedule that waits for validation data": (
        {"schedule": "reduce-on-plateau(every=9)", "task": bowl(1.0)}, ScheduleError, "validation"),
    "a checkpoint without a rate": (
        {"checkpoint": net().state_dict()}, CheckpointError, "tells no learning rate"),
    "a list as a checkpoint": ({"checkpoint": [1]}, CheckpointError, r"the checkpoint is \[1\]"),
    "a model as a checkpoint": ({"checkpoint": net()}, CheckpointError, "expected a state_dict"),
    "a checkpoint of another model": (
        {"lr": 0.1, "checkpoint": Blind().state_dict()}, CheckpointError, "does not fit the Seq"),
    "a checkpoint of another optimizer": (
        {"checkpoint": {
            "model": net().state_dict(),
            "optimizer": SGD([{"params": [nn.Parameter(torch.ones(2))]}], lr=0.1).state_dict()}},
        CheckpointError, "optimizer does not fit"),
    "no such file": ({"checkpoint": "no.pt"}, CheckpointError, "cannot be read as a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_are_refused_before_anything_trains(wrong):
    given, error, told = WRONG[wrong]
    meter = Meter()
    task = metered(meter)
    with pytest.raises(error, match=told) as caught:
        meter.diagnose(**{"task": task} | given)
    assert meter.calls == meter.updates == 0
    assert str(caught.value).endswith(".")


def test_a_pickled_model_is_not_executed(tmp_path):
    torch.save(net(), tmp_path / "model.pt")
    told = r" holds a pickled model .* Save model\.state_dict\(\)\.$"
    with pytest.raises(CheckpointError, match=told):
        diagnose(metered(Meter()), checkpoint=tmp_path / "model.pt")


def test_another_file_is_no_checkpoint(tmp_path):
    (tmp_path / "bad.pt").write_text("hello")
    with pytest.raises(CheckpointError, match=r" is no file of torch\.save\. Pass model"):
        diagnose(metered(Meter()), checkpoint=tmp_path / "bad.pt")


KINDS = {"SGD": SGD, "Adam": Adam, "RMSprop": torch.optim.RMSprop, "Adagrad": torch.optim.Adagrad}


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_checkpoint_of_another_optimizer_is_refused_with_both_named(own, other):
    model = net()
    saved = KINDS[other](model.parameters(), lr=0.1).state_dict()
    checkpoint = {"model": model.state_dict(), "optimizer": saved}
    task = metered(Meter(), optimizer=KINDS[own])
    if own == other:
        assert state_of(task, checkpoint, None).lr == pytest.approx(0.1)
        return
    with pytest.raises(CheckpointError, match=f"the {own} of the task: it is that of {other}"):
        state_of(task, checkpoint, None)


@pytest.mark.parametrize(
    ("parts", "told"),
    [(slice(0, 1), "group 0 has 1 parameters, the task's 6"), (None, "2 parameter groups")],
)
def test_a_checkpoint_of_other_groups_is_refused(parts, told):
    model = net()
    weights = list(model.parameters())
    groups = [weights[parts]] if parts else [weights[:2], weights[2:]]
    saved = SGD([{"params": some} for some in groups], lr=0.1).state_dict()
    with pytest.raises(CheckpointError, match=told):
        state_of(metered(Meter()), {"model": model.state_dict(), "optimizer": saved}, 0.1)


def test_a_scheduler_adds_to_a_checkpoint_what_is_no_other_optimizer():
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9)
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert state_of(metered(Meter()), checkpoint, None).peak == pytest.approx(0.1, rel=0.99)


@pytest.mark.parametrize("form", [str, Path, torch.load])
def test_a_checkpoint_may_be_a_path_or_what_is_in_it(form, tmp_path):
    def task():
        return metered(Meter(), nn.Sequential(nn.Linear(3, 3)))

    torch.save(checkpoint_of(task, 0.02, 50), tmp_path / "c.pt")
    seen = diagnose(task(), checkpoint=form(tmp_path / "c.pt"))
    same = diagnose(task(), 0.02, checkpoint=torch.load(tmp_path / "c.pt"))
    assert seen.findings == same.findings
    assert set(seen.looked_at) >= {"noise-floor", "rate-too-low", "rate-too-high"}
    assert seen.manifest["checkpoint"] == "a state_dict"


# --- how it is kept, printed and drawn


def test_it_comes_back_from_json_with_its_charts():
    for seen in (healthy_one(), a_slow_one()):
        (again,) = read(seen.to_json())
        assert again.to_json() == seen.to_json()
        assert again.findings == seen.findings
        assert (again.cost, again.stopped) == (seen.cost, seen.stopped)
        assert again.groups.equals(seen.groups)


def test_the_frame_has_a_row_for_each_finding():
    frame = a_slow_one().frame
    assert list(frame.columns) == ["name", "severity", "evidence", "cause", "remedy"]
    assert frame["name"].tolist() == [one.name for one in a_slow_one().findings]
    assert len(healthy_one().frame) == 0


def test_findings_with_a_chart_are_drawn():
    drawn = [one for one in a_slow_one().findings if one.chart]
    assert drawn
    for one in drawn:
        figure = a_slow_one().figure(one.name)
        assert {line.name for line in figure.data} == set(one.chart.lines)
    with pytest.raises(ArgumentError, match="'leakage' has a chart"):
        a_slow_one().figure("leakage")
    with pytest.raises(ArgumentError, match="has a chart"):
        healthy_one().figure()


def test_a_report_tells_it(tmp_path):
    seen = a_slow_one()
    text = report([seen, healthy_one()], tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(one.name in text and one.remedy in text for one in seen.findings)
    assert "Nothing odd was found" in text
    sections = [diagnosis_section(one) for one in (seen, lrtune.check(bowl(1.0)))]
    assert [one.kind for one in sections] == ["Diagnosis", "Check"]
    assert sections[0].call == (
        "lrtune.diagnose(task, schedule='constant', lr=0.0001, steps=2000, seed=0)"
    )
    assert sections[1].call == "lrtune.check(task)"
    assert [one.title for one in sections[0].charts] == [
        one.name for one in seen.findings if one.chart
    ]


def test_its_call_says_the_same_again():
    task, call = bowl(1.0), diagnosis_section(a_slow_one()).call
    again = eval(call, {"lrtune": lrtune, "task": task})  # noqa: S307 - it is what users do with it
    assert again.findings == a_slow_one().findings


@pytest.mark.parametrize("columns", [80, 100])
def test_it_prints_in_lines_that_fit(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    seen = dataclasses.replace(a_slow_one(), looked_at=())
    for one in (seen, healthy_one()):
        lines = str(one).splitlines()
        assert max(map(len, lines)) <= 100
        assert lines[0].startswith("Diagnosis: ")
        assert "Cost" in str(one)


# --- the command


TASKS = """
import torch
from torch import nn
import lrtune
from lrtune.testing import bowl

print("the user's own words")
slow = bowl(1.0)

def blow(output, target):
    return output.square().mean() * float("nan")

x = torch.randn(64, 3)
y = x.argmax(1)
model = nn.Linear(3, 3)
task = lrtune.Task(model, (x, y), val=(x, y), device="cpu")
torch.save({"model": model.state_dict()}, "c.pt")
torch.save({"model": nn.Linear(2, 2).state_dict()}, "other.pt")
nan = x.clone()
nan[3] = torch.nan
broken = lrtune.Task(lambda: nn.Linear(3, 3), [(x, y), (nan, y)], device="cpu")
"""
CURVES = "step,loss,run,lr\n" + "".join(
    f"{step},{2 * factor**step + 0.1 * (step % 3)},{name},{lr}\n"
    for name, factor, lr in (("slow", 0.999, 0.001), ("good", 0.9, 0.1), ("flat", 1.0, 3.0))
    for step in range(80)
)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    Path("tasks.py").write_text(TASKS)
    Path("curves.csv").write_text(CURVES)

    def invoke(*words):
        sys.modules.pop("tasks", None)
        return CliRunner().invoke(app, ["diagnose", *words])

    yield invoke
    sys.modules.pop("tasks", None)


def test_the_command_prints_what_was_found_and_writes_a_report(command):
    run = command("tasks.py:slow", "--lr", "0.001")
    assert run.exit_code == 0, run.output
    told = " ".join(run.stdout.split())
    assert "warning: rate-too-low" in told
    assert "the user's own words" not in told
    assert "of 300 updates, besides the passes of `check`." in told
    assert "Report: " in told
    assert "rate-too-low" in Path("report.html").read_text(encoding="utf-8")


def test_the_command_gives_one_json_and_nothing_else(command):
    run = command("tasks.py:slow", "--lr", "0.001", "--json", "--out", "r.html")
    assert run.exit_code == 0, run.output
    given = json.loads(run.stdout)
    (seen,) = read(run.stdout)
    assert isinstance(seen, Diagnosis)
    assert [one.name for one in seen.findings] == ["rate-too-low"]
    assert Path(given["report"]).name == "r.html"
    assert seen.manifest["lr"] == "0.001"


def test_the_command_says_that_nothing_was_found(command):
    run = command("tasks.py:slow", "--lr", "0.05", "--steps", "300", "--schedule", "cosine")
    assert run.exit_code == 0, run.output
    assert re.match(
        r"Nothing found in \d+ checks \([\d,]+ of 300 updates\)\.\nLooked at: ", run.stdout
    )
    assert "nonfinite-data" in run.stdout


def test_an_error_among_the_findings_is_exit_code_1(command):
    run = command("tasks.py:broken", "--json")
    assert run.exit_code == 1, run.output
    (seen,) = read(run.stdout)
    assert seen.findings[0].name == "nonfinite-data"


def test_the_command_goes_on_from_a_checkpoint(command):
    run = command("tasks.py:task", "--checkpoint", "c.pt", "--lr", "0.1", "--json")
    assert run.exit_code in (0, 1), run.output
    (seen,) = read(run.stdout)
    assert "overfitting" in seen.looked_at
    assert seen.manifest["checkpoint"] == "a state_dict"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere.py"], "nowhere.py"),
        (["nowhere.csv"], "nowhere.csv"),
        (["tasks.py:task", "--checkpoint", "nowhere.pt"], "cannot be read as a checkpoint"),
        (["tasks.py:task", "--checkpoint", "c.pt"], "tells no learning rate"),
        (["tasks.py:task", "--lr", "0.1", "--checkpoint", "other.pt"], "does not fit the Linear"),
        (["tasks.py:task", "--schedule", "cosin"], "Closest: cosine"),
        (["tasks.py:task", "--lr", "-1"], "-1"),
        (["tasks.py:task", "--steps", "0"], "'--steps'"),
        (["tasks.py:task", "--out", "no/such/folder.html"], "no/such"),
        (["curves.csv", "--lr", "0.1"], "--lr 0.1 goes with a task"),
        (["curves.csv", "--checkpoint", "c.pt"], "--checkpoint c.pt goes with a task"),
        (["curves.csv", "--schedule", "cosine"], "--schedule cosine goes with a task"),
        (["curves.csv", "--steps", "700"], "--steps 700 goes with a task"),
    ],
)
def test_the_command_refuses_in_a_sentence(command, words, told):
    run = command(*words)
    assert run.exit_code == 2
    assert told in " ".join(re.sub("[│╭╰─]", " ", run.stderr).split())
    assert run.stdout == ""
    assert "Traceback" not in run.output


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_judges_curves(command, as_json):
    run = command("curves.csv", *["--json"] * as_json)
    assert run.exit_code == 0, run.output
    assert not Path("report.html").exists()
    if as_json:
        rows = {row["run"]: row for row in json.loads(run.stdout)["verdicts"]}
        assert set(rows) == {"slow", "good", "flat"}
        assert rows["slow"]["verdict"] == "too low"
        assert all(row["reason"].endswith(".") for row in rows.values())
    else:
        assert "slow, lr 0.001: too low" in run.stdout


@pytest.mark.parametrize(("name", "divider"), [("c.tsv", "\t"), ("c.txt", "\t"), ("c.csv", ";")])
def test_the_command_reads_other_dividers(command, name, divider):
    Path(name).write_text(CURVES.replace(",", divider))
    assert command(name).stdout == command("curves.csv").stdout


def test_ctrl_c_before_anything_was_looked_at_says_so(command, monkeypatch):
    def interrupted(_task, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("lrtune.cli.checking.diagnose", interrupted)
    run = command("tasks.py:slow")
    assert run.exit_code == 130
    assert "Interrupted, before anything was looked at." in run.stderr


def test_ctrl_c_leaves_what_was_found_and_is_exit_code_130(command, monkeypatch):
    def interrupted(_task, **_more):
        return dataclasses.replace(a_slow_one(), stopped="interrupted")

    monkeypatch.setattr("lrtune.cli.checking.diagnose", interrupted)
    run = command("tasks.py:slow")
    assert run.exit_code == 130
    assert "rate-too-low" in run.stdout
    assert run.stdout.startswith("Interrupted after ")
    assert "1 finding so far, in " in run.stdout
    assert Path("report.html").exists()


SLEEPY = """
import pathlib, time, torch
from torch import nn
import lrtune

def slow(output, target):
    steps.append(0)
    if len(steps) > 150:
        pathlib.Path("training").touch()
        time.sleep(0.02)
    return nn.functional.cross_entropy(output, target)

steps = []
x = torch.randn(64, 3)
task = lrtune.Task(nn.Linear(3, 3), (x, x.argmax(1)), loss=slow, batch_size=8, device="cpu")
"""


@pytest.mark.slow
def test_a_real_ctrl_c_ends_a_real_process_with_what_was_found(tmp_path):
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(
        [sys.executable, "-m", "lrtune", "diagnose", "sleepy.py", "--json"],
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
    (seen,) = read(out)
    assert seen.stopped == "interrupted"
    assert "nonfinite-data" in seen.looked_at
    assert "Traceback" not in err


# --- every name, from a task to its finding


def broken():
    """Name to (title, training) of each case of the benchmark."""
    made = {}
    for file in sorted(Path(healthy.__file__).parent.glob("broken_*.py")):
        for name, cases in import_module(f"benchmarks.diagnosis.{file.stem}").BROKEN.items():
            made.setdefault(name, []).extend((title, case) for title, case, _ in cases)
    return made


BROKEN = broken()
FIRST = {"noise-floor": "a bowl"}
"""Those that are quick, and that are named: of a first one, the benchmark misses the name."""


def named(name, case):
    """Whether a broken task is named among the first two findings, for no more than it may cost."""
    training = as_training(case)
    seen = training.diagnose()
    assert seen.cost <= most(training.steps)
    return name in [one.name for one in seen.findings[:2]]


@pytest.mark.filterwarnings("ignore")  # of torch, about some of these tasks
@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_task_is_named_among_the_first_two(name):
    cases = dict(BROKEN[name])
    assert named(name, cases[FIRST.get(name, next(iter(cases)))])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nine_of_ten_others_are_named_as_well():
    others = [(name, case) for name, cases in BROKEN.items() for _, case in cases[1:3]]
    assert sum(named(*one) for one in others) >= 0.9 * len(others)

"""range_test(vary=...): paired sweeps of other settings, against the task's own."""

import functools
import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import SGD, AdamW

from lrtune import Evaluator, Task, range_test, report
from lrtune.analysis.curves import Outcome
from lrtune.errors import ArgumentError
from lrtune.reporting.curves import range_test_section
from lrtune.results import read
from lrtune.results.schema import VARIED, VARIED_SWEEPS
from lrtune.testing import Bowl, bowl
from lrtune.tuning.swept import means_of
from lrtune.tuning.vary import values_of

DECAYED = partial(SGD, momentum=0.9, weight_decay=0.01)
SWEEP = {"steps": 40, "seeds": 2}


def brought(optimizer=DECAYED, **options):
    return Task(
        zoo.model("dropout"), zoo.vectors(), optimizer=optimizer, batch_size=8, device="cpu",
        **options,
    )  # fmt: skip


class Bare(torch.optim.Optimizer):
    """A step against the gradient, and no other setting."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for weight in group["params"]:
                weight.sub_(group["lr"] * weight.grad)


@functools.cache
def plain():
    return range_test(brought(), **SWEEP)


@functools.cache
def varied():
    vary = {"weight_decay": [0, 0.3], "momentum": [0.5], "batch_size": [16, 24]}
    return range_test(brought(), vary=vary, **SWEEP)


def sweeps_of(result, setting, value):
    rows = result.varied_sweeps
    rows = rows[(rows["setting"] == setting) & (rows["value"] == value)]
    return rows.drop(columns=["setting", "value"]).reset_index(drop=True)


# --- what is swept --------------------------------------------------------------------------------


def test_the_tasks_own_sweeps_are_those_of_a_plain_range_test_bit_for_bit():
    one, other = varied(), plain()
    for table in ("frame", "stops", "answers"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table), check_exact=True)
    assert one.suggestion == other.suggestion
    assert one.notes[: len(other.notes)] == other.notes
    for setting, own in (("weight_decay", 0.01), ("momentum", 0.9), ("batch_size", 8)):
        rows = sweeps_of(one, setting, own)
        pd.testing.assert_frame_equal(rows, other.frame, check_exact=True)
    assert one.varied.loc[one.varied["own"], "value"].tolist() == [0.01, 0.9, 8]


@settings(max_examples=4)
@given(values=st.permutations([8, 0.01, 0.9]))
def test_varying_with_the_tasks_own_value_trains_nothing_else(values):
    names = {8: "batch_size", 0.01: "weight_decay", 0.9: "momentum"}
    calls = []

    def counted(task):
        inner = Evaluator(task)

        def evaluate(runs, *args, **more):
            calls.append(len(runs))
            return inner(runs, *args, **more)

        evaluate.like = inner.like
        return evaluate

    task = brought()
    vary = {names[one]: [one] for one in values}
    result = range_test(task, vary=vary, evaluate=counted(task), **SWEEP)
    assert calls == [4]
    pd.testing.assert_frame_equal(result.frame, plain().frame, check_exact=True)
    assert result.varied["verdict"].isin(["lowest", "does not train"]).all()


@pytest.mark.parametrize(
    ("setting", "value", "make"),
    [
        ("weight_decay", 0.0, partial(DECAYED, weight_decay=0.0)),
        ("weight_decay", 0.3, partial(DECAYED, weight_decay=0.3)),
        ("momentum", 0.5, partial(DECAYED, momentum=0.5)),
    ],
)
def test_a_sweep_is_that_of_a_task_with_this_setting_bit_for_bit(setting, value, make):
    other = range_test(brought(make), **SWEEP)
    rows = sweeps_of(varied(), setting, value)
    pd.testing.assert_frame_equal(rows, other.frame, check_exact=True)
    row = varied().varied.query("setting == @setting and value == @value").iloc[0]
    told = other.suggestion
    assert (told is None) == math.isnan(row["lr"])
    assert told is None or row["lr"] == told.lr


class Watching:
    """An evaluator that notes the traces of what it trains, also of runs that vary."""

    def __init__(self, inner, traces):
        self.inner, self.traces = inner, traces

    def like(self, task, variations):
        return Watching(self.inner.like(task, variations), self.traces)

    def __call__(self, runs, steps, **more):
        self.traces.append(self.inner(runs, steps, **more))
        return self.traces[-1]


def test_all_sweeps_of_a_seed_see_the_same_batches_at_the_same_rates():
    traces, task = [], brought()
    vary = {"batch_size": [16, 32], "momentum": [0.0]}
    result = range_test(task, vary=vary, evaluate=Watching(Evaluator(task), traces), **SWEEP)
    frame = pd.concat(trace.frame.merge(trace.runs[["run", "seed"]], on="run") for trace in traces)
    assert frame.groupby(["seed", "step"])["batch"].nunique().eq(1).all()
    learning = frame[frame["lr"] > 0]
    assert learning.groupby(["seed", "step"])["lr"].nunique().eq(1).all()
    updates = dict(zip(result.varied["value"], result.varied["updates"], strict=True))
    assert updates == {8: 40, 16: 20, 32: 10, 0.0: 40, 0.9: 40}
    for size, count in ((16, 20), (32, 10)):
        rows = sweeps_of(result, "batch_size", size)
        finished = rows["lr"].max() > 0.8 * 10
        assert not finished or rows.groupby("seed").size().max() == count


@given(losses=st.lists(st.floats(-9, 9), max_size=30), count=st.integers(1, 6))
def test_losses_of_a_larger_batch_are_means_over_its_parts(losses, count):
    means = means_of(np.array(losses), count)
    assert len(means) == math.ceil(len(losses) / count)
    for place, mean in enumerate(means):
        assert mean == pytest.approx(np.mean(losses[place * count :][:count]), abs=1e-12)


def test_a_loss_that_is_not_finite_ends_the_sweep_of_a_larger_batch_as_well():
    task = Task(Bowl(1.0), [None], objective=lambda model, _: model(), optimizer=SGD, device="cpu")
    result = range_test(task, high=1e30, steps=160, vary={"batch_size": [4]}, seeds=1)
    assert result.stops["outcome"].isin([one.name for one in Outcome]).all()
    assert sweeps_of(result, "batch_size", 4)["lr"].max() < 1e30


# --- what it says, where the answer is known ------------------------------------------------------


@pytest.mark.slow
def test_momentum_moves_the_largest_rate_as_theory_has_it():
    """Heavy-ball descent on a parabola diverges above 2 (1 + momentum) / curvature."""
    task = bowl(4.0, 0.01, optimizer=partial(SGD, momentum=0.5))
    table = range_test(task, steps=300, vary={"momentum": [0.0, 0.9]}).varied.set_index("value")
    assert (table["edge"] < 2 * (1 + table.index) / 4 * 1.5).all()
    # The sweep climbs on while momentum gathers, so the fastest rates lie the lower the more.
    assert table.loc[0.9, "edge"] < 2 * table.loc[0.5, "edge"]


@pytest.mark.slow
def test_weight_decay_adds_to_the_curvature():
    """The loss w^2 / 2 with decay 99 diverges above 2 / 100."""
    task = bowl(1.0, 0.01, optimizer=partial(SGD, weight_decay=0.0))
    table = range_test(task, steps=300, vary={"weight_decay": [9, 99]}).varied.set_index("value")
    for decay in (0, 9, 99):
        assert table.loc[decay, "lr"] < 2 / (1 + decay)
    assert table["lr"].is_monotonic_decreasing
    assert table.loc[99, "lr"] > 2 / 100 / 20


def test_what_trains_worse_is_behind_and_the_largest_of_the_others_is_named():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(640, 10, generator=generator)
    targets = inputs @ torch.randn(10, 1, generator=generator)
    task = Task(
        lambda: torch.nn.Linear(10, 1), (inputs, targets), loss=torch.nn.MSELoss(),
        optimizer=partial(SGD, weight_decay=1e-4), device="cpu",
    )  # fmt: skip
    result = range_test(task, vary={"weight_decay": [0.0, 10.0]}, seeds=4)
    verdicts = dict(zip(result.varied["value"], result.varied["verdict"], strict=True))
    assert verdicts[10.0] == "behind"
    assert verdicts[0.0] != "behind"
    (note,) = (one for one in result.notes if one.startswith("weight_decay"))
    assert "behind with 10" in note
    assert result.varied["difference"].min() == 0
    one_seed = range_test(task, vary={"weight_decay": [0.0, 10.0]}, seeds=1)
    assert "a single seed does not tell" in one_seed.notes[-1]
    assert "behind" not in set(one_seed.varied["verdict"])


def test_a_constant_of_the_loss_changes_no_verdict():
    def shifted(shift):
        def objective(model, batch):
            return torch.nn.functional.cross_entropy(model(batch[0]), batch[1]) + shift

        task = Task(
            zoo.model("linear"), [zoo.vectors()], objective=objective, optimizer=DECAYED,
            device="cpu",
        )  # fmt: skip
        return range_test(task, vary={"weight_decay": [0.0, 3.0]}, steps=80, seeds=2).varied

    one, other = shifted(0.0), shifted(-7.0)
    assert one["verdict"].tolist() == other["verdict"].tolist()
    np.testing.assert_allclose(one["difference"], other["difference"], atol=1e-4)


class Deaf(SGD):
    """Reads its weight decay when it is made, and never again."""

    def __init__(self, params, lr, decay=0.01):
        super().__init__(params, lr=lr)
        self.decay = decay
        self.param_groups[0]["weight_decay"] = decay

    def step(self, closure=None):
        group = self.param_groups[0]
        known, group["weight_decay"] = group["weight_decay"], self.decay
        super().step(closure)
        group["weight_decay"] = known


def test_a_setting_that_the_optimizer_does_not_read_is_said():
    result = range_test(brought(Deaf), vary={"weight_decay": [0.5], "momentum": [0.5]}, **SWEEP)
    (warning,) = (one for one in result.warnings if "changes no loss" in one)
    assert warning.startswith("weight_decay 0.5 ")


def test_too_few_updates_of_a_large_batch_are_said():
    result = range_test(brought(), steps=160, seeds=1, vary={"batch_size": [16, 32]})
    (warning,) = (one for one in result.warnings if "per decade" in one)
    assert warning.startswith("With batch size 32 a sweep makes as few as 5.7 updates")
    assert not any("per decade" in one for one in range_test(brought(), steps=160).warnings)


# --- refusals -------------------------------------------------------------------------------------


def test_groups_without_weight_decay_keep_that():
    def grouped(model, lr):
        weights, biases = [], []
        for name, one in model.named_parameters():
            (biases if name.endswith("bias") else weights).append(one)
        groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
        return AdamW(groups, lr=lr, weight_decay=0.1)

    assert [one.value for one in values_of(brought(grouped), {"weight_decay": [0.2]})] == [0.1, 0.2]


def uneven(model, lr):
    first, *rest = model.parameters()
    groups = [{"params": [first], "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.2}]
    return SGD(groups, lr=lr)


@pytest.mark.parametrize(
    ("vary", "optimizer", "told"),
    [
        ({}, DECAYED, ["vary={}", "Give {'weight_decay'"]),
        ([0.1], DECAYED, ["vary=[0.1]"]),
        ({"weightdecay": [0.1]}, DECAYED, ["'weightdecay'", "weight_decay, momentum, batch_size"]),
        ({"weight_decay": []}, DECAYED, ["[]", "a list of values"]),
        ({"weight_decay": 0.1}, DECAYED, ["0.1", "a list of values"]),
        ({"weight_decay": "0.1"}, DECAYED, ["'0.1'", "a list of values"]),
        ({"weight_decay": [-0.1]}, DECAYED, ["-0.1", ">= 0", "'weight_decay': [0, "]),
        ({"weight_decay": [math.nan]}, DECAYED, ["nan"]),
        ({"momentum": [1.0]}, DECAYED, ["1;", "from 0 to below 1"]),
        ({"batch_size": [12]}, DECAYED, ["12", "8, 16, 32", "multiples"]),
        ({"batch_size": [4]}, DECAYED, ["has 4", "smaller batch"]),
        ({"batch_size": [0]}, DECAYED, ["0"]),
        ({"momentum": [0.5]}, torch.optim.Adagrad, ["Adagrad has no momentum", "weight_decay"]),
        ({"weight_decay": [0.5]}, Bare, ["Bare has no weight_decay"]),
        ({"weight_decay": [0.5]}, uneven, ["0.1, 0.2", "one value"]),
        ({"batch_size": [80000]}, DECAYED, ["makes 0 updates", "up to 160", "steps=100000"]),
        ({"batch_size": [16, 176]}, DECAYED, ["has 176", "makes 9 updates", "up to 160"]),
    ],
)
def test_what_cannot_be_varied_is_refused_before_anything_trains(vary, optimizer, told):
    task = brought(optimizer)
    watching = Watching(Evaluator(task), [])
    with pytest.raises(ArgumentError) as caught:
        range_test(task, vary=vary, evaluate=watching)
    assert not watching.traces
    assert [one for one in told if one not in str(caught.value)] == [], str(caught.value)


def test_a_training_loop_of_ones_own_cannot_vary_runs():
    with pytest.raises(ArgumentError, match="Leave evaluate out"):
        range_test(brought(), vary={"momentum": [0.5]}, evaluate=lambda *_args, **_more: None)


# --- the result -----------------------------------------------------------------------------------


def test_the_result_is_kept_printed_and_drawn(tmp_path):
    result = varied()
    for columns, frame in ((VARIED, result.varied), (VARIED_SWEEPS, result.varied_sweeps)):
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns
    (again,) = read(result.to_json())
    pd.testing.assert_frame_equal(again.varied, result.varied)
    pd.testing.assert_frame_equal(again.varied_sweeps, result.varied_sweeps)
    assert "weight_decay" in repr(again)
    for setting in ("weight_decay", "momentum", "batch_size"):
        lines = [one for one in result.varied_figure(setting).data if one.mode == "lines"]
        assert len(lines) == (result.varied["setting"] == setting).sum()
    with pytest.raises(ArgumentError, match="'dropout' was not varied"):
        result.varied_figure("dropout")
    with pytest.raises(ArgumentError, match="none was"):
        plain().varied_figure("momentum")
    section = range_test_section(result)
    assert [chart.title for chart in section.charts[1:]] == [
        "Range tests by weight decay", "Range tests by momentum", "Range tests by batch size",
    ]  # fmt: skip
    assert section.call.endswith(
        "vary={'weight_decay': [0.0, 0.01, 0.3], 'momentum': [0.5, 0.9], "
        "'batch_size': [8.0, 16.0, 24.0]})"
    )
    assert "vary" not in range_test_section(plain()).call
    report(result, tmp_path / "page.html")


def test_the_users_random_state_stays(monkeypatch):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    range_test(brought(), vary={"momentum": [0.5], "batch_size": [16]}, steps=20, seeds=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.slow
def test_the_command_sweeps_other_settings_and_records_its_own_only(run):
    asked = ["--vary", "weight_decay=0,1e-3", "--vary", "batch-size=128", "--device", "cpu"]
    asked += ["--steps", "24", "--seeds", "1"]
    first = run("range-test", *asked)
    assert first.exit_code == 0, first.output
    for text in ("weight_decay", "batch_size", "0.001", "128", "lowest loss"):
        assert text in first.stdout
    assert max(map(len, first.stdout.splitlines())) <= 80
    again = run("range-test", *asked, "--json")
    (result,) = json.loads(again.stdout)["results"]
    assert result["varied"]["value"] == [0, 0.001, 64, 128]
    shown = run("studies", "show", "digits-cpu")
    assert "2 runs recorded" in shown.stdout, "the sweep and its control"


@pytest.mark.parametrize("wrong", ["momentum", "momentum=", "momentum=a", "=0.1", "dropout=0.1"])
def test_a_wrong_option_is_refused(run, wrong):
    result = run("range-test", "--vary", wrong, "--device", "cpu")
    assert result.exit_code == 2
    assert "Error" in result.output

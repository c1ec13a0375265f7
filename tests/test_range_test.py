"""range_test(): each loss beside the rate that produced it, an exact reason for every stop."""

import functools

import numpy as np
import pandas as pd
import pytest
import zoo
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import nn

from lrtune import Task, range_test
from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import RULES
from lrtune.demo import digits, images
from lrtune.errors import ArgumentError
from lrtune.results import Trace
from lrtune.results.schema import ANSWERS, RUNS, STOPS, SWEEP, TRACE, VALIDATIONS, as_table
from lrtune.testing import bowl
from lrtune.training.retiring import retire_failed
from lrtune.tuning.range_test import STOPPED
from tests.planted import hashed_run

TASK = bowl()  # the fake evaluators below only need its description


def replay(swept, untrained=None, calls=None):
    """An evaluator that trains nothing: (seed, rates) to the losses of the sweep and of its twin.

    Runs end where `retire_failed` says so, as in a cohort.
    """

    def evaluate(runs, steps, *, stage, validate=None):
        if calls is not None:
            calls.append((runs, steps, stage, validate))
        frames, rows = [], []
        for run in runs:
            rates = np.array([run.lr * run.schedule(step / steps) for step in range(steps)])
            sweeps = run.name.startswith("sweep")
            losses = np.ones(steps) if untrained is None else untrained(run.seed, rates)
            losses = np.asarray(swept(run.seed, rates) if sweeps else losses, float)
            verdict = retire_failed(losses)
            end, outcome = (steps - 1, Outcome.FINISHED) if verdict is None else verdict
            columns = {"run": run.name, "step": range(end + 1), "lr": rates[: end + 1]}
            frames.append(pd.DataFrame(columns | {"loss": losses[: end + 1], "batch": 0}))
            rows.append((run.name, run.lr, repr(run.schedule), run.seed, outcome.name, end + 1))
        return Trace(
            steps=steps,
            frame=as_table(pd.concat(frames), TRACE),
            runs=as_table(rows, RUNS),
            validations=as_table([], VALIDATIONS),
        )

    return evaluate


def after_each_update(respond):
    """Losses that respond to the rate of the update before: (rates before) to loss."""

    def swept(_seed, rates):
        return [respond(rates[:step]) for step in range(len(rates))]

    return swept


# --- what is swept --------------------------------------------------------------------------------


@given(
    steps=st.integers(2, 60),
    low=st.floats(1e-9, 1e-3),
    decades=st.floats(0.5, 8),
    seeds=st.integers(1, 3),
    seed=st.integers(0, 9),
)
@settings(max_examples=25)
def test_the_rate_rises_exponentially_and_every_loss_stands_beside_its_rate(
    steps, low, decades, seeds, seed
):
    """The fake loss tells which update was the last one before it."""
    calls, high = [], low * 10**decades
    respond = after_each_update(lambda before: -before[-1] if len(before) else 0.0)
    sweep = range_test(
        TASK, low=low, high=high, steps=steps, seeds=seeds, seed=seed,
        evaluate=replay(respond, lambda _seed, rates: -5.0 - np.arange(len(rates)) % 3, calls),
    )  # fmt: skip
    assert len(calls) == 1
    assert sweep.frame["seed"].unique().tolist() == list(range(seed, seed + seeds))
    for _, rows in sweep.frame.groupby("seed"):
        assert len(rows) == steps
        assert (rows["loss"] == -rows["lr"]).all()
        assert rows["lr"].iloc[0] == pytest.approx(low)
        ratios = rows["lr"].to_numpy()[1:] / rows["lr"].to_numpy()[:-1]
        assert ratios == pytest.approx((high / low) ** (1 / (steps + 1)))
        assert rows["lr"].iloc[-1] < high
        assert rows["untrained"].tolist() == [-5.0 - step % 3 for step in range(1, steps + 1)]


def test_each_sweep_has_a_twin_that_never_learns():
    calls = []
    range_test(TASK, steps=9, seeds=2, seed=4, evaluate=replay(lambda _s, r: 1 - r, None, calls))
    ((runs, steps, stage, validate),) = calls
    assert [(run.name, run.seed) for run in runs] == [
        ("sweep/4", 4), ("sweep/5", 5), ("untrained/4", 4), ("untrained/5", 5),
    ]  # fmt: skip
    assert all(run.schedule(step / 10) == 0 for run in runs[2:] for step in range(10))
    assert (steps, stage, validate) == (10, "range test", 0)


def test_the_twins_losses_are_those_of_the_untrained_model():
    """On the real thing: the first loss of a run at that batch is what the twin has there."""
    brought = Task(zoo.model("linear"), [zoo.vectors()])
    sweep = range_test(brought, steps=12, seeds=1)
    assert len(set(sweep.frame["untrained"])) == 1, "one batch, over and over"
    assert sweep.frame["loss"].iloc[0] == pytest.approx(sweep.frame["untrained"].iloc[0], abs=1e-4)
    assert sweep.frame["loss"].min() < 0.9 * sweep.frame["untrained"].iloc[0]


def test_names_of_runs_are_only_labels(monkeypatch):
    plain = range_test(bowl(4.0), steps=30, seeds=2).to_json()
    monkeypatch.setattr("lrtune.tuning.range_test.Run", hashed_run)
    assert range_test(bowl(4.0), steps=30, seeds=2).to_json() == plain


def test_one_sweep_does_not_depend_on_how_many_there_are():
    brought = Task(zoo.MODELS["dropout"], zoo.vectors(), batch_size=8)
    three, one = (
        range_test(brought, steps=20, seeds=3),
        range_test(brought, steps=20, seeds=1, seed=1),
    )
    rows = three.frame[three.frame["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, one.frame, check_exact=True)


# --- how it ends ----------------------------------------------------------------------------------


@functools.cache
def known(kind):
    def respond(before):
        rate = before[-1] if len(before) else 0.0
        loss = 2.3 - 2 / (1 + (0.002 / max(rate, 1e-30)) ** 2)
        if kind == "DIVERGED" and rate > 0.1:
            return loss + 100 * rate
        return np.inf if kind == "NONFINITE" and rate > 0.1 else loss

    return range_test(TASK, seeds=2, evaluate=replay(after_each_update(respond)))


@pytest.mark.parametrize("kind", ["FINISHED", "DIVERGED", "NONFINITE"])
def test_the_outcome_of_a_sweep_is_exact(kind):
    stops = known(kind).stops
    assert stops["outcome"].tolist() == [kind] * 2
    first = known("FINISHED").frame["lr"]
    after = 10.0 if kind == "FINISHED" else first[first > 0.1].iloc[0]
    step = 10 ** (7 / 201)
    lag = {"FINISHED": -2, "DIVERGED": 2, "NONFINITE": 0}[kind]  # the third of five is high
    assert stops["lr"].tolist() == pytest.approx([after * step**lag] * 2, rel=0.01)
    assert known(kind).notes[0] == f"seed 0: {STOPPED[Outcome[kind]]} {stops['lr'][0]:.2g}"
    assert (stops["edge"] < stops["lr"] * 1.001).all()


def test_a_sweep_that_stops_keeps_every_loss_up_to_there():
    frame = known("NONFINITE").frame
    first = frame[frame["seed"] == 0]
    assert np.isinf(first["loss"].iloc[-1])
    assert np.isfinite(first["loss"].iloc[:-1]).all()
    assert np.isnan(first["smooth"].iloc[-1])
    assert np.isfinite(first["smooth"].iloc[:-1]).all()


NUMBER = st.one_of(
    st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, 1.7e308, 1e30]),
)  # fmt: skip
SERIES = st.one_of(
    st.lists(NUMBER, min_size=31, max_size=31),
    st.lists(st.floats(-10, 10), min_size=31, max_size=31),
    st.builds(lambda x, n, y: [x] * n + [y] * (31 - n), NUMBER, st.integers(0, 9), NUMBER),
)  # fmt: skip


@settings(max_examples=25)
@given(series=SERIES, other=SERIES, control=SERIES, steps=st.integers(2, 30))
@example(series=[np.nan] * 31, other=[1.0] * 31, control=[np.nan] * 31, steps=30)
@example(series=[1.0] * 31, other=[1.0] * 31, control=[1.0] + [np.inf] * 30, steps=2)
def test_whatever_the_losses_there_is_an_answer_and_a_reason(series, other, control, steps):
    seen = [one[: steps + 1] for one in (series, other)]
    assume(control[: steps + 1] not in seen)  # losses that do not depend on the rate are refused
    sweep = range_test(
        TASK, steps=steps, seeds=2,
        evaluate=replay(
            lambda seed, rates: (series, other)[seed][: len(rates)],
            lambda _seed, rates: control[: len(rates)],
        ),
    )  # fmt: skip
    if sweep.suggestion is None:
        assert sweep.warnings[0].startswith("There is no rate: ")
    else:
        assert np.isfinite(sweep.suggestion.lr)
        low, high = sweep.suggestion.interval
        assert 0 < low <= sweep.suggestion.lr <= high
    assert sweep.stops["outcome"].isin([outcome.name for outcome in STOPPED]).all()
    assert np.isfinite(sweep.answers["lr"]).all()
    assert (sweep.answers["lr"] > 0).all()
    for columns, frame in ((SWEEP, sweep.frame), (STOPS, sweep.stops), (ANSWERS, sweep.answers)):
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns
    assert len(sweep.answers) == 2 * len(RULES)
    assert sweep.to_json()


@pytest.mark.parametrize("curvature", [1e-3, 1.0, 1e6])
def test_on_the_real_thing_too(curvature):
    """The whole range is too low, or stable and unstable, or too high from the first rate on."""
    sweep = range_test(bowl(curvature, 0.01), low=1e-4, high=10.0, steps=60, seeds=2)
    assert sweep.stops["outcome"].isin([outcome.name for outcome in STOPPED]).all()
    if curvature == 1e-3:
        assert sweep.stops["outcome"].tolist() == ["FINISHED"] * 2
        assert 0 < sweep.suggestion.lr < 10
    if curvature == 1e6:
        assert sweep.stops["outcome"].tolist() == ["DIVERGED"] * 2
        assert sweep.suggestion is None
        assert "exploded, from the first rates on (lower `low`)" in sweep.warnings[0]


# --- what it says ---------------------------------------------------------------------------------


def test_a_sweep_that_ends_too_early_is_said_to_do_so():
    """On real images, whose batches differ by more than the sweep gains: the twin tells."""
    sweep = range_test(digits("cpu"), low=1e-8, high=1e-3, steps=100)
    assert sweep.stops["outcome"].tolist() == ["FINISHED"] * 3
    assert (sweep.stops["edge"] > 1e-4).all()
    (warning,) = sweep.warnings
    assert "lowest at the last rate in 3 of 3 sweeps" in warning
    assert warning.endswith("raise `high`.")
    assert sweep.suggestion.lr > 2e-5


def test_a_sweep_that_is_too_coarse_is_said_to_be_so():
    for steps, said in ((60, True), (80, False)):
        warnings = range_test(bowl(4.0), steps=steps, seeds=1).warnings
        assert any("steps per decade, and needs 10" in one for one in warnings) == said


def test_disagreement_is_said(monkeypatch):
    fast = range_test(bowl(4.0), seeds=1)
    assert fast.suggestion.agree
    assert not fast.warnings
    monkeypatch.setattr("lrtune.analysis.sweep_rules.AGREEMENT", 0.0)
    strict = range_test(bowl(4.0), seeds=1)
    assert not strict.suggestion.agree
    assert strict.warnings == ("The rules disagree by more than half a decade: look at the curve.",)
    assert set(fast.answers["rule"]) == set(RULES)
    assert fast.answers["because"].str.len().min() > 20


def test_it_tells_how_it_was_made():
    made = range_test(bowl(4.0), low=1e-5, high=2.0, steps=10, seeds=2, seed=3).manifest
    told = {"low": "1e-05", "high": "2", "steps": "10", "seeds": "2", "seed": "3"}
    assert told.items() <= made.items()
    assert {"torch", "lrtune", "python", "model", "optimizer", "batch"} <= set(made)


def test_the_same_seed_gives_the_same_answer():
    def swept(seed):
        brought = Task(zoo.MODELS["dropout"], zoo.DATA["loader"]())
        return range_test(brought, steps=20, seeds=2, seed=seed).to_json()

    assert swept(0) == swept(0)
    assert swept(0) != swept(1)


def test_parameter_groups_keep_their_ratios():
    """Ten times the rate for one of two weights is ten times its steps."""
    import torch
    from torch import nn

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.slow, self.fast = (nn.Parameter(torch.ones(1)) for _ in range(2))

        def forward(self, inputs):
            return (self.slow + self.fast) * inputs.new_ones(())

    rates = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def groups(model, lr):
        return Spy([{"params": [model.slow]}, {"params": [model.fast], "lr": 10 * lr}], lr=lr)

    brought = Task(
        Two(), [torch.ones(1)], objective=lambda model, batch: model(batch).sum(), optimizer=groups
    )
    rates.clear()
    sweep = range_test(brought, steps=9, seeds=1)
    ours = [pair for pair in rates if pair[0] > 0][-10:]  # checks of the task train before
    assert [pair[0] for pair in ours][:9] == sweep.frame["lr"].tolist()
    assert [fast / slow for slow, fast in ours] == pytest.approx([10.0] * len(ours))


def test_progress_is_told_to_the_end():
    told = []
    range_test(bowl(0.1), steps=20, seeds=2, progress=lambda *one: told.append(one))
    assert {stage for stage, _, _ in told} == {"range test"}
    assert told[-1][1] == told[-1][2] == 4 * 21
    assert all(done <= total for _, done, total in told)


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 0.0}, {"low": -1.0}, {"low": np.nan}, {"low": "x"}, {"high": 0.0}, {"high": np.inf},
        {"low": 1.0, "high": 1.0}, {"low": 2.0, "high": 1.0}, {"steps": 1}, {"steps": 2.5},
        {"seeds": 0}, {"seeds": True}, {"seed": -1},
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused_before_anything_trains(wrong):
    calls = []
    with pytest.raises(ArgumentError) as caught:
        range_test(TASK, **wrong, evaluate=replay(lambda _s, r: 1 - r, None, calls))
    assert not calls
    name, value = next(iter(wrong.items()))
    assert name in str(caught.value)
    assert repr(value) in str(caught.value) or f"{value:g}" in str(caught.value)


# --- where zero is ------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [-2.3026, 1e6])
def test_no_constant_of_the_loss_moves_the_suggestion(constant):
    """With a million the losses, in float32, have steps of 0.06."""
    train, val = images()

    def suggested(shift):
        def objective(model, batch):
            return nn.functional.cross_entropy(model(batch[0].flatten(1)), batch[1]) + shift

        def make():
            return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

        task = Task(make, train, val=val, objective=objective, device="cpu")
        return range_test(task, steps=100).suggestion.lr

    assert suggested(constant) == pytest.approx(suggested(0.0), rel=0.25)

"""Runs: a peak rate, a schedule, a seed."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrtune.errors import ArgumentError, ScheduleError, positive_number, whole_number
from lrtune.results import Trace, read
from lrtune.results.runs import Run, checked_runs, grid, seed_list
from lrtune.schedules import ReduceOnPlateau, constant, cosine
from lrtune.tuning.search import search

RATES = st.floats(1e-12, 1e6)


def test_a_run_trains_at_a_constant_rate_with_seed_0_when_nothing_is_said():
    run = Run("a", 0.1)
    assert (run.name, run.lr, run.schedule, run.seed) == ("a", 0.1, constant(), 0)
    assert run == Run("a", 0.1, constant(), 0)
    assert run != Run("a", 0.1, cosine())


def test_a_run_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Run("a", 0.1).lr = 1.0


def test_any_function_of_progress_is_a_schedule():
    def half(progress):
        return 0.5 * progress

    run = Run("a", 0.1, half)
    assert repr(run.schedule) == "half"
    assert run.schedule(0.5) == 0.25


@given(rate=RATES)
def test_any_number_is_a_rate(rate):
    for given_rate in (rate, np.float64(rate), torch.tensor(rate, dtype=torch.float64)):
        assert Run("a", given_rate).lr == rate
        assert type(Run("a", given_rate).lr) is float


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf, None, "fast", "0.1", [0.1], {}])
def test_a_rate_is_a_finite_number_above_0(rate):
    says = "lr must be a finite number > 0, got|lr is .* expected one number"
    with pytest.raises(ArgumentError, match=says) as caught:
        Run("a", rate)
    assert repr(rate) in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 0.5, None, True, "0", math.nan])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ArgumentError, match="seed must be a whole number >= 0, got"):
        Run("a", 0.1, seed=seed)


@pytest.mark.parametrize("schedule", ["cosine", 0.5, None])
def test_a_schedule_is_a_function(schedule):
    with pytest.raises(ScheduleError, match="function of progress"):
        Run("a", 0.1, schedule)


@given(
    rates=st.lists(st.sampled_from([0.1, 0.25, 1e-5, 3.0]), max_size=4, unique=True),
    seeds=st.lists(st.integers(0, 99), max_size=3, unique=True),
)
def test_a_grid_is_every_rate_with_every_seed(rates, seeds):
    runs = grid(rates, seeds, cosine())
    assert [(run.lr, run.seed) for run in runs] == [(r, s) for r in rates for s in seeds]
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.schedule == cosine() for run in runs)


def test_a_cohort_has_runs_with_names_of_their_own():
    runs = (Run("a", 0.1), Run("b", 0.1))
    assert checked_runs(runs) == list(runs)
    with pytest.raises(ArgumentError, match=r"at least one run, got none\. Pass"):
        checked_runs([])
    with pytest.raises(ArgumentError, match=r"'a' is there 3 times\. Rename one"):
        checked_runs([runs[0], *runs, runs[0]])


@given(count=st.integers(1, 20), first=st.integers(0, 1000))
def test_seeds_follow_each_other(count, first):
    assert seed_list(count, first) == [first + n for n in range(count)]


@pytest.mark.parametrize(("count", "first"), [(0, 0), (-1, 0), (1.0, 0), (True, 0), (3, -1)])
def test_seeds_are_counted_with_whole_numbers(count, first):
    with pytest.raises(ArgumentError, match="whole number"):
        seed_list(count, first)


def test_a_number_out_of_range_is_named():
    with pytest.raises(ArgumentError, match=r"steps must be a whole number >= 2, got 1\."):
        whole_number("steps", 1, least=2)
    with pytest.raises(ArgumentError, match=r"low must be a finite number > 0, got -3\."):
        positive_number("low", -3)
    assert whole_number("steps", 2, least=2) == 2
    assert positive_number("low", 3) == 3.0


# --- a trace of a loop of one's own


TWO = [Run("a", 0.1, cosine()), Run("b", 1.0, seed=1)]


def test_a_trace_of_own_losses_has_the_tables_of_any_other():
    losses = {"a": [2.0, 1.0, 0.5, 0.4], "b": [2.0, 1.5, 1.2, 1.1]}
    trace = Trace.of(TWO, 4, losses, {"b": 1.3}, floor=0.0)
    assert read(trace.to_json())[0].runs.equals(trace.runs)
    assert trace.runs["outcome"].tolist() == ["FINISHED"] * 2
    rates = trace.frame.set_index("run").loc["a", "lr"]
    assert rates.tolist() == pytest.approx([0.1 * cosine()(step / 4) for step in range(4)])
    assert trace.frame["loss"].tolist() == losses["a"] + losses["b"]
    (one,) = trace.validations.itertuples()
    assert (one.run, one.step, one.part, one.loss, one.samples) == ("b", 4, "selection", 1.3, 0)
    assert trace.floor == 0.0


def test_it_shows_which_runs_go_on_and_which_failed():
    waiting = Trace.of(TWO, 9, {"a": [2.0, 1.0], "b": [2.0, math.nan]})
    assert waiting.runs["outcome"].tolist() == ["PAUSED", "NONFINITE"]
    grew = Trace.of(TWO, 12, {"a": [2.0] * 12, "b": [2.0, 1, 0.5, 0.5, 0.4, 0.4, *[9.0] * 6]})
    assert grew.runs[["outcome", "steps"]].to_numpy().tolist() == [
        ["FINISHED", 12],
        ["DIVERGED", 9],
    ]
    assert len(grew.frame) == 12 + 9


def test_a_schedule_that_reacts_to_the_loss_has_the_rates_of_these_losses():
    run = Run("a", 0.1, ReduceOnPlateau(patience=0.25))
    trace = Trace.of([run], 8, {"a": [1.0] * 8})
    assert trace.frame["lr"].iloc[-1] < 0.1


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ({"a": [1.0]}, "losses has no run 'b'; it has 'a'"),
        ({}, "it has none"),
        ({"a": [1.0], "b": 1.0}, r"losses\['b'\] has the shape \(\)"),
        ({"a": [1.0], "b": []}, r"has the shape \(0,\). Expected .*from \(1,\) to \(3,\)"),
        ({"a": [1.0], "b": [1.0] * 4}, r"has the shape \(4,\)"),
        ({"a": [[1.0]], "b": [1.0]}, r"has the shape \(1, 1\)"),
        ({"a": ["low"], "b": [1.0]}, "holds something other than numbers"),
        ({"a": [1.0], "b": [1.0, 0.9]}, r"losses\['a'\] has 1 numbers, that of another run 2"),
    ],
)
def test_losses_of_another_shape_are_refused_with_the_shape_expected(losses, says):
    with pytest.raises(ArgumentError, match=says):
        Trace.of(TWO, 3, losses)


def test_a_search_goes_on_losses_alone():
    def evaluate(runs, steps, *, until, **_):
        return Trace.of(runs, steps, {run.name: descent(run, steps, until) for run in runs})

    def descent(run, steps, until):  # on a parabola of curvature 4, which diverges above 2 / 4
        weight, losses = 1.0, []
        for step in range(until):
            losses.append(2 * weight**2)
            weight *= 1 - 4 * run.lr * run.schedule(step / steps)
        return losses

    found = search(evaluate=evaluate, steps=60, schedule="constant")
    assert 0.02 < found.lr < 0.5
    assert found.best is not None
    assert math.isnan(found.best.loss)

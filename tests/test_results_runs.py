"""Runs: a peak rate, a schedule, a seed."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrtune.errors import ArgumentError, ScheduleError, positive_number, whole_number
from lrtune.results.runs import Run, checked_runs, grid, seed_list
from lrtune.schedules import constant, cosine

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
    for given_rate in (rate, np.float64(rate), torch.tensor(rate, dtype=torch.float64), str(rate)):
        assert Run("a", given_rate).lr == rate
        assert type(Run("a", given_rate).lr) is float


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf, -math.inf, None, "fast", [0.1], {}])
def test_a_rate_is_a_finite_number_above_0(rate):
    with pytest.raises(ArgumentError, match="lr must be a finite number > 0, got") as caught:
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

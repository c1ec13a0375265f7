"""Functions that are no schedules: of the step, of random numbers, of absolute rates."""

import math
import random

import pytest

import lrtune
from lrtune import Run
from lrtune.errors import AnswerWarning, ScheduleError
from lrtune.schedules import SCHEDULES, cosine, warmup
from lrtune.testing import bowl
from lrtune.tuning.answer_warnings import peak_warnings


class Counting:
    """Falls at each call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _progress):
        self.calls += 1
        return 0.99**self.calls


IMPURE = {
    "random": lambda: lambda _progress: random.random(),
    "a counter": Counting,
}


@pytest.mark.parametrize("name", IMPURE)
def test_a_function_that_repeats_nothing_is_refused(name):
    told = "and then .* for a progress of 0; expected a pure function"
    for use in (
        lambda shape: Run("a", 0.1, shape),
        lambda shape: lrtune.search(bowl(), schedule=shape),
        lambda shape: lrtune.compare(bowl(), 0.1, schedules=[shape]),
        lambda shape: warmup(0.1, then=shape),
        lambda shape: lrtune.search(bowl(), current=(0.1, shape)),
    ):
        with pytest.raises(ScheduleError, match=told):
            use(IMPURE[name]())


WRONG = {
    "of the step": (lambda step: min(1.0, step / 100), "is 0.0098, not 1"),
    "absolute rates": (lambda progress: 0.1 * (1 - progress), "is 0.1, not 1"),
    "percent": (lambda progress: 100 * (1 - progress), "is 100, not 1"),
    "steps of torch's": (lambda step: 0.1 ** (step // 30), "seems to take the step"),
    "a power of the epoch": (lambda epoch: 0.95**epoch, "hardly moves"),
    "a cosine of the step": (lambda step: (1 + math.cos(math.pi * step / 50)) / 2, "hardly moves"),
    "inverse time": (lambda step: 1 / (1 + 0.05 * step), "hardly moves"),
}


@pytest.mark.parametrize("name", [name for name in WRONG if name != "percent"])
def test_a_search_says_where_lr_is_not_the_peak(name):
    shape, told = WRONG[name]
    with pytest.warns(AnswerWarning, match="schedule"):
        found = lrtune.search(bowl(4.0), steps=50, schedule=shape)
    assert any(told in one for one in found.warnings)


def test_numbers_in_percent_are_told():
    said = list(peak_warnings("mine", Run("a", 0.1, WRONG["percent"][0]).schedule, 50, 0.1))
    assert WRONG["percent"][1] in said[0]
    assert "highest rate is 10 where lr is 0.1" in said[0]


def test_a_comparison_says_so_too():
    with pytest.warns(AnswerWarning, match="largest multiplier of the schedule mine is 0.1"):
        lrtune.compare(
            bowl(4.0), 0.1, steps=50, seeds=2, schedules={"mine": WRONG["absolute rates"][0]}
        )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [20, 500])
def test_no_schedule_of_ours_is_told(name, steps):
    assert list(peak_warnings(name, SCHEDULES[name](), steps, 0.1)) == []


@pytest.mark.parametrize("shape", [cosine(), lambda _p: 1.0, lambda p: 1 - p, lambda p: p < 0.5])
def test_nor_is_an_ordinary_function(shape):
    run = Run("a", 0.1, shape)
    assert list(peak_warnings("mine", run.schedule, 100, 0.1)) == []

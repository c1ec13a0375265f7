"""Law 8: on a bowl of curvature h, every rule's answer lies below 2 / h and within a factor 20."""

import functools

import numpy as np
import pytest

from lrtune import range_test, search, train
from lrtune.analysis.curves import Outcome
from lrtune.analysis.sweep_rules import RULES
from lrtune.errors import AnswerWarning, ArgumentError
from lrtune.results.runs import Run
from lrtune.testing import bowl

CURVATURES = [0.5, 4.0, 60.0, 1e3, 1e4]  # 2 / h lies within the default range of the sweep


@functools.cache
def swept(curvature, noise, steps=200):
    return range_test(bowl(curvature, noise), steps=steps)


def assert_obeys(sweep, curvature):
    limit = 2 / curvature
    medians = sweep.answers.groupby("rule")["lr"].median()
    assert set(medians.index) == set(RULES)
    for rate in (*medians, sweep.suggestion.lr):
        assert limit / 20 < rate < limit


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("curvature", CURVATURES)
def test_every_rule_answers_below_the_largest_stable_rate(curvature, noise):
    assert_obeys(swept(curvature, noise), curvature)


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize("curvature", CURVATURES[::2])
def test_they_do_so_in_half_the_steps(curvature, noise):
    assert_obeys(swept(curvature, noise, steps=100), curvature)


def test_the_answers_follow_the_curvature():
    """Without noise a hundred times the curvature is a hundredth of the rate, to a grid point."""
    flat, steep = swept(4.0, 0.0), range_test(bowl(400.0))
    step = 10 ** (7 / 200)
    for rule in RULES:
        rates = [s.answers[s.answers["rule"] == rule]["lr"].median() for s in (flat, steep)]
        assert rates[0] / rates[1] == pytest.approx(100, rel=step**2 - 1)


def test_the_sweep_says_why_it_stopped():
    stops = swept(4.0, 0.0).stops
    assert stops["outcome"].tolist() == ["DIVERGED"] * 3
    assert (stops["lr"] > 0.5).all()
    assert (stops["edge"] < stops["lr"]).all()
    with pytest.warns(AnswerWarning, match="raise `high`"):
        gentle = range_test(bowl(4.0), high=0.1, steps=50, seeds=1)
    assert gentle.stops["outcome"].tolist() == ["FINISHED"]


@pytest.mark.parametrize("curvature", [0.5, 60.0, 1e4])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_training_fails_exactly_above_the_limit(curvature, noise):
    """The oracle itself: just below 2 / h it is stable, just above it is not."""
    limit = 2 / curvature
    runs = [Run(f"{share}", share * limit) for share in (0.1, 0.5, 0.9, 1.2, 2.0)]
    outcomes = train(bowl(curvature, noise), runs, 300).runs["outcome"].tolist()
    stable, failed = Outcome.FINISHED.name, Outcome.DIVERGED.name
    assert outcomes == [stable] * 3 + [failed] * 2


@pytest.mark.parametrize("curvature", [0.5, 40.0, 3e3])
def test_a_search_finds_a_rate_that_is_stable_and_fast(curvature):
    """Without noise the fastest constant rate is 1 / h, where one step reaches the bottom."""
    found = search(bowl(curvature), steps=60, schedule="constant")
    assert 0.1 < found.lr * curvature < 2
    assert found.interval[0] < found.lr < found.interval[1]
    failed = found.frame.loc[found.frame["failed"] > 0, "lr"]
    assert (failed > found.lr).all()


@pytest.mark.parametrize("given", [{"low": 0.0}, {"high": np.inf}, {"low": 1.0, "high": 0.1}])
def test_a_sweep_needs_a_span_of_rates(given):
    with pytest.raises(ArgumentError, match=next(iter(given))):
        range_test(bowl(), **given)

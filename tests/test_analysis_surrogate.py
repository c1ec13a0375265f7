"""The belief in a best rate: updates agree with what was trained, whatever the units."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st

from lrtune.analysis.prior import Belief, known_schedules, prior
from lrtune.analysis.surrogate import Surrogate, best_of
from tests.sampling import law

PRIOR = prior("trapezoid", 300)
rates = st.floats(-7.0, 1.0).map(math.exp)
factors = st.floats(1.2, 5.0)


@law(few=10, cases=200, rate=rates, factor=factors)
def test_without_trainings_the_belief_stands(rate, factor):
    fit = Surrogate.fit(Belief.around(rate, factor), PRIOR)
    assert fit.quantile(0.5) == pytest.approx(rate, rel=0.02)
    low, high = fit.interval()
    assert low <= fit.best_rate() <= high
    assert math.log(high / rate) == pytest.approx(math.log(rate / low), rel=0.05)


@law(few=10, cases=200, rate=rates, factor=factors, shift=st.floats(-50.0, 50.0))
def test_the_level_of_the_scores_says_nothing(rate, factor, shift):
    belief, tried = Belief.around(rate, factor), [rate, 2 * rate]
    one = Surrogate.fit(belief, PRIOR, tried, [0.0, 1.0])
    other = Surrogate.fit(belief, PRIOR, tried, [shift, 1.0 + shift])
    assert other.best_rate() == pytest.approx(one.best_rate(), rel=1e-6)


@law(few=10, cases=200, rate=rates, unit=st.floats(1e-3, 1e3))
def test_the_unit_of_the_rate_changes_nothing(rate, unit):
    one = Surrogate.fit(Belief.around(rate, 2.0), PRIOR, [rate, 3 * rate], [0.0, 0.5])
    belief = Belief.around(rate * unit, 2.0)
    other = Surrogate.fit(belief, PRIOR, [rate * unit, 3 * rate * unit], [0.0, 0.5])
    assert other.best_rate() == pytest.approx(one.best_rate() * unit, rel=1e-6)


@law(few=10, cases=200, rate=rates, difference=st.floats(0.1, 3.0))
def test_the_answer_moves_towards_the_better_peak(rate, difference):
    belief, tried = Belief.around(rate, 2.0), [rate / 2, rate * 2]
    lower = Surrogate.fit(belief, PRIOR, tried, [0.0, difference]).best_rate()
    higher = Surrogate.fit(belief, PRIOR, tried, [difference, 0.0]).best_rate()
    assert lower < higher


def test_a_failed_training_moves_the_answer_down():
    belief = Belief.around(0.1, 2.0)
    before = Surrogate.fit(belief, PRIOR).best_rate()
    after = Surrogate.fit(belief, PRIOR, [0.1], [math.inf]).best_rate()
    assert after < before


def test_more_trainings_are_expected_to_gain_less():
    fit = Surrogate.fit(Belief.around(0.1, 2.0), PRIOR)
    gains = [fit.gain(count, 2) for count in (1, 2, 4, 8)]
    assert gains == sorted(gains, reverse=True)
    assert fit.gain(3, 0) == 0.0


def test_the_lowest_of_some_normal_numbers():
    drawn = np.random.default_rng(0).normal(size=(20_000, 5)).min(axis=1).mean()
    assert best_of(5) == pytest.approx(-drawn, abs=0.02)


def test_two_beliefs_weigh_by_their_precision():
    sure, vague = Belief(0.0, 0.1), Belief(1.0, 1.0)
    both = sure.combined(vague)
    assert 0 < both.mean < 0.05
    assert both.sd < 0.1


@pytest.mark.parametrize("steps", [1, 250, 1000, 3300, 10**6])
def test_something_is_known_for_every_length(steps):
    for name in known_schedules(steps):
        known = prior(name, steps)
        assert known.tasks > 0
        assert min(known.noise, known.low, known.high, known.short_spread) > 0
    assert prior("a schedule of my own", steps).tasks == 0

"""Paired differences: what is planted is found, what is equal is not called different."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrtune.analysis.paired import LEVEL, PRIOR, Paired, combined, paired, seeds_needed

NUMBERS = st.floats(-100, 100)
ROWS = st.integers(2, 4).flatmap(
    lambda seeds: st.dictionaries(
        st.sampled_from("abcde"), st.lists(NUMBERS, min_size=seeds, max_size=seeds), min_size=1
    )
)
FINITE = st.floats(-1e3, 1e3)
ERRORS = st.floats(1e-3, 1e3)


def arrays(rows):
    return {name: np.array(row) for name, row in rows.items()}


# --- known answers --------------------------------------------------------------------------------


def test_alone_and_with_nothing_known_the_interval_is_students():
    some = np.array([0.1, 0.4, 0.2])
    (one,) = paired({"a": some}).values()
    low, _ = stats.t.interval(LEVEL, 2, some.mean(), some.std(ddof=1) / math.sqrt(3))
    assert one.mean - one.reach() == pytest.approx(low)


def test_one_seed_says_nothing_unless_something_is_known():
    some = {"a": np.array([0.3])}
    assert paired(some)["a"].reach() == math.inf
    known = paired(some, known={"a": 0.1})["a"]
    assert known.reach() == pytest.approx(float(stats.t.ppf(0.95, PRIOR)) * 0.1)


def test_what_is_known_counts_like_so_many_seeds():
    one = paired({"a": np.array([1.0, 3.0])}, known={"a": 1.0})["a"]
    assert one.spread**2 == pytest.approx((PRIOR * 1.0 + 1 * 2.0) / (PRIOR + 1))
    assert one.free == PRIOR + 1


def test_an_interval_for_several_at_once_is_wider():
    one = Paired(0.0, 1.0, 6.0, 3)
    assert one.reach(1) < one.reach(2) < one.reach(10)
    assert one.reach(0) == one.reach(1)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.1), (9, 0.3)])
def test_so_many_seeds_as_are_needed_show_the_difference(seeds, spread):
    reach = stats.norm.ppf(0.95) * spread / math.sqrt(seeds)
    assert seeds_needed(reach * 1.0001, spread) == seeds


def test_an_estimate_of_infinite_error_counts_nothing_and_an_exact_one_alone():
    assert combined([(1.0, 0.5), (9.0, math.inf)]) == (1.0, 0.5)
    assert combined([(1.0, 0.5), (2.0, 0.0)]) == (2.0, 0.0)
    assert all(map(math.isnan, combined([])))


# --- laws -----------------------------------------------------------------------------------------


@given(ROWS, st.permutations("abcde"))
def test_the_order_of_candidates_is_irrelevant(rows, order):
    one = paired(arrays(rows))
    other = paired({name: np.array(rows[name]) for name in order if name in rows})
    for name in rows:
        assert one[name].spread == pytest.approx(other[name].spread)
        assert one[name].mean == other[name].mean


@given(ROWS, st.floats(-10, 10), st.floats(0.1, 10))
def test_the_unit_of_the_scores_is_irrelevant(rows, shift, factor):
    one = paired(arrays(rows))
    moved = paired({name: factor * row + shift for name, row in arrays(rows).items()})
    for name in rows:
        assert moved[name].spread == pytest.approx(factor * one[name].spread, rel=1e-4, abs=1e-6)
        assert moved[name].mean == pytest.approx(factor * one[name].mean + shift, abs=1e-6)


@given(st.lists(st.tuples(FINITE, ERRORS), min_size=1, max_size=5), FINITE, ERRORS)
def test_another_estimate_never_makes_it_less_certain(parts, mean, error):
    value, spread = combined(parts)
    assert combined([*parts, (mean, error)])[1] <= spread
    assert min(m for m, _ in parts) - 1e-9 <= value <= max(m for m, _ in parts) + 1e-9


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("candidates", "seeds"), [(1, 3), (3, 2), (3, 3)])
def test_intervals_cover_as_often_as_they_say(known, candidates, seeds):
    """The noise of this task differs from what is known as it does among tasks."""
    random = np.random.default_rng(0)
    inside = []
    for _ in range(600):
        noise = math.sqrt(PRIOR / random.chisquare(PRIOR) / 2)
        scores = noise * random.normal(size=(candidates + 1, seeds))
        rows = {str(row): scores[row] - scores[-1] for row in range(candidates)}
        read = paired(rows, dict.fromkeys(rows, 1.0) if known else None)
        inside += [abs(one.mean) <= one.reach() for one in read.values()]
    assert 0.87 <= np.mean(inside) <= 0.94


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_of_equal_candidates_none_is_shown_to_differ_more_often_than_stated(key):
    random = np.random.default_rng(key)
    shown = 0
    for _ in range(100):
        scores = random.normal(size=(4, 3)) / math.sqrt(2)
        rows = {str(row): scores[row] - scores[-1] for row in range(3)}
        shown += any(abs(one.mean) > one.reach(3) for one in paired(rows).values())
    assert shown <= 22  # 10 are meant

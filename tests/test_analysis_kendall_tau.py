"""Kendall's tau of two horizons has known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lrtune.analysis.paired import kendall_tau


def scores(levels, seeds=5, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    values = np.asarray(levels)[:, None] + noise * random.normal(size=(len(levels), seeds))
    return pd.DataFrame(values, columns=range(seed * seeds, (seed + 1) * seeds))


def test_the_same_ranking_is_one_and_its_reverse_minus_one():
    up = scores([1.0, 2.0, 3.0, 4.0])
    assert kendall_tau(up, up * 7 + 3) == (1.0, 1.0, 1.0)
    assert kendall_tau(up, -up) == (-1.0, -1.0, -1.0)


def test_one_swap_among_four_has_its_textbook_value():
    assert kendall_tau(scores([1.0, 2.0, 3.0, 4.0]), scores([2.0, 1.0, 3.0, 4.0]))[
        0
    ] == pytest.approx(2 / 3)


def test_it_is_scipys_tau_b_ties_included():
    random = np.random.default_rng(0)
    for _ in range(30):
        one, other = random.integers(0, 4, 7).astype(float), random.integers(0, 4, 7).astype(float)
        value, *_ = kendall_tau(scores(one), scores(other))
        assert value == pytest.approx(stats.kendalltau(one, other).statistic, nan_ok=True)


def test_rows_are_matched_by_name_and_not_by_place():
    one = scores([1.0, 2.0, 3.0]).set_axis(["a", "b", "c"])
    assert kendall_tau(one, one.loc[["c", "a", "b"]])[0] == 1.0


def test_the_interval_holds_the_value_and_widens_with_the_noise():
    quiet = kendall_tau(scores(range(8), noise=0.1), scores(range(8), noise=0.1, seed=1))
    loud = kendall_tau(scores(range(8), noise=5.0), scores(range(8), noise=5.0, seed=1))
    for value, low, high in (quiet, loud):
        assert low <= value <= high
    assert loud[2] - loud[1] > quiet[2] - quiet[1]
    assert quiet[1] > 0.8


def test_pure_noise_does_not_look_like_agreement():
    lows = [
        kendall_tau(
            scores([0.0] * 8, noise=1.0, seed=2 * k), scores([0.0] * 8, noise=1.0, seed=2 * k + 1)
        )[1]
        for k in range(20)
    ]
    assert np.mean(np.array(lows) > 0) <= 0.15


def test_a_failed_candidate_ranks_last():
    one = scores([1.0, 2.0, 3.0])
    other = one.copy()
    other.iloc[2] = np.nan
    assert kendall_tau(one, other)[0] == 1.0


def test_two_candidates_have_no_ranking_to_speak_of():
    assert all(np.isnan(kendall_tau(scores([1.0, 2.0]), scores([1.0, 2.0]))))

"""Paired comparison: what is planted is found, what is equal is tied."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune.analysis.paired import LEVEL, compare_paired

RATES = [0.001, 0.01, 0.1, 1.0]
DYADIC = st.integers(-(2**20), 2**20).map(lambda whole: whole / 1024)  # sums of them are exact


@st.composite
def tables(draw):
    """Scores of one to five candidates with one to four seeds."""
    candidates, seeds = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    row = st.lists(DYADIC, min_size=seeds, max_size=seeds)
    rows = draw(st.lists(row, min_size=candidates, max_size=candidates))
    return pd.DataFrame(rows, index=np.geomspace(0.001, 1, candidates))


def table(*rows, index=None):
    return pd.DataFrame(list(rows), index=RATES[: len(rows)] if index is None else index)


def drawn(candidates, seeds, seed):
    """Equal candidates; the seeds differ by ten times as much as the runs."""
    random = np.random.default_rng(seed)
    scores = 10 * random.normal(size=seeds) + random.normal(size=(candidates, seeds))
    return pd.DataFrame(scores, index=np.geomspace(0.001, 1, candidates))


# --- known answers --------------------------------------------------------------------------------


def test_the_leader_has_the_lowest_mean_and_the_others_their_differences_to_it():
    standing = compare_paired(table([3.0, 5.0, 4.0], [1.0, 3.0, 2.0], [1.5, 3.5, 2.5]))
    assert standing.leader == 0.01
    assert standing.frame["mean"].tolist() == [4.0, 2.0, 2.5]
    assert standing.frame["difference"].tolist() == [2.0, 0.0, 0.5]
    assert standing.frame["tied"].tolist() == [False, True, False], "the differences do not scatter"


def test_a_difference_that_scatters_around_zero_is_a_tie():
    standing = compare_paired(table([1.0, 2.0, 3.0], [1.5, 1.6, 3.0], [9.0, 9.9, 11.2]))
    assert standing.leader == 0.001
    assert standing.frame["tied"].tolist() == [True, True, False]
    low, high = standing.frame.loc[0.01, ["low", "high"]]
    assert low < 0 < high


def test_equal_candidates_are_all_tied():
    frame = compare_paired(table(*[[1.0, 2.0]] * 4)).frame
    assert frame["tied"].all()
    assert (frame[["difference", "low", "high"]] == 0).all(axis=None)


def test_with_one_seed_only_equal_scores_are_tied():
    frame = compare_paired(table([1.0], [1.0], [1.0 + 1e-9])).frame
    assert frame["tied"].tolist() == [True, True, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_candidate_that_failed_in_any_seed_is_out(bad):
    scores = table([bad, 0.0, 0.0], [5.0, 5.1, 5.2], [5.3, 5.0, 5.1])
    standing = compare_paired(scores)
    assert standing.leader in RATES[1:3]
    assert list(standing.frame.index) == RATES[:3]
    assert standing.frame.loc[0.001].drop("tied").isna().all()
    assert standing.frame["tied"].tolist() == [False, True, True]
    alone = compare_paired(scores.iloc[1:]).frame
    pd.testing.assert_frame_equal(standing.frame.iloc[1:], alone)


def test_when_all_failed_nobody_leads():
    assert compare_paired(table([np.nan, 1.0], [2.0, np.inf])) is None


# --- laws -----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(scores=tables(), level=st.floats(0.5, 0.99))
def test_an_interval_holds_its_difference_and_a_tie_is_an_interval_that_holds_zero(scores, level):
    standing = compare_paired(scores, level)
    frame = standing.frame
    assert (frame["low"] <= frame["difference"]).all()
    assert (frame["difference"] <= frame["high"]).all()
    assert (frame["difference"] >= 0).all()
    assert frame["tied"].equals(frame["low"] <= 0)
    assert frame.loc[standing.leader, "tied"]
    assert frame["mean"].idxmin() == standing.leader


@settings(max_examples=40)
@given(scores=tables(), block=st.lists(DYADIC, min_size=4, max_size=4))
def test_what_a_seed_does_to_all_alike_changes_no_tie(scores, block):
    """That is the point of pairs: a hard seed is hard for everyone."""
    one, other = compare_paired(scores), compare_paired(scores + block[: scores.shape[1]])
    columns = ["difference", "low", "high", "tied"]
    pd.testing.assert_frame_equal(one.frame[columns], other.frame[columns])


@settings(max_examples=40)
@given(scores=tables(), by=st.integers(-20, 20))
def test_the_unit_of_the_score_changes_no_tie(scores, by):
    one, other = compare_paired(scores).frame, compare_paired(2.0**by * scores).frame
    assert one["tied"].equals(other["tied"])
    assert (one["low"] * 2.0**by).to_numpy() == pytest.approx(other["low"].to_numpy())


@settings(max_examples=40)
@given(scores=tables(), data=st.data())
def test_the_order_of_candidates_and_seeds_does_not_matter(scores, data):
    rows = data.draw(st.permutations(list(scores.index)))
    columns = data.draw(st.permutations(list(scores.columns)))
    one, other = compare_paired(scores), compare_paired(scores.loc[rows, columns])
    if scores.mean(axis=1).is_unique:
        assert one.leader == other.leader
        pd.testing.assert_frame_equal(one.frame, other.frame.loc[scores.index])


def test_more_certainty_needs_a_wider_interval():
    scores = drawn(6, 4, seed=3)
    widths = [
        (
            compare_paired(scores, level, family=family)
            .frame.eval("high - low")
            .drop(compare_paired(scores).leader)
        )
        for level, family in ((0.5, False), (LEVEL, False), (0.99, False), (0.99, True))
    ]
    for narrow, wide in pairwise(widths):
        assert (narrow < wide).all()


# --- what it finds --------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_candidate_that_is_clearly_better_is_found(seeds):
    found = 0
    for seed in range(40):
        scores = drawn(6, seeds, seed)
        scores.iloc[2] -= 5
        standing = compare_paired(scores)
        found += standing.leader == scores.index[2] and standing.frame["tied"].sum() == 1
    assert found >= 38


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_two_equal_candidates_tie_about_as_often_as_stated(seeds):
    """A few per cent less, as the best is chosen from the same scores."""
    tied = [compare_paired(drawn(2, seeds, seed)).frame["tied"].all() for seed in range(300)]
    assert LEVEL - 0.09 < np.mean(tied) < LEVEL + 0.05


def test_among_equal_candidates_a_single_winner_is_hardly_ever_named():
    winners = [
        compare_paired(drawn(12, 3, s), family=True).frame["tied"].sum() == 1 for s in range(60)
    ]
    assert sum(winners) <= 3

"""Synchronous halving, stated as laws."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lrtune.analysis.paired import survivors

CANDIDATES = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 30)),
    st.floats(allow_nan=True, allow_infinity=True),
    min_size=1,
)
ETA = st.sampled_from([1.5, 2.0, 3.0, 4.0])


def by_group(scores):
    return {candidate: candidate[0] for candidate in scores}


@given(CANDIDATES, ETA)
def test_exactly_the_stated_share_survives(scores, eta):
    groups = len({candidate[0] for candidate in scores})
    expected = max(math.ceil(len(scores) / eta), groups)
    assert len(survivors(scores, by_group(scores), eta)) == expected


@given(CANDIDATES, ETA, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(scores, eta, random):
    shuffled = list(scores.items())
    random.shuffle(shuffled)
    assert survivors(scores, by_group(scores), eta) == survivors(
        dict(shuffled), by_group(scores), eta
    )


@given(CANDIDATES, ETA)
def test_the_best_of_every_group_goes_on(scores, eta):
    kept = survivors(scores, by_group(scores), eta)
    for group in {candidate[0] for candidate in scores}:
        mine = {c: s if math.isfinite(s) else math.inf for c, s in scores.items() if c[0] == group}
        assert any(mine[one] == min(mine.values()) for one in kept if one[0] == group)


@given(CANDIDATES, ETA)
def test_within_a_group_none_goes_on_before_a_better_one(scores, eta):
    kept = survivors(scores, by_group(scores), eta)
    for out in set(scores) - kept:
        for one in kept:
            if one[0] == out[0] and math.isfinite(scores[out]):
                assert scores[one] <= scores[out]

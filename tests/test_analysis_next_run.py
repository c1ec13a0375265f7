"""The interval of one more training holds it as often as it says."""

import numpy as np
import pytest

from lrtune.analysis.next_run import WEIGHT, next_score, usual_spread


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_nine_of_ten_scores_lie_inside_where_tasks_differ_in_their_scatter(count):
    random = np.random.default_rng(count)
    spreads = 0.3 * np.sqrt(WEIGHT / random.chisquare(WEIGHT, 4000))
    inside = []
    for spread in spreads:
        *scores, last = random.normal(5.0, spread, count + 1)
        middle, reach = next_score(scores, 0.3)
        inside.append(abs(last - middle) <= reach)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_it_moves_and_grows_with_the_scores():
    middle, reach = next_score([1.0, 1.2], 0.1)
    assert next_score([3.0, 3.2], 0.1) == pytest.approx((middle + 2, reach))
    assert next_score([10.0, 12.0], 1.0) == pytest.approx((10 * middle, 10 * reach))


def test_more_scores_that_agree_make_it_narrower_and_what_they_share_wider():
    reaches = [next_score([1.0] * count, 0.1)[1] for count in (1, 2, 3, 9)]
    assert reaches == sorted(reaches, reverse=True)
    assert next_score([1.0], 0.1, shared=0.1)[1] > reaches[0]


def test_few_samples_scatter_more():
    assert usual_spread(0.1, 0.0) < usual_spread(0.1, 0.3) < usual_spread(0.1, 0.6)

"""Rules that read a sweep: always an answer, free of units, in place where the answer is known."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune import range_test
from lrtune.analysis.sweep_rules import (
    BAND,
    FEW,
    HUGE,
    RULES,
    Suggestion,
    ensemble,
    read_sweep,
    suggest,
)
from lrtune.errors import ArgumentError
from lrtune.testing import bowl

NUMBER = st.one_of(
    st.floats(-10, 10),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 1e99, 5e-324]),
)
LOSSES = st.one_of(
    st.lists(NUMBER, max_size=40),
    st.lists(NUMBER, max_size=40).map(sorted),
    st.builds(lambda value, count: [value] * count, NUMBER, st.integers(0, 30)),
)
POWERS = st.integers(-60, 60).map(lambda power: 2.0**power)


def rates(count, low=1e-6, high=10.0):
    return np.geomspace(low, high, max(count, 1))


@functools.cache
def recorded(seed, noise=0.03):
    """A sweep of a bowl: rates, losses, the untrained model's losses."""
    frame = range_test(bowl(60.0, noise), steps=100, seeds=1, seed=seed).frame
    return tuple(frame[name].to_numpy() for name in ("lr", "loss", "untrained"))


# --- always an answer -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=250)
@given(losses=LOSSES, control=st.booleans())
def test_every_curve_gets_a_finite_rate_and_a_reason(rule, losses, control):
    lr = rates(len(losses))
    untrained = (losses[::-1] if losses else [1.0]) if control else None
    one = suggest(rule, lr, losses or [np.nan], untrained)
    assert np.isfinite(one.lr)
    assert one.lr > 0
    assert one.rule == rule
    assert one.interval == (one.lr, one.lr)
    assert len(one.because) > 20
    sweep = read_sweep(lr, losses or [np.nan], untrained)
    if sweep is None:
        assert one.lr == lr[0] / 10
        assert "sweep lower rates" in one.because
    else:
        edge = sweep.lr[sweep.edge]
        assert edge * BAND[0] * 0.999 <= one.lr <= edge * BAND[1] * 1.001
        assert np.isfinite(sweep.lr).all()
        assert len(sweep.curve) == len(sweep.slope) == len(sweep.decades) == len(sweep.lr)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", range(4))
def test_a_few_points_get_a_rate_below_the_first(rule, count):
    one = suggest(rule, rates(3), [1.0] * count)
    assert one.lr == pytest.approx(1e-7)


def test_without_rates_there_is_nothing_to_say():
    with pytest.raises(ArgumentError, match="at least one rate, got none"):
        suggest("valley", [], [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2 * HUGE])
def test_what_comes_after_the_first_loss_that_is_no_number_does_not_matter(bad):
    lr, loss, _ = recorded(0)
    for end in (FEW - 1, FEW, 40):
        cut, other = loss.copy(), loss.copy()
        cut[end:], other[end:] = bad, -1e6
        other[end] = bad
        for rule in RULES:
            assert suggest(rule, lr, cut) == suggest(rule, lr, other)
        sweep = read_sweep(lr, cut)
        assert (sweep is None) == (end < FEW)
        assert sweep is None or len(sweep.lr) <= end


def unfallen(loss, rule="valley"):
    return "never fell clear of its noise" in suggest(rule, rates(len(loss)), loss).because


@pytest.mark.parametrize("rule", RULES)
def test_a_curve_that_never_falls_is_said_to_be_one(rule):
    assert unfallen(np.full(100, 2.3), rule)
    assert not unfallen(hill(rates(100)), rule)
    noises = (np.random.default_rng(seed).standard_normal(200) for seed in range(40))
    assert sum(unfallen(2.3 + 0.01 * noise, rule) for noise in noises) >= 38


# --- known answers --------------------------------------------------------------------------------


def hill(lr, bite=0.02, edge=0.5):
    """Falls around the rate `bite`, and rises by a fifth of its fall near `edge`."""
    return 2.3 - 2 / (1 + (bite / lr) ** 2) + 0.4 * (lr / edge) ** 4


@pytest.mark.parametrize("edge", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_rules_answer_in_place(edge, noise):
    lr = rates(200, 1e-5)
    loss = hill(lr, edge / 25, edge) + noise * np.random.default_rng(1).standard_normal(200)
    bottom = lr[hill(lr, edge / 25, edge).argmin()]
    answers = {rule: suggest(rule, lr, loss).lr for rule in RULES}
    assert 0.9 * bottom < 10 * answers["minimum/10"] < 1.1 * edge
    assert answers["last stable"] == pytest.approx(2 * answers["minimum/10"])
    assert all(bottom / 12 < answer < edge / 3 for answer in answers.values())


@pytest.mark.parametrize("rule", RULES)
def test_a_longer_sweep_gives_the_same_answer(rule):
    """Of the same curve; where it begins and how many steps it has does not matter much."""
    answers = [
        suggest(rule, lr, hill(lr)).lr
        for lr in (rates(100, 1e-5), rates(400, 1e-5), rates(200, 1e-7), rates(150, 1e-4, 3.0))
    ]
    assert max(answers) / min(answers) < 1.35


@pytest.mark.parametrize("rule", RULES)
def test_a_mountain_twice_as_far_right_is_answered_twice_as_far_right(rule):
    lr = rates(141)
    step = lr[1] / lr[0]
    here, there = (suggest(rule, lr, hill(lr, 0.001 * by, 0.05 * by)).lr for by in (1, step**12))
    assert there / here == pytest.approx(step**12)


# --- no units -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("controlled", [True, False])
@settings(max_examples=25)
@given(seed=st.integers(0, 4), scale=POWERS, shift=st.integers(-64, 64))
def test_a_multiple_of_the_loss_plus_a_constant_changes_no_answer(
    rule, controlled, seed, scale, shift
):
    lr, loss, untrained = recorded(seed)
    control = untrained if controlled else None
    moved = None if control is None else scale * (control + shift)
    one, other = suggest(rule, lr, loss, control), suggest(rule, lr, scale * (loss + shift), moved)
    assert other.lr == pytest.approx(one.lr, rel=1e-6)
    sweeps = read_sweep(lr, loss, control), read_sweep(lr, scale * (loss + shift), moved)
    assert sweeps[0].edge == sweeps[1].edge
    assert len(sweeps[0].lr) == len(sweeps[1].lr)
    assert sweeps[0].falls == sweeps[1].falls


@pytest.mark.parametrize("rule", RULES)
def test_the_unit_of_the_rate_does_not_matter(rule):
    lr, loss, untrained = recorded(1)
    one, other = (suggest(rule, by * lr, loss, untrained).lr for by in (1.0, 1000.0))
    assert other / one == pytest.approx(1000)


# --- the ensemble ---------------------------------------------------------------------------------


def said(*given_rates):
    return [Suggestion(rate, "rule", "because", (rate, rate)) for rate in given_rates]


def test_each_rule_speaks_once_with_its_median():
    one = ensemble({"a": said(0.01, 0.1, 100.0), "b": said(0.001, 0.001, 0.001)})
    assert one.lr == pytest.approx(0.01)
    assert one.rule == "ensemble"
    assert "2 rules over 3 seeds" in one.because


@given(
    st.dictionaries(
        st.sampled_from(sorted(RULES)),
        st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=5),
        min_size=1,
    )
)
def test_the_ensemble_lies_among_the_rules_and_in_its_interval(given_rates):
    one = ensemble({rule: said(*each) for rule, each in given_rates.items()})
    everything = [rate for each in given_rates.values() for rate in each]
    low, high = one.interval
    assert min(everything) * 0.999 <= low <= one.lr <= high <= max(everything) * 1.001


@pytest.mark.parametrize(
    ("apart", "told"), [(2.0, "agree within"), (4.0, "disagree by a factor of 4")]
)
def test_more_than_half_a_decade_of_disagreement_is_said(apart, told):
    assert told in ensemble({"a": said(0.01), "b": said(0.01 * apart)}).because

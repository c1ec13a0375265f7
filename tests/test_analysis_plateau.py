"""How low a loss is early, and where it stops: laws, and curves with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune.analysis.plateau import early_level, plateau

FINITE = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)
SHARES = st.floats(0.01, 1)


def noisy(curve, spread, seed=0, correlation=0.0):
    """The curve with noise of a standard deviation, autocorrelated from step to step."""
    draws = np.random.default_rng(seed).normal(size=len(curve))
    for step in range(1, len(draws)):
        fresh = np.sqrt(1 - correlation**2) * draws[step]
        draws[step] = correlation * draws[step - 1] + fresh
    return curve + spread * draws


def decay(steps, time, floor=0.0):
    """An exponential fall from floor + 1 to the floor."""
    return floor + np.exp(-np.arange(steps) / time)


def two_levels(steps, at, time=8):
    """A fall from 2 to 1, and at a step another one to 0.5; the rates that would do it."""
    step = np.arange(steps)
    second = 0.5 + 0.5 * np.exp(-np.maximum(step - at, 0) / time)
    return decay(steps, time) + second, np.where(step < at, 0.1, 0.01)


def curves():
    """Curves of all kinds, on a grid of 2^-20, so that dyadic scales and shifts are exact."""

    def build(kind, steps, spread, seed):
        progress = np.arange(steps) / steps
        shapes = {
            "constant": 0 * progress,
            "linear": -progress,
            "exponential": np.exp(-progress / 0.05),
            "two levels": two_levels(steps, int(0.6 * steps), 0.03 * steps)[0],
            "power": (1 + progress * steps) ** -0.5,
            "rise": progress**2,
        }
        return np.round(noisy(shapes[kind], spread, seed) * 2**20) / 2**20

    kinds = ["constant", "linear", "exponential", "two levels", "power", "rise"]
    spreads = st.sampled_from([0.0, 0.01, 0.1, 1.0])
    return st.builds(
        build, st.sampled_from(kinds), st.integers(10, 300), spreads, st.integers(0, 99)
    )


# The early level


@pytest.mark.parametrize(("share", "first"), [(0.25, 25), (0.07, 7), (0.5, 50), (1.0, 100)])
def test_of_a_straight_line_it_is_the_middle_of_the_part(share, first):
    line = 3 * (1 - np.arange(100) / 100)
    assert early_level(line, share) == pytest.approx(3 * (1 - (first - 1) / 200))


@pytest.mark.parametrize(
    ("losses", "answer"),
    [([2.0] * 8, 2.0), ([2.0, 1.0, 1.0, 1.0], 1.25), ([-1.0, 0.0, 0.0, 0.0], -0.25), ([7.0], 7.0)],
)
def test_it_is_the_mean_over_the_part(losses, answer):
    assert early_level(losses, share=1.0) == pytest.approx(answer)


@given(FINITE, SHARES, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_a_factor_and_a_constant_move_it_as_they_move_the_losses(losses, share, factor, shift):
    moved = early_level(factor * np.array(losses) + shift, share)
    assert moved == pytest.approx(factor * early_level(losses, share) + shift, rel=1e-6, abs=1e-6)


@given(FINITE, SHARES, st.data())
def test_a_lower_curve_never_gets_more(losses, share, data):
    drops = data.draw(st.lists(st.floats(0, 10), min_size=len(losses), max_size=len(losses)))
    lower = np.array(losses) - np.array(drops)
    assert early_level(lower, share) <= early_level(losses, share) + 1e-9


@given(FINITE, st.lists(st.floats(), min_size=30, max_size=60))
def test_what_comes_after_the_part_changes_nothing(losses, rest):
    steps = len(losses) + len(rest)
    share = len(losses) / steps
    assert early_level([*losses, *rest], share) == early_level(losses, 1.0)


@given(FINITE, st.integers(0, 59), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_nothing_is_worse_than_a_loss_that_is_not_finite(losses, where, value):
    worst = early_level([*losses[:where], value, *losses[where:]], share=1.0)
    assert worst == np.inf > early_level(losses, share=1.0)


def test_a_run_that_ended_within_the_part_is_as_bad_and_one_that_ended_later_is_not():
    losses = [2.0, 1.0, 1.0, 1.0]
    assert early_level(losses, share=0.25, steps=17) == np.inf
    assert early_level(losses, share=0.25, steps=16) == early_level(losses, share=1.0)
    assert early_level([]) == np.inf


def test_two_spikes_in_a_row_change_nothing():
    losses = np.full(40, 1.0)
    losses[:2] = 2.0
    calm = early_level(losses)
    losses[5:7] = 1e9
    assert early_level(losses) == calm


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, np.nan])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        early_level([1.0], share)


# Plateaus of curves with known answers


@pytest.mark.parametrize("steps", [100, 400, 10_000])
def test_a_fall_to_a_floor_ends_where_a_hundredth_of_it_is_left(steps):
    time = steps / 25
    found = plateau(decay(steps, time, floor=-3.0))
    assert 4 * time < found.onset < 7.5 * time  # exp(-4) = 0.018, exp(-7.5) = 0.0006
    assert found.end == steps
    assert found.level == pytest.approx(-3.0, abs=0.002)
    assert found.noise < 0.002
    assert found.released is None


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_noise_moves_the_onset_by_little(spread, correlation):
    for seed in range(10):
        found = plateau(noisy(decay(400, 16, floor=1.0), spread, seed, correlation))
        assert 1.5 * 16 < found.onset < 7.5 * 16
        assert found.end > 0.85 * 400
        assert found.level == pytest.approx(1.0, abs=0.6 * spread)
        assert found.noise == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_a_plateau_in_the_middle_that_a_decay_releases(spread):
    for seed in range(10):
        losses, rates = two_levels(400, at=240)
        losses = noisy(losses, spread, seed)
        found = plateau(losses, rates)
        assert 12 < found.onset < 60
        assert 220 <= found.end <= 250
        assert found.level == pytest.approx(1.0, abs=0.03)
        assert found.released is True
        assert plateau(losses).released is True
        assert plateau(losses, np.full(400, 0.1)).released is False


def test_of_two_plateaus_the_first_is_told():
    losses, _ = two_levels(400, at=140)  # the second one is longer
    assert plateau(noisy(losses, 0.01)).end == pytest.approx(140, abs=9)


def test_a_loss_that_rises_after_the_plateau_was_not_released():
    losses, rates = two_levels(400, at=240)
    found = plateau(noisy(2 * decay(400, 8) + 1.5 - losses, 0.01), rates)  # 2, 1, then up to 1.5
    assert found.end == pytest.approx(240, abs=9)
    assert found.released is False


def test_where_the_rate_halves_a_release_shows_that_the_noise_would_hide():
    quiet = 0.01 * np.cos(np.arange(120) ** 2) - 0.42
    rates = np.where(np.arange(1200) < 1080, 0.1, 0.01)
    ends = {"with": [], "without": []}
    for seed in range(10):
        wild = noisy(decay(1080, 20), 0.4, seed, correlation=0.95)
        losses = np.concatenate([wild, quiet])
        ends["with"] += [found.end for found in [plateau(losses, rates)] if found]
        ends["without"] += [found.end for found in [plateau(losses)] if found]
    assert ends["with"].count(1080) >= 6
    assert ends["without"].count(1080) <= 1


def test_a_wild_plateau_is_told_before_the_quiet_one_that_follows():
    quiet = 0.01 * np.cos(np.arange(720) ** 2) - 0.4
    rates = np.where(np.arange(1200) < 480, 0.1, 0.01)
    found = [
        plateau(np.concatenate([noisy(decay(480, 20), 0.2, seed, 0.97), quiet]), rates)
        for seed in range(12)
    ]
    assert sum(each.released is True and 350 <= each.end <= 480 for each in found if each) >= 8


def test_a_release_is_forgiven_two_inverted_pairs_of_32():
    losses, rates = two_levels(400, at=240)
    assert plateau(noisy(losses, 0.4, seed=7, correlation=0.8), rates).released is True


@pytest.mark.parametrize("left", [4, 10, 26])  # 26: it ends a cell early, and a cell is left out
def test_with_too_little_after_it_nothing_is_said_of_a_release(left):
    losses, rates = two_levels(400, at=400 - left)
    assert plateau(noisy(losses, 0.01), rates).released is None


@pytest.mark.parametrize("spread", [0.0, 0.05])  # without noise it creeps on, by next to nothing
def test_a_decay_that_changes_nothing_ends_no_plateau(spread):
    for seed in range(10):
        losses = noisy(decay(400, 10), spread, seed)
        found = plateau(losses, np.where(np.arange(400) < 240, 0.1, 0.01))
        assert found == plateau(losses)


@pytest.mark.parametrize("steps", [40, 400, 2000])
@pytest.mark.parametrize(
    "shape",
    [
        lambda p: 1 - p,
        lambda p: (1 - p) ** 2,
        lambda p: 1 + np.cos(np.pi * p),
        lambda p: np.exp(-2 * p),
        lambda p: (1 + 400 * p) ** -0.5,
        lambda p: (1 + 400 * p) ** -0.3,
        lambda p: 1 / (1 + np.exp((p - 0.7) / 0.08)),
        lambda p: p,
        lambda p: np.abs(p - 0.5),
    ],
    ids=["line", "square", "cosine", "slow", "power 1/2", "power 0.3", "late", "rise", "vee"],
)
def test_no_plateau_without_noise(shape, steps):
    assert plateau(shape(np.arange(steps) / steps)) is None


@pytest.mark.parametrize(("share", "seen"), [(0.12, False), (0.17, False), (0.25, True)])
def test_a_ledge_in_a_steady_fall_is_a_plateau_from_a_fifth_of_the_run_on(share, seen):
    progress = np.arange(400) / 400
    ledge = -np.minimum(progress, 0.4) - np.maximum(progress - 0.4 - share, 0)
    for seed in range(6):
        assert (plateau(noisy(ledge, 0.002, seed)) is not None) == seen


def test_what_is_trimmed_below_its_least_length_is_no_plateau():
    law = (1 + np.arange(400) / 4) ** -0.4
    found = plateau(noisy(law, 0.05, seed=4))
    assert found.end - found.onset >= 0.15 * 400


def test_a_fall_that_takes_most_of_the_run_is_not_taken_for_noise():
    found = [plateau(noisy(decay(400, 100), 0.03, seed)) for seed in range(12)]
    assert sum(each is not None and each.onset > 200 for each in found) >= 7


@pytest.mark.parametrize("steps", [40, 400])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_noise_on_a_line_seldom_makes_a_plateau(steps, correlation):
    line = 1 - np.arange(steps) / steps
    made = [plateau(noisy(line, 0.1, seed, correlation)) for seed in range(40)]
    assert sum(each is not None for each in made) <= 2


def test_a_power_law_stands_where_its_fall_drowns_in_noise():
    law = (1 + np.arange(1000.0)) ** -0.5
    found = plateau(noisy(law, 0.1))
    assert law[found.onset] - law[found.end - 1] < 4 * 0.1  # hidden in single steps
    assert found.slope_interval[0] < (law[found.end - 1] - law[found.onset]) / 900


@pytest.mark.parametrize("steps", [40, 200, 1000])
@pytest.mark.parametrize("spread", [0.0, 1e-9, 5.0])
def test_a_loss_that_never_falls_is_a_plateau_from_the_start(steps, spread):
    found = [plateau(noisy(np.full(steps, -2.0), spread, seed)) for seed in range(20)]
    spans = [(each.onset, each.end) for each in found if each]
    assert spans.count((0, steps)) >= 18
    assert found[0].released is None


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("flat", [240, 300])
def test_a_loss_that_never_fell_but_climbs_does_not_stay(flat, spread):
    for seed in range(10):
        found = plateau(noisy(np.maximum(np.arange(400.0) - flat, 0), spread, seed))
        assert found is None or found.end < 350


def test_ten_losses_can_be_enough():
    found = [plateau(noisy(np.full(10, -2.0), 1.0, seed)) for seed in range(20)]
    assert sum(each is not None and (each.onset, each.end) == (0, 10) for each in found) >= 10


def test_a_spike_on_the_plateau_moves_its_edges_by_a_cell_at_most():
    losses = noisy(decay(300, 10), 0.05)
    calm = plateau(losses)
    losses[200] = 1e6
    spiked = plateau(losses)
    assert spiked.onset == pytest.approx(calm.onset, abs=7)
    assert spiked.end == pytest.approx(calm.end, abs=7)
    assert spiked.level == pytest.approx(calm.level, abs=0.01)
    assert spiked.noise == pytest.approx(calm.noise, rel=0.3)


@pytest.mark.parametrize("height", [10.0, 1e30, 1e150])
def test_a_curve_that_diverges_has_its_plateau_before(height):
    losses = noisy(decay(400, 10), 0.05)
    losses[300:] = height * np.arange(1, 101)
    found = plateau(losses)
    assert 10 < found.onset < 60
    assert found.end == pytest.approx(300, abs=9)
    assert found.level == pytest.approx(0, abs=0.05)
    assert found.released is False


# Laws of every plateau


@settings(max_examples=150)
@given(curves(), st.integers(-8, 8), st.integers(-1000, 1000))
def test_scale_and_shift_change_no_step_and_no_verdict(losses, power, shift):
    scale = 2.0**power
    found, moved = plateau(losses), plateau(scale * losses + shift)
    assert (found is None) == (moved is None)
    if found:
        assert (moved.onset, moved.end, moved.released) == (found.onset, found.end, found.released)
        assert moved.level == pytest.approx(scale * found.level + shift, abs=1e-9)
        assert moved.noise == pytest.approx(scale * found.noise, abs=1e-9)
        assert moved.slope == pytest.approx(scale * found.slope)
        assert moved.slope_interval == pytest.approx(tuple(scale * np.array(found.slope_interval)))


def test_rates_after_the_finite_prefix_do_not_count():
    losses, rates = two_levels(400, at=240)
    losses = noisy(losses, 0.01)
    junk = np.full(50, np.nan), np.full(50, 100.0)
    found = plateau(np.append(losses, junk[0]), np.append(rates, junk[1]))
    assert found == plateau(losses, rates)
    assert found.released is True


def test_a_start_that_stands_still_before_the_fall_is_none():
    assert plateau(-np.maximum(np.arange(400.0) - 300, 0)) is None


@pytest.mark.parametrize("steps", [50, 60])
@pytest.mark.parametrize("left", range(3, 9))
def test_a_tail_of_few_steps_divides_by_nothing(steps, left):
    losses = two_levels(steps, at=steps - left, time=2)[0]
    found = plateau(noisy(losses, 0.01))
    assert found.released is None or steps - found.end >= 5


def test_a_tail_of_three_steps_is_too_short_to_be_read():
    losses = np.round(noisy(np.exp(-np.arange(66) / 66 / 0.05), 0.1, 66) * 2**20) / 2**20
    found = plateau(losses)
    assert (found.end, found.released) == (62, None)


@settings(max_examples=150)
@given(curves(), st.sampled_from([np.nan, np.inf, -np.inf]), FINITE)
def test_only_the_finite_prefix_counts(losses, value, rest):
    assert plateau([*losses, value, *rest]) == plateau(losses)


@settings(max_examples=150)
@given(curves(), st.booleans())
def test_a_plateau_is_a_stretch_of_the_curve(losses, decays):
    rates = np.where(np.arange(len(losses)) < len(losses) / 2, 0.1, 0.01 if decays else 0.1)
    found = plateau(losses, rates)
    if found:
        inside = losses[found.onset : found.end]
        assert 0 <= found.onset < found.end <= len(losses)
        assert len(inside) >= max(8, 0.15 * len(losses))
        assert inside.min() - 1e-9 <= found.level <= inside.max() + 1e-9
        assert found.noise <= inside.std(ddof=1) + 1e-9  # less, if spikes were bounded
        assert found.slope_interval[0] <= found.slope <= found.slope_interval[1]
        assert found.released is not True or decays


@pytest.mark.parametrize("seed", range(5))
def test_level_and_noise_are_those_of_the_stretch(seed):
    losses = noisy(decay(400, 10, floor=2.0), 0.1, seed) + 1e-3 * np.arange(400) % 0.05
    found = plateau(losses)
    inside = losses[found.onset : found.end]
    assert found.level == pytest.approx(inside.mean(), abs=1e-12)
    assert found.noise == pytest.approx(inside.std(ddof=1), abs=1e-12)


@given(st.lists(st.floats(), max_size=9))
def test_nothing_is_read_from_fewer_than_ten_losses(losses):
    assert plateau(losses) is None
    assert plateau([*losses, np.nan, *[1.0] * 50]) is None


@settings(max_examples=200)
@given(st.lists(st.floats(-1e9, 1e9), min_size=10, max_size=80))
def test_whatever_the_losses_are_no_warning_and_no_error(losses):
    found = plateau(losses, np.ones(len(losses)))
    assert found is None or np.isfinite([found.level, found.noise, *found.slope_interval]).all()


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_the_interval_of_the_slope_holds_the_slope_as_often_as_it_says(correlation):
    held = []
    for seed in range(100):
        found = plateau(noisy(np.zeros(400), 1.0, seed, correlation))
        held += [found.slope_interval[0] <= 0 <= found.slope_interval[1]] if found else []
    assert len(held) >= 90
    assert 0.8 <= np.mean(held) <= 0.99


def test_there_must_be_as_many_rates_as_losses():
    with pytest.raises(ValueError, match="as many as losses: 20, got 19"):
        plateau(np.zeros(20), np.zeros(19))

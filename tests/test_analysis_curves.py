"""Curves with known answers: divergence, smoothing, noise, levels."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lrtune.analysis.curves import WINDOW, Outcome, diverged_at, end_level, noise, smooth

ANY = st.one_of(
    st.floats(-10, 10),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324]),
)
CURVES = st.lists(ANY, max_size=40)
POWERS = st.integers(-40, 40).map(lambda power: 2.0**power)


def noisy(level, sigma, seed=0):
    return np.asarray(level) + sigma * np.random.default_rng(seed).standard_normal(len(level))


# --- diverged_at ----------------------------------------------------------------------------------

FALLING = np.linspace(2, 0.5, 30)
GOLDEN = {
    "falls": (FALLING, None),
    "constant": ([1.0] * 50, None),
    "empty": ([], None),
    "short": ([1.0, 1.0, 9.0, 9.0], None),
    "just long enough": ([1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0, 9.0], 7),
    "calm by chance": ([2.257, 2.299, 2.303, 2.333, 2.332, 2.334], None),
    "one spike": ([2, 1, 0.5, 0.4, 0.3, 0.3, 900, 0.3, 0.3, 0.3], None),
    "two spikes": ([2, 1, 0.5, 0.4, 0.3, 900, 0.3, 900, 0.3, 0.3], None),
    "stays up": ([2, 1, 0.5, 0.4, 0.3, 0.3, 9, 9, 9, 9], 8),
    "up, but below the start": ([2, 1, 0.5, 0.4, 0.3, 0.3, 1.5, 1.5, 1.5, 1.5, 1.5], None),
    "rises at once": ([1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11], 8),
    "to infinity": ([2, 1, 0.5, 0.4, 0.3, np.inf, np.inf, np.inf], None),
    "to nan": ([2, 1, 0.5, np.nan, 900, 900, 900, 900, 900, 900], None),
    "negative losses": ([-2, -3, -3.5, -3.6, -3.7, -3.7, 5, 5, 5, 5], 8),
    "below zero it falls": (-np.geomspace(1, 1000, 40), None),
    "catapult": (np.concatenate([noisy([2.3] * 9, 0.1), [2.8, 3.4, 3.1, 2.6], FALLING]), None),
    "learned nothing, creeps up": (noisy(np.linspace(2.3, 2.5, 60), 0.1), None),
    "learned, then lost it all": (
        np.concatenate([noisy(FALLING, 0.05), noisy([2.6] * 10, 0.05, 1)]),
        32,
    ),
    "learned, then half of it": (
        np.concatenate([noisy(FALLING, 0.05), noisy([1.2] * 30, 0.05, 1)]),
        None,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_divergence_is_seen_where_it_is(name):
    losses, expected = GOLDEN[name]
    assert diverged_at(losses) == expected


@settings(max_examples=300)
@given(losses=CURVES)
@example(losses=[2.0, 1.0, 0.5, 0.4, 0.3, 0.3, 9.0, 9.0, 9.0, 9.0, 0.1, 0.1])
@example(losses=[2.0 * 9.0**step for step in range(20)])
def test_the_answer_depends_only_on_the_losses_up_to_it(losses):
    whole = diverged_at(losses)
    for end in range(len(losses)):
        seen = whole is not None and whole < end
        assert diverged_at(losses[:end]) == (whole if seen else None)
    if whole is not None:
        assert WINDOW - 1 <= whole < len(losses)
        assert np.isfinite(losses[: whole + 1]).all()


@given(seed=st.integers(0, 99), rise=st.floats(0, 50), scale=POWERS, shift=st.integers(-64, 64))
def test_divergence_has_no_unit(seed, rise, scale, shift):
    """Multiples of 1 / 1024 below 2 ** 40 or so: the sums below are exact."""
    falling = np.concatenate([FALLING, 2 + rise * np.linspace(0, 1, 20)])
    losses = np.round(noisy(falling, 0.1, seed) * 1024) / 1024
    assert diverged_at(scale * losses) == diverged_at(losses)
    assert diverged_at(losses + shift) == diverged_at(losses)


@pytest.mark.parametrize("sigma", [0.01, 3.0])
def test_noise_alone_hardly_ever_diverges(sigma):
    """Some four in 10,000 do, in their first ten steps, which tell too little of the noise."""
    alarms = [diverged_at(noisy([2.3] * 100, sigma, seed)) is not None for seed in range(1000)]
    assert sum(alarms) <= 2


def test_losses_in_coarse_steps_hardly_ever_diverge_by_noise_alone():
    """Most of them repeat, so their differences alone tell of no noise."""
    curves = [np.round(noisy([2.3] * 100, 0.02, seed) / 0.0625) * 0.0625 for seed in range(1000)]
    assert sum(diverged_at(curve) is not None for curve in curves) > 50
    assert sum(diverged_at(curve, resolution=0.0625) is not None for curve in curves) == 0
    exploded = np.concatenate([curves[0], [9.0] * WINDOW])
    assert diverged_at(exploded, resolution=0.0625) is not None


# --- noise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("losses", [[], [3.0], [np.nan, 1.0, np.inf], [2.0] * 9])
def test_there_is_no_noise_in_nothing(losses):
    assert noise(losses) == 0.0


@pytest.mark.parametrize("sigma", [1e-6, 0.1, 30.0])
def test_noise_is_its_standard_deviation(sigma):
    assert noise(noisy([5.0] * 4000, sigma)) == pytest.approx(sigma, rel=0.1)


def test_noise_ignores_a_trend_spikes_and_what_is_not_finite():
    losses = noisy(np.linspace(10, 0, 4000), 0.1)
    losses[::50] = 1e6
    losses[7::50] = np.nan
    assert noise(losses) == pytest.approx(0.1, rel=0.15)


@given(losses=st.lists(st.integers(-999, 999), max_size=30), scale=POWERS, shift=st.integers(-9, 9))
def test_noise_scales_with_the_losses(losses, scale, shift):
    losses = np.array(losses, float)
    assert noise(scale * losses) == scale * noise(losses)
    assert noise(losses + shift) == noise(losses)


# --- smooth ---------------------------------------------------------------------------------------

X = np.linspace(-6, 1, 141)


def test_a_straight_line_is_exact():
    smoothed = smooth(X, 3 - 2 * X, width=0.3)
    assert smoothed.value == pytest.approx(3 - 2 * X, abs=1e-7)
    assert smoothed.slope == pytest.approx(-2, abs=1e-5)
    assert smoothed.noise < 1e-7


@pytest.mark.parametrize("width", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("shape", [np.abs, np.square, np.cosh], ids=["v", "bowl", "cosh"])
def test_the_bottom_of_a_symmetric_valley_stays_in_place(shape, width):
    """No lag: an average of the past would shift it to higher rates."""
    for middle in (30, 70, 100):
        valley = shape(X - X[middle])
        assert smooth(X, valley, width).value.argmin() == middle


@pytest.mark.parametrize("width", [0.1, 0.3, 1.0])
def test_a_mirrored_curve_is_smoothed_to_the_mirror_image(width):
    curve = noisy(2 - 1.5 / (1 + np.exp(-3 * (X + 2))), 0.1)
    there, back = smooth(X, curve, width), smooth(-X[::-1], curve[::-1], width)
    assert there.value == pytest.approx(back.value[::-1], abs=1e-9)
    assert there.slope == pytest.approx(-back.slope[::-1], abs=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 1e-6, 0.01, 0.1])
def test_a_curve_is_found_in_its_noise(sigma):
    """Also where there is no noise: a bend is no spike."""
    curve = 2 - 1.5 / (1 + np.exp(-3 * (X + 2)))
    smoothed = smooth(X, noisy(curve, sigma), width=0.3)
    assert np.abs(smoothed.value - curve).max() < 0.01 + 1.1 * sigma
    assert smoothed.noise == pytest.approx(sigma, rel=0.3, abs=0.002)


def test_spikes_are_ignored():
    line = noisy(3 - 2 * X, 0.01)
    spiked = line.copy()
    spiked[10::20] += 100
    assert smooth(X, spiked, 0.3).value == pytest.approx(smooth(X, line, 0.3).value, abs=0.02)


def test_the_control_takes_shared_noise_out_of_slope_and_noise():
    curve = 2 - 1.5 / (1 + np.exp(-3 * (X + 2)))
    shared = noisy(0 * X, 0.3)
    alone, controlled = smooth(X, curve + shared, 0.3), smooth(X, curve + shared, 0.3, 2.3 + shared)
    truth = np.gradient(curve, X)
    assert controlled.noise < 0.1 * alone.noise
    wrong = [np.abs(one.slope - truth)[5:-5].mean() for one in (alone, controlled)]
    assert wrong[1] < 0.2 * wrong[0]


@settings(max_examples=30)
@given(seed=st.integers(0, 99), scale=POWERS, shift=st.floats(-100, 100), control=st.booleans())
def test_smoothing_has_no_unit(seed, scale, shift, control):
    hard = noisy(0 * X, 0.2, seed)
    curve = noisy(np.cosh(X + 2) / 10, 0.05, seed + 1) + hard
    untrained = 2.3 + hard if control else None
    one = smooth(X, curve, 0.3, untrained)
    other = smooth(
        X, scale * (curve + shift), 0.3, None if untrained is None else scale * untrained
    )
    assert other.value / scale - shift == pytest.approx(one.value, abs=1e-9)
    assert other.slope / scale == pytest.approx(one.slope, abs=1e-9)
    assert other.noise / scale == pytest.approx(one.noise, abs=1e-9)


def test_a_constant_control_changes_nothing():
    curve = noisy(np.cosh(X + 2), 0.1)
    one, other = smooth(X, curve, 0.3), smooth(X, curve, 0.3, np.full(len(X), 2.3))
    assert one.value == pytest.approx(other.value, abs=1e-9)


@given(count=st.integers(0, 9), constant=st.booleans())
def test_a_few_points_are_enough(count, constant):
    x = np.arange(count, dtype=float)
    y = np.ones(count) if constant else x**2
    smoothed = smooth(x, y, width=0.01)
    assert smoothed.value.shape == smoothed.slope.shape == (count,)
    assert np.isfinite(smoothed.value).all()
    if constant:
        assert smoothed.value == pytest.approx(1.0)


# --- end_level ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "share", "expected"),
    [
        ([3.0, 2.0, 1.0], 0.2, 1.0),
        ([3.0, 2.0, 1.0, 2.0, 4.0], 0.4, 3.0),
        (range(20), 0.2, 17.5),
        (range(10), 0.2, 8.0),  # of three losses at least, but of no more than half
        ([4.0, 3.0, 2.0, 1.0], 0.2, 1.5),
        ([7.0], 0.2, 7.0),
        ([7.0, 1.0], 1.0, 4.0),
        ([1.0, np.nan], 1.0, np.nan),
        ([1.0, np.nan], 0.5, np.nan),
        ([np.nan, 1.0], 0.5, 1.0),
        ([], 0.2, np.nan),
        ([np.inf, -np.inf], 1.0, np.nan),
    ],
)
def test_the_end_level_is_the_mean_of_the_last_part(losses, share, expected):
    assert end_level(losses, share) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=200)
@given(losses=CURVES)
def test_nothing_here_ever_raises(losses):
    assert noise(losses) >= 0
    assert isinstance(end_level(losses), float)
    assert diverged_at(losses) is None or isinstance(diverged_at(losses), int)


def test_every_outcome_is_a_sentence():
    assert all(one.value.endswith(".") and one.value[0].isupper() for one in Outcome)

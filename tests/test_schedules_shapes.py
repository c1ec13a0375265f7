"""Shapes and cycles: laws over their parameters, and golden numbers of torch's schedulers."""

import math
from types import FunctionType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as native

from lrtune.errors import ScheduleError
from lrtune.schedules import (
    cosine,
    cosine_restarts,
    exp_range,
    exponential,
    inverse_sqrt,
    linear,
    momenta,
    multipliers,
    multistep,
    one_cycle,
    one_cycle_three_phase,
    polynomial,
    rex,
    stable_decay,
    step,
    triangular,
    triangular2,
)

SHARE = st.floats(0, 1)
END = st.floats(1e-6, 1)
INNER = st.floats(0.01, 0.49)
BAND = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(sorted).map(tuple)
ANNEAL = st.sampled_from(["cosine", "linear"])


def read_out(make, steps, lr=1.0):
    """Rates and momenta of one of torch's schedulers, as a user would see them."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr, momentum=0.5)
    scheduler, rates, moments = make(optimizer), [], []
    for at in range(steps):
        if at:
            optimizer.step()
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
        moments.append(optimizer.param_groups[0]["momentum"])
    return rates, moments


@given(SHARE, END)
def test_decays_start_at_1_and_end_where_they_say(floor, end):
    for schedule, last in [
        (linear(floor), floor),
        (cosine(floor), floor),
        (polynomial(2, floor), floor),
        (exponential(end), end),
        (rex(), 0.0),
        (stable_decay(), 0.0),
        (stable_decay(cooldown="1-sqrt"), 0.0),
        (inverse_sqrt(end), math.sqrt(end / (end + 1))),
    ]:
        assert schedule(0.0) == pytest.approx(1.0), schedule
        assert schedule(1.0) == pytest.approx(last, abs=1e-12), schedule


@given(st.integers(1, 12), st.integers(1, 40), st.floats(0.01, 0.9))
def test_step_divides_exactly_after_each_stair(stairs, length, factor):
    rates = multipliers(step(1 / stairs, factor), stairs * length)
    assert rates == pytest.approx([factor ** (k // length) for k in range(stairs * length)])


@given(st.data(), st.integers(2, 400))
def test_multistep_divides_exactly_at_its_milestones(data, steps):
    places = st.integers(1, steps - 1)
    milestones = sorted(data.draw(st.sets(places, min_size=1, max_size=4)))
    rates = multipliers(multistep(tuple(m / steps for m in milestones)), steps)
    assert rates == pytest.approx([0.1 ** sum(k >= m for m in milestones) for k in range(steps)])


@given(st.floats(0.01, 1), SHARE)
def test_the_cooldowns_begin_where_they_say_and_the_root_is_the_steeper(decay, progress):
    straight, root = stable_decay(decay), stable_decay(decay, "1-sqrt")
    assert (straight(progress) == 1) == (root(progress) == 1) == (1 - progress >= decay)
    assert root(progress) <= straight(progress)


@given(st.integers(1, 6), st.sampled_from([1.0, 1.5, 2.0]), st.floats(0.2, 1))
def test_restarts_jump_to_the_decayed_peak_after_each_complete_cosine(cycles, stretch, decay):
    schedule = cosine_restarts(cycles, stretch, decay)
    lengths = [stretch**k for k in range(cycles)]
    for k in range(cycles):
        begin, end = sum(lengths[:k]) / sum(lengths), sum(lengths[: k + 1]) / sum(lengths)
        assert schedule(begin) == pytest.approx(decay**k)
        assert schedule((begin + end) / 2) == pytest.approx(decay**k / 2)
        assert schedule(end - 1e-6) == pytest.approx(0, abs=1e-6)


@given(st.integers(1, 8), SHARE, END, BAND, st.floats(0, 1, exclude_max=True))
def test_cycles_rise_from_their_base_to_their_envelope(cycles, base, end, band, progress):
    envelopes = {
        triangular(cycles, base, band): lambda _p: 1.0,
        triangular2(cycles, base, band): lambda p: 0.5 ** int(p * cycles),
        exp_range(cycles, base, end, band): lambda p: end**p,
    }
    low, high = band
    for schedule, envelope in envelopes.items():
        assert base - 1e-12 <= schedule(progress) <= base + (1 - base) * envelope(progress) + 1e-12
        for k in range(cycles):
            top = (k + 0.5) / cycles
            assert schedule(k / cycles) == pytest.approx(base)
            assert schedule(top) == pytest.approx(base + (1 - base) * envelope(top))
        if base < 0.99:  # above, the rate says nothing of the height
            height = (schedule(progress) - base) / (1 - base)
            mirrored = high - (high - low) * height
            assert schedule.momentum(progress) == pytest.approx(mirrored, abs=1e-6)


@given(INNER, SHARE, SHARE, ANNEAL, BAND)
def test_one_cycle_passes_its_corners_with_the_momentum_mirrored(share, start, end, anneal, band):
    low, high = band
    two = one_cycle(share, start, end, anneal, band)
    three = one_cycle_three_phase(share, start, end, anneal, band)
    corners = [(0.0, start, high), (share, 1.0, low), (1.0, end, high)]
    for progress, rate, momentum in corners:
        assert two(progress) == pytest.approx(rate)
        assert two.momentum(progress) == pytest.approx(momentum)
    for progress, rate, momentum in [*corners, (2 * share, start, high)]:
        assert three(progress) == pytest.approx(rate)
        assert three.momentum(progress) == pytest.approx(momentum)


def test_a_cycle_without_momentum_sets_none():
    for make in (one_cycle, one_cycle_three_phase, triangular, triangular2, exp_range):
        assert make(momentum=None).momentum is None
        assert multipliers(make(momentum=None), 30) == multipliers(make(), 30)


@pytest.mark.parametrize(
    ("schedule", "make", "steps"),
    [
        (step(), lambda o: native.StepLR(o, 30), 90),
        (step(0.1, 0.5), lambda o: native.StepLR(o, 10, 0.5), 100),
        (multistep((0.3, 0.6, 0.9), 0.2), lambda o: native.MultiStepLR(o, [27, 54, 81], 0.2), 90),
        (exponential(1e-3), lambda o: native.ExponentialLR(o, 1e-3 ** (1 / 70)), 70),
        (linear(0.05), lambda o: native.LinearLR(o, 1.0, 0.05, 70), 70),
        (polynomial(0.9), lambda o: native.PolynomialLR(o, 70, 0.9), 70),
        (cosine(0.05), lambda o: native.CosineAnnealingLR(o, 70, 0.05), 70),
        (cosine_restarts(), lambda o: native.CosineAnnealingWarmRestarts(o, 10, 2), 70),
        (
            cosine_restarts(4, stretch=1),
            lambda o: native.CosineAnnealingWarmRestarts(o, 20),
            80,
        ),
    ],
    # A function's text holds its address, which differs between the workers of pytest-xdist.
    ids=lambda one: "" if isinstance(one, FunctionType) else str(one),
)
def test_golden_rates_of_torch(schedule, make, steps):
    rates, _ = read_out(make, steps)
    assert multipliers(schedule, steps) == pytest.approx(rates, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "mode", "gamma"),
    [
        (triangular(4, 0.2, (0.8, 0.9)), "triangular", 1.0),
        (triangular2(4, 0.2, (0.8, 0.9)), "triangular2", 1.0),
        (exp_range(4, 0.2, 0.1, (0.8, 0.9)), "exp_range", 0.1 ** (1 / 80)),
    ],
    ids=str,
)
def test_golden_rates_and_momenta_of_cyclic(schedule, mode, gamma):
    rates, moments = read_out(
        lambda o: native.CyclicLR(o, 0.2, 1.0, step_size_up=10, mode=mode, gamma=gamma), 80
    )
    assert multipliers(schedule, 80) == pytest.approx(rates, rel=1e-9)
    assert momenta(schedule, 80) == pytest.approx(moments, rel=1e-9)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("share", [0.2, 0.31])
def test_golden_rates_and_momenta_of_one_cycle(anneal, three_phase, share):
    steps = 100  # torch counts to the last step, we to the end: one step more, and its share of it
    make = one_cycle_three_phase if three_phase else one_cycle
    schedule = make(share, anneal=anneal)
    rates, moments = read_out(
        lambda o: native.OneCycleLR(
            o,
            1.0,
            total_steps=steps + 1,
            pct_start=(share * steps + 1) / (steps + 1),
            anneal_strategy={"cosine": "cos", "linear": "linear"}[anneal],
            three_phase=three_phase,
        ),
        steps,
    )
    assert multipliers(schedule, steps) == pytest.approx(rates, rel=1e-9)
    assert momenta(schedule, steps) == pytest.approx(moments, rel=1e-9)


def test_golden_rates_of_the_inverse_square_root():
    steps, timescale = 1000, 50
    vaswani = [1 / math.sqrt((k + timescale) / timescale) for k in range(steps)]
    assert multipliers(inverse_sqrt(timescale / steps), steps) == pytest.approx(vaswani)


def test_golden_numbers_of_rex():
    paper = [(1 - k / 10) / (0.5 + 0.5 * (1 - k / 10)) for k in range(10)]
    assert multipliers(rex(), 10) == pytest.approx(paper)


@pytest.mark.parametrize(
    "make",
    [
        lambda: linear(1.5),
        lambda: linear(math.nan),
        lambda: cosine(-0.1),
        lambda: polynomial(0),
        lambda: polynomial(2, -1),
        lambda: exponential(0),
        lambda: step(0),
        lambda: step(0.3, 1.0),
        lambda: multistep((0.5, 0.5)),
        lambda: multistep((0.5, 1.0)),
        lambda: multistep((0.5,), 0.0),
        lambda: inverse_sqrt(0),
        lambda: stable_decay(0),
        lambda: stable_decay(0.2, "cosine"),
        lambda: cosine_restarts(0),
        lambda: cosine_restarts(3, 0.0),
        lambda: cosine_restarts(3, 2, 1.1),
        lambda: triangular(0),
        lambda: triangular(4, 1.1),
        lambda: triangular(4, 0.1, (0.8, 1.0)),
        lambda: triangular2(0),
        lambda: exp_range(end=0),
        lambda: one_cycle(0),
        lambda: one_cycle(anneal="root"),
        lambda: one_cycle(start=2),
        lambda: one_cycle(end=2),
        lambda: one_cycle(momentum=(-0.1, 0.9)),
        lambda: one_cycle_three_phase(0.5),
    ],
)
def test_numbers_out_of_range_are_refused_with_value_and_range(make):
    with pytest.raises(ScheduleError, match=r"\w+(: momentum)?\(\w+=.*\): expected .*"):
        make()

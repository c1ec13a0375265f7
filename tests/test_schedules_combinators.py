"""Combinators: laws for any schedules, and for their momentum."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune.errors import ScheduleError
from lrtune.schedules import (
    SCHEDULES,
    Schedule,
    constant,
    cosine,
    cosine_restarts,
    cycle,
    growth,
    join,
    linear,
    momenta,
    multipliers,
    one_cycle,
    rex,
    scale,
    step,
    triangular,
    warmup,
)

JUMP = join([constant(), scale(cosine(), 0.5)], at=[1 / 3])
ANY = st.sampled_from([*(entry() for entry in SCHEDULES.values()), JUMP])
RISING = Schedule("rising", lambda _p: 1.0, lambda p: 0.8 + p / 10)  # in momentum
MOVING = st.sampled_from([one_cycle(), triangular(), SCHEDULES["decay-cyclic"](), RISING])
STILL = st.sampled_from([cosine(), rex(), step(), warmup(0.1, linear())])
PROGRESS = st.floats(0, 1, exclude_max=True)
SHARE = st.floats(0.01, 0.99)

often = settings(deadline=None, max_examples=120)


@often
@given(ANY, SHARE, st.integers(2, 60))
def test_a_warmup_rises_from_a_hundredth_to_where_the_schedule_starts(then, share, points):
    warm = warmup(share, then)
    rise = [warm(share * k / points) for k in range(points)]
    assert rise[0] == pytest.approx(0.01 * then(0.0))
    assert all(a < b for a, b in pairwise([*rise, then(0.0)]))
    gaps = [b - a for a, b in pairwise([*rise, then(0.0)])]
    assert gaps == pytest.approx([0.99 * then(0.0) / points] * points)


@often
@given(ANY, st.integers(1, 9), st.integers(1, 60))
def test_after_the_warmup_all_of_the_schedule_is_run(then, rise, rest):
    steps = rise + rest
    rates = multipliers(warmup(rise / steps, then), steps)
    assert rates[rise:] == pytest.approx(multipliers(then, rest), abs=1e-9)


def test_a_warmup_of_nothing_is_the_schedule_itself():
    assert multipliers(warmup(0.0, cosine()), 40) == multipliers(cosine(), 40)


@given(MOVING, SHARE, PROGRESS)
def test_the_momentum_waits_for_the_warmup_to_end(then, share, progress):
    warm = warmup(share, then)
    assert warm.momentum(share * progress) == then.momentum(0.0)
    late = share + (1 - share) * progress
    assert warm.momentum(late) == pytest.approx(then.momentum(progress), abs=1e-6)


def test_a_warmup_refuses_what_starts_at_0():
    with pytest.raises(ScheduleError, match=r"starts at 0.0. Leave the warmup out"):
        warmup(0.1, then=lambda progress: progress)


@often
@given(st.lists(st.tuples(ANY, st.integers(1, 30)), min_size=2, max_size=4))
def test_a_join_runs_all_of_each_piece(parts):
    lengths = [length for _, length in parts]
    steps = sum(lengths)
    at = [sum(lengths[:k]) / steps for k in range(1, len(parts))]
    rates = multipliers(join([piece for piece, _ in parts], at), steps)
    expected = [rate for piece, length in parts for rate in multipliers(piece, length)]
    assert rates == pytest.approx(expected, abs=1e-9)


@given(MOVING, STILL, PROGRESS)
def test_a_join_holds_the_momentum_where_a_piece_leaves_it_alone(moving, still, progress):
    before = join([still, moving, still], at=[0.25, 0.5])
    assert before.momentum(0.25 * progress) == moving.momentum(0.0)
    assert before.momentum(0.5 + 0.5 * progress) == pytest.approx(moving.momentum(1 - 1e-15))
    inside = 0.25 + 0.25 * progress
    assert before.momentum(inside) == pytest.approx(moving.momentum(progress), abs=1e-6)


@often
@given(ANY, st.integers(1, 6), st.integers(1, 30))
def test_a_cycle_is_periodic(of, times, length):
    rates = multipliers(cycle(of, times), times * length)
    assert rates == pytest.approx(multipliers(of, length) * times, abs=1e-9)


@often
@given(ANY, st.integers(1, 4), st.integers(1, 3), st.floats(0.1, 1), st.integers(1, 20))
def test_a_cycle_grows_in_length_and_falls_in_height(of, times, stretch, decay, length):
    lengths = [length * stretch**k for k in range(times)]
    rates = multipliers(cycle(of, times, stretch, decay), sum(lengths))
    expected = [decay**k * rate for k, long in enumerate(lengths) for rate in multipliers(of, long)]
    assert rates == pytest.approx(expected, abs=1e-9)


@given(MOVING, st.integers(1, 5), st.integers(1, 20))
def test_a_cycle_repeats_the_momentum_without_decay(of, times, length):
    moments = momenta(cycle(of, times, decay=0.5), times * length)
    assert moments == pytest.approx(momenta(of, length) * times)


@given(ANY, ANY, PROGRESS, st.floats(0.01, 1))
def test_a_scale_is_a_product(of, by, progress, number):
    assert scale(of, by)(progress) == of(progress) * by(progress)
    assert scale(of, number)(progress) == of(progress) * number
    assert scale(of, 1.0)(progress) == of(progress)


@given(MOVING, STILL, PROGRESS)
def test_a_scale_keeps_the_momentum_of_the_one_that_moves_it(moving, still, progress):
    assert scale(moving, still).momentum(progress) == moving.momentum(progress)
    assert scale(still, moving).momentum(progress) == moving.momentum(progress)
    assert scale(one_cycle(), triangular()).momentum(progress) == one_cycle().momentum(progress)


@given(STILL, STILL)
def test_a_combination_sets_no_momentum_if_none_of_its_parts_does(one, other):
    made = [warmup(0.1, one), join([one, other], [0.5]), cycle(one, 3), scale(one, other)]
    assert [schedule.momentum for schedule in made] == [None] * 4


@given(PROGRESS)
def test_users_own_functions_are_combined_like_ours(progress):
    def ramp(p):
        return 1 - p

    pairs = [
        (warmup(0.3, ramp), warmup(0.3, linear())),
        (join([ramp, cosine()], [0.5]), join([linear(), cosine()], [0.5])),
        (cycle(ramp, 3), cycle(linear(), 3)),
        (scale(ramp, by=ramp), scale(linear(), by=linear())),
    ]
    for mine, ours in pairs:
        assert mine(progress) == ours(progress)
        assert "ramp" in mine.text


@often
@given(st.integers(1, 9), st.integers(1, 200), st.data())
def test_no_piece_is_ever_asked_beyond_its_run(tenths, steps, data):
    def picky(p):
        assert 0 <= p < 1
        return 1 - p

    share = tenths / 10
    inner = data.draw(st.sampled_from([cycle(picky, 3, stretch=2), join([picky, picky], [share])]))
    for schedule in (warmup(share, inner), cycle(inner, 7), join([inner, picky], [share]), inner):
        assert len(multipliers(schedule, steps)) == steps
        assert schedule(math.nextafter(share, 0)) >= 0


def test_restarts_are_cycles_of_cosines():
    for decay in (1.0, 0.5):
        built = cycle(cosine(), times=3, stretch=2.0, decay=decay)
        assert multipliers(cosine_restarts(3, 2.0, decay), 70) == multipliers(built, 70)


def test_warmup_stable_decay_is_what_the_style_guide_writes_by_hand():
    def by_hand(p, rise=0.05, fall=0.2 * 0.95):
        if p < rise:
            return 0.01 + 0.99 * p / rise
        return 1.0 if p < 1 - fall else (1 - p) / fall

    rates = multipliers(SCHEDULES["wsd"](), 200)
    assert rates == pytest.approx([by_hand(k / 200) for k in range(200)])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: warmup(1.0, cosine()), r"warmup\(share=1.0\).*\[0, 1\)"),
        (lambda: warmup(math.nan, cosine()), r"warmup\(share=nan\)"),
        (lambda: warmup(0.1, 0.5), "expected a schedule, that is a function"),
        (lambda: join([cosine()], []), "got 1 pieces and 0 borders"),
        (lambda: join([cosine(), rex()], [0.3, 0.6]), "got 2 pieces and 2 borders"),
        (lambda: join([cosine(), rex(), rex()], [0.6, 0.3]), r"at=\(0.6, 0.3\)"),
        (
            lambda: join([cosine(), 1.0], [0.5]),
            "expected a schedule, that is a function",
        ),
        (lambda: cycle(cosine(), 0), r"cycle\(times=0\)"),
        (lambda: cycle(cosine(), 2, 0.0), r"cycle\(stretch=0.0\)"),
        (lambda: cycle(cosine(), 2, 1.0, 1.5), r"cycle\(decay=1.5\)"),
        (lambda: scale(cosine(), 2.0), r"scale\(by=2.0\)"),
        (lambda: scale(cosine(), 0.0), r"scale\(by=0.0\)"),
        (lambda: growth(1.0), r"growth\(start=1.0\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_value_and_way_out(make, says):
    with pytest.raises(ScheduleError, match=says):
        make()


def test_deep_nesting_is_still_a_schedule():
    deep = warmup(0.1, join([constant(), cycle(scale(one_cycle(), 0.5), 3)], [0.4]))
    assert len(multipliers(deep, 100)) == 100
    assert min(momenta(deep, 100)) == pytest.approx(0.85, abs=2e-3)

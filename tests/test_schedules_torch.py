"""to_torch and snippets: the schedule's rates at every step, and no higher ones after the end."""

import copy
import io
import math

import pytest
import torch
from exporting import PEAKS, adam, check, paste, sgd, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as native

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules import (
    SCHEDULES,
    Schedule,
    constant,
    cosine,
    cycle,
    exponential,
    join,
    linear,
    multistep,
    one_cycle,
    polynomial,
    rex,
    scale,
    snippet,
    step,
    warmup,
)
from lrtune.schedules.torch_readers import from_torch
from lrtune.schedules.torch_schedulers import (
    MomentumLR,
    set_momentum,
    to_torch,
)

LENGTHS = [1, 2, 7, 100, 1000]

over_the_registry = pytest.mark.parametrize("entry", SCHEDULES.values(), ids=SCHEDULES)


@over_the_registry
@pytest.mark.parametrize("steps", LENGTHS)
def test_a_torch_scheduler_gives_the_rates_of_the_schedule(entry, steps):
    optimizer = sgd()
    check(entry(), to_torch(entry(), optimizer, steps), optimizer, steps)


@over_the_registry
@pytest.mark.parametrize("steps", LENGTHS)
def test_a_snippet_gives_the_rates_of_the_schedule(entry, steps):
    optimizer = sgd()
    check(entry(), paste(entry(), optimizer, steps), optimizer, steps)


@pytest.mark.parametrize("name", ["one-cycle", "triangular2", "decay-cyclic", "cosine", "step"])
def test_adams_beta1_follows_the_momentum(name):
    schedule = SCHEDULES[name]()
    for leave in (to_torch, paste):
        optimizer = adam()
        check(schedule, leave(schedule, optimizer, 50), optimizer, 50)
        assert [group["betas"][1] for group in optimizer.param_groups] == [0.99, 0.99]


ENDS = st.sampled_from([0.0, 1e-3, 0.1, 1.0])
FACTORS = st.sampled_from([0.1, 0.2, 0.5])
DECAYS = st.one_of(
    st.just(constant()),
    ENDS.map(linear),
    st.floats(0.3, 4).map(polynomial),
    st.floats(1e-6, 1).map(exponential),
    st.builds(
        step, st.one_of(st.integers(1, 12).map(lambda k: 1 / k), st.floats(0.05, 1)), FACTORS
    ),
    st.builds(
        multistep,
        st.sets(st.integers(1, 99), min_size=1, max_size=4).map(
            lambda at: [k / 100 for k in sorted(at)]
        ),
        FACTORS,
    ),
    st.just(cosine()),
    st.just(one_cycle()),
)
SHARES = st.one_of(st.integers(1, 9).map(lambda k: k / 10), st.floats(0.01, 0.9))
COMBINED = st.recursive(
    DECAYS,
    lambda inner: st.one_of(
        st.builds(warmup, SHARES, inner),
        st.builds(lambda a, b, share: join([a, b], [share]), inner, inner, SHARES),
        st.builds(cycle, inner, st.integers(1, 3)),
        st.builds(scale, inner, inner),
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(COMBINED, st.integers(1, 120))
def test_a_combination_has_the_same_rates_in_torch(schedule, steps):
    for leave in (to_torch, paste):
        optimizer = sgd()
        check(schedule, leave(schedule, optimizer, steps), optimizer, steps)


@settings(deadline=None, max_examples=50)
@given(st.one_of(DECAYS, st.builds(warmup, SHARES, DECAYS)), st.integers(1, 1200))
def test_native_forms_stay_true_over_long_runs(schedule, steps):
    optimizer = sgd()
    check(schedule, paste(schedule, optimizer, steps), optimizer, steps)


def test_the_rate_that_a_group_has_now_is_its_peak_whatever_an_earlier_scheduler_thought():
    optimizer = sgd()
    native.ConstantLR(optimizer, factor=0.5, total_iters=3)  # leaves an initial_lr behind
    for group, peak in zip(optimizer.param_groups, PEAKS, strict=True):
        group["lr"] = peak
        group["initial_lr"] = 77.0
    check(rex(), to_torch(rex(), optimizer, 30), optimizer, 30)


@pytest.mark.parametrize("schedule", [cosine(), one_cycle()], ids=str)
def test_a_resumed_scheduler_goes_on_with_the_same_rates(schedule):
    whole = sgd()
    expected = walk(whole, to_torch(schedule, whole, 40), 50)
    first = sgd()
    scheduler = to_torch(schedule, first, 40)
    before = walk(first, scheduler, 17)
    file = io.BytesIO()
    torch.save([first.state_dict(), scheduler.state_dict()], file)
    file.seek(0)
    saved, kept = torch.load(file, weights_only=True)
    second = sgd()
    resumed = to_torch(schedule, second, 40)
    second.load_state_dict(saved)
    resumed.load_state_dict(kept)
    after = walk(second, resumed, 33)
    assert [a + b for a, b in zip(before, after, strict=True)] == list(expected)


def test_a_bad_schedule_is_refused_before_the_optimizer_is_touched():
    optimizer = sgd()
    before = copy.deepcopy(optimizer.state_dict())
    for bad in (Schedule("bad", lambda p: 0.5 - p), Schedule("odd", lambda p: p, lambda p: 2 + p)):
        for refuse in (lambda s: to_torch(s, optimizer, 10), lambda s: snippet(s, 0.1, 10)):
            with pytest.raises(ScheduleError, match=r"'(bad|odd)' at step \d of 10"):
                refuse(bad)
    assert optimizer.state_dict() == before


def test_an_optimizer_without_momentum_is_refused_with_the_way_out():
    optimizer = torch.optim.Adagrad([torch.zeros(1)], lr=0.1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ScheduleError, match=r"Adagrad has neither.*one_cycle\(momentum=None\)"):
        to_torch(one_cycle(), optimizer, 10)
    assert optimizer.state_dict() == before
    to_torch(one_cycle(momentum=None), optimizer, 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.004)


def test_momentum_is_set_in_every_group():
    for optimizer, key in ((sgd(), "momentum"), (adam(), "betas")):
        set_momentum(optimizer, 0.7)
        values = [group[key] for group in optimizer.param_groups]
        assert values == [0.7, 0.7] if key == "momentum" else [(0.7, 0.99)] * 2


def test_a_scheduler_that_moves_the_momentum_is_a_real_torch_scheduler():
    optimizer = sgd()
    assert isinstance(to_torch(one_cycle(), optimizer, 10), MomentumLR)
    assert isinstance(to_torch(cosine(), sgd(), 10), native.LambdaLR)
    chain = native.SequentialLR(
        optimizer, [to_torch(cosine(), optimizer, 5), to_torch(rex(), optimizer, 5)], milestones=[5]
    )
    rates, _ = walk(optimizer, chain, 10)
    assert len(rates) == 10


@pytest.mark.parametrize(
    "call",
    [
        lambda: to_torch(cosine(), sgd(), 0),
        lambda: snippet(cosine(), 0.1, 0),
        lambda: snippet(cosine(), 0.0, 10),
        lambda: snippet(cosine(), math.nan, 10),
        lambda: from_torch(lambda o: native.StepLR(o, 3), 0),
    ],
)
def test_numbers_out_of_range_are_refused(call):
    with pytest.raises(ArgumentError, match="="):
        call()

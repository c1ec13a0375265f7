"""What leaves the house gives the same rates at every step, and harmless ones after the end."""

import copy
import io
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as native

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.export import MomentumLR, from_torch, set_momentum, snippet, to_torch
from lrtune.schedules import (
    SCHEDULES,
    Schedule,
    constant,
    cosine,
    cycle,
    exponential,
    growth,
    join,
    linear,
    momenta,
    multipliers,
    multistep,
    one_cycle,
    polynomial,
    rex,
    scale,
    step,
    warmup,
)

AFTER = 10
LENGTHS = [1, 2, 7, 100, 1000]
PEAKS = [0.1, 0.003]  # of two parameter groups
NATIVE = {
    "constant": "ConstantLR",
    "linear": "LinearLR",
    "exponential": "ExponentialLR",
    "step": "MultiStepLR",  # 1000 steps have no three equal stairs
    "multistep": "MultiStepLR",
    "warmup-linear": "SequentialLR",
    "polynomial": "PolynomialLR",
}


def sgd(peaks=PEAKS):
    groups = [{"params": [torch.zeros(1)], "lr": peak} for peak in peaks]
    return torch.optim.SGD(groups, momentum=0.5)


def adam(peaks=PEAKS):
    groups = [{"params": [torch.zeros(1)], "lr": peak} for peak in peaks]
    return torch.optim.AdamW(groups, betas=(0.5, 0.99))


def walk(optimizer, scheduler, steps):
    """Rates and momenta that an ordinary training loop trains with: one row for each step."""
    rates, moments = [], []
    for _ in range(steps):
        groups = optimizer.param_groups
        rates.append([float(group["lr"]) for group in groups])
        moments.append(
            [group["betas"][0] if "betas" in group else group["momentum"] for group in groups]
        )
        optimizer.step()
        scheduler.step()
    return rates, moments


def paste(schedule, optimizer, steps, lr=PEAKS[0]):
    """Run the snippet as a script would that has an optimizer and no lrtune."""
    source = snippet(schedule, lr, steps)
    assert "import lrtune" not in source
    assert "from lrtune" not in source
    script = {"optimizer": optimizer}
    exec(source, script)  # noqa: S102 - it is what users do with it
    assert isinstance(script["scheduler"], native.LRScheduler)
    return script["scheduler"]


def check(schedule, scheduler, optimizer, steps):
    """The laws of whatever leaves the house."""
    rates, moments = walk(optimizer, scheduler, steps + AFTER)
    expected = multipliers(schedule, steps)
    for group, peak in enumerate(PEAKS):
        mine = [row[group] for row in rates]
        assert mine[:steps] == pytest.approx(
            [peak * m for m in expected], rel=1e-9, abs=1e-12 * peak
        )
        assert min(mine) >= 0
        assert all(b <= a * (1 + 1e-12) for a, b in pairwise(mine[steps - 1 :]))
    wanted = momenta(schedule, steps) or [0.5] * steps
    for row, value in zip(moments, wanted + wanted[-1:] * AFTER, strict=True):
        assert row == pytest.approx([value] * len(PEAKS))


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
def test_so_it_is_with_adams_beta1(name):
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
def test_whatever_is_combined_leaves_with_its_rates(schedule, steps):
    for leave in (to_torch, paste):
        optimizer = sgd()
        check(schedule, leave(schedule, optimizer, steps), optimizer, steps)


@settings(deadline=None, max_examples=100)
@given(st.one_of(DECAYS, st.builds(warmup, SHARES, DECAYS)), st.integers(1, 1500))
def test_native_forms_stay_true_over_long_runs(schedule, steps):
    optimizer = sgd()
    check(schedule, paste(schedule, optimizer, steps), optimizer, steps)


@over_the_registry
def test_a_snippet_is_native_where_torch_has_the_schedule(entry):
    source = snippet(entry(), 0.1, 1000)
    assert f"scheduler = {NATIVE.get(entry.name, 'make_scheduler')}(" in source
    assert ("def " in source) == (entry.name not in NATIVE)


@pytest.mark.parametrize(
    ("schedule", "steps", "code"),
    [
        (step(), 90, "StepLR(optimizer, step_size=30, gamma=0.1)"),
        (step(), 100, "MultiStepLR(optimizer, milestones=[34, 67], gamma=0.1)"),
        (multistep((0.3, 0.6)), 50, "MultiStepLR(optimizer, milestones=[15, 30], gamma=0.1)"),
        (exponential(0.01), 70, "ExponentialLR(optimizer, gamma=0.01 ** (1 / 70))"),
        (polynomial(0.9), 70, "PolynomialLR(optimizer, total_iters=70, power=0.9)"),
        (warmup(0.1, step()), 100, "StepLR(optimizer, step_size=30, gamma=0.1)"),
    ],
)
def test_native_code_is_what_one_would_write(schedule, steps, code):
    assert code in snippet(schedule, 0.1, steps)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (polynomial(2, 0.1), 50),
        (warmup(0.05, linear()), 30),
        (warmup(0.1, warmup(0.1, linear())), 100),
    ],
)
def test_it_is_not_native_where_torch_has_something_else(schedule, steps):
    assert "LambdaLR(optimizer, multiplier)" in snippet(schedule, 0.1, steps)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: native.CosineAnnealingLR(o, 20),
        lambda o: native.CyclicLR(o, 0.1, 1.0, 5, cycle_momentum=False),
        lambda o: native.OneCycleLR(o, 1.0, 21, anneal_strategy="linear"),
    ],
)
def test_the_native_schedulers_that_are_not_used_do_misbehave_after_the_end(make):
    optimizer = sgd([1.0])
    scheduler = make(optimizer)
    try:
        rates, _ = walk(optimizer, scheduler, 30)
    except ValueError as error:
        assert "total steps" in str(error)  # noqa: PT017 - one of three ways to misbehave
    else:
        after = [row[0] for row in rates[20:]]
        assert min(after) < 0 or any(b > a + 0.01 for a, b in pairwise(after))


def test_the_snippet_reads_like_this():
    assert snippet(warmup(0.1, step()), 0.05, 100) == (
        "# warmup(share=0.1, then=step(every=0.3333333333333333, factor=0.1)) over 100 steps, "
        "written by lrtune.\n"
        "# Build the optimizer with lr=0.05: the rates that its groups have here are their peaks.\n"
        "# Call scheduler.step() after every optimizer.step().\n"
        "from torch.optim.lr_scheduler import LinearLR, SequentialLR, StepLR\n"
        "\n"
        "scheduler = SequentialLR(\n"
        "    optimizer,\n"
        "    [\n"
        "        LinearLR(optimizer, start_factor=0.01, total_iters=10),\n"
        "        StepLR(optimizer, step_size=30, gamma=0.1),\n"
        "    ],\n"
        "    milestones=[10],\n"
        ")\n"
    )


def test_names_of_the_script_do_not_get_mixed_up_with_those_of_the_snippet():
    optimizer = sgd()
    script = {"optimizer": optimizer}
    exec(snippet(warmup(0.1, one_cycle()), 0.1, 40), script)  # noqa: S102
    script.update(momentum=0.9, warmup=5, phases=None, multiplier="x", step=3)
    check(warmup(0.1, one_cycle()), script["scheduler"], optimizer, 40)


def test_a_function_of_the_users_own_leaves_too():
    def ramp(progress):
        return (1 - progress) ** 1.5

    for schedule in (Schedule("ramp", ramp), warmup(0.1, ramp), Schedule("moving", ramp, ramp)):
        shifted = schedule
        if schedule.momentum:
            shifted = Schedule("moving", ramp, lambda p: 0.9 * ramp(p))
        for leave in (to_torch, paste):
            optimizer = sgd()
            check(shifted, leave(shifted, optimizer, 37), optimizer, 37)


def test_a_schedule_that_only_pretends_to_be_ours_leaves_with_its_own_rates():
    fake = Schedule("linear(floor=0.0)\nraise SystemExit", cosine().rate)
    optimizer = sgd()
    check(fake, paste(fake, optimizer, 20), optimizer, 20)


def test_growth_leaves_too():
    optimizer = sgd()
    check(growth(), paste(growth(), optimizer, 50), optimizer, 50)


# -- to_torch -------------------------------------------------------------------------------------


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
    with pytest.raises(ScheduleError, match=r"Adagrad has neither.*one_cycle\(momentum=None\)"):
        to_torch(one_cycle(), optimizer, 10)
    assert optimizer.param_groups[0]["lr"] == 0.1
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


# -- from_torch -----------------------------------------------------------------------------------

SCHEDULERS = {
    "StepLR": lambda o: native.StepLR(o, 7),
    "MultiStepLR": lambda o: native.MultiStepLR(o, [5, 9]),
    "ExponentialLR": lambda o: native.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: native.CosineAnnealingLR(o, 20),
    "CosineAnnealingWarmRestarts": lambda o: native.CosineAnnealingWarmRestarts(o, 5),
    "OneCycleLR": lambda o: native.OneCycleLR(o, 0.4, 20),
    "CyclicLR": lambda o: native.CyclicLR(o, 0.1, 0.4, 5),
    "LambdaLR": lambda o: native.LambdaLR(o, lambda k: 1 / (k + 1)),
    "LinearLR": lambda o: native.LinearLR(o, 0.25, 1.0, 10),
    "SequentialLR": lambda o: native.SequentialLR(
        o, [native.LinearLR(o, 0.1, total_iters=4), native.CosineAnnealingLR(o, 16)], [4]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_torch_scheduler_is_read_out_at_every_step(name):
    make = SCHEDULERS[name]
    optimizer = sgd([1.0])
    rates, moments = walk(optimizer, make(optimizer), 20)
    schedule, peak = from_torch(make, 20), max(row[0] for row in rates)
    assert multipliers(schedule, 20) == pytest.approx([row[0] / peak for row in rates])
    assert max(multipliers(schedule, 20)) == 1
    if name in {"OneCycleLR", "CyclicLR"}:
        assert momenta(schedule, 20) == pytest.approx([row[0] for row in moments])
    else:
        assert schedule.momentum is None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_and_leaves_again(name):
    schedule = from_torch(SCHEDULERS[name], 20)
    for leave in (to_torch, paste):
        for steps in (20, 60, 13):
            optimizer = sgd()
            scheduler = leave(schedule, optimizer, steps)
            rates, _ = walk(optimizer, scheduler, steps)
            expected = [PEAKS[0] * m for m in multipliers(schedule, steps)]
            assert [row[0] for row in rates] == pytest.approx(expected)


@given(st.integers(1, 40), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_a_scheduler_that_is_stepped_once_per_epoch_holds_through_it(epochs, batches):
    schedule = from_torch(lambda o: native.StepLR(o, 3, 0.5), epochs)
    rates = multipliers(schedule, epochs * batches)
    assert rates == pytest.approx([0.5 ** (k // batches // 3) for k in range(epochs * batches)])


def test_reading_out_the_peak_of_schedulers_with_absolute_numbers():
    cold = from_torch(lambda o: native.CosineAnnealingLR(o, 10, eta_min=0.01), 10, lr=0.1)
    assert multipliers(cold, 10) == pytest.approx(multipliers(cosine(0.1), 10))
    for lr in (0.1, 1.0):
        one = from_torch(lambda o: native.OneCycleLR(o, 0.4, 10), 10, lr=lr)
        assert one(0.0) == pytest.approx(0.04)
        assert one(0.2) == 1.0


def test_two_read_out_schedules_are_equal_when_their_tables_are():
    def thirds(gamma):
        return from_torch(lambda o: native.StepLR(o, 30, gamma), 90)

    assert thirds(0.1) == thirds(0.1) != thirds(0.2)
    assert thirds(0.1).text.startswith("from_torch(StepLR, steps=90, table=")


def test_reading_out_leaves_the_users_optimizer_and_the_random_numbers_alone():
    optimizer = sgd()
    before, random = copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
    from_torch(SCHEDULERS["OneCycleLR"], 20)
    assert optimizer.state_dict() == before
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (native.ReduceLROnPlateau, "reacts to the loss.*ReduceOnPlateau"),
        (lambda _o: None, "expected a torch scheduler, got None"),
        (native.StepLR(torch.optim.SGD([torch.zeros(1)]), 3), "expected a function"),
        (lambda o: native.LambdaLR(o, lambda _k: 0.0), "never gives a rate above 0"),
        (lambda o: native.LambdaLR(o, lambda k: 1 - k / 5), "at step 6 of 10"),
        (lambda o: native.OneCycleLR(o, 1.0, 9, anneal_strategy="linear"), "step 9 of 10"),
    ],
)
def test_what_cannot_be_read_out_is_refused_with_the_way_out(make, says):
    with pytest.raises(ScheduleError, match=says):
        from_torch(make, 10)

"""Snippets: torch's own scheduler where it equals the schedule, and fit for any script."""

from functools import partial
from itertools import pairwise

import pytest
from exporting import check, paste, sgd, walk
from torch.optim import lr_scheduler as native

from lrtune.errors import ScheduleError
from lrtune.schedules import (
    SCHEDULES,
    Schedule,
    cosine,
    exponential,
    formulas,
    growth,
    linear,
    multistep,
    one_cycle,
    polynomial,
    scale,
    snippet,
    stable_decay,
    step,
    warmup,
)
from lrtune.schedules.torch_schedulers import to_torch

NATIVE = {
    "constant": "ConstantLR",
    "linear": "LinearLR",
    "exponential": "ExponentialLR",
    "step": "MultiStepLR",  # 1000 steps have no three equal stairs
    "multistep": "MultiStepLR",
    "warmup-linear": "SequentialLR",
    "wsd": "SequentialLR",
    "trapezoid": "SequentialLR",
    "polynomial": "PolynomialLR",
}

over_the_registry = pytest.mark.parametrize("entry", SCHEDULES.values(), ids=SCHEDULES)


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
        (stable_decay(0.25), 80, "milestones=[60]"),
        (stable_decay(1.0), 80, "LinearLR(optimizer, start_factor=1.0, end_factor=0.0, "),
        (SCHEDULES["trapezoid"](), 200, "milestones=[50, 140]"),
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
        (stable_decay(0.25), 50),
        (stable_decay(0.25, "1-sqrt"), 80),
        (SCHEDULES["trapezoid"](), 250),
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
        "# warmup(share=0.1, then=step(every=0.3333333333333333, factor=0.1)) over 100\n"
        "# steps, written by lrtune.\n"
        "# Build the optimizer with lr=0.05: its groups have their peak rates here.\n"
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


def test_a_function_of_the_users_own_becomes_a_table():
    def ramp(progress):
        return (1 - progress) ** 1.5

    for schedule in (Schedule("ramp", ramp), warmup(0.1, ramp), Schedule("moving", ramp, ramp)):
        shifted = schedule
        if schedule.momentum:
            shifted = Schedule("moving", ramp, lambda p: 0.9 * ramp(p))
        for leave in (to_torch, paste):
            optimizer = sgd()
            check(shifted, leave(shifted, optimizer, 37), optimizer, 37)


def test_a_schedule_that_only_pretends_to_be_ours_becomes_a_table_of_its_own_rates():
    fake = Schedule("linear(floor=0.0)\nraise SystemExit", cosine().rate)
    optimizer = sgd()
    check(fake, paste(fake, optimizer, 20), optimizer, 20)


def test_what_only_resembles_a_native_schedule_becomes_a_table_of_its_own_rates():
    half = Schedule("half", partial(formulas.constant, value=0.5))
    moving = Schedule("moving", linear().rate, partial(formulas.linear, floor=0.8))
    slow = Schedule("slow", linear().rate, lambda p: 0.9 - p / 2)
    for schedule in (half, warmup(0.1, half), slow, scale(slow, 0.5)):
        optimizer = sgd()
        check(schedule, paste(schedule, optimizer, 20), optimizer, 20)
    with pytest.raises(ScheduleError, match=r"'moving' at step 0 of 20"):
        snippet(moving, 0.1, 20)  # a momentum of 1


def test_growth_becomes_a_snippet():
    optimizer = sgd()
    check(growth(), paste(growth(), optimizer, 50), optimizer, 50)

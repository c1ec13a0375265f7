"""from_torch: the table of a torch scheduler, read once on a dummy optimizer."""

import copy

import pytest
import torch
from exporting import PEAKS, paste, sgd, walk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as native

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules import (
    cosine,
    momenta,
    multipliers,
)
from lrtune.schedules.torch_readers import from_torch
from lrtune.schedules.torch_schedulers import to_torch

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
def test_a_table_becomes_a_torch_scheduler_again(name):
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


def test_the_peak_of_schedulers_with_absolute_numbers_is_read():
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
        (lambda o: native.ReduceLROnPlateau(o, "max"), "mode='max'; expected 'min'"),
        (lambda o: native.ReduceLROnPlateau(o, cooldown=2), "cooldown=2; expected 0"),
        (lambda o: native.ReduceLROnPlateau(o, min_lr=1e-4), r"min_lr=\[0.0001\]; "),
        (lambda o: native.ReduceLROnPlateau(o, threshold_mode="abs"), "threshold_mode='abs'; "),
        (lambda _o: None, "returned nothing; expected a torch scheduler.*function of progress"),
        (native.StepLR(torch.optim.SGD([torch.zeros(1)]), 3), "expected a function"),
        (lambda o: native.LambdaLR(o, lambda _k: 0.0), "expected a rate above 0 .*LambdaLR is 0.0"),
        (lambda o: native.LambdaLR(o, lambda k: 1 - k / 5), "at step 6 of 10"),
        (lambda o: native.LambdaLR(o, [lambda k: 1.0] * 2), "each of 2 parameter groups"),
        (lambda o: native.MultiplicativeLR(o, [lambda k: 1.0] * 7), "each of 7 parameter groups"),
        (lambda o: native.OneCycleLR(o, [0.1] * 3, 10), "each of 3 parameter groups"),
        (lambda o: native.CyclicLR(o, [0.1, 0.2], [0.3, 0.4]), "each of 2 parameter groups"),
        (
            lambda o: native.CosineAnnealingWarmRestarts(o, 0),
            "raised ValueError: Expected positive",
        ),
        (lambda o: native.OneCycleLR(o, 1.0), "raised ValueError: You must define"),
        (native.StepLR, "raised TypeError: .*step_size.*Write, for example"),
        (lambda p: 1 - p, "raised TypeError: .*a function of progress"),
        (lambda o: o, "returned a SGD; expected a torch scheduler"),
        (lambda o: native.OneCycleLR(o, 0.4, 9), "steps=10, but the OneCycleLR ends at 9"),
        (
            lambda o: native.SequentialLR(
                o, [native.ConstantLR(o), native.OneCycleLR(o, 0.4, 3)], [2]
            ),
            "steps=10, but the SequentialLR ends at",
        ),
        (
            lambda o: native.OneCycleLR(o, 1.0, 9, anneal_strategy="linear"),
            "steps=10, but the OneCycleLR ends at 9",
        ),
    ],
)
def test_what_cannot_be_read_out_is_refused_with_the_way_out(make, says):
    with pytest.raises(ScheduleError, match=says):
        from_torch(make, 10)


def test_a_list_of_one_value_is_one_value():
    """It is for all groups, as there is a single one."""
    one = from_torch(lambda o: native.LambdaLR(o, [lambda k: 0.9**k]), 9)
    assert multipliers(one, 9) == pytest.approx([0.9**k for k in range(9)])


def test_as_many_steps_as_the_scheduler_has_are_read():
    schedule = from_torch(lambda o: native.OneCycleLR(o, 0.4, 10), 10)
    assert max(multipliers(schedule, 10)) == 1


def test_a_scheduler_of_the_users_own_optimizer_is_refused_and_never_stepped():
    optimizer = sgd()
    scheduler = native.StepLR(optimizer, 3)
    before = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    with pytest.raises(ScheduleError, match=r"belongs to another optimizer.*Use its argument"):
        from_torch(lambda _o: scheduler, 9)
    assert (optimizer.state_dict(), scheduler.state_dict()) == before


@pytest.mark.parametrize("steps", [0, -1, 2.5, "50", None])
def test_a_run_has_a_whole_number_of_steps(steps):
    with pytest.raises(ArgumentError, match="steps must be a whole number >= 1"):
        from_torch(lambda o: native.StepLR(o, 3), steps)

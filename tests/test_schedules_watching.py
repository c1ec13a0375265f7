"""`ReduceOnPlateau(on="val")`: it cuts where torch's own scheduler cuts; its texts, its export."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lrtune import from_torch, to_torch
from lrtune.cli.options import schedules as option
from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules import ReduceOnPlateau, parse, replay, snippet
from lrtune.schedules.feedback import validation_interval, validations_between
from lrtune.schedules.registry import registered_name, schedule_text
from lrtune.training.run_keys import run_keys

VAL = st.lists(
    st.one_of(
        st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0, 0.999, 1.001]),
        st.floats(-10, 10),
    ),
    min_size=40,
    max_size=40,
)
EVERY = st.one_of(st.integers(1, 30), st.floats(0.03, 0.5))
SHAPES = st.builds(
    lambda every, **more: ReduceOnPlateau(on="val", every=every, **more),
    EVERY,
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.sampled_from([0.0, 0.05, 0.1, 0.3, 1.0]),
    threshold=st.sampled_from([None, 0.0, 1e-4, 0.1]),
)
often = settings(deadline=None, max_examples=150)


def sgd(lr=0.2):
    return torch.optim.SGD([torch.zeros(1)], lr=lr)


def stepped(scheduler, optimizer, steps, every, val):
    """The rate of each update, in a loop that steps the scheduler after every so many updates."""
    rates, given_ = [], iter(val)
    for step in range(steps):
        if step and step % every == 0:
            scheduler.step(next(given_))
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    return rates


@often
@given(SHAPES, VAL, st.integers(2, 60))
def test_it_cuts_where_torchs_scheduler_cuts(shape, val, steps):
    every, optimizer = shape.validate_every(steps), sgd()
    val = val * 2
    expected = stepped(to_torch(shape, optimizer, steps), optimizer, steps, every, val)
    ours = [0.2 * one for one in replay(shape, [1.0] * steps, val=val)]
    assert ours == pytest.approx(expected, rel=1e-12)
    assert len({*ours}) == len({*expected})


@pytest.mark.parametrize(
    ("patience", "cuts"), [(0.0, [30, 40, 50, 60, 70, 80, 90]), (0.2, [50, 80]), (1.0, [])]
)
def test_by_hand(patience, cuts):
    """Ten updates between two validations, the best of which is the second one."""
    shape = ReduceOnPlateau(on="val", every=10, patience=patience)
    rates = replay(shape, [1.0] * 100, val=[2.0, 1.0] + [1.0] * 7)
    assert [k for k in range(1, 100) if rates[k] != rates[k - 1]] == cuts


@often
@given(SHAPES, VAL, st.integers(-20, 20), st.sampled_from([-64.0, 0.0, 32.0]))
def test_without_a_threshold_neither_scale_nor_zero_of_the_loss_matters(shape, val, power, shift):
    shape = ReduceOnPlateau(on="val", every=shape.every, patience=shape.patience, threshold=0.0)
    val = [round(loss * 64) / 64 if math.isfinite(loss) else loss for loss in val]  # exact sums
    other = [(loss + shift) * 2.0**power for loss in val]
    assert replay(shape, [1.0] * 40, val=other) == replay(shape, [1.0] * 40, val=val)


@often
@given(SHAPES, st.integers(2, 200), st.data())
def test_validations_are_counted_as_they_come(shape, steps, data):
    begin, end = sorted(data.draw(st.tuples(st.integers(0, steps), st.integers(0, steps))))
    every = validation_interval(shape, steps)
    due = [step for step in range(begin, end) if step and step % every == 0]
    assert validations_between(shape, steps, begin, end) == len(due)


def test_losses_of_batches_do_not_matter():
    shape, val = ReduceOnPlateau(on="val", every=2, patience=0.0), [1.0] * 4
    assert replay(shape, [9.0] * 8, val=val) == replay(shape, [math.nan] * 8, val=val)


def test_too_few_validation_losses_are_told():
    with pytest.raises(ScheduleError, match=r"needs 3 of them, got 2\. .*after every 2 steps"):
        replay(ReduceOnPlateau(on="val", every=2), [1.0] * 8, val=[1.0, 1.0])


# --- its text


@pytest.mark.parametrize(
    "text",
    [
        "reduce-on-plateau(on='val', every=50)",
        "reduce_on_plateau(on='val', every=50)",
        "Reduce-On-Plateau( on = 'val', every=50 )",
        "ReduceOnPlateau(on='val', every=50)",
        "ReduceOnPlateau(every=50, on='val', patience=1/10)",
    ],
)
def test_it_is_read_from_its_text(text):
    shape = parse(text)
    assert shape == ReduceOnPlateau(on="val", every=50)
    assert repr(shape) == (
        "ReduceOnPlateau(on='val', every=50, factor=0.1, patience=0.1, threshold=0.0)"
    )
    assert parse(repr(shape)) == shape
    assert schedule_text(shape) == repr(shape)
    assert registered_name(shape) == ""


@often
@given(SHAPES)
def test_whatever_is_printed_is_read_again(shape):
    assert parse(repr(shape)) == shape
    assert eval(repr(shape)) == shape  # noqa: S307 - it is the promise


def test_that_of_batches_is_printed_as_before():
    assert repr(ReduceOnPlateau()) == "ReduceOnPlateau(factor=0.1, patience=0.1, threshold=0.01)"
    for text in (
        "reduce-on-plateau",
        "reduce_on_plateau",
        "ReduceOnPlateau",
        repr(ReduceOnPlateau()),
    ):
        assert parse(text) == ReduceOnPlateau()
    assert schedule_text(ReduceOnPlateau()) == registered_name(ReduceOnPlateau())
    assert schedule_text(ReduceOnPlateau()) == "reduce-on-plateau"
    assert parse("grow-until-plateau(end=4.0)").end == 4.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("reduce-on-plateau(on='val')", r"every=None\): expected on='val' with every"),
        ("reduce-on-plateau(every=50)", r"on='train', every=50\): expected"),
        ("reduce-on-plateau(on='test', every=50)", "expected 'train' or 'val'"),
        ("reduce-on-plateau(on='val', every=0)", "such as 50, or a share of the run"),
        ("reduce-on-plateau(on='val', every=1.5)", "such as 50, or a share of the run"),
        ("reduce-on-plateau(on='val', every=True)", "such as 50, or a share of the run"),
        ("reduce-on-plateau(on='val', every=50, patience=-1)", r"in \[0, 1\]"),
        ("reduce-on-plateau(on='val', every=50, cooldown=3)", "is no schedule: .*cooldown"),
        ("reduce-on-plateau(on='val', every=50) + 1", "is no schedule"),
        ("reduce-on-plateau(on='val'", "is no schedule"),
        ("reduce-on-plateau(on=open('x'))", "is no schedule"),
        ("warmup(0.1, reduce_on_plateau())", "is no schedule"),
    ],
)
def test_texts_that_are_refused(text, says):
    with pytest.raises((ArgumentError, ScheduleError), match=says):
        parse(text)


def test_the_command_line_takes_calls_between_its_commas():
    given_ = "cosine, reduce_on_plateau(on='val', every=50),warmup(0.1, cosine(0.1)), one_cycle"
    assert option(given_) == [
        "cosine", "reduce_on_plateau(on='val', every=50)", "warmup(0.1, cosine(0.1))", "one-cycle"
    ]  # fmt: skip


def test_every_number_is_part_of_the_identity_of_a_run():
    from lrtune import Run

    shapes = [
        ReduceOnPlateau(), ReduceOnPlateau(on="val", every=5),
        ReduceOnPlateau(on="val", every=6), ReduceOnPlateau(on="val", every=5, patience=0.2),
        ReduceOnPlateau(on="val", every=5, threshold=1e-4),
    ]  # fmt: skip
    assert (
        len(set(run_keys("t", [Run(str(n), 0.1, s) for n, s in enumerate(shapes)], 40, "loop")))
        == 5
    )


# --- to and from torch


TORCHS = st.fixed_dictionaries(
    {
        "factor": st.sampled_from([0.1, 0.5]),
        "patience": st.integers(0, 12),
        "threshold": st.sampled_from([0.0, 1e-4, 0.05]),
    }
)


@often
@given(TORCHS, st.integers(2, 40), st.integers(1, 5), VAL)
def test_a_scheduler_of_torch_comes_back_as_it_was(settings_, epochs, each, val):
    """Stepped once per epoch, of some updates."""
    shape = from_torch(lambda o: ReduceLROnPlateau(o, **settings_), epochs)
    optimizer = sgd()
    theirs = ReduceLROnPlateau(optimizer, **settings_, eps=0.0)
    expected = stepped(theirs, optimizer, epochs * each, each, val)
    ours = [0.2 * one for one in replay(shape, [1.0] * epochs * each, val=val)]
    assert ours == pytest.approx(expected, rel=1e-12)


def test_a_scheduler_that_is_stepped_at_the_end_only_is_refused():
    with pytest.raises(ScheduleError, match="steps=1, so ReduceLROnPlateau"):
        from_torch(ReduceLROnPlateau, 1)


def test_that_of_batches_has_no_scheduler_in_torch():
    for export in (
        lambda: to_torch(ReduceOnPlateau(), sgd(), 9),
        lambda: snippet(ReduceOnPlateau(), 0.1, 9),
    ):
        with pytest.raises(ScheduleError, match=r"torch has no such scheduler.*on='val'"):
            export()


@often
@given(SHAPES, VAL, st.integers(2, 60))
def test_the_snippet_makes_the_scheduler_and_says_when_to_step_it(shape, val, steps):
    source = snippet(shape, lr=0.2, steps=steps)
    every = shape.validate_every(steps)
    words = " ".join(source.replace("\n# ", " ").split())
    assert (
        f"After every {every} optimizer step{'s' * (every > 1)} call scheduler.step(val_loss)"
        in words
    )
    assert "lrtune" not in source.partition("\nfrom ")[2]
    script = {"optimizer": sgd()}
    exec(source, script)  # noqa: S102 - it is what users do with it
    optimizer = sgd()
    ours = stepped(script["scheduler"], script["optimizer"], steps, every, val * 2)
    assert ours == stepped(to_torch(shape, optimizer, steps), optimizer, steps, every, val * 2)

"""Schedules that react to the loss: pure, independent of its scale; Li & Arora's equivalence."""

import dataclasses
import math
import random
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules import (
    FEEDBACK,
    GrowUntilPlateau,
    ReduceOnPlateau,
    equivalent_growth,
    replay,
)

LOSSES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80)
ANY = st.sampled_from(list(FEEDBACK.values())).map(lambda make: make())
often = settings(deadline=None, max_examples=100)


def falling_then_flat(seed, noise, steps=1000, knee=400):
    """From 2.3 to 0.3 in a straight line until the knee, with noise in every step."""
    draw = random.Random(seed)
    level = [2.3 - 2.0 * min(k / knee, 1.0) for k in range(steps)]
    return [value + draw.gauss(0, noise) for value in level]


def drops(answers):
    return [k for k in range(1, len(answers)) if answers[k] != answers[k - 1]]


@often
@given(ANY, LOSSES)
def test_feedback_is_pure(feedback, losses):
    state = feedback.start(len(losses))
    for loss in losses:
        first, second = feedback.next(state, loss), feedback.next(state, loss)
        assert first == second
        assert hash(first) == hash(second)
        with pytest.raises(dataclasses.FrozenInstanceError):
            state.watch = None
        state = first[1]


@often
@given(ANY, LOSSES, st.data())
def test_feedback_goes_on_where_it_stopped(feedback, losses, data):
    cut = data.draw(st.integers(0, len(losses)))
    state, answers = feedback.start(len(losses)), []
    for loss in losses[:cut]:
        answer, state = feedback.next(state, loss)
        answers.append(answer)
    kept = dataclasses.replace(state)
    for loss in losses[cut:]:
        answer, kept = feedback.next(kept, loss)
        answers.append(answer)
    assert answers == replay(feedback, losses)


@often
@given(ANY, LOSSES, st.integers(-20, 20))
def test_the_scale_of_the_loss_does_not_matter(feedback, losses, power):
    scaled = [loss * 2.0**power for loss in losses]  # exact, so the answers are too
    assert replay(feedback, scaled) == replay(feedback, losses)


@pytest.mark.parametrize("shift", [-100.0, -2.0, 50.0])
@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_the_sign_of_the_loss_does_not_matter(shift, noise):
    losses = falling_then_flat(0, noise)
    assert replay(ReduceOnPlateau(), [loss + shift for loss in losses]) == replay(
        ReduceOnPlateau(), losses
    )


@given(ANY, LOSSES, st.data())
def test_a_loss_that_is_no_number_is_no_improvement_and_no_error(feedback, losses, data):
    bad = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    where = data.draw(st.integers(0, len(losses)))
    answers = replay(feedback, [*losses[:where], bad, *losses[where:]])
    assert all(math.isfinite(answer) and answer > 0 for answer in answers)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 400])
def test_a_plateau_is_found_after_losses_that_are_no_numbers(bad, where):
    losses = falling_then_flat(0, 0.05, knee=1000)
    losses[where : where + 30] = [bad] * 30
    assert drops(replay(ReduceOnPlateau(patience=0.2), losses)) == []


def test_a_run_of_nan_only_is_a_plateau():
    assert replay(ReduceOnPlateau(patience=0.5), [math.nan] * 16)[-1] < 1


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.3])
def test_a_plateau_is_found_soon_after_it_began_and_not_before(noise):
    for seed in range(20):
        first = drops(replay(ReduceOnPlateau(), falling_then_flat(seed, noise)))[0]
        assert 400 < first <= 700, (seed, first)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.2])
def test_a_falling_loss_is_left_alone(noise):
    for seed in range(20):
        losses = falling_then_flat(seed, noise, knee=1000)
        assert drops(replay(ReduceOnPlateau(), losses)) == []


def test_each_drop_divides_by_ten_and_starts_the_patience_anew():
    answers = replay(ReduceOnPlateau(patience=0.1), falling_then_flat(0, 0.0))
    where = drops(answers)
    assert len(where) >= 4
    assert [answers[k] for k in where] == pytest.approx([0.1**k for k in range(1, len(where) + 1)])
    gaps = {b - a for a, b in pairwise(where)}
    assert gaps == {100}


def test_a_released_loss_is_no_plateau():
    staircase = [3.0] * 150 + [2.9 - k / 100 for k in range(250)]
    answers = replay(ReduceOnPlateau(patience=0.2), staircase)
    assert drops(answers) == [119]  # the stair is as long as first window and patience


@given(st.floats(1.1, 1e6), st.integers(1, 200))
def test_without_a_plateau_the_growth_is_exponential_and_ends_where_it_says(end, steps):
    losses = [-float(k) for k in range(steps)]
    answers = replay(GrowUntilPlateau(end=end), losses)
    assert answers == pytest.approx([end ** (k / steps) for k in range(steps)])


@often
@given(LOSSES)
def test_the_growing_rate_never_falls_and_only_slows_down(losses):
    answers = [math.log(a) for a in replay(GrowUntilPlateau(end=100.0), losses)]
    rises = [b - a for a, b in pairwise(answers)]
    assert all(rise > 0 for rise in rises)
    assert all(b <= a * (1 + 1e-6) for a, b in pairwise(rises))


def test_each_plateau_divides_the_exponent():
    answers = replay(GrowUntilPlateau(end=1e10, factor=0.5), [1.0] * 1000)
    rises = [math.log(b / a) for a, b in pairwise(answers)]
    kinds = sorted({round(rise / rises[0], 6) for rise in rises}, reverse=True)
    assert kinds == pytest.approx([0.5**k for k in range(len(kinds))], abs=1e-6)
    assert len(kinds) >= 9


def test_the_text_of_a_feedback_schedule_makes_it_again():
    for make in FEEDBACK.values():
        assert eval(repr(make())) == make()  # noqa: S307 - it is the promise


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReduceOnPlateau(factor=1.0),
        lambda: ReduceOnPlateau(patience=0.0),
        lambda: ReduceOnPlateau(threshold=-0.1),
        lambda: GrowUntilPlateau(end=1.0),
        lambda: GrowUntilPlateau(end=math.inf),
        lambda: GrowUntilPlateau(factor=math.nan),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ScheduleError, match=r"(Reduce|Grow)\w+\(\w+=.*\): expected"):
        make()


def test_a_run_has_a_step():
    with pytest.raises(ArgumentError, match="steps must be a whole number >= 1, got 0"):
        ReduceOnPlateau().start(0)


@pytest.mark.parametrize(
    ("rate", "decay", "momentum"), [(0.1, -1.0, 0.0), (1.0, 1.0, 0.0), (0.1, 0.1, 0.9)]
)
def test_there_is_no_growth_for_a_decay_that_makes_weights_swing(rate, decay, momentum):
    with pytest.raises(ArgumentError, match="Lower one of them"):
        equivalent_growth(rate, decay, momentum)


# -- Li & Arora 2020: weight decay at a constant rate is an exponentially growing rate ------------


def scale_invariant_loss(weights, inputs, targets):
    """Two layers, each normalised over the batch, so that no loss sees the scale of a weight."""
    hidden = inputs
    for weight in weights:
        hidden = hidden @ weight
        hidden = (hidden - hidden.mean(0)) / hidden.std(0)
        hidden = torch.tanh(hidden)
    return ((hidden - targets) ** 2).mean()


def directions(seed, rates, weight_decay, momentum=0.0, seeding=0.0):
    """Unit vectors of all weights after each of the steps; seeding: first buffer / weight."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = [draw(5, 6).requires_grad_(), draw(6, 4).requires_grad_()]
    optimizer = torch.optim.SGD(weights, lr=1.0, momentum=momentum, weight_decay=weight_decay)
    if seeding:
        for weight in weights:
            optimizer.state[weight]["momentum_buffer"] = seeding * weight.detach().clone()
    path = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        scale_invariant_loss(weights, draw(32, 5), draw(32, 4)).backward()
        optimizer.step()
        path.append(torch.cat([(w / w.norm()).detach().flatten() for w in weights]))
    return torch.stack(path)


def test_the_loss_of_this_test_is_scale_invariant():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(5, 6, generator=generator, dtype=torch.float64) for _ in range(1)]
    inputs = torch.randn(32, 5, generator=generator, dtype=torch.float64)
    targets = torch.zeros(32, 6, dtype=torch.float64)
    small, large = (
        scale_invariant_loss([factor * w for w in weights], inputs, targets) for factor in (1, 1000)
    )
    assert float(small) == pytest.approx(float(large), rel=1e-12)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1000), st.floats(0.01, 0.5), st.floats(1e-3, 0.05))
def test_weight_decay_is_an_exponentially_growing_rate(seed, rate, decay):
    steps = 60
    published = [rate * (1 - decay * rate) ** (-2 * t - 1) for t in range(steps)]
    growth = equivalent_growth(rate, decay)
    assert [rate * growth ** (t + 0.5) for t in range(steps)] == pytest.approx(published, rel=1e-12)
    constant = directions(seed, [rate] * steps, decay)
    growing = directions(seed, published, 0.0)
    assert float((constant - growing).abs().max()) < 1e-10
    still = directions(seed, [rate] * steps, 0.0)
    assert float((constant - still).abs().max()) > 1e-8  # or it would prove nothing


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 1000), st.floats(0.01, 0.1), st.floats(1e-4, 0.02), st.floats(0.1, 0.9))
def test_weight_decay_with_momentum_is_an_exponentially_growing_rate(seed, rate, decay, momentum):
    steps = 60
    growth = equivalent_growth(rate, decay, momentum)
    alpha = growth**-0.5
    rates = [rate * growth ** (t + 0.5) for t in range(steps)]
    constant = directions(seed, [rate] * steps, decay, momentum)
    growing = directions(seed, rates, 0.0, momentum, seeding=-(1 - alpha) / (rate * alpha))
    assert float((constant - growing).abs().max()) < 1e-10

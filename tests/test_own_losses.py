"""What a training loop of the user's own returns: what gives a wrong answer is refused or said."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import lrtune
from lrtune import Run, Trace
from lrtune.errors import AnswerWarning, ArgumentError
from lrtune.schedules import cosine
from lrtune.training.evaluate import CheckedEvaluate

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(60, 4, generator=DRAW)
Y = (X @ torch.randn(4, 3, generator=DRAW)).argmax(1)


def losses(run, until, steps, model=None, lr=None):
    """An ordinary training loop."""
    if model is None:
        torch.manual_seed(run.seed)
        model = nn.Linear(4, 3)
    order, said = torch.Generator().manual_seed(run.seed), []
    for step in range(until):
        rows = torch.randint(0, 60, (20,), generator=order)
        loss = functional.cross_entropy(model(X[rows]), Y[rows])
        model.zero_grad()
        loss.backward()
        said.append(loss.item())
        rate = run.lr * run.schedule(step / steps) if lr is None else lr
        with torch.no_grad():
            for weight in model.parameters():
                weight.sub_(rate * weight.grad)
    return said


def loop(train):
    """An `evaluate` of a function (run, until, steps) to losses."""

    def evaluate(runs, steps, *, until=None, **_):
        return Trace.of(runs, steps, {run.name: train(run, until or steps, steps) for run in runs})

    return evaluate


VERBS = {
    "search": lambda evaluate: lrtune.search(steps=60, evaluate=evaluate),
    "compare": lambda evaluate: lrtune.compare(
        None, 0.5, steps=60, schedules=["step"], seeds=2, evaluate=evaluate
    ),
}


def one_model(seeds):
    """Every run of a seed goes on with one model."""
    models = {}
    return lambda run, until, steps: losses(
        run, until, steps, models.setdefault(run.seed % seeds, nn.Linear(4, 3))
    )


WRONG = {
    "one loss in ten": (
        lambda run, until, steps: losses(run, until, steps)[::10],
        r"evaluate returned .* loss(es)? of run .*until=\d+; expected one loss for each update",
    ),
    "all steps": (
        lambda run, _until, steps: [*losses(run, steps, steps), 0.1][:steps],
        r"evaluate returned 60 losses of run .*until=\d+; expected one loss for each update",
    ),
    "a rate of its own": (
        lambda run, until, steps: losses(run, until, steps, lr=0.1),
        r"evaluate returned the same \d+ losses for the runs .*Use run.lr",
    ),
    "one model": (one_model(100), "which is trained already; expected runs of one seed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_search_refuses_losses_that_give_a_wrong_answer(name):
    train, told = WRONG[name]
    with pytest.raises(ArgumentError, match=told):
        VERBS["search"](loop(train))


def test_a_comparison_refuses_them_too():
    for name in ("one loss in ten", "a rate of its own"):
        with pytest.raises(ArgumentError, match=r"Use run.lr|expected one loss"):
            VERBS["compare"](loop(WRONG[name][0]))


@pytest.mark.filterwarnings("ignore::lrtune.errors.AnswerWarning")
def test_an_ordinary_loop_is_not_warned_of():
    found = VERBS["search"](loop(losses))
    assert "begin" not in " ".join(found.warnings)
    assert found.lr > 0.01


@pytest.mark.parametrize("verb", VERBS)
def test_runs_that_begin_differently_are_told(verb):
    other = itertools.count()

    def unseeded(run, until, steps):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        model.bias.data[0] += 0.5 * (next(other) % 3)
        return losses(run, until, steps, model)

    with pytest.warns(AnswerWarning, match="begin at different losses"):
        found = VERBS[verb](loop(unseeded))
    assert "chance takes part" in " ".join(found.warnings)


def checked(curves, until, steps=9, runs=None):
    runs = runs or [Run(name, 10.0**-place) for place, name in enumerate(curves)]
    CheckedEvaluate(lambda *_, **__: Trace.of(runs, steps, curves))(
        runs, steps, stage="short", until=until
    )


def test_what_is_legitimate_passes():
    """Failed runs are shorter; rates that hardly differ, or losses that never change, are alike."""
    checked({"a": [2.0, 1, 0.5, 0.4], "b": [2.0, math.nan]}, 4)
    checked({"a": [2.0, 2, 9.0, 99, 999], "b": [2.0, 1.9, 1.8, 1.7, 1.6]}, 5)
    checked({"a": [2.0] * 5, "b": [2.0] * 5}, 5)
    close = [Run("a", 0.1), Run("b", 0.2)]
    checked({"a": [2.0, 1, 0.5], "b": [2.0, 1, 0.5]}, 3, runs=close)
    low = [Run("a", 1e-7), Run("b", 1e-5)]
    checked({"a": [2.0, 1, 0.5], "b": [2.0, 1, 0.5]}, 3, runs=low)
    seeds = [Run("a", 0.1), Run("b", 9.0, seed=1)]
    checked({"a": [2.0, 1, 0.5], "b": [2.0, 1, 0.5]}, 3, runs=seeds)
    with pytest.raises(ArgumentError, match="the same 3 losses"):
        checked({"a": [2.0, 1, 0.5], "b": [2.0, 1, 0.5]}, 3)


def test_a_loop_without_the_schedule_is_refused():
    pair = [Run("a", 0.1), Run("b", 0.1, cosine())]
    curve = {"a": [2 / (1 + n) for n in range(20)]} | {"b": [2 / (1 + n) for n in range(20)]}
    with pytest.raises(ArgumentError, match="the same 20 losses"):
        checked(curve, 20, steps=20, runs=pair)
    checked({name: one[:5] for name, one in curve.items()}, 5, steps=20, runs=pair)

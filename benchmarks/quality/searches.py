"""Searches by trial of others; some may spend as many updates as lrtune's."""

import functools
import math
from collections.abc import Iterator

import numpy as np
import optuna
import pandas as pd
import torch
from torch import nn

from benchmarks.quality.answers import Answer, Answers, Setup
from benchmarks.quality.searched import OPTIONS, OURS, lrtune_search
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import lost
from lrtune import Cohort, Run, Trace
from lrtune.results.runs import validation_losses
from lrtune.task.random_state import preserve_random_state
from lrtune.training.engines.fastest import Fastest

SPAN = (1e-5, 10.0)
"""Where others look for a rate: as wide as the oracle."""

COARSE = (0.1, 0.01, 0.001, 0.0001)
"""The lecture's coarse grid."""

RUNGS = 8
"""Optuna's pruners are told the validation loss so often."""


def cohort(spec: Spec, rates: list[float], seed: int, steps: int) -> Trace:
    """Constant rates for so many updates, with their validation loss at the end."""
    task = spec.task()
    runs = [Run(f"{lr:.6g}", lr, seed=seed) for lr in dict.fromkeys(rates)]
    many = Cohort(task, runs, steps, engine=Fastest(task), retire=lost(spec.guessing()))
    return many.advance().validate().trace


def epoch(spec: Spec) -> int:
    """Updates of one pass over the training data, at most T."""
    (_, labels), _ = spec.data
    return min(spec.steps, len(labels) // spec.batch)


def lowest(loss: pd.Series) -> float:
    """The rate with the lowest loss."""
    loss = loss[np.isfinite(loss)]
    if loss.empty:
        raise ValueError("every rate failed")
    return float(loss.idxmin())


def one_epoch(setup: Setup) -> Answers:
    """Two rates per decade for one epoch; the lowest validation loss is kept."""
    rates = [float(f"{10 ** (k / 2):.6g}") for k in range(-10, 3)]
    trace = cohort(setup.spec, rates, setup.repeat, epoch(setup.spec))
    final = validation_losses(trace.validations)
    return {"best after one epoch": Answer(lowest(final.rename(float)))}


def coarse(setup: Setup) -> Answers:
    """The lecture's slide: four rates for one epoch; the lowest training loss is kept."""
    trace = cohort(setup.spec, list(COARSE), setup.repeat, epoch(setup.spec))
    finished = trace.runs[trace.runs["outcome"] == "FINISHED"]["run"]
    rows = trace.frame[trace.frame["run"].isin(finished)]
    return {"coarse, one epoch": Answer(lowest(rows.groupby("run")["loss"].mean().rename(float)))}


def random_search(setup: Setup) -> Answers:
    """Rates drawn at random, each for the full length, as many as the budget has trainings."""
    count = max(1, round(setup.budget / setup.spec.steps))
    drawn = np.random.default_rng(setup.repeat).uniform(*np.log10(SPAN), count)
    trace = cohort(setup.spec, (10**drawn).tolist(), setup.repeat, setup.spec.steps)
    final = validation_losses(trace.validations)
    return {"random search": Answer(lowest(final.rename(float)))}


PRUNERS = {
    "Optuna, median": optuna.pruners.MedianPruner,
    "Optuna, halving": optuna.pruners.SuccessiveHalvingPruner,
}


def optuna_alone(setup: Setup, *, method: str) -> Answers:
    """TPE and a pruner, with their defaults, until the budget is spent."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spent = [0]

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", *SPAN, log=True)
        loss = math.inf
        for rung, loss in enumerate(_by_hand(setup, lr, spent)):
            if not math.isfinite(loss):
                raise optuna.TrialPruned
            trial.report(loss, rung)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss

    def stop(study: optuna.Study, _: object) -> None:
        if spent[0] >= setup.budget:
            study.stop()

    sampler = optuna.samplers.TPESampler(seed=setup.repeat)
    study = optuna.create_study(sampler=sampler, pruner=PRUNERS[method]())
    study.optimize(objective, callbacks=[stop])
    return {method: Answer(float(study.best_params["lr"]))}


def _by_hand(setup: Setup, lr: float, spent: list[int]) -> Iterator[float]:
    """The validation loss at every rung of a training; inf when it is not finite."""
    spec = setup.spec
    (inputs, targets), val = spec.data
    stops = {round(spec.steps * (k + 1) / RUNGS) for k in range(RUNGS)}
    with preserve_random_state():
        model = setup.model()
        optimizer = setup.optimizer(model, lr)
        random = torch.Generator().manual_seed(setup.repeat)
        rows = torch.empty(0, dtype=torch.long)
        for step in range(1, spec.steps + 1):
            if len(rows) < spec.batch:
                rows = torch.randperm(len(targets), generator=random)
            batch, rows = rows[: spec.batch], rows[spec.batch :]
            optimizer.zero_grad()
            loss = spec.loss(model(inputs[batch]), targets[batch])
            loss.backward()
            optimizer.step()
            spent[0] += 1
            if not math.isfinite(float(loss)):
                yield math.inf
            if step in stops:
                yield _validated(model, spec, val)


def _validated(model: nn.Module, spec: Spec, val: tuple[torch.Tensor, torch.Tensor]) -> float:
    model.eval()
    with torch.no_grad():
        loss = float(spec.loss(model(val[0]), val[1]))
    model.train()
    return loss if math.isfinite(loss) else math.inf


SEARCHES = (
    *((functools.partial(lrtune_search, method=one), (one,), "") for one in OPTIONS),
    (one_epoch, ("best after one epoch",), ""),
    (coarse, ("coarse, one epoch",), ""),
)
RIVALS = (
    (random_search, ("random search",), OURS),
    *((functools.partial(optuna_alone, method=one), (one,), OURS) for one in PRUNERS),
)
"""They may spend what ours has spent, so they come after it."""

COMBINED = (
    ("fastai valley", "one-cycle"),
    ("coarse, one epoch", "linear"),
    ("best after one epoch", "linear"),
)
"""Answers that are trained under a decaying schedule as well."""

"""Optimizers that need no learning rate, each with the defaults that its documentation gives."""

import functools
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable

import dadaptation
import prodigyopt
import schedulefree
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from benchmarks.quality.answers import FREE
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import FEWER, Judge, lost
from lrtune import Task
from lrtune.task.random_state import preserve_random_state
from lrtune.task.states import TrainState

WARMUP = 0.05
"""Schedule-free's README recommends a warmup; this is its share of the run."""

LOOK = 50
"""A run that is lost is noticed after at most so many updates."""

Make = Callable[[Iterable[torch.Tensor], int], Optimizer]


def _free(kind: type[Optimizer], params: Iterable[torch.Tensor], steps: int) -> Optimizer:
    return kind(params, warmup_steps=round(WARMUP * steps))


def _adapting(kind: type[Optimizer], params: Iterable[torch.Tensor], _: int) -> Optimizer:
    return kind(params, lr=1.0)


METHODS: dict[str, Make] = {
    "schedule-free AdamW": functools.partial(_free, schedulefree.AdamWScheduleFree),
    "schedule-free SGD": functools.partial(_free, schedulefree.SGDScheduleFree),
    "Prodigy": functools.partial(_adapting, prodigyopt.Prodigy),
    "Prodigy, cosine": functools.partial(_adapting, prodigyopt.Prodigy),
    "D-Adaptation Adam": functools.partial(_adapting, dadaptation.DAdaptAdam),
    "D-Adaptation SGD": functools.partial(_adapting, dadaptation.DAdaptSGD),
}


def free(judge: Judge) -> None:
    """Every method on some of the judging seeds: same weights and batches as the oracle's."""
    spec = judge.spec
    known, task = FREE.known(), spec.task()
    for method, seed in itertools.product(METHODS, FEWER):
        if (spec.name, method, seed) in known:
            continue
        begin, row = time.process_time(), {"task": spec.name, "method": method, "seed": seed}
        with preserve_random_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row |= _trained(spec, task, method, seed)
        FREE.add([row | {"seconds": time.process_time() - begin}])


def _trained(spec: Spec, task: Task, method: str, seed: int) -> dict[str, object]:
    state = task.init_state(seed, 1.0)
    optimizer = METHODS[method](state.model.parameters(), spec.steps)
    state.optimizer = optimizer
    averaging = hasattr(optimizer, "eval")
    if averaging:
        optimizer.train()
    planned = CosineAnnealingLR(optimizer, spec.steps) if method.endswith("cosine") else None
    judge, losses = lost(spec.guessing()), []
    for batch in itertools.islice(task.batches(seed), spec.steps):
        optimizer.zero_grad()
        loss = task.loss(state, batch)
        loss.backward()
        optimizer.step()
        if planned is not None:
            planned.step()
        losses.append(float(loss.detach()))
        if len(losses) % LOOK == 0 or not math.isfinite(losses[-1]):
            out = judge(torch.tensor(losses).numpy())
            if out is not None:
                return {"updates": len(losses), "said": out[1].name}
    if averaging:
        optimizer.eval()
        _renewed(task, state.model, seed)
    return {"updates": spec.steps, "val": _validated(task, state)}


def _validated(task: Task, state: TrainState) -> float:
    """The loss over all validation data."""
    parts = task.validate({"": state})[""]
    return sum(part.loss * part.samples for part in parts) / sum(part.samples for part in parts)


def _renewed(task: Task, model: torch.nn.Module, seed: int) -> None:
    """BatchNorm's statistics of the averaged weights, as schedule-free's README has it."""
    if not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    model.train()
    with torch.no_grad():
        for batch in itertools.islice(task.batches(seed), 50):
            model(*batch[:-1])

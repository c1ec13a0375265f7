"""What lrtune costs and saves: every figure is a ratio of functions that took turns.

    python benchmarks/speed.py [section ...] [--threads N] [--repeats N]

overhead    a cohort of one against the hand-written loop, per task
peers       range_test against the finders of torch-lr-finder, fastai, Lightning and ignite
            (pip install 'lrtune[rivals]')
search      the coarse-to-fine search against 17 trainings one after the other, and against Optuna
            with its successive-halving pruner; also with a loader as slow as the step
lockstep    K runs in lockstep against K times one run, per engine, with the peak of memory
recording   what keeping the record costs per run and step
start       `lrtune --help`

Without a name, all of them. Medians with quartiles of paired ratios.
"""

import argparse
import functools
import itertools
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import optuna
import rivals
import timing
import torch
from models import Setting, setting, slow_loader
from timing import header, ratio, ratio_text, timed
from torch import Tensor

from lrtune import Cohort, Run, Task, range_test, search, train
from lrtune.demo import images
from lrtune.results.runs import grid, validation_losses
from lrtune.task.random_state import (
    ORDER,
    WEIGHTS,
    derive_seed,
    preserve_random_state,
    seed_everything,
)
from lrtune.training import Loop, Vmapped
from lrtune.training.engines.fastest import Fastest

T = 500
"""Length of the training that the search is for."""


def brought(name: str, **options: object) -> Task:
    chosen = setting(name)
    return Task(
        chosen.model,
        chosen.data,
        loss=chosen.loss,
        batch_size=chosen.batch,
        device="cpu",
        **options,
    )


# --- overhead -------------------------------------------------------------------------------------


def by_hand(chosen: Setting, steps: int, turn: int) -> Iterator[list[float]]:
    """The loop that a user writes; pauses every `turn` steps, and ends with its losses."""
    inputs, targets = chosen.data
    seed_everything(derive_seed(0, WEIGHTS))
    model = chosen.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    losses: list[Tensor] = []
    yield []
    for epoch in itertools.count():
        order = torch.Generator().manual_seed(derive_seed(0, ORDER, epoch))
        rows = torch.randperm(len(targets), generator=order)
        for start in range(0, len(targets) - chosen.batch + 1, chosen.batch):
            batch = rows[start : start + chosen.batch]
            optimizer.zero_grad()
            loss = chosen.loss(model(inputs[batch]), targets[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if len(losses) % turn == 0:
                yield []
            if len(losses) == steps:
                yield torch.stack(losses).tolist()


def by_cohort(name: str, steps: int, turn: int) -> Iterator[list[float]]:
    cohort = Cohort(brought(name), [Run("one", 0.01)], steps)
    yield []
    for step in range(turn, steps + 1, turn):
        cohort.advance(step)
        yield []
    yield cohort.trace.frame["loss"].tolist()


def overhead() -> None:
    """They train alike, bit for bit, which is checked."""
    header("overhead: a cohort of one / the hand-written loop")
    turns = {"tiny CNN, 8x8": 200, "LeNet, 28x28": 100, "U-Net, 32x32": 20, "ResNet-18, 32x32": 2}
    for name, turn in turns.items():
        steps = turn * (29 if turn > 20 else 9)
        for _ in by_cohort(name, 2 * turn, turn):  # a warm-up
            pass
        functions = [by_hand(setting(name), steps, turn), by_cohort(name, steps, turn)]
        times: list[list[float]] = [[], []]
        with preserve_random_state():
            for position in range(steps // turn + 2):
                ends = []
                for index in (0, 1) if position % 2 else (1, 0):
                    begin = time.perf_counter()
                    ends.append(next(functions[index]))
                    times[index].append(time.perf_counter() - begin)
        assert ends[0] == ends[1], "the two must train alike, bit for bit"
        hand, cohort = times
        micro = statistics.median(hand[1:-1]) / turn * 1e6
        print(f"{name:18s} {ratio_text(cohort[1:-1], hand[1:-1])}  of {micro:9,.0f} us per step")


# --- peers ----------------------------------------------------------------------------------------


PEERS = {
    "torch-lr-finder": "torch_lr_finder", "ignite": "ignite", "Lightning": "lightning",
    "fastai": "fastai",
}  # fmt: skip


def peers(steps: int = 100) -> None:
    """One sweep each; per optimizer update. Ours also passes every batch through a twin."""
    header(f"peers: a range test of {steps} updates")
    name = "tiny CNN, 8x8"
    chosen, task = setting(name), brought(name)

    data = torch.utils.data.TensorDataset(*chosen.data)
    loader = torch.utils.data.DataLoader(data, chosen.batch, shuffle=True, drop_last=True)
    functions = {
        "lrtune": lambda: range_test(task, steps=steps, seeds=1, high=1.0),
        "lrtune, on the loader": lambda: range_test(
            Task(chosen.model, loader, device="cpu"), steps=steps, seeds=1, high=1.0
        ),
    }
    for peer, module in PEERS.items():
        try:
            functions[peer] = getattr(rivals, module)(chosen, loader, steps)
        except ImportError as error:
            print(f"{peer} is left out: {error}")
    updates: dict[str, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, run in functions.items():
            result = run()
            updates[name] = result if isinstance(result, int) else len(result.frame)
        times = timed(functions)
    per_update = {name: [t / updates[name] for t in some] for name, some in times.items()}
    for name, some in sorted(per_update.items(), key=lambda one: statistics.median(one[1])):
        print(
            f"{name:24s} {statistics.median(some) * 1e6:8,.0f} us per update; lrtune takes "
            f"{ratio_text(per_update['lrtune'], some)}"
        )


# --- search ---------------------------------------------------------------------------------------

COARSE = (0.1, 0.01, 0.001, 0.0001)
FINE = tuple(round(0.8 + 0.1 * place, 1) for place in range(13))


def endless(data: Iterable) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch, each loaded (and augmented) anew, as a training does."""
    while True:
        yield from data


def one_by_one(chosen: Setting, train_data: object, val: tuple[Tensor, Tensor]) -> float:
    """Seventeen trainings: four rates, then thirteen around the best; the last loss decides."""

    def final(lr: float) -> float:
        seed_everything(0)
        model = chosen.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        for _, (inputs, targets) in zip(range(T), endless(train_data), strict=False):
            optimizer.zero_grad()
            chosen.loss(model(inputs), targets).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(chosen.loss(model(val[0]), val[1]))
        return loss if math.isfinite(loss) else math.inf

    coarse = {lr: final(lr) for lr in COARSE}
    eta = min(coarse, key=coarse.get)
    fine = {factor * eta: final(factor * eta) for factor in FINE}
    return min(fine, key=fine.get)


def by_optuna(chosen: Setting, train_data: object, val: tuple[Tensor, Tensor]) -> float:
    """Seventeen trials of its default sampler, pruned by successive halving at every eighth."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        seed_everything(0)
        model = chosen.model()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        for step, (inputs, targets) in zip(range(T), endless(train_data), strict=False):
            optimizer.zero_grad()
            chosen.loss(model(inputs), targets).backward()
            optimizer.step()
            if (step + 1) % (T // 8) == 0:
                with torch.no_grad():
                    loss = float(chosen.loss(model(val[0]), val[1]))
                if not math.isfinite(loss):
                    raise optuna.TrialPruned
                trial.report(loss, step)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return loss

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=T // 8)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=17)
    return float(study.best_params["lr"])


class InMemory:
    """Shuffled batches of tensors, without the cost of a DataLoader."""

    def __init__(self, chosen: Setting) -> None:
        self.chosen = chosen

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = self.chosen.data
        for rows in torch.randperm(len(targets)).split(self.chosen.batch):
            yield inputs[rows], targets[rows]


def searches() -> None:
    """Seconds of the whole search, and how good its answer is: trained with it, eight seeds."""
    chosen, (_, val) = setting("tiny CNN, 8x8"), images()
    task = brought("tiny CNN, 8x8", val=val)
    step = timed({"": lambda: train(task, [Run("a", 0.01)], 200, validate=False)}, 3)[""]
    slow = slow_loader(chosen, statistics.median(step) / 200)
    header(f"search: {T} steps, batches in memory")
    _search(chosen, task, InMemory(chosen), val)
    header(f"search: {T} steps, a loader as slow as the step")
    _search(chosen, Task(chosen.model, slow, val=val, device="cpu"), slow, val)


def _search(chosen: Setting, task: Task, data: Iterable, val: tuple[Tensor, Tensor]) -> None:
    answers: dict[str, float] = {}
    functions = {
        "17 trainings": lambda: one_by_one(chosen, data, val),
        "Optuna, 17 trials": lambda: by_optuna(chosen, data, val),
        "lrtune, budget 1": lambda: search(task, steps=T, budget=1.0).lr,
        "lrtune, budget 2": lambda: search(task, steps=T, budget=2.0).lr,
        "lrtune": lambda: search(task, steps=T).lr,
        "lrtune, whole grid": lambda: search(task, steps=T, fine="grid").lr,
    }
    times = timed(
        {name: functools.partial(_kept, answers, name, run) for name, run in functions.items()}
    )
    checked = train(task, grid(sorted(set(answers.values())), range(7, 15)), T, engine="auto")
    val = checked.runs["run"].map(validation_losses(checked.validations))
    loss = val.groupby(checked.runs["lr"]).mean()
    for name, some in times.items():
        print(
            f"{name:22s} {statistics.median(some):7.2f} s; 17 trainings take as long times "
            f"{ratio_text(times['17 trainings'], some)}; lr {answers[name]:.3g}, with a validation "
            f"loss of {loss[answers[name]]:.3f}"
        )


def _kept(answers: dict[str, float], name: str, run: Callable[[], float]) -> None:
    answers[name] = float(f"{run():.6g}")


# --- lockstep -------------------------------------------------------------------------------------

ENGINES = {"loop": Loop, "vmapped": Vmapped, "auto": Fastest}


def lockstep() -> None:
    """Time per run and step, relative to a cohort of one; and memory, in a process of its own."""
    most = {"tiny CNN, 8x8": (64, 40), "LeNet, 28x28": (32, 20), "U-Net, 32x32": (8, 12)}
    for name, (largest, steps) in most.items():
        header(f"lockstep: {name}")
        task = brought(name)
        count = 1
        while count <= largest:
            runs = grid([0.01 * (1 + place / 100) for place in range(count)], [0])

            functions = {
                engine: functools.partial(_advanced, task, runs, steps, engine)
                for engine in ENGINES
            }
            times = timed(functions)
            per = {
                engine: statistics.median(some) / count / steps * 1e6
                for engine, some in times.items()
            }
            auto = ratio(times["loop"], times["auto"])
            print(
                f"K = {count:2d}: us per run and step: "
                + ", ".join(f"{engine} {value:7,.0f}" for engine, value in per.items())
                + f"; loop / auto {auto[0]:.2f} ({auto[1]:.2f} to {auto[2]:.2f}); peak MiB: "
                + ", ".join(
                    f"{engine} {_peak(name, engine, count)}" for engine in ("loop", "vmapped")
                )
            )
            count *= 4


def _advanced(task: Task, runs: list[Run], steps: int, engine: str) -> None:
    Cohort(task, runs, steps, engine=ENGINES[engine](task)).advance()


def _peak(name: str, engine: str, count: int) -> int:
    """MiB of memory that a process needs at most, above that of a cohort of one in the loop."""
    command = [sys.executable, __file__, "--peak", name, engine, str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(name: str, engine: str, count: int) -> None:
    task = brought(name)
    train(task, [Run("a", 0.01)], 3)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the start (Linux)
    before = _kilobytes("VmRSS")
    runs = grid([0.01 * (1 + place / 100) for place in range(count)], [0])
    Cohort(task, runs, 3, engine=ENGINES[engine](task)).advance()
    print((_kilobytes("VmHWM") - before) // 1024)


def _kilobytes(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


# --- recording, start -----------------------------------------------------------------------------


class Nothing(Loop):
    """An engine that trains nothing, so that what is left is the record."""

    def update(self, runs: list[Run], *_: object) -> Tensor:
        return torch.ones(len(runs))


def recording(steps: int = 500) -> None:
    """Batches, digests, losses, the look for divergence, the tables."""
    header("recording: per run and step, without any training")
    task = brought("tiny CNN, 8x8")
    for count in (1, 13, 39):
        runs = grid([0.01 * (1 + place / 100) for place in range(count)], [0])
        function = {
            "": lambda runs=runs: Cohort(task, runs, steps, engine=Nothing(task)).advance().trace
        }
        micro = statistics.median(timed(function)[""]) / count / steps * 1e6
        print(f"K = {count:2d}: {micro:6.1f} us")


def start() -> None:
    """A process of its own, from its start to its end."""
    header("start: lrtune --help")
    command = [sys.executable, "-m", "lrtune", "--help"]
    function = {"": lambda: subprocess.run(command, check=True, capture_output=True)}
    seconds = timed(function)[""]
    print(f"{statistics.median(seconds):.3f} s (slowest {max(seconds):.3f} s)")


SECTIONS = {
    "overhead": overhead, "peers": peers, "search": searches, "lockstep": lockstep,
    "recording": recording, "start": start,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", help=", ".join(SECTIONS))
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=timing.REPEATS)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    timing.REPEATS = arguments.repeats
    if arguments.peak:
        peak(arguments.peak[0], arguments.peak[1], int(arguments.peak[2]))
        return
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for name in arguments.sections or SECTIONS:
        SECTIONS[name]()


if __name__ == "__main__":
    main()

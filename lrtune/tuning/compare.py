"""compare(): find each schedule's peak rate, select parameters, rank with fresh seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lrtune.analysis.curves import end_level
from lrtune.analysis.paired import survivors
from lrtune.analysis.rate_estimate import NEIGHBOUR, estimate_optimum, rounded
from lrtune.errors import ArgumentError, positive_number, whole_number
from lrtune.results import ComparisonResult
from lrtune.results.runs import Shape, seed_list
from lrtune.results.serialization import manifest
from lrtune.schedules import constant
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress
from lrtune.tuning.candidates import Candidate, ParameterSampler, Round, Rounds, resolve_schedules
from lrtune.tuning.planning import DEFAULT_STEPS
from lrtune.tuning.rate_history import Limits, clip, within
from lrtune.tuning.summary import summarize

HORIZONS = 3  # each horizon is twice as long as the one before; the last one ranks the schedules
SELECTION_SEEDS = 3  # fewer select rates that diverge with the next seed
STEPS_DOWN = 2  # how often a schedule that fails with the fresh seeds is tried at a lower rate
GROWTHS = 3  # how often the grid of a schedule grows while its best rate is at the edge
BATCH = 4  # candidates of a schedule that are trained side by side before Optuna proposes the next

# Weight of a schedule's own short runs in its peak, over log rate; the rest is the search's rate
# (`docs/decisions/0011-peaks-and-ties.md`).
MEASURED_WEIGHT = 1 / 3


def compare(
    task: Task,
    lr: float,
    *,
    schedules: Sequence[str] | Mapping[str, Shape] | None = None,
    steps: int = DEFAULT_STEPS,
    seeds: int = 5,
    seed: int = 0,
    samples: int = 0,
    horizon: int | None = None,
    limits: Limits = (1e-7, 10.0),
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> ComparisonResult:
    """Rank schedules for this task, each at its own peak rate, by complete short runs.

    Every run is a whole schedule, compressed to one of three horizons, each twice the one before.

    1. Peaks, on the first horizon: three rates a factor of sqrt(10) apart, or more while the best
       is at the edge. The peak is a weighted mean of what these runs and what `lr` say.
    2. Selection, over the horizons but the last: the defaults and `samples` of each schedule's
       parameters. After each the worse half is dropped, but never the best of a schedule.
    3. Ranking, on the last horizon, with fresh seeds: the best candidate of each schedule; one that
       diverges is tried at a lower rate.

    Schedules are ranked by validation loss, or without validation data by the training loss of the
    last fifth. For a winner the intervals of its differences to all others exclude zero, and the
    horizons agree. Otherwise it is a tie, and of the tied schedules the one with the lowest loss in
    the benchmark is recommended.

    Args:
        task: What is trained; it stays as it is.
        lr: The best constant rate for `steps`, such as `search` found it, > 0.
        schedules: Names in `schedules.SCHEDULES` or `schedules.FEEDBACK`, or a mapping of names
            to schedules of your own, any function of progress; `["all"]` is the whole registry.
            Constant, linear and cosine are always in.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many fresh seeds the ranking uses.
        seed: The first seed; the others follow it.
        samples: Samples of each schedule's own parameters, besides its defaults. In the benchmark
            two of them gained nothing (`docs/decisions/0011-peaks-and-ties.md`).
        horizon: The last horizon; a quarter of `steps` when None.
        limits: The lowest and the highest rate to try.
        progress: Called with the stage, the updates done and the total.
        evaluate: The function that trains runs; an `Evaluator` of the task when None.

    Returns:
        A `ComparisonResult`: `winner` or a tie, `table`, `snippet()`, `stability`, `notes`.

    Raises:
        ArgumentError: A number or a name is out of its range; nothing has trained.
        ScheduleError: A schedule raises, or gives no finite multiplier >= 0; nothing has trained.
        SearchError: Every schedule failed.

    >>> from lrtune.testing import bowl
    >>> ranked = compare(bowl(4.0), 0.25, schedules=["constant"], steps=64, seeds=2)
    >>> sorted(ranked.table["schedule"])
    ['constant', 'cosine', 'linear']
    """
    lr = positive_number("lr", lr)
    horizons, limits = _checked(lr, samples, steps, horizon, limits)
    last = horizons[-1]
    compared = resolve_schedules(schedules, horizons)
    fresh = seed_list(seeds, seed + SELECTION_SEEDS)
    evaluate = evaluate or Evaluator(task, progress=progress)
    rounds = Rounds(evaluate, compared, seed_list(SELECTION_SEEDS, seed))
    informative = informative_horizons(rounds, lr, horizons)
    peaks = find_peaks(rounds, lr, limits, horizons[0])
    best = select(rounds, peaks, samples, informative[:-1] or informative)
    final = rounds.train(best, last, fresh, "compare: fresh seeds")
    for _ in range(STEPS_DOWN):
        if lower := lower_failed(final, limits[0]):
            final = final.merged(rounds.train(lower, last, fresh, "compare: stepped down"))
    names = tuple(schedule.name for schedule in compared)
    settings = {"lr": lr, "schedules": names, "steps": steps, "horizon": last, "seeds": seeds}
    made = manifest(task.describe(), **settings, seed=seed, samples=samples)
    return summarize(rounds, final, steps, made, task.loss_kind.scale)


def _checked(
    lr: float, samples: int, steps: int, horizon: int | None, limits: Limits
) -> tuple[list[int], Limits]:
    """The horizons and the limits; raises where a number is out of its range."""
    whole_number("samples", samples, least=0)
    whole_number("steps", steps, least=1)
    last = max(1, round(steps / 4)) if horizon is None else horizon
    whole_number("horizon", last, least=1)
    if last > steps:
        raise ArgumentError(f"horizon={last} is longer than steps={steps}. Raise steps.")
    low, high = (positive_number("a limit", limit) for limit in limits)
    if not low <= lr <= high:
        raise ArgumentError(f"lr={lr:g} lies outside the limits {low:g} ... {high:g}. Widen them.")
    horizons = sorted({max(1, round(last / 2**halvings)) for halvings in range(HORIZONS)})
    return horizons, (low, high)


def informative_horizons(rounds: Rounds, lr: float, horizons: Sequence[int]) -> list[int]:
    """The horizons by which a pilot run has done half of its fall, and the last one in any case."""
    # Before that point noise would select the schedules and their parameters.
    pilot = Candidate("constant", -1, constant(), lr)
    trained = rounds.train([pilot], horizons[-1], rounds.seeds, "compare: pilot")
    if not np.isfinite(trained.worst[0]):
        return list(horizons)
    losses = trained.trace.frame.groupby("step")["loss"].mean()
    level = losses.rolling(max(1, len(losses) // 20), center=True, min_periods=1).mean()
    middle = (losses.iloc[0] + end_level(losses)) / 2
    half = int((level <= middle).to_numpy().argmax())
    return [horizon for horizon in horizons if horizon >= half or horizon == horizons[-1]]


def find_peaks(rounds: Rounds, lr: float, limits: Limits, horizon: int) -> dict[str, float]:
    """Estimate the peak rate of each schedule, for the length that `lr` is best for."""
    # It lies between two estimates whose errors are independent: the peak that usually goes with
    # the best constant rate, and the best of short runs of the schedule at hand.

    def train(rates: Mapping[str, Sequence[float]]) -> Round:
        grid = {name: within(each, limits, digits=3) for name, each in rates.items()}
        candidates = [
            Candidate(s.name, 0, s.shape, rate) for s in rounds.schedules for rate in grid[s.name]
        ]
        return rounds.train(candidates, horizon, rounds.seeds, "compare: peaks")

    likely = {s.name: clip(lr * s.peak_ratio, limits) for s in rounds.schedules}
    trained = train({name: [p / NEIGHBOUR, p, p * NEIGHBOUR] for name, p in likely.items()})
    for _ in range(GROWTHS):
        beyond = {name: _beyond_edge(trained.loss_by_rate(name), limits) for name in likely}
        if not any(beyond.values()):
            break
        trained = trained.merged(train(beyond))
    start = float(trained.trace.frame.groupby("run")["loss"].first().median())
    peaks = {}
    for name, peak in likely.items():
        losses = trained.loss_by_rate(name)
        lowest = min(losses)
        failed = math.isinf(losses[lowest])
        measured = lowest / NEIGHBOUR if failed else estimate_optimum(losses, start)
        peaks[name] = clip(peak ** (1 - MEASURED_WEIGHT) * measured**MEASURED_WEIGHT, limits)
    return peaks


def _beyond_edge(losses: Mapping[float, float], limits: Limits) -> list[float]:
    """The next rate beyond the grid, where the best rate is at its edge and the limits allow it."""
    best = min(losses, key=losses.__getitem__)
    if math.isinf(losses[best]) or best == min(losses):
        return within([min(losses) / NEIGHBOUR], limits, digits=3)
    return within([best * NEIGHBOUR], limits, digits=3) if best == max(losses) else []


def select(
    rounds: Rounds, peaks: Mapping[str, float], samples: int, horizons: Sequence[int]
) -> list[Candidate]:
    """The best candidate of each schedule; after each horizon the worse half is dropped."""
    trained = _train_samples(rounds, peaks, samples, horizons[0])
    for number, horizon in enumerate(horizons[1:], start=2):
        groups = {row: c.schedule for row, c in enumerate(trained.candidates)}
        kept = survivors(trained.worst.to_dict(), groups)
        candidates = [c for row, c in enumerate(trained.candidates) if row in kept]
        trained = rounds.select(candidates, horizon, f"compare: horizon {number}")
    return [trained.candidates[row] for row in trained.best().values()]


def _train_samples(rounds: Rounds, peaks: Mapping[str, float], samples: int, horizon: int) -> Round:
    """Train every schedule at its peak: the defaults and `samples` of its parameters."""
    every, seed = rounds.schedules, rounds.seeds[0]
    samplers = {s.name: ParameterSampler(s.entry, seed) for s in every if s.entry}
    for first in range(0, 1 + samples, BATCH):
        count = min(1 + samples - first, BATCH)
        proposed = {s.name: [(0, s.shape)] for s in every if first == 0}
        proposed |= {name: sampler.ask(count) for name, sampler in samplers.items()}
        candidates = [
            Candidate(name, number, shape, peaks[name])
            for name, shapes in proposed.items()
            for number, shape in shapes
        ]
        if not candidates:
            break
        trained = rounds.select(candidates, horizon, "compare: horizon 1")
        for name, sampler in samplers.items():
            scored = zip(candidates, trained.worst, strict=True)
            sampler.tell({c.number: float(loss) for c, loss in scored if c.schedule == name})
    return rounds.selection_at(horizon)


def lower_failed(final: Round, least: float) -> list[Candidate]:
    """For each schedule that failed with the fresh seeds, its candidate at the next lower rate."""
    # At the edge of stability a few seeds pass by luck: the rate failed, not the schedule.
    lower = []
    for name, row in final.best().items():
        lr = rounded(min(c.lr for c in final.candidates if c.schedule == name) / NEIGHBOUR)
        if math.isinf(final.worst[row]) and lr >= least:
            lower.append(replace(final.candidates[row], lr=lr))
    return lower

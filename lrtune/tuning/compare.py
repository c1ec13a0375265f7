"""compare(): entrants, heats, selection, and a judgement on fresh seeds."""

from collections.abc import Mapping, Sequence

from lrtune.errors import ArgumentError
from lrtune.results import ComparisonResult
from lrtune.results.manifest import manifest
from lrtune.results.runs import STEPS, Shape, positive, seed_list, whole
from lrtune.task.task import Task
from lrtune.training import Evaluate, Evaluator, Progress
from lrtune.tuning.entrants import chosen
from lrtune.tuning.ranking import concluded
from lrtune.tuning.rounds import Heats
from lrtune.tuning.selection import Grid, peaks_of, select, step_down, telling

RUNGS = 3
"""Horizons, each twice as long as the one before; the last is for the judgement."""

STEPS_DOWN = 2
"""How often a schedule that fails on the fresh seeds is given a lower rate."""

SELECTION_SEEDS = 3
"""How many seeds the candidates are selected on; fewer select rates that diverge in the next."""


def compare(
    task: Task,
    lr: float,
    *,
    schedules: Sequence[str] | Mapping[str, Shape] | None = None,
    steps: int = STEPS,
    seeds: int = 5,
    seed: int = 0,
    samples: int = 0,
    horizon: int | None = None,
    limits: tuple[float, float] = (1e-7, 10.0),
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> ComparisonResult:
    """Rank schedules for this task, each at its own peak rate, by complete short runs.

    Every run is a whole schedule, compressed to one of three horizons, each twice the one before.
    On the first, each schedule's defaults run at three peak rates a factor of sqrt(10) apart (the
    grid grows while the best is on its edge). Its peak lies, over log rate, a third of the way
    from where it is likely to be going by `lr` to what these runs say, read as in `search`. There,
    its defaults, and as many samples of its own parameters by Optuna as you say, run on three seeds
    over the horizons but the last; after each the worse half goes, but never the best of a
    schedule. Then the best candidate of each schedule is trained on the last horizon with fresh
    seeds, which choosing has not seen; where it diverges, it steps down. The schedules are ranked
    by their final losses there: validation loss, or without validation data the training loss of
    the last fifth. A winner is named when its paired difference to every other schedule excludes
    zero, all at once, and when the horizons agree; otherwise it is a tie, and of the tied that one
    is recommended which did best in the benchmark, or of unknown ones the simplest.

    Args:
        task: What is trained; it stays as it is.
        lr: The rate that is best when it is kept to the end of `steps`, such as `search` found it,
            > 0; peaks are looked for around 1.6 times of it.
        schedules: Names in `schedules.SCHEDULES` or `schedules.FEEDBACK`, or a mapping of names
            to schedules of your own, any function of progress; `["all"]` is all of the registry.
            Constant, linear and cosine are always in.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many fresh seeds the schedules are judged on.
        seed: The first seed; the others follow it.
        samples: Samples of each schedule's own parameters, besides its defaults. In the benchmark
            two of them gained nothing (`docs/decisions/0011-peaks-and-ties.md`).
        horizon: The last horizon; a quarter of `steps` when None.
        limits: Rates do not leave these.
        progress: Told the stage, the updates done and the total.
        evaluate: What trains runs and returns their trace; an `Evaluator` of the task when None.

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
    lr = positive("lr", lr)
    whole("samples", samples, least=0)
    whole("steps", steps, least=1)
    last = max(1, round(steps / 4)) if horizon is None else whole("horizon", horizon, least=1)
    if last > steps:
        raise ArgumentError(f"horizon={last} is longer than steps={steps}. Raise steps.")
    low, high = (positive("a limit", limit) for limit in limits)
    if not low <= lr <= high:
        raise ArgumentError(f"lr={lr:g} lies outside the limits {low:g} ... {high:g}. Widen them.")
    horizons = sorted({max(1, round(last / 2**rung)) for rung in range(RUNGS)})
    entrants = chosen(schedules, horizons)
    judged_on = seed_list(seeds, seed + SELECTION_SEEDS)
    heats = Heats(evaluate or Evaluator(task, progress=progress), seed_list(SELECTION_SEEDS, seed))
    informative = telling(heats, lr, horizons)
    grid = Grid(lr, (low, high))
    peaks = peaks_of(heats, entrants, grid, horizons[0])
    best = select(heats, entrants, peaks, samples, informative[:-1] or informative)
    final = heats.run(best, last, judged_on, "compare: fresh seeds")
    for _ in range(STEPS_DOWN):
        if lower := step_down(final, grid.limits):
            final = final.with_(heats.run(lower, last, judged_on, "compare: stepped down"))
    return concluded(
        heats,
        final,
        entrants,
        steps,
        manifest(
            task.describe(),
            lr=lr,
            schedules=tuple(entrant.name for entrant in entrants),
            steps=steps,
            horizon=last,
            seeds=seeds,
            seed=seed,
            samples=samples,
        ),
    )

"""compare(): entrants, heats, selection, and a judgement on fresh seeds."""

from collections.abc import Mapping, Sequence

from lrtune._cohort import Evaluate, Evaluator, Progress
from lrtune._compare.conclude import concluded
from lrtune._compare.entrants import chosen
from lrtune._compare.heats import Heats
from lrtune._compare.selection import Grid, select, step_down, telling
from lrtune.errors import ArgumentError
from lrtune.manifest import manifest
from lrtune.results import Comparison
from lrtune.runs import STEPS, Shape, positive, seed_list, whole
from lrtune.task import Task

RUNGS = 3
"""Horizons on which candidates are selected; each is twice as long as the one before."""

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
    samples: int = 2,
    horizon: int | None = None,
    limits: tuple[float, float] = (1e-7, 10.0),
    progress: Progress | None = None,
    evaluate: Evaluate | None = None,
) -> Comparison:
    """Rank schedules for this task, each at its own best peak rate, by complete short runs.

    Candidates are each schedule's defaults at lr / sqrt(10), lr and lr sqrt(10) (the grid grows
    while the best rate is on its edge) and `samples` of its own parameters by Optuna. They run
    over up to three horizons, each twice the one before, on three seeds; every run is the whole
    schedule, compressed to its horizon. After each horizon the worse half goes, but never the best
    of a schedule. Then the best candidate of each schedule is trained on the last horizon with
    fresh seeds, which choosing has not seen; where it diverges there, its next one at a lower rate
    is, too. The schedules are ranked by their final losses there: validation loss, or without
    validation data the training loss of the last fifth. A winner is named when its paired
    difference to every other schedule excludes zero, all at once, and when the horizons agree;
    otherwise it is a tie, and the simplest of the tied is recommended.

    Args:
        task: What is trained; it stays as it is.
        lr: Where to look for the peak rates, such as `search` found it, > 0.
        schedules: Names in `schedules.SCHEDULES` or `schedules.FEEDBACK`, or a mapping of names
            to schedules of your own, any function of progress; `["all"]` is all of the registry.
            Constant, linear and cosine are always in.
        steps: The length of training that the answer is for, in optimizer updates.
        seeds: How many fresh seeds the schedules are judged on.
        seed: The first seed; the others follow it.
        samples: Samples of each schedule's own parameters.
        horizon: The last horizon; a quarter of `steps` when None.
        limits: Rates do not leave these.
        progress: Told the stage, the updates done and the total.
        evaluate: What trains runs and returns their trace; an `Evaluator` of the task when None.

    Returns:
        A `Comparison`: `winner` or a tie, `table`, `snippet()`, `stability`, `notes`.

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
    horizons = telling(heats, lr, horizons)
    grid = Grid(lr, (low, high), samples)
    best = select(heats, entrants, grid, horizons)
    final = heats.run(best, last, judged_on, "compare: fresh seeds")
    for _ in range(STEPS_DOWN):
        if lower := step_down(heats, final):
            final = final.with_(heats.run(lower, last, judged_on, "compare: stepped down"))
    return concluded(
        heats,
        final,
        {entrant.name: entrant.rank for entrant in entrants},
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

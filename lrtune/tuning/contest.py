"""What a comparison was asked for, checked: the recommended schedule, its rivals, their seeds."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lrtune.analysis.paired import LEAST
from lrtune.analysis.scores import Scale
from lrtune.errors import ArgumentError, positive_rate, shown, whole_number
from lrtune.results import SearchResult
from lrtune.results.runs import Run, Shape
from lrtune.schedules import parse
from lrtune.schedules.recipes import RULES
from lrtune.schedules.registry import registered_name
from lrtune.task.drift import Drift, in_every_run
from lrtune.task.task import Task, checked_task
from lrtune.training import refuse_other_start
from lrtune.tuning.candidates import Candidate, Named, known_of, resolve, same
from lrtune.tuning.experiment import FORWARD
from lrtune.tuning.history import Measured
from lrtune.tuning.limits import Limits, clip
from lrtune.tuning.planning import BUDGET, DEFAULT_STEPS, Sizes
from lrtune.tuning.settings import LIMITS, first_schedule, sizes_of

FAR = 3.0  # further from its peak than this factor, a rival would not show what it can do

Schedules = Sequence[str | Shape] | Mapping[str, str | Shape]
"""Names, calls and functions of progress; or names of the user's own to these."""


@dataclass(frozen=True, eq=False)
class Contest:
    """Everything that a comparison was asked for, checked.

    Attributes:
        sizes: What a training and a validation cost.
        budget: The most to spend, in full trainings.
        reference: The recommended schedule at its recommended peak.
        rivals: The other candidates, in the order in which they are trained.
        trained: Whole trainings of the reference that there are already, by seed.
        ratios: The peak of each of them over the recommended one.
        seeds: How many pairs of trainings a rival gets.
        fresh: The first of the seeds that are new.
        samples: Samples of each rival's parameters.
        limits: The lowest and the highest rate.
        scale: How losses become scores.
        kind: The same in words.
        drift: How the loss changes by itself; None where it does not.
        notes: Where the peaks of recipes are from.
    """

    sizes: Sizes
    budget: float
    reference: Candidate
    rivals: tuple[Candidate, ...]
    seeds: int
    fresh: int = 0
    samples: int = 0
    limits: tuple[float, float] = (1e-7, 10.0)
    scale: Scale = Scale(None)
    kind: str = ""
    drift: Drift | None = None
    trained: dict[int, Measured] = field(default_factory=dict)
    ratios: dict[int, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def paired_seeds(self) -> list[int]:
        """The seeds of the last stage, those with a training of the reference first."""
        new = (seed for seed in itertools.count(self.fresh) if seed not in self.trained)
        return [*self.trained, *itertools.islice(new, self.missing(self.seeds))]

    @property
    def asked(self) -> list[Candidate]:
        """The rivals that were asked for; all where none was."""
        return [one for one in self.rivals if one.named.asked] or list(self.rivals)

    def missing(self, seeds: int) -> int:
        """How many of so many trainings of the reference there are not yet."""
        return max(0, seeds - len(self.trained))

    def cost(self, rivals: int, seeds: int) -> float:
        """What so many rivals cost at full length, with the reference's missing trainings."""
        along = in_every_run(self.drift) / FORWARD if rivals else 0.0  # an untrained model
        return (rivals * seeds + self.missing(seeds)) * self.sizes.whole + along

    def enough_for(self, rivals: int, seeds: int | None = None) -> float:
        """A budget in hundredths that holds so many rivals; with all seeds when None."""
        return math.ceil(100 * self.cost(rivals, seeds or self.seeds) - 1e-6) / 100


def make_contest(
    task: Task | None,
    found: SearchResult | float,
    *,
    schedules: Schedules | None = None,
    steps: int | None = None,
    seeds: int = 3,
    seed: int | None = None,
    samples: int = 0,
    budget: float | None = None,
    limits: Limits = LIMITS,
) -> Contest:
    """Everything that a comparison was asked for, after a check; see `compare`."""
    _check_numbers(seeds, seed, samples, budget)
    searched = found if isinstance(found, SearchResult) else None
    steps = _length(searched, steps)
    sizes_of(None if task is None else checked_task(task), steps)  # checks both
    if not isinstance(found, (SearchResult, int, float, list, tuple)):
        raise ArgumentError(
            f"found is {shown(found)}; expected what lrtune.search returned, or the peak rate to "
            "begin with. Give a rate such as 0.1."
        )
    lr = positive_rate("lr", found.lr if isinstance(found, SearchResult) else found)
    if not limits[0] <= lr <= limits[1]:
        raise ArgumentError(
            f"lr={lr:g} lies outside the limits {limits[0]:g} ... {limits[1]:g}. Widen them."
        )
    named = resolve(schedules, steps)
    first = _reference(searched.schedule if searched else first_schedule(steps), named)
    reference = Candidate(first, lr, known_of(first.shape, steps))
    sizes = sizes_of(task, steps, [one.shape for one in (first, *named)])
    adapts = task is not None and task.adapts_rate  # then every peak is 1
    rivals = []
    for one in named:
        if one.recipe or (one.name != first.name and not same(one.shape, first.shape)):
            known = known_of(one.shape, steps)
            ratio = 1.0 if adapts else known.peak / reference.prior.peak
            own = None if adapts else _recipe_peak(one, task)
            rivals.append(Candidate(one, clip(own or lr * ratio, limits), known))
    drift = None if task is None else task.drift
    reused = []
    if searched is not None:
        reused = reusable(searched, first.shape, seeds, drifts=in_every_run(drift))
    known_seeds = [] if searched is None else searched.runs["seed"].tolist()
    contest = Contest(
        sizes,
        BUDGET if budget is None else float(budget),
        reference,
        tuple(sorted(rivals, key=lambda one: one.order)),
        seeds,
        fresh=max([-1, *known_seeds]) + 1 if seed is None else seed,
        samples=samples,
        limits=limits,
        scale=Scale(None) if task is None else task.loss_kind.scale,
        kind="" if task is None else task.loss_kind.words,
        drift=drift,
        trained={one.run.seed: one for one, _ in reused},
        ratios={one.run.seed: ratio for one, ratio in reused},
        notes=tuple(_about_recipes(rivals, task)),
    )  # fmt: skip
    if budget is None and rivals:
        return replace(contest, budget=max(BUDGET, contest.enough_for(1)))
    return contest


def _recipe_peak(named: Named, task: Task | None) -> float | None:
    """The published peak, scaled to the task's batch; None where the optimizer is of another kind.

    Without a task nobody knows its batch and its optimizer.
    """
    if named.recipe is None or task is None:
        return None if named.recipe is None else named.recipe.lr()
    if not named.recipe.applies_to(task.describe()["optimizer"]):
        return None
    return named.recipe.lr(task.batch_examples)


def _about_recipes(rivals: Sequence[Candidate], task: Task | None) -> Iterator[str]:
    """Where the peak of each recipe is from."""
    for one in rivals:
        recipe = one.named.recipe
        if recipe is None:
            continue
        batch = None if task is None else task.batch_examples
        if _recipe_peak(one.named, task) is None or (task is not None and task.adapts_rate):
            optimizer = "this optimizer" if task is None else task.describe()["optimizer"]
            yield (
                f"{one.name}: its peak, {recipe.peak:g}, is one of {recipe.optimizer}, so with "
                f"{optimizer} only its schedule is taken, at {one.lr:.3g}"
            )
        elif batch is None or recipe.rule == "none":
            yield f"{one.name}: its published peak, {recipe.peak:g}, is not scaled"
        else:
            yield (
                f"{one.name}: its peak, {recipe.peak:g} for batches of {recipe.batch:g}, is "
                f"{one.lr:.3g} for {batch} by the {recipe.rule} rule ({RULES[recipe.rule]})"
            )


def _check_numbers(seeds: int, seed: int | None, samples: int, budget: float | None) -> None:
    whole_number("seeds", seeds, least=LEAST)
    whole_number("seed", 0 if seed is None else seed, least=0)
    whole_number("samples", samples, least=0)
    if budget is not None and not 0 <= budget < math.inf:
        raise ArgumentError(
            f"budget={shown(budget)}; expected a number of full trainings, such as 4."
        )


def _length(searched: SearchResult | None, steps: int | None) -> int:
    """The length of a whole training."""
    if searched is None:
        return DEFAULT_STEPS if steps is None else steps
    if steps not in (None, searched.steps):
        raise ArgumentError(
            f"steps={steps}, but the search was for steps={searched.steps}. Leave steps out."
        )
    return searched.steps


def _reference(text: str, named: Sequence[Named]) -> Named:
    """The recommended schedule: one of those that were given, or what its text stands for."""
    for one in named:
        if one.recipe is None and text in (one.name, repr(one.shape)):
            return one
    try:
        shape = parse(text)
    except ArgumentError as error:
        raise ArgumentError(
            f"the search was for {text!r}, a schedule of your own: it has to be in schedules, as "
            f"in schedules=[{text}, 'cosine']."
        ) from error
    return Named(registered_name(shape) or text, shape)


def refuse_other_search(task: Task, found: SearchResult, *, begins_alike: bool) -> None:
    """Raise an `ArgumentError` where a search was for another task.

    Its manifest names other parts, or a seed began at another training loss. Nothing is asked of a
    search without a task; and no loss of one on another device.

    Args:
        task: The task to compare schedules on.
        found: The search.
        begins_alike: Whether its runs begin as those of this task; not where a training loop of the
            user's own trains them.
    """
    ours, theirs = task.describe(), found.manifest
    if "model" not in theirs:
        return
    told = [
        f"its {name} was {theirs[name]}, not {ours[name]}"
        for name in ours
        if name not in ("device", "scores") and theirs.get(name, ours[name]) != ours[name]
    ]
    if told:
        raise ArgumentError(
            f"found is of another task: {'; '.join(told)}. Expected a search of the task that is "
            "given, as its trainings are compared with. Search with this one, or give its rate: "
            f"compare(task, {found.lr:g})."
        )
    drifts = task.drift is not None and task.drift.shared  # then no two runs begin alike
    began = found.runs.loc[np.isfinite(found.runs["start"]), ["seed", "start"]]
    if theirs.get("device") != ours["device"] or drifts or not (begins_alike and len(began)):
        return
    seed, start = began.iloc[0]
    refuse_other_start(task, int(seed), float(start) * task.loss_kind.summed, "the search")


def reusable(
    found: SearchResult, shape: Shape, seeds: int, *, drifts: bool = False
) -> list[tuple[Measured, float]]:
    """The whole trainings of a search's schedule near its peak, the nearest first; and their ratio.

    Where the search has no validation data, the training loss is what selects. Where the loss
    `drifts`, the curves tell what was learned.
    """
    rows = found.runs[
        found.runs["stage"].isin(["fine", "current"])
        & (found.runs["schedule"] == found.schedule)
        & (found.runs["steps"] == found.steps)
        & (found.runs["outcome"] == "FINISHED")
    ]
    distance = np.abs(np.log(rows["lr"] / found.lr))
    rows = rows.assign(distance=distance)[distance <= math.log(FAR)]
    rows = rows.sort_values(["distance", "seed"], kind="stable")
    rows = rows.drop_duplicates("seed").head(seeds)
    # The table holds no errors; the trainings of one task are alike in them.
    stderr = math.nan if found.best is None else found.best.stderr
    curves = dict(iter(found.curves.groupby("run")["loss"])) if drifts else {}
    return [
        (_measured(row, shape, stderr, curves.get(row.run, [row.start])), row.lr / found.lr)
        for row in rows.itertuples()
    ]


def _measured(row: Any, shape: Shape, stderr: float, losses: Sequence[float]) -> Measured:
    selected = row.train if math.isnan(row.loss) else row.loss
    parts = {"selection": (selected, math.nan, 0)}
    if not math.isnan(row.test):
        parts["test"] = (row.test, stderr, 0)
    run = Run(row.run, row.lr, shape, row.seed)
    known = np.asarray(losses, float)
    return Measured(run, row.stage, row.steps, row.until, row.outcome, known, parts, row.checkpoint)

"""How a comparison spends its budget: the plan before anything trains."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lrtune.analysis.paired import LEAST, PRIOR, Paired
from lrtune.analysis.prior import PAIRED
from lrtune.analysis.scores import Scale
from lrtune.errors import quantity
from lrtune.tuning.contest import Contest
from lrtune.tuning.planning import LEAST_HORIZON, Plan, Sizes, Stage

BATCH = 4  # samples of a schedule that are trained side by side before Optuna proposes the next


@dataclass(frozen=True, eq=False)
class ComparisonPlan:
    """What a comparison will train.

    Attributes:
        plan: Its stages with their costs.
        seeds: How many seeds each rival gets at full length; 0 where the budget holds none.
        rivals: How many rivals get that far.
        samples: Samples that are trained at full length, as no horizon is worth it.
        planned: Which rivals it will train to the end, in words; empty without any.
        notes: What so many seeds can show, and which budget pays for what this one does not.
    """

    plan: Plan
    seeds: int
    rivals: int
    samples: int
    planned: str
    notes: tuple[str, ...]

    @property
    def horizon(self) -> int:
        """The length of whole runs, compressed; 0 without them."""
        return self.plan.horizon

    def __str__(self) -> str:
        """The stages, what they train, and the notes."""
        return "\n".join([str(self.plan), *filter(None, [self.planned]), *self.notes])


def plan_contest(contest: Contest) -> ComparisonPlan:
    """Plan the stages: a horizon where it has to choose among rivals, then whole trainings."""
    sizes, budget = contest.sizes, contest.budget * (1 + 1e-9)
    sampled = [one for one in contest.rivals if one.named.entry] if contest.samples else []
    short_runs = 1 + len(contest.rivals) + contest.samples * len(sampled)
    share = budget - contest.cost(1, LEAST)
    share = min(share, budget / 2) if share > 0 else budget  # else there is nothing to save for
    horizon = samples = 0
    if sampled or contest.cost(len(contest.asked), contest.seeds) > budget:
        horizon = _horizon(sizes, share / short_runs)
    if sampled and not horizon and 2 * sizes.whole <= share < budget:  # one alone is no choice
        samples = min(int(share / sizes.whole), (1 + contest.samples) * len(sampled))
    stages, held = [], 0
    first = min(1 + contest.samples, BATCH)  # samples of one schedule that train side by side
    if horizon:
        held = 1 + len(contest.rivals) + (first - 1) * len(sampled)
        cost = short_runs * short_cost(sizes, horizon)
        stages.append(Stage("horizons", short_runs, horizon, cost))
    if samples:
        held = min(samples, first)
        stages.append(Stage("samples", samples, sizes.steps, samples * sizes.whole))
    left = budget - sum(one.cost for one in stages)
    counts = range(LEAST, contest.seeds + 1) if contest.rivals else ()
    seeds = max((n for n in counts if contest.cost(1, n) <= left), default=0)
    rivals = int((left - contest.cost(0, seeds)) / (seeds * sizes.whole)) if seeds else 0
    rivals = min(rivals, len(contest.rivals))
    if rivals:
        held = max(held, seeds + contest.missing(seeds))  # one rival after the other
        runs = rivals * seeds + contest.missing(seeds)
        stages.append(Stage("rivals", runs, sizes.steps, contest.cost(rivals, seeds)))
    plan = Plan(sizes, contest.budget, tuple(stages), 0, 0, horizon, held, held)
    planned = _planned(contest, plan, seeds, rivals) if rivals else ""
    notes = tuple(_notes(contest, seeds, rivals))
    return ComparisonPlan(plan, seeds, rivals, samples, planned, notes)


def _horizon(sizes: Sizes, each: float) -> int:
    """The length of a whole run that costs so much; 0 where such runs are worth nothing."""
    longest = sizes.steps // 4
    validation = short_cost(sizes, longest) - sizes.updates(longest)
    horizon = min(longest, int((each - validation) * sizes.steps))
    return horizon if horizon >= max(LEAST_HORIZON, sizes.steps // 8) else 0


def short_cost(sizes: Sizes, horizon: int) -> float:
    """What a whole run of a horizon costs, with its validation."""
    return sizes.updates(horizon) + sizes.validation(sizes.short_samples(horizon))


def _planned(contest: Contest, plan: Plan, seeds: int, rivals: int) -> str:
    """Which rivals will be trained to the end."""
    chosen = ", ".join(one.name for one in contest.rivals[:rivals])
    if plan.horizon:
        chosen = f"the best {rivals} at the horizon" if rivals > 1 else "the best at the horizon"
    return (
        f"to be trained for all {quantity(contest.sizes.steps, 'step')} with {seeds} seeds each, "
        f"against {contest.reference.name}: {chosen}"
    )


def _notes(contest: Contest, seeds: int, rivals: int) -> Iterator[str]:
    yield from contest.notes
    if not contest.rivals:
        yield f"{contest.reference.name} has no rivals: name other schedules"
    elif not rivals:
        yield (
            f"the budget pays for no rival: budget={contest.enough_for(1, LEAST):g} pays for one, "
            f"trained for all {quantity(contest.sizes.steps, 'step')} with {LEAST} seeds"
        )
    else:
        yield _shown(contest, seeds, rivals)
        yield from _left_out(contest, seeds, rivals)


def _left_out(contest: Contest, seeds: int, rivals: int) -> Iterator[str]:
    """Which budget pays for all that was asked for, where this one does not."""
    asked = len(contest.asked)
    parts = [f"{rivals} of {quantity(asked, 'rival')}"] * (rivals < asked)
    parts += [f"{seeds} of {contest.seeds} seeds"] * (seeds < contest.seeds)
    if not parts:
        return
    every = ("both" if asked == 2 else "all") if rivals < asked else "all seeds"
    enough = f"; budget={contest.enough_for(max(rivals, asked)):g} pays for {every}"
    # Samples of parameters take a part of any budget.
    yield f"the budget pays for {', with '.join(parts)}" + enough * (not contest.samples)


def _shown(contest: Contest, seeds: int, rivals: int) -> str:
    """The difference that so many seeds can show."""
    spread, free = _known_spread(contest, rivals)
    free += min(PRIOR - free, (rivals - 1) * (seeds - 1))
    if math.isnan(spread):
        return "how small a difference these seeds can show depends on the noise of this task"
    reach = Paired(0.0, spread, free + seeds - 1, seeds).reach(rivals)
    return (
        f"{seeds} seeds can show a difference of about {amount(reach, contest.scale)} in the final "
        "loss; smaller differences will be ties"
    )


def _known_spread(contest: Contest, rivals: int) -> tuple[float, float]:
    """The spread of one seed's difference, and for how many degrees of freedom it counts."""
    if contest.scale.floor is not None:
        return float(np.mean([one.prior.paired for one in contest.rivals[:rivals]])), PRIOR
    whole = list(contest.trained.values())
    if len(whole) < LEAST:
        return math.nan, 0
    start = float(np.mean([one.losses[0] for one in whole]))
    shares = contest.scale.scores(
        [one.loss() for one in whole], start, min(one.loss() for one in whole)
    )
    return PAIRED * float(np.std(shares, ddof=1)), 0


def amount(difference: float, scale: Scale) -> str:
    """A difference of scores in words.

    >>> amount(0.1, Scale(0.0)), amount(-0.1, Scale(None))
    ('11 %', '-10 % of the fall')
    """
    if scale.floor is None:
        return f"{100 * difference:.2g} % of the fall"
    return f"{100 * math.expm1(difference):.2g} %"

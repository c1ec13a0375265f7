"""How a search spends its budget: the plan before anything trains."""

import math
from dataclasses import dataclass

import pandas as pd

from lrtune.errors import ArgumentError, memory_text, positive_number, quantity, whole_number
from lrtune.results.schema import PLAN, as_table

DEFAULT_STEPS = 500  # the length of the training that an answer is for, in optimizer updates
BUDGET = 4.0  # full trainings that a search may spend by default
COARSE = 270  # updates of a coarse stage (docs/decisions/0015-coarse-then-fine.md)
COARSE_SHARE = 1 / 20  # of a long training
LONG_RUN = 60  # updates of the longer runs, where that can be had
LENGTHENING = 4  # length of the runs around the best rate, in lengths of the coarse runs
LEAST_SHORT = 3  # updates of the shortest run; with fewer there is no curve to read
LEAST_HORIZON = 250  # whole runs of fewer steps are worth less than what other tasks tell
HORIZON_RUNS = 4  # three rates, and one more where the best lies at the edge
GROWTH = 1.5  # trainings besides the whole grid, for the coarse stage and a grid that grows
WAVE = 2  # whole trainings that are asked for together, whatever the number of workers
SAMPLES = 200  # validation samples of a short run, at least


@dataclass(frozen=True)
class Sizes:
    """What a training and a validation cost.

    Attributes:
        steps: The length of the training that the answer is for.
        batch: Samples of a batch.
        selection: Validation samples that select.
        test: Validation samples that give the stated loss.
        epoch: The updates before any training example comes again; 0 where that is not known.
        summed: Over how many samples a training loss sums; 1 where it is a mean.
        watched: Validation samples that the schedule itself asks for in a whole training.
    """

    steps: int
    batch: int = 1
    selection: int = 0
    test: int = 0
    epoch: int = 0
    summed: float = 1.0
    watched: int = 0

    def updates(self, count: float) -> float:
        """The cost of so many updates, in full trainings."""
        return count / self.steps

    def validation(self, samples: float) -> float:
        """The cost of validating on so many samples: three of them cost as much as one update's."""
        return samples / (3 * self.batch) / self.steps

    def short_samples(self, steps: int) -> int:
        """On how many validation samples a run of so many updates is measured."""
        return min(self.selection, max(SAMPLES, int(0.3 * self.batch * steps)))

    @property
    def whole(self) -> float:
        """The cost of a whole training, with its validation on the way and at the end."""
        return 1 + self.validation(self.watched + self.selection + self.test)


@dataclass(frozen=True)
class Stage:
    """One stage of a plan.

    Attributes:
        name: Its word: coarse, horizons, current, fine.
        runs: How many runs it trains, about.
        steps: The length of its longest run, in updates.
        cost: In full trainings. The coarse stage may take more, if its grid has to grow.
        words: What it trains, where the name does not say it.
    """

    name: str
    runs: int
    steps: int
    cost: float
    words: str = ""


@dataclass(frozen=True)
class Memory:
    """The runs that are held at once, and what memory they need.

    Attributes:
        runs: How many are in the memory of the device at once, those that wait to go on included.
        wanted: How many would be, if memory and `max_runs` allowed it.
        offloaded: How many wait on the CPU instead.
        run_bytes: What one takes between two updates: weights, gradients, state of the optimizer.
        checkpoint_bytes: What the checkpoint of one takes.
        device: Where they train.

    >>> print(str(Memory(8, 8, 0, 30_000_000, 20_000_000, "cuda")).partition(" (")[0])
    Memory: about 8 runs at once, 240 MB on cuda
    >>> print(Memory(0, 0, 0, 23_000, 15_000, "cpu"))
    Memory: nothing is trained; a run takes 23 kB on cpu
    """

    runs: int
    wanted: int
    offloaded: int
    run_bytes: int
    checkpoint_bytes: int
    device: str

    @property
    def device_bytes(self) -> int:
        """What the runs take on the device, besides what an update needs for itself."""
        return self.runs * self.run_bytes

    @property
    def offloaded_bytes(self) -> int:
        """What the runs that wait on the CPU take there."""
        return self.offloaded * self.checkpoint_bytes

    def __str__(self) -> str:
        """The numbers in a sentence; what one run takes where nothing will be trained."""
        if not self.wanted:
            return (
                f"Memory: nothing is trained; a run takes {memory_text(self.run_bytes)} on "
                f"{self.device}"
            )
        fewer = self.runs + self.offloaded < self.wanted
        runs = f"{self.runs} of {self.wanted}" if fewer else f"{self.runs}"
        text = (
            f"Memory: about {runs} run{'s' * (fewer or self.runs > 1)} at once, "
            f"{memory_text(self.device_bytes)} on {self.device} "
            f"({memory_text(self.run_bytes)} each with gradients and optimizer, "
            f"{memory_text(self.checkpoint_bytes)} in a checkpoint)"
        )
        if self.offloaded:
            text += f"; {self.offloaded} more on the CPU, {memory_text(self.offloaded_bytes)}"
        if fewer:
            text += "; runs that have no room are trained later, or again"
        return text


@dataclass(frozen=True)
class Plan:
    """What a search usually spends, stage by stage, in full trainings.

    >>> print(make_plan(Sizes(steps=500, batch=64, selection=180, test=180), extra=1))
    At most 4 full trainings of 500 steps. Usually, in full trainings:
      coarse    about 8 short runs of up to 60 steps    0.54
      current   1 training at your setting              1.00
      fine      2 trainings                             2.01
      together                                          3.55
    """

    sizes: Sizes
    budget: float
    stages: tuple[Stage, ...]
    short: int  # length of the runs of the coarse grid
    long: int  # length of those around its best rate
    horizon: int  # length of whole runs, compressed; 0 where they are not worth it
    held: int = 0  # runs in memory at once, those that wait to go on included
    together: int = 0  # of these, the most that train at once
    memory: Memory | None = None  # None without a task

    @property
    def cost(self) -> float:
        """What all stages usually cost together; a coarse grid that grows may cost more."""
        return sum(stage.cost for stage in self.stages)

    @property
    def whole_cost(self) -> float:
        """What whole trainings cost."""
        return sum(stage.cost for stage in self.stages if stage.name in ("current", "fine"))

    def __getitem__(self, name: str) -> Stage | None:
        """The stage of this name; None where the budget does not hold it."""
        return next((stage for stage in self.stages if stage.name == name), None)

    @property
    def table(self) -> pd.DataFrame:
        """One row per stage: columns `PLAN`."""
        rows = [(one.name, one.runs, one.steps, one.cost) for one in self.stages]
        return as_table(rows, PLAN)

    def __str__(self) -> str:
        """The limit, and one line per stage: what it usually costs."""
        trainings = f"{self.budget:g} full training{'s' * (self.budget != 1)}"
        usually = "Usually, in" if self["coarse"] else "In"  # its grid may have to grow
        most = f"At most {trainings} of {quantity(self.sizes.steps, 'step')}."
        lines = [f"{most} {usually} full trainings:"]
        texts = [_words(stage) for stage in self.stages]
        width, head = max(map(len, [*texts, ""])), max([9, *(len(one.name) for one in self.stages)])
        for stage, text in zip(self.stages, texts, strict=True):
            lines.append(f"  {stage.name:{head}} {text:{width}}  {stage.cost:6.2f}")
        lines.append(f"  {'together':{head}} {'':{width}}  {self.cost:6.2f}")
        lines += [] if self.memory is None else [str(self.memory)]
        return "\n".join(lines)


def _words(stage: Stage) -> str:
    length = quantity(stage.steps, "step")
    if stage.words:
        return stage.words
    match stage.name:
        case "coarse":
            return f"about {quantity(stage.runs, 'short run')} of up to {length}"
        case "horizons":
            return f"about {quantity(stage.runs, 'run')}, compressed to {length}"
        case "current":
            return f"{quantity(stage.runs, 'training')} at your setting"
        case "fine":
            return quantity(stage.runs, "training")
    return f"about {quantity(stage.runs, 'training')}"


def make_plan(
    sizes: Sizes, budget: float | None = None, *, coarse: int = 4, grid: int = 0, extra: int = 0
) -> Plan:
    """Plan a search; see `lrtune.plan`.

    Whole trainings come first: what they leave over lets the coarse grid grow, and pays for runs of
    a horizon where that is long enough to be worth anything.

    Args:
        sizes: What a training costs.
        budget: The most to spend, in full trainings; when None 4, or what `grid` takes.
        coarse: How many rates the coarse grid has; 0 where the rate is known about.
        grid: How many whole trainings the whole fine grid takes; 0 without it.
        extra: Whole trainings besides, such as of the present setting.

    Raises:
        ArgumentError: A number is out of its range, or the budget is too small for a coarse stage.
    """
    steps = whole_number("steps", sizes.steps, least=1)
    least = LEAST_SHORT * _weight(coarse) if coarse else 0
    if budget is None:
        short = 1 + least / steps  # of a very short training four are not enough for any answer
        budget = float(
            max(
                BUDGET,
                math.ceil(short),
                math.ceil((grid + extra) * sizes.whole + GROWTH * bool(grid)),
            )
        )
    most = positive_number("budget", budget, such_as="4") * steps * (1 + 1e-9)
    if most < max(least, 1):
        raise ArgumentError(
            f"budget={budget:g} of steps={steps} allows {int(most)} updates, and the coarse stage "
            f"needs {least}. Give budget={math.ceil(1000 * least / steps) / 1000:g} or more."
        )
    enough = max(COARSE, steps * COARSE_SHARE, least) if coarse else 0
    usual = max(min(enough, most / 4 if most > steps else most), least)
    # A training that hardly fits beside it is worth more than a quarter of the coarse stage.
    each = steps * sizes.whole
    whole = int((most - max(3 / 4 * usual, least)) / each)
    usual = min(enough, most - whole * each)  # what they leave over costs no training
    if not coarse and not whole:
        raise ArgumentError(
            f"budget={budget:g} holds no whole training of steps={steps}, and without a coarse "
            f"stage nothing else is trained. Give budget={math.ceil(1000 * sizes.whole) / 1000:g} "
            "or more."
        )
    rest = most - usual - whole * each
    horizon = int(min(steps / 4, rest / HORIZON_RUNS))
    if horizon < LEAST_HORIZON:
        horizon = 0
        usual = usual if whole or not coarse else most  # nothing else to spend it on
    short = max(1, min(int(usual / _weight(coarse)), steps // LENGTHENING)) if coarse else 0
    long = min(steps, max(LENGTHENING * short, min(LONG_RUN, int(usual / 4)))) if coarse else 0
    stages = [
        Stage("coarse", coarse + 4, long, sizes.updates(usual)),
        Stage("horizons", 3, horizon, 3 * sizes.updates(horizon)),
        Stage("current", min(extra, whole), steps, min(extra, whole) * sizes.whole),
        Stage("fine", whole - extra, steps, (whole - extra) * sizes.whole),
    ]
    kept = [one for one in stages if one.steps and one.runs > 0 and one.cost]
    # Short runs may go on: the one before training, the grid, one that it grows by, two between.
    held, together = (1 + coarse + 3, max(coarse, 3)) if coarse else (1 + WAVE, WAVE)
    return Plan(sizes, budget, tuple(kept), short, long, horizon, held, together)


def _weight(coarse: int) -> int:
    """The updates of a coarse stage, in lengths of its short runs.

    The grid, its growth by one, two between; three longer runs, and a fourth.
    """
    return coarse + 3 + 4 * (LENGTHENING - 1) + 1

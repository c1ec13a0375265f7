"""The way in which a cohort is trained, decided before it begins, so that it can be kept."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lrtune.errors import EngineError
from lrtune.results.runs import Run
from lrtune.task.batch import Batch
from lrtune.task.task import Task
from lrtune.training.cohort import Cohort
from lrtune.training.engines import Pace
from lrtune.training.engines.benchmark import ROUNDS, Trial, Way, read, ways
from lrtune.training.engines.fastest import LEAST, Auto

Decide = Callable[[str, Callable[[], str]], str]
"""Takes the name of a choice and a function that makes it; returns the one made first."""


class Decided(Auto):
    """Carries every update out in one way; where runs cannot be stacked, by the loop.

    Args:
        task: What is trained.
        way: The way.
        discarded: Updates that the choice of the way has made for each run, and thrown away.
    """

    def __init__(self, task: Task, way: Way, discarded: Mapping[str, int] | None = None) -> None:
        """Hold no run yet."""
        super().__init__(task)
        self._way = way
        self.discarded = dict(discarded or {})

    def update(
        self, runs: Sequence[Run], batch: Batch, paces: Sequence[Pace], noise: int
    ) -> Tensor:
        """One optimizer update of each run on the placed batch; losses before the update."""
        try:
            return self._by(self._way, runs, batch, paces, noise)
        except EngineError:
            if not self._way.stacked:
                raise
            self._way = Way(stacked=False, threads=self._way.threads)
            return self._by(self._way, runs, batch, paces, noise)


def decided(
    task: Task, runs: Sequence[Run], steps: int, decide: Decide, tell: Callable[[int, str], None]
) -> Decided:
    """An engine for a cohort of these runs, in the way that was decided for about so many.

    Args:
        task: What is trained.
        runs: Of the cohort; those of the seed that has most are tried.
        steps: The horizon.
        decide: Keeps the choice.
        tell: Told for how many runs, about; and what was chosen, and why.
    """
    seed, most = Counter(run.seed for run in runs).most_common(1)[0]
    plain = Way(stacked=False, threads=torch.get_num_threads())
    if most < LEAST:
        return Decided(task, plain)
    found: list[Trial] = []
    discarded: dict[str, int] = {}

    def choose() -> str:
        trial, updates = _tried(task, [run for run in runs if run.seed == seed], steps)
        found.append(trial)
        discarded.update(updates)
        return str(trial.best)

    about = _about(most)
    way = read(decide(_choice(most), choose))
    kept = not found or way != found[0].best  # somebody else may have been faster
    tell(about, f"about {about} runs: {way}, as was decided before" if kept else str(found[0]))
    return Decided(task, way, discarded)


def trial_updates(task: Task, runs: Sequence[Run], steps: int, decide: Decide) -> dict[str, int]:
    """The updates that `decided` would make for each run to choose a way; none if it is chosen."""
    seed, most = Counter(run.seed for run in runs).most_common(1)[0]
    if most < LEAST or _is_decided(decide, _choice(most)):
        return {}
    tried = _trial_length(task, steps)
    return {run.name: tried for run in runs if run.seed == seed}


class _UndecidedError(Exception):
    """No choice was made yet."""


def _is_decided(decide: Decide, name: str) -> bool:
    def refuse() -> str:
        raise _UndecidedError

    try:
        decide(name, refuse)
    except _UndecidedError:
        return False
    return True


def _choice(runs: int) -> str:
    """The name of the choice for about so many runs."""
    return f"engine for about {_about(runs)} runs"


def _about(runs: int) -> int:
    """Sizes for which one choice is made: each 1.5 times the one before.

    >>> [_about(runs) for runs in (3, 4, 5, 6, 9, 13)]
    [3, 3, 5, 5, 8, 11]
    """
    return round(1.5 ** round(math.log(runs, 1.5)))


def _tried(task: Task, runs: Sequence[Run], steps: int) -> tuple[Trial, dict[str, int]]:
    """Time each way on updates of these runs that nobody keeps; a short horizon stays untried."""
    trials: list[Trial] = []
    cohort = Cohort(task, runs, steps, engine=Auto(task, trials), stage="trial")
    cohort.advance(_trial_length(task, steps))
    return trials[0] if trials else Trial(len(runs), _ways(task)[:1]), cohort.updates


def _trial_length(task: Task, steps: int) -> int:
    """Updates of each run in a trial."""
    return min(steps, len(_ways(task)) * (ROUNDS + 1) + 1)


def _ways(task: Task) -> list[Way]:
    return ways(torch.get_num_threads(), on_cpu=task.device.type == "cpu")

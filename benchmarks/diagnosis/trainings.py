"""Trainings that are diagnosed: a task alone, or with its rate, length and other arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lrtune import Task, diagnose
from lrtune.results import Diagnosis

STEPS = 600


@dataclass(frozen=True)
class Training:
    """A training to be diagnosed: its task, rate and length, and other arguments."""

    task: Callable[[], Task]
    lr: float | None = None
    steps: int = STEPS
    more: Mapping[str, object] = field(default_factory=dict)

    def diagnose(self) -> Diagnosis:
        """Diagnose it; a checkpoint is given as a function that makes it."""
        more = {name: one() if name == "checkpoint" else one for name, one in self.more.items()}
        return diagnose(self.task(), self.lr, self.steps, **more)


def as_training(case: Training | Callable[[], Task]) -> Training:
    """A training of a task of which nothing else is asked."""
    return case if isinstance(case, Training) else Training(case)

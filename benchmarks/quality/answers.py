"""What each way of finding a rate answers, and what that costs; failures are rows, too."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from benchmarks.quality.training import Judge

ANSWERS = Store(
    FOLDER / "answers.csv",
    ("task", "method", "repeat", "schedule", "lr", "low", "high", "updates", "seconds", "said"),
    ("task", "method", "repeat"),
)
"""One row per answer: `updates` and processor `seconds` that it took; `said`: why there is none."""


FREE = Store(
    FOLDER / "free.csv",
    ("task", "method", "seed", "val", "updates", "seconds", "said"),
    ("task", "method", "seed"),
)
"""One row per run of a learning-rate-free optimizer; without `val` it failed, as `said` says."""


@dataclass
class Cost:
    """What a block of code took."""

    updates: int = 0
    seconds: float = 0.0


@contextmanager
def metered() -> Iterator[Cost]:
    """Counts every optimizer's updates in this process, and its processor time."""
    cost = Cost()

    def count(*_: object) -> None:
        cost.updates += 1

    handle, begin = register_optimizer_step_post_hook(count), time.process_time()
    try:
        yield cost
    finally:
        handle.remove()
        cost.seconds = time.process_time() - begin


@dataclass(frozen=True)
class Setup:
    """A task as other tools take it, from a seed.

    Attributes:
        spec: The task.
        repeat: Which of the repeats.
        budget: Updates that may be spent, for those that can be told.
    """

    spec: Spec
    repeat: int
    budget: int = 0
    _random: torch.Generator = field(default_factory=torch.Generator)

    def loader(self) -> DataLoader:
        """Shuffled batches."""
        train, _ = self.spec.data
        random = self._random.manual_seed(self.repeat)
        data = TensorDataset(*train)
        return DataLoader(data, self.spec.batch, shuffle=True, drop_last=True, generator=random)

    def model(self) -> nn.Module:
        """A fresh model."""
        torch.manual_seed(self.repeat)
        return self.spec.model()

    def optimizer(self, model: nn.Module, lr: float) -> Optimizer:
        """The task's optimizer."""
        return self.spec.optimizer(model.parameters(), lr=lr)


class Answer(NamedTuple):
    """What a method says.

    Attributes:
        lr: A rate.
        schedule: The call that makes a schedule.
        low: Where the method's interval of the rate begins, if it gives any.
        high: Where it ends.
    """

    lr: float
    schedule: str = "constant"
    low: float = math.nan
    high: float = math.nan


Answers = dict[str, Answer | str]
"""By the name of the method; or why there is no answer."""

Finder = Callable[[Setup], Answers]


def ask(
    spec: Spec, finder: Finder, methods: tuple[str, ...], repeats: int, budget_of: str = ""
) -> None:
    """Let a finder answer, where it has not yet."""
    for repeat in range(repeats):
        known = ANSWERS.known()
        if all((spec.name, method, repeat) in known for method in methods):
            continue
        setup = Setup(spec, repeat, _spent(spec, budget_of, repeat))
        torch.manual_seed(repeat)
        with metered() as cost, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                said = finder(setup)
            except Exception as error:  # noqa: BLE001  # how it fails is a result
                said = dict.fromkeys(methods, f"{type(error).__name__}: {error}".splitlines()[0])
        about = {"task": spec.name, "repeat": repeat, "updates": cost.updates}
        about["seconds"] = cost.seconds
        ANSWERS.add(
            {**about, "method": method, **_told(answer)}
            for method, answer in said.items()
            if (spec.name, method, repeat) not in known
        )


def _told(answer: Answer | str) -> dict[str, object]:
    if isinstance(answer, str):
        return {"said": answer[:200]}
    if not 0 < answer.lr < math.inf:
        return {"said": f"answered {answer.lr!r}"}
    return answer._asdict()


def _spent(spec: Spec, method: str, repeat: int) -> int:
    """What another method has spent on this task."""
    if not method:
        return 0
    table = ANSWERS.read().set_index(["task", "method", "repeat"])
    return int(table.loc[(spec.name, method, repeat), "updates"])


def judge_answers(judge: Judge, combined: Sequence[tuple[str, str]]) -> None:
    """Train with every answer; those of some methods under another schedule as well."""
    table = ANSWERS.read()
    table = table[table["task"] == judge.spec.name].dropna(subset=["lr"])
    pairs = [(row.schedule, float(row.lr)) for row in table.itertuples()]
    for method, schedule in combined:
        rates = table[table["method"] == method]["lr"]
        pairs += [(schedule, float(lr)) for lr in rates]
    judge(pairs, halfway=False)

"""transfer(): does the best rate carry over to more data, another width, another batch size?"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lrtune.analysis.short_runs import rounded
from lrtune.analysis.trend import Trend, trend
from lrtune.diagnosis.check import look
from lrtune.errors import SearchError, quantity, warn_about
from lrtune.results import Trace, TransferResult
from lrtune.results.runs import Run
from lrtune.results.schema import TRANSFER, TRENDS, as_table
from lrtune.results.serialization import manifest
from lrtune.task.task import Task
from lrtune.training import Evaluate, Variation, as_evaluate, evaluate_like
from lrtune.tuning.answer_warnings import drift_warnings, fall_of
from lrtune.tuning.experiment import Clock, Event, Tell, ask_all, checked_tell
from lrtune.tuning.history import Question
from lrtune.tuning.limits import Limits
from lrtune.tuning.planning import DEFAULT_STEPS, Plan
from lrtune.tuning.settings import LIMITS, with_memory
from lrtune.tuning.transfer_plan import Transfer, make_transfer
from lrtune.tuning.transfer_sizes import EPOCHS, UPDATES, Size
from lrtune.tuning.transfer_trials import Reading, TransferTrials
from lrtune.tuning.transfer_words import batch_rules, power, statement, trend_row


def transfer(
    task: Task,
    *,
    over: str = "data",
    values: Sequence[float] | None = None,
    steps: int = DEFAULT_STEPS,
    budget: float | None = None,
    time_limit: float | None = None,
    seeds: int = 3,
    seed: int = 0,
    around: float | None = None,
    limits: Limits = LIMITS,
    progress: Tell | None = None,
    max_runs: int | None = None,
    offload: Literal["cpu"] | None = None,
    evaluate: Evaluate | None = None,
) -> TransferResult:
    """Find the best constant rate on parts of the data, and how it changes towards all of them.

    The same over the width of the model, or over the batch size. Short runs find the rate of the
    task itself. Then each size trains at rates half a decade apart, and at further ones while the
    best lies at the edge; all rates of a seed see the same batches. The runs of the task itself
    make `length` updates, as many as the budget pays for. Those of another size are read twice:
    after as many updates, and after as many epochs.

    Args:
        task: What is trained; it stays as it is.
        over: `data`, `width` or `batch_size`. A width needs a model factory with an argument
            `width`, whose default is the task's own. Batch sizes are multiples of the task's own,
            made by accumulation.
        values: Shares of the data, widths or batch sizes; when None 5, 10, 25, 50 and 100 % of the
            data, a quarter, half and twice the width, or 2, 4 and 8 times the batch. The task's own
            value is always among them. Parts of the data are nested, fair samples of every class.
        steps: The length of a whole training, in updates, which is the unit of the budget.
        budget: The most to spend, in full trainings; when None 15, or what runs of 20 updates cost.
            `plan_transfer` shows what it buys.
        time_limit: Seconds after which nothing is begun that would not finish; None for no limit.
        seeds: Runs of each rate, each with a seed of its own.
        seed: The first seed; the others follow it.
        around: A rate near which to begin, such as that of a search, instead of by short runs.
        limits: The lowest and the highest rate.
        progress: Called with an `Event`.
        max_runs: The most runs to hold in memory at once; when None what memory allows.
        offload: "cpu" moves runs that do not train to the CPU; None leaves them on the device.
        evaluate: The function that trains runs; an `Evaluator` of the task when None. One without a
            method `like` trains the runs of every size: `stage` says which, such as `5 %`.

    Returns:
        A `TransferResult`: `statements`, `table`, `trends`, `warnings`, `figure()`.

    Raises:
        ArgumentError: A number is out of its range, or the budget is too small; nothing has
            trained.
        TaskError: The data cannot be divided, or the model has no `width`.
        SearchError: No rate trains the task.

    Ctrl-C after two sizes ends it with these: `stopped` is "interrupted".

    >>> import torch
    >>> from torch import nn
    >>> data = torch.randn(640, 3), torch.randn(640, 1)
    >>> task = Task(nn.Linear(3, 1), data, loss=nn.MSELoss(), device="cpu")
    >>> told = transfer(task, values=[0.25, 1], steps=60, seeds=2, around=0.05)
    >>> told.table["value"].tolist(), told.trends["equal"].tolist()
    ([1.0, 0.25, 1.0, 0.25], ['updates', 'epochs'])
    """
    clock, tell = Clock(time_limit), checked_tell(progress)
    asked = make_transfer(
        task, over=over, values=values, steps=steps, budget=budget, seeds=seeds, seed=seed,
        around=around, limits=limits,
    )  # fmt: skip
    trained = as_evaluate(task, evaluate, max_runs=max_runs, offload=offload)
    trials, total = TransferTrials(asked), asked.total

    def told(question: Question) -> None:
        if tell is not None:
            tell(Event(question.stage, trials.spent, total, None, "constant"))

    stopped = ask_all(
        trials.asking(), _Routes(asked, trained), clock, told,
        interruptible=lambda: len(trials.done) > 1,
    )  # fmt: skip
    result = _result(trials, task, stopped)
    warn_about(result.warnings)
    return result


def plan_transfer(
    task: Task, *, max_runs: int | None = None, offload: str | None = None, **asked: Any
) -> tuple[Plan, str]:
    """What `transfer` with these arguments would train, and the same in words.

    Raises:
        ArgumentError, TaskError: As `transfer` does.
    """
    made = make_transfer(task, **asked)
    plan = with_memory(made.plan, task, max_runs, offload)
    own = quantity(made.length, "update")
    judged = "validation" if made.costs.selection else "training"
    words = (
        f"the runs of {made.sizes[0].label} make {own}, with {quantity(len(made.seeds), 'seed')} "
        f"for each rate; {judged} losses decide"
    )
    return plan, "\n".join([str(plan), words, *made.notes])


class _Routes:
    """Hands the runs of each size to what trains its task."""

    def __init__(self, asked: Transfer, trained: Evaluate) -> None:
        self._own, self._of = trained, dict[str, Evaluate]()
        if not callable(getattr(trained, "like", None)):
            return
        for size in asked.sizes[1:]:
            more = Variation(accumulate=size.batches) if size.batches > 1 else None
            self._of[size.label] = evaluate_like(trained, size.task, more)

    def __call__(self, runs: Sequence[Run], steps: int, *, stage: str, **more: Any) -> Trace:
        """Train the runs of the size that the stage names."""
        return self._of.get(stage, self._own)(runs, steps, stage=stage, **more)


class _Told(NamedTuple):
    """What the readings of all sizes say."""

    rows: list[Any]  # columns `TRANSFER`
    trends: list[Any]  # columns `TRENDS`
    statements: list[str]
    notes: list[str]


def _tell(trials: TransferTrials) -> _Told:
    """The best rate of each size, and the trends, for each thing that is equal."""
    asked, told = trials.asked, _Told([], [], [], [])
    for equal in (UPDATES,) if asked.over == "width" else (UPDATES, EPOCHS):
        sizes = [size for size in trials.done if equal in asked.readings(size)]
        read = {size: trials.read(size, equal) for size in sizes}
        found = {size: reading for size, reading in read.items() if reading is not None}
        told.notes.extend(
            f"at equal {equal} no rate of {size.label} trains with every seed"
            for size in sizes
            if size not in found
        )
        if len(found) < 2:
            continue
        rates = np.array([reading.rates for reading in found.values()])
        line = trend([size.ratio for size in found], rates)
        told.rows.extend(_row(trials, equal, size, one, line) for size, one in found.items())
        told.trends.append(trend_row(asked.over, equal, line))
        told.statements.append(statement(asked.over, equal, line))
    if not told.rows:
        raise SearchError(
            "no rate trains two of the sizes with every seed, so there is no trend. Look at the "
            "task by lrtune.check, lower `limits`, or give larger values."
        )
    return told


def _result(trials: TransferTrials, task: Task, stopped: str) -> TransferResult:
    asked, told = trials.asked, _tell(trials)
    table, every = as_table(told.rows, TRANSFER), list(trials.experiment.history.runs.values())
    against = [
        *look(task).warnings,
        *_edges(table),
        *_stopped(trials, stopped),
        *drift_warnings(asked.coarse.drift, asked.length, fall_of(every, _start(trials))),
    ]
    asked_for: dict[str, object] = {
        "over": asked.over, "values": tuple(size.value for size in asked.sizes),
        "steps": asked.costs.steps, "budget": asked.budget, "seeds": len(asked.seeds),
        "seed": asked.seeds[0], "around": asked.around, "limits": asked.limits,
    }  # fmt: skip
    return TransferResult(
        over=asked.over,
        statements=tuple(told.statements),
        warnings=tuple(dict.fromkeys(against)),
        notes=(*asked.notes, *told.notes, *batch_rules(asked.over)),
        stopped=stopped or "budget",
        steps=asked.costs.steps,
        length=asked.length,
        seeds=len(asked.seeds),
        budget=asked.budget,
        cost=float(trials.spent),
        manifest=manifest(task.describe(), **asked_for),
        table=table,
        trends=as_table(told.trends, TRENDS),
        runs=trials.experiment.history.table(),
    )


def _row(
    trials: TransferTrials, equal: str, size: Size, read: Reading, line: Trend
) -> tuple[Any, ...]:
    """A row of the table: columns `TRANSFER`."""
    low, high = (power(math.log(read.rate) + side * line.rate_reach) for side in (-1, 1))
    updates = size.updates(equal, trials.asked.length)
    about = equal, size.label, size.value, size.ratio, updates
    return *about, rounded(read.rate, 6), low, high, read.loss, read.edge


def _edges(table: Any) -> Iterator[str]:
    """Which best rates are only bounds."""
    for row in table[table["edge"] != ""].itertuples():
        side, way_out = ("lowest", "lower") if row.edge == "low" else ("highest", "higher")
        yield (
            f"At equal {row.equal} the {side} rate that was tried for {row.label} was the best, so "
            f"the best one may be {way_out}: raise `budget`, or widen `limits`."
        )


def _stopped(trials: TransferTrials, stopped: str) -> Iterator[str]:
    if stopped in ("time", "interrupted"):
        done = ", ".join(size.label for size in trials.done)
        why = "The time limit ended it" if stopped == "time" else "It was interrupted"
        yield f"{why}: only {done} of {quantity(len(trials.asked.sizes), 'size')} count."


def _start(trials: TransferTrials) -> float:
    """The loss before training."""
    starts = [one.losses[0] for one in trials.experiment.history.runs.values() if len(one.losses)]
    return float(np.mean(starts)) if starts else math.nan

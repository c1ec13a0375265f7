"""The training that is asked about: at the rate in question, or at the best of a short grid."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from lrtune.analysis.curves import FAILED_OUTCOMES, end_level
from lrtune.diagnosis.observations.continuations import FORWARD, nonfinite
from lrtune.diagnosis.observations.one_batch import ADAPTING, OWN
from lrtune.diagnosis.observations.stalls import Stall, stall_of
from lrtune.errors import CheckpointError
from lrtune.results import Trace, concat_traces
from lrtune.results.runs import Run, Validation
from lrtune.results.schema import SELECTION
from lrtune.task.random_state import preserve_random_state
from lrtune.task.states import TrainState
from lrtune.task.task import Task
from lrtune.training import Cohort

LEAST, SHARE = 90, 0.15
"""By convention: updates of a grid in all, at least, and as a share of the training that is asked
about. Half of them go to three rates, the other half to the one that goes on."""
SAMPLES, FEWEST, BATCHES = 200, 50, 15
"""By convention: validation samples that are measured at a time. No more than those of so many
training batches, so that six of them cost 30 updates; but at least so many."""
LATER = 3  # validations of the run that goes on
LOOKS = 12  # by convention: those of a run at the rate in question, as its course is read
SETTLED = 6  # by convention: of such a run, the state after this part of it is looked at, too
LATE = 0.5  # by convention: the share of the first updates whose losses are compared
LOWER = 1e-3  # by convention: where all rates of the grid fail, it is moved by this factor


@dataclass(frozen=True)
class MainTraining:
    """The run that was trained, after those of other rates where no rate was asked about.

    Attributes:
        rates: The rate in question, or those of the grid, the highest first; where all of them
            failed, lower ones were tried, too.
        lr: That of the run that went on; NaN where all failed.
        name: Of that run; empty where all failed.
        trace: Curves, outcomes and validations of all runs, as `Cohort.trace`. Only the run that
            went on has all steps. Validations are of some samples of the selection part.
        states: Steps to copies of that run: before the first update, after a part of it, and at its
            end. Those are missing that it did not reach, or that cannot be copied.
        stall: That run at its end; None where it failed on a grid, or cannot be copied.
        updates: How many updates were made in all.
        val_samples: How many validation samples were read in all.
    """

    rates: tuple[float, ...]
    lr: float
    name: str
    trace: Trace
    states: dict[int, TrainState] = field(repr=False)
    stall: Stall | None
    updates: int
    val_samples: int

    @property
    def losses(self) -> list[float]:
        """The training losses of the run that went on."""
        return self.losses_of(self.name)

    def losses_of(self, name: str) -> list[float]:
        """The training losses of a run."""
        frame = self.trace.frame
        return [float(one) for one in frame.loc[frame["run"] == name, "loss"]]

    def failed(self, name: str) -> bool:
        """Whether a run diverged, or its loss was not finite."""
        runs = self.trace.runs
        return runs.loc[runs["run"] == name, "outcome"].item() in FAILED_OUTCOMES

    @property
    def validations(self) -> list[tuple[str, int, Validation]]:
        """Run and step of each validation on the selection part, with its loss."""
        rows = self.trace.validations
        return [
            (str(row.run), int(row.step), Validation(row.part, row.loss, row.stderr, row.samples))
            for row in rows[rows["part"] == SELECTION].itertuples()
        ]


def train_run(task: Task, run: Run, steps: int, until: int, samples: int) -> MainTraining:
    """Train the run in question.

    Args:
        task: What is trained.
        run: Its name is `run_name` of its rate; it ends where its loss is not finite.
        steps: The length of the training that its schedule is spread over.
        until: Up to this step.
        samples: On how many validation samples it is measured on the way; 0 for none.
    """
    cohort = Cohort(task, [run], steps, retire=nonfinite)
    states = {0: _new_state(task, run)}
    looks = {max(1, round(until * part / LOOKS)) for part in range(1, LOOKS + 1)}
    settled = max(1, until // SETTLED)
    for look in sorted({*looks, settled}):
        cohort.advance(look)
        if samples and look in looks and cohort.live:
            cohort.validate(samples)
        if look in (settled, until) and cohort.live:
            _keep(cohort, run, states)
    return _made((run.lr,), run, [cohort], states, ended=True)


def grid_updates(steps: int) -> int:
    """The updates of a grid: 90, or 0.15 of `steps` if that is more."""
    return max(LEAST, round(SHARE * steps))


def train_grid(task: Task, steps: int, most: float = math.inf, seed: int = 0) -> MainTraining:
    """Train three rates for a while, and the best one for longer, with validations.

    It costs `grid_updates`, and half as many again where all rates of the grid fail; besides six
    validations of some samples.

    Args:
        task: What is trained.
        steps: The length of the training that is asked about.
        most: The most to spend, in updates; at least `grid_updates`. Validations have fewer
            samples, and no lower rates are tried, where there is nothing left for them.
        seed: Of the runs.
    """
    total = grid_updates(steps)
    first, later = total // 6, total // 2
    spare = most - total
    grid = ADAPTING if task.adapts_rate else OWN
    tried, states = list[Cohort](), dict[int, TrainState]()
    for rates in (grid, tuple(LOWER * rate for rate in grid)):
        spare -= len(rates) * first if tried else 0
        if spare < 0:
            break
        runs = [Run(run_name(rate), rate, seed=seed) for rate in rates]
        tried.append(Cohort(task, runs, first + later).advance(first))
        if tried[-1].live:
            break
    samples = _samples(task, max(0.0, spare))
    chosen = _best(_validated(tried[-1], samples))
    if chosen is not None:
        states[0] = _new_state(task, chosen)
        looks = [first + later * part // LATER for part in range(1, LATER + 1)]
        _keep(tried[-1], chosen, states)
        tried[-1].retain([chosen.name])
        for step in looks:
            _validated(tried[-1].advance(step), samples)
        if tried[-1].live:
            _keep(tried[-1], chosen, states)
    live = chosen is not None and chosen in tried[-1].live
    return _made(grid, chosen, tried, states, ended=live)


def _made(
    rates: Sequence[float],
    run: Run | None,
    tried: Sequence[Cohort],
    states: dict[int, TrainState],
    *,
    ended: bool,
) -> MainTraining:
    stall = None
    if run is not None and ended:
        with suppress(CheckpointError):  # of a state that is no plain data
            stall = stall_of(tried[-1], run)
    return MainTraining(
        tuple(rates),
        math.nan if run is None else run.lr,
        "" if run is None else run.name,
        concat_traces([one.trace for one in tried]),
        states,
        stall,
        sum(sum(one.updates.values()) for one in tried),
        sum(sum(one.val_samples.values()) for one in tried),
    )


def _new_state(task: Task, run: Run) -> TrainState:
    with preserve_random_state(), torch.inference_mode(mode=False), torch.enable_grad():
        return task.init_state(run.seed, run.lr)


def run_name(lr: float) -> str:
    """The name of the run of a rate.

    >>> run_name(0.01)
    'lr 0.01'
    """
    return f"lr {lr:.6g}"


def _samples(task: Task, spare: float) -> int:
    """How many samples each validation reads, where so many updates are left for them."""
    usual = max(FEWEST, min(SAMPLES, BATCHES * task.batch_examples))
    most = spare * task.batch_examples / (FORWARD * (len(OWN) + LATER))
    return int(min(usual, most))


def _validated(cohort: Cohort, samples: int) -> Cohort:
    """Validate the runs that live, if there are validation data, and some samples of them."""
    some = cohort.live and cohort.task.has_validation and samples
    return cohort.validate(samples) if some else cohort


def _best(cohort: Cohort) -> Run | None:
    """The run with the lowest held-out loss, or without such data with the lowest training loss."""
    trace = cohort.trace
    losses = {run: list(rows["loss"]) for run, rows in trace.frame.groupby("run")}
    level = {run.name: end_level(losses[run.name], LATE) for run in cohort.live}
    held_out = trace.validations[trace.validations["part"] == SELECTION]
    level |= dict(zip(held_out["run"], held_out["loss"], strict=True))
    known = {name: math.inf if math.isnan(one) else one for name, one in level.items()}
    return min(cohort.live, key=lambda run: known[run.name], default=None)


def _keep(cohort: Cohort, run: Run, states: dict[int, TrainState]) -> None:
    """Keep a copy of a run as it is now, if it can be copied."""
    with suppress(CheckpointError):  # of a state that is no plain data
        states[cohort.step] = cohort.inspect(run.name)

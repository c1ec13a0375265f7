"""The evaluator of a study, and what it would have held, had nothing interrupted it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.errors import ArgumentError, whole_number
from lrtune.results import Trace
from lrtune.results.runs import Run, checked_runs
from lrtune.study.leases import Request
from lrtune.study.run_records import RecordedRun
from lrtune.training import Evaluate


@dataclass
class _HeldCohort:
    steps: int
    step: int
    keys: set[str]


class HeldRuns:
    """The runs that an uninterrupted session would hold, and so continue instead of train anew.

    It repeats the bookkeeping of `lrtune.training.Evaluator` with keys for runs: a call continues
    the runs of a cohort that it names, and retires the others. Calls that are answered from the
    database count like those that train. So a resumed search is charged what an uninterrupted one
    is charged, and finds the same prices.

    Args:
        continues: Whether the engine continues runs; otherwise nothing is ever held.

    Attributes:
        in_memory: Keys of the runs that this session has really trained, and so continues.
    """

    def __init__(self, *, continues: bool) -> None:
        """Hold nothing yet."""
        self.in_memory: set[str] = set()
        self._continues, self._cohorts = continues, list[_HeldCohort]()

    def lost_steps(self, request: Request, steps: int) -> int:
        """Steps that must be trained again because an interruption lost the state of a run."""
        if request.key in self.in_memory:
            return 0
        for one in self._cohorts:
            if request.key in one.keys and one.steps == steps and one.step <= request.until:
                return one.step
        return 0

    def update(
        self, requests: Sequence[Request], steps: int, recorded: Mapping[str, RecordedRun]
    ) -> None:
        """Note a call that was answered, with what was recorded of its runs."""
        left, until = {one.key for one in requests}, requests[0].until
        live = {key for key in left if recorded[key].outcome not in FAILED_OUTCOMES}
        for one in self._cohorts:
            known = one.keys & left
            if known and one.steps == steps and one.step <= until:
                left -= known
                one.step, one.keys = until, known & live
        self._cohorts.append(_HeldCohort(steps, until, left & live))
        unfinished = [one for one in self._cohorts if one.keys and one.step < one.steps]
        self._cohorts = unfinished if self._continues else []

    def forget_memory(self) -> None:
        """Note that training was interrupted: its evaluator continues nothing from before."""
        self.in_memory.clear()


@dataclass(frozen=True)
class Call:
    """One call of an evaluator: the runs, and what to do with them."""

    train: Evaluate
    held: HeldRuns
    engine: str
    stage: str
    runs: list[Run]
    steps: int
    until: int
    validate: bool


class StudyEvaluator:
    """An evaluator that answers from a study, and trains what the study does not hold.

    Args:
        answer: Answers a call from the study.
        price: Says what a call would be charged.
        train: Trains runs.
        engine: The class of the engine that it uses.
    """

    def __init__(
        self,
        answer: Callable[[Call], Trace],
        price: Callable[[Call], list[int]],
        train: Evaluate,
        engine: str,
    ) -> None:
        """Bind a study's answers to what trains."""
        self._answer, self._price, self._train, self._engine = answer, price, train, engine
        self._held = HeldRuns(continues=engine == "loop")

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: bool = True,
        until: int | None = None,
    ) -> Trace:
        """The trace of these runs; see `Evaluate`."""
        end = whole_number("steps", steps, least=1) if until is None else until
        if not 1 <= end <= steps:
            raise ArgumentError(f"until={end} lies outside 1 ... {steps}, the horizon.")
        return self._answer(
            Call(
                self._train,
                self._held,
                self._engine,
                stage,
                checked_runs(runs),
                steps,
                end,
                validate,
            )
        )

    def price(self, runs: Sequence[Run], steps: int, until: int) -> list[int]:
        """The most updates that a call would be charged for each run; see `Evaluate`."""
        call = Call(
            self._train, self._held, self._engine, "", list(runs), steps, until, validate=False
        )
        return self._price(call)

"""`Evaluate`: how strategies have runs trained, and the check of a function of the user's own."""

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

from lrtune.errors import ArgumentError, shown
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.training.own_losses import OwnLosses
from lrtune.training.same_task import trained_task


class Evaluate(Protocol):
    """Trains runs. Searches and comparisons know no more, so a lambda can test them."""

    def __call__(
        self,
        runs: Sequence[Run],
        steps: int,
        *,
        stage: str,
        validate: int | None = None,
        until: int | None = None,
        checkpoint: bool = False,
    ) -> Trace:
        """Train every run, over a horizon of `steps`, up to step `until` (to the end when None).

        `validate` is how many samples of the selection part of the validation data each run is
        measured on at `until`: 0 for none; None for the whole selection part and the test part.

        `stage` names the part of a search for people, such as `coarse`. A second call with some
        of the runs and a later `until` continues them, as if they had trained without a stop.

        With `checkpoint`, `Trace.runs` has the name of each live run's checkpoint at that step, and
        a method `checkpoint(name)` returns it. A plain function may leave the names empty. It may
        also leave out `Trace.costs`.
        """


class CheckedEvaluate:
    """Trains runs by a function of the user's own, and checks what it returns.

    Raises:
        ArgumentError: It is no function; or, when it is called, it returned something other than a
            trace of the runs that were asked for, or losses that give a wrong answer
            (`lrtune.training.own_losses`).

    Attributes:
        said: What counts against an answer, in sentences.
    """

    def __init__(self, evaluate: Evaluate) -> None:
        if not callable(evaluate):
            raise ArgumentError(
                f"evaluate={shown(evaluate)}; expected a function that trains runs. Write one "
                "that takes (runs, steps, *, until, **_) and returns "
                "lrtune.Trace.of(runs, steps, losses)."
            )
        self._evaluate = evaluate
        own = trained_task(evaluate) is None  # an evaluator of ours needs no check
        self._losses = OwnLosses() if own else None

    @property
    def said(self) -> tuple[str, ...]:
        """What counts against an answer, in sentences."""
        return () if self._losses is None else self._losses.said

    def __getattr__(self, name: str) -> Any:
        """Whatever else it offers, such as `checkpoint`."""
        return getattr(self._evaluate, name)

    def __call__(self, runs: Sequence[Run], steps: int, **settings: Any) -> Trace:
        """Train the runs; see `Evaluate`."""
        self._check_arguments(runs, steps, settings)
        trace = self._evaluate(runs, steps, **settings)
        if not isinstance(trace, Trace):
            raise ArgumentError(
                f"evaluate returned {shown(trace)}; expected an lrtune.Trace. "
                "lrtune.Trace.of(runs, steps, {run.name: losses}) makes one."
            )
        missing = {run.name for run in runs} - set(trace.runs["run"])
        if missing:
            raise ArgumentError(
                f"evaluate returned a trace without the runs {', '.join(sorted(missing))}; "
                "expected every run that it was asked for. Train all of `runs`."
            )
        if self._losses is not None:
            self._losses.check(runs, steps, settings.get("until") or steps, trace)
        return trace

    def _check_arguments(self, runs: Sequence[Run], steps: int, settings: dict[str, Any]) -> None:
        """Raise unless the function takes these arguments; some tell no signature."""
        try:
            signature = inspect.signature(self._evaluate)
        except (TypeError, ValueError):
            return
        try:
            signature.bind(runs, steps, **settings)
        except TypeError as error:
            name = getattr(self._evaluate, "__name__", type(self._evaluate).__name__)
            raise ArgumentError(
                f"evaluate={name} cannot be called as evaluate(runs, steps, "
                f"{', '.join(f'{key}=...' for key in settings)}): {error}. Expected a function "
                "(runs, steps, *, until, **_) that trains the runs; of a task, leave evaluate out, "
                "or give lrtune.Evaluator(task)."
            ) from error

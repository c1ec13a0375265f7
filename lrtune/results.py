"""Results: frozen records of frames whose columns are a contract; they show and save themselves.

Nothing here needs torch, so results can be read where nothing is trained.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from lrtune import figures
from lrtune.columns import (
    ANSWERS,
    CANDIDATES,
    CHECKS,
    CURVES,
    EVALUATED,
    PATHS,
    RANKING,
    RATES,
    RUNS,
    SCORES,
    SPENDING,
    STABILITY,
    STOPS,
    SWEEP,
    TRACE,
)
from lrtune.errors import ResultsError
from lrtune.locating import HIGHER, higher
from lrtune.records import framed, from_plain, to_plain
from lrtune.schedules.pasting import snippet
from lrtune.schedules.reading import parse
from lrtune.suggest import Suggestion

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = [
    "KINDS",
    "Comparison",
    "RangeTest",
    "Search",
    "Trace",
    "read",
]

FINISH = "trapezoid"
"""A schedule that does well on most tasks, for a search that compared none."""


class _Saved:
    """What every result can do."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, with the kind of the result first."""
        return {"kind": next(k for k, v in KINDS.items() if v is type(self)), **to_plain(self)}

    def to_json(self) -> str:
        """One JSON object that `lrtune.results.read` takes back; NaN and infinities as strings."""
        return json.dumps(self.to_dict(), allow_nan=False)


@dataclass(frozen=True, eq=False)
class Trace(_Saved):
    """What a cohort recorded.

    Attributes:
        steps: The horizon.
        frame: One row per run and recorded step: `run`, `step`, `lr`, `loss`, `batch`.
        runs: One row per run: `run`, `lr` (peak), `schedule`, `seed`, `outcome`, `steps`.
        evaluated: One row per run and evaluation: `run`, `step`, `loss` (validation).
    """

    steps: int
    frame: pd.DataFrame = framed(TRACE)
    runs: pd.DataFrame = framed(RUNS)
    evaluated: pd.DataFrame = framed(EVALUATED)

    def only(self, names: Sequence[str]) -> "Trace":
        """What these runs have shown, in this order."""
        if list(self.runs["run"]) == list(names):
            return self
        place = {name: index for index, name in enumerate(names)}

        def chosen(frame: pd.DataFrame) -> pd.DataFrame:
            order = frame["run"].map(place).astype("float64")
            return frame.loc[order.dropna().sort_values(kind="stable").index].reset_index(drop=True)

        return Trace(self.steps, chosen(self.frame), chosen(self.runs), chosen(self.evaluated))

    def figure(self) -> "Figure":
        """Losses over steps, one line per run."""
        return figures.trace_figure(self.frame)


def joined(traces: Sequence[Trace]) -> Trace:
    """Traces of different runs over one horizon, as one."""
    return Trace(
        steps=traces[0].steps,
        frame=pd.concat([trace.frame for trace in traces], ignore_index=True),
        runs=pd.concat([trace.runs for trace in traces], ignore_index=True),
        evaluated=pd.concat([trace.evaluated for trace in traces], ignore_index=True),
    )


@dataclass(frozen=True, eq=False)
class RangeTest(_Saved):
    """What an LR range test found.

    Attributes:
        suggestion: The ensemble of all rules, with its interval and evidence.
        notes: What a reader should know: why each sweep stopped, whether the rules disagree.
        frame: One row per seed and rate: `seed`, `lr`, `loss` (right after the update at that
            rate), `untrained` (the untrained model's loss on that batch), `smooth`.
        stops: One row per seed: `seed`, `reason` (reached the end, diverged, non-finite), `lr`
            (where), `edge` (the last rate at which the loss had not risen again).
        answers: One row per rule and seed: `rule`, `seed`, `lr`, `because`.
        manifest: The task, the settings and the versions, as text.
    """

    suggestion: Suggestion
    notes: tuple[str, ...]
    manifest: dict[str, str]
    frame: pd.DataFrame = framed(SWEEP)
    stops: pd.DataFrame = framed(STOPS)
    answers: pd.DataFrame = framed(ANSWERS)

    def figure(self) -> "Figure":
        """Loss over rate: raw thin, smoothed bold, the rules marked, divergence shaded."""
        return figures.sweep_figure(self.frame, self.answers, self.stops, self.suggestion)


@dataclass(frozen=True, eq=False)
class Search(_Saved):
    """What a coarse-to-fine search found.

    Attributes:
        lr: The learning rate that is best when it is kept to the end.
        interval: Where the best rate lies, in some nine of ten tasks.
        because: Why this rate, in a sentence.
        notes: What a reader should know: grown grids, steps down.
        steps: The length of training that the answer is for, in optimizer updates.
        horizon: The length of the short runs.
        verified: Whether `lr` stayed stable in every run of the full length that was made with it:
            one from a budget of 2 on, one for each seed without a limit.
        frame: One row per rate: `lr`, `stage`, `verdict` (too low, good, high, diverged), `mean`
            score, `low` and `high` of its paired difference to the best, `tied`, `failed` runs.
        scores: One row per rate and seed: `lr`, `seed`, `outcome`, `start`, `train`, `val`,
            `score`.
        curves: One row per rate, seed and step of the short runs: `lr`, `seed`, `step`, `loss`.
        checks: One row per seed of each longer run: `lr`, `seed`, `outcome`, `short`, `long`,
            `passed`.
        manifest: The task, the settings and the versions, as text.
        confidence: How far the answer can be trusted, and what would make it surer.
        spending: With a budget, one row per stage: `stage`, `planned`, `spent`, in updates.
    """

    lr: float
    interval: tuple[float, float]
    because: str
    notes: tuple[str, ...]
    steps: int
    horizon: int
    verified: bool
    manifest: dict[str, str]
    frame: pd.DataFrame = framed(RATES)
    scores: pd.DataFrame = framed(SCORES)
    curves: pd.DataFrame = framed(CURVES)
    checks: pd.DataFrame = framed(CHECKS)
    confidence: str = ""
    spending: pd.DataFrame = framed(SPENDING, may_lack=True)

    @property
    def check(self) -> str:
        """How the answer stood a run of the full length: `held`, `not held`, `not tried`."""
        if self.verified:
            return "held"
        return "not held" if len(self.checks) else "not tried"

    @property
    def coarse(self) -> pd.DataFrame:
        """The rows of `frame` that were trained on the coarse grid, and where it grew."""
        return self.frame[self.frame["stage"] == "coarse"].reset_index(drop=True)

    @property
    def fine(self) -> pd.DataFrame:
        """The rows of `frame` that were first trained on the fine grid, and where it grew."""
        return self.frame[self.frame["stage"] == "fine"].reset_index(drop=True)

    @property
    def schedule(self) -> str:
        """The schedule to train with where none was compared: a name in `schedules.SCHEDULES`."""
        return FINISH

    @property
    def peak(self) -> float:
        """The peak rate for a schedule that comes down: it forgives more than a constant rate."""
        return float(f"{self.lr * HIGHER:.3g}")

    def snippet(self, schedule: str | None = None) -> str:
        """Python to paste into a training script: a schedule for `steps` steps from this answer.

        A long rise to the `peak` rate, the peak, and a straight way down to 0 usually end lower
        than the constant `lr`, and forgive a peak that is too high (`docs/quality.md`). A schedule
        that hardly leaves its peak begins at `lr` instead.

        Args:
            schedule: A name in `schedules.SCHEDULES`, or a call such as `cosine(floor=0.1)`;
                `self.schedule` when None.

        Raises:
            ArgumentError: There is no such schedule, or it does not take these arguments.
        """
        shape = parse(schedule or self.schedule)
        peak = self.lr if higher(shape) == 1.0 else self.peak
        return snippet(shape, peak, self.steps)

    def figure(self) -> "Figure":
        """Score over rate, with every seed; verdicts in colour; the interval shaded."""
        return figures.rates_figure(self.frame, self.scores, self.lr, self.interval)

    def curves_figure(self) -> "Figure":
        """Losses of the short runs over steps, the mean over the seeds, verdicts in colour."""
        return figures.curves_figure(self.curves, self.frame)


@dataclass(frozen=True, eq=False)
class Comparison(_Saved):
    """What a comparison of schedules found.

    Attributes:
        winner: The schedule that beats every other; empty when it is a tie, or when the horizons
            do not agree.
        schedule: The one recommended: the winner, or of those tied with the best that which did
            best on other tasks.
        call: The call of `lrtune.schedules` that makes it, with the best parameters found.
        lr: Its own peak rate.
        because: Why this one, in a sentence.
        notes: What a reader should know: how far the ranking can be trusted, and what it needs.
        steps: The length of training that the answer is for, in optimizer updates.
        horizon: The length of the runs that it was judged by.
        manifest: The task, the settings and the versions, as text.
        table: One row per schedule: `rank`, `schedule`, `call`, `lr`, `early`, the plateau
            (`onset`, `level`, `noise`, `slope`, `released`), `final`, `difference` to the best
            with `low` and `high`, `tied`, `failed`, `cost` in updates.
        stability: One row per horizon: `horizon`, `tau`, `low`, `high`.
        candidates: One row per candidate and horizon: `horizon`, `schedule`, `call`, `lr`,
            `score`.
        paths: One row per schedule, fresh seed and step: `schedule`, `seed`, `step`, `lr`, `loss`.
    """

    winner: str
    schedule: str
    call: str
    lr: float
    because: str
    notes: tuple[str, ...]
    steps: int
    horizon: int
    manifest: dict[str, str]
    table: pd.DataFrame = framed(RANKING)
    stability: pd.DataFrame = framed(STABILITY)
    candidates: pd.DataFrame = framed(CANDIDATES)
    paths: pd.DataFrame = framed(PATHS)

    @property
    def frame(self) -> pd.DataFrame:
        """The table, by the name that every result has."""
        return self.table

    def snippet(self) -> str:
        """Python to paste into a training script: the recommended schedule, for `steps` steps.

        Raises:
            ArgumentError: It is a schedule of your own, or one that reacts to the loss: only you
                have its code.
        """
        return snippet(parse(self.call), self.lr, self.steps)

    def figure(self) -> "Figure":
        """Final loss of every schedule against the best, with intervals; ties in one colour."""
        return figures.ranking_figure(self.table)

    def rates_figure(self) -> "Figure":
        """Every schedule's rate over the run."""
        return figures.paths_figure(self.paths, self.table, "lr")

    def losses_figure(self) -> "Figure":
        """Losses over steps, the mean over the fresh seeds."""
        return figures.paths_figure(self.paths, self.table, "loss")

    def heat_figure(self) -> "Figure":
        """Best score of every schedule at every rate, on the shortest horizon."""
        return figures.heat_figure(self.candidates, self.table)

    def stability_figure(self) -> "Figure":
        """How the ranking changes with the horizon."""
        return figures.stability_figure(self.candidates, self.table, self.stability)


KINDS: Mapping[str, type] = {
    "trace": Trace,
    "range-test": RangeTest,
    "search": Search,
    "comparison": Comparison,
}
"""What a result is called in JSON."""

Result = Trace | RangeTest | Search | Comparison


def read(text: str) -> list[Result]:
    """The results in a JSON text: one object with a kind, or one with a list `results`.

    Raises:
        ResultsError: It is not JSON, or not what `to_json` or `lrtune ... --json` wrote.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"this is no JSON ({error}). Save what --json prints.") from error
    several = plain.get("results", [plain]) if isinstance(plain, dict) else None
    if not isinstance(several, list) or not several:
        raise ResultsError("expected one JSON object with results, as --json prints it.")
    return [_one(each) for each in several]


def _one(plain: Any) -> Result:
    kind = plain.get("kind") if isinstance(plain, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        told = repr(kind[:40]) if isinstance(kind, str) else f"a {type(kind).__name__}"
        raise ResultsError(f"a result is of kind {', '.join(KINDS)}; got {told}.")
    result: Result = from_plain(KINDS[kind], plain)
    return result

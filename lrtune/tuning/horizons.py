"""Whole runs of a schedule, compressed to a horizon: they tell where its best peak lies."""

import math

from lrtune.analysis.short_runs import NEIGHBOUR, mask_unstable, rounded, vertex
from lrtune.results.runs import Run
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.fine import Wanted
from lrtune.tuning.history import Asking
from lrtune.tuning.limits import within


class HorizonReader:
    """Asks for whole runs of a horizon at three peaks, more while the best is at the edge.

    `start` is the loss before training; NaN where it tells nothing of that at the horizon.
    """

    def __init__(self, experiment: Experiment, wanted: Wanted, horizon: int, start: float) -> None:
        self._experiment, self._wanted = experiment, wanted
        self._horizon, self._start = horizon, start
        self._scores: dict[float, float] = {}
        self.rate: float | None = None  # the best peak for the horizon

    def asking(self, first: float) -> Asking:
        """Three peaks around the first answer; then on, towards the best."""
        peaks = within([first / NEIGHBOUR, first, first * NEIGHBOUR], self._wanted.limits, digits=3)
        yield from self._train(peaks)
        while self._scores:
            best = min(self._scores, key=self._scores.__getitem__)
            if math.isinf(self._scores[best]) or best == min(self._scores):
                beyond = within([min(self._scores) / NEIGHBOUR], self._wanted.limits, digits=3)
            elif best == max(self._scores):
                beyond = within([best * NEIGHBOUR], self._wanted.limits, digits=3)
            else:
                break
            count = len(self._scores)
            yield from self._train(beyond)
            if len(self._scores) == count:  # at a limit, or the budget does not pay for it
                break
        self.rate = self._read()

    def _train(self, peaks: list[float]) -> Asking:
        wanted = self._wanted
        runs = [
            Run(f"{wanted.name} {peak:.6g}/{wanted.seed} of {self._horizon}", peak,
                wanted.schedule, wanted.seed)
            for peak in peaks
        ]  # fmt: skip
        samples = self._experiment.sizes.short_samples(self._horizon)
        if not runs or not self._experiment.pays(runs, self._horizon, samples):
            return
        yield from self._experiment.train(
            "horizons", runs, self._horizon, self._horizon, validate=samples
        )
        measured = [self._experiment.history.runs[run.name] for run in runs]
        self._scores |= {one.run.lr: one.loss() for one in measured}

    def _read(self) -> float | None:
        losses = mask_unstable(dict(sorted(self._scores.items())))
        best = min(losses, key=losses.__getitem__, default=None)
        if best is None or math.isinf(losses[best]):
            return None
        highest = max(loss for loss in losses.values() if math.isfinite(loss))
        worst = highest if math.isnan(self._start) else max(self._start, losses[best])
        return rounded(vertex(losses, best, worst), 6)

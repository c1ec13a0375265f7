"""The strategy of a comparison: a horizon chooses rivals, whole trainings decide."""

import math
from collections.abc import Sequence

from lrtune.results.runs import Run
from lrtune.schedules.feedback import validations_between
from lrtune.task.drift import in_every_run
from lrtune.tuning.candidates import Candidate, ParameterSampler
from lrtune.tuning.contest import Contest
from lrtune.tuning.contest_plan import BATCH, ComparisonPlan
from lrtune.tuning.experiment import Experiment
from lrtune.tuning.history import Asking
from lrtune.tuning.limits import clip
from lrtune.tuning.scoring import Scoring
from lrtune.tuning.standing import Evidence, Standing


class RivalTrials:
    """Asks for runs of the candidates; the next question depends on the recorded traces alone."""

    def __init__(self, contest: Contest, plan: ComparisonPlan) -> None:
        self.contest, self.plan = contest, plan
        self.experiment = Experiment(contest.sizes, contest.budget, contest.drift)
        self.scoring = Scoring(contest.scale, drifts=in_every_run(contest.drift))
        self.candidates = {one.name: one for one in (contest.reference, *contest.rivals)}
        self._short: dict[str, str] = {}  # candidates to the names of their runs of the horizon
        self._whole: dict[str, dict[int, str]] = {}  # and of their whole runs, by seed
        self._owners: dict[str, str] = {}  # runs to their candidates
        self._sampled = 0  # whole runs that chose parameters

    @property
    def evidence(self) -> Evidence:
        """What was measured so far: runs that ended, or failed."""
        known = self.experiment.history.runs
        ended = {name for name, one in known.items() if one.failed or one.finished}
        short = {name: known[run] for name, run in self._short.items() if run in ended}
        whole = {
            name: {seed: known[run] for seed, run in runs.items() if run in ended}
            for name, runs in self._whole.items()
        }
        reference = self.contest.reference.name
        whole[reference] = self.contest.trained | whole.get(reference, {})
        return Evidence(short, {name: runs for name, runs in whole.items() if runs})

    @property
    def standing(self) -> Standing:
        """How the candidates stand against the reference."""
        every, reference = tuple(self.candidates.values()), self.contest.reference.name
        return Standing(every, self.evidence, self.scoring, self.plan.horizon, reference)

    @property
    def costs(self) -> dict[str, float]:
        """What was spent on each candidate, in full trainings."""
        sizes, costs = self.contest.sizes, dict.fromkeys(self.candidates, 0.0)
        for name, one in self.experiment.history.runs.items():
            whole = one.steps == sizes.steps
            samples = sizes.selection + sizes.test if whole else sizes.short_samples(one.steps)
            validated = sizes.validation(samples) if one.until == one.steps else 0.0
            watched = validations_between(one.run.schedule, one.steps, 0, one.until)
            costs[self._owners[name]] += (
                sizes.updates(one.until) + validated + sizes.validation(watched * sizes.selection)
            )
        return costs

    def asking(self) -> Asking:
        """The stages, one after the other."""
        contest, plan = self.contest, self.plan
        if plan.horizon:
            yield from self._select("horizons", list(self.candidates.values()), plan.horizon)
        elif plan.samples:
            for one in contest.rivals:
                if one.named.entry:
                    yield from self._select("samples", [one], contest.sizes.steps)
        if plan.seeds:
            yield from self._train_rivals()

    def _select(self, stage: str, candidates: Sequence[Candidate], steps: int) -> Asking:
        """Train candidates and samples of their parameters, one seed; the best of each goes on."""
        contest, whole = self.contest, steps == self.contest.sizes.steps
        # A whole run that chose parameters is no evidence for them: it has a seed of its own.
        seed = contest.paired_seeds[-1] + 1 if whole else contest.paired_seeds[0]
        samplers = {
            one.name: ParameterSampler(one.named.entry, seed)
            for one in candidates
            if one.named.entry and contest.samples and one is not contest.reference
        }
        best: dict[str, float] = {}
        for first in range(0, 1 + contest.samples, BATCH):
            count = min(1 + contest.samples - first, BATCH)
            proposed = {one.name: [(0, one.named.shape)] for one in candidates if not first}
            proposed |= {name: sampler.ask(count) for name, sampler in samplers.items()}
            tried = [
                one.sampled(number, shape)
                for one in candidates
                for number, shape in proposed.get(one.name, [])
            ]
            if whole:
                tried = tried[: self.plan.samples - self._sampled]
                self._sampled += len(tried)
            runs = [one.run(seed, one.lr, 0 if whole else steps) for one in tried]
            if not runs:
                return
            self._owners |= {run.name: one.name for run, one in zip(runs, tried, strict=True)}
            yield from self._train(stage, runs, steps)
            losses = [self.experiment.history.runs[run.name].loss() for run in runs]
            for one, run, loss in zip(tried, runs, losses, strict=True):
                if not one.number or loss < best[one.name]:
                    self.candidates[one.name], best[one.name] = one, loss
                    self._short |= {} if whole else {one.name: run.name}
            for name, sampler in samplers.items():
                scored = zip(tried, losses, strict=True)
                sampler.tell({one.number: loss for one, loss in scored if one.name == name})

    def _train(self, stage: str, runs: Sequence[Run], steps: int) -> Asking:
        """Train runs to their end: whole ones, or those of a horizon."""
        if steps == self.contest.sizes.steps:
            yield from self.experiment.train_whole(stage, runs, steps)
        else:
            samples = self.contest.sizes.short_samples(steps)
            yield from self.experiment.train(stage, runs, steps, steps, validate=samples)

    def _train_rivals(self) -> Asking:
        """Rivals with all their seeds, one after the other, as many as the budget holds."""
        contest, steps = self.contest, self.contest.sizes.steps
        seeds = contest.paired_seeds[: self.plan.seeds]
        new = [seed for seed in seeds if seed not in contest.trained]
        missing = [self._whole_run(contest.reference, seed) for seed in new]
        for rival in self._order():
            runs = [*missing, *(self._whole_run(rival, seed) for seed in seeds)]
            if not self.experiment.pays(runs, steps, None):
                return
            yield from self.experiment.train_whole("rivals", runs, steps)
            missing = []

    def _order(self) -> list[Candidate]:
        """The rivals, the one that is trained first in front."""
        rivals = [self.candidates[one.name] for one in self.contest.rivals]
        if not self._short:
            return rivals
        standing = self.standing.against(self.contest.reference.name)
        going = [one for one in rivals if not math.isinf(standing[one.name].horizon)]
        return sorted(going, key=lambda one: (not one.named.asked, standing[one.name].order))

    def _whole_run(self, one: Candidate, seed: int) -> Run:
        """A whole run, at the share of its peak at which the reference was trained."""
        lr = clip(one.lr * self.contest.ratios.get(seed, 1.0), self.contest.limits)
        run = one.run(seed, lr)
        self._whole.setdefault(one.name, {})[seed] = run.name
        self._owners[run.name] = one.name
        return run

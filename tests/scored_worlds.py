"""Evaluators that train nothing, in worlds whose truth is known: scores with noise."""

import math
import zlib

import numpy as np
import pandas as pd
from torch.optim import SGD

import lrtune
from lrtune import Task
from lrtune.analysis.prior import prior
from lrtune.results import SearchResult, Trace
from lrtune.results.schema import RUNS, TRACE, VALIDATIONS, as_table
from lrtune.schedules.registry import schedule_text
from lrtune.testing import Bowl

ROWS = 12  # recorded losses of a run
BEST = 0.1  # the best peak of the trapezoid

LOGS = Task(
    Bowl(4.0), [None], objective=lambda model, _: model(), floor=0.0, optimizer=SGD, device="cpu"
)
"""A task whose scores are log losses."""

SHARES = Task(
    Bowl(4.0), [None], objective=lambda model, _: model(), optimizer=SGD, device="cpu"
)  # fmt: skip
"""A task whose scores are shares of the fall."""


class World:
    """Runs end at exp(effect of the schedule + that of the seed + the run's noise) + constant.

    Each schedule has its best peak where other tasks have it, and a parabola around it.

    Args:
        effects: Text of a schedule to its effect, or a function of text and steps.
        noise: Standard deviation of one seed's difference between two schedules.
        seeds: Standard deviation of what a seed adds, to all alike.
        key: Another world of the same kind.
        fails: (run, steps) to whether it diverges.
        constant: Added to all losses.
        interrupt: The number of the call that Ctrl-C interrupts.
    """

    def __init__(
        self, effects, *, noise=0.1, seeds=0.2, key=0, fails=None, constant=0.0, interrupt=0
    ):
        self.effects = effects if callable(effects) else lambda text, _steps: effects.get(text, 0.0)
        self.noise, self.seeds, self.key = noise, seeds, key
        self.fails = fails or (lambda run, steps: False)
        self.constant, self.interrupt = constant, interrupt
        self.calls, self.updates = [], {}

    @property
    def spent(self):
        """The updates that were made, by no run twice."""
        return sum(self.updates.values())

    def trained(self, stage=None):
        """(schedule, rate, seed, steps) of every run, in the order of the calls."""
        found = {}
        for name, runs, steps in self.calls:
            for run in runs:
                if stage in (None, name):
                    found[run.name] = (schedule_text(run.schedule), run.lr, run.seed, steps)
        return list(found.values())

    def score(self, run, steps):
        text = schedule_text(run.schedule)
        random = np.random.default_rng(zlib.crc32(f"{self.key} {text} {run.seed} {steps}".encode()))
        block = np.random.default_rng([self.key, run.seed]).normal() * self.seeds
        own = random.normal() * self.noise / math.sqrt(2)
        distance = math.log(run.lr / (BEST * prior(text, steps).peak))
        return self.effects(text, steps) + block + own + 0.2 * distance**2

    def __call__(self, runs, steps, *, stage, validate=None, until=None):
        until = until or steps
        self.calls.append((stage, list(runs), steps))
        if self.interrupt == len(self.calls):
            raise KeyboardInterrupt
        frames, rows, validations = [], [], []
        for run in runs:
            lost, loss = self.fails(run, steps), math.exp(self.score(run, steps))
            at = np.arange(ROWS)
            losses = 9.0 * (1 + at) if lost else loss + (9 - loss) * np.exp(-2.0 * at)
            losses = losses + self.constant
            self.updates[run.name] = until
            frames.append(pd.DataFrame({"run": run.name, "step": at, "lr": run.lr, "loss": losses}))
            ended = "FINISHED" if until == steps else "PAUSED"
            outcome = "DIVERGED" if lost else ended
            rows.append((run.name, run.lr, repr(run.schedule), run.seed, outcome, until))
            if not lost and validate != 0:
                validated = (run.name, until, "selection", loss + self.constant, math.nan, 9)
                validations.append(validated)
        return Trace(
            steps=steps,
            frame=as_table(pd.concat(frames, ignore_index=True).assign(batch=0), TRACE),
            runs=as_table(rows, RUNS),
            validations=as_table(validations, VALIDATIONS),
        )


def drawn_effects(names, steps, key):
    """Effects as they vary among tasks, going by what is known of them."""
    random = np.random.default_rng(key)
    known = {name: prior(name, steps) for name in names}
    return {name: one.score + one.spread * random.normal() for name, one in known.items()} | {
        "trapezoid": 0.0
    }


EFFECTS = {
    "trapezoid": 0.0,
    "wsd": 0.05,
    "constant": 0.3,
    "linear": 0.1,
    "cosine": 0.15,
    "rex": 0.1,
}
LONG = 4690


def compare(world, found=0.1, *, task=LOGS, **settings):
    """A comparison in a world: of wsd, with what holds three seeds of it, unless told otherwise."""
    given = {"schedules": ["wsd"], "budget": 6}
    given |= {} if isinstance(found, SearchResult) else {"steps": 200}
    return lrtune.compare(task, found, evaluate=world, **(given | settings))


def search(world, **settings):
    """What a search finds in a world, whose counts begin again after it.

    Its whole trainings lie near each other, however far other tasks say that peaks scatter.
    """
    given = {"steps": 200, "schedule": "trapezoid", "min_gain": 0.0, "budget": 4.0}
    given |= {"fine": (1.0, 1.4, 1.9)} | settings
    found = lrtune.search(LOGS, evaluate=world, **given)
    world.calls, world.updates = [], {}
    return found


def row(ranked, name):
    """What the table says of a schedule."""
    return ranked.table.set_index("schedule").loc[name]

"""An evaluator that trains nothing: losses from a formula, with known answers."""

import hashlib
import re
import zlib

import numpy as np
import pandas as pd

from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.results.schema import RUNS, TRACE, VALIDATIONS, as_table


def hashed_run(name, *args, **more):
    """A run whose name says nothing."""
    return Run(hashlib.sha256(name.encode()).hexdigest(), *args, **more)


def planted(level, *, best=0.1, noise=0.01, start=2.0, fails=lambda run, steps: False):
    """Runs end at level(schedule, steps) + a parabola in log rate + the seed's + the run's noise.

    Args:
        level: (text of the schedule, steps) to final loss.
        best: The best peak rate.
        noise: Standard deviation of what a run adds; seeds add ten times as much, to all alike.
        start: Loss before the first update.
        fails: (run, steps) to whether it diverges.
    """
    calls = []

    def evaluate(runs, steps, *, stage, validate=None):
        calls.append((stage, [(run.lr, run.seed, repr(run.schedule)) for run in runs], steps))
        frames, rows = [], []
        for run in runs:
            told = f"{run.lr:.6g} {run.schedule!r} {run.seed} {steps}"
            random = np.random.default_rng(zlib.crc32(told.encode()))
            block = np.random.default_rng(run.seed).normal() * 10 * noise
            end = level(repr(run.schedule), steps) + 0.2 * np.log10(run.lr / best) ** 2
            end += block + random.normal() * noise
            lost = fails(run, steps)
            losses = end + (start - end) * np.exp(-np.arange(steps))
            losses = np.linspace(start, 9 * start, steps) if lost else losses
            frames.append(
                pd.DataFrame(
                    {
                        "run": run.name,
                        "step": range(steps),
                        "lr": run.lr,
                        "loss": losses,
                        "batch": 0,
                    }
                )
            )
            outcome = "DIVERGED" if lost else "FINISHED"
            rows.append((run.name, run.lr, repr(run.schedule), run.seed, outcome, steps, "", end))
        runs_frame = pd.DataFrame(rows, columns=[*RUNS, "loss"])
        fine = runs_frame[runs_frame["outcome"] == "FINISHED"]
        validated = {"step": steps, "part": "selection", "stderr": np.nan, "samples": 9}
        return Trace(
            steps=steps,
            frame=as_table(pd.concat(frames, ignore_index=True), TRACE),
            runs=as_table(runs_frame, RUNS),
            validations=as_table(fine.assign(**validated), VALIDATIONS),
        )

    evaluate.calls = calls
    return evaluate


def without_checkpoints(result):
    """A result as JSON, without the places of its checkpoints, which depend on the study."""
    return without_places(result.to_json())


def without_places(text):
    """JSON, or a page that holds some, without the places of checkpoints."""
    return re.sub(r'"checkpoint": ?("[^"]*"|\[[^]]*\])', "", text)

"""What a study costs: recording per run and step; opening, listing, reporting a large one."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from lrtune import Run
from lrtune.reporting import report
from lrtune.results import Trace
from lrtune.results.schema import RUNS, TRACE, VALIDATIONS, as_table
from lrtune.study.catalog import list_studies
from lrtune.study.contents import open_study
from lrtune.study.study import Study
from lrtune.testing import bowl


def pretended(runs, steps, **_):
    """A trace of noise, as quick as it can be made: training is not what is timed."""
    draw, count = np.random.default_rng(len(runs)), len(runs)
    loss = draw.gamma(2.0, size=count * steps).astype(np.float32).astype(float)
    batches = np.tile(draw.integers(2**32, size=steps), count)
    lrs = np.repeat([run.lr for run in runs], steps)
    names = np.repeat(np.array([run.name for run in runs], dtype=object), steps)
    every = np.tile(np.arange(steps), count)
    frame = {"run": names, "step": every, "lr": lrs, "loss": loss, "batch": batches}
    rows = [(run.name, run.lr, "constant()", run.seed, "FINISHED", steps) for run in runs]
    return Trace(
        frame=as_table(pd.DataFrame(frame), TRACE),
        runs=as_table(rows, RUNS),
        validations=as_table([], VALIDATIONS),
        steps=steps,
    )


def timed(title, do, divide=None):
    """Print how long it takes; returns what it gives."""
    start = time.perf_counter()
    given = do()
    took = time.perf_counter() - start
    per_step = f", {took / divide * 1e6:.2f} microseconds per run and step" if divide else ""
    print(f"{title:<44} {took:8.3f} s{per_step}")
    return given


def main():
    """Record many runs, then use the study."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=125)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--study", help="a URL instead of a SQLite file of its own")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = given.study or f"sqlite:///{folder}/study.db"
        study = timed("make", lambda: Study(where, bowl(), fresh=True))
        runs = [Run(f"{n}", 0.1 + n * 1e-6, seed=n % 3) for n in range(given.runs)]
        parts = [runs[n : n + given.at_once] for n in range(0, len(runs), given.at_once)]
        evaluate = study.evaluator(pretended)
        per = given.runs * given.steps
        bare = timed("make traces", lambda: [pretended(part, given.steps) for part in parts])
        del bare
        timed("make and record traces", lambda: record(evaluate, parts, given.steps), per)
        again = timed("open, with every checksum", lambda: Study(where, bowl()))
        evaluate = again.evaluator(pretended)
        timed("remember them", lambda: record(evaluate, parts, given.steps), per)
        assert again.trained == 0
        timed("list", lambda: list_studies(where))
        contents = timed("read for show and export", lambda: open_study(where))
        page = Path(folder) / "report.html"
        timed("report", lambda: report(contents.reported, page))
        if given.study is None:
            size = (Path(folder) / "study.db").stat().st_size
            print(f"{size / given.runs:.0f} bytes per run of {given.steps} steps")


def record(evaluate, parts, steps):
    """Ask for all parts."""
    for part in parts:
        evaluate(part, steps, stage="benchmark")


if __name__ == "__main__":
    main()

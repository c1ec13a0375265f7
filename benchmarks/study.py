"""What a study costs: recording per run and step; opening, listing, reporting a large one.

`--pairs 5` times something else instead: whole searches of the digits by one process, and by two
that share a study.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

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


def search_time(processes, steps, folder):
    """The same search by so many processes, started at once.

    Returns the seconds until all have ended, the processor time of the busiest, which a busy
    machine changes less, what they answer, and what they say about each other.
    """
    line = [sys.executable, "-m", "lrtune", "search", "--steps", str(steps), "--budget", "5"]
    line += ["--study", f"sqlite:///{folder}/study.db"]
    where, start, children = {**os.environ, "OMP_NUM_THREADS": "1"}, time.perf_counter(), []
    for n in range(processes):
        with Path(f"{folder}/{n}.out").open("w") as out, Path(f"{folder}/{n}.err").open("w") as err:
            command = [*line, "--out", f"{folder}/{n}.html"]
            children.append(subprocess.Popen(command, env=where, stdout=out, stderr=err))
    busiest = 0.0
    for child in children:
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        busiest = max(busiest, used.ru_utime + used.ru_stime)
    took = time.perf_counter() - start
    assert not any(child.returncode for child in children)
    answers = {
        Path(f"{folder}/{n}.out").read_text().partition("Report")[0] for n in range(processes)
    }
    errors = [Path(f"{folder}/{n}.err").read_text() for n in range(processes)]
    lines = [line for text in errors for line in text.splitlines() if "another process" in line]
    return took, busiest, answers, [line.partition(": ")[2] for line in lines]


def compare_processes(pairs, steps):
    """Print what one process takes, and two that share a study, in turn; the same answer."""
    shares, of_busiest = [], []
    for pair in range(pairs):
        # In the other order every other time, as the load of a machine drifts.
        counts, found, answers, told = [1, 2][:: (-1) ** pair], {}, set(), []
        for count in counts:
            with tempfile.TemporaryDirectory() as folder:
                *found[count], said, lines = search_time(count, steps, folder)
                answers |= said
            told += lines
        assert len(answers) == 1, answers
        (one, used), (two, most) = found[1], found[2]
        shares.append(two / one)
        of_busiest.append(most / used)
        print(f"one {one:.1f} s ({used:.1f} s of a processor), two {two:.1f} s ({most:.1f} s)")
        print(*(f"  {line}" for line in told), sep="\n", flush=True)
    words = "{:.2f} of the seconds of one, the busiest {:.2f} of its processor time; {} pairs"
    print("two take", words.format(median(shares), median(of_busiest), pairs))


def main():
    """Record many runs, then use the study."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=125)
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--study", help="a URL instead of a SQLite file of its own")
    parser.add_argument("--pairs", type=int, default=0, help="time whole searches, so many pairs")
    parser.add_argument("--length", type=int, default=4000, help="the steps of these searches")
    given = parser.parse_args()
    if given.pairs:
        compare_processes(given.pairs, given.length)
        return
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

"""lrtune's search as a user meets it: the training that it hands out, and the rate that it says.

The search is given one half of the validation data as `val`, which it splits again; what it hands
out is judged on the other half, and the other way round. Held against the best constant rate of the
oracle, the mean of three fresh seeds, on that half. The rate that it says is an answer like that of
any other finder: trained to the end with other seeds, and judged on all validation data.

What the same task has told about schedules and rates is left out of what its search knows.
"""

import math
import time

from benchmarks.quality.answers import Answer, Answers, Setup, metered
from benchmarks.quality.halves import halves, validated
from benchmarks.quality.priors import left_out
from benchmarks.quality.store import FOLDER, Store
from lrtune import Task, search
from lrtune.errors import SearchError

SEARCHED = Store(
    FOLDER / "searched.csv",
    (
        "task", "method", "repeat", "lr", "schedule", "low", "high", "best_lr", "kept", "stated",
        "cost", "updates", "seconds", "said",
    ),
    ("task", "method", "repeat"),
)  # fmt: skip
"""One row per search: its rate with the interval; the loss of the training that it hands out, on
the half that it did not see (`kept`), and on the part of its own half that selected nothing
(`stated`); what it says it cost, in trainings, and what was counted; wall seconds. `said`: why
there is no answer. Even repeats are given the first half, odd ones the second."""

OURS = "lrtune search"
BUDGET_1, CONSTANT = f"{OURS}, budget 1", f"{OURS}, constant"
OPTIONS = {OURS: {}, BUDGET_1: {"budget": 1.0}, CONSTANT: {"schedule": "constant"}}

SEED = 1000
"""The seeds of searches begin here; the judging seeds are others."""


def lrtune_search(setup: Setup, *, method: str) -> Answers:
    """What one search says, and a row of what it hands out."""
    spec, half = setup.spec, setup.repeat % 2
    train, _ = spec.data
    task = Task(
        spec.model, train, val=halves(spec)[half], loss=spec.loss, optimizer=spec.optimizer,
        batch_size=spec.batch, device="cpu",
    )  # fmt: skip
    about = {"task": spec.name, "method": method, "repeat": setup.repeat}
    begin = time.perf_counter()
    with left_out(spec.name), metered() as counted:
        try:
            found = search(
                task, steps=spec.steps, seed=SEED + 100 * setup.repeat, **OPTIONS[method]
            )
        except SearchError as error:
            seconds = time.perf_counter() - begin
            said = str(error).splitlines()[0][:200]
            SEARCHED.add([about | {"said": said, "seconds": seconds}])
            return {method: said}
        seconds = time.perf_counter() - begin
    best, (low, high) = found.best, found.interval
    SEARCHED.add([about | {
        "lr": found.lr, "schedule": found.schedule, "low": low, "high": high,
        "best_lr": best.lr if best else math.nan,
        "kept": validated(spec, 1 - half, found.model()) if best else math.nan,
        "stated": best.loss if best else math.nan,
        "cost": found.cost, "updates": counted.updates, "seconds": seconds,
    }])  # fmt: skip
    return {method: Answer(found.lr, found.schedule, low, high)}

"""What is a comparison of schedules worth? Training with what it says, and with what it tried.

On the tasks for practice, too: the place that a schedule takes among ties is made of these figures.
"""

import pandas as pd

from benchmarks.quality.answers import metered
from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import FEWER, SEEDS, Judge
from lrtune import ComparisonResult, SearchResult, compare, search
from lrtune.tuning.candidates import DEFAULT, resolve_schedules
from lrtune.tuning.search import SCHEDULE

RANKED = Store(
    FOLDER / "compared.csv",
    ("task", "repeat", "schedule", "call", "lr", "tied", "kept", "peak", "updates", "seconds"),
    ("task", "repeat", "schedule"),
)
"""One row per schedule of a comparison, the lowest loss of its short runs first: at which rate it
was judged; the rate that the search before had found, to be `kept` constant, and its `peak`; what
the comparison took."""

KEPT = "the rate that was found, kept constant"
SEARCHED = "the schedule of a search"
RECOMMENDED = "what the comparison recommends"
LOWEST = "the lowest loss of its short runs"
SIMPLEST = "the simplest of the tied"
WAYS = (KEPT, SEARCHED, RECOMMENDED, LOWEST, SIMPLEST)

COMPARED = {schedule.name: schedule for schedule in resolve_schedules(None, [1])}


def rank(judge: Judge, repeats: int) -> None:
    """Search, compare, and train with what both say; what was measured is not measured again."""
    spec = judge.spec
    for repeat in range(repeats):
        if not {(spec.name, repeat, name) for name in DEFAULT} <= RANKED.known():
            task, seed = spec.task(), 10 * repeat
            found = search(task, steps=spec.steps, seed=seed)
            with metered() as cost:
                said = compare(task, found.lr, steps=spec.steps, seed=seed)
            about = {"task": spec.name, "repeat": repeat, "updates": cost.updates}
            RANKED.add(about | {"seconds": cost.seconds} | row for row in _rows(found, said))
    table = RANKED.read()
    table = table[table["task"] == spec.name]
    seeds = SEEDS if spec.name in TASKS else FEWER
    for _, some in table.groupby("repeat"):
        judge(list(pairs(some).values()), halfway=False, seeds=seeds)


def _rows(found: SearchResult, said: ComparisonResult) -> list[dict[str, object]]:
    return [
        {"schedule": row.schedule, "call": row.call, "lr": row.lr, "tied": int(row.tied),
         "kept": found.lr, "peak": found.peak}
        for row in said.table.itertuples()
    ]  # fmt: skip


def pairs(table: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """What one comparison leads to: by way, and by schedule, a call and a rate."""
    table = table.set_index("schedule")
    tied = list(table.index[table["tied"] == 1])
    ways = {name: (str(row.call), float(row.lr)) for name, row in table.iterrows()}
    some = table.iloc[0]
    return ways | {
        KEPT: ("constant", float(some["kept"])),
        SEARCHED: (SCHEDULE, float(some["peak"])),
        RECOMMENDED: ways[min(tied, key=lambda name: COMPARED[name].tie_order)],
        LOWEST: ways[str(table.index[0])],
        SIMPLEST: ways[min(tied, key=lambda name: COMPARED[name].complexity)],
    }

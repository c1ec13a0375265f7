"""Measures what is not in docs/quality/ yet, and writes docs/quality.md.

    python -m benchmarks.quality [stage ...] [--task NAME ...]

constant    the oracle: 25 constant rates, to the full length
searches    lrtune's search, and what else needs no budget
finders     the range tests' answers
scheduled   the oracle: every schedule at its own best rate
free        optimizers that need no rate
probes      short linear decays at all rates, of the open tasks only: for tuning
compressed  the schedules as whole short runs
rivals      random search and Optuna, with as many updates as lrtune's search
judged      training with every answer, to the full length
practice    other tasks: shapes and peaks, from the answers of a search; for tuning
halves      constant rates and trapezoids, short and whole, judged by two halves: for tuning
readings    what the coarse stage of a search says of these tasks
kept        the training that a search hands out, judged on data that it did not see
fashion     two trainings of real length, on Fashion-MNIST
page        docs/quality.md, from what is measured

Without a stage, all of them; first the open tasks, then those that are held out. The last two
stages have no tasks to choose from.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.quality import fashion, oracle, page, searches
from benchmarks.quality.answers import ask, judge_answers
from benchmarks.quality.finders import FINDERS
from benchmarks.quality.halves import measure
from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.readings import read
from benchmarks.quality.searched import BUDGETS, search_task
from benchmarks.quality.shapes import practise
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import Judge


def found(judge: Judge, repeats: int) -> None:
    for finder, methods in FINDERS:
        ask(judge.spec, finder, methods, repeats)


def searched(judge: Judge, repeats: int) -> None:
    for finder, methods, budget_of in searches.SEARCHES:
        ask(judge.spec, finder, methods, repeats, budget_of)


def rivalled(judge: Judge, repeats: int) -> None:
    for finder, methods, budget_of in searches.RIVALS:
        ask(judge.spec, finder, methods, repeats, budget_of)


def free(judge: Judge, _: int) -> None:
    from benchmarks.quality.free import free as trained  # noqa: PLC0415  # optional packages

    trained(judge)


def kept(judge: Judge, repeats: int) -> None:
    for budget in BUDGETS:
        search_task(judge.spec, budget, None, repeats)
    search_task(judge.spec, BUDGETS[-1], "constant", repeats)


STAGES: dict[str, Callable[[Judge, int], None]] = {
    "constant": lambda judge, _: oracle.constant(judge),
    "searches": searched,
    "finders": found,
    "scheduled": lambda judge, _: oracle.scheduled(judge),
    "free": free,
    "probes": lambda judge, _: oracle.probes(judge),
    "compressed": lambda judge, _: oracle.compressed(judge),
    "rivals": rivalled,
    "judged": lambda judge, _: judge_answers(judge, searches.COMBINED),
    "practice": lambda judge, _: practise(judge.spec),
    "halves": lambda judge, _: measure(judge.spec),
    "readings": lambda judge, _: read(judge.spec),
    "kept": kept,
}

TUNED = {name: spec for name, spec in TASKS.items() if not spec.held_out} | PRACTICE
BY_STAGE = {"practice": PRACTICE, "halves": TUNED, "readings": TUNED, "kept": TASKS | PRACTICE}


WHOLE: dict[str, Callable[[], None]] = {"page": page.write, "fashion": fashion.measure}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", help="one or more of the above")
    parser.add_argument(
        "--task", action="append", choices=[*TASKS, *PRACTICE], help="all when left out"
    )
    parser.add_argument("--repeats", type=int, default=1, help="answers of each finder")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for stage in given.stages or [*STAGES, *WHOLE]:
        if stage in WHOLE:
            WHOLE[stage]()
            continue
        tasks = BY_STAGE.get(stage, TASKS)
        for name in [name for name in given.task or tasks if name in tasks]:
            begin = time.perf_counter()
            STAGES[stage](Judge(tasks[name]), given.repeats)
            print(f"{stage:12s} {name:20s} {time.perf_counter() - begin:7.1f} s", flush=True)


if __name__ == "__main__":
    main()

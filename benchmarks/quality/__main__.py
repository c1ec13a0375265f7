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
halves      constant rates and trapezoids, short and whole, judged by two halves: for tuning
constants   constant rates near the best one of held-out tasks, judged by two halves
readings    what the coarse stage of a search says of these tasks
statements  comparisons after searches, and fresh trainings of what they claim
errors      the standard error of a loss on one of the halves
fashion     two trainings of real length, on Fashion-MNIST
prior       lrtune/analysis/prior.toml, from what is measured
page        docs/quality.md, from what is measured

Without a stage, all of them; first the open tasks, then those that are held out. The last three
stages have no tasks to choose from.
"""

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.quality import fashion, oracle, page, priors, searches, statements, verdicts
from benchmarks.quality.answers import ask, judge_answers
from benchmarks.quality.finders import FINDERS
from benchmarks.quality.halves import measure
from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.readings import read
from benchmarks.quality.retrained import measure_error
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
    "halves": lambda judge, _: measure(judge.spec),
    "constants": lambda judge, _: verdicts.measure_constants(judge.spec),
    "readings": lambda judge, _: read(judge.spec),
    "statements": lambda judge, repeats: statements.measure(judge.spec, repeats),
    "errors": lambda judge, _: measure_error(judge.spec),
}

READ = priors.TUNED | priors.FASHION_TASKS
BY_STAGE = {
    "halves": priors.TUNED,
    "statements": priors.TUNED,
    "constants": {name: spec for name, spec in TASKS.items() if spec.held_out},
    "readings": READ,
    "errors": priors.TUNED,
    "searches": TASKS | PRACTICE,
}


WHOLE: dict[str, Callable[[], None]] = {
    "fashion": fashion.measure, "prior": priors.write, "page": page.write,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stages", nargs="*", help="one or more of the above")
    parser.add_argument(
        "--task", action="append", choices=[*TASKS, *READ], help="all when left out"
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

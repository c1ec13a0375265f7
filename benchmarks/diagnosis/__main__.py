"""What is said against healthy tasks: `python -m benchmarks.diagnosis healthy`."""

import sys
import time
import warnings

from benchmarks.diagnosis.healthy import HEALTHY
from lrtune import check, range_test, search
from lrtune.errors import AnswerWarning, LrtuneError

STEPS = 200


def alarms(name: str) -> dict[str, list[str]]:
    """What each verb says against a task."""
    task = HEALTHY[name]()
    told = {"check": list(check(task).warnings)}
    for verb in (range_test, search):
        try:
            told[verb.__name__] = list(verb(task, steps=STEPS).warnings)
        except LrtuneError as error:
            told[verb.__name__] = [str(error).splitlines()[0]]
    return told


def main() -> None:
    warnings.simplefilter("ignore", AnswerWarning)
    chosen = [name for name in HEALTHY if not sys.argv[2:] or name in sys.argv[2:]]
    quiet = 0
    for name in chosen:
        begin = time.perf_counter()
        told = alarms(name)
        quiet += not any(told.values())
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
        for verb, sentences in told.items():
            for sentence in sentences:
                print(f"  {verb}: {sentence}", flush=True)
    print(f"{quiet} of {len(chosen)} healthy tasks without a word against them")


if __name__ == "__main__":
    main()

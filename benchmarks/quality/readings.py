"""What the coarse stage of a search says, task by task: how far is it from the best peak?"""

from benchmarks.quality.store import FOLDER, Store
from benchmarks.quality.tasks import Spec
from lrtune.training import Evaluator
from lrtune.tuning.experiment import Clock, ask_all
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.settings import make_setting

READINGS = Store(
    FOLDER / "readings.csv",
    ("task", "schedule", "seed", "rate", "steps", "learned", "updates"),
    ("task", "schedule", "seed"),
)
"""One row per coarse stage: the best constant rate for so many steps, and the updates it took."""

SEEDS = (200, 201, 202)


def read(spec: Spec, schedule: str = "trapezoid") -> None:
    """Run the coarse stage of a default search, with seeds of its own; known ones are skipped."""
    known = READINGS.known()
    for seed in SEEDS:
        if (spec.name, schedule, seed) in known:
            continue
        task = spec.task()
        strategy = RateSearch(
            make_setting(task, steps=spec.steps, schedule=schedule, seed=seed), rate_only=True
        )
        ask_all(
            strategy.asking(), Evaluator(task), Clock(None), lambda _: None,
            interruptible=lambda: False,
        )  # fmt: skip
        assert strategy.coarse is not None, "no rate was given"
        reading = strategy.coarse.reading
        assert reading is not None, "a coarse stage that ends has a reading"
        READINGS.add([{
            "task": spec.name, "schedule": schedule, "seed": seed, "rate": reading.rate,
            "steps": reading.steps, "learned": int(reading.learned), "clear": int(reading.clear),
            "updates": round(strategy.experiment.spent * spec.steps),
        }])  # fmt: skip

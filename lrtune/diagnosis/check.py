"""check(): what will be trained, before it is, and what is odd about it."""

import math
from collections.abc import Collection
from dataclasses import replace

import pandas as pd

from lrtune.diagnosis.checks.order import order_text
from lrtune.diagnosis.observations.speed import Speed, measure_speed
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.registry import CHECKS, Check
from lrtune.errors import LrtuneError, first_line, memory_text, quantity
from lrtune.results import Diagnosis
from lrtune.results.diagnosis import worst_first
from lrtune.results.schema import GROUPS, as_table
from lrtune.results.serialization import manifest
from lrtune.task.memory import max_runs
from lrtune.task.task import Task, checked_task

REDUCTIONS = {
    "mean": "the mean of those of its rows",
    "sum": "the sum of those of its rows",
    "neither": "neither the mean nor the sum of those of its rows",
    "unknown": "unknown, as the batch cannot be cut in two, or both have the same loss",
}


def check(task: Task) -> Diagnosis:
    """Look at a task before it trains: what will be trained, and what is odd about it.

    Some batches are read and twenty updates are made, on copies: the first one, along which the
    loss is measured, three runs of four, which are compared, and seven whose time is taken. What
    an expert would notice at once is a finding with its evidence, its likeliest cause and what to
    do.

    Args:
        task: What is looked at; it stays as it is.

    Returns:
        A `Diagnosis`: `facts`, `groups`, `findings`, `warnings`.

    Raises:
        ArgumentError: `task` is no `Task`.

    >>> from lrtune.testing import bowl
    >>> seen = check(bowl(4.0))
    >>> seen.facts["Batches in an epoch"], seen.findings
    ('1,000', ())
    """
    seen = Observed(checked_task(task))
    try:
        return diagnosis_of(seen, measure_speed(task))
    except LrtuneError as error:
        found = diagnosis_of(seen)
        return replace(found, facts=found.facts | {"One update": f"fails: {first_line(error)}"})


def look(task: Task, without: Collection[Check] = ()) -> Diagnosis:
    """The same without an update, for verbs that train anyway; and without some of the checks."""
    return diagnosis_of(Observed(task), without=without)


def diagnosis_of(
    seen: Observed, speed: Speed | None = None, without: Collection[Check] = ()
) -> Diagnosis:
    """The findings of all checks but some, and what will be trained, in words."""
    described, checks = described_by(seen, speed), [one for one in CHECKS if one not in without]
    return replace(
        described,
        findings=worst_first([found for one in checks for found in one(seen)]),
        looked_at=tuple(name for one in checks for name in CHECKS[one]),
    )


def described_by(seen: Observed, speed: Speed | None = None) -> Diagnosis:
    """What will be trained, in words; no check has looked at it."""
    rows = [(n, *vars(group).values()) for n, group in enumerate(seen.groups)]
    return Diagnosis(
        facts=_facts(seen, speed),
        findings=(),
        looked_at=(),
        manifest=manifest(seen.task.describe()),
        groups=as_table(pd.DataFrame(rows, columns=list(GROUPS)), GROUPS),
    )


def _facts(seen: Observed, speed: Speed | None) -> dict[str, str]:
    task, described = seen.task, seen.task.describe()
    facts = {name.capitalize(): text for name, text in described.items() if name != "scores"}
    count = task.batches_in_epoch
    facts["Batches in an epoch"] = "unknown" if count is None else f"{count:,}"
    facts["Order of the batches"] = order_text(seen)
    facts["Loss of a batch"] = REDUCTIONS[task.loss_reduction]
    modes = math.isfinite(seen.start_in_eval) and task.has_validation
    in_eval = f"; {seen.start_in_eval:.4g} in eval mode" if modes else ""
    facts["Loss before training"] = f"{seen.start:.4g}, of the first batch{in_eval}"
    facts["Scores"] = described["scores"]
    if task.has_validation:
        parts = (f"{count:,} for {part}" for part, count in task.val_counts.items())
        facts["Validation samples"] = ", ".join(parts)
    facts["Parameter groups"] = quantity(len(seen.groups), "group")
    one, most = task.run_bytes.total, max_runs(task.run_bytes, task.device)
    facts["Memory of a run"] = f"{memory_text(one)} on {task.device}; {most:,} fit at once"
    if speed is not None:
        facts["One update"] = _seconds(speed.update)
        if math.isfinite(speed.validation):
            facts["One validation"] = _seconds(speed.validation)
    return facts


def _seconds(value: float) -> str:
    """Seconds as text.

    >>> _seconds(0.00123), _seconds(12.34)
    ('1.2 ms', '12.3 s')
    """
    return f"{1000 * value:.2g} ms" if value < 1 else f"{value:.3g} s"

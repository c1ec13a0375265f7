"""Finished runs as trials of an Optuna study, through Optuna's public interface.

Optuna is imported when a function here is called: reading results does not need it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.errors import ArgumentError
from lrtune.schedules import FEEDBACK, SCHEDULES

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

OTHER = "other"
"""What the parameter `schedule` says of a schedule that is not in the registry."""

KEY = "lrtune_key"
"""The user attribute by which an export knows which runs the study holds already."""

POINTS = 50
"""Losses kept of a curve; a study in a database keeps each of them as a row."""


@dataclass(frozen=True)
class FinishedRun:
    """One run, or the mean of one run per seed, as a trial needs it.

    Attributes:
        key: Identifies the run; one that the study holds already is not added again.
        lr: Peak learning rate.
        schedule: Name in the registry of schedules, or anything else.
        call: The call that makes the schedule.
        seed: None for a mean over seeds.
        steps: The number of updates of the whole run.
        outcome: A name in `lrtune.analysis.curves.Outcome`; empty for a mean over seeds.
        value: The loss that the study minimizes.
        losses: Step to training loss.
        more: Further user attributes.
    """

    key: str
    lr: float
    schedule: str
    call: str
    seed: int | None
    steps: int
    outcome: str
    value: float
    losses: Mapping[int, float] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)


def run_id(*parts: object) -> str:
    """A key for a run of a result, from what the run was made of."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def add_to_optuna(runs: Iterable[FinishedRun], name: str, storage: Any = None) -> "Study":
    """Add finished runs as trials to an Optuna study, which is created if it does not exist.

    Args:
        runs: The runs; those that the study holds already are skipped.
        name: The name of the Optuna study.
        storage: An Optuna storage or its URL; None for a study in memory.

    Returns:
        The study. Its trials have the parameters `lr`, `schedule`, `seed` and `steps`, the state
        FAIL for runs that diverged or became non-finite, and up to 50 training losses as
        intermediate values.

    Raises:
        ArgumentError: The storage cannot be used, or holds another study of that name.
    """
    import optuna  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    try:
        with without_log():
            if isinstance(storage, str):  # no connection stays open behind the export
                pool = {"poolclass": NullPool}
                storage = optuna.storages.RDBStorage(storage, engine_kwargs=pool)
            study = optuna.create_study(
                study_name=name, storage=storage, direction="minimize", load_if_exists=True
            )
            trials = study.get_trials(deepcopy=False)
            known = {trial.user_attrs.get(KEY) for trial in trials}
            schedules = _schedule_names(trials)
            new = {run.key: run for run in runs if run.key not in known}
            study.add_trials([_trial(run, schedules) for run in new.values()])
    except (
        ImportError, SQLAlchemyError, ValueError, RuntimeError, optuna.exceptions.OptunaError,
    ) as error:  # fmt: skip
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ArgumentError(
            f"cannot add trials to the Optuna study {name!r}: {first[:200]}. Expected a storage "
            "such as sqlite:///optuna.db without another study of that name."
        ) from error
    return study


def _schedule_names(trials: Sequence["FrozenTrial"]) -> Sequence[Any]:
    """The names that the parameter `schedule` may have.

    Optuna allows no other names in a study than its first trial had. So a study from before a
    schedule was registered keeps its names, and the new schedule is exported as `other`.
    """
    for trial in trials:
        if "schedule" in trial.distributions:
            return tuple(trial.distributions["schedule"].choices)  # type: ignore[attr-defined]
    return (*SCHEDULES, *FEEDBACK, OTHER)


def _trial(run: FinishedRun, schedules: Sequence[Any]) -> "FrozenTrial":
    from optuna.distributions import (  # noqa: PLC0415
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import TrialState, create_trial  # noqa: PLC0415

    # One range for all trials where possible: Optuna compares only trials of equal ranges.
    params: dict[str, tuple[Any, BaseDistribution]] = {
        "lr": (run.lr, FloatDistribution(min(1e-10, run.lr), max(1e3, run.lr), log=True)),
        "schedule": (
            run.schedule if run.schedule in schedules else OTHER,
            CategoricalDistribution(schedules),
        ),
        "steps": (run.steps, IntDistribution(1, max(10**9, run.steps))),
    }
    if run.seed is not None:
        params["seed"] = run.seed, IntDistribution(0, max(2**32, run.seed))
    failed = run.outcome in FAILED_OUTCOMES or not np.isfinite(run.value)
    steps = sorted(step for step, loss in run.losses.items() if np.isfinite(loss))
    some = np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).round().astype(int)
    return create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        value=None if failed else run.value,
        params={name: value for name, (value, _) in params.items()},
        distributions={name: distribution for name, (_, distribution) in params.items()},
        user_attrs={KEY: run.key, "call": run.call, "outcome": run.outcome, **run.more},
        intermediate_values={int(steps[place]): run.losses[steps[place]] for place in some},
    )


@contextmanager
def without_log() -> Iterator[None]:
    """Silence Optuna's log inside the block: lrtune's users did not ask for it."""
    import optuna  # noqa: PLC0415

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)

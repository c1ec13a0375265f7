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

OTHER = "other"  # the parameter `schedule` of a trial whose schedule is not in the registry
KEY = "lrtune_key"  # the user attribute by which an export finds the runs that are there already
POINTS = 50  # losses kept of a curve: a study in a database keeps each of them as a row


@dataclass(frozen=True)
class ExportedTrial:
    """The values of one trial in Optuna: those of a finished run, or the mean over its seeds."""

    key: str  # identifies the run; one that the study holds already is not added again
    lr: float  # peak rate
    schedule: str  # a name in the registry of schedules, or anything else
    call: str  # the call that makes the schedule
    steps: int  # updates of the whole run
    value: float  # the loss that the study minimizes
    seed: int | None = None  # None for a mean over seeds
    outcome: str = ""  # a name in `lrtune.analysis.curves.Outcome`; empty for a mean over seeds
    losses: Mapping[int, float] = field(default_factory=dict)  # step to training loss
    more: Mapping[str, str] = field(default_factory=dict)  # further user attributes


def run_id(*parts: object) -> str:
    """A key for a run of a result, from what the run was made of."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def add_to_optuna(runs: Iterable[ExportedTrial], name: str, storage: Any = None) -> "Study":
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
    """The names that the parameter `schedule` may have."""
    # Optuna allows no other names in a study than its first trial had. So a study from before a
    # schedule was registered keeps its names, and the new schedule is exported as `other`.
    for trial in trials:
        if "schedule" in trial.distributions:
            return tuple(trial.distributions["schedule"].choices)  # type: ignore[attr-defined]
    return (*SCHEDULES, *FEEDBACK, OTHER)


def _trial(run: ExportedTrial, schedules: Sequence[Any]) -> "FrozenTrial":
    from optuna import distributions, trial  # noqa: PLC0415

    name = run.schedule if run.schedule in schedules else OTHER
    params: dict[str, Any] = {"lr": run.lr, "schedule": name, "steps": run.steps}
    # One range for all trials where possible: Optuna compares only trials of equal ranges.
    ranges: dict[str, distributions.BaseDistribution] = {
        "lr": distributions.FloatDistribution(min(1e-10, run.lr), max(1e3, run.lr), log=True),
        "schedule": distributions.CategoricalDistribution(schedules),
        "steps": distributions.IntDistribution(1, max(10**9, run.steps)),
    }
    if run.seed is not None:
        params["seed"] = run.seed
        ranges["seed"] = distributions.IntDistribution(0, max(2**32, run.seed))
    failed = run.outcome in FAILED_OUTCOMES or not np.isfinite(run.value)
    steps = sorted(step for step, loss in run.losses.items() if np.isfinite(loss))
    some = np.linspace(0, len(steps) - 1, min(len(steps), POINTS)).round().astype(int)
    return trial.create_trial(
        state=trial.TrialState.FAIL if failed else trial.TrialState.COMPLETE,
        value=None if failed else run.value,
        params=params,
        distributions=ranges,
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

"""What trains the runs of a verb: an evaluator, or a function of the user's own; and `train`."""

from collections.abc import Sequence

from lrtune.errors import ArgumentError, shown
from lrtune.results import Trace
from lrtune.results.runs import Run
from lrtune.task.task import Task, checked_task
from lrtune.training.engines.varied import Variations
from lrtune.training.evaluate import CheckedEvaluate, Evaluate
from lrtune.training.evaluator import Evaluator
from lrtune.training.idle_runs import check_memory_options
from lrtune.training.recording import Progress
from lrtune.training.same_task import refuse_other_task


def as_evaluate(
    task: Task | None,
    evaluate: Evaluate | None,
    *,
    max_runs: int | None = None,
    offload: str | None = None,
    progress: Progress | None = None,
) -> Evaluate:
    """What trains runs: a function of the user's own, else an evaluator of the task."""
    check_memory_options(max_runs, offload)
    if evaluate is not None:
        if max_runs is not None or offload is not None:
            raise ArgumentError(
                f"got evaluate with max_runs={max_runs!r} and offload={offload!r}; expected these "
                "without evaluate, as they are for the evaluator that is made then. Give them to "
                "yours: evaluate=lrtune.Evaluator(task, max_runs=4)."
            )
        checked = CheckedEvaluate(evaluate)
        if task is not None:
            refuse_other_task(checked_task(task), evaluate)
        return checked
    if task is None:
        raise ArgumentError(
            "got neither a task nor evaluate; expected one. Pass lrtune.Task(model, train)."
        )
    return Evaluator(task, max_runs=max_runs, offload=offload, progress=progress)


def evaluate_like(evaluate: Evaluate, task: Task, variations: Variations | None = None) -> Evaluate:
    """What trains the runs of another task, or runs that vary, as `evaluate` trains others.

    Raises:
        ArgumentError: It is a function of the user's own, which trains one task only.
    """
    like = getattr(evaluate, "like", None)
    if not callable(like):
        raise ArgumentError(
            f"evaluate={shown(evaluate)} trains the runs of one task as they are; expected "
            "something with a method `like(task, variations)`, which returns what trains others. "
            "Leave evaluate out, or give an lrtune.Evaluator."
        )
    made: Evaluate = like(task, variations)
    return made


def said_of(evaluate: Evaluate) -> tuple[str, ...]:
    """What counts against an answer that rests on a training loop of the user's own."""
    return evaluate.said if isinstance(evaluate, CheckedEvaluate) else ()


def train(
    task: Task,
    runs: Sequence[Run],
    steps: int,
    *,
    engine: str = "loop",
    validate: bool = True,
    progress: Progress | None = None,
) -> Trace:
    """Train every run on the same batches for `steps` updates: one row per run and step.

    Args:
        task: What is trained; it stays as it is.
        runs: Their names must differ.
        steps: Optimizer updates of each run; schedules are spread over them.
        engine: `loop`, `vmapped` or `auto`; see `Evaluator`.
        validate: Measure the validation losses of the runs that reached the end, if there is data.
        progress: Called with the stage, the updates done and their total.

    Returns:
        The trace: `frame`, `runs`, `validations`, `costs`.

    Raises:
        ArgumentError, ScheduleError: Before anything trains.
        EngineError: `engine` is `vmapped`, and `vmap` cannot train the runs.

    >>> from lrtune.testing import bowl
    >>> trace = train(bowl(curvature=4.0), [Run("a", 0.25), Run("b", 0.6)], steps=100)
    >>> trace.runs[["run", "outcome"]].values.tolist()
    [['a', 'FINISHED'], ['b', 'DIVERGED']]
    """
    evaluator = Evaluator(task, engine=engine, progress=progress)
    return evaluator(runs, steps, stage="training", validate=None if validate else 0)

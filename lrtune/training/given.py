"""What trains the runs of a verb: a function of the user's own, or an evaluator of the task."""

from lrtune.errors import ArgumentError
from lrtune.task.task import Task, checked_task
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


def said_of(evaluate: Evaluate) -> tuple[str, ...]:
    """What counts against an answer that rests on a training loop of the user's own."""
    return evaluate.said if isinstance(evaluate, CheckedEvaluate) else ()

"""How a budget is divided among the continuations of a run."""

from lrtune.diagnosis.observations.continuations import FORWARD, LARGER
from lrtune.diagnosis.observations.full_gradient import GRADIENT_BATCHES
from lrtune.diagnosis.observations.plateau import FIRST, Plateau
from lrtune.diagnosis.observations.stalls import Stall
from lrtune.diagnosis.observations.twin import COST, FACTOR, Twin
from lrtune.results.runs import Run
from lrtune.results.schema import SELECTION
from lrtune.task.task import Task
from lrtune.task.variants import own_width, with_width

TWIN = 1 / 3  # by convention: the share of the budget for a wider twin, where there can be one
VALIDATION = 0.08  # by convention: of what training costs, for its validation
LEAST_SAMPLES = 20  # by convention: by fewer validation samples, chance decides
ORDERS = 3  # by convention: of the batches; two, where the budget allows for no more
LEAST_STEPS = 16  # by convention: batches that continuations see; of fewer, a momentum decides
ENOUGH = 32  # by convention: when continuations see so many, the rest of a budget makes orders
MOST_ORDERS = 4  # by convention: more make an interval little narrower


def continue_run(task: Task, run: Run, steps: int, stall: Stall, budget: float) -> Plateau | None:
    """The continuations of a run; None where the budget is not enough for two orders of batches.

    A run that has failed has no continuation, and needs no budget.

    Args:
        task: What is trained.
        run: Its schedule and seed.
        steps: The length of the training that the schedule is spread over.
        stall: The run, at the step from which it is continued.
        budget: The most to spend, in updates.
    """
    twin, rest = _twin(task, run, steps, stall, TWIN * budget), budget
    if twin is not None and any(_division(task, rest - TWIN * budget)):
        rest -= TWIN * budget
    else:  # where there is no budget for both, the continuations come first
        twin = None
    count, length = _division(task, rest)
    if not count and not stall.failed:
        return None
    return Plateau(
        task,
        stall,
        [run.seed + 1 + place for place in range(count)],
        length,
        budget=budget,
        samples=val_samples(task, VALIDATION * rest / (2 * count)) if count else 0,
        twin=twin,
    )


def val_samples(task: Task, cost: float) -> int:
    """How many validation samples cost so many updates; 0 where they are too few."""
    if not task.has_validation:
        return 0
    samples = min(task.val_counts[SELECTION], int(cost * task.batch_examples / FORWARD))
    return samples if samples >= LEAST_SAMPLES else 0


def _division(task: Task, budget: float) -> tuple[int, int]:
    """How many orders of the batches there are, and how many batches each continuation sees.

    Zero of both, where the budget does not allow for two orders.
    """
    cost = sum(way.cost for way in FIRST) + LARGER.cost
    whole = budget * (1 - VALIDATION * task.has_validation) - GRADIENT_BATCHES - 1
    enough = [count for count in range(ORDERS, 1, -1) if whole / (count * cost) >= LEAST_STEPS]
    if not enough:
        return 0, 0
    more = range(ORDERS + 1, MOST_ORDERS + 1)
    count = max([enough[0], *(count for count in more if whole / (count * cost) >= ENOUGH)])
    return count, int(whole / (count * cost))


def _twin(task: Task, run: Run, steps: int, stall: Stall, budget: float) -> Twin | None:
    """The training of a wider model; None where the model's function makes none that trains."""
    width = own_width(task)
    if width is None or stall.failed:
        return None
    try:  # the user's function may take other widths than twice the usual one, or none
        wider = with_width(task, FACTOR * width)
    except Exception:  # noqa: BLE001 - it may raise anything
        return None
    until = max(1, min(int(budget / COST), stall.step or steps, steps))
    return Twin(wider, width, Run("wider", run.lr, run.schedule, run.seed), steps, until)

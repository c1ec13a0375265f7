"""Parameters that do not train: no gradient, no optimizer, or not in the model."""

from collections.abc import Iterator, Sequence

from lrtune.diagnosis.observations.passes import Pass, Weight
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.trials import Trials
from lrtune.errors import quantity
from lrtune.results import Finding

NO_GRADIENT = "no-gradient"
NOT_OPTIMIZED = "not-optimized"
LOSS_PARAMETERS = "loss-parameters"

NAMED = 4  # by convention: parameters that a sentence names


def check_gradients(seen: Observed) -> Iterator[Finding]:
    """Parameters that no gradient reaches, in any of the first batches."""
    if seen.first_pass is None:
        return
    passes: Sequence[Pass] = [seen.first_pass]
    if any(one.trained and not one.reached for one in seen.first_pass.weights):
        passes = [*passes, *seen.more_passes]  # some layers may have their turn in another batch
    weights = seen.first_pass.weights
    names = {one.name for some in passes for one in some.weights if one.reached}
    used = {one.name for some in passes for one in some.weights if one.used}
    cut = [one for one in weights if one.trained and one.name not in names]
    if cut:
        yield _without_gradient(cut, weights, len(passes), called=cut[0].name in used)
    frozen = [one for one in weights if not one.trained]
    if frozen:
        yield Finding(
            NO_GRADIENT,
            "note",
            f"{_counted(frozen, weights)} are frozen (requires_grad=False).",
            "",
            "If they should train: parameter.requires_grad_(True).",
        )


def _without_gradient(
    cut: Sequence[Weight], weights: Sequence[Weight], batches: int, *, called: bool
) -> Finding:
    causes = {
        True: "The model computes with them, but the way from there to the loss is cut: .detach(), "
        ".data, .item(), numpy, argmax or torch.no_grad().",
        False: "No layer that uses them is called, such as one that forward() leaves out.",
    }
    remedies = {
        True: "Keep tensors between model and loss. If they should stay as they are, freeze them: "
        "parameter.requires_grad_(False).",
        False: "Call the layer in forward(), or remove it.",
    }
    return Finding(
        NO_GRADIENT,
        "warning",
        f"No gradient reaches {_counted(cut, weights)} {_in_batches(batches)}: {_names(cut)}.",
        causes[called],
        remedies[called],
    )


def check_zero_gradients(seen: Trials) -> Iterator[Finding]:
    """Parameters whose gradients are zero, and stay so while the others train."""
    first, later = seen.first_pass, seen.trained_passes
    if first is None or not later or seen.main_training is None:
        return
    # Those without any gradient are told of by `check_gradients`.
    moving = {one.name for some in (first, *later) for one in some.weights if one.gradient != 0}
    still = [one for one in first.weights if one.trained and one.name not in moving]
    if still:
        yield Finding(
            NO_GRADIENT,
            "warning",
            f"The gradients of {_counted(still, first.weights)} are exactly zero, before and after "
            f"{len(seen.main_training.losses)} updates: {_names(still)}.",
            "Something multiplies them by zero, or no unit behind them is ever on.",
            "Look at what comes between these parameters and the loss.",
        )


def check_optimizer(seen: Observed) -> Iterator[Finding]:
    """Parameters that get gradients, and that no optimizer updates."""
    if seen.first_pass is None:
        return
    weights = seen.first_pass.weights
    left = [one for one in weights if one.reached and not one.held]
    if left:
        yield Finding(
            NOT_OPTIMIZED,
            "warning",
            f"The optimizer leaves out {_counted(left, weights)} that get a gradient: "
            f"{_names(left)}.",
            "It was made for one part of the model, or its groups miss some names.",
            "Give it model.parameters(), or a group more. If they should stay as they are, freeze "
            "them: parameter.requires_grad_(False) saves their gradients.",
        )
    listed = seen.first_pass.others.get("model", ())
    if listed:
        yield Finding(
            NOT_OPTIMIZED,
            "warning",
            f"The loss depends on {quantity(len(listed), 'tensor')} of the model that "
            f"parameters() does not list; shapes: {_shapes(listed)}.",
            "Layers in a list or dict of Python, or plain tensors: PyTorch does not see them, so "
            "they are neither trained nor saved.",
            "Use nn.ModuleList, nn.ModuleDict or nn.Parameter.",
        )


def check_loss_parameters(seen: Observed) -> Iterator[Finding]:
    """Parameters of the loss, which the optimizer cannot hold."""
    others = {} if seen.first_pass is None else seen.first_pass.others
    causes = {
        "loss": "They belong to the loss module, and the optimizer is made for the model.",
        "objective": "The objective captures them: nobody trains them, and all runs share them.",
    }
    for place, cause in causes.items():
        if place not in others:
            continue
        yield Finding(
            LOSS_PARAMETERS,
            "warning",
            f"The loss depends on {quantity(len(others[place]), 'tensor')} outside of the model, "
            f"with gradients that no optimizer uses; shapes: {_shapes(others[place])}.",
            cause,
            "Make them a part of the model, and let an objective use them: model.loss = loss; "
            "objective=lambda model, batch: model.loss(model(batch[0]), batch[1]). If they should "
            "stay as they are: requires_grad_(False).",
        )


def _in_batches(count: int) -> str:
    return "in the first batch" if count == 1 else f"in any of the first {count} batches"


def _counted(some: Sequence[Weight], all_of_them: Sequence[Weight]) -> str:
    """How many of the parameters these are, and their share of all numbers of the model.

    >>> one = Weight("a", (3,), True, True, True, 1.0, 1.0)
    >>> _counted([one], [one, one])
    '1 of 2 parameters (50 % of all numbers)'
    """
    share = sum(one.numbers for one in some) / max(1, sum(one.numbers for one in all_of_them))
    counted = f"{len(some)} of {quantity(len(all_of_them), 'parameter')}"
    return f"{counted} ({100 * share:.3g} % of all numbers)"


def _names(some: Sequence[Weight]) -> str:
    more = f" and {len(some) - NAMED} more" if len(some) > NAMED else ""
    return ", ".join(one.name for one in some[:NAMED]) + more


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    more = " ..." if len(shapes) > NAMED else ""
    return ", ".join(str(list(shape)) for shape in shapes[:NAMED]) + more

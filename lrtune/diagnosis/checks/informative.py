"""Whether what is learned on the training data holds for others."""

import math
from collections.abc import Iterator

from lrtune.analysis.curves import end_level
from lrtune.diagnosis.checks.labels import labels_of
from lrtune.diagnosis.observations.main_training import MainTraining
from lrtune.diagnosis.observations.memorising import Memorised
from lrtune.diagnosis.observed import Observed
from lrtune.diagnosis.trials import Trials
from lrtune.results import Finding
from lrtune.results.diagnosis import Chart
from lrtune.results.runs import Validation
from lrtune.results.schema import SELECTION

UNINFORMATIVE = "uninformative-labels"

FALLEN = 0.15
"""By convention: the share of the way from guessing to the lowest loss that training has to go."""
FRESH = 0.05  # by convention: the same of samples that are trained on for the first time
BELOW, CHANCE = 0.01, 2.5
"""By convention: held-out data are below guessing by this share of the way, and so many standard
errors of guessing on some of the samples. Guessing is the best constant for the very data, so what
was not learned lies above it: with labels drawn anew by 0.01 and more. After 55 updates on 128
samples or less, healthy tasks are below it by 0.03 at least, most by 0.3 and more."""
UNKNOWN = 3.0  # by convention: standard errors below the start, where guessing is unknown
LEAST, LEAST_EACH = 64, 5
"""By convention: so many samples, and labels of each class, that held-out data gain from them."""


def check_constant_targets(seen: Observed) -> Iterator[Finding]:
    """Targets that are the same number for every sample; `labels.check_imbalance` sees labels."""
    targets = seen.training_samples.targets
    if not targets or labels_of(seen.training_samples) is not None:
        return
    count, first = sum(map(len, targets)), targets[0].reshape(-1)[:1]
    if count < LEAST or not all(bool((one == first).all()) for one in targets):
        return
    yield Finding(
        UNINFORMATIVE,
        "error",
        f"The targets of all {count:,} training samples that were read are {first.item():.4g}.",
        "They are lost on the way: a wrong column, a transform that sets them to one number, or "
        "targets that are filled in later.",
        "Look at ten samples with their targets. There is nothing to learn but this number.",
    )


def check_informative(seen: Trials) -> Iterator[Finding]:
    """A held-out loss that is never below guessing, while the training loss falls."""
    if not seen.task.has_validation or not seen.one_batch.learned:
        return
    run = seen.main_training
    if run is None or not run.name or any(_below(seen, one) for *_, one in run.validations):
        return
    found = seen.memorised
    if found is None or not _fits_only_itself(seen, found):
        return
    looks, reference = list(found.held_out.values()), _reference(seen)
    best, last = min(looks, key=lambda one: one.loss), looks[-1]
    known = math.isfinite(found.guess)
    yield Finding(
        UNINFORMATIVE,
        "warning",
        f"Trained on {found.samples} samples again and again, the training loss falls from "
        f"{found.losses[0]:.4g} to {min(found.losses):.4g}. The held-out loss never does: it is "
        f"{best.loss:.4g} (standard error {best.stderr:.2g}) at best, and ends at {last.loss:.4g}; "
        f"{'guessing has' if known else 'it began at'} {reference:.4g}. Nor does it in "
        f"{len(run.losses)} updates on all training data.",
        _cause(seen, run),
        "Look at ten samples beside their labels, of both parts, just as the model gets them. "
        "Look for inputs and labels that were sorted, shuffled or filtered separately, and for "
        "validation data that are prepared otherwise.",
        _chart(found, reference),
    )


def _fits_only_itself(seen: Trials, found: Memorised) -> bool:
    """Whether some samples are learned by heart, and nothing that holds for others."""
    if not found.held_out or not _enough(seen, found):
        return False
    floor = (seen.task.loss_kind.floor or 0.0) / seen.task.loss_kind.summed
    reference = found.guess if math.isfinite(found.guess) else found.losses[0]
    far = reference - min(found.losses) > FALLEN * abs(reference - floor)
    # Where eval mode fails on the very samples that were learned, the labels are not to blame.
    works = not math.isfinite(found.in_eval) or found.in_eval < reference
    return far and works and not any(_below(seen, one) for one in found.held_out.values())


def _enough(seen: Trials, found: Memorised) -> bool:
    """Whether so few samples can tell anything: not those of a hundred classes."""
    labels = labels_of(seen.training_samples)
    if labels is None:
        return found.samples >= LEAST
    each = sum(map(len, labels.batches)) / seen.training_samples.count
    return found.samples >= LEAST and found.samples * each >= LEAST_EACH * len(labels.counts)


def _below(seen: Trials, found: Validation) -> bool:
    """Whether a held-out loss is clearly below guessing, or where that is unknown, the start."""
    task, reference, guess = seen.task, _reference(seen), seen.task.guess(SELECTION)
    floor = (task.loss_kind.floor or 0.0) / task.loss_kind.summed
    if guess is None:
        chance = UNKNOWN * found.stderr if math.isfinite(found.stderr) else 0.0
    else:
        left = max(0.0, task.val_counts[SELECTION] / max(1, found.samples) - 1)
        chance = CHANCE * guess.stderr * math.sqrt(left) if left else 0.0
    return reference - found.loss > max(chance, BELOW * abs(reference - floor))


def _reference(seen: Trials) -> float:
    """The loss of guessing on held-out data; where it is unknown, the loss before training."""
    guess = seen.task.guess(SELECTION)
    return seen.start / seen.task.loss_kind.summed if guess is None else guess.loss


def _cause(seen: Trials, run: MainTraining) -> str:
    """Whose labels are wrong: where fresh training samples are learned, those held out."""
    task, guess = seen.task, seen.training_guess
    # All of a curve is fresh, where nobody knows how long an epoch is.
    fresh = [run.losses_of(name)[: task.epoch_steps] for name in run.trace.runs["run"]]
    levels = filter(math.isfinite, map(end_level, fresh))
    level = min(levels, default=math.inf) / task.loss_kind.summed
    if guess is not None and level < (1 - FRESH) * guess.loss:
        return (
            f"The training loss falls to {level:.4g} on samples that it sees for the first time: "
            "the training labels are in order. The held-out inputs or labels are not, or they need "
            "what only more training tells, as new combinations of known users and items do."
        )
    return (
        "The labels do not belong to their inputs (inputs or labels were shuffled or sorted alone, "
        "or joined by the wrong key), or the inputs tell so little about them that these samples "
        "do not show it."
    )


def _chart(found: Memorised, reference: float) -> Chart:
    updates = range(len(found.losses))
    held_out = {step: loss for step, (_, loss, *_) in found.held_out.items()}
    last = float(max(*held_out, len(found.losses)))
    lines = {
        "training": tuple(zip(map(float, updates), found.losses, strict=True)),
        "held out": tuple((float(step), loss) for step, loss in held_out.items()),
        "guessing": ((0.0, reference), (last, reference)),
    }
    return Chart("update", "loss", lines)

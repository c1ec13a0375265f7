"""What a search says of its answer, in sentences: why this rate, how surely, and what to note."""

from collections.abc import Iterator, Sequence

from lrtune.errors import quantity
from lrtune.schedules.registry import schedule_text
from lrtune.tuning.history import Measured
from lrtune.tuning.rate_search import RateSearch
from lrtune.tuning.settings import Setting

NOT_VERIFIED = {
    "rate only": "as only the rate was asked for",
    "time": "as the time limit left no room for one",
    "interrupted": "as the search was interrupted",
    "budget": "as the budget did not allow one: give a larger one",
}
"""Why no whole training was made, by `SearchResult.stopped`."""

SAME = 0.02  # rates this close are one rate, to people
MANY = 3  # peaks that a sentence lists; of more it gives the range


def because(strategy: RateSearch, setting: Setting) -> str:
    """Why this rate, in a sentence."""
    parts = []
    if setting.adapts_rate:
        return "The optimizer estimates its own rate, and lr is a factor of it."
    if setting.around is not None:
        parts.append(f"The search began near {setting.around:.3g}, as asked for")
    elif strategy.coarse is not None and strategy.coarse.reading is not None:
        rates = sum(one.stage == "coarse" for one in strategy.experiment.history.runs.values())
        reading = strategy.coarse.reading
        parts.append(
            f"{quantity(rates, 'constant rate')} {'were' if rates > 1 else 'was'} tried for up to "
            f"{quantity(reading.steps, 'step')}; a curve through their training losses is lowest "
            f"near {reading.rate:.2g}"
        )
    if strategy.whole:
        whole = quantity(len(strategy.whole), "whole training")
        parts.append(f"{whole} followed {_at_peaks(strategy.whole, kind_of_rate(setting))}")
    return "; ".join(parts) + "."


def kind_of_rate(setting: Setting) -> str:
    """What the rate of a search is, in a word: that of a constant schedule has no peak."""
    return "rate" if setting.name == "constant" else "peak"


def confidence(
    strategy: RateSearch,
    setting: Setting,
    lr: float,
    interval: tuple[float, float],
    stopped: str,
) -> str:
    """The interval, and what was trained to the end."""
    whole, failed = strategy.whole, sum(one.failed for one in strategy.whole)
    between = f"{interval[0]:.2g} to {interval[1]:.2g}"
    said = [f"90 % interval of the best {kind_of_rate(setting)}: {between}."]
    if not whole:
        why = NOT_VERIFIED.get(stopped, NOT_VERIFIED["budget"])
        return " ".join([*said, f"No whole training was made to verify it, {why}."])
    runs = quantity(len(whole), "whole training")
    if strategy.current is not None and strategy.current not in whole:
        runs += " besides that of your present setting"
    if failed:
        said.append(f"{failed} of {runs} diverged.")
    elif len(whole) == 1:
        said.append(f"{runs}, which did not diverge.")
    else:
        said.append(f"{runs}, each with its own seed; none diverged.")
    trained = any(abs(one.run.lr / lr - 1) < SAME for one in whole)
    if not trained and not setting.adapts_rate:
        said.append(
            f"The {kind_of_rate(setting)} {lr:.3g} itself was not trained: the answer weighs all "
            "runs, since the best of them may have been lucky."
        )
    return " ".join(said)


def note_on_edge(strategy: RateSearch) -> Iterator[str]:
    """Whether the best whole training had the lowest or the highest peak of several."""
    good = [one for one in strategy.whole if one.finished]
    peaks = sorted({one.run.lr for one in good})
    if len(peaks) < 3:  # of two peaks, one is always at the edge
        return
    best = min(good, key=lambda one: one.loss()).run.lr
    for edge, at, beyond in (("lowest", peaks[0], "lower"), ("highest", peaks[-1], "higher")):
        if best == at:
            yield (
                f"the best whole training had the {edge} peak that was tried, {best:.3g}; an even "
                f"{beyond} one may be better"
            )


def note_on_current(strategy: RateSearch) -> Iterator[str]:
    """How the user's present setting compares with the whole trainings of the search."""
    current = strategy.current
    others = [one for one in strategy.whole if one is not current and one.finished]
    if current is None or not others:
        return
    setting = f"lr {current.run.lr:.3g} with {schedule_text(current.run.schedule)}"
    if current.failed:
        yield f"your present setting, {setting}, diverged"
        return
    losses = [one.loss() for one in others]
    validated = "selection" in current.validations
    what = "on the selection part of the validation data" if validated else "by training loss"
    count = f"{quantity(len(others), 'training')} of the search" if len(others) > 1 else "training"
    searched = f"{count} {_at_peaks(others, 'peak')}"
    verdict = "yours lies among them"
    if current.loss() <= min(losses):
        verdict = "yours is the best"
    elif current.loss() > max(losses):
        verdict = "yours is the worst"
    ends = f"{min(losses):.4g}" + f" to {max(losses):.4g}" * (len(losses) > 1)
    yield (
        f"your present setting, {setting}, ended at {current.loss():.4g} {what}; the {searched} "
        f"ended at {ends}: {verdict}"
    )


def _at_peaks(runs: Sequence[Measured], word: str) -> str:
    """At which peaks some runs were trained: a list of a few, or the range of many."""
    rates = list(dict.fromkeys(f"{rate:.3g}" for rate in sorted(one.run.lr for one in runs)))
    if len(rates) == 1:
        return f"at the {word} {rates[0]}"
    if len(rates) > MANY:
        return f"at {word}s from {rates[0]} to {rates[-1]}"
    return f"at the {word}s {', '.join(rates[:-1])} and {rates[-1]}"

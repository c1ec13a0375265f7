"""How far an answer can be trusted, in a sentence or two that one can act on. Pure."""

from lrtune._search.book import Book
from lrtune._search.planning import VERIFIED
from lrtune._search.spending import Purse
from lrtune._search.verifying import Answer


def confidence(answer: Answer, book: Book, steps: int) -> str:
    """What was seen, what was not, and what would make it surer."""
    low, high = f"{answer.ground[0]:.2g}", f"{answer.ground[-1]:.2g}"
    seeds = len(book.seeds)
    if isinstance(book, Purse):
        told = (
            f"The best constant rate for {steps} steps lies between {low} and {high} with a chance "
            "of some 9 in 10, going by other tasks. "
        )
    elif len(answer.ground) == 1:
        told = f"No other rate was tied with it over {book.horizon} steps. "
    else:
        told = f"From {low} to {high} the rates cannot be told apart. "
    return told + _seen(answer, book, seeds, steps)


def _seen(answer: Answer, book: Book, seeds: int, steps: int) -> str:
    each = "1 seed" if seeds == 1 else f"{seeds} seeds"
    if answer.passed:
        held = answer.checks[answer.checks["lr"] == answer.lr]
        more = "" if len(held) > 2 else " More seeds would make that surer."
        return f"It stayed stable over all {steps} steps in {len(held)} of {len(held)} runs.{more}"
    if len(answer.checks):
        return (
            "It was not seen to stay stable to the end: watch the loss, clip the gradients, "
            "or decay the rate early."
        )
    if isinstance(book, Purse) and answer.lr not in book.longer:
        return (
            f"It was not trained itself, but lies between rates that were, for {book.horizon} of "
            f"{steps} steps with {each}: give a larger budget."
        )
    return (
        f"It was trained for {book.horizon} of {steps} steps with {each}: a budget of "
        f"{VERIFIED:g} or more would train it to the end, and a larger one use more seeds."
    )

"""How far an answer can be trusted, in a sentence or two that one can act on. Pure."""

from lrtune._search.book import Book
from lrtune._search.planning import VERIFIED
from lrtune._search.spending import Purse
from lrtune._search.verifying import Answer


def confidence(answer: Answer, book: Book) -> str:
    """What was seen, what was not, and what would make it surer."""
    low, high = (f"{rate:.2g}" for rate in answer.interval)
    return (
        f"The best constant rate for {book.steps} steps lies between {low} and {high} with a "
        f"chance of some 9 in 10, going by other tasks. {_seen(answer, book)}"
    )


def _seen(answer: Answer, book: Book) -> str:
    each = "1 seed" if len(book.seeds) == 1 else f"{len(book.seeds)} seeds"
    if answer.passed:
        held = (answer.checks["lr"] == answer.lr).sum()
        more = "" if held > 2 else " More seeds would make that surer."
        return f"It stayed stable over all {book.steps} steps in {held} of {held} runs.{more}"
    if len(answer.checks):
        return (
            "It was not seen to stay stable to the end: watch the loss, clip the gradients, "
            "or decay the rate early."
        )
    if isinstance(book, Purse) and answer.lr not in book.longer:
        return (
            f"It was not trained itself, but lies between rates that were, for {book.horizon} of "
            f"{book.steps} steps with {each}: give a larger budget."
        )
    return (
        f"It was trained for {book.horizon} of {book.steps} steps with {each}: a budget of "
        f"{VERIFIED:g} or more would train it to the end, and a larger one use more seeds."
    )

"""The section of a search: the answer on one card, then what it rests on."""

import math
from collections.abc import Iterator

import pandas as pd

from lrtune.analysis.curves import FAILED_OUTCOMES
from lrtune.analysis.prior_table import prior_source, prior_table
from lrtune.errors import quantity
from lrtune.reporting import statements
from lrtune.reporting.sections import (
    Chart,
    Section,
    Table,
    as_sentence,
    python_call,
    text_table,
    values_by_step,
)
from lrtune.results import SearchResult

NUMBERS = ["steps", "budget", "min_gain", "seed", "around"]
SEQUENCES = ["coarse", "fine", "limits"]


def search_section(found: SearchResult) -> Section:
    """The rate with its schedule, what it reaches, the code, and what all of it rests on."""
    answer = statements.setting(found.lr, found.schedule)
    return Section(
        kind="Search",
        headline=f"Use {answer}",
        short=answer,
        lead=" ".join(_lead(found)),
        facts=_facts(found),
        warnings=found.warnings,
        notes=[as_sentence(note) for note in found.notes],
        limits=" ".join(_limits(found)),
        charts=[_rates(found), _curves(found)],
        tables=[prior_rows(found.steps)] if found.steps > 0 else [],
        code=statements.code(found),
        manifest=found.manifest,
        call=python_call(
            "search", found.manifest, NUMBERS, SEQUENCES, texts={"schedule": found.schedule}
        ),
    )


def _lead(found: SearchResult) -> Iterator[str]:
    """The reasons for the answer, and what was reached with it."""
    yield as_sentence(found.because)
    yield statements.certainty(found)
    if found.best is not None:
        yield f"The best training: {statements.best_training(found)}"


def _facts(found: SearchResult) -> list[tuple[str, str]]:
    """The card: terms and their values, the answer first."""
    note = statements.peak_note(found.schedule)
    facts = [("Answer", statements.setting(found.lr, found.schedule))]
    facts += [("Kind of rate", note)] if note else []
    facts += [
        ("90 % interval", statements.range_of(*found.interval)),
        ("Loss within 5 %", statements.range_of(*found.good_range)),
        ("Training length", quantity(found.steps, "step")),
    ]
    best, told = found.best, found.retrained
    if best is not None and math.isfinite(best.loss):
        error = f" ± {best.stderr:.2g}" if math.isfinite(best.stderr) else ""
        loss, samples = statements.loss_text(best.loss, found), f"{best.samples:,} of {best.of:,}"
        facts.append(("Stated loss", f"{loss}{error} on {samples} samples"))
    if told is not None:
        ends = (told.expected, *sorted((told.low, told.high)))
        expected, low, high = (statements.loss_text(end, found) for end in ends)
        facts.append(("Retrained, expect", f"{expected} ({low} to {high})"))
    facts.append(("Cost", f"{found.cost:.2f} of {found.budget:g} full trainings"))
    return facts


def _limits(found: SearchResult) -> list[str]:
    """What the result does not show."""
    length = f"{quantity(found.steps, 'step')} of this schedule"
    limits = [f"The answer is for {length}. Another length or schedule has another best rate."]
    whole = found.runs[found.runs["stage"] == "fine"]
    if found.best is None:
        limits.append(
            "No rate was trained to its end, so nothing verifies the answer. A whole training "
            "takes about 1 of the budget."
        )
    elif len(whole) > 1:
        limits.append(
            f"The kept model is the best of {len(whole)} trainings, partly by luck. `retrained` "
            "says which loss to expect of a new training."
        )
    return limits


def prior_rows(steps: int) -> Table:
    """How schedules of this length ended on other tasks, as text."""
    known = prior_table(steps)
    heads = {
        "loss": "final loss over trapezoid's",
        "low": "nine tasks of ten from",
        "high": "to",
    }
    caption = f"How schedules of {quantity(steps, 'step')} ended on other tasks"
    return text_table(f"{caption}. {prior_source(known)}", known.rename(columns=heads))


def _trained(found: SearchResult) -> pd.DataFrame:
    """The runs, without the one that changes no weight: it only measures the loss before."""
    return found.runs[found.runs["stage"] != "before"]


def _rates(found: SearchResult) -> Chart:
    verdicts = found.frame["verdict"].value_counts()
    counted = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
    stages = set(found.runs["stage"])
    caption = []
    if "coarse" in stages:
        caption.append(
            "Short runs keep their rate constant: their training loss is shown, with small open "
            "symbols after fewer steps."
        )
    if stages - {"coarse", "before"}:
        caption.append(
            f"Whole trainings follow {found.schedule}, with a seed each: full symbols are the "
            "losses by which the best was chosen, open ones those that are stated. The ring is the "
            "best training, which was kept."
        )
    if "horizons" in stages:
        caption.append("Open dotted symbols: runs of this schedule, compressed to fewer steps.")
    if "current" in stages:
        caption.append("Dotted symbol: your present setting, if it has another schedule.")
    if found.frame["failed"].any():
        caption.append("Crosses at the upper edge: failed runs.")
    caption.append("Colour and symbol: the verdict. Green: the answer, and its 90 % interval.")
    runs = (
        _trained(found)
        .drop(columns="checkpoint")
        .rename(columns={"loss": "loss on selection data"})
    )
    return Chart(
        title="Loss over learning rate",
        draw=found.figure,
        alt=f"The losses of {quantity(len(found.frame), 'rate')}: {counted}. The answer is "
        f"{statements.setting(found.lr, found.schedule)}.",
        caption=" ".join(caption),
        tables=[
            text_table("All rates", found.frame.rename(columns={"loss": "mean loss"})),
            text_table("All runs", runs),
            text_table("Cost by stage, in full trainings", found.spending),
        ],
    )


def _curves(found: SearchResult) -> Chart:
    runs = _trained(found)
    curves = found.curves[found.curves["run"].isin(runs["run"])]
    few_steps = values_by_step(curves, "run", "loss")
    rates = dict(zip(runs["run"], runs["lr"], strict=True))
    few_steps.insert(1, "lr", [rates.get(run, math.nan) for run in few_steps["run"]])
    caption = (
        "Bold lines: the smoothed loss. Thin lines: the loss of each step. Colour, dash and "
        "symbol: the verdict on the rate. Grey: the other runs."
    )
    if found.runs["outcome"].isin(FAILED_OUTCOMES).any():
        caption += " Crosses: runs that diverged, or whose loss was no longer finite."
    return Chart(
        title="Loss over steps",
        draw=found.curves_figure,
        alt=f"The training loss of {quantity(len(runs), 'run')} over their steps, grouped "
        "by the verdict on their rate: too low, good, high, diverged.",
        caption=caption,
        tables=[text_table("Training loss at some steps", few_steps)],
    )

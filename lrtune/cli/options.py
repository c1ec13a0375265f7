"""Options that need more than a type: durations, names of schedules, and what goes together."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from lrtune.errors import ArgumentError, LrtuneError
from lrtune.schedules import parse

_ARGUMENTS = re.compile(
    r"(?<![(\w])(?<!, )(budget|device|max_runs|offload|over|steps|seeds|samples|schedule)="
    r"(?:'([^']*)'|(\d+(?:\.\d+)?(?:e[-+]?\d+)?))"
)


def as_options(text: str) -> str:
    """A text in which arguments have the names that they have on the command line.

    >>> as_options("Give budget=0.4 or more; use device='cpu', or widen `limits`; raise `steps`.")
    'Give --budget 0.4 or more; use --device cpu, or widen `limits` (in Python); raise --steps.'
    """
    text = _ARGUMENTS.sub(lambda found: f"{_option(found[1])} {found[2] or found[3]}", text)
    text = re.sub(r"`(low|high|steps|around|budget)`", r"--\1", text)
    return text.replace("`limits`", "`limits` (in Python)")


class Names(list[str]):
    """Names of schedules; a class of its own, as typer takes a list for a repeated option."""


SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
"""What a number with this unit is worth."""


def duration(text: str) -> float:
    """A duration in seconds: 20m, 90s, 2h, or a number of seconds.

    >>> duration("20m"), duration("1.5h"), duration("45")
    (1200.0, 5400.0, 45.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if found is None or not float(found[1]):
        raise typer.BadParameter(
            f"{text!r} is no duration. Expected a number with a unit, such as 20m, 90s or 2h; "
            "without one it counts seconds."
        )
    return float(found[1]) * SECONDS[found[2]]


def schedule(text: str) -> str:
    """The text of one schedule, after a check."""
    try:
        parse(text)
    except LrtuneError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def schedules(text: str) -> Names:
    """Schedules, separated by commas, after a check: names, or calls; `all` stands for every one.

    >>> schedules("cosine, one_cycle,reduce-on-plateau(on='val', every=50)")
    ['cosine', 'one-cycle', "reduce-on-plateau(on='val', every=50)"]
    """
    names = [name.strip() for name in _outside_brackets(text) if name.strip()]
    if not names:
        raise typer.BadParameter("names no schedule. Expected names such as cosine,one-cycle.")
    try:
        return Names(name if name == "all" else _checked(name) for name in names)
    except LrtuneError as error:
        raise typer.BadParameter(str(error)) from None


def _checked(name: str) -> str:
    """The name or call of a schedule; underscores in a name become hyphens."""
    parse(name)
    return name if "(" in name else name.lower().replace("_", "-")


def _outside_brackets(text: str) -> list[str]:
    """The parts of a text between the commas that stand in no brackets."""
    depth, parts = 0, [""]
    for sign in text:
        depth += (sign in "([") - (sign in ")]")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


class Numbers(list[float]):
    """Numbers; a class of its own, as typer takes a list for a repeated option."""


def numbers(text: str) -> Numbers:
    """Numbers, separated by commas.

    >>> numbers("0.05, 0.5,1")
    [0.05, 0.5, 1.0]
    """
    try:
        return Numbers(float(one) for one in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} holds something else than numbers. Expected such as 0.1,0.5,1."
        ) from None


def varied(texts: Sequence[str] | None) -> dict[str, list[float]] | None:
    """Settings and their values, from texts such as `weight_decay=0,1e-4`; None without any.

    >>> varied(["weight_decay=0,1e-4", "batch-size=128"])
    {'weight_decay': [0.0, 0.0001], 'batch_size': [128.0]}
    """
    found: dict[str, list[float]] = {}
    for text in texts or ():
        name, _, values = text.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            raise ArgumentError(
                f"--vary {text}: expected a setting and its values. Give one such as "
                "weight_decay=0,1e-4,1e-3."
            ) from None
        found.setdefault(name.strip().replace("-", "_"), []).extend(numbers)
    return found or None


def current_setting(lr: float | None, schedule: str | None) -> tuple[float, str] | None:
    """The user's present setting, whose rate is constant if no schedule is given."""
    if lr is None and schedule is not None:
        raise ArgumentError(
            f"--current-schedule {schedule} needs the rate that it goes with: add --current LR."
        )
    return None if lr is None else (lr, schedule or "constant")


def check_search(*, rate_only: bool, around: float | None, **whole: Any) -> None:
    """Refuse options that do not go together.

    Args:
        rate_only: Whether the search ends with the first answer.
        around: A rate that stands for the first answer.
        whole: The options that need whole trainings; None or False where they were not given.
    """
    given = [_option(name) for name, value in whole.items() if value not in (None, False)]
    if rate_only and given:
        raise ArgumentError(
            f"--rate-only makes no whole training, and {given[0]} needs one. Leave one of them out."
        )
    if rate_only and around is not None:
        raise ArgumentError(
            "--around gives the first answer and --rate-only ends with it, so nothing would be "
            "trained. Leave one of them out."
        )


def check_compare(
    lr: float | None, steps: int | None, source: Path | None, **without: bool
) -> None:
    """Refuse a comparison that has no rate to begin with, or two.

    Args:
        lr: A rate, for which `steps` is needed.
        steps: The length of the training that it is for.
        source: A file with a search.
        without: The options with which a study holds no earlier search, and whether each was given.
    """
    if lr is not None and source is not None:
        raise ArgumentError(f"got --lr {lr:g} and --from {source}. Leave one of them out.")
    if lr is not None and steps is None:
        raise ArgumentError(
            f"--lr {lr:g} needs --steps: the length of the training that the rate is for. Give "
            "both."
        )
    if lr is None and steps is not None:
        raise ArgumentError(
            f"--steps {steps} goes with --lr only: a search knows the length that it is for."
        )
    given = [_option(name) for name, is_given in without.items() if is_given]
    if lr is None and source is None and given:
        raise ArgumentError(
            f"a comparison begins with the last search of the study, and with {given[0]} there is "
            "none. Give --from found.json, or --lr RATE with --steps."
        )


TABLES = (".csv", ".tsv", ".txt")
"""How files with loss curves are called."""


def check_curves(path: str, given: Mapping[str, object]) -> None:
    """Refuse options of a task beside a file with loss curves, which are read and not trained."""
    if given:
        name, value = next(iter(given.items()))
        raise ArgumentError(
            f"{_option(name)} {value} goes with a task, and {path} holds loss curves, which are "
            "read only. Leave the option out, or give a task, as in train.py:task."
        )


def check_folder(option: str, path: Path) -> None:
    """Refuse a file that could not be written: nobody should learn of it after an hour."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ArgumentError(f"{option} {path}: there is no folder {folder}. Create it.")
    if path.is_dir():
        raise ArgumentError(f"{option} {path} is a folder. Name a file in it.")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"

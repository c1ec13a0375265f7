"""Numbers that were chosen by measurement, from `fitted.toml` beside this file."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENTRIES: Mapping[str, Mapping[str, Any]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
"""Each number's `value`, its `meaning`, and the `command` that measures or checks it."""


def fitted(name: str) -> float:
    """The value of an entry of `fitted.toml`.

    >>> fitted("reached_share")
    0.05
    """
    value: float = ENTRIES[name]["value"]
    return value

"""A property whose computation costs much, and may fail in the user's code."""

from functools import cached_property
from typing import Any, TypeVar

Seen = TypeVar("Seen")


class tried_once(cached_property[Seen]):  # noqa: N801 - as cached_property is written
    """A cached property that also keeps the error, where computing it raised one."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        """Return the value; where computing it has raised before, raise that error again."""
        failed = {} if instance is None else instance.__dict__.setdefault("_failed", {})
        if self.attrname in failed:
            raise failed[self.attrname]
        try:
            return super().__get__(instance, owner)
        except Exception as error:
            failed[self.attrname] = error
            raise

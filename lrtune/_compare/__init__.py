"""The comparator: schedules x rates x seeds, each schedule at its own peak rate."""

from lrtune._compare.comparing import compare

__all__ = ["compare"]

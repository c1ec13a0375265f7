"""What a user of the installed package writes: `make dist` runs it, and checks its types."""

import lrtune
from lrtune.testing import bowl


def rate(task: lrtune.Task) -> float:
    """Search, and return the rate: a wrong type anywhere here is an error of both checkers."""
    found: lrtune.SearchResult = lrtune.search(task, steps=32)
    low, high = found.interval
    columns: list[str] = list(found.frame.columns)
    assert low <= found.lr <= high
    assert "lr" in columns
    return found.lr


def mistaken(found: lrtune.SearchResult) -> str:
    """A mistake that both checkers must see: else the ignored error is one that is not there."""
    return found.lr  # type: ignore[return-value]


def schedules(steps: int) -> list[float]:
    """The multipliers of a schedule."""
    cosine = lrtune.schedules.cosine(floor=0.01)
    return [cosine(step / steps) for step in range(steps)]


if __name__ == "__main__":
    found = rate(bowl(curvature=4.0))
    assert 0 < found < 2 / 4, "gradient descent on this bowl diverges above 2 / 4"
    assert len(schedules(10)) == 10
    print(f"lrtune {lrtune.__version__} found {found:.3g} on a bowl that diverges above 0.5")

"""Schedules made from other schedules, or any function of progress; they keep the momentum.

Each raises `ScheduleError` for a number outside its range.
"""

import math
from functools import partial

from lrtune.errors import ScheduleError
from lrtune.schedules import formulas
from lrtune.schedules.schedule import (
    Curve,
    Curves,
    Schedule,
    as_schedule,
    check_increasing,
    check_range,
    factory,
)

__all__ = ["cycle", "join", "scale", "warmup"]

_LAST = math.nextafter(1.0, 0.0)  # the largest progress below 1, which no step reaches


@factory
def warmup(share: float, then: Curve) -> Curves:
    """Rise in a straight line during the first `share` of the run, then run all of `then`.

    The rise is then(0) (0.01 + 0.99 p / share); one from 0 would waste the first update. Afterwards
    the multiplier is then((p - share) / (1 - share)). The momentum keeps its first value during
    the rise.

    Args:
        share: Length of the rise as a share of the run, in [0, 1).
        then: The schedule to run afterwards; it has to start above 0.

    >>> from lrtune.schedules.shapes import linear
    >>> warm = warmup(0.5, then=linear())
    >>> warm, [round(warm(p), 6) for p in (0.0, 0.25, 0.5, 0.75)]
    (warmup(share=0.5, then=linear(floor=0.0)), [0.01, 0.505, 1.0, 0.5])

    Source: Goyal et al. 2017, arXiv:1706.02677, section 2.2; the hundredth is the
    `--lr-warmup-decay` of torchvision's reference recipes.
    """
    check_range("[0, 1)", "warmup", "a share of the run, such as 0.05", share=share)
    after = as_schedule(then)
    if share > 0 and not after(0.0) > 0:  # which NaN is not, either
        raise ScheduleError(
            f"warmup(then={after}): expected a schedule that starts above 0, because the warmup "
            f"rises to its first value; it starts at {after(0.0)!r}. Leave the warmup out."
        )
    rate = partial(formulas.warmup, share=share, then=after.rate)
    if after.momentum is None:
        return rate, None
    return rate, partial(formulas.delayed, share=share, then=after.momentum)


@factory
def join(pieces: tuple[Curve, ...], at: tuple[float, ...]) -> Curves:
    """Run several schedules one after the other, each compressed between its borders.

    Between the borders b and c a piece runs as piece((p - b) / (c - b)). A piece without momentum
    holds the last momentum of the piece before it; the first pieces hold the first momentum there
    is.

    Args:
        pieces: Two schedules or more.
        at: The borders between them, increasing within (0, 1); one fewer than pieces.

    >>> from lrtune.schedules.shapes import constant, linear
    >>> tail = join([constant(), linear()], at=[0.5])
    >>> tail, tail(0.4), tail(0.75)
    (join(pieces=(constant(), linear(floor=0.0)), at=(0.5,)), 1.0, 0.5)

    Source: optax's `join_schedules`, with shares of the run instead of step counts.
    """
    if len(pieces) < 2 or len(at) != len(pieces) - 1:
        raise ScheduleError(
            f"join: got {len(pieces)} pieces and {len(at)} borders; expected two pieces or more, "
            "and one border less, such as join([constant(), linear()], at=[0.8])."
        )
    check_increasing("join", "borders between the pieces, such as (0.8,)", at)
    schedules = [as_schedule(piece) for piece in pieces]
    rate = partial(formulas.join, pieces=tuple(piece.rate for piece in schedules), at=at)
    moving = _joined_momenta(schedules)
    return rate, partial(formulas.join, pieces=moving, at=at) if moving else None


def _joined_momenta(pieces: list[Schedule]) -> tuple[Curve, ...]:
    """Return one momentum curve for each piece, or no curve at all if no piece has one."""
    first = next((piece.momentum for piece in pieces if piece.momentum), None)
    if first is None:
        return ()
    # A piece without momentum holds what the piece before it ended with, so nothing jumps.
    held, curves = first(0.0), []
    for piece in pieces:
        curves.append(piece.momentum or partial(formulas.constant, value=held))
        held = curves[-1](_LAST)
    return tuple(curves)


@factory
def cycle(of: Curve, times: int = 2, stretch: float = 1.0, decay: float = 1.0) -> Curves:
    """Repeat all of a schedule several times within one run; the last cycle is complete.

    The momentum is repeated too, without decay.

    Args:
        of: The schedule to repeat.
        times: Number of cycles, in [1, 100].
        stretch: Length of a cycle relative to the one before, in [0.1, 10].
        decay: Height of a cycle relative to the one before, in (0, 1].

    >>> from lrtune.schedules.shapes import linear
    >>> saw = cycle(linear(), times=2, decay=0.5)
    >>> [saw(p) for p in (0.0, 0.25, 0.5, 0.75)]
    [1.0, 0.5, 0.5, 0.25]

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, section 3, for any schedule.
    """
    check_range("[1, 100]", "cycle", "a number of cycles, such as 3", times=times)
    check_range("[0.1, 10]", "cycle", "a ratio of lengths, such as 2", stretch=stretch)
    check_range("(0, 1]", "cycle", "a ratio of heights, such as 0.5", decay=decay)
    once = as_schedule(of)
    # Only the rate decays: the momentum has to reach its highest value in every cycle.
    repeated = partial(formulas.cycle, times=times, stretch=stretch)
    rate = partial(repeated, of=once.rate, decay=decay)
    return rate, partial(repeated, of=once.momentum, decay=1.0) if once.momentum else None


@factory
def scale(of: Curve, by: Curve | float) -> Curves:
    """Multiply a schedule by another, or by a number in (0, 1]: of(p) by(p).

    The momentum is that of `of`, or else that of `by`. For a number above 1, raise the peak rate.

    >>> from lrtune.schedules.shapes import cosine, linear
    >>> scale(cosine(), by=0.5)(0.0), scale(linear(), by=linear())(0.5)
    (0.5, 0.25)

    Source: Smith 2017, arXiv:1506.01186, section 3.1, where a decay scales the cycles.
    """
    if not callable(by):
        check_range("(0, 1]", "scale", "a share of the peak rate, such as 0.5", by=by)
        by = partial(formulas.constant, value=float(by))
    one, other = as_schedule(of), as_schedule(by)
    return partial(formulas.scale, of=one.rate, by=other.rate), one.momentum or other.momentum

"""Factories of cyclic schedules; triangular and one-cycle ones move the momentum the other way.

Each raises `ScheduleError` for a number outside its range.
"""

from functools import partial

from lrtune.schedules import formulas
from lrtune.schedules.schedule import Curve, Curves, check_choice, check_range, factory

__all__ = [
    "cosine_restarts",
    "exp_range",
    "one_cycle",
    "one_cycle_three_phase",
    "triangular",
    "triangular2",
]

Momentum = tuple[float, float] | None
"""(lowest, highest) momentum of a cycle; None keeps the optimizer's own momentum."""


@factory
def cosine_restarts(cycles: int = 3, stretch: float = 2.0, decay: float = 1.0) -> Curve:
    """Cosines to 0, as ``cycle(cosine(), times=cycles, stretch=stretch, decay=decay)``.

    `stretch` is SGDR's T_mult. T_0 is (stretch - 1) / (stretch ** cycles - 1) of the run, so that
    the last cycle is complete at every horizon.

    Args:
        cycles: Number of cosines in the run, in [1, 100].
        stretch: Length of a cosine relative to the one before, in [0.1, 10].
        decay: Height of a cosine relative to the one before, in (0, 1].

    >>> restarts = cosine_restarts(decay=0.5)
    >>> [round(restarts(k / 7), 6) for k in (0, 0.5, 1, 2, 3, 5)]
    [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, section 3 and table 1 (T_mult 1 and 2);
    the decay of the peaks is timm's `cycle_decay`.
    """
    check_range("[1, 100]", "cosine_restarts", "a number of cycles, such as 4", cycles=cycles)
    check_range("[0.1, 10]", "cosine_restarts", "a ratio of lengths, such as 2", stretch=stretch)
    check_range("(0, 1]", "cosine_restarts", "a ratio of heights, such as 0.5", decay=decay)
    of = partial(formulas.cosine, floor=0.0)
    return partial(formulas.cycle, of=of, times=cycles, stretch=stretch, decay=decay)


@factory
def triangular(cycles: int = 4, base: float = 0.25, momentum: Momentum = (0.8, 0.9)) -> Curves:
    """Straight up from `base` to 1 and down again: base + (1 - base) (1 - |2 x - 1|).

    x = cycles p mod 1 is the position in the cycle. The momentum mirrors the rate.

    Args:
        cycles: Number of cycles in the run, in [1, 100]; the paper advises 3 or more.
        base: Multiplier at the ends of a cycle, in [0, 1].
        momentum: (lowest, highest) momentum in [0, 1), or None for the optimizer's own.

    >>> wave = triangular(cycles=2)
    >>> [wave(p) for p in (0.0, 0.125, 0.25, 0.375, 0.5)]
    [0.25, 0.625, 1.0, 0.625, 0.25]
    >>> round(wave.momentum(0.25), 6)
    0.8

    Source: Smith 2017, arXiv:1506.01186, sections 3.1 to 3.3 (base a third or a quarter of the
    peak); the momentum range is that of torch's CyclicLR.
    """
    height = partial(formulas.triangle, cycles=cycles)
    return _cyclic("triangular", height, cycles, base, momentum)


@factory
def triangular2(cycles: int = 4, base: float = 0.25, momentum: Momentum = (0.8, 0.9)) -> Curves:
    """As `triangular`, each half as high: base + (1 - base) (1 - |2 x - 1|) / 2 ** k.

    k = floor(cycles p) counts the cycles.

    >>> wave = triangular2(cycles=2, base=0.0)
    >>> [wave(p) for p in (0.0, 0.25, 0.5, 0.75)]
    [0.0, 1.0, 0.0, 0.5]

    Source: Smith 2017, arXiv:1506.01186, section 3.1.
    """
    height = partial(formulas.triangle2, cycles=cycles)
    return _cyclic("triangular2", height, cycles, base, momentum)


@factory
def exp_range(
    cycles: int = 4, base: float = 0.25, end: float = 0.1, momentum: Momentum = (0.8, 0.9)
) -> Curves:
    """As `triangular`, under an exponential: base + (1 - base) (1 - |2 x - 1|) end ** p.

    `end`, in (0, 1], is the height at the end of the run; torch's gamma is end ** (1 / steps).

    >>> wave = exp_range(cycles=1, base=0.0, end=0.01)
    >>> [round(wave(p), 6) for p in (0.0, 0.5, 0.75)]
    [0.0, 0.1, 0.015811]

    Source: Smith 2017, arXiv:1506.01186, section 3.1.
    """
    check_range("(0, 1]", "exp_range", "the height at the end, such as 0.1", end=end)
    height = partial(formulas.exp_triangle, cycles=cycles, end=end)
    return _cyclic("exp_range", height, cycles, base, momentum)


@factory
def one_cycle(
    share: float = 0.3,
    start: float = 0.04,  # 1 / 25, torch's div_factor
    end: float = 4e-6,  # start / 10^4, torch's final_div_factor
    anneal: str = "cosine",
    momentum: Momentum = (0.85, 0.95),
) -> Curves:
    """Up from `start` to 1 over the first `share` of the run, then down towards `end`.

    Within a phase from a to b the multiplier is a + (b - a) w, with w = x ("linear") or
    (1 - cos(pi x)) / 2 ("cosine"), where x is the position in the phase. The momentum mirrors it.

    Args:
        share: Length of the rise as a share of the run, in (0, 1).
        start: Multiplier at the first step, in [0, 1].
        end: Multiplier that the end approaches, in [0, 1].
        anneal: ``"cosine"`` or ``"linear"``.
        momentum: (lowest, highest) momentum in [0, 1), or None for the optimizer's own.

    >>> cycle = one_cycle()
    >>> [round(cycle(p), 6) for p in (0.0, 0.15, 0.3, 0.65, 1.0)]
    [0.04, 0.52, 1.0, 0.500002, 4e-06]
    >>> [round(cycle.momentum(p), 6) for p in (0.0, 0.3, 0.65)]
    [0.95, 0.85, 0.9]

    Source: Smith & Topin 2018, arXiv:1708.07120; in two phases, as in fastai and torch. torch's
    OneCycleLR reaches its last rate one step before the end of the run, this schedule at the end.
    """
    check_range("(0, 1)", "one_cycle", "a share of the run, such as 0.3", share=share)
    return _one_cycle("one_cycle", (0.0, share, 1.0), (start, 1.0, end), anneal, momentum)


@factory
def one_cycle_three_phase(
    share: float = 0.45,  # leaves a tenth of the run for the last phase, as in the paper
    start: float = 0.04,
    end: float = 4e-6,
    anneal: str = "linear",
    momentum: Momentum = (0.85, 0.95),
) -> Curves:
    """Up from `start` to 1, down to `start` in the same time, then down towards `end`.

    The arguments are those of `one_cycle`; `share`, in (0, 0.5), is the length of each of the first
    two phases. The momentum mirrors these, and stays high in the third.

    >>> cycle = one_cycle_three_phase()
    >>> [round(cycle(p), 6) for p in (0.0, 0.45, 0.9, 0.95)]
    [0.04, 1.0, 0.04, 0.020002]

    Source: Smith 2018, arXiv:1803.09820, section 4; Smith & Topin 2018, arXiv:1708.07120.
    """
    check_range(
        "(0, 0.5)", "one_cycle_three_phase", "a share of the run, such as 0.45", share=share
    )
    at, levels = (0.0, share, 2 * share, 1.0), (start, 1.0, start, end)
    return _one_cycle("one_cycle_three_phase", at, levels, anneal, momentum)


def _cyclic(call: str, height: Curve, cycles: int, base: float, momentum: Momentum) -> Curves:
    check_range("[1, 100]", call, "a number of cycles, such as 4", cycles=cycles)
    check_range("[0, 1]", call, "the low end as a share of the peak rate, such as 0.25", base=base)
    rate = partial(formulas.between, start=base, end=1.0, height=height)
    if momentum is None:
        return rate, None
    low, high = _checked(call, momentum)
    return rate, partial(formulas.between, start=high, end=low, height=height)


def _one_cycle(
    call: str, at: tuple[float, ...], levels: tuple[float, ...], anneal: str, momentum: Momentum
) -> Curves:
    check_choice(call, ("cosine", "linear"), anneal=anneal)
    check_range("[0, 1]", call, "a share of the peak rate, such as 0.04", start=levels[0])
    check_range("[0, 1]", call, "a share of the peak rate, such as 4e-6", end=levels[-1])
    rate = partial(formulas.phases, at=at, levels=levels, anneal=anneal)
    if momentum is None:
        return rate, None
    low, high = _checked(call, momentum)
    # The momentum is low at the peak of the rate only: it stays high in a third phase.
    mirrored = (high, low, *(high for _ in levels[2:]))
    return rate, partial(formulas.phases, at=at, levels=mirrored, anneal=anneal)


def _checked(call: str, momentum: tuple[float, float]) -> tuple[float, float]:
    low, high = momentum
    hint = "two numbers, such as (0.85, 0.95)"
    check_range("[0, 1)", f"{call}: momentum", hint, low=low, high=high)
    return low, high

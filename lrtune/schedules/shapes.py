"""Factories of schedules without cycles: they start at their peak and fall, except `growth`.

Each raises `ScheduleError` for a number outside its range.
"""

from functools import partial

from lrtune.schedules import formulas
from lrtune.schedules.schedule import Curve, check_choice, check_increasing, check_range, factory

__all__ = [
    "constant",
    "cosine",
    "exponential",
    "growth",
    "inverse_sqrt",
    "linear",
    "multistep",
    "polynomial",
    "rex",
    "stable_decay",
    "step",
]

# Curves are partials of formulas, never lambdas: these cannot be pickled, nor copied by `snippet`.

_FLOOR = "a share of the peak rate, such as 0.01"
_FACTOR = "the factor of each drop, such as 0.1"


@factory
def constant() -> Curve:
    """The peak rate throughout: 1.

    >>> constant()(0.7)
    1.0

    Source: the baseline of every comparison.
    """
    return partial(formulas.constant, value=1.0)


@factory
def growth(start: float = 1e-8) -> Curve:
    """Exponential growth from `start`, in (0, 1), to 1: start ** (1 - p), as a range test sweeps.

    >>> sweep = growth(start=1e-4)
    >>> [f"{sweep(p):.0e}" for p in (0.0, 0.25, 0.5, 0.75)]
    ['1e-04', '1e-03', '1e-02', '1e-01']

    Source: Smith 2017, arXiv:1506.01186, section 3.3 (there linear in the rate).
    """
    check_range("(0, 1)", "growth", "the multiplier at the first step, such as 1e-8", start=start)
    return partial(formulas.growth, start=start)


@factory
def linear(floor: float = 0.0) -> Curve:
    """A straight line from 1 towards `floor`, in [0, 1]: 1 - (1 - floor) p.

    >>> linear()(0.25), linear(floor=0.5)(0.5)
    (0.75, 0.75)

    Source: Li, Yumer, Ramanan 2020, arXiv:1905.04753, section 3; Defazio et al. 2023,
    arXiv:2310.07831.
    """
    check_range("[0, 1]", "linear", _FLOOR, floor=floor)
    return partial(formulas.linear, floor=floor)


@factory
def polynomial(power: float = 2.0, floor: float = 0.0) -> Curve:
    """A power of the remaining share of the run: floor + (1 - floor) (1 - p) ** power.

    Args:
        power: Exponent in (0, 10]: above 1 falls early, below 1 late.
        floor: Multiplier that the end of the run approaches, in [0, 1].

    >>> polynomial()(0.5), round(polynomial(power=0.9)(0.5), 6)
    (0.25, 0.535887)

    Source: the "poly" policy, power 0.9 in Chen et al. 2016, arXiv:1606.00915, section 4.1;
    power 2 in You et al. 2017, arXiv:1708.03888.
    """
    check_range("(0, 10]", "polynomial", "an exponent, such as 2", power=power)
    check_range("[0, 1]", "polynomial", _FLOOR, floor=floor)
    return partial(formulas.polynomial, power=power, floor=floor)


@factory
def cosine(floor: float = 0.0) -> Curve:
    """Half a cosine from 1 towards `floor`, in [0, 1]: floor + (1 - floor) (1 + cos(pi p)) / 2.

    >>> round(cosine()(0.5), 6), round(cosine(floor=0.1)(0.5), 6)
    (0.5, 0.55)

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, section 3, without restarts.
    """
    check_range("[0, 1]", "cosine", _FLOOR, floor=floor)
    return partial(formulas.cosine, floor=floor)


@factory
def exponential(end: float = 0.01) -> Curve:
    """Exponential decay from 1 towards `end`, in (0, 1]: end ** p.

    >>> exponential()(0.5), round(exponential(end=0.001)(1 / 3), 6)
    (0.1, 0.1)

    Source: torch's ExponentialLR with gamma = end ** (1 / steps); a fixed gamma would give another
    shape at each horizon.
    """
    check_range("(0, 1]", "exponential", "the multiplier at the end, such as 0.01", end=end)
    return partial(formulas.exponential, end=end)


@factory
def step(every: float = 1 / 3, factor: float = 0.1) -> Curve:
    """Multiply by `factor` after each share `every` of the run: factor ** floor(p / every).

    Args:
        every: Length of a stair as a share of the run, in (0, 1].
        factor: Factor of each drop, in (0, 1).

    >>> [round(step()(p), 6) for p in (0.0, 0.33, 0.34, 0.67)]
    [1.0, 1.0, 0.1, 0.01]

    Source: He et al. 2015, arXiv:1512.03385, section 3.4 ("divided by 10"); the stairs of 30
    epochs in 90 are those of torchvision's reference recipe.
    """
    check_range("(0, 1]", "step", "a share of the run, such as 1/3", every=every)
    check_range("(0, 1)", "step", _FACTOR, factor=factor)
    return partial(formulas.stairs, every=every, factor=factor)


@factory
def multistep(at: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1) -> Curve:
    """Multiply by `factor` at each position of `at`: factor ** (number of positions <= p).

    Args:
        at: Positions in the run, increasing within (0, 1).
        factor: Factor of each drop, in (0, 1).

    >>> [round(multistep()(p), 6) for p in (0.0, 0.49, 0.5, 0.8)]
    [1.0, 1.0, 0.1, 0.01]

    Source: He et al. 2015, arXiv:1512.03385, section 4.2 (after 32k and 48k of 64k updates).
    """
    check_increasing("multistep", "positions in the run, such as (0.5, 0.75)", at)
    check_range("(0, 1)", "multistep", _FACTOR, factor=factor)
    return partial(formulas.milestones, at=at, factor=factor)


@factory
def inverse_sqrt(tau: float = 0.05) -> Curve:
    """One over the square root of time, in units of `tau`: sqrt(tau / (tau + p)).

    `tau` is a share of the run, in (0, 1]; in transformers it is the length of the warmup.

    >>> round(inverse_sqrt()(0.15), 6), round(inverse_sqrt()(1.0), 6)
    (0.5, 0.218218)

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 5.3; Zhai et al. 2021,
    arXiv:2106.04560, section 3.5.
    """
    check_range("(0, 1]", "inverse_sqrt", "a share of the run, such as 0.05", tau=tau)
    return partial(formulas.inverse_sqrt, tau=tau)


@factory
def rex() -> Curve:
    """Slow at first, steep at the end: (1 - p) / (1 - p / 2).

    >>> round(rex()(0.5), 6), round(rex()(0.9), 6)
    (0.666667, 0.181818)

    Source: Chen, Wolfe, Kyrillidis 2021, arXiv:2107.04197 (REX, "reflected exponential").
    """
    return partial(formulas.rex)


@factory
def stable_decay(decay: float = 0.2, cooldown: str = "linear") -> Curve:
    """A constant 1, then a cooldown to 0; after a `warmup` this is WSD, the trapezoid.

    Args:
        decay: Length of the cooldown as a share of the run, in (0, 1].
        cooldown: ``"linear"``, 1 - x, or ``"1-sqrt"``, 1 - sqrt(x); x is the elapsed share of the
            cooldown.

    >>> round(stable_decay()(0.79), 6), round(stable_decay()(0.9), 6)
    (1.0, 0.5)
    >>> round(stable_decay(cooldown="1-sqrt")(0.85), 6)
    0.5

    Source: Hägele et al. 2024, arXiv:2405.18392 (1-sqrt, 10 to 20 % of the run); Hu et al.
    2024, arXiv:2404.06395 (WSD).
    """
    check_range("(0, 1]", "stable_decay", "a share of the run, such as 0.2", decay=decay)
    check_choice("stable_decay", ("linear", "1-sqrt"), cooldown=cooldown)
    return partial(formulas.stable, decay=decay, cooldown=cooldown)

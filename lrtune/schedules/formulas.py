"""The formulas: plain functions of progress `p` and numbers, from which factories make curves.

They use `math` and each other and nothing else, because `snippet` copies their source into the
user's script, so that what was compared is what is pasted. `p` runs from 0 to 1; where a formula
jumps, 1e-9 makes a border that is met within rounding count as passed.
"""

import math
from collections.abc import Callable


def constant(_p: float, value: float) -> float:
    """One value throughout."""
    return value


def linear(p: float, floor: float) -> float:
    """A straight line from 1 to `floor`."""
    return 1 - (1 - floor) * p


def polynomial(p: float, power: float, floor: float) -> float:
    """A power of what is left of the run, from 1 to `floor`."""
    return floor + (1 - floor) * math.pow(1 - p, power)


def cosine(p: float, floor: float) -> float:
    """Half a cosine from 1 to `floor`."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * p)) / 2


def exponential(p: float, end: float) -> float:
    """The same share of itself at each step, from 1 to `end`."""
    return math.pow(end, p)


def growth(p: float, start: float) -> float:
    """The same multiple of itself at each step, from `start` to 1."""
    return math.pow(start, 1 - p)


def stairs(p: float, every: float, factor: float) -> float:
    """Times `factor` after each share `every` of the run."""
    return math.pow(factor, int(p / every + 1e-9))


def milestones(p: float, at: tuple[float, ...], factor: float) -> float:
    """Times `factor` at each position of `at`."""
    return math.pow(factor, sum(p + 1e-9 >= border for border in at))


def inverse_sqrt(p: float, tau: float) -> float:
    """One over the root of time, counted in units of `tau`."""
    return math.sqrt(tau / (tau + p))


def rex(p: float) -> float:
    """Slow at first, steep at the end."""
    return (1 - p) / (1 - p / 2)


def stable(p: float, decay: float, cooldown: str) -> float:
    """1, and to 0 within the last share `decay` of the run."""
    left = min((1 - p) / decay, 1.0)
    return left if cooldown == "linear" else 1 - math.sqrt(1 - left)


def phases(p: float, at: tuple[float, ...], levels: tuple[float, ...], anneal: str) -> float:
    """Through `levels` at the positions `at`, by straight lines or half cosines."""
    k = 1
    while k < len(at) - 1 and p > at[k]:
        k += 1
    left = 1 - (p - at[k - 1]) / (at[k] - at[k - 1])
    if anneal == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return levels[k] + (levels[k - 1] - levels[k]) * left


def triangle(p: float, cycles: int) -> float:
    """From 0 straight up to 1 and down again, `cycles` times."""
    return 1 - abs(2 * (p * cycles % 1) - 1)


def triangle2(p: float, cycles: int) -> float:
    """Triangles, each half as high as the one before."""
    return triangle(p, cycles) * math.pow(0.5, int(p * cycles))


def exp_triangle(p: float, cycles: int, end: float) -> float:
    """Triangles under an exponential from 1 to `end`."""
    return triangle(p, cycles) * math.pow(end, p)


def between(p: float, start: float, end: float, height: Callable[[float], float]) -> float:
    """From `start`, where the height is 0, to `end`, where it is 1."""
    return start + (end - start) * height(p)


def table(p: float, values: tuple[float, ...]) -> float:
    """The value of the part of the run that `p` lies in; all parts are equally long."""
    return values[min(int(p * len(values) + 1e-6), len(values) - 1)]


def warmup(p: float, share: float, then: Callable[[float], float]) -> float:
    """Straight up from a hundredth of where `then` starts, and all of `then`."""
    if p < share:
        return then(0.0) * (0.01 + 0.99 * p / share)
    return then((p - share) / (1 - share))


def delayed(p: float, share: float, then: Callable[[float], float]) -> float:
    """Hold where `then` starts, and all of `then`."""
    return then(max((p - share) / (1 - share), 0.0))


def join(p: float, pieces: tuple[Callable[[float], float], ...], at: tuple[float, ...]) -> float:
    """All of each piece, one after the other, with borders `at`."""
    borders = (0.0, *at, 1.0)
    k = sum(p + 1e-9 >= border for border in at)
    local = (p - borders[k]) / (borders[k + 1] - borders[k])
    return pieces[k](min(max(local, 0.0), 1.0))


def cycle(
    p: float, of: Callable[[float], float], times: int, stretch: float, decay: float
) -> float:
    """All of `of`, again and again: each `stretch` as long and `decay` as high as the last."""
    start, height = 0.0, 1.0
    length = 1 / sum(math.pow(stretch, k) for k in range(times))
    for _ in range(times - 1):
        if p + 1e-9 < start + length:
            break
        start, length, height = start + length, length * stretch, height * decay
    return height * of(min(max((p - start) / length, 0.0), 1.0))


def scale(p: float, of: Callable[[float], float], by: Callable[[float], float]) -> float:
    """One times the other."""
    return of(p) * by(p)

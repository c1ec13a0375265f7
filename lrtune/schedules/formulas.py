"""The formulas of all schedules: functions of progress `p`, from 0 to 1, and a few numbers.

They use `math` and the formulas above them, and nothing else, because `snippet` copies their source
into the user's script: the script then trains with the function that was compared. Where a formula
jumps, 1e-9 moves the jump forward, so that a step on the border counts as behind it despite
rounding.
"""

import math
from collections.abc import Callable


def constant(_p: float, value: float) -> float:
    """A constant."""
    return value


def linear(p: float, floor: float) -> float:
    """A straight line from 1 to `floor`."""
    return 1 - (1 - floor) * p


def polynomial(p: float, power: float, floor: float) -> float:
    """A power of the remaining share of the run, from 1 to `floor`."""
    return floor + (1 - floor) * math.pow(1 - p, power)


def cosine(p: float, floor: float) -> float:
    """Half a cosine from 1 to `floor`."""
    return floor + (1 - floor) * (1 + math.cos(math.pi * p)) / 2


def exponential(p: float, end: float) -> float:
    """Exponential decay from 1 to `end`."""
    return math.pow(end, p)


def growth(p: float, start: float) -> float:
    """Exponential growth from `start` to 1."""
    return math.pow(start, 1 - p)


def stairs(p: float, every: float, factor: float) -> float:
    """Multiplied by `factor` after each share `every` of the run."""
    return math.pow(factor, int(p / every + 1e-9))


def milestones(p: float, at: tuple[float, ...], factor: float) -> float:
    """Multiplied by `factor` at each position of `at`."""
    return math.pow(factor, sum(p + 1e-9 >= border for border in at))


def inverse_sqrt(p: float, tau: float) -> float:
    """One over the square root of time, in units of `tau`."""
    return math.sqrt(tau / (tau + p))


def rex(p: float) -> float:
    """Slow at first, steep at the end."""
    return (1 - p) / (1 - p / 2)


def stable(p: float, decay: float, cooldown: str) -> float:
    """1, then a fall to 0 over the last share `decay` of the run."""
    left = min((1 - p) / decay, 1.0)  # the remaining share of the cooldown
    return left if cooldown == "linear" else 1 - math.sqrt(1 - left)


def phases(p: float, at: tuple[float, ...], levels: tuple[float, ...], anneal: str) -> float:
    """Straight lines or half cosines between the `levels` at the positions `at`."""
    k = 1  # the phase that p lies in goes from level k - 1 to level k
    while k < len(at) - 1 and p > at[k]:
        k += 1
    left = 1 - (p - at[k - 1]) / (at[k] - at[k - 1])
    if anneal == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return levels[k] + (levels[k - 1] - levels[k]) * left


def triangle(p: float, cycles: int) -> float:
    """Straight from 0 to 1 and back, `cycles` times."""
    return 1 - abs(2 * (p * cycles % 1) - 1)


def triangle2(p: float, cycles: int) -> float:
    """Triangles, each half as high as the one before."""
    return triangle(p, cycles) * math.pow(0.5, int(p * cycles))


def exp_triangle(p: float, cycles: int, end: float) -> float:
    """Triangles under an exponential from 1 to `end`."""
    return triangle(p, cycles) * math.pow(end, p)


def between(p: float, start: float, end: float, height: Callable[[float], float]) -> float:
    """`start` where the height is 0, `end` where it is 1."""
    return start + (end - start) * height(p)


def table(p: float, values: tuple[float, ...]) -> float:
    """The run is divided into equal parts with one value each."""
    # p = k / n times n may be just below k.
    return values[min(int(p * len(values) + 1e-6), len(values) - 1)]


def warmup(p: float, share: float, then: Callable[[float], float]) -> float:
    """A straight rise from a hundredth of the first value of `then`, then all of `then`."""
    if p < share:
        return then(0.0) * (0.01 + 0.99 * p / share)
    return then((p - share) / (1 - share))


def delayed(p: float, share: float, then: Callable[[float], float]) -> float:
    """The first value of `then`, held for the share `share`, then all of `then`."""
    return then(max((p - share) / (1 - share), 0.0))


def join(p: float, pieces: tuple[Callable[[float], float], ...], at: tuple[float, ...]) -> float:
    """All pieces one after the other, with borders `at`."""
    borders = (0.0, *at, 1.0)
    # The piece that p lies in, and the progress within it, clipped against rounding.
    k = sum(p + 1e-9 >= border for border in at)
    local = (p - borders[k]) / (borders[k + 1] - borders[k])
    return pieces[k](min(max(local, 0.0), 1.0))


def cycle(
    p: float, of: Callable[[float], float], times: int, stretch: float, decay: float
) -> float:
    """Repeats of `of`, each `stretch` times as long and `decay` times as high as the last."""
    start, height = 0.0, 1.0
    # The lengths grow by the factor `stretch`, and all of them add up to 1.
    length = 1 / sum(math.pow(stretch, k) for k in range(times))
    for _ in range(times - 1):
        if p + 1e-9 < start + length:
            break
        start, length, height = start + length, length * stretch, height * decay
    return height * of(min(max((p - start) / length, 0.0), 1.0))


def scale(p: float, of: Callable[[float], float], by: Callable[[float], float]) -> float:
    """The product of two curves."""
    return of(p) * by(p)

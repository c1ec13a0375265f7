"""Published training recipes, from `recipes.toml`, fitted to another batch size and length."""

import difflib
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lrtune.errors import ArgumentError, positive_number, shown
from lrtune.schedules import shapes
from lrtune.schedules.combinators import join, scale, warmup
from lrtune.schedules.feedback import Feedback
from lrtune.schedules.plateaus import ReduceOnPlateau
from lrtune.schedules.schedule import Schedule, check_steps

PREFIX = "recipe:"
"""In front of its name, a recipe stands for its schedule, as in `recipe:goyal-imagenet`."""

RULES = {
    "linear": "Goyal et al. 2017, arXiv:1706.02677, section 2.1",
    "square root": "Malladi et al. 2022, arXiv:2205.10287",
    "none": "",
}
"""How a rate follows the batch size, and where that is from."""

ADAM = ("Adam", "AdamW", "NAdam", "RAdam")
"""Optimizers to which a rate of Adam applies."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published recipe; what its source does not state is None.

    Lengths are in `unit`: `epochs`, `updates` or `tokens`.

    Attributes:
        name: Its key in `RECIPES`.
        title: Model and data.
        authors: Their names.
        year: Of the first publication.
        source: arXiv id or address, with the section or table.
        optimizer: The class of torch's.
        peak: The highest rate, at `batch`.
        batch: The batch size, in `batch_unit`.
        batch_unit: `samples` or `tokens`.
        momentum: SGD's or RMSprop's.
        nesterov: Whether it is Nesterov's.
        beta1: Adam's.
        beta2: Adam's.
        weight_decay: As the optimizer takes it.
        length: Of the whole training.
        unit: Of all lengths.
        warmup: Length of the rise at the beginning; 0 for none.
        decay: What follows: `constant`, `cosine`, `linear`, `polynomial`, `steps`, `stairs`,
            `inverse-sqrt`, `plateau`.
        end: Where that ends, and the rate stays at the floor; None for the end of the training.
        floor: The last rate of a cosine or a line, as a share of the highest.
        at: Where the rate drops, with `steps`.
        every: Length of a stair, with `stairs`.
        factor: Of each drop.
        power: With `polynomial`.
        note: What else is to be known.
    """

    name: str
    title: str
    authors: str
    year: int
    source: str
    optimizer: str
    peak: float
    batch: float | None = None
    batch_unit: str = "samples"
    momentum: float | None = None
    nesterov: bool = False
    beta1: float | None = None
    beta2: float | None = None
    weight_decay: float | None = None
    length: float
    unit: str
    warmup: float = 0.0
    decay: str
    end: float | None = None
    floor: float = 0.0
    at: tuple[float, ...] = ()
    every: float = math.inf
    factor: float = 0.1
    power: float = 1.0
    note: str = ""

    @property
    def in_tokens(self) -> bool:
        """Whether its batch size counts tokens."""
        return self.batch_unit == "tokens"

    @property
    def rule(self) -> str:
        """How its rate follows the batch size: a name in `RULES`.

        SGD's linearly, Adam's with the square root. `none` where the batch size is not stated or
        counts tokens, and for other optimizers.
        """
        if self.batch is None or self.in_tokens:
            return "none"
        return "linear" if self.optimizer == "SGD" else "square root"

    def lr(self, batch: float | None = None) -> float:
        """The peak rate for a batch of so many samples; the published one when None.

        >>> recipe = RECIPES["goyal-imagenet"]
        >>> recipe.lr(), recipe.lr(64), recipe.rule
        (0.1, 0.025, 'linear')
        """
        if batch is None:
            return self.peak
        ratio = positive_number("batch", batch, such_as="64") / (self.batch or math.inf)
        if self.rule == "none":
            return self.peak
        return self.peak * (ratio if self.rule == "linear" else math.sqrt(ratio))

    def schedule(self, steps: int | None = None) -> Schedule | Feedback[Any]:
        """Its schedule, which fits a training of any length: all its lengths become shares.

        Args:
            steps: Begin its phases at whole steps of a training of that length.

        >>> RECIPES["swin-imagenet"].schedule(1000)
        warmup(share=0.067, then=cosine(floor=0.0))
        """
        rise, last = self._share(self.warmup, steps), self._share(self.end or self.length, steps)
        if self.decay == "plateau":
            return ReduceOnPlateau(factor=self.factor)
        then = self._after(rise, steps)
        if last < 1:
            pieces = then, scale(shapes.constant(), by=self.floor)
            then = join(pieces, at=((last - rise) / (1 - rise),))
        return warmup(rise, then=then) if rise else then

    def phases(self, steps: int | None = None) -> str:
        """Its schedule in words, in steps of a training of that length, or in shares of it.

        >>> RECIPES["goyal-imagenet"].phases(2000)
        'rise to 111; /10 at 667, 1333, 1778'
        >>> RECIPES["deit-imagenet"].phases()
        'rise to 1.7 %; cosine to 0'
        """
        floor = f"{100 * self.floor:.3g} %" if self.floor else "0"
        drop = f"/{1 / self.factor:.3g}" if self.factor <= 0.5 else f"x {self.factor:g}"
        where = ", ".join(self._place(one, steps) for one in self.at)
        words = {
            "constant": "constant",
            "cosine": f"cosine to {floor}",
            "linear": f"line to {floor}",
            "polynomial": f"(1 - p) ** {self.power:g}",
            "steps": f"{drop} at {where}",
            "stairs": f"{drop} every {self._place(self.every, steps)}",
            "inverse-sqrt": "1 / sqrt(step)",
            "plateau": f"{drop} on plateaus",
        }[self.decay]
        rise = f"rise to {self._place(self.warmup, steps)}; " if self.warmup else ""
        end = f" at {self._place(self.end, steps)}" if self.end else ""
        return rise + words + end

    def applies_to(self, optimizer: str) -> bool:
        """Whether its rate means anything for an optimizer of this class."""
        return optimizer == self.optimizer or {optimizer, self.optimizer} <= set(ADAM)

    def _after(self, rise: float, steps: int | None) -> Schedule:
        """What follows the warm-up, whose share of the training is `rise`."""
        places = [(self._share(one, steps) - rise) / (1 - rise) for one in self.at]
        inside = tuple(sorted({one for one in places if 0 < one < 1}))
        known = self.warmup / self.length  # also where so few steps hold no rise
        stair = min(1.0, self.every / self.length / (1 - rise))
        makers: dict[str, Callable[[], Schedule]] = {
            "constant": shapes.constant,
            "cosine": lambda: shapes.cosine(self.floor),
            "linear": lambda: shapes.linear(self.floor),
            "polynomial": lambda: shapes.polynomial(self.power),
            "steps": lambda: shapes.multistep(inside, self.factor),
            "stairs": lambda: shapes.step(stair, self.factor),
            "inverse-sqrt": lambda: shapes.inverse_sqrt(known / (1 - known)),
        }
        return makers[self.decay]()

    def _share(self, length: float, steps: int | None) -> float:
        share = length / self.length
        return share if steps is None else round(share * check_steps(steps)) / steps

    def _place(self, length: float, steps: int | None) -> str:
        share = length / self.length
        if steps is None:
            return f"{100 * share:.2g} %"
        return f"{share * steps:.0f}" if share * steps >= 10 else f"{share * steps:.2g}"


def _read(path: Path) -> dict[str, Recipe]:
    """The recipes of a file, by name."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    known = {field.name for field in fields(Recipe)}
    recipes = {}
    for name, entry in entries.items():
        assert entry.keys() <= known, f"{path.name}: {name} has {sorted(entry.keys() - known)}"
        recipes[name] = Recipe(name=name, **entry | {"at": tuple(entry.get("at", ()))})
    return recipes


RECIPES: Mapping[str, Recipe] = _read(Path(__file__).with_suffix(".toml"))
"""Every recipe by name."""


def look_up_recipe(name: str) -> Recipe:
    """Return the recipe of that name; `recipe:` may stand in front of it.

    Raises:
        ArgumentError: There is none; the message lists the closest ones.

    >>> look_up_recipe("recipe:mask_rcnn_coco").title
    'Mask R-CNN on COCO'
    """
    plain = name.strip().lower().removeprefix(PREFIX).replace("_", "-")
    if plain in RECIPES:
        return RECIPES[plain]
    close = difflib.get_close_matches(plain, RECIPES, n=3)
    which = f"Closest: {', '.join(close)}; `lrtune recipes` lists all" if close else ""
    raise ArgumentError(
        f"no recipe is called {shown(plain)}. {which or 'There are ' + ', '.join(RECIPES)}."
    )

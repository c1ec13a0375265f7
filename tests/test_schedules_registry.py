"""Laws of every schedule in the registry, over its whole search space."""

import math
import pickle
from itertools import pairwise

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lrtune.schedules as public
from lrtune.schedules import (
    SCHEDULES,
    Choice,
    growth,
    momenta,
    multipliers,
    parse,
)
from lrtune.schedules.schedule import FACTORIES

PROGRESS = st.floats(0, 1, exclude_max=True)
FALLING = [
    "linear",
    "cosine",
    "rex",
    "exponential",
    "polynomial",
    "inverse-sqrt",
    "step",
    "multistep",
]
GRID = [step / 2520 for step in range(2520)]  # divisible by 1 ... 10: meets every border of a cycle

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


class Drawn:
    """A trial whose suggestions hypothesis draws."""

    def __init__(self, draw):
        self.draw = draw

    def suggest_float(self, name, low, high, *, log=False):
        return self.draw(st.floats(low, high), label=name)

    def suggest_int(self, name, low, high):
        return self.draw(st.integers(low, high), label=name)

    def suggest_categorical(self, name, choices):
        return self.draw(st.sampled_from(choices), label=name)


def drawn(entry, data):
    return entry(**entry.suggest(Drawn(data.draw)))


over_the_registry = pytest.mark.parametrize("entry", SCHEDULES.values(), ids=SCHEDULES)
a_few = settings(deadline=None, max_examples=12)


@over_the_registry
@a_few
@given(data=st.data())
def test_a_multiplier_lives_between_0_and_1(entry, data):
    schedule, progress = drawn(entry, data), data.draw(PROGRESS)
    assert 0 <= schedule(progress) <= 1
    assert math.isfinite(schedule(progress))


@over_the_registry
@a_few
@given(data=st.data())
def test_a_momentum_lives_between_0_and_1(entry, data):
    schedule, steps = drawn(entry, data), data.draw(st.integers(1, 50))
    moments = momenta(schedule, steps)
    moves = entry.name.startswith(("one-cycle", "triangular", "exp-range", "decay-cyclic"))
    assert (moments is not None) == moves
    assert all(0.8 <= value <= 0.95 for value in moments or [])


@over_the_registry
@a_few
@given(data=st.data())
def test_a_schedule_has_no_memory(entry, data):
    schedule = drawn(entry, data)
    places = data.draw(st.lists(PROGRESS, min_size=2, max_size=8))
    forwards = [schedule(p) for p in places]
    assert [schedule(p) for p in reversed(places)] == forwards[::-1]


@over_the_registry
@a_few
@given(data=st.data())
def test_the_text_makes_the_schedule_again(entry, data):
    schedule, progress = drawn(entry, data), data.draw(PROGRESS)
    namespace = {}
    exec("from lrtune.schedules import *", namespace)  # noqa: S102 - it is the promise
    for again in (eval(schedule.text, namespace), parse(schedule.text)):  # noqa: S307
        assert again == schedule
        assert hash(again) == hash(schedule)
        assert again(progress) == schedule(progress)


@over_the_registry
def test_a_schedule_can_be_sent_to_another_process(entry):
    again = pickle.loads(pickle.dumps(entry()))  # noqa: S301 - our own bytes
    assert again == entry()
    assert multipliers(again, 50) == multipliers(entry(), 50)
    assert momenta(again, 50) == momenta(entry(), 50)


@over_the_registry
@a_few
@given(data=st.data())
def test_the_horizon_does_not_change_the_shape(entry, data):
    schedule, steps = drawn(entry, data), data.draw(st.integers(1, 40))
    assert multipliers(schedule, 2 * steps)[::2] == multipliers(schedule, steps)


@over_the_registry
@a_few
@given(data=st.data())
def test_no_update_is_wasted_on_the_rate_0(entry, data):
    assert drawn(entry, data)(0.0) >= 0.01


@over_the_registry
def test_the_peak_rate_is_the_largest(entry):
    top = max(map(entry(), GRID))
    under_an_envelope = {"exp-range", "decay-cyclic"}
    assert top == pytest.approx(1.0, abs=2e-3) or (entry.name in under_an_envelope and top > 0.7)


@over_the_registry
def test_it_ends_below_its_peak_unless_it_is_constant(entry):
    last = entry()(1 - 1e-9)
    high = {"constant": 1.0, "inverse-sqrt": 0.22, "warmup-inverse-sqrt": 0.23}
    cyclic = {"triangular": 0.25, "triangular2": 0.25, "exp-range": 0.25}
    assert last <= {**high, **cyclic}.get(entry.name, 0.01) + 1e-6
    assert (last == 1) == (entry.name == "constant")


@pytest.mark.parametrize("name", FALLING)
@a_few
@given(data=st.data())
def test_what_only_falls_never_climbs(name, data):
    rates = multipliers(drawn(SCHEDULES[name], data), data.draw(st.integers(1, 300)))
    assert all(a >= b for a, b in pairwise(rates))


@over_the_registry
def test_the_space_begins_at_the_defaults_of_the_factory(entry):
    plain = getattr(public, entry.name.replace("-", "_"), None)
    if plain is not None:
        assert entry() == plain()
    for dimension in entry.space.values():
        if isinstance(dimension, Choice):
            assert dimension.default in dimension.options
        else:
            assert dimension.low <= dimension.default <= dimension.high


@over_the_registry
def test_optuna_searches_the_space_and_begins_at_the_defaults(entry):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(entry.defaults())
    first = study.ask()
    assert entry(**entry.suggest(first)) == entry()
    assert first.params == entry.defaults()
    others = {entry(**entry.suggest(study.ask())) for _ in range(5)}
    assert (len(others) > 1) == bool(entry.space)


def test_the_registry_is_sorted_from_simple_to_complex():
    order = list(SCHEDULES)
    assert order[:3] == ["constant", "linear", "cosine"]
    for name in SCHEDULES:
        if name.startswith("warmup-"):
            assert order.index(name) > order.index(name.removeprefix("warmup-"))


@over_the_registry
def test_an_entry_says_what_it_is_and_where_it_is_from(entry):
    assert SCHEDULES[entry.name] is entry
    assert entry.summary.endswith(".")
    assert len(entry.summary) <= 80
    assert entry.source
    assert bool(entry.space_source) == bool(entry.space)
    assert entry.name == entry.name.lower().replace("_", "-")


def test_every_public_name_is_there_and_documented():
    assert len(public.__all__) == len(set(public.__all__)) > 40
    assert {name for name in FACTORIES if hasattr(public, name)} <= set(public.__all__)
    for part in (public.combinators, public.cycles, public.shapes):
        made = {name for name, value in FACTORIES.items() if value.__module__ == part.__name__}
        assert set(part.__all__) == made
        assert part.__all__ == sorted(part.__all__)
    for name in public.__all__:
        value = getattr(public, name)
        assert isinstance(value, dict) or value is public.Curve or value.__doc__


def test_growth_is_the_sweep_of_the_range_test_and_no_candidate():
    assert "growth" not in SCHEDULES
    rates = multipliers(growth(1e-4), 100)
    ratios = [b / a for a, b in pairwise(rates)]
    assert rates[0] == 1e-4
    assert ratios == pytest.approx([1e4 ** (1 / 100)] * 99)

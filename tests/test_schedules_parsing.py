"""Schedules by name and by text, and the errors for bad ones."""

import functools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrtune.errors import ArgumentError, ScheduleError
from lrtune.schedules import (
    SCHEDULES,
    FloatRange,
    Schedule,
    ScheduleEntry,
    as_schedule,
    cosine,
    cycle,
    factory,
    join,
    linear,
    look_up,
    momenta,
    multipliers,
    multistep,
    parse,
    warmup,
)
from lrtune.schedules.schedule import FACTORIES

OURS = sorted(name for name, one in FACTORIES.items() if one.__module__.startswith("lrtune."))


@pytest.mark.parametrize("name", ["one_cycle", " One-Cycle ", "one-cycle"])
def test_names_are_found_however_they_are_typed(name):
    assert look_up(name).name == "one-cycle"


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(ArgumentError, match=r"'cosin'.*cosine"):
        look_up("cosin")


def test_an_entry_refuses_a_parameter_it_does_not_have():
    with pytest.raises(ScheduleError, match=r"'cosine' has no parameter 'power'; it has floor"):
        SCHEDULES["cosine"](power=2)


def test_a_schedule_of_your_own_is_one_line_more():
    mine = ScheduleEntry("mine", "Falls.", "me", linear, {"floor": FloatRange(0.1, 0.0, 0.2)})
    assert mine() == linear(0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cosine(", "never closed"),
        ("__import__('os').getcwd()", "is no schedule"),
        ("cosine(__import__('os'))", "is no schedule"),
        ("cosine(flor=0.1)", "flor"),
        ("(1, 2)", "no schedule"),
        ("step(1/0)", "division"),
        ("warmup(0.1, then=[cosine(), open('x')])", "is no schedule"),
        ("cosine(*(0.1,))", "is no schedule"),
    ],
)
def test_parse_runs_nothing_but_our_factories(text, says):
    with pytest.raises(ArgumentError, match=says):
        parse(text)


def test_parse_lets_the_errors_of_a_factory_through():
    with pytest.raises(ScheduleError, match=r"cosine\(floor=2.0\)"):
        parse("cosine(2)")


@given(st.floats(0, 1), st.integers(0, 1))
def test_equal_numbers_make_equal_schedules(floor, whole):
    numpy = pytest.importorskip("numpy")
    assert linear(numpy.float64(floor)) == linear(floor)
    assert linear(whole) == linear(float(whole))
    assert multistep(numpy.array([0.25, 0.5])) == multistep([0.25, 0.5]) == multistep((0.25, 0.5))


@pytest.mark.parametrize("value", ["0.1", None, [0.1], cosine])
def test_a_number_must_be_one(value):
    with pytest.raises(ScheduleError, match=r"floor=.*expected a number"):
        linear(value)


def test_a_whole_number_must_be_one():
    with pytest.raises(ScheduleError, match=r"times=2\.5.*expected a whole number"):
        cycle(cosine(), times=2.5)


def test_the_text_names_the_users_own_functions():
    def ramp(progress, top=1.0):
        return progress * top

    assert as_schedule(ramp).text == "ramp"
    assert as_schedule(functools.partial(ramp, top=0.5)).text == "ramp(top=0.5)"
    assert (
        join((ramp, cosine()), at=(0.5,)).text
        == "join(pieces=(ramp, cosine(floor=0.0)), at=(0.5,))"
    )


def test_a_factory_of_your_own_becomes_a_schedule_with_a_text():
    @factory
    def halves(every: float = 0.5):
        return lambda progress: 0.5 ** (progress // every)

    assert halves(1) == halves(1.0) != halves(0.5)
    assert warmup(0.1, then=halves()).text == "warmup(share=0.1, then=halves(every=0.5))"


def test_parse_reads_the_text_of_a_factory_of_your_own():
    @factory
    def quarters(every: float = 0.25):
        return lambda progress: 0.25 ** (progress // every)

    schedule = warmup(0.1, then=quarters(0.5))
    assert parse(schedule.text) == schedule

    @factory
    def quarters(every: float = 0.5):  # a cell of a notebook, run again
        return lambda progress: 0.25 ** (progress // every)

    assert parse("quarters()") == quarters() == quarters(0.5)


@pytest.mark.parametrize("name", OURS)
def test_a_factory_of_your_own_cannot_take_a_name_of_ours(name):
    def mine():
        return lambda progress: progress

    mine.__name__, ours = name, FACTORIES[name]
    with pytest.raises(ScheduleError, match=f"called {name} already.*Rename the function"):
        factory(mine)
    assert FACTORIES[name] is ours


@pytest.mark.parametrize(
    ("curve", "says"),
    [
        (lambda p: 1 / (0.5 - p), "step 2 of 4 .*ZeroDivisionError"),
        (lambda p: 0.4 - p, "step 2 of 4 .*-0.1;"),
        (lambda p: math.nan if p > 0.6 else 1.0, "step 3 of 4 .*nan"),
        (lambda p: math.inf if p > 0.2 else 1.0, "step 1 of 4 .*inf"),
        (lambda _p: "fast", "step 0 of 4 .*ValueError"),
    ],
)
def test_a_bad_multiplier_is_reported_with_its_schedule_and_step(curve, says):
    with pytest.raises(ScheduleError, match=f"'mine' at {says}"):
        multipliers(Schedule("mine", curve), 4)


def test_a_bad_momentum_is_reported_with_its_schedule_and_step():
    with pytest.raises(
        ScheduleError, match=r"'mine' at step 2 of 4 .*returned 1; expected a finite momentum"
    ):
        momenta(Schedule("mine", lambda _p: 1.0, lambda p: 0.5 + p), 4)


@pytest.mark.parametrize("table", [multipliers, momenta])
def test_a_run_has_a_step(table):
    with pytest.raises(ArgumentError, match="steps must be a whole number >= 1, got 0"):
        table(cosine(), 0)


def test_what_is_no_function_is_no_schedule():
    with pytest.raises(ScheduleError, match=r"got 0.5"):
        as_schedule(0.5)

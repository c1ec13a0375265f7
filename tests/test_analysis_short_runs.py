"""Reading the best rate from short runs: which rate leads, and where the minimum lies."""

import math

import pytest
from hypothesis import strategies as st

from lrtune.analysis.short_runs import NEIGHBOUR, Scene, leading_rate, mask_unstable, vertex
from tests.sampling import law

SCENE = Scene(start=2.3, guess=2.3, error=0.01)
RATES = (1e-4, 1e-3, 1e-2, 1e-1)
losses = st.lists(st.floats(0.1, 2.2), min_size=4, max_size=4)


@law(few=10, cases=300, values=losses)
def test_the_lowest_loss_leads_once_something_is_learned(values):
    table = dict(zip(RATES, values, strict=True))
    assert table[leading_rate(table, SCENE)] == min(values)


@law(few=10, cases=300, values=losses, scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_units_of_the_loss_change_no_leader(values, scale, shift):
    table = dict(zip(RATES, values, strict=True))
    told = {rate: scale * loss + shift for rate, loss in table.items()}
    scene = Scene(*(scale * value + shift for value in (2.3, 2.3)), error=0.01 * scale)
    assert leading_rate(told, scene) == leading_rate(table, SCENE)


def test_rates_that_fall_to_guessing_are_too_high():
    scene = Scene(start=50.0, guess=2.3, error=0.01)
    assert leading_rate({1e-4: 20.0, 1e-3: 2.31, 1e-2: 2.30, 1e-1: 2.32}, scene) == 1e-3


def test_the_highest_of_rates_that_have_not_moved_leads():
    assert leading_rate({1e-4: 2.301, 1e-3: 2.3, 1e-2: 2.301, 1e-1: 2.5}, SCENE) == 1e-2


def test_nothing_leads_where_all_failed():
    assert leading_rate(dict.fromkeys(RATES, math.inf), SCENE) is None


def test_a_rate_above_one_that_failed_only_had_luck():
    assert mask_unstable({0.1: 1.0, 1.0: math.inf, 10.0: 0.5})[10.0] == math.inf


@law(few=10, cases=300, place=st.floats(-0.9, 0.9), height=st.floats(0.1, 10.0))
def test_the_vertex_of_a_parabola_is_found(place, height):
    step = math.log(NEIGHBOUR)
    table = {NEIGHBOUR**k: 1.0 + height * (k - place / 2) ** 2 for k in (-1, 0, 1)}
    found = vertex(table, 1.0, worst=100.0)
    assert math.log(found) == pytest.approx(place / 2 * step, abs=1e-6)


@law(few=10, cases=300, values=st.lists(st.floats(0.0, 9.0), min_size=3, max_size=3))
def test_the_vertex_never_leaves_the_neighbours(values):
    table = dict(zip((1 / NEIGHBOUR, 1.0, NEIGHBOUR), values, strict=True))
    assert 1 / NEIGHBOUR * 0.999 <= vertex(table, 1.0, worst=9.0) <= NEIGHBOUR * 1.001

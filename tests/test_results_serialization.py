"""Records: to JSON and back, bit for bit; hostile JSON is refused with a sentence."""

import dataclasses
import functools
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune import range_test, search, train
from lrtune.analysis.sweep_rules import Suggestion
from lrtune.errors import LrtuneError, ResultsError
from lrtune.results import KINDS, Trace, read
from lrtune.results.runs import Run
from lrtune.results.schema import CURVES, RUNS, SWEEP, TRACE, VALIDATIONS, as_table
from lrtune.results.serialization import from_builtins, to_builtins
from lrtune.testing import bowl


@functools.cache
def made(kind):
    """A result of each kind, from real training."""
    task = bowl(4.0, 0.01)
    if kind == "trace":
        return train(task, [Run("a", 0.1), Run("b", 1e200), Run("c", 0.9)], 30)
    if kind == "range-test":
        return range_test(task, high=1e200, steps=30, seeds=2)
    return search(task, steps=20, coarse=(0.1, 0.01), fine=(0.9, 1.0))


MADE = ["trace", "range-test", "search"]


def assert_equal(one, other):
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(ours, pd.DataFrame):
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        else:
            assert to_builtins(ours) == to_builtins(theirs)  # NaN equals no NaN


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MADE)
def test_a_result_comes_back_as_it_was(kind):
    result = made(kind)
    (again,) = read(result.to_json())
    assert_equal(result, again)
    assert again.to_json() == result.to_json()
    assert json.loads(result.to_json())["kind"] == kind


@pytest.mark.parametrize("kind", MADE)
def test_a_missing_field_is_an_error(kind):
    """Also a field with a default: no file of an older version is filled up in silence."""
    whole = made(kind).to_dict()
    for name in whole.keys() - {"kind"}:
        part = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(ResultsError, match=f"needs a field '{name}'; it is missing"):
            read(json.dumps(part))


def test_the_results_hold_what_is_hard_to_save():
    """Else the test above could not fail: infinities, NaN, empty tables."""
    losses = made("trace").frame["loss"]
    assert np.isinf(losses).any()
    assert made("trace").validations.empty
    assert made("range-test").frame["smooth"].isna().any()
    assert made("search").runs["loss"].isna().all()
    assert math.isnan(made("search").best.loss)


@pytest.mark.parametrize("kind", MADE)
def test_json_is_strict_and_plain(kind):
    def refuse(constant):
        raise AssertionError(constant)

    json.loads(made(kind).to_json(), parse_constant=refuse)
    assert made(kind).to_dict() == json.loads(made(kind).to_json())


def test_several_results_come_back_in_order():
    text = json.dumps({"results": [made(kind).to_dict() for kind in MADE]})
    assert [type(one) for one in read(text)] == [KINDS[kind] for kind in MADE]


NAMES = st.text(max_size=8)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
WHOLE = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(NAMES, WHOLE, FLOATS, FLOATS, WHOLE), max_size=5),
    runs=st.lists(st.tuples(NAMES, FLOATS, NAMES, WHOLE, NAMES, WHOLE), max_size=3),
    validations=st.lists(st.tuples(NAMES, WHOLE, NAMES, FLOATS, FLOATS, WHOLE), max_size=3),
)
def test_any_trace_comes_back_as_it_was(rows, runs, validations):
    trace = Trace(
        steps=3,
        frame=as_table(rows, TRACE),
        runs=as_table(runs, RUNS),
        validations=as_table(validations, VALIDATIONS),
    )
    (again,) = read(trace.to_json())
    assert_equal(trace, again)


@given(lr=FLOATS, low=FLOATS, high=FLOATS, rule=NAMES, because=NAMES)
def test_any_suggestion_comes_back_as_it_was(lr, low, high, rule, because):
    one = Suggestion(lr, rule, because, (low, high))
    again = from_builtins(Suggestion, json.loads(json.dumps(to_builtins(one), allow_nan=False)))
    assert repr(again) == repr(one)


# --- tables ---------------------------------------------------------------------------------------


def test_a_table_has_its_columns_in_order_with_their_types():
    frame = pd.DataFrame(
        {"loss": ["1", "2"], "extra": 0, "step": [0.0, 1.0], "run": "a"}, index=[7, 9]
    )
    made_of = as_table(frame, CURVES)
    assert list(made_of) == list(CURVES)
    assert list(made_of.dtypes) == [pd.Series(dtype=kind).dtype for kind in CURVES.values()]
    assert list(made_of.index) == [0, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"loss": None}, "loss missing"),
        ({"loss": "fast"}, "wrong type: could not convert"),
        ({"step": np.nan}, "wrong type"),
        ({"step": 10**30}, "wrong type"),
        ({"loss": [[1.0, 2.0]]}, "wrong type"),
    ],
)
def test_a_table_that_cannot_be_is_refused(changes, told):
    columns = {"run": ["a"], "step": [0], "loss": [1.0]} | changes
    frame = pd.DataFrame({name: one for name, one in columns.items() if one is not None}, index=[0])
    with pytest.raises(ResultsError, match=told):
        as_table(frame, CURVES)


# --- hostile JSON ---------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.integers(10**300, 10**310), st.sampled_from(["nan", "inf", "trace", "range-test", "search"]),
)  # fmt: skip
JSON = st.recursive(
    LEAVES,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(NAMES, inside, max_size=4),
    max_leaves=12,
)


def refused_or_read(text):
    """Only an error of ours may escape, and it is a sentence."""
    told = "x" * 30
    try:
        assert isinstance(read(text), list)
    except ResultsError as error:
        told = str(error)
    assert 20 < len(told) < 1000


@settings(max_examples=200)
@given(plain=JSON)
def test_json_of_any_kind_is_refused_by_an_error_of_ours(plain):
    refused_or_read(json.dumps(plain))
    with pytest.raises(ResultsError):
        read(json.dumps({"kind": "trace", "steps": plain}))


@settings(max_examples=150)
@given(data=st.data(), kind=st.sampled_from(MADE), hostile=JSON)
def test_a_result_with_one_hostile_value_is_refused_by_an_error_of_ours(data, kind, hostile):
    """Somewhere in a good result stands something else, or nothing."""
    plain = json.loads(made(kind).to_json())
    place = plain
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(min(len(place), 3)))
        key = data.draw(st.sampled_from(keys))
        deeper = isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans())
        if not deeper:
            break
        place = place[key]
    if data.draw(st.booleans()):
        place[key] = hostile
    else:
        del place[key]
    refused_or_read(json.dumps(plain))


@given(text=st.text())
def test_any_text_is_refused_by_an_error_of_ours(text):
    refused_or_read(text)


def test_deep_nesting_is_refused_by_an_error_of_ours():
    """At some depth the text can be parsed, and what is in it not be printed."""
    for depth in (100, *range(900, 1000), 100_000):
        nest = "[" * depth + "]" * depth
        for text in (
            nest,
            f'{{"kind": {nest}}}',
            f'{{"kind": "range-test", "suggestion": {nest}}}',
        ):
            with pytest.raises(ResultsError):
                read(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "this is no JSON"),
        ("lr: 0.1", "this is no JSON"),
        ("[]", "expected one JSON object"),
        ('{"results": []}', "expected one JSON object"),
        ('{"results": 3}', "expected one JSON object"),
        ("{}", "expected a result of kind trace, diagnosis, range-test, search"),
        ('{"kind": "pickle"}', "got one of kind 'pickle'"),
        ('{"kind": ["trace"]}', "got one without a text `kind`"),
        ('{"kind": "trace"}', "Trace needs a field 'steps'"),
        ('{"kind": "trace", "steps": "3"}', "field 'steps' cannot hold '3'"),
        ('{"kind": "trace", "steps": true}', "field 'steps' cannot hold True"),
        ('{"kind": "trace", "steps": 1, "frame": 3}', "expected a table of columns, got 3"),
        ('{"kind": "trace", "steps": 1, "frame": {"run": ["a"], "step": []}}', "differ in length"),
        ('{"kind": "trace", "steps": 1, "frame": {"run": ["a"]}}', "step, lr, loss, batch missing"),
        ('{"kind": "range-test", "suggestion": 1}', "object with the fields of Suggestion, got 1"),
        ('{"kind": "range-test", "suggestion": {"lr": 1' + "0" * 400 + "}}", "field 'lr' cannot"),
    ],
)
def test_a_refusal_says_what_is_wrong(text, told):
    with pytest.raises(ResultsError) as caught:
        read(text)
    assert told in str(caught.value)
    assert isinstance(caught.value, LrtuneError)


def test_no_value_becomes_null():
    """NaN and infinities are strings that come back as numbers."""
    assert to_builtins([math.nan, math.inf, -math.inf, 1.0]) == ["nan", "inf", "-inf", 1.0]
    frame = as_table(
        pd.DataFrame(
            {name: [np.nan] if kind == "float64" else [0] for name, kind in SWEEP.items()}
        ),
        SWEEP,
    )
    assert "null" not in json.dumps(to_builtins(frame))

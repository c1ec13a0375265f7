"""What `print` shows of a result: a few short lines, with rounded numbers."""

import re
from dataclasses import replace

import pytest
from reporting import SAMPLES, a_search

from lrtune.analysis.sweep_rules import Suggestion
from lrtune.results.trained import Retrained


@pytest.mark.parametrize("name", SAMPLES)
def test_a_result_prints_as_a_few_short_lines_of_rounded_numbers(name):
    result = SAMPLES[name]()
    for text in (str(result), repr(result)):
        assert len(text.splitlines()) <= 20
        assert max(map(len, text.splitlines())) <= 100
        assert "np." not in text
        assert not re.search(r"\d\.\d{7}", text), "no number has more digits than a person reads"


def test_a_search_begins_with_its_answer_and_leaves_out_what_there_is_not():
    assert str(a_search()).startswith("Search: lr 0.02 with trapezoid, for 400 steps\n")
    assert "best training" not in str(replace(a_search(), best=None))


@pytest.mark.parametrize(("near", "said"), [(True, "nearly this rate"), (False, "other rates")])
def test_what_to_expect_of_a_training_says_from_which_rates(near, said):
    told = Retrained(0.0123456789, 0.01, 0.02, 2, near)
    rest = f"(90 % interval 0.01 to 0.02), estimated from 2 trainings at {said}"
    assert str(told) == f"a loss of 0.0123 {rest}"


def test_a_suggestion_has_an_interval_where_there_are_several_answers():
    assert str(Suggestion(0.0276128, "ensemble", "so", (0.02, 0.04))) == (
        "lr 0.0276 (0.02 to 0.04): so"
    )
    assert str(Suggestion(0.0276128, "valley", "so", (0.0276128, 0.0276128))) == "lr 0.0276: so"

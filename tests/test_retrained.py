"""What a new training is expected to end at: from trainings near the answer, or from others."""

import math

import numpy as np
import pytest

from lrtune import search
from lrtune.analysis.scores import Scale
from lrtune.reporting import statements
from lrtune.results.runs import Run
from lrtune.schedules import parse
from lrtune.tuning.answer import NEAR, one_more
from lrtune.tuning.history import Measured
from lrtune.tuning.scoring import Scoring
from tests.worlds import World


def trained(loss, stderr=0.01):
    parts = {"selection": (loss, stderr, 90), "test": (loss, stderr, 90)}
    run = Run("", 0.1, parse("constant"))
    return Measured(run, "fine", 400, 400, "FINISHED", np.array([9.0]), parts)


LOGS, SHARES = Scoring(Scale(0.0), start=9.0), Scoring(Scale(None), start=9.0)


@pytest.mark.parametrize("scoring", [LOGS, SHARES])
def test_one_training_on_few_samples_promises_little(scoring):
    many, few = (one_more([trained(0.5, error)], scoring, 0.01) for error in (0.001, 0.2))
    assert few.low < many.low < many.expected < many.high < few.high
    assert [many.expected, few.expected] == pytest.approx([0.5, 0.5])


def test_trainings_that_agree_promise_more():
    one, three = (one_more([trained(0.5)] * count, LOGS, 0.1) for count in (1, 3))
    assert three.high / three.low < one.high / one.low
    assert (one.runs, three.runs) == (1, 3)


def test_a_floor_moves_the_interval_with_the_losses_and_is_its_end():
    plain, lifted = (
        one_more(
            [trained(floor + loss, 0.3) for loss in (0.1, 0.3)], Scoring(Scale(floor), 9.0), 0.1
        )
        for floor in (0.0, 5.0)
    )
    assert [lifted.low - 5, lifted.high - 5] == pytest.approx([plain.low, plain.high])
    assert one_more([trained(0.0, 0.3)], LOGS, 0.1).low == 0.0


def test_trainings_at_other_rates_are_told_as_such_and_promise_less():
    found = search(steps=400, evaluate=World(best=0.1, noise=0.02), budget=1.7)
    (whole,) = found.runs.loc[found.runs["stage"] == "fine", "lr"]
    assert abs(math.log(whole / found.lr)) > math.log(NEAR)
    assert not found.retrained.near
    assert "at other rates, as none was near" in statements.retrained(found)
    again = search(steps=400, evaluate=World(best=0.1, noise=0.02), around=0.1, budget=4)
    assert again.retrained.near
    assert "other rates" not in statements.retrained(again)
    told, sure = found.retrained, again.retrained
    assert told.high - told.low > sure.high - sure.low

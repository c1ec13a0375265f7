"""What Optuna is asked for, and what it is told."""

import logging

import optuna
import pytest

from lrtune.schedules import SCHEDULES, cosine
from lrtune.study import Fixed, Sampler

WITH_SPACE = [name for name, entry in SCHEDULES.items() if entry.space]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_grid_holds_the_defaults_at_each_rate(name):
    proposals = Sampler(SCHEDULES[name], seed=0).ask([0.01, 0.1])
    assert [rate for *_, rate in proposals] == [0.01, 0.1]
    assert {shape for _, shape, _ in proposals} == {SCHEDULES[name]()}
    assert [number for number, *_ in proposals] == [0, 1]


@pytest.mark.parametrize("name", WITH_SPACE)
def test_samples_lie_between_the_rates_and_the_seed_decides_them(name):
    def sampled(seed):
        sampler = Sampler(SCHEDULES[name], seed)
        asked = sampler.ask([0.01, 0.03, 0.1])
        sampler.tell({number: score for (number, *_), score in zip(asked, (2, 1, 3), strict=True)})
        return sampler.sample(4, 0.02, 0.05)

    first, again, other = sampled(0), sampled(0), sampled(1)
    assert first == again
    assert first != other
    assert all(0.02 <= rate <= 0.05 for *_, rate in first)


def test_nothing_is_sampled_where_there_is_nothing_to_search():
    assert Sampler(SCHEDULES["constant"], seed=0).sample(3, 0.01, 0.1) == []
    assert Fixed(cosine()).sample(3, 0.01, 0.1) == []


def test_a_score_that_is_not_finite_is_a_failure():
    sampler = Sampler(SCHEDULES["cosine"], seed=0)
    sampler.ask([0.01, 0.1, 1.0])
    sampler.tell({0: 1.0, 1: float("nan"), 2: float("inf")})
    assert [trial.state.name for trial in sampler._study.trials] == ["COMPLETE", "FAIL", "FAIL"]


def test_samples_move_towards_what_was_good():
    sampler = Sampler(SCHEDULES["polynomial"], seed=0)
    for _ in range(6):
        asked = sampler.sample(5, 0.01, 0.1)
        scores = {
            n: abs(float(repr(s).split("power=")[1].split(",")[0].rstrip(")")) - 1)
            for n, s, _ in asked
        }
        sampler.tell(scores)
    early = [trial.value for trial in sampler._study.trials[:10]]
    late = [trial.value for trial in sampler._study.trials[-10:]]
    assert sum(late) < sum(early)


def test_optunas_log_is_left_as_it_was(caplog):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.INFO):
            Sampler(SCHEDULES["cosine"], seed=0).ask([0.1])
        assert caplog.text == ""
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.disable_propagation()


def test_a_schedule_of_ones_own_is_proposed_as_it_is():
    own = Fixed(cosine())
    assert own.ask([0.1, 0.2]) == [(0, cosine(), 0.1), (1, cosine(), 0.2)]
    assert own.ask([0.4]) == [(2, cosine(), 0.4)]
    own.tell({0: 1.0})

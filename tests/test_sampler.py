"""The sampler of a schedule's parameters: what Optuna is asked for, and which scores it gets."""

import logging

import optuna
import pytest

from lrtune.schedules import SCHEDULES
from lrtune.tuning.candidates import ParameterSampler

WITH_SPACE = [name for name, entry in SCHEDULES.items() if entry.space]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_defaults_come_first(name):
    (number, shape), *_ = ParameterSampler(SCHEDULES[name], seed=0).ask(3)
    assert (number, shape) == (0, SCHEDULES[name]())


@pytest.mark.parametrize("name", WITH_SPACE)
def test_the_seed_decides_the_samples(name):
    def sampled(seed):
        sampler = ParameterSampler(SCHEDULES[name], seed)
        asked = sampler.ask(4)
        sampler.tell(
            {number: score for (number, _), score in zip(asked, (2, 1, 3, 4), strict=True)}
        )
        return [*asked, *sampler.ask(4)]

    first, again, other = sampled(0), sampled(0), sampled(1)
    assert first == again
    assert first != other
    assert [number for number, _ in first] == list(range(8))


def test_a_score_that_is_not_finite_is_a_failure():
    sampler = ParameterSampler(SCHEDULES["cosine"], seed=0)
    sampler.ask(3)
    sampler.tell({0: 1.0, 1: float("nan"), 2: float("inf")})
    assert [trial.state.name for trial in sampler._study.trials] == ["COMPLETE", "FAIL", "FAIL"]


def test_samples_move_towards_what_was_good():
    sampler = ParameterSampler(SCHEDULES["polynomial"], seed=0)
    for _ in range(6):
        scores = {
            n: abs(float(repr(s).split("power=")[1].split(",")[0].rstrip(")")) - 1)
            for n, s in sampler.ask(5)
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
            ParameterSampler(SCHEDULES["cosine"], seed=0).ask(2)
        assert caplog.text == ""
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.disable_propagation()

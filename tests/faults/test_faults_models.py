"""Law 7 on models that hypothesis makes up: what the user has stays as it is, whatever happens."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

import pytest
import zoo
from generated_models import plans
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn

import lrtune
from lrtune import Evaluator, Task
from lrtune.errors import EngineError, SearchError, TaskError

VERBS = {
    "range_test": lambda task, evaluate: lrtune.range_test(
        task, steps=8, seeds=2, evaluate=evaluate
    ),
    "search": lambda task, evaluate: lrtune.search(
        task, steps=6, coarse=(0.1, 0.01), fine=(1.0,), limits=(1e-2, 0.1), budget=16.0,
        evaluate=evaluate,
    ),
    "compare": lambda task, evaluate: lrtune.compare(
        task, 0.03, schedules=["constant"], steps=6, seeds=2, budget=6.0,
        limits=(0.001, 1.0), evaluate=evaluate,
    ),
}  # fmt: skip


class Stop(Exception):  # noqa: N818 - it is what a user's code may raise
    """An error of the user's own."""


@dataclass(frozen=True)
class Fault:
    """What breaks, at which of its calls."""

    where: str
    error: type[BaseException]
    at: int


FAULTS = st.builds(
    Fault,
    where=st.sampled_from(["nowhere", "loss", "loader"]),
    error=st.sampled_from([Stop, KeyboardInterrupt]),
    at=st.integers(1, 30),
)


class Breaking:
    """A loss, and three batches a pass, one of which raises where the fault says so."""

    def __init__(self, fault):
        self.fault, self.calls = fault, Counter()

    def _call(self, where):
        self.calls[where] += 1
        if (where, self.calls[where]) == (self.fault.where, self.fault.at):
            raise self.fault.error

    def loss(self, outputs, labels):
        self._call("loss")
        return nn.functional.cross_entropy(outputs, labels)

    def __iter__(self):
        inputs, labels = zoo.images()
        for rows in zoo.np.split(zoo.np.random.permutation(zoo.ROWS), zoo.ROWS // zoo.BATCH):
            self._call("loader")
            yield inputs[rows], labels[rows]


def ended(verb, plan, handed, engine, fault):
    """Hand it over; how that ended, in a word. What should not happen is raised."""
    breaking = Breaking(fault)
    val = [zoo.images()] if fault.at % 2 else None
    try:
        task = Task(handed, breaking, loss=breaking.loss, val=val)
    except (Stop, KeyboardInterrupt):
        return "broken off"
    except TaskError as error:
        told, frozen = str(error), "requires a gradient" in str(error)
        if not (plan.refused or frozen or "Stop" in told):
            raise
        return "broken off" if "Stop" in told else "refused"
    assert not plan.refused
    try:
        with suppress(SearchError):  # that no rate is good for it is an answer
            result = VERBS[verb](task, Evaluator(task, engine=engine))
            if getattr(result, "stopped", "") == "interrupted":
                return "broken off"
    except (Stop, KeyboardInterrupt):
        return "broken off"
    except EngineError:
        assert engine == "vmapped"
        return "refused"
    return "finished"


@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # torch's, of frozen
@pytest.mark.parametrize("verb", VERBS)
def test_a_generated_model_stays_as_it_is(verb, times, hands):
    count = Counter()

    @settings(max_examples=times(1000, 70))
    @given(plan=plans(), engine=st.sampled_from(["loop", "vmapped", "auto"]), fault=FAULTS)
    def law(plan, engine, fault):
        mine, handed = plan.brought()
        before, world = [zoo.photograph(one) for one in mine], zoo.world()
        try:
            end = ended(verb, plan, handed, engine, fault)
        finally:
            changed = zoo.differences(before, [zoo.photograph(one) for one in mine])
            moved = zoo.world() != world
            count.update(
                ["models"] + ["model changed"] * bool(changed) + ["random state changed"] * moved
            )
        event(end)
        count[end] += 1
        assert not changed
        assert not moved

    try:
        law()
    finally:
        hands(verb, count)
    assert count["finished"] > count["models"] / 5  # a law about refusals only says nothing
    assert count["broken off"]

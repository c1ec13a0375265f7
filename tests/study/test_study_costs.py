"""What runs cost is recorded with them: a resumed search spends what an uninterrupted one does."""

import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st

from lrtune import Evaluator, Run, compare, search
from lrtune.study.contents import open_study
from lrtune.study.study import Study
from lrtune.testing import bowl
from tests.planted import without_checkpoints
from tests.sampling import law
from tests.study.tasks import a_task


class Interrupted:
    """An evaluator that is interrupted at one of its calls, before or after it has trained."""

    def __init__(self, task, at, *, after=False, **more):
        self.inner, self.calls, self.at, self.after = Evaluator(task, **more), 0, at, after
        self.updates = 0

    def __call__(self, runs, steps, **more):
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise KeyboardInterrupt
        trace = self.inner(runs, steps, **more)
        self.updates += trace.cost.updates
        if self.calls == self.at:
            raise KeyboardInterrupt
        return trace


def answer(where, at=0, *, after=False, budget=3.0, task=a_task):
    """What a search with this budget ends with; how many calls trained; the study."""
    study, inner = Study(where, task()), Interrupted(task(), at, after=after)
    evaluate = study.evaluator(inner)
    found = search(task(), steps=40, budget=budget, evaluate=evaluate)
    ranked = compare(
        task(), found.lr, schedules=["step"], samples=0, steps=16, seeds=2, evaluate=evaluate
    )
    return found, ranked, study, inner


@law(few=3, cases=20, data=st.data())
def test_an_interrupted_search_ends_and_spends_like_one_that_was_not(data):
    """Interrupted at any call, once or several times, before or after it trained."""
    budget = data.draw(st.sampled_from([3.0, 4.0, 6.0]), label="budget")
    with tempfile.TemporaryDirectory() as folder:
        where, other = (f"sqlite:///{Path(folder)}/{name}.db" for name in ("one", "other"))
        found, ranked, _, inner = answer(where, budget=budget)
        assert not found.spending.empty
        for _ in range(data.draw(st.integers(1, 3), label="interruptions")):
            at, after = data.draw(st.integers(1, inner.calls)), data.draw(st.booleans())
            with suppress(KeyboardInterrupt), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*was interrupted after")
                answer(other, at, after=after, budget=budget)
        again, ranked_again, _, _ = answer(other, budget=budget)
        assert without_checkpoints(again) == without_checkpoints(found)
        assert again.spending.equals(found.spending)
        assert without_checkpoints(ranked_again) == without_checkpoints(ranked)


def test_a_study_spends_what_no_study_spends(where):
    plain = search(a_task(), steps=40, budget=3.0)
    found, _, _, inner = answer(where)
    assert found.spending.equals(plain.spending)
    assert without_checkpoints(found) == without_checkpoints(plain)
    remembered, _, _, trained = answer(where)
    assert remembered.spending.equals(plain.spending)
    assert trained.updates == 0
    assert inner.updates > 0


@pytest.mark.parametrize("engine", ["loop", "vmapped"])
def test_a_remembered_answer_returns_the_recorded_cost(where, engine):
    runs = [Run(f"{lr}/{seed}", lr, seed=seed) for lr in (0.03, 0.1, 3e4) for seed in (0, 1)]
    costs = []
    for _ in range(2):
        study = Study(where, a_task())
        evaluate = study.evaluator(Evaluator(a_task(), engine=engine, decide=study.decide), engine)
        traces = [evaluate(runs, 20, stage="s", until=until) for until in (5, 12, None)]
        costs.append([trace.costs for trace in traces])
    for one, two in zip(*costs, strict=True):
        assert one.equals(two)
        assert one["run"].tolist() == [run.name for run in runs]
        assert (one["val_samples"] > 0).any()


def test_the_costs_of_a_call_are_what_it_made(where):
    """The second session has the rows of the first 12 steps, but not the run itself."""
    run = [Run("a", 0.1)]
    Study(where, bowl()).evaluate(run, 20, stage="s", until=12)
    study = Study(where, bowl())
    inner = Interrupted(bowl(), 0)
    evaluate = study.evaluator(inner)
    assert evaluate(run, 20, stage="s", until=12).cost.updates == 12
    assert inner.updates == 0
    assert evaluate(run, 20, stage="s").cost.updates == inner.updates == 20


def test_a_plain_function_costs_the_steps_that_were_asked_for(where):
    def without_costs(runs, steps, **more):
        trace = Evaluator(bowl())(runs, steps, **more)
        return type(trace)(trace.steps, trace.frame, trace.runs, trace.validations)

    evaluate = Study(where, bowl()).evaluator(without_costs)
    runs = [Run("a", 0.1), Run("b", 0.2)]
    assert evaluate(runs, 10, stage="s").costs["updates"].tolist() == [10, 10]


CALLS = st.lists(
    st.tuples(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 6), st.booleans()), max_size=5
)


@law(few=8, cases=40, calls=CALLS)
def test_the_recorded_costs_add_up_to_the_updates_that_were_made(calls):
    made, where = 0, None
    with tempfile.TemporaryDirectory() as folder:
        for n, (names, until, checkpoint) in enumerate(calls):
            where = f"sqlite:///{Path(folder)}/x.db"
            if n % 2 == 0:
                study = Study(where, bowl())
                inner = Interrupted(bowl(), 0, checkpoints=study.checkpoints)
                evaluate = study.evaluator(inner)
            before = inner.updates
            runs = [Run(str(name), 0.1 + name / 100) for name in sorted(names)]
            evaluate(runs, 6, stage="s", until=until, checkpoint=checkpoint)
            made += inner.updates - before
        recorded = 0 if where is None else open_study(where).recorded["updates"].sum()
        assert recorded == made

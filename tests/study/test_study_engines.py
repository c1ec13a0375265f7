"""A choice of engine is kept: a search that goes on ends as one that nothing interrupted."""

import itertools
import random
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given
from hypothesis import strategies as st
from torch import nn

from lrtune import Evaluator, Run, range_test, search
from lrtune.errors import EngineError
from lrtune.study.study import Study
from lrtune.training.engines.fastest import ROUNDS, EngineConfig, Fastest
from lrtune.training.engines.stacked import VmappedModels
from tests.sampling import law
from tests.study.tasks import a_task

NAMES = ["engine for about 3 runs", "engine for about 5 runs"]
CHOICES = [EngineConfig(engine, 1).to_json() for engine in ("loop", "vmapped")]


class Bomb:
    """A loss that is interrupted at its nth call; with vmap, all runs share a call."""

    def __init__(self, at=0):
        self.at, self.calls = at, 0

    def __call__(self, outputs, labels):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(outputs, labels)


def a_clock(seed):
    """Time that passes by chance: another engine is the faster in each session."""
    draw = random.Random(seed)
    times = itertools.accumulate(iter(draw.random, None))
    return lambda _engine: next(times)


def answer(where, clock, engine, at=0, chosen=()):
    """What a session ends with; interrupted at a call of the loss, and begun again where it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fastest, "_now", a_clock(clock))
        task = a_task(loss=Bomb())
        study = Study(where, task)
        for name, way in chosen:
            study.decide(name, lambda way=way: way)
        inner = Evaluator(task, engine=engine, decide=study.decide)
        evaluate = study.evaluator(inner, engine)
        task._loss.calls, task._loss.at = 0, at
        sweep = range_test(task, steps=8, seeds=3, evaluate=evaluate)
        found = search(
            task, steps=40, coarse=(0.3, 0.1, 0.03), limits=(1e-3, 1.0), evaluate=evaluate,
        )  # fmt: skip
        told = [sweep.to_json(), found.to_json()]
        return (
            told,
            {name: study.decide(name, lambda: "") for name in NAMES},
            task._loss.calls,
            inner,
        )


@law(
    few=1,
    cases=4,
    phases=[Phase.generate],
    engine=st.sampled_from(["auto", "vmapped"]),
    clocks=st.lists(st.integers(), min_size=3, max_size=3, unique=True),
    cuts=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    chosen=st.sampled_from([(), *itertools.product(CHOICES, repeat=2)]),
)
def test_what_is_interrupted_ends_as_what_is_not_given_the_choice(engine, clocks, cuts, chosen):
    with tempfile.TemporaryDirectory() as folder:
        first, other = (f"sqlite:///{Path(folder)}/{name}.db" for name in ("first", "other"))
        known = list(zip(NAMES, chosen, strict=False))
        for clock, cut in zip(clocks, cuts, strict=False):
            with pytest.raises(KeyboardInterrupt):
                answer(first, clock, engine, 1 + int(cut * 40), known)
        told, choices, _, _ = answer(first, clocks[-1], engine, chosen=known)
        whole, again, calls, _ = answer(other, clocks[0], engine, chosen=list(choices.items()))
        assert calls > 40
        assert again == choices
        assert told == whole


def test_a_choice_is_made_once_and_told():
    with tempfile.TemporaryDirectory() as folder:
        where = f"sqlite:///{folder}/x.db"
        _, choices, _, inner = answer(where, 0, "auto")
        made = {name: way for name, way in choices.items() if way}
        assert made.keys() == {NAMES[0]}
        assert inner.engine_notes
        study = Study(where, a_task(loss=Bomb()))
        later = Evaluator(a_task(loss=Bomb()), engine="auto", decide=study.decide)
        for steps in (5, 6):
            later([Run(str(lr), lr) for lr in (0.1, 0.2, 0.3)], steps, stage="s")
        assert later.engine_notes == [
            f"about 3 runs: {EngineConfig.from_json(made[NAMES[0]])}, as was decided before"
        ]
        later([Run("a", 0.1), Run("b", 0.2)], 5, stage="two runs have no choice")
        assert len(later.engine_notes) == 1


class Kept(dict):
    """Choices without a study."""

    def __call__(self, name, make):
        if name not in self:
            self[name] = make()
        return self[name]


def test_a_benchmark_changes_no_number():
    """Its updates are thrown away."""
    runs, task = [Run(str(lr), lr) for lr in (0.1, 0.2, 0.3)], a_task()
    kept = Kept()
    trace = Evaluator(task, engine="auto", decide=kept)(runs, 30, stage="s")
    same = Evaluator(task, engine="auto", decide=Kept(kept))(runs, 30, stage="s")
    assert list(kept) == NAMES[:1]
    assert trace.frame.equals(same.frame)
    loop = Kept({NAMES[0]: CHOICES[0]})
    by_loop = Evaluator(task, engine="auto", decide=loop)(runs, 30, stage="s")
    assert by_loop.frame.equals(Evaluator(task)(runs, 30, stage="s").frame)


def test_a_horizon_that_is_too_short_for_a_benchmark_stays_with_the_loop():
    kept = Kept()
    evaluate = Evaluator(a_task(), engine="auto", decide=kept)
    evaluate([Run(str(lr), lr) for lr in (0.1, 0.2, 0.3)], ROUNDS, stage="s")
    config = EngineConfig.from_json(kept[NAMES[0]])
    assert config.engine == "loop"
    (note,) = evaluate.engine_notes
    assert note == f"3 runs: {config}, as there are too few steps to time anything else"


def test_a_vmapped_engine_that_refuses_leaves_its_runs_to_the_loop(monkeypatch):
    """As where a study was begun by another version of torch."""
    runs = [Run(str(lr), lr) for lr in (0.1, 0.2, 0.3)]
    asked = []

    def refuse(*_):
        asked.append(1)
        raise EngineError("no rule")

    monkeypatch.setattr(VmappedModels, "check", refuse)
    kept = Kept({NAMES[0]: CHOICES[1]})
    trace = Evaluator(a_task(), engine="auto", decide=kept)(runs, 9, stage="s")
    assert trace.frame.equals(Evaluator(a_task())(runs, 9, stage="s").frame)
    assert len(asked) == 1


def test_only_the_loop_goes_on_where_choices_are_kept():
    """Vmapped runs round by their neighbours: going on would not equal beginning anew."""
    runs = [Run(str(lr), lr) for lr in (0.1, 0.2, 0.3)]
    counts = {}
    for engine in ("loop", "vmapped"):
        loss = Bomb()
        task = a_task(loss=loss, val=None)
        evaluate = Evaluator(task, engine=engine, decide=Kept())
        evaluate(runs, 20, stage="s", until=10)
        before = loss.calls
        evaluate(runs[:1], 20, stage="s", until=20)
        counts[engine] = loss.calls - before
    assert counts["loop"] == 10
    assert counts["vmapped"] >= 20


@pytest.mark.parametrize(
    "text",
    [
        "", "loop", "{}", "[" * 9999, '"loop"', "null", '{"engine": "loop"}',
        '{"engine": "loop", "threads": 0}', '{"engine": "loop", "threads": true}',
        '{"engine": "loop", "threads": 1.0}', '{"engine": "Loop", "threads": 1}',
        '{"engine": ["loop"], "threads": 1}', '{"engine": "loop", "threads": 1, "more": 2}',
    ],
)  # fmt: skip
def test_a_choice_that_is_none_is_refused(text):
    with pytest.raises(EngineError, match=r'expected such as .\{"engine": "loop"'):
        EngineConfig.from_json(text)


@given(engine=st.sampled_from(["loop", "vmapped"]), threads=st.integers(1, 99))
def test_every_choice_can_be_read_again(engine, threads):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 8)
        read = EngineConfig.from_json(EngineConfig(engine, threads).to_json())
    assert read == EngineConfig(engine, min(threads, 8))


def test_threads_are_given_back():
    threads = torch.get_num_threads()
    kept = Kept({NAMES[0]: CHOICES[1]})
    Evaluator(a_task(), engine="auto", decide=kept)(
        [Run(str(n), 0.1) for n in range(3)], 3, stage="s"
    )
    assert torch.get_num_threads() == threads

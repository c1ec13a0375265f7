"""search(budget=): never more than was said, and an answer that does not depend on units."""

import contextlib
import dataclasses
import itertools
import logging
import math
import sys
import tempfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.optimizer import register_optimizer_step_post_hook

from lrtune import Evaluator, plan, search
from lrtune.analysis.rate_estimate import (
    INTERVAL_FACTOR,
    UNDERTRAINED_SHIFT,
    estimate_optimum,
    leading_rate,
    mask_unstable,
    remaining_loss,
    vertex,
)
from lrtune.errors import ArgumentError, SearchError
from lrtune.results import Trace, read
from lrtune.results.runs import grid
from lrtune.results.schema import COSTS, RUNS, TRACE, VALIDATIONS, as_table
from lrtune.schedules import parse
from lrtune.study.study import Study
from lrtune.task import memory
from lrtune.testing import bowl
from lrtune.training import ENGINES
from tests.planted import hashed_run
from tests.sampling import law

TASK = bowl()  # the fakes below only need its description
STEPS = 320


def parabola(best, height=1.0, width=2.0):
    """Final loss over rate: lowest at `best`, and `height` times more a decade away."""
    return lambda lr: 0.1 + height * (math.log10(lr / best) / width) ** 2


class Fake:
    """Runs fall from 2 to `end(lr)` along one curve, so a longer run goes on with a shorter one.

    Args:
        end: Rate to its final loss.
        fails: (rate, step) to whether it has diverged by then.
        scale: Every loss is multiplied by it.
        shift: And then this is added.
        val: Whether there are validation data.
    """

    def __init__(self, end, *, fails=lambda lr, step: False, scale=1.0, shift=0.0, val=True):
        self.end, self.fails, self.scale, self.shift, self.val = end, fails, scale, shift, val
        self.calls = []

    def __call__(self, runs, steps, *, stage, validate=None, until=None):
        until = until or steps
        self.calls.append((stage, [run.name for run in runs], until))
        frames, rows, validations = [], [], []
        for run in runs:
            fell = 1 - np.exp(-np.arange(until) / (steps / 20))
            losses = 2 - (2 - self.end(run.lr)) * fell
            bad = [step for step in range(1, until) if self.fails(run.lr, step)]
            if bad:
                losses = np.append(losses[: bad[0]], 1e9)
            losses = losses * self.scale + self.shift
            columns = {"run": run.name, "step": range(len(losses)), "lr": run.lr, "loss": losses}
            frames.append(pd.DataFrame(columns | {"batch": 0}))
            told = "DIVERGED" if bad else "FINISHED" if until == steps else "PAUSED"
            rows.append((run.name, run.lr, repr(run.schedule), run.seed, told, len(losses)))
            if validate != 0 and self.val and not bad:
                validations.append((run.name, until, "selection", losses[-1], np.nan, 7))
        return Trace(
            steps=steps,
            frame=as_table(pd.concat(frames), TRACE),
            runs=as_table(rows, RUNS),
            validations=as_table(validations, VALIDATIONS),
        )


def found(end, *, budget=1.0, steps=STEPS, seeds=3, **more):
    """What a search finds where the losses are known."""
    return search(TASK, steps=steps, budget=budget, seeds=seeds, evaluate=Fake(end, **more))


@contextlib.contextmanager
def counted_updates():
    """Counts the steps of every optimizer: those of the user's own, as tasks make copies of it."""
    made = []
    handle = register_optimizer_step_post_hook(lambda *_: made.append(1))
    try:
        yield made
    finally:
        handle.remove()


def first_choice():
    """Keeps the choices of an engine, as a study does."""
    kept = {}

    def decide(name, make):
        if name not in kept:
            kept[name] = make()
        return kept[name]

    return decide


@law(
    few=10,
    cases=60,
    curvature=st.floats(0.01, 1e4),
    steps=st.integers(80, 200),
    budget=st.floats(0.5, 4.0),
    seeds=st.integers(1, 3),
    engine=st.sampled_from(ENGINES),
    decides=st.booleans(),
    room=st.sampled_from([None, 1, 5]),
)
def test_no_more_updates_are_made_than_the_budget_pays_for_and_all_are_told(
    *, curvature, steps, budget, seeds, engine, decides, room
):
    """With every engine, its choice kept or not, and memory for all runs or only for some."""
    task = bowl(curvature)
    with pytest.MonkeyPatch.context() as patch, counted_updates() as made:
        if room is not None:
            short = room * memory.COPIES * task.nbytes
            patch.setattr(memory, "available_bytes", lambda _device: short)
        train = Evaluator(task, engine=engine, decide=first_choice() if decides else None)
        try:
            one = search(task, steps=steps, budget=budget, seeds=seeds, evaluate=train)
        except (ArgumentError, SearchError):
            assert len(made) <= budget * steps
            return
    assert 0 < len(made) == one.spending["spent"].sum() <= budget * steps


class Cut:
    """An evaluator that is interrupted at one of its calls, before or after it has trained."""

    def __init__(self, inner, at, *, after):
        self.inner, self.at, self.after = inner, at, after
        self.calls = self.lost = 0

    def price(self, runs, steps, until):
        return self.inner.price(runs, steps, until)

    def __call__(self, runs, steps, **more):
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise KeyboardInterrupt
        trace = self.inner(runs, steps, **more)
        if self.calls == self.at:
            self.lost = trace.cost.updates
            raise KeyboardInterrupt
        return trace


@law(
    few=10,
    cases=60,
    curvature=st.floats(0.01, 1e4),
    steps=st.integers(80, 200),
    seeds=st.integers(1, 3),
    engine=st.sampled_from(ENGINES),
    room=st.sampled_from([None, 1, 5]),
    at=st.integers(0, 6),
    after=st.booleans(),
)
def test_with_a_study_all_updates_are_told_and_a_resumed_search_keeps_to_its_budget(
    *, curvature, steps, seeds, engine, room, at, after
):
    """The second session tells what the first one paid; what it makes again, it tells apart."""
    task, budget, total, lost = bowl(curvature), 2.0, 0, 0
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        if room is not None:
            short = room * memory.COPIES * task.nbytes
            patch.setattr(memory, "available_bytes", lambda _device: short)
        for cut in (at, 0):
            study = Study(f"sqlite:///{folder}/x.db", task)
            train = Cut(Evaluator(task, engine=engine, decide=study.decide), cut, after=after)
            evaluate = study.evaluator(train, engine)
            with counted_updates() as made:
                try:
                    one = search(task, steps=steps, budget=budget, seeds=seeds, evaluate=evaluate)
                except KeyboardInterrupt:
                    assert cut
                    one = None
                except (ArgumentError, SearchError):
                    assert len(made) <= budget * steps + study.retrained
                    return
            total, lost = total + len(made), lost + train.lost
            if one is not None:
                spent = one.spending["spent"].sum()
                assert 0 < spent <= budget * steps
                assert total == spent + study.retrained + lost
                assert not study.retrained or (engine == "loop" and at)


class Billing(Fake):
    """Counts what it makes, and forgets or repeats runs as real evaluators may.

    Args:
        memory: Whether each next call goes on with the runs that it knows, or trains them anew.
        trial: Updates that a call with new runs throws away, at most, as the choice of an engine.
        late: Updates of a run that fails before that is noticed.
    """

    def __init__(self, end, *, memory, trial=0, late=0, **more):
        super().__init__(end, **more)
        self.memory, self.trial, self.late = itertools.cycle(memory), trial, late
        self.keeps, self.held, self.made = next(self.memory), {}, 0

    def price(self, runs, steps, until):
        del steps
        anew = [run for run in runs if run.name not in self.held]
        extra = self.trial if anew else 0
        made = [until - (self.held.get(run.name, 0) if self.keeps else 0) for run in runs]
        return [made[0] + extra, *made[1:]] if made else []

    def __call__(self, runs, steps, *, stage, validate=None, until=None):
        trace = super().__call__(runs, steps, stage=stage, validate=validate, until=until)
        prices, rows = self.price(runs, steps, until or steps), []
        for run, price, recorded in zip(runs, prices, trace.runs["steps"], strict=True):
            updates = min(price, max(recorded + self.late - self.held.get(run.name, 0), 0))
            rows.append((run.name, updates, 7 * (validate != 0), 0.1))
            self.held[run.name] = until or steps
        self.made += sum(row[1] for row in rows)
        self.keeps = next(self.memory)
        costs = as_table(rows, COSTS)
        return dataclasses.replace(trace, costs=costs)


@law(
    few=13,
    cases=80,
    best=st.floats(1e-5, 5),
    limit=st.floats(1e-3, 10.0),
    memory=st.lists(st.booleans(), min_size=1, max_size=5),
    trial=st.integers(0, 60),
    late=st.integers(0, 9),
    budget=st.floats(0.5, 4.0),
    seeds=st.integers(1, 3),
)
def test_whatever_an_evaluator_repeats_the_budget_is_kept_and_the_bill_is_true(
    *, best, limit, memory, trial, late, budget, seeds
):
    def fails(lr, step):
        return lr > limit and step > 5

    bill = Billing(parabola(best), memory=memory, trial=trial, late=late, fails=fails)
    try:
        one = search(TASK, steps=STEPS, budget=budget, seeds=seeds, evaluate=bill)
    except SearchError:
        assert bill.made <= budget * STEPS
        return
    assert 0 < bill.made == one.spending["spent"].sum() <= budget * STEPS
    assert one.spending["val_samples"].sum() > 0


def test_an_evaluator_that_begins_every_call_anew_still_gets_an_answer():
    """As a stack of models in a study does; the three segments of a longer run become one."""
    for budget in (1.0, 2.0, 4.0):
        bill = Billing(parabola(0.01), memory=[False], trial=12)
        one = search(TASK, steps=STEPS, budget=budget, evaluate=bill)
        plain = found(parabola(0.01), budget=budget)
        assert plain.lr / 1.3 < one.lr < plain.lr * 1.3
        assert one.verified == (budget >= 2)


@given(
    steps=st.integers(1, 5000),
    budget=st.floats(0.01, 50),
    seeds=st.integers(1, 9),
    coarse=st.integers(1, 12),
)
def test_a_plan_keeps_to_its_budget(steps, budget, seeds, coarse):
    try:
        meant = plan(steps, budget, seeds=seeds, coarse=coarse)
    except ArgumentError:
        return
    assert sum(meant.stages.values()) <= meant.updates <= budget * steps * (1 + 1e-6)
    assert 4 <= meant.short < meant.long <= steps
    assert 1 <= meant.seeds <= seeds


@given(steps=st.integers(200, 2000), budget=st.floats(0.5, 20), more=st.floats(1, 3))
def test_a_larger_budget_never_buys_fewer_seeds_or_no_verification(steps, budget, more):
    less, larger = plan(steps, budget), plan(steps, budget * more)
    assert less.seeds <= larger.seeds
    assert less.verify <= larger.verify


def test_the_budget_that_a_refusal_names_is_enough():
    with pytest.raises(ArgumentError, match=r"20 updates.* Give budget=(0\.\d+)") as told:
        plan(400, 0.05)
    needed = float(str(told.value).split("budget=")[2].split(" ")[0])
    assert plan(400, needed + 0.01).short == 4


@law(few=6, cases=40, best=st.floats(2e-4, 0.05), height=st.floats(0.3, 3), seeds=st.integers(1, 3))
def test_the_interval_holds_the_best_rate_of_a_smooth_curve(best, height, seeds):
    one = found(parabola(best, height), seeds=seeds, budget=2.0 * seeds)
    assert one.interval[0] <= best <= one.interval[1]
    assert UNDERTRAINED_SHIFT * best / 1.3 <= one.lr <= best * 1.3
    assert one.interval == pytest.approx(
        (one.lr / INTERVAL_FACTOR, one.lr * INTERVAL_FACTOR), rel=0.01
    )


@law(
    few=6,
    cases=40,
    best=st.floats(2e-4, 0.05),
    scale=st.sampled_from([1e-6, 0.5, 7.0, 1e4]),
    shift=st.sampled_from([-3.0, 5.0]),
)
def test_the_unit_of_the_loss_does_not_matter(best, scale, shift):
    """What is added to it does a little: it says how much of the loss is left."""
    plain = found(parabola(best), fails=lambda lr, step: lr > 30 * best)
    other = found(parabola(best), fails=lambda lr, step: lr > 30 * best, scale=scale)
    assert other.lr == pytest.approx(plain.lr, rel=0.02)
    raised = found(parabola(best), fails=lambda lr, step: lr > 30 * best, shift=shift)
    assert UNDERTRAINED_SHIFT * 0.98 <= raised.lr / plain.lr <= 1.02


@law(few=6, cases=40, best=st.floats(3e-4, 5e-3), place=st.floats(1.5, 8))
def test_ten_times_the_best_rate_is_ten_times_the_answer(best, place):
    low, high = found(parabola(best * place / 3)), found(parabola(10 * best * place / 3))
    assert high.lr == pytest.approx(10 * low.lr, rel=0.02)


@law(few=6, cases=40, limit=st.floats(3e-4, 3.0), step=st.integers(1, 40))
def test_a_rate_that_diverges_is_not_answered(limit, step):
    def end(lr):  # the higher the better, up to the limit
        return 0.5 - 0.05 * math.log10(lr)

    one = found(end, fails=lambda lr, s: lr > limit and s >= step, budget=3.0, seeds=1)
    assert one.lr <= limit


def test_an_edge_of_the_grid_is_not_an_optimum():
    one = found(parabola(2.0), budget=3.0)
    assert one.interval[0] <= 2.0 <= one.interval[1]
    assert any("added 1" in note for note in one.notes)


def test_money_that_growing_has_eaten_is_not_made_an_answer():
    with pytest.raises(SearchError, match="went into growing the grid"):
        search(TASK, steps=STEPS, budget=1.0, limits=(1e-16, 10.0), evaluate=Fake(parabola(1e-13)))


def test_every_rate_fails():
    with pytest.raises(SearchError, match="without diverging"):
        found(parabola(0.01), fails=lambda lr, step: step >= 5)


def test_all_longer_runs_fail():
    with pytest.raises(SearchError, match="trains for 54 steps without diverging"):
        found(parabola(0.01), fails=lambda lr, step: step >= 30)


def test_nothing_trains_when_the_arguments_are_wrong():
    def never(*_args, **_more):
        raise AssertionError("something trained")

    for wrong in (
        {"budget": 0.0},
        {"budget": math.nan},
        {"budget": 0.01},
        {"budget": 1.0, "horizon": 10},
        {"budget": 1.0, "fine": (1.0, 1.5)},
    ):
        with pytest.raises(ArgumentError):
            search(TASK, steps=STEPS, evaluate=never, **wrong)


def test_from_two_trainings_on_the_answer_is_trained_to_the_end():
    one = found(parabola(0.01), budget=2.0)
    assert one.verified
    assert one.check == "held"
    assert one.checks[["lr", "seed"]].to_numpy().tolist() == [[one.lr, 0]]
    assert f"Stable over all {STEPS} steps" in one.confidence


def test_what_was_not_trained_to_the_end_is_not_called_verified():
    one = found(parabola(0.01))
    assert not one.verified
    assert one.check == "not tried"
    assert "a budget of 2 or more trains it to the end" in one.confidence


def test_an_answer_that_fails_late_is_stepped_down():
    calm = found(parabola(0.01), budget=2.0)
    late = found(parabola(0.01), budget=2.0, fails=lambda lr, s: lr > 0.005 and s > 200)
    assert late.lr < calm.lr / 2
    assert late.check == "not held"
    assert any("lowered to" in note for note in late.notes)


def test_it_says_beforehand_what_it_will_spend(caplog):
    told = []

    class Late(Fake):
        def __call__(self, *args, **more):
            told.append(caplog.text)
            return super().__call__(*args, **more)

    with caplog.at_level(logging.INFO, "lrtune"):
        search(TASK, steps=STEPS, budget=1.0, evaluate=Late(parabola(0.01)))
    assert str(plan(STEPS, 1.0)) in told[0]


def test_without_validation_data_the_training_loss_decides():
    assert found(parabola(0.01), val=False).lr == pytest.approx(found(parabola(0.01)).lr, rel=0.1)


def test_what_goes_on_is_not_trained_again():
    fake = Fake(parabola(0.01))
    search(TASK, steps=STEPS, budget=1.0, evaluate=fake)
    asked = [(name, until) for _, names, until in fake.calls for name in names]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("budget", [2.0, math.inf])
def test_names_of_runs_are_only_labels(monkeypatch, budget):
    def answer():
        steep = Fake(parabola(0.01), fails=lambda lr, step: lr > 0.05 and step > 10)
        return search(TASK, steps=STEPS, budget=budget, evaluate=steep).to_json()

    plain = answer()
    for module in ("search", "budget_search"):
        monkeypatch.setattr(f"lrtune.tuning.{module}.grid", hashed_grid)
    assert answer() == plain


def hashed_grid(rates, seeds):
    return [hashed_run(run.name, run.lr, run.schedule, run.seed) for run in grid(rates, seeds)]


def test_it_is_saved_and_read_with_its_spending():
    one = found(parabola(0.01))
    again = read(one.to_json())[0]
    assert again.to_json() == one.to_json()
    assert list(again.spending["stage"]) == ["coarse", "between", "longer", "answer"]


def test_a_saved_result_recommends_the_same_under_other_constants(monkeypatch):
    """What a search recommends is stored; no constant is consulted when it is read."""
    one = found(parabola(0.01))
    saved = one.to_json()
    recommended = one.schedule, one.peak, one.snippet(), one.snippet("cosine")
    modules = [module for name, module in sys.modules.items() if name.startswith("lrtune.")]
    for module in modules:
        for name, value in list(vars(module).items()):
            if name.isupper() and isinstance(value, float):
                monkeypatch.setattr(module, name, value * 0.6)
            if name.isupper() and value == one.schedule:
                monkeypatch.setattr(module, name, "cosine")
    (again,) = read(saved)
    assert (again.schedule, again.peak) == recommended[:2]
    assert (again.snippet(), again.snippet("cosine")) == recommended[2:]


@given(
    best=st.floats(0.02, 0.5),
    height=st.floats(0.01, 100),
    rates=st.tuples(st.floats(0.001, 0.01), st.floats(1.0, 10)),
)
def test_the_vertex_of_a_parabola_is_found(best, height, rates):
    low, high = rates
    middle = math.sqrt(low * high)
    losses = {lr: height * math.log(lr / best) ** 2 for lr in (low, middle, high)}
    if min(losses, key=losses.get) == middle:
        assert vertex(losses, math.inf) == pytest.approx(best, rel=1e-6)
    else:
        assert vertex(losses, math.inf) in (low, high)


LOSSES = st.dictionaries(
    st.sampled_from([float(f"{10 ** (place / 2):.4g}") for place in range(-12, 3)]),
    st.one_of(st.floats(0.001, 3.0), st.just(math.inf)),
    min_size=1,
)


@given(losses=LOSSES, by=st.sampled_from([0.01, 100.0]))
def test_a_rate_to_go_on_from_lies_below_all_that_failed(losses, by):
    leader = leading_rate(losses, 1.0)
    finite = {rate: loss for rate, loss in mask_unstable(losses).items() if math.isfinite(loss)}
    assert (leader is None) == (not finite)
    if finite:
        assert finite[leader] <= 1.01 * min(finite.values())
        scaled = leading_rate({rate: loss * by for rate, loss in losses.items()}, by)
        assert scaled == leader or abs(finite[scaled] - finite[leader]) < 1e-9


@given(losses=LOSSES, start=st.floats(0.5, 3.0), more=st.floats(0, 5))
def test_the_rate_to_keep_is_never_above_the_bottom_and_lower_the_less_was_learned(
    losses, start, more
):
    losses = mask_unstable(losses)
    if all(map(math.isinf, losses.values())):
        return
    bottom, answer = vertex(losses, start), estimate_optimum(losses, start)
    failed = [rate for rate, loss in losses.items() if math.isinf(loss)]
    assert all(answer < rate for rate in failed)
    assert UNDERTRAINED_SHIFT * bottom * (1 - 1e-9) <= answer <= bottom
    assert min(losses) * (1 - 1e-9) <= bottom <= max(losses) * (1 + 1e-9)
    assert remaining_loss(losses, start) >= remaining_loss(losses, start + more)


def test_where_nothing_has_moved_the_highest_rate_leads():
    """All are level with the start, and the lowest loss is an accident."""
    shelf = {10.0**power: 2.3 + 0.001 * (power % 2) for power in (-6, -5, -4, -3)}
    assert leading_rate(shelf, error=0.01) == 1e-3
    assert leading_rate(shelf | {1e-2: 2.4}, error=0.01) == 1e-3
    assert leading_rate(shelf | {1e-2: 2.1}, error=0.01) == 1e-2
    assert leading_rate(shelf, error=0.0) == 1e-4, "without noise there is no shelf"


def test_where_high_rates_have_died_the_lowest_of_them_leads():
    shelf = {1e-4: 3.7, 1e-3: 2.304, 1e-2: 2.301, 1e-1: 2.303}
    assert leading_rate(shelf, error=0.01) == 1e-3
    assert leading_rate(shelf | {1e-4: 1.9}, error=0.01) == 1e-4


def test_the_snippet_makes_the_rates_that_it_promises():
    one = found(parabola(0.01))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=one.peak)
    scope = {"optimizer": optimizer}
    exec(one.snippet(), scope)  # noqa: S102 - what users paste
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scope["scheduler"].step()
    shape = parse(one.schedule)
    assert rates == pytest.approx([one.peak * shape(k / STEPS) for k in range(STEPS)], rel=1e-9)


def test_what_does_not_come_down_has_no_higher_peak():
    one = found(parabola(0.01))
    assert one.peak == pytest.approx(1.6 * one.lr, rel=0.01)
    for schedule, lr in (("constant", one.lr), ("cosine", one.peak), ("one-cycle", one.peak)):
        assert f"lr={lr:g}" in one.snippet(schedule)

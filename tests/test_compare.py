"""Comparisons: what they train, and what they keep, in worlds whose truth is known."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch.optim import SGD

import lrtune
from lrtune import Task, schedules
from lrtune.analysis.prior import prior
from lrtune.results import read
from lrtune.testing import Bowl, bowl
from lrtune.tuning.compare import plan_comparison
from tests.scored_worlds import EFFECTS, LOGS, LONG, SHARES, World, compare, row, search


def mine(progress):
    return 1 - progress**3


# --- what is trained ------------------------------------------------------------------------------


def test_runs_of_the_search_are_not_trained_again_and_rivals_have_their_seeds_and_ratios():
    world = World(EFFECTS)
    found = search(world)
    whole = found.runs[(found.runs["stage"] == "fine") & (found.runs["outcome"] == "FINISHED")]
    assert len(whole) == 3
    ranked = compare(world, found, budget=4)
    assert world.spent == 3 * 200
    assert ranked.cost == pytest.approx(3.0)
    reused = ranked.runs[ranked.runs["schedule"] == "trapezoid"]
    assert sorted(reused["loss"]) == sorted(whole["loss"])
    assert row(ranked, "trapezoid")["cost"] == 0
    assert row(ranked, "trapezoid")["final"] == pytest.approx(
        math.exp(np.log(whole["loss"]).mean())
    )
    peak, rates = row(ranked, "wsd")["lr"], whole.set_index("seed")["lr"] / found.lr
    for schedule, lr, seed, _ in world.trained():
        assert schedule == "wsd"
        assert lr / peak == pytest.approx(rates[seed], rel=0.02)
    assert peak / found.lr == pytest.approx(prior("wsd", 200).peak, rel=0.01)


def test_missing_runs_of_the_recommended_schedule_are_trained():
    world = World(EFFECTS)
    found = search(world, budget=2.4)
    assert (found.runs["stage"] == "fine").sum() < 3
    compare(world, found, budget=8)
    seeds = {name: {s for n, _, s, _ in world.trained() if n == name} for name in EFFECTS}
    assert len(seeds["wsd"]) == 3
    assert seeds["trapezoid"] < seeds["wsd"]


def test_a_training_far_from_the_recommended_peak_is_not_compared_with():
    world = World(EFFECTS)
    found = search(world)
    runs = found.runs.assign(lr=found.runs["lr"].where(found.runs["seed"] != 1, 4 * found.lr))
    compare(world, dataclasses.replace(found, runs=runs), budget=8)
    rates = {lr for _, lr, *_ in world.trained()}
    assert max(rates) < 2 * found.lr
    assert {seed for name, _, seed, _ in world.trained() if name == "wsd"} == {0, 2, 3}


@pytest.mark.parametrize(("budget", "seeds"), [(6, 3), (5.9, 2), (4, 2), (9, 3)])
def test_a_rival_gets_fewer_seeds_before_it_gets_none(budget, seeds):
    ranked = compare(World(EFFECTS), budget=budget)
    assert (ranked.seeds, row(ranked, "wsd")["runs"]) == (seeds, seeds)


@pytest.mark.parametrize("task", [LOGS, SHARES])
@pytest.mark.parametrize("samples", [0, 3])
@pytest.mark.parametrize("steps", [200, LONG])
@pytest.mark.parametrize("budget", [0.3, 1, 2, 4, 7.3])
def test_the_budget_is_never_exceeded_and_every_update_is_counted(task, samples, steps, budget):
    world = World(lambda text, steps: 0.1 * len(text))
    names = ["wsd", "rex", "polynomial"]
    ranked = compare(world, task=task, schedules=names, samples=samples, steps=steps, budget=budget)
    assert world.spent <= budget * steps
    assert ranked.cost == pytest.approx(world.spent / steps)
    assert ranked.table["cost"].sum() == pytest.approx(ranked.cost)
    assert ranked.spending["spent"].sum() == pytest.approx(ranked.cost)
    plan = plan_comparison(task, 0.1, schedules=names, samples=samples, steps=steps, budget=budget)
    assert plan.plan.cost <= budget * (1 + 1e-6)
    assert ranked.cost == pytest.approx(plan.plan.cost, abs=1e-6)


@pytest.mark.parametrize(("seeds", "budget"), [(2, 4), (3, 6), (5, 10)])
def test_by_default_the_budget_holds_one_rival_with_its_seeds(seeds, budget):
    plan = plan_comparison(LOGS, 0.1, schedules=["wsd", "rex"], steps=200, seeds=seeds)
    assert (plan.plan.budget, plan.rivals, plan.seeds) == (budget, 1, seeds)
    found = search(World(EFFECTS))
    assert plan_comparison(LOGS, found, schedules=["wsd"]).plan.budget == 4


@pytest.mark.parametrize("searched", [False, True])
@pytest.mark.parametrize(
    ("less", "said"),
    [(0, "1 of 2 rivals;"), (1, "1 of 2 rivals, with 2 of 3 seeds;")],
)
def test_the_budget_that_a_note_names_holds_all_that_was_asked_for(searched, less, said):
    found = search(World(EFFECTS)) if searched else 0.1
    given = {"schedules": ["wsd", "rex"], "steps": 200}
    one = 3 if searched else 6
    plan = plan_comparison(LOGS, found, budget=one - less, **given)
    (note,) = [note for note in plan.notes if note.startswith("the budget pays for")]
    assert note.startswith(f"the budget pays for {said}")
    enough = float(note.split("budget=")[1].split()[0])
    assert enough == one + 3
    more = plan_comparison(LOGS, found, budget=enough, **given)
    assert (more.rivals, more.seeds) == (2, 3)
    assert not any("budget" in note for note in more.notes)


@pytest.mark.parametrize("task", [LOGS, SHARES])
def test_of_two_schedules_the_one_whose_pairs_are_lower_shows_the_lower_loss(task):
    for key in range(12):
        world = World(dict.fromkeys(EFFECTS, 0.0), noise=0.5, seeds=1.0, key=key)
        ranked = compare(world, task=task, budget=6)
        scores = np.log(ranked.runs["loss"]) if task is LOGS else ranked.runs["loss"]
        means = scores.groupby(ranked.runs["schedule"]).mean()
        trained = ranked.table[ranked.table["runs"] > 0].set_index("schedule")
        shown, told = trained["final"], trained["estimate"]
        assert sorted(shown.index) == ["trapezoid", "wsd"]
        assert means.idxmin() == shown.idxmin() == told.idxmin() == trained["rank"].idxmin()
        if task is LOGS:
            ratio = np.log(shown["wsd"] / shown["trapezoid"])
            assert ratio == pytest.approx(means["wsd"] - means["trapezoid"])
            assert ratio == pytest.approx(told["wsd"] - told["trapezoid"])


def test_what_was_asked_for_is_trained_before_what_is_always_in_the_table_and_own_ones_first():
    own = {"mine": lambda p: 1 - p**3, "wsd": "wsd", "rex": "rex"}
    world = World(lambda text, steps: 0.1)
    compare(world, schedules=own, budget=12)
    order = list(dict.fromkeys(name for name, *_ in world.trained()))
    assert order[:2] == ["trapezoid", "mine"]
    assert set(order[2:]) <= {"wsd", "rex"}


def test_the_order_of_the_schedules_is_irrelevant():
    names = ["wsd", "rex", "cosine(floor=0.1)", "step"]
    world = World(lambda text, steps: 0.01 * len(text))
    one = compare(world, schedules=names, budget=15)
    other = compare(world, schedules=names[::-1], budget=15)
    assert one.to_json() == other.to_json()


def test_the_same_traces_lead_to_the_same_answer():
    found = search(World(EFFECTS))
    one, other = (compare(World(EFFECTS), found, samples=2) for _ in range(2))
    assert one.to_json() == other.to_json()


# --- horizons and samples -------------------------------------------------------------------------


def test_short_trainings_have_no_horizon_and_long_ones_choose_rivals_by_it():
    def late(text, steps):
        return {"linear": -0.2, "cosine": 0.2}.get(text, 0.1) if steps < LONG else EFFECTS[text]

    names = ["wsd", "linear", "cosine", "rex"]
    short = World(late, noise=0.01)
    assert compare(short, schedules=names, budget=7).horizon == 0
    world = World(late, noise=0.01)
    ranked = compare(world, schedules=names, steps=LONG, budget=6)
    assert LONG // 8 <= ranked.horizon <= LONG // 4
    at_horizon = [name for name, *_, steps in world.trained() if steps == ranked.horizon]
    assert sorted(at_horizon) == sorted([*names, "constant", "trapezoid"])
    whole = {name for name, *_, steps in world.trained() if steps == LONG}
    assert whole == {"trapezoid", "linear"}
    assert row(ranked, "linear")["horizon"] == pytest.approx(-0.3, abs=0.05)
    assert row(ranked, "cosine")["verdict"] == "not trained"
    assert row(ranked, "cosine")["low"] < row(ranked, "cosine")["estimate"]


def test_a_budget_that_holds_all_that_was_asked_for_needs_no_horizon():
    assert compare(World(EFFECTS), steps=LONG, budget=6).horizon == 0


def test_what_fails_at_the_horizon_is_not_trained_further_and_last():
    def fails(run, steps):
        return run.schedule.name == "wsd"

    world = World(EFFECTS, noise=0.01, fails=fails)
    ranked = compare(world, schedules=["wsd", "linear", "rex"], steps=LONG, budget=6)
    assert row(ranked, "wsd")["estimate"] == math.inf
    assert ranked.table["schedule"].iloc[-1] == "wsd"
    assert ("wsd", LONG) not in {(name, steps) for name, *_, steps in world.trained()}


@pytest.mark.parametrize(
    ("steps", "budget", "stage"), [(LONG, 9, "horizons"), (200, 14, "samples")]
)
def test_samples_of_parameters_are_tried_the_defaults_first_and_the_best_goes_on(
    steps, budget, stage
):
    calls = []

    def effect(text, at):
        calls.append(text)
        return -0.5 if "polynomial" in text and text != "polynomial" else 0.0

    world = World(effect, noise=1e-3)
    ranked = compare(world, schedules=["polynomial"], samples=5, steps=steps, budget=budget)
    tried = [text for text, *_ in world.trained(stage) if text.startswith("polynomial")]
    assert len(tried) == 6
    assert tried[0] == "polynomial"
    best = row(ranked, "polynomial")
    assert best["call"] != "polynomial"
    assert best["verdict"] == "recommended"
    if stage == "samples":
        chosen = {seed for *_, seed, _ in world.trained("samples")}
        assert not chosen & {seed for *_, seed, _ in world.trained("rivals")}


# --- time, Ctrl-C, and what is kept ---------------------------------------------------------------


def test_ctrl_c_ends_with_what_was_trained():
    names = ["wsd", "rex"]
    world = World(EFFECTS, interrupt=2)
    with pytest.warns(UserWarning, match="interrupted after 6.00 of 9.00 trainings"):
        ranked = compare(world, schedules=names, budget=9)
    assert (ranked.stopped, ranked.cost) == ("interrupted", 6.0)
    assert sorted(ranked.table["runs"]) == [0, 0, 0, 0, 3, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = compare(World(EFFECTS), schedules=names, budget=9)
    assert whole.stopped == "budget"
    one, other = (row(r, "trapezoid")["final"] for r in (ranked, whole))
    assert one == other


def test_without_time_nothing_is_begun():
    world = World(EFFECTS)
    ranked = compare(world, time_limit=1e-9)
    assert (ranked.stopped, world.calls) == ("time", [])


def test_progress_tells_the_recommended_schedule_so_far():
    told = []
    world = World(EFFECTS | {"wsd": -0.6})
    compare(world, schedules=["wsd", "constant"], budget=9, progress=told.append)
    assert [event.schedule for event in told] == ["trapezoid", "wsd"]
    assert [event.done for event in told] == [0, 6]
    assert {event.total for event in told} == {9}
    assert {event.stage for event in told} == {"rivals"}


def test_the_best_training_is_that_of_all_schedules_those_of_the_search_included():
    found = search(World(EFFECTS))
    worse, better = (compare(World(EFFECTS | {"wsd": e}), found) for e in (0.9, -0.9))
    assert worse.best == found.best
    assert better.best.schedule == "wsd"
    assert better.best.selected == better.runs["loss"].min()
    assert better.retrained.low < better.retrained.expected < better.retrained.high


def test_the_result_becomes_json_figures_and_trials():
    ranked = compare(World(EFFECTS), schedules=["wsd", mine], budget=9)
    (again,) = read(ranked.to_json())
    assert again.to_json() == ranked.to_json()
    assert json.loads(ranked.to_json())["kind"] == "comparison"
    for figure in (ranked.figure(), ranked.rates_figure(), ranked.losses_figure()):
        assert figure.data
    study = ranked.to_optuna()
    assert study.study_name == "lrtune-comparison"
    assert len(study.trials) == len(ranked.runs) == 9


# --- on real tasks --------------------------------------------------------------------------------


def test_on_a_real_task_it_hands_out_code_that_gives_the_rates_it_trained_with():
    ranked = lrtune.compare(bowl(4.0, noise=0.1), 0.2, schedules=["rex"], steps=48, seeds=2)
    assert row(ranked, "rex")["runs"] == 2
    optimizer = SGD([torch.zeros(1)], lr=ranked.lr, momentum=0.9)
    scope = {"optimizer": optimizer}
    exec(ranked.snippet(), scope)  # noqa: S102 - as a user would paste it
    rates = []
    for _ in range(48):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scope["scheduler"].step()
    schedule = schedules.parse(ranked.call)
    assert rates == pytest.approx([ranked.lr * m for m in schedules.multipliers(schedule, 48)])


def test_a_study_trains_nothing_twice(tmp_path):
    task, trained, answers = bowl(4.0, noise=0.1), [], []
    for _ in range(2):
        study = lrtune.Study(f"sqlite:///{tmp_path}/study.db", task)
        given = {"evaluate": study.evaluate}
        found = lrtune.search(task, steps=64, schedule="trapezoid", **given)
        answers.append(lrtune.compare(task, found, schedules=["wsd"], **given).to_json())
        trained.append(study.trained)
    assert trained[0] > 6
    assert trained[1] == 0
    assert answers[0] == answers[1]


def test_ones_own_training_loop_needs_no_task():
    ranked = compare(World(EFFECTS), task=None)
    assert row(ranked, "wsd")["runs"] == 3


def test_losses_whose_steps_hide_what_differs_get_a_note():
    bowls = (
        Task(
            Bowl(4.0).to(dtype),
            [None],
            objective=lambda m, _: m() + 1e6,
            optimizer=SGD,
            device="cpu",
        )
        for dtype in (torch.float32, torch.float64)
    )
    coarse, fine = (lrtune.compare(one, 0.2, schedules=["wsd"], steps=32, seeds=2) for one in bowls)
    (note,) = [note for note in coarse.notes if "float64" in note]
    assert note.startswith("near 1e+06 the losses have steps of 0.062, 3 % of their whole fall")
    assert not [note for note in fine.notes if "float64" in note]

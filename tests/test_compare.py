"""Comparisons in worlds whose truth is known, and on a real task."""

import dataclasses
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch.optim import SGD

import lrtune
from lrtune import Task, schedules
from lrtune.analysis.prior import prior
from lrtune.errors import ArgumentError, ScheduleError, SearchError
from lrtune.results import SearchResult, read
from lrtune.testing import Bowl, bowl
from lrtune.tuning.compare import plan_comparison
from lrtune.tuning.contest_plan import amount
from tests.scored_worlds import LOGS, SHARES, World, drawn_effects

ALWAYS = ["constant", "linear", "cosine"]
EFFECTS = {
    "trapezoid": 0.0,
    "wsd": 0.05,
    "constant": 0.3,
    "linear": 0.1,
    "cosine": 0.15,
    "rex": 0.1,
}
LONG = 4690


def compare(world, found=0.1, *, task=LOGS, **settings):
    given = {"schedules": ["wsd"], "budget": 6}
    given |= {} if isinstance(found, SearchResult) else {"steps": 200}
    return lrtune.compare(task, found, evaluate=world, **(given | settings))


def search(world, **settings):
    """What a search finds; its runs are counted, those that follow are not."""
    given = {"steps": 200, "schedule": "trapezoid", "min_gain": 0.0} | settings
    found = lrtune.search(LOGS, evaluate=world, **given)
    world.calls, world.updates = [], {}
    return found


def row(ranked, name):
    return ranked.table.set_index("schedule").loc[name]


# --- what costs nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, 0.5, 3.9])
def test_the_ranking_of_other_tasks_costs_nothing(budget):
    world = World(EFFECTS)
    ranked = compare(world, budget=budget)
    assert (world.calls, ranked.cost, ranked.best) == ([], 0.0, None)
    assert {*ALWAYS, "trapezoid", "wsd"} == set(ranked.table["schedule"])
    assert (ranked.schedule, ranked.winner, ranked.lr) == ("trapezoid", "", 0.1)
    known = ranked.table[ranked.table["tasks"] > 0]
    scores = [prior(name, 200).score for name in known["schedule"]]
    assert scores == sorted(scores)
    assert known["prior"].tolist() == pytest.approx(scores)
    assert set(ranked.table["verdict"]) == {"recommended", "not trained"}
    assert any("budget=4 holds one, with 2 seeds" in note for note in ranked.notes)


def test_a_schedule_of_ones_own_is_listed_without_a_rank_among_the_known():
    ranked = compare(World(EFFECTS), schedules={"mine": lambda p: 1 - p**3}, budget=0)
    mine = row(ranked, "mine")
    assert (mine["tasks"], math.isnan(mine["prior"]), math.isnan(mine["estimate"])) == (
        0,
        True,
        True,
    )
    assert ranked.table["schedule"].iloc[-1] in {"mine", *ALWAYS}


def test_what_seeds_can_show_is_said_before_anything_trains():
    plan = plan_comparison(LOGS, 0.1, schedules=["wsd"], steps=200, budget=6)
    assert plan.plan.cost == 6
    assert plan.notes[0] == "trained for all 200 steps, 3 seeds each, against trapezoid: wsd"
    reach = prior("wsd", 200).paired * 1.943 / math.sqrt(3)
    assert f"a difference of about {amount(reach, LOGS.loss_kind.scale)}" in plan.notes[1]
    assert compare(World(EFFECTS)).notes[:2] == plan.notes
    shares = plan_comparison(SHARES, 0.1, schedules=["wsd"], steps=200, budget=6)
    assert shares.notes[1].endswith("depends on the noise of this task")
    shares = plan_comparison(SHARES, search(World(EFFECTS)), schedules=["wsd"])
    assert "% of the fall in the final loss; smaller ones will be ties" in shares.notes[1]


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
    assert row(ranked, "trapezoid")["final"] == pytest.approx(whole["loss"].mean())
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


# --- what is said ---------------------------------------------------------------------------------


def test_a_schedule_that_is_clearly_better_is_recommended_instead_and_wins():
    ranked = compare(World(EFFECTS | {"wsd": -0.6}), budget=6)
    assert (ranked.schedule, ranked.call, ranked.winner) == ("wsd", "wsd", "")
    assert ranked.lr == row(ranked, "wsd")["lr"]
    assert row(ranked, "wsd")[["verdict", "estimate", "rank"]].tolist() == ["recommended", 0.0, 1]
    assert row(ranked, "trapezoid")["verdict"] == "behind"
    assert row(ranked, "trapezoid")["low"] > 0
    assert ranked.because.startswith("Trained for all 200 steps, wsd ends below trapezoid, by ")
    everyone = compare(World(EFFECTS | {"wsd": -0.6}, noise=0.02), budget=15)
    assert everyone.winner == "wsd"


def test_equal_schedules_are_a_tie_and_what_would_settle_it_is_said():
    ranked = compare(World(dict.fromkeys(EFFECTS, 0.0)))
    assert row(ranked, "wsd")["verdict"] == "tied"
    assert (ranked.schedule, ranked.winner) == ("trapezoid", "")
    assert any("to tell them apart takes about" in note for note in ranked.notes)


def replaced(task, budget, count, **more):
    found = []
    for key in range(count):
        world = World(dict.fromkeys(EFFECTS, 0.0), key=key, **more)
        found.append(compare(world, task=task, budget=budget).schedule != "trapezoid")
    return np.mean(found)


@pytest.mark.slow
@pytest.mark.parametrize("task", [LOGS, SHARES])
@pytest.mark.parametrize("budget", [6, 15])
def test_noise_replaces_the_recommended_schedule_no_more_often_than_stated(task, budget):
    # A 90 % interval for all rivals at once has 5 % on the side that counts.
    assert replaced(task, budget, 200) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)


def test_noise_replaces_the_recommended_schedule_in_few_of_thirty_comparisons():
    assert replaced(LOGS, 6, 30) <= 0.1


def statements(count, steps, budget, names):
    rows = []
    for key in range(count):
        effects = drawn_effects(EFFECTS, steps, key)
        world = World(effects, noise=prior("wsd", steps).paired, key=key)
        ranked = compare(world, schedules=names, steps=steps, budget=budget)
        rows.append(
            ranked.table.assign(
                truth=ranked.table["schedule"].map(effects) - effects[ranked.schedule]
            )
        )
    table = pd.concat(rows)
    return table[table["verdict"] != "recommended"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "budget", "names"),
    [(500, 9, ["wsd", "constant"]), (LONG, 6, ["wsd", "linear", "rex"])],
)
def test_statements_have_the_right_sign_and_intervals_cover(steps, budget, names):
    table = statements(200, steps, budget, names)
    behind = table[table["verdict"] == "behind"]
    assert len(behind) >= 100
    assert (behind["truth"] < 0).mean() <= 0.05
    stated = table[table["runs"] > 0]
    inside = (stated["low"] <= stated["truth"]) & (stated["truth"] <= stated["high"])
    assert 0.85 <= inside.mean() <= 0.97


def test_most_of_twenty_comparisons_have_the_right_sign_and_interval():
    """A sample of the slow law above."""
    table = statements(20, 500, 9, ["wsd", "constant"])
    stated = table[table["runs"] > 0]
    assert (stated.loc[stated["verdict"] == "behind", "truth"] < 0).mean() <= 0.1
    inside = (stated["low"] <= stated["truth"]) & (stated["truth"] <= stated["high"])
    assert inside.mean() >= 0.75


def test_what_a_seed_does_to_all_alike_changes_no_difference():
    columns = ["schedule", "estimate", "low", "high", "verdict"]
    quiet, loud = (compare(World(EFFECTS, seeds=s)).table[columns] for s in (0.0, 1.0))
    pd.testing.assert_frame_equal(quiet, loud, check_exact=False, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("constant", [-3.0, 1e3])
def test_a_constant_added_to_an_objective_changes_no_statement(constant):
    tables = [
        compare(World(EFFECTS | {"wsd": 0.8}, constant=c), task=SHARES).table
        for c in (0.0, constant)
    ]
    columns = ["schedule", "verdict", "estimate", "low", "high", "early"]
    pd.testing.assert_frame_equal(
        *(t[columns] for t in tables), check_exact=False, rtol=1e-5, atol=1e-6
    )
    assert "behind" in set(tables[0]["verdict"])


def test_no_constant_of_log_losses_applies_to_shares():
    ranked = compare(World(EFFECTS), task=SHARES)
    untrained = ranked.table[ranked.table["verdict"] == "not trained"]
    assert untrained["estimate"].isna().all()
    assert row(ranked, "constant")["prior"] > 0


def fails_as(name, seeds):
    return lambda run, steps: run.schedule.name == name and run.seed in seeds


def test_a_schedule_that_fails_is_behind_and_last():
    ranked = compare(World(EFFECTS, fails=fails_as("wsd", {1})))
    wsd = row(ranked, "wsd")
    assert (wsd["verdict"], wsd["failed"], wsd["runs"]) == ("behind", 1, 3)
    assert math.isnan(wsd["final"])
    assert wsd["estimate"] == math.inf
    assert "diverged in a whole training: wsd" in ranked.notes


def test_what_never_fails_is_recommended_instead_of_what_does():
    ranked = compare(World(EFFECTS, fails=fails_as("trapezoid", {0, 1})))
    assert (ranked.schedule, row(ranked, "trapezoid")["verdict"]) == ("wsd", "behind")


def test_when_every_run_fails_or_none_learns_that_is_said():
    with pytest.raises(SearchError, match="each of 6 whole trainings diverged"):
        compare(World(EFFECTS, fails=lambda run, steps: True))
    with pytest.raises(SearchError, match="nothing was learned"):
        compare(World(dict.fromkeys(EFFECTS, 4.0), seeds=0.0))


@pytest.mark.parametrize("rank_by", ["final", "early", "plateau"])
def test_the_table_is_sorted_by_what_is_asked_for(rank_by):
    effects = EFFECTS | {"wsd": 0.3, "linear": 0.8}
    ranked = compare(World(effects), schedules=["wsd", "linear"], budget=9, rank_by=rank_by)
    assert ranked.table["rank"].tolist() == [*range(1, len(ranked.table) + 1)]
    trained = ranked.table[ranked.table["runs"] > 0]
    column = {"final": "estimate", "early": "early", "plateau": "level"}[rank_by]
    values = trained[column].tolist()
    assert values == sorted(values, reverse=rank_by == "early")


# --- schedules of all kinds -----------------------------------------------------------------------


def mine(progress):
    return 1 - progress**3


def test_functions_calls_and_schedules_that_react_to_the_loss_take_part():
    given = ["wsd", "cosine(floor=0.1)", mine, schedules.ReduceOnPlateau(), lambda p: 1.0]
    ranked = compare(World(lambda text, steps: 0.1), schedules=given, budget=20)
    assert {"wsd", "cosine(floor=0.1)", "mine", "reduce-on-plateau"} < set(ranked.table["schedule"])
    assert (ranked.table["runs"] > 0).sum() >= 5
    with pytest.raises(ArgumentError):
        ranked.snippet("mine")
    with pytest.raises(ArgumentError, match="was not compared"):
        ranked.snippet("rex")
    assert "cosine" in ranked.snippet("cosine")


def test_names_are_labels_and_two_functions_of_one_name_stay_apart():
    own = {"a": lambda p: 1 - p, "b": lambda p: 1 - p / 2}
    world = World(lambda text, steps: {"a": -0.6, "b": 0.6}.get(text, 0.0), noise=0.01)
    ranked = compare(world, schedules=own, budget=9)
    assert ranked.schedule == "a"
    assert row(ranked, "b")["verdict"] == "behind"
    assert row(ranked, "a")["early"] > row(ranked, "b")["early"]


def test_the_recommended_schedule_is_no_rival_of_itself():
    ranked = compare(World(EFFECTS), schedules=["trapezoid", "wsd", "wsd"])
    assert ranked.table["schedule"].tolist().count("trapezoid") == 1
    assert ranked.table["schedule"].tolist().count("wsd") == 1


def test_a_search_for_a_function_of_ones_own_needs_it_again():
    world = World(lambda text, steps: 0.1)
    found = search(world, schedule=mine)
    with pytest.raises(ArgumentError, match="it has to be in schedules"):
        compare(world, found)
    ranked = compare(world, found, schedules=[mine, "wsd"])
    assert (ranked.schedule, row(ranked, "mine")["runs"]) == ("mine", 3)
    assert row(ranked, "mine")["cost"] < 3, "some are those of the search"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda progress: math.nan if progress > 0.5 else 1.0, "<lambda>"),
        (lambda progress: 0.5 - progress, "finite multiplier >= 0"),
        (lambda progress: 1 / progress, "ZeroDivisionError"),
    ],
)
def test_a_bad_schedule_is_named_before_anything_trains(bad, says):
    world = World(EFFECTS)
    with pytest.raises(ScheduleError, match="step") as raised:
        compare(world, schedules={"bad": bad})
    assert says in str(raised.value)
    assert world.calls == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"found": 0.0}, "lr must be a finite number > 0, got 0.0"),
        ({"found": 100.0}, "lies outside the limits"),
        ({"schedules": ["cosin"]}, "no schedule is called 'cosin'. Closest: cosine"),
        ({"schedules": "cosine"}, "expected a list"),
        ({"seeds": 1}, "seeds must be a whole number >= 2"),
        ({"steps": 0}, "steps must be a whole number >= 1"),
        ({"samples": -1}, "samples must be a whole number >= 0"),
        ({"budget": -1}, "expected a number of full trainings"),
        ({"budget": math.nan}, "expected a number of full trainings"),
        ({"rank_by": "best"}, "expected final, early, plateau"),
        ({"task": None, "evaluate": None}, "got neither a task nor evaluate"),
    ],
)
def test_wrong_settings_are_told_before_anything_trains(settings, says):
    world = World(EFFECTS)
    given = {"task": LOGS, "found": 0.1, "steps": 200, "evaluate": world} | settings
    with pytest.raises(ArgumentError) as raised:
        lrtune.compare(given.pop("task"), given.pop("found"), **given)
    assert says in str(raised.value)
    assert world.calls == []


def test_a_search_says_how_long_a_training_is():
    found = search(World(EFFECTS))
    with pytest.raises(ArgumentError, match="the search was for steps=200"):
        compare(World(EFFECTS), found, steps=100)


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

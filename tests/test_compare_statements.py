"""Comparisons: what they say is true as often as they say, whatever the schedules are."""

import math

import numpy as np
import pandas as pd
import pytest

import lrtune
from lrtune import schedules
from lrtune.analysis.prior import prior
from lrtune.errors import ArgumentError, ScheduleError, SearchError
from lrtune.tuning.compare import plan_comparison
from lrtune.tuning.contest_plan import amount
from tests.scored_worlds import (
    EFFECTS,
    LOGS,
    LONG,
    SHARES,
    World,
    compare,
    drawn_effects,
    row,
    search,
)

ALWAYS = ["constant", "linear", "cosine"]


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
    assert any(
        "budget=4 pays for one, trained for all 200 steps with 2 seeds" in note
        for note in ranked.notes
    )


def test_a_schedule_of_ones_own_is_listed_without_a_rank_among_the_known():
    ranked = compare(World(EFFECTS), schedules={"mine": lambda p: 1 - p**3}, budget=0)
    mine = row(ranked, "mine")
    assert mine["tasks"] == 0
    assert mine[["prior", "estimate"]].isna().all()
    assert ranked.table["schedule"].iloc[-1] in {"mine", *ALWAYS}


def test_what_seeds_can_show_is_said_before_anything_trains():
    plan = plan_comparison(LOGS, 0.1, schedules=["wsd"], steps=200, budget=6)
    assert plan.plan.cost == 6
    said = "trained for all 200 steps with 3 seeds each, against trapezoid: wsd"
    assert plan.planned == f"to be {said}"
    reach = prior("wsd", 200).paired * 1.943 / math.sqrt(3)
    assert f"a difference of about {amount(reach, LOGS.loss_kind.scale)}" in plan.notes[0]
    assert compare(World(EFFECTS)).notes[:2] == (said, *plan.notes)
    shares = plan_comparison(SHARES, 0.1, schedules=["wsd"], steps=200, budget=6)
    assert shares.notes[0].endswith("depends on the noise of this task")
    shares = plan_comparison(SHARES, search(World(EFFECTS)), schedules=["wsd"])
    assert "% of the fall in the final loss; smaller differences will be ties" in shares.notes[0]


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
    assert any("more trainings would show them" in note for note in ranked.notes)


def replaced(task, budget, count, **more):
    found = []
    for key in range(count):
        world = World(dict.fromkeys(EFFECTS, 0.0), key=key, **more)
        found.append(compare(world, task=task, budget=budget).schedule != "trapezoid")
    return np.mean(found)


@pytest.mark.slow
@pytest.mark.long
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
@pytest.mark.long
@pytest.mark.parametrize(
    ("steps", "budget", "names"),
    [(500, 9, ["wsd", "constant"]), (LONG, 6, ["wsd", "linear", "rex"])],
)
def test_statements_have_the_right_sign_and_intervals_cover(steps, budget, names):
    table = statements(250, steps, budget, names)
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
    with pytest.raises(SearchError, match="every whole training diverged"):
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

"""Published recipes: what they say, how they are scaled, and as candidates of a comparison."""

import json
import math
import re
from functools import partial

import pytest
import torch
import zoo
from hypothesis import given
from hypothesis import strategies as st

import lrtune
from lrtune import Run, Task, compare, train
from lrtune.errors import ArgumentError
from lrtune.schedules import (
    FEEDBACK,
    RECIPES,
    Recipe,
    Schedule,
    cosine,
    look_up_recipe,
    multipliers,
    parse,
    snippet,
)
from lrtune.schedules.recipes import RULES
from lrtune.tuning.compare import plan_comparison
from tests.planted import planted

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
SGD = partial(torch.optim.SGD, momentum=0.9)


def brought(optimizer=SGD, **options):
    return Task(
        zoo.model("linear"), zoo.vectors(), optimizer=optimizer, batch_size=8, device="cpu",
        **options,
    )  # fmt: skip


# --- what they say --------------------------------------------------------------------------------


def test_there_are_fifteen_recipes_at_least_and_each_is_cited():
    assert len(RECIPES) >= 15
    assert len({one.source for one in RECIPES.values()}) == len(RECIPES)
    for name, one in RECIPES.items():
        assert name == one.name
        assert re.search(r"arXiv:\d{4}\.\d{5}|github\.com/\w|Nature Methods", one.source), (
            one.source
        )
        assert re.search(r"section|table|appendix|figure|\.py", one.source), one.source
        assert 2012 < one.year < 2027
        assert one.authors[0].isupper()


@every_recipe
def test_a_recipe_is_sound(recipe):
    assert hasattr(torch.optim, recipe.optimizer)
    assert 0 < recipe.peak < 10
    assert recipe.batch is None or recipe.batch >= 16
    assert recipe.batch_unit in ("samples", "tokens")
    assert recipe.unit in ("epochs", "updates", "tokens")
    for moment in (recipe.momentum, recipe.beta1, recipe.beta2):
        assert moment is None or 0 < moment < 1
    assert (recipe.beta1 is None) or recipe.optimizer.startswith("Adam")
    assert recipe.weight_decay is None or 0 <= recipe.weight_decay < 1
    places = [recipe.warmup, *recipe.at, recipe.end or recipe.length]
    assert places == sorted(places)
    assert places[-1] <= recipe.length
    assert recipe.rule in RULES


def test_some_are_as_everybody_knows_them():
    resnet, goyal = RECIPES["resnet-imagenet"], RECIPES["goyal-imagenet"]
    assert (resnet.peak, resnet.batch, resnet.weight_decay, resnet.momentum) == (
        0.1,
        256,
        1e-4,
        0.9,
    )
    assert isinstance(resnet.schedule(), type(FEEDBACK["reduce-on-plateau"]()))
    rates = multipliers(goyal.schedule(90), 90)
    assert [round(rates[epoch], 6) for epoch in (5, 29, 30, 59, 60, 79, 80, 89)] == [
        1.0, 1.0, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001,
    ]  # fmt: skip
    detector = RECIPES["mask-rcnn-coco"]
    rates = multipliers(detector.schedule(160), 160)
    assert (rates[119], rates[120], detector.peak, detector.batch) == (1.0, 0.1, 0.02, 16)
    rates = multipliers(RECIPES["nnunet"].schedule(), 1000)
    assert rates == pytest.approx([(1 - epoch / 1000) ** 0.9 for epoch in range(1000)])
    rates = multipliers(RECIPES["gpt3-small"].schedule(), 3000)
    assert rates[-1] == rates[2600] == pytest.approx(0.1)
    assert rates[2500] > 0.1


def test_the_transformers_rate_is_that_of_its_formula():
    recipe, steps = RECIPES["transformer-wmt"], 100_000
    rates = [recipe.peak * recipe.schedule()(step / steps) for step in (4_000, 10_000, 99_999)]
    known = [512**-0.5 * step**-0.5 for step in (4_000, 10_000, 99_999)]
    assert rates == pytest.approx(known, rel=1e-3)


# --- laws -----------------------------------------------------------------------------------------


@every_recipe
@given(batches=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)))
def test_a_larger_batch_never_has_a_lower_peak(recipe, batches):
    small, large = sorted(batches)
    assert recipe.lr(small) <= recipe.lr(large)
    assert recipe.lr() == recipe.peak
    if recipe.rule != "none":
        assert recipe.lr(recipe.batch) == pytest.approx(recipe.peak)
        ratio = recipe.lr(4 * small) / recipe.lr(small)
        assert ratio == pytest.approx({"linear": 4.0, "square root": 2.0}[recipe.rule])


def test_the_rule_is_that_of_the_optimizer_and_none_where_nothing_is_known():
    rules = {one.optimizer: one.rule for one in RECIPES.values() if one.rule != "none"}
    assert rules == {"SGD": "linear", "Adam": "square root", "AdamW": "square root"}
    for one in RECIPES.values():
        assert (one.rule == "none") == (one.batch is None or one.batch_unit == "tokens")


@every_recipe
@given(steps=st.integers(1, 3000))
def test_a_schedule_fits_any_length_and_keeps_its_peak(recipe, steps):
    schedule = recipe.schedule(steps)
    assert recipe.phases(steps)
    if not isinstance(schedule, Schedule):
        assert repr(parse(repr(schedule))) == repr(schedule)
        return
    rates = multipliers(schedule, steps)
    assert 0 <= min(rates) <= max(rates) <= 1.0
    assert steps < 20 or max(rates) > 0.97
    assert parse(schedule.text) == schedule


@every_recipe
def test_a_longer_training_is_the_same_in_shares(recipe):
    schedule = recipe.schedule()
    if isinstance(schedule, Schedule):
        fine = multipliers(schedule, 9000)
        assert multipliers(schedule, 900) == fine[::10]
        rounded = multipliers(recipe.schedule(9000), 9000)
        assert sum(abs(a - b) > 0.05 for a, b in zip(fine, rounded, strict=True)) < 9


def test_phases_at_whole_steps_leave_as_schedulers_of_torch():
    code = snippet(RECIPES["goyal-imagenet"].schedule(2000), 0.1, 2000)
    assert "MultiStepLR" in code
    assert "SequentialLR" in code


def test_names_are_found_however_they_are_typed():
    assert look_up_recipe(" recipe:Mask_RCNN-coco ") is RECIPES["mask-rcnn-coco"]
    assert parse("recipe:deit-imagenet") == RECIPES["deit-imagenet"].schedule()
    with pytest.raises(ArgumentError, match=r"'resnet-imagnet'. Closest: resnet-imagenet"):
        parse("recipe:resnet-imagnet")
    with pytest.raises(ArgumentError, match="There are resnet-imagenet, "):
        look_up_recipe("zzz")


@pytest.mark.parametrize("batch", [0, -1, math.nan, "64"])
def test_a_batch_size_is_a_number(batch):
    with pytest.raises(ArgumentError, match="batch must be a finite number > 0"):
        RECIPES["goyal-imagenet"].lr(batch)


def test_they_are_public_and_train():
    assert lrtune.schedules.RECIPES is RECIPES
    assert isinstance(RECIPES["bert"], Recipe)
    recipe = RECIPES["wide-resnet-cifar"]
    trace = train(brought(), [Run("a", recipe.lr(8), recipe.schedule(40))], steps=40)
    assert trace.frame["lr"].iloc[-1] == pytest.approx(recipe.lr(8) * 0.2**3)


# --- as candidates --------------------------------------------------------------------------------


def test_a_recipe_is_compared_at_its_own_peak():
    task = brought()
    names = ["recipe:goyal-imagenet", "recipe:Mask_RCNN_coco"]
    ranked = compare(task, 0.05, schedules=names, steps=40, seeds=2, budget=9)
    table = ranked.table.set_index("schedule")
    assert table.loc["recipe:goyal-imagenet", "lr"] == pytest.approx(0.1 * 8 / 256, rel=0.01)
    assert table.loc["recipe:mask-rcnn-coco", "lr"] == pytest.approx(0.02 * 8 / 16, rel=0.01)
    assert (table.loc["recipe:goyal-imagenet", "runs"]) == 2
    runs = ranked.runs[ranked.runs["run"].str.startswith("recipe:goyal")]
    assert runs["lr"].tolist() == pytest.approx([0.1 * 8 / 256] * 2, rel=0.01)
    (note,) = (one for one in ranked.notes if one.startswith("recipe:goyal-imagenet"))
    assert note == (
        "recipe:goyal-imagenet: its peak, 0.1 for batches of 256, is 0.00313 for 8 by the linear "
        "rule (Goyal et al. 2017, arXiv:1706.02677, section 2.1)"
    )
    assert ranked.snippet("recipe:goyal-imagenet")


def test_its_schedule_at_the_usual_peak_stays_beside_it():
    """The recipe of an AdamW task is a cosine, at a peak that is not that of the cosine."""
    task = brought(partial(torch.optim.AdamW, weight_decay=0.05))
    plan = plan_comparison(task, 0.01, schedules=["recipe:deit-imagenet", "cosine"], steps=60)
    assert any("is 8.84e-05 for 8 by the square root rule" in note for note in plan.notes)
    ranked = compare(task, 0.01, schedules={"mine": cosine()}, steps=40, seeds=2, budget=0)
    assert "cosine" not in set(ranked.table["schedule"]), "one schedule under one name"
    both = ["recipe:swin-imagenet", "recipe:deit-imagenet", "recipe:swin-imagenet", "cosine"]
    ranked = compare(task, 0.01, schedules=both, steps=40, seeds=2, budget=0)
    assert {"recipe:swin-imagenet", "recipe:deit-imagenet", "cosine"} < set(
        ranked.table["schedule"]
    )
    assert len(ranked.table) == 6


def test_a_rate_of_another_kind_of_optimizer_is_not_taken():
    sgd, adam = brought(), brought(torch.optim.Adam)
    for task, name, peak in ((sgd, "bert", 0.05), (adam, "goyal-imagenet", 0.05)):
        plan = plan_comparison(task, peak, schedules=[f"recipe:{name}"], steps=60)
        (note,) = (one for one in plan.notes if one.startswith("recipe:"))
        assert "only its schedule is taken" in note
        lr = float(note.rpartition(" ")[2])
        assert 0.1 < lr / peak < 10
    plan = plan_comparison(adam, 0.01, schedules=["recipe:deit-imagenet"], steps=60)
    assert not any("only its schedule" in note for note in plan.notes), "of AdamW, so of Adam"


def test_without_a_task_the_published_peak_is_taken():
    trained = planted(lambda schedule, steps: 0.5)

    def evaluate(runs, steps, *, until, **more):
        return trained(runs, steps, **more)

    ranked = compare(
        None, 0.1, schedules=["recipe:wide-resnet-cifar", "recipe:nnunet"], steps=60, seeds=2,
        evaluate=evaluate,
    )  # fmt: skip
    table = ranked.table.set_index("schedule")
    assert table.loc["recipe:wide-resnet-cifar", "lr"] == 0.1
    assert "recipe:nnunet: its published peak, 0.01, is not scaled" in ranked.notes


def test_the_reference_of_a_search_is_never_mistaken_for_a_recipe():
    plan = plan_comparison(brought(), 0.1, schedules=["recipe:ddpm-cifar", "cosine"], steps=60)
    assert "against trapezoid" in str(plan)
    ranked = compare(brought(), 0.1, schedules=["recipe:densenet-cifar"], steps=30, budget=0)
    assert ranked.schedule == "trapezoid"


# --- the command ----------------------------------------------------------------------------------


def test_the_command_lists_them_within_eighty_columns(run):
    shown = run("recipes", "--batch", "64", "--steps", "2000")
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    for text in [*RECIPES, "0.025", "rise to 111; /10 at 667, 1333, 1778", "arXiv:2205.10287"]:
        assert text in shown.stdout


@every_recipe
def test_the_command_shows_all_of_one(run, recipe):
    shown = run("recipes", recipe.name)
    assert shown.exit_code == 0, shown.output
    words = " ".join(shown.stdout.split())
    for text in (recipe.title, recipe.authors, recipe.source, str(recipe.year), recipe.note):
        assert text in words
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_command_prints_json(run):
    shown = json.loads(run("recipes", "--batch", "64", "--steps", "2000", "--json").stdout)
    assert [one["name"] for one in shown["recipes"]] == list(RECIPES)
    assert (shown["batch"], shown["steps"]) == (64, 2000)
    for one in shown["recipes"]:
        assert one["lr"] == RECIPES[one["name"]].lr(64)
        parse(one["schedule"])


def test_an_unknown_recipe_is_wrong_usage(run):
    shown = run("recipes", "renset-imagenet")
    assert shown.exit_code == 2
    assert "Closest: resnet-imagenet" in shown.output
    compared = run("compare", "--schedules", "recipe:renset", "--lr", "0.1", "--steps", "40")
    assert compared.exit_code == 2
    assert "no recipe is called 'renset'" in " ".join(compared.output.split())


def test_the_command_compares_with_a_recipe(run):
    options = ["--lr", "0.1", "--steps", "60", "--seeds", "2", "--device", "cpu"]
    shown = run("compare", *options, "--schedules", "recipe:goyal-imagenet,recipe:bert")
    assert shown.exit_code == 0, shown.output
    assert "recipe:goyal-imagenet" in shown.stdout

"""search(): laws that hold in worlds which train nothing, and on bowls whose answer is known."""

import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import lrtune
from lrtune import Run, SearchResult, Task, Trace, search
from lrtune.errors import ArgumentError, SearchError
from lrtune.results import read
from lrtune.testing import Bowl, bowl
from lrtune.tuning.planning import make_plan
from lrtune.tuning.settings import sizes_of
from tests.sampling import law
from tests.worlds import Interrupted, World

STEPS = 400


def found_in(world: World, **options: object) -> SearchResult:
    return search(steps=STEPS, evaluate=world, **options)


bests = st.floats(-9.0, 0.0).map(math.exp)
worlds = st.builds(World, best=bests, noise=st.floats(0.0, 0.3), validates=st.booleans())


# --- what a search costs


@law(few=5, cases=100, world=worlds, budget=st.floats(0.5, 6.0))
def test_no_more_is_spent_than_the_budget_holds(world, budget):
    found = found_in(world, budget=budget)
    assert world.updates <= budget * STEPS + 1
    assert found.cost <= budget * (1 + 1e-6)
    assert found.spending["spent"].sum() == pytest.approx(found.cost)


@law(few=5, cases=100, world=worlds)
def test_every_run_goes_on_where_it_stopped(world):
    found_in(world)
    assert world.updates == sum(world.trained.values())


def test_the_plan_is_what_a_search_then_does():
    world = World()
    found = found_in(world, min_gain=0.0)
    planned = lrtune.plan(steps=STEPS)
    whole = found.runs[found.runs["stage"] == "fine"]
    assert len(whole) == planned["fine"].runs
    assert (whole["until"] == STEPS).all()
    assert found.cost <= planned.cost + 0.3  # what is left over lets the grid grow


def test_whole_trainings_have_a_seed_each():
    whole = found_in(World()).runs.query("stage == 'fine'")
    assert whole["seed"].tolist() == list(range(len(whole)))


# --- what it answers


@law(few=5, cases=100, best=bests, curvature=st.floats(0.05, 0.5))
def test_the_answer_lies_near_the_best_peak(best, curvature):
    found = found_in(World(best=best, curvature=curvature))
    assert best / 6 < found.lr < best * 6
    assert found.interval[0] <= found.lr <= found.interval[1]
    assert found.schedule == "trapezoid"


@law(
    few=5,
    cases=100,
    world=worlds,
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    shift=st.floats(-1e3, 1e3),
)
def test_units_of_the_loss_change_nothing(world, scale, shift):
    first = found_in(world)
    other = World(**{**vars(world), "calls": [], "trained": {}, "updates": 0})
    other.scale, other.shift = scale, shift * scale
    again = found_in(other)
    assert again.lr == pytest.approx(first.lr, rel=1e-3)
    assert again.interval == pytest.approx(first.interval, rel=1e-3)
    assert again.runs["lr"].tolist() == pytest.approx(first.runs["lr"].tolist(), rel=1e-3)


@law(few=5, cases=100, world=worlds)
def test_the_same_search_gives_the_same_answer(world):
    first = found_in(world)
    again = World(**{**vars(world), "calls": [], "trained": {}, "updates": 0})
    assert found_in(again).to_json() == first.to_json()


def test_a_rate_that_fails_is_not_answered_and_has_its_verdict():
    found = found_in(World(best=0.05, edge=0.08))
    assert found.lr < 0.08
    verdicts = found.frame.set_index("lr")["verdict"]
    assert (verdicts[verdicts.index > 0.08] == "diverged").all()
    assert set(verdicts) <= {"too low", "good", "high", "diverged"}


def test_the_grid_grows_while_its_best_is_at_the_edge():
    found = found_in(World(best=5e-6))
    assert found.frame["lr"].min() < 1e-5
    assert any("so 1e-05 was tried as well" in note for note in found.notes)


def test_one_step_shows_nothing():
    with pytest.raises(SearchError, match="nothing was learned within 1 step at any rate"):
        search(bowl(4.0), steps=1, rate_only=True)


def test_a_rate_that_is_given_leaves_nothing_to_find_before_whole_trainings():
    with pytest.raises(ArgumentError, match="nothing is trained before them"):
        found_in(World(), around=0.1, rate_only=True)
    with pytest.raises(ArgumentError, match=r"Give budget=1 or more"):
        found_in(World(), around=0.1, budget=0.9)


@law(few=5, cases=100, low=st.floats(1e-5, 1e-3), width=st.floats(1.01, 300))
def test_no_rate_leaves_the_limits(low, width):
    limits = (low, low * width)
    found = found_in(World(best=low * width), limits=limits, coarse=[low * width**0.5])
    told = [*found.runs.query("stage != 'before'")["lr"], found.lr, *found.interval]
    assert min(told) >= limits[0]
    assert max(told) <= limits[1]


def test_a_best_rate_at_a_limit_ends_the_interval_there_with_a_word():
    found = found_in(World(best=3.0), limits=(1e-5, 0.1))
    assert found.interval[1] <= 0.1
    assert any(warning.endswith("widen `limits`.") for warning in found.warnings)


def test_the_best_training_is_the_one_with_the_lowest_loss_on_what_selects():
    found = found_in(World(noise=0.2))
    whole = found.runs.query("stage == 'fine'")
    best = whole.loc[whole["loss"].idxmin()]
    assert (found.best.lr, found.best.seed) == (best["lr"], best["seed"])
    assert found.best.loss == best["test"]
    assert (found.best.samples, found.best.of) == (100, 200)


def test_without_validation_data_the_training_loss_selects_and_nothing_is_stated():
    found = found_in(World(validates=False, noise=0.2))
    assert math.isnan(found.best.loss)
    assert found.best.selected == found.runs.query("stage == 'fine'")["train"].min()


def test_a_constant_rate_can_be_searched():
    found = found_in(World(), schedule="constant")
    assert found.schedule == "constant"
    assert set(found.runs["schedule"]) - {"untrained()"} == {"constant"}


def test_the_whole_grid_of_the_lecture_is_trained_when_asked_for():
    found = found_in(World(), fine="grid")
    whole = found.runs.query("stage == 'fine'")
    assert len(whole) >= 13
    factors = whole["lr"].iloc[:13].to_numpy() / whole["lr"].iloc[2]
    assert factors == pytest.approx(np.arange(0.8, 2.05, 0.1), rel=0.01)


def test_the_present_setting_is_the_first_whole_training():
    world = World()
    found = found_in(world, current=(0.01, "cosine"))
    stages = [stage for stage, *_ in world.calls]
    assert stages.index("current") < stages.index("fine")
    row = found.runs.query("stage == 'current'").iloc[0]
    assert (row["lr"], row["schedule"], row["until"]) == (0.01, "cosine", STEPS)
    assert any("present setting" in note for note in found.notes)


def test_a_known_rate_takes_the_place_of_the_coarse_grid():
    world = World(best=0.02)
    found = found_in(world, around=0.02)
    assert "coarse" not in set(found.runs["stage"])
    assert 0.005 < found.lr < 0.08


def test_it_ends_with_the_first_answer_when_that_is_all_that_is_asked():
    found = found_in(World(), rate_only=True)
    assert found.best is None
    assert found.stopped == "rate only"
    assert set(found.runs["stage"]) == {"before", "coarse"}


def test_it_ends_when_more_would_gain_little():
    eager, patient = (found_in(World(), budget=12, min_gain=gain) for gain in (0.1, 0.0))
    assert (eager.stopped, patient.stopped) == ("gain", "budget")
    assert eager.cost < patient.cost


# --- no answer where there is none


@pytest.mark.parametrize("validates", [True, False])
def test_nothing_learned_is_no_answer(validates):
    with pytest.raises(SearchError, match="nothing was learned"):
        found_in(World(learns=False, validates=validates))


def test_no_rate_trains():
    with pytest.raises(SearchError, match="diverging"):
        found_in(World(edge=0.0))


def test_a_loss_too_small_for_any_rate_is_no_answer():
    task = Task(
        Bowl(4.0), [None], objective=lambda model, _: 1e-8 * model(), optimizer=torch.optim.SGD,
        device="cpu",
    )  # fmt: skip
    with pytest.raises(SearchError, match="widen `limits`"):
        search(task, steps=100, schedule="constant")


def test_a_constant_schedule_has_a_rate_and_a_single_training_is_told_as_one():
    found = found_in(World(), schedule="constant", budget=3.0, current=(0.02, "cosine"))
    assert (found.runs["stage"] == "fine").sum() == 1
    assert "1 whole training followed at the rate " in found.because
    assert found.confidence.startswith("90 % interval of the best rate: ")
    assert (
        "1 whole training besides that of your present setting, which did not" in found.confidence
    )
    assert re.search("; the training at the peak [0-9.]+ ended at [0-9.]+: yours", found.notes[-1])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rate_only": True}, "as only the rate was asked for"),
        ({"time_limit": 1e-9}, "as the time limit left no room for one"),
        ({"budget": 0.9}, "as the budget did not allow one: give a larger one"),
    ],
)
def test_without_a_whole_training_it_says_why(options, why):
    found = found_in(World(), **options)
    assert f"No whole training was made to verify it, {why}." in found.confidence
    said = [f"No whole training was made to verify the answer, {why}."]
    assert list(found.warnings) == ([] if "rate_only" in options else said)


def test_an_answer_that_was_not_trained_itself_says_so():
    found = found_in(World(noise=0.2))
    whole = found.runs.query("stage == 'fine'")["lr"]
    trained = any(abs(lr / found.lr - 1) < 0.02 for lr in whole)
    assert ("itself was not trained" in found.confidence) == (not trained)
    grid = found_in(World(), fine=[1.0], budget=2)
    assert f"The peak {grid.lr:.3g} itself was not trained" not in grid.confidence


@law(few=10, cases=100, factor=st.floats(0.1, 5.0))
def test_a_best_training_at_the_edge_of_several_peaks_is_told(factor):
    world = World(best=0.01, noise=0.1)
    found = found_in(world, around=0.01 * factor, budget=5, min_gain=0)
    whole = found.runs.query("stage == 'fine' and outcome == 'FINISHED'")
    best = whole.loc[whole["loss"].fillna(whole["train"]).idxmin(), "lr"]
    said = [note for note in found.notes if "peak that was tried" in note]
    edges = {"lowest": whole["lr"].min(), "highest": whole["lr"].max()}
    at = [edge for edge, rate in edges.items() if rate == best and whole["lr"].nunique() > 2]
    assert len(said) == len(at)
    assert all(f"had the {edge} peak that was tried" in said[0] for edge in at)


@pytest.mark.parametrize(("lr", "word"), [(0.03, "best"), (1e-5, "worst")])
def test_the_present_setting_is_held_against_the_whole_trainings(lr, word):
    found = found_in(World(curvature=0.3, best=0.03), current=(lr, "cosine"), around=0.3)
    assert found.notes[-1].endswith(f"yours is the {word}")
    assert "on the selection part of the validation data" in found.notes[-1]


@law(few=5, cases=50, high=st.floats(0.1, 1.0))
def test_no_answer_leaves_the_limits_by_rounding(high):
    found = found_in(World(best=3.0), limits=(1e-4, high))
    assert max(found.lr, *found.interval, *found.good_range) <= high


# --- a schedule of the user's own


def cosine(progress: float) -> float:
    """A function of the user's own; it has the name of a schedule that lrtune knows."""
    return (1 - progress) ** 3


@pytest.mark.parametrize("mine", [cosine, lambda progress: (1 - progress) ** 3])
def test_a_function_of_the_users_own_is_handed_out_where_it_is_at_hand(mine):
    found = found_in(World(), schedule=mine)
    names = {"optimizer": torch.optim.SGD([torch.zeros(1)], lr=found.lr)}
    exec(found.snippet(), names)  # noqa: S102 - as a script that it was pasted into
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=found.lr)
    both = (names["optimizer"], names["scheduler"]), (optimizer, found.scheduler(optimizer))
    for step in range(5):
        for one, scheduler in both:
            assert one.param_groups[0]["lr"] == pytest.approx(found.lr * mine(step / STEPS))
            one.step()
            scheduler.step()


def test_a_file_does_not_hold_a_function_of_the_users_own_and_says_what_to_do():
    (found,) = read(found_in(World(), schedule=lambda progress: 1 - progress).to_json())
    for use in (found.snippet, lambda: found.scheduler(torch.optim.SGD([torch.zeros(1)], lr=1.0))):
        with pytest.raises(ArgumentError, match=r"'<lambda>' is a function of your own.*LambdaLR"):
            use()
    assert "cosine" in found.snippet("cosine"), "another schedule can be had"


def test_a_schedule_that_reacts_to_the_loss_has_no_code():
    found = search(bowl(4.0), steps=60, schedule="reduce-on-plateau")
    for one in (found, *read(found.to_json())):
        with pytest.raises(ArgumentError, match="reacts to the loss"):
            one.snippet()


def test_what_was_kept_is_printed_in_a_line():
    found = found_in(World(noise=0.1))
    for one in (found.best, found.retrained):
        assert re.fullmatch(r"[ -~]{30,100}", str(one))
        assert not re.search(r"\d\.\d{6}", str(one)), "rounded"
    assert "np." not in repr(search(bowl(4.0), steps=60).retrained)


# --- interruptions


def test_an_interrupted_search_that_has_learned_nothing_passes_the_interrupt_on():
    whole = World(learns=False)
    with pytest.raises(SearchError, match="nothing was learned"):
        found_in(whole)
    for at in range(len(whole.calls)):
        with pytest.raises(KeyboardInterrupt):
            search(steps=STEPS, evaluate=Interrupted(World(learns=False), at))


@law(few=5, cases=100, at=st.integers(0, 30), noise=st.floats(0.0, 0.3))
def test_an_interrupted_search_gives_what_it_has_or_passes_the_interrupt_on(at, noise):
    whole = found_in(World(noise=noise))
    interrupted = Interrupted(World(noise=noise), at)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = search(steps=STEPS, evaluate=interrupted)
        except KeyboardInterrupt:
            assert not caught
            return
    if interrupted.calls <= at:
        assert found.to_json() == whole.to_json()
    else:
        assert found.stopped == "interrupted"
        assert len(caught) == 1
        assert set(found.runs["run"]) <= set(whole.runs["run"])


def test_an_interrupt_passes_through_where_the_first_answer_had_learned_nothing():
    """What was trained so far is no evidence that nothing can be learned, nor is it an answer."""
    whole = World(learns=False)
    with pytest.raises(SearchError, match="nothing was learned"):
        found_in(whole)
    first = [stage for stage, *_ in whole.calls].index("fine")  # the first answer stands by then
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt) as caught:
            found_in(Interrupted(World(learns=False), first))
    assert isinstance(caught.value.__cause__, SearchError)


def test_a_time_limit_begins_nothing_that_would_not_finish():
    found = found_in(World(), time_limit=1e-9)
    assert found.stopped == "time"
    assert found.best is None


# --- what is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"budget": 0.01}, "Give budget=0.15 or more"),
        ({"coarse": []}, "empty"),
        ({"coarse": [100.0]}, "limits"),
        ({"fine": "all"}, "grid"),
        ({"fine": [-1.0]}, "fine factor"),
        ({"current": (50.0, "cosine")}, "outside the limits"),
        ({"around": 0.0}, "around"),
        ({"schedule": "cosinus"}, "cosinus"),
        ({"min_gain": -1.0}, "min_gain"),
        ({"seed": -1}, "seed"),
        ({"current": 0.05}, r"current=0.05; expected your present setting, \(lr, schedule\)"),
        ({"current": (0.05, "cosine", 3)}, "current="),
        ({"current": ("0.05", "cosine")}, "the current rate must be a finite number"),
        ({"time_limit": "20m"}, "time_limit must be a finite number > 0, got '20m'"),
        ({"time_limit": 0}, "time_limit must be a finite number > 0, got 0"),
        ({"budget": "4"}, "budget must be a finite number > 0, got '4'"),
        ({"budget": True}, "budget must be a finite number > 0, got True"),
        ({"min_gain": "0.1"}, "min_gain='0.1'; expected a number"),
        ({"limits": 0.1}, "limits=0.1; expected the lowest and the highest rate"),
        ({"limits": (1e-7, 1.0, 10.0)}, "limits="),
        ({"coarse": 0.1}, "coarse=0.1; expected rates such as"),
        ({"coarse": "0.1"}, "coarse='0.1'; expected rates such as"),
        ({"fine": 0.5}, "fine=0.5; expected factors such as"),
        ({"progress": 3}, "progress=3; expected a function that takes an Event"),
        ({"evaluate": 3}, "evaluate=3; expected a function that trains runs"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_trains(options, words):
    world = World()
    with pytest.raises(ArgumentError, match=words):
        search(**{"steps": STEPS, "evaluate": world} | options)
    assert not world.calls


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            lambda runs, steps: {run.name: [1.0] for run in runs},
            "returned {'untrained/0'.*Trace.of",
        ),
        (lambda runs, steps: None, "returned None; expected an lrtune.Trace"),
        (
            lambda runs, steps: Trace.of([Run("a", 0.1)], steps, {"a": [1.0] * steps}),
            "without the runs untrained/0; expected every run",
        ),
    ],
)
def test_an_evaluator_that_returns_something_else_is_told_what_was_expected(made, words):
    with pytest.raises(ArgumentError, match=words):
        search(steps=STEPS, evaluate=lambda runs, steps, **_: made(runs, steps))


def test_a_plan_refuses_what_the_search_would_refuse():
    for wrong in ({"coarse": 0.1}, {"fine": 0.5}, {"budget": "4"}, {"fine": "all"}):
        with pytest.raises(ArgumentError):
            lrtune.plan(steps=STEPS, **wrong)


def test_a_budget_is_a_float():
    assert isinstance(found_in(World(), budget=2).budget, float)


def test_a_search_needs_a_task_or_an_evaluator():
    with pytest.raises(ArgumentError, match="neither a task nor evaluate"):
        search(steps=10)


# --- real training


@law(few=5, cases=100, curvature=st.floats(-2.0, 2.0).map(lambda power: 10**power))
def test_a_constant_rate_is_stable_and_not_too_low_on_a_bowl(curvature):
    found = search(bowl(curvature), steps=100, schedule="constant", limits=(1e-5, 100.0))
    edge = 2 / curvature
    assert edge / 40 < found.lr < edge


@pytest.mark.parametrize("shift", [-2.0, 1e6])
def test_a_shifted_objective_gets_the_same_answer(shift):
    def answer(added: float) -> SearchResult:
        task = Task(
            Bowl(4.0), [None], objective=lambda model, _: model() + added,
            optimizer=torch.optim.SGD, device="cpu",
        )  # fmt: skip
        return search(task, steps=100, schedule="constant")

    assert answer(shift).lr == answer(0.0).lr
    assert answer(shift).interval == answer(0.0).interval


def test_an_optimizer_that_sets_its_own_rate_keeps_lr_1():
    class Adapting(torch.optim.SGD):
        def __init__(self, params, lr):
            super().__init__(params, lr=lr)
            for group in self.param_groups:
                group["d"] = 1e-6

    inputs = torch.randn(64, 3)
    data = inputs, inputs @ torch.randn(3, 1)
    task = Task(nn.Linear(3, 1), data, loss=nn.MSELoss(), optimizer=Adapting, device="cpu")
    found = search(task, steps=60)
    assert (found.lr, found.interval) == (1.0, (1.0, 1.0))
    assert any("sets its own rate" in note for note in found.notes)


def test_a_result_is_the_same_after_json():
    found = found_in(World(noise=0.1))
    (again,) = read(found.to_json())
    assert again.to_json() == found.to_json()
    pd.testing.assert_frame_equal(again.runs, found.runs)


# --- the plan


@law(few=5, cases=100, steps=st.integers(1, 10**6), budget=st.floats(0.02, 20.0))
def test_a_plan_stays_within_its_budget_or_says_how_much_it_needs(steps, budget):
    sizes = sizes_of(None, steps)
    try:
        planned = make_plan(sizes, budget)
    except ArgumentError as error:
        needed = float(str(error).partition("Give budget=")[2].split()[0])
        assert needed > budget
        make_plan(sizes, needed)
        return
    assert planned.cost <= budget * (1 + 1e-6)
    assert 1 <= planned.short <= planned.long <= steps


def test_plans_of_some_lengths():
    rows = {
        steps: [(one.name, one.runs, one.steps) for one in lrtune.plan(steps=steps).stages]
        for steps in (200, 500, 4690)
    }
    assert rows == {
        200: [("coarse", 8, 50), ("fine", 3, 200)],
        500: [("coarse", 8, 60), ("fine", 3, 500)],
        4690: [("coarse", 8, 60), ("horizons", 3, 1105), ("fine", 3, 4690)],
    }

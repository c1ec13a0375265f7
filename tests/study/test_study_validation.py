"""What a study remembers of validations: both parts, their errors, and on how many samples."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import zoo

from lrtune import Cohort, Evaluator, Run, Task, search, train
from lrtune.errors import ArgumentError
from lrtune.results.schema import VALIDATIONS, as_table
from lrtune.study import tables
from lrtune.study.catalog import study_location
from lrtune.study.contents import open_study
from lrtune.study.database import Database
from lrtune.study.study import Study
from tests import halved
from tests.study.tasks import a_task
from tests.study.test_study_remembering import remembered, rows, same

RUNS = [Run("a", 0.03), Run("b", 0.1, seed=1), Run("lost", 3e4)]


# --- what an evaluator gives


def test_a_validation_has_both_parts_or_so_many_samples_of_the_selection_part():
    evaluate = Evaluator(a_task())
    both = evaluate(RUNS, 20, stage="s", until=10)
    assert both.validations["part"].tolist() == ["selection", "test"] * 2
    assert both.validations["samples"].tolist() == [10] * 4
    assert both.validations["stderr"].gt(0).all()
    some = evaluate(RUNS, 20, stage="s", until=10, validate=4)
    assert some.validations["run"].tolist() == ["a", "b"]
    assert set(some.validations["part"]) == {"selection"}
    assert set(some.validations["samples"]) == {4}
    none = evaluate(RUNS, 20, stage="s", until=10, validate=0)
    assert none.validations.empty
    samples = [trace.costs["val_samples"].tolist() for trace in (both, some, none)]
    assert samples == [[20, 20, 0], [4, 4, 0], [0, 0, 0]]


def test_what_was_measured_is_not_measured_again():
    cohort = Cohort(a_task(), RUNS[:2], 6)
    cohort.advance(3).validate(4).validate(4)
    assert cohort.val_samples == {"a": 4, "b": 4}
    first = cohort.trace.validations
    cohort.validate()
    assert cohort.val_samples == {"a": 24, "b": 24}
    assert len(cohort.trace.validations) == 4, "both parts, instead of the sample"
    cohort.validate(4)
    pd.testing.assert_frame_equal(cohort.trace.validations, first)
    later = cohort.advance(5).validate(4).trace.validations
    assert later["step"].tolist() == [3, 3, 5, 5]


def test_train_validates_or_does_not():
    assert len(train(a_task(), RUNS[:1], 3).validations) == 2
    assert train(a_task(), RUNS[:1], 3, validate=False).validations.empty


@pytest.mark.parametrize("validate", [-1, True, 0.5])
def test_another_number_of_samples_is_refused(where, validate):
    for evaluate in (Evaluator(a_task()), Study(where, a_task()).evaluate):
        with pytest.raises(ArgumentError, match="validate must be a whole number >= 0"):
            evaluate(RUNS, 3, stage="s", validate=validate)


# --- what a study answers


def test_a_request_is_answered_by_the_same_number_and_one_for_none_by_any(where):
    _, evaluate, asked = remembered(where, a_task())
    plain = Evaluator(a_task())
    for validate, trained in ((4, 1), (4, 1), (0, 1), (6, 2), (0, 2), (None, 3), (4, 3), (0, 3)):
        trace = evaluate(RUNS, 6, stage="s", validate=validate)
        same(trace, plain(RUNS, 6, stage="s", validate=validate))
        assert len(asked) == trained
    kept = rows(where, tables.runs)
    assert [row["validated"] for row in kept] == [4] * 3 + [6] * 3 + [-1] * 3
    assert [row["val_samples"] for row in kept] == [4, 4, 0, 6, 6, 0, 20, 20, 0]


def test_none_is_recorded_apart_and_answers_nothing_else(where):
    _, evaluate, asked = remembered(where, a_task())
    for validate, trained in ((0, 1), (None, 2), (0, 2), (3, 3)):
        evaluate(RUNS, 6, stage="s", validate=validate)
        assert len(asked) == trained


def one_part(part, task):
    """An evaluator of the user's own, which measures one part and counts no samples."""

    def evaluate(runs, steps, **more):
        trace = Evaluator(task)(runs, steps, **more)
        mine = trace.validations[trace.validations["part"] == part]
        mine = mine.assign(stderr=np.nan, samples=0)
        return dataclasses.replace(trace, validations=mine.reset_index(drop=True))

    return evaluate


@pytest.mark.parametrize("part", ["selection", "test"])
def test_an_evaluator_without_one_of_the_parts_is_remembered(where, part):
    plain = one_part(part, a_task())(RUNS, 6, stage="s")
    for _ in range(2):
        evaluate = Study(where, a_task()).evaluator(one_part(part, a_task()))
        same(evaluate(RUNS, 6, stage="s"), plain)


def test_a_search_needs_no_test_part(where):
    study = Study(where, a_task())
    evaluate = study.evaluator(one_part("selection", a_task()))
    found = search(a_task(), steps=24, evaluate=evaluate)
    assert np.isfinite(found.runs["loss"]).any()


def test_a_task_without_a_test_part_works_throughout(where):
    """A single batch that cannot be cut."""
    val = halved.graphs()[:1]
    model = zoo.model("linear")
    train_data = [(x, edges, y % 3) for x, edges, y in halved.graphs()]
    val = [(x, edges, y % 3) for x, edges, y in val]
    task = Task(model, train_data, val=val, objective=halved.objective, device="cpu")
    study = Study(where, task)
    found = search(task, steps=24, evaluate=study.evaluate)
    assert np.isfinite(found.runs["loss"]).any()
    contents = open_study(where)
    assert contents.recorded["val_test"].isna().all()
    assert contents.recorded["val"].notna().any()


def test_a_validation_that_was_not_asked_for_is_never_an_answer(where):
    def unasked(runs, steps, **more):
        return Evaluator(a_task())(runs, steps, **more | {"validate": None})

    evaluate = Study(where, a_task()).evaluator(unasked)
    for _ in range(2):
        assert evaluate(RUNS, 6, stage="s", validate=0).validations.empty
    assert open_study(where).recorded["val"].isna().all()


def test_losses_that_are_not_finite_are_remembered(where):
    def broken(runs, steps, **more):
        trace = Evaluator(a_task())(runs, steps, **more)
        table = [
            ("a", steps, "selection", np.nan, np.nan, 3),
            ("a", steps, "test", np.inf, np.nan, 2),
        ]
        return dataclasses.replace(trace, validations=as_table(table, VALIDATIONS))

    plain = broken(RUNS[:1], 6, stage="s")
    for _ in range(2):
        same(Study(where, a_task()).evaluator(broken)(RUNS[:1], 6, stage="s"), plain)


# --- what it exports


def test_exports_have_the_losses_of_both_parts(where):
    study = Study(where, a_task())
    study.evaluate(RUNS[:1], 6, stage="short", until=3, validate=4)
    trace = study.evaluate(RUNS[:1], 6, stage="long")
    recorded = open_study(where).recorded
    losses = trace.validations.set_index("part")["loss"]
    assert recorded["val"].iloc[1] == losses["selection"]
    assert recorded["val_test"].iloc[1] == losses["test"]
    assert np.isfinite(recorded["val"].iloc[0])
    assert np.isnan(recorded["val_test"].iloc[0])


def test_of_several_validations_the_largest_is_exported_to_optuna(where):
    for order in ((None, 4, 0, 6), (6, 0, None, 4)):
        study = Study(where, a_task(), fresh=True)
        for validate in order:
            trace = study.evaluate(RUNS[:1], 6, stage="s", validate=validate)
            if validate is None:
                whole = trace.validations
        (trial,) = open_study(where).to_optuna().trials
        assert trial.value == whole.set_index("part")["loss"]["selection"]


def test_a_damaged_validation_is_refused(where):
    from lrtune.errors import StudyError

    Study(where, a_task()).evaluate(RUNS[:1], 6, stage="s")
    with Database(study_location(where), create=False).write() as link:
        row = dict(link.execute(tables.runs.select()).mappings().one())
        row["val"] = tables.packed([0.1, 0.2], "<f8")
        checked = tables.with_checksum(tables.runs, row)
        link.execute(tables.runs.update().values(val=row["val"], checksum=checked["checksum"]))
    with pytest.raises(StudyError, match="does not hold the 6 numbers"):
        open_study(where)

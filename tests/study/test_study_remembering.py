"""Remembering: what comes out of a study is what a cohort would have given, bit for bit."""

import multiprocessing
import random
import re
import time

import pandas as pd
import pytest
from hypothesis import strategies as st

from lrtune import Evaluator, Run, compare, range_test, search
from lrtune.errors import ArgumentError
from lrtune.schedules import ReduceOnPlateau, cosine, warmup
from lrtune.study import tables
from lrtune.study.catalog import study_location
from lrtune.study.database import Database
from lrtune.study.study import Study
from lrtune.testing import bowl
from tests.planted import without_checkpoints
from tests.sampling import law
from tests.study.tasks import a_task

SHAPES = [
    cosine(), warmup(0.2, then=cosine()), lambda p: 1 - p, ReduceOnPlateau(patience=0.5),
    ReduceOnPlateau(on="val", every=2, patience=0.0),
]  # fmt: skip
RUNS = [
    Run(f"{rate}/{seed}/{n}", rate, shape, seed)
    for rate in (0.03, 30.0, 3e4)  # the last ones diverge or become non-finite
    for seed in (0, 1)
    for n, shape in enumerate(SHAPES)
]


def same(one, two):
    """Frames, dtypes, order, index: everything."""
    assert one.steps == two.steps
    for part in ("frame", "runs", "validations"):
        left, right = getattr(one, part), getattr(two, part)
        pd.testing.assert_frame_equal(left, right, check_exact=True, obj=part)


class Counted:
    """An evaluator that notes what it was asked to train."""

    def __init__(self, task):
        self.inner, self.asked = Evaluator(task), []

    def __call__(self, runs, steps, **more):
        self.asked.append([run.name for run in runs])
        return self.inner(runs, steps, **more)


def remembered(where, task, **more):
    """A study of the task, its evaluator, and what the evaluator inside was asked."""
    study, counted = Study(where, task, **more), Counted(task)
    return study, study.evaluator(counted), counted.asked


@pytest.mark.parametrize("validate", [None, 0, 4])
@pytest.mark.parametrize("until", [None, 7])
def test_an_answer_is_what_a_cohort_records(where, validate, until):
    wish = {"stage": "test", "validate": validate, "until": until}
    plain = Evaluator(a_task())(RUNS, 20, **wish)
    assert len(set(plain.runs["outcome"])) > 1
    _, evaluate, asked = remembered(where, a_task())
    same(evaluate(RUNS, 20, **wish), plain)
    same(evaluate(RUNS, 20, **wish), plain)
    study, evaluate, again = remembered(where, a_task())
    same(evaluate(RUNS, 20, **wish), plain)
    assert (len(asked), len(again)) == (1, 0)
    assert (study.remembered, study.trained, study.known) == (len(RUNS), 0, True)


def test_only_what_is_missing_is_trained_and_order_is_as_asked(where):
    _, evaluate, asked = remembered(where, a_task())
    some = RUNS[2:9:3]
    evaluate(some, 12, stage="first")
    mixed = random.Random(0).sample(RUNS, len(RUNS))
    same(evaluate(mixed, 12, stage="all"), Evaluator(a_task())(mixed, 12, stage="all"))
    assert sorted([*asked[0], *asked[1]]) == sorted(run.name for run in RUNS)


@law(few=3, cases=12, data=st.data())
def test_any_calls_in_any_order_give_what_cohorts_give(data):
    """Whatever was asked before, from whatever sessions: an answer is that of a fresh cohort."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for _ in range(data.draw(st.integers(1, 4), label="calls")):
            runs = data.draw(st.lists(st.sampled_from(RUNS[:8]), min_size=1, unique_by=id))
            until = data.draw(st.sampled_from([None, 1, 3]))
            validate = data.draw(st.sampled_from([None, 0, 3, 4]))
            wish = {"stage": "s", "until": until, "validate": validate}
            study = Study(f"sqlite:///{Path(folder)}/x.db", a_task())
            same(study.evaluate(runs, 4, **wish), Evaluator(a_task())(runs, 4, **wish))


def test_a_name_is_no_identity_and_one_run_under_two_names_is_trained_once(where):
    _, evaluate, asked = remembered(where, bowl(4.0))
    twins = [Run("a", 0.1), Run("b", 0.1), Run("c", 0.1, lambda p: 1.0)]
    trace = evaluate(twins, 9, stage="one")
    assert asked == [["b", "c"]]  # a lambda of ones has another text
    same(trace, Evaluator(bowl(4.0))(twins, 9, stage="one"))
    evaluate([Run("z", 0.1)], 9, stage="two")
    evaluate([Run("z", 0.1)], 10, stage="another horizon")
    assert asked[1:] == [["z"]]


def test_two_lambdas_of_one_name_are_two_schedules(where):
    _, evaluate, asked = remembered(where, bowl(4.0))
    evaluate([Run("a", 0.1, lambda p: 1 - p)], 9, stage="one")
    evaluate([Run("a", 0.1, lambda p: 1 - p / 2)], 9, stage="two")
    assert asked == [["a"], ["a"]]


def test_steps_of_one_run_are_recorded_apart(where):
    _, evaluate, asked = remembered(where, a_task())
    runs = RUNS[:4]
    for until in (5, 10, None):
        trace = evaluate(runs, 20, stage="s", until=until)
        same(trace, Evaluator(a_task())(runs, 20, stage="s", until=until))
    assert len(asked) == 3
    untils = [row["until"] for row in rows(where, tables.runs)]
    assert untils == [5] * 4 + [10] * 4 + [20] * 4


def test_the_engine_is_part_of_the_identity(where):
    task = bowl(4.0)
    study, counted = Study(where, task), Counted(task)
    for engine in ("loop", "vmapped", "loop"):
        study.evaluator(counted, engine)([Run("a", 0.1)], 5, stage="s")
    assert len(counted.asked) == 2


def test_verbs_end_with_the_very_same_results(where):
    def verbs(evaluate):
        sweep = range_test(a_task(), steps=20, seeds=2, evaluate=evaluate)
        found = search(a_task(), steps=24, evaluate=evaluate)
        schedules = ["one-cycle", "cosine-restarts", "reduce-on-plateau"]
        ranked = compare(
            a_task(), found.lr, schedules=schedules, steps=24, seeds=2, evaluate=evaluate
        )
        return [without_checkpoints(one) for one in (sweep, found, ranked)]

    plain = verbs(None)
    first = Study(where, a_task())
    assert verbs(first.evaluate) == plain
    again, evaluate, asked = remembered(where, a_task())
    assert verbs(evaluate) == plain
    assert asked == []
    assert again.remembered == first.trained


def test_what_an_exception_interrupts_can_be_begun_again(where):
    study = Study(where, bowl(4.0))

    def breaks(*_arguments, **_more):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.evaluator(breaks)([Run("a", 0.1)], 5, stage="s")
    assert rows(where, tables.leases) == []
    study.evaluate([Run("a", 0.1)], 5, stage="s")
    assert len(rows(where, tables.runs)) == 1


def test_leases_that_could_not_be_given_back_delay_nobody(where, monkeypatch):
    """As on a full disk, in a notebook that lives on."""
    from lrtune.errors import StudyError
    from lrtune.study.records import StudyRecords

    def fails(*_arguments, **_more):
        raise StudyError("the disk is full")

    study = Study(where, bowl(4.0))
    with monkeypatch.context() as patch:
        patch.setattr(StudyRecords, "record", fails)
        patch.setattr("lrtune.study.leases.Leases.give_back", fails_at_the_end := Giving(fails))
        with pytest.raises(StudyError, match="the disk is full"):
            study.evaluate([Run("a", 0.1)], 5, stage="s")
    assert fails_at_the_end.asked
    assert len(rows(where, tables.leases)) == 1
    again = Study(where, bowl(4.0))
    again.evaluate([Run("a", 0.1)], 5, stage="s")
    assert again.trained == 1


class Giving:
    """`give_back` that works when leases are taken, and not at its end."""

    def __init__(self, fails):
        self.fails, self.asked = fails, 0

    def __get__(self, claims, _kind):
        def give_back(_link):
            self.asked += 1
            if self.asked > 1:
                self.fails()

        return give_back


def test_until_beyond_the_horizon_is_refused_before_anything_trains(where):
    with pytest.raises(ArgumentError, match=r"until=6 lies outside 1 \.\.\. 5"):
        Study(where, bowl()).evaluate([Run("a", 0.1)], 5, stage="s", until=6)


# --- decisions


def test_the_first_decision_stands(where):
    one, two = Study(where, bowl()), Study(where, bowl())
    assert one.decide("engine", lambda: "vmapped/2") == "vmapped/2"
    assert two.decide("engine", lambda: "loop/1") == "vmapped/2"
    assert one.decide("other", lambda: "x") == "x"


def rows(where, table):
    with Database(study_location(where), create=False).read() as link:
        return [dict(row) for row in link.execute(table.select()).mappings()]


# --- several processes


def _asks(where, barrier, answers):
    task = a_task()
    study = Study(where, task)
    counted = Counted(task)
    barrier.wait()
    for steps in (6, 9):
        trace = study.evaluator(counted)(RUNS[:6], steps, stage="s")
    answers.put((sum(map(len, counted.asked)), trace.frame["loss"].sum()))


def test_processes_share_the_work_and_the_answer(where):
    """Eight at once on a database that is not there: nothing is trained twice, nothing breaks."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(8), context.Queue()
    children = [context.Process(target=_asks, args=(where, barrier, answers)) for _ in range(8)]
    for child in children:
        child.start()
    told = [answers.get(timeout=120) for _ in children]
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 8
    assert sum(trained for trained, _ in told) == 12
    assert len({total for _, total in told}) == 1
    assert len(rows(where, tables.runs)) == 12
    assert len(rows(where, tables.studies)) == 1
    assert rows(where, tables.leases) == []


def test_what_a_living_process_trains_is_waited_for(where, monkeypatch):
    said = []
    one, two = Study(where, bowl(4.0)), Study(where, bowl(4.0), say=said.append)
    run, inner = Run("a", 0.1), Evaluator(bowl(4.0))

    def meanwhile(*arguments, **more):
        """While the first trains, the second asks for the same, in a thread of its own."""
        waiter.start()
        time.sleep(0.5)
        assert answers == []
        return inner(*arguments, **more)

    import threading

    answers = []
    waiter = threading.Thread(target=lambda: answers.append(two.evaluate([run], 5, stage="s")))
    trace = one.evaluator(meanwhile)([run], 5, stage="s")
    waiter.join(30)
    same(answers[0], trace)
    assert (two.trained, two.remembered, two.shared, two.companions) == (0, 0, 1, 1)
    (told,) = said
    assert re.fullmatch(r"process \d+ on \S+ works on this study, too: the runs are shared", told)
    assert rows(where, tables.leases) == []

"""A long run asked for in segments goes on from its newest checkpoint, in whatever session."""

import dataclasses
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import strategies as st

from lrtune import Evaluator, Run, results
from lrtune.errors import ArgumentError
from lrtune.schedules import ReduceOnPlateau, one_cycle
from lrtune.study import tables
from lrtune.study.catalog import delete_study, study_location
from lrtune.study.database import Database
from lrtune.study.study import Study
from lrtune.testing import bowl
from tests.reporting import SAMPLES
from tests.sampling import law
from tests.study.tasks import a_task

STEPS = 16
SEGMENTS = (2, 4, 8, STEPS)
RUNS = [
    Run("a", 0.03, one_cycle()),
    Run("b", 0.1, ReduceOnPlateau(patience=0.4), seed=1),
    Run("c", 0.2, ReduceOnPlateau(on="val", every=4, patience=0.0)),
    Run("fails", 1e30),
]
SPENT = {"id", "session", "updates", "val_samples", "seconds", "checksum"}
"""Columns of a recorded run that say how it was made."""


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    """With a server, checkpoints lie below the working directory."""
    monkeypatch.chdir(tmp_path)


class Interrupted:
    """An evaluator that is interrupted at one of its calls, before or after it has trained."""

    def __init__(self, inner, at=0, *, after=False):
        self.inner, self.at, self.after = inner, at, after
        self.calls = self.updates = 0

    def __call__(self, runs, steps, **more):
        self.calls += 1
        if self.calls == self.at and not self.after:
            raise KeyboardInterrupt
        trace = self.inner(runs, steps, **more)
        self.updates += trace.cost.updates
        if self.calls == self.at:
            raise KeyboardInterrupt
        return trace


def session(where, at=0, *, after=False, engine="loop", runs=RUNS, task=a_task, scale=1):
    """All segments in one session, which may be interrupted; their traces, and what trained."""
    study = Study(where, task())
    inner = Evaluator(task(), engine=engine, decide=study.decide, checkpoints=study.checkpoints)
    counted = Interrupted(inner, at, after=after)
    evaluate = study.evaluator(counted, engine)
    traces = []
    for until in SEGMENTS:
        wish = {"stage": "s", "until": until * scale, "checkpoint": True}
        traces.append(evaluate(runs, STEPS * scale, **wish))
        failed = set(traces[-1].runs.query("outcome != ['PAUSED', 'FINISHED']")["run"])
        runs = [run for run in runs if run.name not in failed]
    return traces, counted, study, evaluate


def names_of(trace):
    return dict(zip(trace.runs["run"], trace.runs["checkpoint"], strict=True))


def same(one, two):
    for part in ("frame", "runs", "validations"):
        pd.testing.assert_frame_equal(getattr(one, part), getattr(two, part), check_exact=True)


def rows(where, table=tables.runs):
    with Database(study_location(where), create=False).read() as link:
        return [dict(row) for row in link.execute(table.select()).mappings()]


def recorded(where):
    """The rows of all recorded runs, but for what they have cost."""
    kept = [{k: v for k, v in row.items() if k not in SPENT} for row in rows(where)]
    return sorted(kept, key=lambda row: (row["key"], row["until"]))


def files(study):
    folder = study.checkpoints.path
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def naming(*names):
    """A result whose JSON contains these names."""
    return dataclasses.replace(SAMPLES[results.SearchResult]("text"), notes=[*names])


# --- going on -------------------------------------------------------------------------------------


@law(
    few=3,
    cases=40,
    engine=st.sampled_from(["loop", "loop", "vmapped", "auto"]),
    cuts=st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=3),
)
def test_interrupted_in_any_segments_it_ends_like_uninterrupted_and_loses_at_most_one(engine, cuts):
    with tempfile.TemporaryDirectory() as folder:
        one, other = (f"sqlite:///{Path(folder)}/{name}.db" for name in ("one", "other"))
        whole, *_ = session(one, engine=engine)
        if engine == "auto":
            choices = {row["name"]: row["value"] for row in rows(one, tables.decisions)}
            for name, choice in choices.items():
                Study(other, a_task()).decide(name, lambda choice=choice: choice)
        for at, after in cuts:
            with suppress(KeyboardInterrupt):
                session(other, at, after=after, engine=engine)
        traces, _, study, evaluate = session(other, engine=engine)
        for ours, theirs in zip(traces, whole, strict=True):
            same(ours, theirs)
        assert recorded(other) == recorded(one)
        assert all(f"{name}.pt" in files(study) for name in names_of(traces[-1]).values())
        for name in names_of(traces[-1]).values():
            assert evaluate.checkpoint(name)["step"] == STEPS
        assert rows(other, tables.leases) == []


@pytest.mark.parametrize("at", range(1, 5))
def test_a_resumed_session_trains_the_missing_segments_only(where, at):
    with pytest.raises(KeyboardInterrupt):
        session(where, at, runs=RUNS[:3])
    traces, counted, _, _ = session(where, runs=RUNS[:3])
    done = (0, *SEGMENTS)[at - 1]
    assert counted.updates == 3 * (STEPS - done)
    assert [trace.cost.updates for trace in traces] == [6, 6, 12, 24]


def test_what_was_trained_but_not_recorded_is_not_trained_again(where):
    """Its files were written before the process died."""
    with pytest.raises(KeyboardInterrupt):
        session(where, 4, after=True, runs=RUNS[:3])
    assert {row["until"] for row in rows(where)} == {2, 4, 8}
    traces, counted, _, _ = session(where, runs=RUNS[:3])
    assert (counted.calls, counted.updates) == (1, 0)
    assert traces[-1].cost.updates == 0
    assert traces[-1].cost.val_samples == 3 * 20, "they are validated, as nobody knows the loss"


def test_a_study_answers_with_the_names_that_it_recorded(where):
    first, _, study, _ = session(where)
    again, counted, _, evaluate = session(where)
    assert counted.calls == 0
    for one, two in zip(first, again, strict=True):
        same(one, two)
    plain = evaluate(RUNS, STEPS, stage="s", until=8)
    assert set(names_of(plain).values()) == {""}
    for row in rows(where):
        known = (row["outcome"] in ("PAUSED", "FINISHED")) * f"{row['key']}-{row['until']}"
        assert row["checkpoint"] == known
    with pytest.raises(ArgumentError, match="a later step has replaced it"):
        evaluate.checkpoint(names_of(first[0])["a"])
    shutil.rmtree(study.checkpoints.path)
    lost, *_ = session(where)
    assert set(names_of(lost[-1]).values()) == {""}, "no file: no name of a final checkpoint"
    assert names_of(lost[0]) == names_of(first[0])


def test_runs_recorded_without_a_checkpoint_have_none(where):
    study = Study(where, a_task())
    study.evaluate(RUNS, STEPS, stage="s")
    trace = study.evaluate(RUNS, STEPS, stage="s", checkpoint=True)
    assert set(names_of(trace).values()) == {""}
    assert files(study) == []


def test_an_evaluator_with_a_memory_of_its_own_gives_no_names(where):
    """The next session could not read them."""
    study = Study(where, a_task())
    evaluate = study.evaluator(Evaluator(a_task()))
    trace = evaluate(RUNS, STEPS, stage="s", checkpoint=True)
    assert set(names_of(trace).values()) == {""}


def test_a_plain_function_is_asked_for_checkpoints_only_when_they_are_wanted(where):
    asked = []

    def plain(runs, steps, **more):
        asked.append(more)
        return Evaluator(bowl())(runs, steps, stage="s", validate=more["validate"])

    evaluate = Study(where, bowl()).evaluator(plain)
    evaluate([Run("a", 0.1)], 5, stage="s")
    trace = evaluate([Run("a", 0.2)], 5, stage="s", checkpoint=True)
    assert [more.get("checkpoint") for more in asked] == [None, True]
    assert names_of(trace) == {"a": ""}


# --- which files stay -----------------------------------------------------------------------------


def test_a_result_keeps_the_checkpoints_that_it_names(where):
    traces, _, study, evaluate = session(where)
    names = names_of(traces[-1])
    study.record(naming(names["b"]))
    assert files(study) == [f"{names['b']}.pt"]
    assert evaluate.checkpoint(names["b"])["seed"] == 1
    study.record(naming("another"))
    assert files(study) == [f"{names['b']}.pt"], "every recorded result counts"
    again, counted, _, _ = session(where)
    assert counted.calls == 0
    assert names_of(again[-1]) == {"a": "", "b": names["b"], "c": ""}


def test_a_run_that_can_go_on_keeps_its_checkpoint(where):
    with pytest.raises(KeyboardInterrupt):
        session(where, 3)
    study = Study(where, a_task())
    study.evaluate(RUNS[:1], STEPS, stage="s", until=4, checkpoint=True)
    study.evaluate(RUNS[1:3], STEPS, stage="s", checkpoint=True)
    assert len(files(study)) == 3
    study.record(naming())
    (left,) = files(study)
    assert left.endswith("-4.pt")
    assert left == f"{rows(where)[0]['key']}-4.pt"


def test_a_result_deletes_nothing_that_another_session_may_need(where):
    """As when a range test is made before an interrupted search goes on."""
    traces, _, study, _ = session(where)
    before = files(study)
    other = Study(where, a_task())
    other.evaluate([Run("else", 0.5)], STEPS, stage="s", checkpoint=True)
    assert len(files(study)) == len(before) + 1
    other.record(naming())
    assert files(study) == before
    assert names_of(session(where)[0][-1]) == names_of(traces[-1])


def test_what_a_kill_cut_off_is_deleted_with_the_rest(where):
    _, _, study, _ = session(where, runs=RUNS[:1])
    (name,) = (Path(file).stem for file in files(study))
    (study.checkpoints.path / f"{name}.part").write_bytes(b"cut off")
    foreign = study.checkpoints.path / ("f" * 32 + "-9.part")
    foreign.write_bytes(b"another process writes it")
    study.record(naming())
    assert files(study) == [foreign.name]


def test_a_run_that_fails_later_leaves_no_file(where):
    late = Run("late", 20.0)
    study = Study(where, bowl())
    paused = study.evaluate([late], 40, stage="s", until=1, checkpoint=True)
    assert len(files(study)) == 1
    failed = study.evaluate([late], 40, stage="s", checkpoint=True)
    assert [names_of(one)["late"] != "" for one in (paused, failed)] == [True, False]
    study.record(naming())
    assert files(study) == []


# --- folders --------------------------------------------------------------------------------------


def test_the_folder_lies_beside_the_database_and_goes_with_it(where, server):
    _, _, study, _ = session(where)
    folder = study.checkpoints.path
    if server is None:
        assert folder.parent == study_location(where).file.with_name("study.checkpoints")
    else:
        assert folder.parent.parent == Path(".lrtune/checkpoints")
    other = Study(f"{where}#other", a_task())
    other.evaluate(RUNS[:1], STEPS, stage="s", checkpoint=True)
    assert folder.parent == other.checkpoints.path.parent
    delete_study(where)
    assert not folder.exists()
    assert len(files(other)) == 1
    delete_study(f"{where}#other")
    assert not folder.parent.exists()
    if server is None:
        assert list(folder.parent.parent.iterdir()) == []


def test_fresh_starts_without_the_old_checkpoints_and_keeps_them_usable(where):
    old, _, study, _ = session(where)
    before = files(study)
    fresh = Study(where, a_task(), fresh=True)
    trace = fresh.evaluate(RUNS, STEPS, stage="s", until=2, checkpoint=True)
    assert trace.cost.updates > 0
    assert files(study) == before
    again, counted, kept, evaluate = session(f"{where}#study~1")
    assert counted.calls == 0
    same(again[-1], old[-1])
    assert evaluate.checkpoint(names_of(again[-1])["a"])["step"] == STEPS
    assert kept.checkpoints.path == study.checkpoints.path


def test_a_study_that_is_copied_with_its_folder_goes_on(where, sqlite_only, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        session(where, 3, runs=RUNS[:3])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file = study_location(where).file
    shutil.copy(file, elsewhere / "mine.db")
    shutil.copytree(file.with_name("study.checkpoints"), elsewhere / "mine.checkpoints")
    copied = f"sqlite:///{elsewhere}/mine.db"
    traces, counted, *_ = session(copied, runs=RUNS[:3])
    assert counted.updates == 3 * (STEPS - 4)
    whole, *_ = session(where, runs=RUNS[:3])
    same(traces[-1], whole[-1])
    shutil.copy(elsewhere / "mine.db", tmp_path / "alone.db")
    alone, counted, *_ = session(f"sqlite:///{tmp_path}/alone.db", runs=RUNS[:3])
    assert counted.calls == 0
    assert set(names_of(alone[-1]).values()) == {""}


def test_a_file_of_another_study_is_not_taken(where, sqlite_only, tmp_path):
    """The same run of another task has another key."""
    other = f"sqlite:///{tmp_path}/other.db"

    def slower():
        return a_task(optimizer=torch.optim.SGD)

    theirs = session(other, runs=RUNS[:1], task=slower)[2]
    study = Study(where, a_task())
    study.checkpoints.path.mkdir(parents=True)
    (name,) = files(theirs)
    shutil.copy(theirs.checkpoints.path / name, study.checkpoints.path)
    trace = study.evaluate(RUNS[:1], STEPS, stage="s", checkpoint=True)
    assert trace.cost.updates == STEPS
    own = f"{names_of(trace)['a']}.pt"
    assert files(study) == sorted([name, own])
    shutil.copy(theirs.checkpoints.path / name, study.checkpoints.path / own)
    with pytest.warns(UserWarning, match="is not that of the run in its name"):
        Evaluator(a_task(), checkpoints=study.checkpoints)(RUNS[:1], STEPS, stage="s")


def test_a_changed_task_takes_no_checkpoint_of_the_old_one_and_leaves_them(where):
    traces, _, old, _ = session(where, runs=RUNS[:1])
    before = files(old)
    study = Study(where, a_task(batch_size=6), say=lambda _: None)
    trace = study.evaluate(RUNS[:1], STEPS, stage="s", checkpoint=True)
    assert trace.cost.updates == STEPS
    assert files(old) == before
    again, counted, kept, _ = session(where, runs=RUNS[:1])
    assert counted.calls == 0
    same(again[-1], traces[-1])
    assert kept.checkpoints.path == old.checkpoints.path

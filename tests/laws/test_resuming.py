"""An evaluator and its checkpoints: in memory the best, in a folder one file for each run."""

import errno
import itertools
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from test_checkpoints import Noting, texts, through_a_file
from torch import nn
from zoo import untouched

from lrtune import Cohort, Evaluator, Run, Task
from lrtune.analysis.curves import end_level
from lrtune.errors import ArgumentError, CheckpointError
from lrtune.results.runs import validation_losses
from lrtune.schedules import ReduceOnPlateau, cosine, one_cycle
from lrtune.testing import bowl
from lrtune.training import checkpoint_stores
from lrtune.training.engines.loop import Loop
from tests.sampling import law

STEPS = 12
SEGMENTS = (1, 3, 6, STEPS)
RUNS = [
    Run("a", 0.03, one_cycle()),
    Run("b", 0.1, ReduceOnPlateau(patience=0.4), seed=1),
    Run("c", 0.2, cosine()),
    Run("d", 0.03, lambda p: 1 - p / 2),
    Run("fails", 1e30),
]


class Kept(dict):
    """Choices of an engine without a study."""

    def __call__(self, name, make):
        if name not in self:
            self[name] = make()
        return self[name]


def a_task(*, val=True, optimizer=None, loader=False):
    inputs, labels = zoo.vectors()
    train = zoo.DATA["loader"]() if loader else (inputs, labels)
    return Task(
        zoo.model("dropout"), train, val=(inputs, labels) if val else None,
        optimizer=optimizer, **({} if loader else {"batch_size": 8}),
    )  # fmt: skip


TASK = a_task()


def same(one, two, *, names=True):
    """All that two traces say, but for what their calls cost."""
    for part in ("frame", "runs", "validations"):
        left, right = getattr(one, part), getattr(two, part)
        if part == "runs" and not names:
            left, right = left.drop(columns="checkpoint"), right.drop(columns="checkpoint")
        pd.testing.assert_frame_equal(left, right, check_exact=True)


def names_of(trace):
    return dict(zip(trace.runs["run"], trace.runs["checkpoint"], strict=True))


def in_segments(evaluators, runs=RUNS, segments=SEGMENTS, **more):
    """Ask the next evaluator for each segment; all traces."""
    return [
        next(evaluators)(runs, STEPS, stage="s", until=until, checkpoint=True, **more)
        for until in segments
    ]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def files(folder):
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def updates(monkeypatch):
    """How many updates the loop makes."""
    made, plain = [], Loop.update
    monkeypatch.setattr(
        Loop, "update", lambda self, runs, *a: (made.extend(runs), plain(self, runs, *a))[1]
    )
    return made


# --- a folder -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["loop", "vmapped", "auto"])
def test_an_evaluator_for_each_segment_answers_like_one_for_all(folder, kind):
    """As where a process was killed between any two segments."""
    kept = Kept()

    def evaluators(name):
        while True:
            yield Evaluator(TASK, engine=kind, decide=kept, checkpoints=folder / name)

    one = next(evaluators("one"))
    whole = in_segments(itertools.repeat(one))
    killed = in_segments(evaluators("other"))
    for ours, theirs, before, until in zip(killed, whole, (0, *SEGMENTS), SEGMENTS, strict=False):
        same(ours, theirs)
        made = ours.costs.set_index("run")["updates"]
        assert set(made.drop("fails")) <= {until - before, until - before + made["fails"]}
    plain = Evaluator(TASK, engine=kind, decide=kept)(RUNS, STEPS, stage="s")
    if kind == "loop":
        same(killed[-1], plain, names=False)
    assert names_of(plain) == dict.fromkeys(names_of(plain), "")
    for run, name in names_of(killed[-1]).items():
        assert bool(name) == (run != "fails")
        if name:
            ours, theirs = (next(evaluators(each)).checkpoint(name) for each in ("one", "other"))
            assert texts(ours) == texts(theirs)


@law(
    few=4,
    cases=40,
    calls=st.lists(
        st.tuples(
            st.sets(st.sampled_from(range(5)), min_size=1), st.integers(1, STEPS), st.booleans(),
            st.sampled_from([0, 5, None]), st.booleans(),
        ),
        min_size=1, max_size=6,
    ),
)  # fmt: skip
def test_whatever_was_asked_before_and_lost_the_answer_is_that_of_a_fresh_evaluator(calls):
    with tempfile.TemporaryDirectory() as folder:
        evaluate = None
        for chosen, until, checkpoint, validate, lost in calls:
            if lost or evaluate is None:
                evaluate = Evaluator(TASK, checkpoints=Path(folder))
            runs = [RUNS[place] for place in sorted(chosen)]
            wish = {"stage": "s", "until": until, "validate": None if validate else 0}
            ours = evaluate(runs, STEPS, **wish, checkpoint=checkpoint)
            same(ours, Evaluator(TASK)(runs, STEPS, **wish), names=False)
            for name in filter(None, names_of(ours).values()):
                assert evaluate.checkpoint(name)["step"] == until


def test_there_is_one_file_for_each_live_run_of_its_newest_step(folder):
    evaluate = Evaluator(TASK, checkpoints=folder)
    for until in SEGMENTS:
        names = names_of(evaluate(RUNS[:4], STEPS, stage="s", until=until, checkpoint=True))
        assert files(folder) == sorted(f"{name}.pt" for name in filter(None, names.values()))
        assert all(name.endswith(f"-{until}") for name in filter(None, names.values()))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all((folder / file).stat().st_mode & 0o777 == 0o600 for file in files(folder))
    saved = torch.load(folder / files(folder)[0], weights_only=True)
    assert saved["step"] == STEPS


def test_a_final_file_answers_without_any_training(folder, updates):
    brought = a_task(loader=True)
    first = Evaluator(brought, checkpoints=folder)(RUNS, STEPS, stage="s", checkpoint=True)
    before = {file: (folder / file).stat().st_mtime_ns for file in files(folder)}
    updates.clear()
    again = Evaluator(brought, checkpoints=folder)(RUNS[:4], STEPS, stage="s", checkpoint=True)
    same(again, first.select([run.name for run in RUNS[:4]]))
    assert updates == []
    assert again.costs["updates"].tolist() == [0] * 4
    assert before == {file: (folder / file).stat().st_mtime_ns for file in files(folder)}


def test_a_call_without_checkpoints_resumes_as_well_and_writes_nothing(folder, updates):
    Evaluator(TASK, checkpoints=folder)(RUNS[:2], STEPS, stage="s", until=6, checkpoint=True)
    before = files(folder)
    updates.clear()
    Evaluator(TASK, checkpoints=folder)(RUNS[:2], STEPS, stage="s", until=9)
    assert len(updates) == 2 * 3
    assert files(folder) == before


def test_two_names_of_one_run_share_a_file(folder):
    twins = [Run("a", 0.1), Run("b", 0.1)]
    names = names_of(
        Evaluator(TASK, checkpoints=folder)(twins, STEPS, stage="s", until=5, checkpoint=True)
    )
    assert len(set(names.values())) == len(files(folder)) == 1
    again = Evaluator(TASK, checkpoints=folder)(twins, STEPS, stage="s", checkpoint=True)
    same(again, Evaluator(TASK)(twins, STEPS, stage="s"), names=False)


def test_engines_horizons_and_tasks_have_files_of_their_own(folder, updates):
    def ask(brought=TASK, engine="loop", steps=STEPS):
        evaluate = Evaluator(brought, engine=engine, checkpoints=folder)
        evaluate(RUNS[:1], steps, stage="s", until=5, checkpoint=True)

    ask()
    updates.clear()
    for other in ({"engine": "vmapped"}, {"steps": 13}, {"brought": bowl()}):
        before = len(files(folder))
        ask(**other)
        assert len(files(folder)) == before + 1
    assert len(updates) == 2 * 5


def test_pruning_deletes_checkpoints_and_nothing_else(folder):
    evaluate = Evaluator(TASK, checkpoints=folder)
    names = names_of(evaluate(RUNS[:3], STEPS, stage="s", until=5, checkpoint=True))
    others = ["notes.txt", "weights.pt", f"{names['a']}.pt.bak", "f" * 32 + "-5", "-5.pt"]
    for name in others:
        (folder / name).write_text("mine")
    (folder / ("e" * 32 + "-5.part")).write_text("cut off")
    evaluate.prune([names["b"]])
    assert files(folder) == sorted([*others, f"{names['b']}.pt"])
    assert evaluate.checkpoint(names["a"])["step"] == 5, "it is still in memory"
    elsewhere = Evaluator(TASK, checkpoints=folder)
    with pytest.raises(ArgumentError, match=f"there is no checkpoint '{names['a']}' in"):
        elsewhere.checkpoint(names["a"])
    Evaluator(TASK, checkpoints=folder / "nowhere").prune([])


@pytest.mark.parametrize("name", ["", "../x", "a-5", "f" * 32, "f" * 32 + "-5", "f" * 32 + "-5/.."])
def test_a_name_that_leads_nowhere_is_an_error_in_a_sentence(folder, name):
    for where in (folder, None):
        with pytest.raises(ArgumentError, match=r"checkpoint .* is not in memory|there is no ch"):
            Evaluator(TASK, checkpoints=where).checkpoint(name)


# --- files that are damaged, or those of others ---------------------------------------------------


def resumed_after(folder, damage):
    """The warnings after the damage of a file, whether training began anew, and the next answer."""
    made = folder / "made"
    names = names_of(
        Evaluator(TASK, checkpoints=made)(RUNS[:2], STEPS, stage="s", until=6, checkpoint=True)
    )
    damage(made / f"{names['a']}.pt")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ours = Evaluator(TASK, checkpoints=made)(RUNS[:2], STEPS, stage="s", checkpoint=True)
    same(ours, Evaluator(TASK)(RUNS[:2], STEPS, stage="s"), names=False)
    assert files(made) == sorted(f"{name}.pt" for name in names_of(ours).values())
    again = Evaluator(TASK, checkpoints=made)(RUNS[:2], STEPS, stage="s", checkpoint=True)
    same(again, ours)
    shutil.rmtree(made)
    return [str(one.message) for one in told], ours.costs["updates"].tolist()


@law(few=4, cases=60, share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_ignored_with_a_warning(share):
    with tempfile.TemporaryDirectory() as folder:
        told, made = resumed_after(
            Path(folder), lambda file: os.truncate(file, int(share * file.stat().st_size))
        )
    (warning,) = told
    assert "cannot be read" in warning
    assert "trains from the start" in warning
    assert made == [12, 6]


def flip(file, share, bit):
    raw = bytearray(file.read_bytes())
    raw[int(share * len(raw))] ^= 1 << bit
    file.write_bytes(raw)


@law(few=5, cases=150, share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(share, bit):
    """Also in the archive's directory, where torch once returned numbers that were never saved."""
    with tempfile.TemporaryDirectory() as folder:
        told, made = resumed_after(Path(folder), lambda file: flip(file, share, bit))
    assert (len(told), made) == (1, [12, 6])


def test_a_file_can_be_read_by_torch_alone(folder):
    evaluate = Evaluator(TASK, checkpoints=folder)
    names = names_of(evaluate(RUNS[:1], STEPS, stage="s", checkpoint=True))
    saved = torch.load(folder / f"{names['a']}.pt", weights_only=True)
    ours = evaluate.checkpoint(names["a"])["model"]
    assert all(torch.equal(value, ours[name]) for name, value in saved["model"].items())


def test_a_flipped_bit_of_a_weight_is_noticed(folder):
    """`torch.load` would not notice it."""

    def damage(file):
        raw = file.read_bytes()
        weight = torch.load(file, weights_only=True)["model"]["0.weight"].numpy().tobytes()
        place = raw.index(weight)
        file.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])

    told, made = resumed_after(folder, damage)
    assert "its digest does not fit" in told[0]
    assert made == [12, 6]


class Attack:
    """What a pickle would execute."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


def other(**fields):
    """Write other fields."""
    return lambda file: written(torch.load(file, weights_only=True) | fields, file)


def written(what, file):
    """Write anything, with a digest that fits."""
    with file.open("w+b") as opened:
        torch.save(what, opened)
        checkpoint_stores._sign(opened)


ODD = {
    "nothing": lambda file: file.write_bytes(b""),
    "noise": lambda file: file.write_bytes(os.urandom(5000)),
    "a folder": lambda file: (file.unlink(), file.mkdir(), (file / "x").touch()),
    "a pickle": lambda file: written({"model": Attack()}, file),
    "a list": lambda file: written([1, 2], file),
    "weights alone": lambda file: written(torch.load(file, weights_only=True)["model"], file),
    "another key": other(key="f" * 32),
    "another step": other(step=5),
    "another rate": other(lr=0.04),
    "another seed": other(seed=4),
    "fewer losses": other(losses=torch.zeros(3, dtype=torch.float64), batches=torch.zeros(3)),
    "no model": other(model={}),
    "another shape": other(model={"0.weight": torch.zeros(2, 2)}),
    "no optimizer": other(optimizer={}),
    "text": other(losses="x"),
    "other batches": other(batches=torch.zeros(6, dtype=torch.int64)),
}


@pytest.mark.parametrize("kind", set(ODD) - {"a folder"})
def test_what_is_no_checkpoint_of_the_run_is_ignored_with_a_warning(
    folder, monkeypatch, kind, tmp_path
):
    monkeypatch.chdir(tmp_path)
    told, made = resumed_after(folder, ODD[kind])
    assert len(told) == 1
    assert "from the start" in told[0]
    assert made[0] == 12
    assert not Path("owned").exists()


def test_a_file_of_another_task_is_not_taken(folder):
    """Its name does not fit; under a name that fits, its content does not."""
    names, brought = {}, {"one": TASK, "two": bowl()}
    for where, each in brought.items():
        evaluate = Evaluator(each, checkpoints=folder / where)
        names[where] = names_of(evaluate(RUNS[:1], STEPS, stage="s", until=6, checkpoint=True))["a"]
    shutil.copy(folder / "two" / f"{names['two']}.pt", folder / "one")
    evaluate = Evaluator(TASK, checkpoints=folder / "one")
    assert evaluate(RUNS[:1], STEPS, stage="s", until=6).costs["updates"].tolist() == [0]
    shutil.copy(folder / "two" / f"{names['two']}.pt", folder / "one" / f"{names['one']}.pt")
    with pytest.warns(UserWarning, match="is not that of the run in its name"):
        made = Evaluator(TASK, checkpoints=folder / "one")(RUNS[:1], STEPS, stage="s", until=6)
    assert made.costs["updates"].tolist() == [6]
    with pytest.raises(CheckpointError, match="is not that of the run in its name"):
        Evaluator(TASK, checkpoints=folder / "one").checkpoint(names["one"])


def test_other_data_under_the_same_words_train_from_the_start(folder):
    """Without a study nothing else tells such tasks apart."""

    def brought(seed):
        inputs = zoo.born(lambda: torch.randn(24, 3), seed)
        batches = [*zip(inputs.split(8), zoo.vectors()[1].split(8), strict=True)]
        return Task(zoo.model("linear"), batches)

    runs = [Run("a", 0.1), Run("b", 0.1, seed=1)]
    Evaluator(brought(0), checkpoints=folder)(runs, STEPS, stage="s", until=6, checkpoint=True)
    with pytest.warns(UserWarning, match="batch 0 of seed 0 is not the one"):
        ours = Evaluator(brought(1), checkpoints=folder)(runs, STEPS, stage="s")
    same(ours, Evaluator(brought(1))(runs, STEPS, stage="s"), names=False)
    assert ours.costs["updates"].tolist() == [12, 12]


# --- writing that fails ---------------------------------------------------------------------------


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["fsync", "open", "replace"])
def test_a_full_disk_costs_the_checkpoint_and_nothing_else(folder, monkeypatch, at):
    Evaluator(TASK, checkpoints=folder)(RUNS[:2], STEPS, stage="s", until=3, checkpoint=True)
    before = files(folder)
    evaluate = Evaluator(TASK, checkpoints=folder)
    with monkeypatch.context() as patch:
        patch.setattr(*((Path, "replace") if at == "replace" else (os, at)), full)
        with pytest.warns(UserWarning, match="No space left on device. Training goes on") as told:
            ours = [
                evaluate(RUNS[:2], STEPS, stage="s", until=until, checkpoint=True)
                for until in (6, 9)
            ]
    assert len(told) == 1, "it is told once"
    assert names_of(ours[0]) == names_of(ours[1]) == {"a": "", "b": ""}
    assert files(folder) == before
    end = evaluate(RUNS[:2], STEPS, stage="s", checkpoint=True)
    same(end, Evaluator(TASK)(RUNS[:2], STEPS, stage="s"), names=False)
    assert files(folder) == sorted(f"{name}.pt" for name in names_of(end).values())


def test_a_small_disk_that_fills_up_is_told_like_any_other(folder):
    """Nothing simulated: a file cannot grow beyond a limit."""
    resource = pytest.importorskip("resource")
    evaluate = Evaluator(TASK, checkpoints=folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.warns(UserWarning, match="no checkpoint in .* Training goes on"):
            trace = evaluate(RUNS[:1], STEPS, stage="s", checkpoint=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names_of(trace) == {"a": ""}
    assert files(folder) == []


def test_what_is_interrupted_while_it_writes_keeps_the_earlier_files(folder, monkeypatch):
    evaluate = Evaluator(TASK, checkpoints=folder)
    evaluate(RUNS[:2], STEPS, stage="s", until=3, checkpoint=True)
    before, plain, calls = files(folder), torch.save, itertools.count()

    def interrupted(*arguments):
        plain(*arguments)
        if next(calls):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate(RUNS[:2], STEPS, stage="s", until=6, checkpoint=True)
    assert files(folder) == before
    end = evaluate(RUNS[:2], STEPS, stage="s", checkpoint=True)
    assert end.costs["updates"].tolist() == [9, 9]
    same(end, Evaluator(TASK)(RUNS[:2], STEPS, stage="s"), names=False)


def test_a_state_that_is_no_plain_data_is_told_once_and_trains_on(folder):
    for where in (folder, None):
        evaluate = Evaluator(a_task(optimizer=Noting), checkpoints=where)
        with pytest.warns(UserWarning, match=r"holds a .*Note.* Training goes on") as told:
            traces = in_segments(itertools.repeat(evaluate), RUNS[:2])
        assert len(told) == 1
        assert all(set(names_of(trace).values()) == {""} for trace in traces)
        same(traces[-1], Evaluator(a_task(optimizer=Noting))(RUNS[:2], STEPS, stage="s"))
    assert files(folder) == []


# --- memory ---------------------------------------------------------------------------------------


def best_of(trace, *, val):
    if val:
        return trace.validations.set_index("run")["loss"].idxmin()
    return trace.frame.groupby("run")["loss"].agg(end_level).drop("fails").idxmin()


@pytest.mark.parametrize("val", [True, False])
def test_in_memory_the_best_of_the_whole_runs_is_held(val):
    evaluate = Evaluator(a_task(val=val))
    apart = [evaluate([run], STEPS, stage="s", checkpoint=True) for run in RUNS]
    names = {name: one for trace in apart for name, one in names_of(trace).items()}
    whole = Evaluator(a_task(val=val))(RUNS, STEPS, stage="s", checkpoint=True)
    assert names_of(whole) == names
    best = best_of(whole, val=val)
    saved = evaluate.checkpoint(names[best])
    expected = Cohort(a_task(val=val), [run for run in RUNS if run.name == best], STEPS).advance()
    assert texts(saved) == texts(expected.checkpoint(best))
    assert texts(through_a_file(saved)) == texts(saved)
    for run, name in names.items():
        if run not in (best, "fails"):
            with pytest.raises(ArgumentError, match="is not in memory"):
                evaluate.checkpoint(name)
    evaluate(RUNS[:1], 5, stage="another length", checkpoint=True)
    assert evaluate.checkpoint(names[best]) is saved
    evaluate.prune([])
    with pytest.raises(ArgumentError, match="is not in memory"):
        evaluate.checkpoint(names[best])


def test_in_memory_a_run_that_goes_on_can_be_had_where_it_is(monkeypatch):
    evaluate = Evaluator(TASK)
    copies, plain = [], Cohort.checkpoint
    monkeypatch.setattr(
        Cohort, "checkpoint", lambda self, name: (copies.append(name), plain(self, name))[1]
    )
    traces = in_segments(itertools.repeat(evaluate), segments=(3, 6))
    assert len(copies) == 2, "one for each call, to see whether it works: none of them is held"
    names = [names_of(trace) for trace in traces]
    assert evaluate.checkpoint(names[1]["b"])["step"] == 6
    with pytest.raises(ArgumentError, match="is not in memory"):
        evaluate.checkpoint(names[0]["b"])
    evaluate(RUNS[:1], STEPS, stage="s", checkpoint=True)
    with pytest.raises(ArgumentError, match="is not in memory"):
        evaluate.checkpoint(names[1]["b"])


def test_in_memory_an_engine_that_continues_no_run_has_no_earlier_checkpoints():
    evaluate = Evaluator(TASK, engine="vmapped", decide=Kept())
    traces = in_segments(itertools.repeat(evaluate), RUNS[:3])
    assert [set(names_of(trace).values()) == {""} for trace in traces] == [True, True, True, False]
    best = best_of(traces[-1], val=True)
    assert evaluate.checkpoint(names_of(traces[-1])[best])["step"] == STEPS


def test_nothing_of_the_users_is_touched(folder):
    model, data = zoo.model("convolution"), zoo.images()
    brought = Task(model, data, val=data, batch_size=8)
    with untouched(model, data):
        for _ in range(2):
            for until in SEGMENTS:
                evaluate = Evaluator(brought, checkpoints=folder)
                trace = evaluate(RUNS[:2], STEPS, stage="s", until=until, checkpoint=True)
                evaluate.checkpoint(names_of(trace)["a"])
            evaluate.prune([])


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
def test_a_caller_in_any_grad_mode_can_resume(folder, caller):
    adam = torch.optim.Adam
    whole = Evaluator(a_task(optimizer=adam))(RUNS[:2], STEPS, stage="s")
    for until in SEGMENTS:
        with caller():
            evaluate = Evaluator(a_task(optimizer=adam), checkpoints=folder)
            trace = evaluate(RUNS[:2], STEPS, stage="s", until=until, checkpoint=True)
    same(trace, whole, names=False)


@settings(max_examples=5)
@given(rows=st.lists(st.tuples(st.text(max_size=3), st.floats(0.1, 1)), min_size=1, max_size=3))
def test_a_plain_function_needs_no_names(rows):
    from lrtune.results.schema import RUNS as COLUMNS
    from lrtune.results.schema import as_table

    table = as_table([(name, lr, "s", 0, "FINISHED", 3) for name, lr in rows], COLUMNS)
    assert table["checkpoint"].tolist() == [""] * len(rows)
    assert as_table(table.drop(columns="checkpoint"), COLUMNS).equals(table)


def test_a_model_is_what_a_checkpoint_makes_of_it(folder):
    """What a user does in the end."""
    trace = Evaluator(TASK, checkpoints=folder)(RUNS[:1], STEPS, stage="s", checkpoint=True)
    saved = Evaluator(TASK, checkpoints=folder).checkpoint(names_of(trace)["a"])
    model = zoo.dropout()
    model.load_state_dict(saved["model"])
    inputs, labels = zoo.vectors()
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model.eval()(inputs), labels)
    whole = validation_losses(trace.validations)["a"]
    assert float(loss) == pytest.approx(whole, rel=1e-6)

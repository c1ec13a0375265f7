"""Exports to Optuna: through its public interface only, as often as wanted, with every version."""

import json
import socket
import subprocess
import sys
import time
import urllib.request

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrtune import Run, compare, range_test, search
from lrtune.errors import ArgumentError
from lrtune.results import read
from lrtune.results.optuna_export import KEY, OTHER, ExportedTrial, add_to_optuna
from lrtune.schedules import SCHEDULES, ReduceOnPlateau, cosine, warmup
from lrtune.study.contents import open_study
from lrtune.study.study import Study
from tests.study.tasks import a_task

SHAPES = [
    cosine(),
    SCHEDULES["wsd"](decay=0.3),
    lambda p: 1 - p,
    ReduceOnPlateau(),
    warmup(0.2, then=cosine()),
]
RUNS = [
    Run(f"{rate}/{seed}/{n}", rate, shape, seed)
    for rate in (0.03, 3e4)  # the last ones diverge or become non-finite
    for seed in (0, 1)
    for n, shape in enumerate(SHAPES)
]


@pytest.fixture
def storage(tmp_path):
    """The URL of an Optuna storage that nobody has used."""
    return f"sqlite:///{tmp_path}/optuna.db"


def trials_in(study):
    """What is compared: everything except times."""
    return [
        (one.number, one.state, one.values, one.params, one.user_attrs, one.intermediate_values)
        for one in study.trials
    ]


# --- laws

OUTCOMES = st.sampled_from(["FINISHED", "DIVERGED", "NONFINITE", ""])
NUMBERS = st.floats()
FINISHED = st.builds(
    ExportedTrial,
    key=st.text(max_size=3),
    lr=st.floats(min_value=1e-300, max_value=1e300),
    schedule=st.one_of(st.sampled_from(sorted(SCHEDULES)), st.text(max_size=5)),
    call=st.text(max_size=5),
    seed=st.one_of(st.none(), st.integers(0, 2**53)),
    steps=st.integers(1, 2**53),
    outcome=OUTCOMES,
    value=NUMBERS,
    losses=st.dictionaries(st.integers(0, 10**6), NUMBERS, max_size=70),
)


@settings(max_examples=30)
@given(st.lists(FINISHED, max_size=6), st.integers(0, 6))
def test_any_finished_runs_become_trials_once_however_often_they_are_exported(runs, first):
    storage = optuna.storages.InMemoryStorage()
    add_to_optuna(runs[:first], "x", storage)
    once = trials_in(add_to_optuna(runs, "x", storage))
    again = add_to_optuna(runs, "x", storage)
    assert trials_in(again) == once
    assert {one.user_attrs[KEY] for one in again.trials} == {one.key for one in runs}
    assert len(again.trials) == len({one.key for one in runs})
    assert again.direction == optuna.study.StudyDirection.MINIMIZE
    complete = [one for one in again.trials if one.state.name == "COMPLETE"]
    assert len(optuna.search_space.intersection_search_space(complete)) >= bool(complete)


def test_an_export_in_parts_is_an_export_at_once(where, storage, tmp_path):
    """Runs that are recorded after an export are added by the next one, and nothing else is."""
    study = Study(where, a_task())
    for half in (RUNS[:9], RUNS[9:]):
        study.evaluate(half, 10, stage="coarse")
        open_study(where).to_optuna(storage)
    parts = trials_in(open_study(where).to_optuna(storage))
    assert parts == trials_in(open_study(where).to_optuna(f"sqlite:///{tmp_path}/other.db"))
    assert parts == trials_in(open_study(where).to_optuna())
    assert len(parts) == len(RUNS)


# --- what a trial says


def test_a_study_is_exported_run_by_run(where):
    study = Study(where, a_task())
    study.evaluate(RUNS[:5], 20, stage="cut off", until=7)  # not finished, so not exported
    trace = study.evaluate(RUNS, 10, stage="coarse")
    exported = open_study(where).to_optuna()
    assert exported.study_name == "study"
    trials = exported.trials
    assert [one.params["lr"] for one in trials] == [run.lr for run in RUNS]
    assert [one.params["seed"] for one in trials] == [run.seed for run in RUNS]
    assert {one.params["steps"] for one in trials} == {10}
    names = ["cosine", "wsd", OTHER, "reduce-on-plateau", OTHER]
    assert [one.params["schedule"] for one in trials[:5]] == names
    assert [one.user_attrs["call"] for one in trials] == trace.runs["schedule"].tolist()
    failed = trace.runs[trace.runs["outcome"].isin(["DIVERGED", "NONFINITE"])]["run"]
    named = {one.user_attrs["name"] for one in trials if one.state.name == "FAIL"}
    assert named == set(failed) != set()
    selection = trace.validations[trace.validations["part"] == "selection"]
    vals = dict(zip(selection["run"], selection["loss"], strict=True))
    values = {o.user_attrs["name"]: o.value for o in trials if o.value is not None}
    assert values == {name: vals[name] for name in values}
    assert exported.best_value == min(values.values())
    losses = trace.frame[trace.frame["run"] == RUNS[0].name].set_index("step")["loss"]
    assert trials[0].intermediate_values == losses.to_dict()
    assert len(exported.trials_dataframe()) == len(RUNS)
    space = optuna.search_space.intersection_search_space(trials)
    assert set(space) == {"lr", "schedule", "seed", "steps"}


def test_every_result_becomes_a_study_and_so_does_its_json(storage):
    swept = range_test(a_task(), steps=20, seeds=2)
    found = search(a_task(), steps=24)
    ranked = compare(a_task(), found, schedules=["step"])
    for result in (swept, found, ranked):
        study = result.to_optuna()
        assert isinstance(study, optuna.Study)
        (again,) = read(result.to_json())
        assert trials_in(again.to_optuna(storage)) == trials_in(study)
        assert trials_in(result.to_optuna(storage)) == trials_in(study)
    assert len(found.to_optuna().trials) == (found.runs["stage"] != "before").sum()
    assert len(ranked.to_optuna().trials) == len(ranked.runs)
    assert [one.params["seed"] for one in swept.to_optuna().trials] == [0, 1]


def test_a_schedule_registered_later_is_exported_as_other(monkeypatch):
    """Optuna lets the choices of a parameter never change."""
    storage = optuna.storages.InMemoryStorage()
    run = ExportedTrial("a", 0.1, "cosine", "cosine()", steps=10, value=1.0, seed=0)
    add_to_optuna([run], "x", storage)
    monkeypatch.setitem(SCHEDULES, "mine", SCHEDULES["cosine"])
    mine = ExportedTrial("b", 0.1, "mine", "cosine()", steps=10, value=1.0, seed=0)
    trials = add_to_optuna([mine], "x", storage).trials
    assert [one.params["schedule"] for one in trials] == ["cosine", OTHER]
    assert add_to_optuna([mine], "y", storage).trials[0].params["schedule"] == "mine"


@pytest.mark.parametrize(
    "address", ["nowhere", "mysql://h/d", "sqlite:////proc/none/x.db", "sqlite:///{folder}/old.db"]
)
def test_a_storage_that_cannot_be_used_is_refused_in_a_sentence(where, tmp_path, address):
    (tmp_path / "old.db").write_bytes(b"no database at all")
    Study(where, a_task())
    with pytest.raises(ArgumentError, match="cannot add trials to the Optuna study 'study'"):
        open_study(where).to_optuna(address.format(folder=tmp_path))


def test_optunas_log_is_left_as_it_was():
    before = optuna.logging.get_verbosity()
    add_to_optuna([], "x")
    assert optuna.logging.get_verbosity() == before


def answer_of(address):
    """The JSON at an address, as soon as its server is up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310
                return json.load(answer)
        except OSError:
            assert time.monotonic() < deadline, f"nothing answers at {address}"
            time.sleep(0.2)


def test_the_dashboard_opens_an_export(where, storage):
    Study(where, a_task()).evaluate(RUNS, 10, stage="coarse")
    open_study(where).to_optuna(storage)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from optuna_dashboard import run_server; run_server({storage!r}, port={port})"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-c", code], **quiet)
    try:
        (study,) = answer_of(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        address = f"http://127.0.0.1:{port}/api/studies/{study['study_id']}"
        assert len(answer_of(address)["trials"]) == len(RUNS)
    finally:
        server.kill()
        server.wait()
    assert study["study_name"] == "study"

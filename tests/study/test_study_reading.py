"""Reading a study: without torch, and without obeying anything that stands in it."""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from lrtune import Run, compare, range_test, report, results, search
from lrtune.errors import ArgumentError, LrtuneError, ResultsError, StudyError
from lrtune.study import tables
from lrtune.study.catalog import delete_study, list_studies, study_location
from lrtune.study.contents import open_study
from lrtune.study.database import Database
from lrtune.study.study import Study
from lrtune.testing import bowl
from tests.reporting import SAMPLES, Reader
from tests.study.tasks import a_task

EVIL = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "'; DROP TABLE lrtune_runs; --",
    '" OR 1=1',
    "../../etc/passwd",
    "\x1b]0;owned\x07\x1b[2J",
    "=HYPERLINK(1)",
    "[bold]x[/bold][/]",
    "N" * 1_000_000,
    "\u202egnp.exe",
    "%s{}{0}$(id)`id`",
]


def measured(where, **more):
    study = Study(where, a_task(), **more)
    study.record(range_test(a_task(), steps=20, seeds=1, evaluate=study.evaluate))
    found = search(a_task(), steps=12, evaluate=study.evaluate)
    study.record(found)
    return study, found


def test_a_report_of_the_study_is_the_report_of_the_results(where, tmp_path):
    study, found = measured(where)
    ranked = compare(a_task(), found.lr, steps=12, seeds=2, evaluate=study.evaluate)
    study.record(ranked)
    sweep = range_test(a_task(), steps=20, seeds=1)
    plain = report([sweep, found, ranked], tmp_path / "plain.html")
    stored = report(open_study(where).reported, tmp_path / "stored.html")
    assert stored.read_bytes() == plain.read_bytes()


def test_what_has_led_to_nothing_yet_is_reported_as_traces(where):
    study, _ = measured(where)
    assert [type(one).__name__ for one in open_study(where).reported] == [
        "RangeTestResult",
        "SearchResult",
    ]
    for stage in ("compare: pilot", "compare: horizon 1"):
        runs = [Run(f"{stage}/{seed}", 0.123, seed=seed) for seed in range(2)]
        trace = study.evaluate(runs, 8, stage=stage)
        if stage.endswith("pilot"):
            pilot = trace
    assert len(open_study(where).reported) == 3  # the same runs under other names are known
    again = open_study(where).reported[-1]
    for part in ("frame", "runs", "validations"):
        pd.testing.assert_frame_equal(getattr(again, part), getattr(pilot, part))


def test_the_same_conclusion_is_kept_once_and_the_latest_is_told(where):
    study, found = measured(where)
    study.record(found)
    again = search(a_task(), steps=16, evaluate=study.evaluate)
    study.record(again)
    with Database(study_location(where), create=False).read() as link:
        assert len(link.execute(tables.results.select()).all()) == 3
    kept = open_study(where).results[1]
    assert kept.to_json() == again.to_json()


def test_reading_needs_neither_torch_nor_optuna_nor_anyones_code(where, tmp_path):
    measured(where)
    code = f"""
import sys
from typer.testing import CliRunner
from lrtune.cli.commands import app
for line in (
    ["report", "--study", {where!r}, "--out", "r.html"], ["studies", "list", {where!r}],
    ["studies", "show", {where!r}], ["studies", "export", {where!r}, "--out", "r.csv"],
    ["studies", "delete", {where!r}, "--yes"],
):
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, (line, result.output, result.exception)
print([name for name in ("torch", "optuna") if name in sys.modules])
"""
    seen = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert seen.stdout.strip() == "[]", seen.stderr


def test_exports_hold_every_run_and_every_step(where, tmp_path):
    measured(where)
    contents = open_study(where)
    number = {name: lambda text: float(text or "nan") for name in ("lr", "train", "loss")}
    exact = functools.partial(pd.read_csv, converters=number)  # pandas 2 rounds the last bit
    kinds = {"csv": exact, "parquet": pd.read_parquet}
    if importlib.util.find_spec("pyarrow") is None:  # `make test-parquet` has it
        del kinds["parquet"]
    for ending, read in kinds.items():
        runs = read(contents.to_file(tmp_path / f"runs.{ending}"))
        assert runs["lr"].tolist() == contents.recorded["lr"].tolist()
        assert runs["train"].fillna(-1).tolist() == contents.recorded["train"].fillna(-1).tolist()
        steps = read(contents.to_file(tmp_path / f"steps.{ending}", curves=True))
        assert len(steps) == contents.recorded["recorded"].sum()
        assert steps["loss"].fillna(-1).tolist() == contents.curves["loss"].fillna(-1).tolist()
    path = contents.to_file(tmp_path / "all.json")
    plain = json.loads(path.read_text())
    assert len(plain["runs"]) == len(contents.recorded)
    assert [one.to_json() for one in results.read(path.read_text())] == [
        one.to_json() for one in contents.reported
    ]
    with pytest.raises(ArgumentError, match=r"\.csv, \.parquet or \.json"):
        contents.to_file(tmp_path / "x.xls")


def test_parquet_without_its_library_says_what_to_do(where, tmp_path, monkeypatch):
    Study(where, bowl())
    contents = open_study(where)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ArgumentError, match=r"pip install 'lrtune\[parquet\]'"):
        contents.to_file(tmp_path / "x.parquet")


def test_deleting_takes_one_study_and_leaves_the_others(where, server):
    for n in range(2):
        Study(where, bowl(4.0 + n), fresh=True).evaluate([Run("a", 0.1)], 5, stage="s")
    assert "#study~1 with 1 run" in delete_study(f"{where}#study~1")
    assert [one.runs for one in list_studies(where)] == [1]
    with pytest.raises(StudyError, match="holds no study 'study~1'; it holds study"):
        open_study(f"{where}#study~1")
    delete_study(where)
    if server is None:
        assert list(study_location(where).file.parent.iterdir()) == []
    else:
        assert list_studies(where) == []
        with Database(study_location(where), create=False).read() as link:
            for table in tables.OF_A_STUDY:
                assert link.execute(table.select()).all() == []


def test_a_study_in_use_is_not_deleted(where):
    study = Study(where, bowl())

    def meanwhile(*_arguments, **_more):
        with pytest.raises(StudyError, match=f"in use by process {os.getpid()}"):
            delete_study(where)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.evaluator(meanwhile)([Run("a", 0.1)], 5, stage="s")


def test_a_study_that_cannot_be_read_does_not_hide_the_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Study("good", bowl())
    Path(".lrtune/bad.db").write_bytes(b"nothing")
    Path(".lrtune/not a name.db").write_bytes(b"nothing")
    bad, good = list_studies()
    assert (bad.study, good.study) == ("bad", "good")
    assert "damaged" in bad.fault
    assert good.fault == ""


# --- hostile databases and files


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_names_from_anywhere_execute_and_overwrite_nothing(where, tmp_path, monkeypatch, evil):
    """As names of runs and schedules, stages, results, manifests, decisions."""
    monkeypatch.chdir(tmp_path)
    study = Study(where, bowl())

    def shape(progress):
        return 1 - progress

    shape.__name__ = evil[:2000]
    study.evaluate([Run(evil, 0.1, shape)], 5, stage=evil)
    for make in SAMPLES.values():
        study.record(make(evil[:5000]))
    study.decide(evil[:100], lambda: evil)
    before = sorted(Path().rglob("*"))
    contents = open_study(where)
    page = Reader(report(contents.reported, "r.html").read_text())
    plain = Reader(report([make("text") for make in SAMPLES.values()], "p.html").read_text())
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in plain.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not any("javascript:" in str(a.get("href", "")) for _, a in page.tags)
    csv = contents.to_file(Path("r.csv")).read_text()
    assert "\n=" not in csv
    assert ",=" not in csv
    from typer.testing import CliRunner

    from lrtune.cli.commands import app

    for command in (["show", where], ["list", where], ["export", where, "--out", "r.json"]):
        result = CliRunner().invoke(app, ["studies", *command])
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.stdout
    new = {one.name for one in set(Path().rglob("*")) - set(before)}
    assert new - {"study.db-wal", "study.db-shm"} == {"r.html", "p.html", "r.csv", "r.json"}
    Study(where, bowl()).evaluate([Run(evil, 0.1, shape)], 5, stage=evil)


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_a_name_of_a_study_from_anywhere_is_refused_or_stays_inside(tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    from typer.testing import CliRunner

    from lrtune.cli.commands import app

    for command in ("show", "delete", "export"):
        more = {"delete": ["--yes"], "export": ["--out", "x.csv"]}.get(command, [])
        result = CliRunner().invoke(app, ["studies", command, "--", evil, *more])
        assert result.exit_code != 0
        assert "\x1b" not in result.stderr
        assert len(result.stderr) < 3000
    assert list(tmp_path.iterdir()) == []


@functools.cache
def a_database():
    """The bytes of a database with something in every table."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        study = Study(f"sqlite:///{folder}/x.db", bowl())
        study.evaluate([Run("a", 0.1)], 5, stage="s")
        study.record(SAMPLES[results.SearchResult]("text"))
        study.decide("a", lambda: "b")
        return Path(folder, "x.db").read_bytes()


TASK = bowl()
CELLS = st.one_of(
    st.none(), st.integers(-(2**40), 2**40), st.floats(), st.text(), st.binary(max_size=40)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_any_value_in_any_cell_is_taken_or_refused_in_a_sentence(sqlite_only, data):
    """SQLite takes any type in any column: whoever reads it must not trust it."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        where = f"sqlite:///{folder}/x.db#study"
        Path(folder, "x.db").write_bytes(a_database())
        table = data.draw(st.sampled_from([tables.studies, *tables.OF_A_STUDY]))
        column = data.draw(st.sampled_from(table.columns.keys()))
        import sqlite3

        link = sqlite3.connect(f"{folder}/x.db")
        value = data.draw(CELLS)
        try:
            link.execute(f"UPDATE {table.name} SET {column} = ?", (value,))  # noqa: S608
            link.commit()
        except (sqlite3.Error, UnicodeEncodeError):
            return
        finally:
            link.close()
        for use in (
            lambda: list_studies(where),
            lambda: open_study(where).reported,
            lambda: open_study(where).curves,
            lambda: Study(where, TASK).evaluate([Run("a", 0.1)], 5, stage="s"),
        ):
            try:
                use()
            except LrtuneError as error:
                assert str(error)  # noqa: PT017


def with_new_checksum(table, row, **other):
    """A row by somebody who knows how checksums are made."""
    return tables.with_checksum(
        table, {k: v for k, v in {**row, **other}.items() if k != "checksum"}
    )


@pytest.mark.parametrize(
    ("table", "other"),
    [
        (tables.runs, {"count": 10**12}),
        (tables.runs, {"count": -1}),
        (tables.runs, {"outcome": "OWNED"}),
        (tables.runs, {"loss": b"\x80\x04cos\nsystem\n(S'id'\ntR."}),  # a pickle
        (tables.results, {"json": "{"}),
        (tables.results, {"json": "[" * 100_000}),
        (tables.results, {"json": '{"kind": "search", "lr": NaN}'}),
        (tables.results, {"json": '{"results": []}'}),
        (tables.sessions, {"manifest": "[1]"}),
        (tables.studies, {"task": "{}"}),
        (tables.studies, {"task": '{"words": 3, "digests": [], "losses": "x"}'}),
    ],
)
def test_a_hostile_row_with_a_fitting_checksum_is_refused_in_a_sentence(where, table, other):
    study = Study(where, bowl())
    study.evaluate([Run("a", 0.1)], 5, stage="s")
    study.record(SAMPLES[results.SearchResult]("text"))
    with Database(study_location(where), create=False).write() as link:
        row = dict(link.execute(table.select()).mappings().first())
        link.execute(update(table).values(with_new_checksum(table, row, **other)))
    with pytest.raises((StudyError, ResultsError)) as error:
        open_study(where)
    assert len(str(error.value)) < 500


@given(st.one_of(st.text(), st.binary()), st.sampled_from(["json", "html", ""]))
def test_a_report_is_made_of_results_or_refused(content, ending):
    """`lrtune report` on any file."""
    import tempfile

    from lrtune.reporting import load

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{ending}"
        raw = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
        path.write_bytes(raw)
        with pytest.raises(ResultsError):
            load(path)

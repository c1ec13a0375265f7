"""The database: made once, by whoever is first; private; of a known version; never guessed at."""

import multiprocessing
import os
import re
import sqlite3
import stat
import subprocess
import sys
from importlib.metadata import version

import pytest
from sqlalchemy import create_engine, text

from lrtune.errors import StudyError
from lrtune.study import database as database_module
from lrtune.study import tables
from lrtune.study.catalog import study_location
from lrtune.study.database import Database
from lrtune.task.value_texts import text_digest


def changed(where, *statements):
    """Do something to a database behind its back."""
    engine = create_engine(study_location(where).url)
    with engine.begin() as link:
        for statement in statements:
            link.execute(text(statement))
    engine.dispose()


def _creates(where, barrier, answers):
    barrier.wait()
    try:
        Database(study_location(where), create=True)
        answers.put("")
    except BaseException as error:  # noqa: BLE001 - the parent wants to see it
        answers.put(repr(error))


@pytest.mark.parametrize("attempt", range(3))
def test_eight_processes_make_one_database_at_once(where, attempt):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(8), context.Queue()
    children = [context.Process(target=_creates, args=(where, barrier, answers)) for _ in range(8)]
    for child in children:
        child.start()
    assert [answers.get(timeout=120) for _ in children] == [""] * 8
    for child in children:
        child.join(30)
    with Database(study_location(where), create=False).read() as link:
        assert len(link.execute(tables.schema.select()).all()) == 1


def test_files_and_folders_are_for_their_owner_only(sqlite_only, tmp_path):
    before = os.umask(0)
    try:
        file = tmp_path / "a" / "b" / "study.db"
        database = Database(study_location(f"sqlite:///{file}"), create=True)
        with database.write() as link:
            link.execute(text("CREATE TABLE t (x INTEGER)"))
            beside = list(file.parent.iterdir())
            assert len(beside) == 3
            assert {stat.S_IMODE(one.stat().st_mode) for one in beside} == {0o600}
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [one.name for one in file.parent.iterdir()] == ["study.db"]
    link = sqlite3.connect(file)
    assert link.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    link.close()


def test_what_is_not_there_is_not_made_by_looking(where, sqlite_only):
    with pytest.raises(StudyError, match="there is no study"):
        Database(study_location(where), create=False)
    assert not study_location(where).file.exists()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 500])
def test_a_file_that_is_no_database_is_refused_and_left_alone(sqlite_only, where, content):
    study_location(where).file.write_bytes(content)
    for make in (True, False):
        with pytest.raises(StudyError, match="is damaged"):
            Database(study_location(where), create=make)
    assert study_location(where).file.read_bytes() == content
    assert [one.name for one in study_location(where).file.parent.iterdir()] == ["study.db"]


def test_a_database_of_something_else_is_refused(where, sqlite_only):
    link = sqlite3.connect(study_location(where).file)
    link.execute("CREATE TABLE theirs (x)")
    link.close()
    with pytest.raises(StudyError, match="holds no study of lrtune"):
        Database(study_location(where), create=True)


@pytest.mark.parametrize(
    "code",
    [
        "CREATE TRIGGER t AFTER INSERT ON lrtune_runs BEGIN DELETE FROM lrtune_runs; END",
        "CREATE VIEW v AS SELECT load_extension('x')",
    ],
)
def test_a_database_that_would_do_something_is_refused(where, sqlite_only, code):
    Database(study_location(where), create=True)
    changed(where, code)
    with pytest.raises(StudyError, match="trigger or a view"):
        Database(study_location(where), create=True)


@pytest.mark.parametrize("other", [0, 99])
def test_another_version_of_the_tables_is_refused_with_both_versions(where, other):
    Database(study_location(where), create=True)
    changed(where, f"UPDATE lrtune_schema SET version = {other}, made_by = '7.0'")  # noqa: S608
    says = f"tables of version {other}, made by lrtune '7.0'; this is lrtune {version('lrtune')}"
    for create in (True, False):
        with pytest.raises(StudyError, match=re.escape(says)):
            Database(study_location(where), create=create)


def test_tables_without_a_version_are_refused(where):
    Database(study_location(where), create=True)
    changed(where, "DELETE FROM lrtune_schema")
    with pytest.raises(StudyError, match="does not state the version"):
        Database(study_location(where), create=True)


def test_a_file_system_without_hard_links_will_do(sqlite_only, where, monkeypatch):
    def refuses(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuses)
    Database(study_location(where), create=True)
    assert [one.name for one in study_location(where).file.parent.iterdir()] == ["study.db"]


def test_a_file_that_was_not_written_whole_is_told_and_removed(sqlite_only, where, monkeypatch):
    monkeypatch.setattr(database_module, "_fault", lambda *_: "it has 7 bytes, expected 8")
    with pytest.raises(StudyError, match="not written whole, it has 7 bytes"):
        Database(study_location(where), create=True)
    assert list(study_location(where).file.parent.iterdir()) == []


def test_a_file_that_cannot_be_opened_is_told(sqlite_only, where, monkeypatch):
    def fails(*_):
        raise sqlite3.OperationalError("unable to open database file")

    Database(study_location(where), create=True)
    monkeypatch.setattr(database_module, "connect_file", fails)
    with pytest.raises(StudyError, match=r"cannot read the study .*: unable to open"):
        Database(study_location(where), create=False)


def test_a_driver_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match=r"needs a driver.*pip install 'lrtune\[postgres\]'"):
        Database(study_location("postgresql+psycopg://nobody@127.0.0.1:1/none"), create=True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (sqlite3.DatabaseError("database disk image is malformed"), "is damaged.*Restore a copy"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "--no-study"),
        (sqlite3.OperationalError("database or disk is full"), "Free some space"),
        (ValueError(), "is damaged: ValueError"),
    ],
)
def test_what_a_database_reports_is_told_with_a_way_out(where, error, says):
    database = Database(study_location(where), create=True)
    with pytest.raises(StudyError, match=says), database.write():
        raise error


def test_changed_tables_need_a_new_version():
    """This digest changes with the tables. Then raise SCHEMA_VERSION, and update both here."""
    layout = [
        (table.name, [(column.name, type(column.type).__name__) for column in table.columns])
        for table in tables.metadata.sorted_tables
    ]
    assert (tables.SCHEMA_VERSION, text_digest([repr(layout)])) == (4, LAYOUT)


LAYOUT = "78217fd74a44195e51666df5acbf8459"


def test_a_transaction_is_whole_or_nothing(where):
    database = Database(study_location(where), create=True)

    def interrupted():
        with database.write() as link:
            link.execute(
                tables.decisions.insert().values(study=1, name="a", value="b", checksum="c")
            )
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with database.read() as link:
        assert link.execute(tables.decisions.select()).all() == []


def test_reading_cannot_write(where, sqlite_only):
    database = Database(study_location(where), create=True)
    with pytest.raises(StudyError, match="cannot be written"), database.read() as link:
        link.execute(tables.schema.delete())


def test_sqlite_locked_by_another_process_is_told_after_some_patience(
    where, sqlite_only, monkeypatch
):
    monkeypatch.setattr(database_module, "PATIENCE", 0.3)
    database = Database(study_location(where), create=True)
    hold = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(study_location(where).file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StudyError, match="locked by another process") as error, database.write():
        pass
    assert "run the same command again to resume" in str(error.value)
    holder.communicate("\n")
    with database.write():
        pass


def test_a_server_that_is_not_there_is_told():
    pytest.importorskip("psycopg")
    nowhere = "postgresql+psycopg://nobody:secret@127.0.0.1:1/none?connect_timeout=2"
    with pytest.raises(StudyError, match="cannot be used") as error:
        Database(study_location(nowhere), create=True)
    assert "secret" not in str(error.value)


def test_a_folder_of_studies_that_may_not_be_read_hides_no_other_study(tmp_path, monkeypatch):
    """Its own name would be found there; the location of another file is told as it is."""
    from lrtune.study.catalog import study_location

    monkeypatch.chdir(tmp_path)
    (tmp_path / ".lrtune").mkdir(mode=0o700)
    there = study_location(f"sqlite:///{tmp_path}/other.db")

    def refuse(*_args, **_more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    assert str(there).endswith("other.db#study")

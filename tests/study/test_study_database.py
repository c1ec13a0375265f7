"""The database: made once, by whoever is first; private; of a known version; never guessed at."""

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
from importlib.metadata import version

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from lrtune.errors import StudyError
from lrtune.study import files, tables
from lrtune.study.database import Database
from lrtune.study.location import place


def changed(where, *statements):
    """Do something to a database behind its back."""
    engine = create_engine(place(where).url)
    with engine.begin() as link:
        for statement in statements:
            link.execute(text(statement))
    engine.dispose()


def _makes(where, barrier, told):
    barrier.wait()
    try:
        Database(place(where), make=True)
        told.put("")
    except BaseException as error:  # noqa: BLE001 - the parent wants to see it
        told.put(repr(error))


@pytest.mark.parametrize("attempt", range(3))
def test_eight_processes_make_one_database_at_once(where, attempt):
    context = multiprocessing.get_context("fork")
    barrier, told = context.Barrier(8), context.Queue()
    children = [context.Process(target=_makes, args=(where, barrier, told)) for _ in range(8)]
    for child in children:
        child.start()
    assert [told.get(timeout=120) for _ in children] == [""] * 8
    for child in children:
        child.join(30)
    with Database(place(where), make=False).read() as link:
        assert len(link.execute(tables.schema.select()).all()) == 1


def test_files_and_folders_are_for_their_owner_only(sqlite_only, tmp_path):
    before = os.umask(0)
    try:
        file = tmp_path / "a" / "b" / "study.db"
        database = Database(place(f"sqlite:///{file}"), make=True)
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
        Database(place(where), make=False)
    assert not place(where).file.exists()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 500])
def test_a_file_that_is_no_database_is_refused_and_left_alone(sqlite_only, where, content):
    place(where).file.write_bytes(content)
    for make in (True, False):
        with pytest.raises(StudyError, match="is damaged"):
            Database(place(where), make=make)
    assert place(where).file.read_bytes() == content
    assert [one.name for one in place(where).file.parent.iterdir()] == ["study.db"]


def test_a_database_of_something_else_is_refused(where, sqlite_only):
    link = sqlite3.connect(place(where).file)
    link.execute("CREATE TABLE theirs (x)")
    link.close()
    with pytest.raises(StudyError, match="holds no study of lrtune"):
        Database(place(where), make=True)


@pytest.mark.parametrize(
    "code",
    [
        "CREATE TRIGGER t AFTER INSERT ON lrtune_rungs BEGIN DELETE FROM lrtune_rungs; END",
        "CREATE VIEW v AS SELECT load_extension('x')",
    ],
)
def test_a_database_that_would_do_something_is_refused(where, sqlite_only, code):
    Database(place(where), make=True)
    changed(where, code)
    with pytest.raises(StudyError, match="trigger or a view"):
        Database(place(where), make=True)


def test_a_newer_version_is_refused_with_both_versions(where):
    Database(place(where), make=True)
    changed(where, "UPDATE lrtune_schema SET version = 99, made_by = '7.0'")
    with pytest.raises(StudyError, match=f"version 99, made by lrtune '7.0'.*{version('lrtune')}"):
        Database(place(where), make=True)


def test_an_older_version_is_brought_up_step_by_step_or_refused(where, monkeypatch):
    Database(place(where), make=True)
    monkeypatch.setattr(tables, "SCHEMA", 3)
    with pytest.raises(StudyError, match="version 1, which cannot be brought to 3"):
        Database(place(where), make=True)
    steps = {
        1: ("CREATE TABLE lrtune_new (x INTEGER)",),
        2: ("INSERT INTO lrtune_new VALUES (7)",),
    }
    monkeypatch.setattr(tables, "MIGRATIONS", steps)
    with pytest.raises(StudyError, match="version 1, made by"):
        Database(place(where), make=False)  # who only reads changes nothing
    with Database(place(where), make=True).read() as link:
        assert link.scalar(text("SELECT x FROM lrtune_new")) == 7
        assert link.scalar(text("SELECT version FROM lrtune_schema")) == 3


def test_a_migration_that_fails_changes_nothing(where, monkeypatch):
    Database(place(where), make=True)
    monkeypatch.setattr(tables, "SCHEMA", 2)
    broken = {1: ("CREATE TABLE lrtune_new (x INTEGER)", "INSERT INTO nowhere VALUES (1)")}
    monkeypatch.setattr(tables, "MIGRATIONS", broken)
    with pytest.raises(StudyError):
        Database(place(where), make=True)
    monkeypatch.undo()
    with Database(place(where), make=True).read() as link, pytest.raises((DBAPIError, StudyError)):
        link.execute(text("SELECT * FROM lrtune_new"))


def test_changed_tables_need_a_new_version():
    """This sum changes with the tables. Then raise SCHEMA, write the migration, and mend it."""
    assert (tables.SCHEMA, tables.shape()) == (1, SHAPE)


SHAPE = "fd388e90519f6126699d83bba8a8782f"


def test_a_transaction_is_whole_or_nothing(where):
    database = Database(place(where), make=True)

    def interrupted():
        with database.write() as link:
            link.execute(tables.decisions.insert().values(study=1, name="a", value="b", sum="c"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with database.read() as link:
        assert link.execute(tables.decisions.select()).all() == []


def test_reading_cannot_write(where, sqlite_only):
    database = Database(place(where), make=True)
    with pytest.raises(StudyError, match="cannot be written"), database.read() as link:
        link.execute(tables.schema.delete())


def test_sqlite_locked_by_another_process_is_told_after_some_patience(
    where, sqlite_only, monkeypatch
):
    monkeypatch.setattr(files, "PATIENCE", 0.3)
    database = Database(place(where), make=True)
    hold = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(place(where).file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StudyError, match="locked by another process") as error, database.write():
        pass
    assert "run the same command again to go on" in str(error.value)
    holder.communicate("\n")
    with database.write():
        pass


def test_a_server_that_is_not_there_is_told():
    pytest.importorskip("psycopg")
    nowhere = "postgresql+psycopg://nobody:secret@127.0.0.1:1/none?connect_timeout=2"
    with pytest.raises(StudyError, match="cannot be used") as error:
        Database(place(nowhere), make=True)
    assert "secret" not in str(error.value)

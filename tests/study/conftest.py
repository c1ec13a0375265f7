"""The database that the tests of a study run against: SQLite, or a real PostgreSQL server."""

import itertools
import os

import pytest

from tests.study import postgres

NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server():
    """The address of a running PostgreSQL server, without a database; None for SQLite."""
    if os.environ.get("LRTUNE_DATABASE", "sqlite") != "postgres":
        yield None
        return
    with postgres.server() as address:
        yield address


@pytest.fixture
def where(server, tmp_path):
    """A place for a study that nobody has used: a database of its own."""
    if server is None:
        return f"sqlite:///{tmp_path}/study.db"
    return server.database(f"study_{os.getpid()}_{next(NUMBERS)}")


@pytest.fixture
def sqlite_only(server):
    """For what concerns files."""
    if server is not None:
        pytest.skip("about files; PostgreSQL keeps its own")

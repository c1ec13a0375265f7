"""Tables: what a study's database holds beside Optuna's own, and how a row is guarded.

Every row carries a sum over its other values: what a disk or a careless hand has changed is
refused when it is read. Numbers that vary by step are kept as compressed little-endian arrays,
with their length beside them. There is no pickle anywhere.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from lrtune.errors import StudyError

SCHEMA = 1
"""The version of these tables. A change of them takes the next number, and a step in MIGRATIONS."""

LONGEST = 100_000_000
"""No run has more steps than this; a row that claims so is damaged, or made to exhaust memory."""

Number = BigInteger().with_variant(Integer, "sqlite")
Real = Float(53)
metadata = MetaData()

schema = Table(
    "lrtune_schema",
    metadata,
    Column("version", Number, nullable=False),
    Column("made_by", String(64), nullable=False),  # the version of lrtune
    Column("shape", String(64), nullable=False),  # a sum over the definitions of all tables
)
studies = Table(
    "lrtune_studies",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", String(200), unique=True, nullable=False),
    Column("trials", Number, nullable=False),  # study_id among Optuna's studies
    Column("created", String(40), nullable=False),  # ISO 8601, UTC; for people only
    Column("task", Text, nullable=False),  # JSON: the fingerprint's parts
    Column("sum", String(16), nullable=False),
)
seeds = Table(
    "lrtune_seeds",
    metadata,
    Column("study", Number, primary_key=True, autoincrement=False),
    Column("seed", Number, primary_key=True, autoincrement=False),
    Column("parts", Text, nullable=False),  # JSON: the seed's weights and first batches
    Column("sum", String(16), nullable=False),
)
sessions = Table(
    "lrtune_sessions",
    metadata,
    Column("id", Number, primary_key=True),
    Column("study", Number, nullable=False, index=True),
    Column("manifest", Text, nullable=False),  # JSON
    Column("sum", String(16), nullable=False),
)
rungs = Table(
    "lrtune_rungs",
    metadata,
    Column("id", Number, primary_key=True),  # in the order of recording
    Column("study", Number, nullable=False),
    Column("key", String(32), nullable=False),  # the run's, see keys
    Column("until", Number, nullable=False),  # trained up to this step
    Column("validated", Number, nullable=False),  # 0 or 1: whether validation was asked for
    Column("session", Number, nullable=False),
    Column("trial", Number, nullable=False),  # trial_id among Optuna's trials
    Column("stage", Text, nullable=False),  # what it was first trained for
    Column("name", Text, nullable=False),  # Run.name there
    Column("lr", Real, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("seed", Number, nullable=False),
    Column("steps", Number, nullable=False),  # the horizon
    Column("engine", String(64), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("count", Number, nullable=False),  # recorded steps, the length of the next three
    Column("loss", LargeBinary, nullable=False),  # float64
    Column("rate", LargeBinary, nullable=False),  # float64
    Column("batch", LargeBinary, nullable=False),  # int64
    Column("val", LargeBinary, nullable=False),  # float64: the validation loss, or nothing
    Column("sum", String(16), nullable=False),
    UniqueConstraint("study", "key", "until", "validated"),
)
claims = Table(
    "lrtune_claims",
    metadata,
    Column("study", Number, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
    Column("until", Number, primary_key=True, autoincrement=False),
    Column("validated", Number, primary_key=True, autoincrement=False),
    Column("owner", String(32), nullable=False),
    Column("trial", Number, nullable=False),
)
owners = Table(
    "lrtune_owners",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Number, nullable=False),
    Column("born", Text, nullable=False),  # when the process started, as the host tells it
    Column("beat", Number, nullable=False),  # grows while it lives
)
results = Table(
    "lrtune_results",
    metadata,
    Column("id", Number, primary_key=True),
    Column("study", Number, nullable=False, index=True),
    Column("session", Number, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("mark", Number, nullable=False),  # the last rung that was there
    Column("json", Text, nullable=False),
    Column("sum", String(16), nullable=False),
)
decisions = Table(
    "lrtune_decisions",
    metadata,
    Column("study", Number, primary_key=True, autoincrement=False),
    Column("name", String(200), primary_key=True),
    Column("value", Text, nullable=False),
    Column("sum", String(16), nullable=False),
)
OWNED = (seeds, sessions, rungs, claims, results, decisions)
"""The tables with a column `study`."""

MIGRATIONS: Mapping[int, tuple[str, ...]] = {}
"""What leads from each older version to the next one: SQL that SQLite and PostgreSQL know."""


def shape() -> str:
    """A sum over the definitions of all tables, which tells a forgotten migration."""
    told = [
        (table.name, [(column.name, type(column.type).__name__) for column in table.columns])
        for table in metadata.sorted_tables
    ]
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


def damaged(what: str) -> StudyError:
    """The error for what cannot be as lrtune wrote it."""
    return StudyError(
        f"the study is damaged: {what}. It was left untouched. Put back a copy of its database, "
        "or begin another one with --study NAME."
    )


def guarded(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its sum, ready to be inserted."""
    return {**row, "sum": _sum(table, row)}


def intact(table: Table, row: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The row as it was written.

    Raises:
        StudyError: Its sum does not fit: it was changed since.
    """
    if row["sum"] != _sum(table, row):
        raise damaged(f"the checksum of a row of {table.name} does not fit")
    return row


def _sum(table: Table, row: Mapping[Any, Any]) -> str:
    """64 bits over every value but the id, which the database gives."""
    summed = hashlib.blake2b(digest_size=8)
    for name in table.columns.keys():  # noqa: SIM118 - it is no mapping
        if name not in ("id", "sum"):
            value = _bytes(row[name])
            summed.update(struct.pack("<q", len(value)) + value)
    return summed.hexdigest()


def _bytes(value: object) -> bytes:
    if isinstance(value, (bytes, memoryview)):
        return b"b" + bytes(value)
    if isinstance(value, float):
        return b"f" + struct.pack("<d", value)
    return type(value).__name__.encode() + str(value).encode("utf-8", "surrogatepass")


def told(value: object) -> str:
    """Text as every database takes it: no lone surrogates, no NUL."""
    return str(value).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def packed(numbers: Iterable[Any], dtype: str) -> bytes:
    """Numbers as compressed bytes; `dtype` is `<f8` or `<i8`.

    >>> len(packed([0.5] * 1000, "<f8")) < 100
    True
    """
    return zlib.compress(np.asarray(numbers, dtype=dtype).tobytes(), level=1)


def unpacked(blob: bytes, dtype: str, count: int) -> NDArray[Any]:
    """The `count` numbers that were packed.

    Raises:
        StudyError: It holds more, fewer, or something else.

    >>> unpacked(packed([1, 2], "<i8"), "<i8", 2).tolist()
    [1, 2]
    """
    if not 0 <= count <= LONGEST:
        raise damaged(f"a run has {count} recorded steps, expected 0 ... {LONGEST}")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(blob, count * 8 + 1)  # never more, however small the blob
    except zlib.error as error:
        raise damaged(f"the numbers of a run cannot be read ({error})") from error
    if len(raw) != count * 8 or not inflate.eof or inflate.unused_data:
        raise damaged(f"a run has other numbers than the {count} that are expected")
    return np.frombuffer(raw, dtype=dtype).astype(dtype[1:])

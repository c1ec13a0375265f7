"""The tables of a study's database, and the checksums of their rows.

Every row that matters carries a checksum over its other values, so a value that a disk or a
careless hand has changed is refused when it is read. Numbers that vary by step are kept as
compressed little-endian arrays beside their length. Nothing is pickled.
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

SCHEMA_VERSION = 1
"""The version of these tables. Every change of them takes the next number."""

MAX_STEPS = 100_000_000
"""No run has more steps. A row that claims more is damaged, or made to exhaust the memory."""

Number = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER key counts up in SQLite
Real = Float(53)
metadata = MetaData()

schema = Table(
    "lrtune_schema",
    metadata,
    Column("version", Number, nullable=False),
    Column("made_by", String(64), nullable=False),  # the version of lrtune
)
studies = Table(
    "lrtune_studies",
    metadata,
    Column("id", Number, primary_key=True),
    Column("name", String(200), unique=True, nullable=False),
    Column("created", String(40), nullable=False),  # ISO 8601, UTC; for people only
    Column("task", Text, nullable=False),  # JSON of the task's Fingerprint
    Column("checksum", String(16), nullable=False),
)
seeds = Table(
    "lrtune_seeds",
    metadata,
    Column("study", Number, primary_key=True, autoincrement=False),
    Column("seed", Number, primary_key=True, autoincrement=False),
    Column("parts", Text, nullable=False),  # JSON: digests of the seed's weights and batches
    Column("checksum", String(16), nullable=False),
)
sessions = Table(
    "lrtune_sessions",
    metadata,
    Column("id", Number, primary_key=True),
    Column("study", Number, nullable=False, index=True),
    Column("manifest", Text, nullable=False),  # JSON
    Column("checksum", String(16), nullable=False),
)
runs = Table(
    "lrtune_runs",
    metadata,
    Column("id", Number, primary_key=True),  # in the order of recording
    Column("study", Number, nullable=False),
    Column("key", String(32), nullable=False),  # of the run, see fingerprint.run_key
    Column("until", Number, nullable=False),  # trained up to this step
    Column("validated", Number, nullable=False),  # 1 if validation was asked for, else 0
    Column("session", Number, nullable=False),
    Column("stage", Text, nullable=False),  # the stage that trained it
    Column("name", Text, nullable=False),  # Run.name in that stage
    Column("lr", Real, nullable=False),
    Column("schedule", Text, nullable=False),  # the call that makes it
    Column("schedule_name", Text, nullable=False),  # in the registry; empty where it is not there
    Column("seed", Number, nullable=False),
    Column("steps", Number, nullable=False),  # the horizon
    Column("engine", String(64), nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("count", Number, nullable=False),  # recorded steps, the length of the next three
    Column("loss", LargeBinary, nullable=False),  # float64
    Column("rate", LargeBinary, nullable=False),  # float64
    Column("batch", LargeBinary, nullable=False),  # int64
    Column("val", LargeBinary, nullable=False),  # float64: the validation loss, or nothing
    Column("updates", Number, nullable=False),  # charged to the call that recorded it
    Column("val_samples", Number, nullable=False),
    Column("seconds", Real, nullable=False),
    Column("checksum", String(16), nullable=False),
    UniqueConstraint("study", "key", "until", "validated"),
)
leases = Table(
    "lrtune_leases",
    metadata,
    Column("study", Number, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
    Column("until", Number, primary_key=True, autoincrement=False),
    Column("validated", Number, primary_key=True, autoincrement=False),
    Column("process", String(32), nullable=False),  # token in lrtune_processes
)
processes = Table(
    "lrtune_processes",
    metadata,
    Column("token", String(32), primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Number, nullable=False),
    Column("started", Text, nullable=False),  # by the host's own count
    Column("heartbeat", Number, nullable=False),  # counts up while the process lives
)
results = Table(
    "lrtune_results",
    metadata,
    Column("id", Number, primary_key=True),
    Column("study", Number, nullable=False, index=True),
    Column("session", Number, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("last_run", Number, nullable=False),  # the newest id in lrtune_runs at that time
    Column("json", Text, nullable=False),
    Column("checksum", String(16), nullable=False),
)
decisions = Table(
    "lrtune_decisions",
    metadata,
    Column("study", Number, primary_key=True, autoincrement=False),
    Column("name", String(200), primary_key=True),
    Column("value", Text, nullable=False),
    Column("checksum", String(16), nullable=False),
)
OF_A_STUDY = (seeds, sessions, runs, leases, results, decisions)
"""The tables with a column `study`."""


# --- rows


def damaged(what: str) -> StudyError:
    """The error for a value that lrtune cannot have written."""
    return StudyError(
        f"the study is damaged: {what}. It was left untouched. Restore a copy of its database, "
        "or start another study with --study NAME."
    )


def with_checksum(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its checksum, ready to be inserted."""
    return {**row, "checksum": _checksum(table, row)}


def verify_checksum(table: Table, row: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The row as it is.

    Raises:
        StudyError: Its checksum does not fit: a value has changed since it was written.
    """
    if row["checksum"] != _checksum(table, row):
        raise damaged(f"the checksum of a row of {table.name} does not fit")
    return row


def _checksum(table: Table, row: Mapping[Any, Any]) -> str:
    """64 bits over every value except the id, which the database assigns."""
    hashed = hashlib.blake2b(digest_size=8)
    for name in table.columns.keys():  # noqa: SIM118 - it is no mapping
        if name not in ("id", "checksum"):
            value = _bytes(row[name])
            hashed.update(struct.pack("<q", len(value)) + value)
    return hashed.hexdigest()


def _bytes(value: object) -> bytes:
    if isinstance(value, (bytes, memoryview)):
        return b"b" + bytes(value)
    if isinstance(value, float):
        return b"f" + struct.pack("<d", value)
    return type(value).__name__.encode() + str(value).encode("utf-8", "surrogatepass")


def storable(value: object) -> str:
    """Text that every database accepts: no lone surrogates, no NUL."""
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
        StudyError: There are more, fewer, or something else.

    >>> unpacked(packed([1, 2], "<i8"), "<i8", 2).tolist()
    [1, 2]
    """
    if not 0 <= count <= MAX_STEPS:
        raise damaged(f"a run has {count} recorded steps, expected 0 ... {MAX_STEPS}")
    inflate = zlib.decompressobj()
    try:
        # At most one byte too many, so that a small blob cannot fill the memory.
        raw = inflate.decompress(blob, count * 8 + 1)
    except zlib.error as error:
        raise damaged(f"the numbers of a run cannot be read ({error})") from error
    if len(raw) != count * 8 or not inflate.eof or inflate.unused_data:
        raise damaged(f"a run does not hold the {count} numbers that it should")
    return np.frombuffer(raw, dtype=dtype).astype(dtype[1:])


def digest(parts: Iterable[str]) -> str:
    """32 hexadecimal digits over texts, each kept apart from the next.

    >>> digest(["a", "bc"]) == digest(["ab", "c"])
    False
    """
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        hashed.update(len(raw).to_bytes(8, "little") + raw)
    return hashed.hexdigest()

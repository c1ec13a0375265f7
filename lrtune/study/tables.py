"""The tables of a study's database, and the checksums of their rows.

Every row that matters carries a checksum over its other values, so a value that a disk or a
careless hand has changed is refused when it is read. Numbers that vary by step are kept as
compressed little-endian arrays beside their length. Nothing is pickled.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from lrtune.errors import StudyError

SCHEMA_VERSION = 4
"""The version of these tables. Every change of them takes the next number."""

MAX_STEPS = 100_000_000
"""No run has more steps. A row that claims more is damaged, or made to exhaust the memory."""

# In SQLite only a key of the type INTEGER counts up.
Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
Real = sa.Float(53)
metadata = sa.MetaData()


def _table(
    name: str,
    columns: Mapping[str, Any],
    *,
    key: int = 1,
    unique: Sequence[str] = (),
    checksum: bool = True,
) -> sa.Table:
    """A table without missing values, whose first `key` columns are its primary key."""
    more = {"checksum": sa.String(16)} if checksum else {}
    made = [
        sa.Column(column, kind, primary_key=place < key, nullable=False)
        for place, (column, kind) in enumerate({**columns, **more}.items())
    ]
    rules = [sa.UniqueConstraint(*unique)] if unique else []
    return sa.Table(f"lrtune_{name}", metadata, *made, *rules)


# Which version of the tables which version of lrtune made; one row.
schema = _table("schema", {"version": Number, "made_by": sa.String(64)}, key=0, checksum=False)
studies = _table(
    "studies",
    {
        "id": Number,
        "name": sa.String(200),
        "created": sa.String(40),  # ISO 8601, UTC; for people only
        "task": sa.Text,  # JSON of the task's Fingerprint
    },
    unique=["name"],
)
# The digests of the weights and batches that a seed begins with, as JSON.
seeds = _table("seeds", {"study": Number, "seed": Number, "parts": sa.Text}, key=2)
sessions = _table("sessions", {"id": Number, "study": Number, "manifest": sa.Text})
runs = _table(
    "runs",
    {
        "id": Number,  # in the order of recording
        "study": Number,
        "key": sa.String(32),  # of the run, see training.run_keys
        "until": Number,  # trained up to this step
        "validated": Number,  # samples that were asked for; -1: the whole data, 0: none
        "session": Number,
        "stage": sa.Text,  # the stage that trained it
        "name": sa.Text,  # Run.name in that stage
        "lr": Real,
        "schedule": sa.Text,  # the call that makes it
        "schedule_name": sa.Text,  # in the registry; empty where it is not there
        "seed": Number,
        "steps": Number,  # the horizon
        "engine": sa.String(64),
        "outcome": sa.String(32),
        "count": Number,  # recorded steps, the length of the next three
        "loss": sa.LargeBinary,
        "rate": sa.LargeBinary,
        "batch": sa.LargeBinary,
        "val": sa.LargeBinary,  # nothing; or loss, stderr, samples of selection, then of test
        "checkpoint": sa.String(64),  # its name, if one was asked for; its file may be gone
        "updates": Number,  # made by the call that recorded it
        "val_samples": Number,
        "seconds": Real,
    },
    unique=["study", "key", "until", "validated"],
)
ARRAYS = {"loss": "<f8", "rate": "<f8", "batch": "<i8", "val": "<f8"}
"""Columns of `lrtune_runs` that hold packed numbers, and the type of these numbers."""

leases = _table(
    "leases",
    {
        "study": Number,
        "key": sa.String(32),
        "until": Number,
        "validated": Number,
        "token": sa.String(32),  # of the process that trains the run
        "host": sa.Text,
        "pid": Number,
        "started": sa.Text,  # by the host's own count
        "heartbeat": Number,  # counts up while the process lives
    },
    key=4,
    checksum=False,
)
results = _table(
    "results",
    {
        "id": Number,
        "study": Number,
        "kind": sa.String(32),
        "last_run": Number,  # the newest id in lrtune_runs at that time
        "json": sa.Text,
    },
)
decisions = _table("decisions", {"study": Number, "name": sa.String(200), "value": sa.Text}, key=2)
OF_A_STUDY = [table for table in metadata.sorted_tables if "study" in table.c]


def create_tables(link: sa.Connection) -> None:
    """Make all tables in an empty database."""
    metadata.create_all(link)
    row = {"version": SCHEMA_VERSION, "made_by": version("lrtune")}
    link.execute(sa.insert(schema).values(row))


def check_tables(link: sa.Connection, database: str) -> None:
    """Refuse a database that lrtune did not make, or that another version of it made."""
    if not sa.inspect(link).has_table(schema.name):
        raise StudyError(
            f"{database} is a database, but holds no study of lrtune. Name another file, "
            "or another database."
        )
    if link.dialect.name == "sqlite":
        # Triggers and views run code when a table is used. lrtune makes none.
        code = sa.text("SELECT min(name) FROM sqlite_master WHERE type IN ('trigger', 'view')")
        if (name := link.scalar(code)) is not None:
            raise StudyError(
                f"the database holds a trigger or a view, {str(name)[:40]!r}; lrtune makes "
                "neither. It was left untouched."
            )
    found = link.execute(sa.select(schema)).mappings().all()
    if len(found) != 1:
        raise StudyError("the database is damaged: it does not state the version of its tables.")
    if found[0]["version"] != SCHEMA_VERSION:
        raise StudyError(
            f"{database} has tables of version {found[0]['version']}, made by lrtune "
            f"{found[0]['made_by'][:40]!r}; this is lrtune {version('lrtune')}, which reads "
            f"version {SCHEMA_VERSION}. Use the lrtune that made it, or start another study "
            "with --study NAME."
        )


# --- rows


def damaged(what: str) -> StudyError:
    """The error for a value that lrtune cannot have written."""
    return StudyError(
        f"the study is damaged: {what}. It was left untouched. Restore a copy of its database, "
        "or start another study with --study NAME."
    )


def with_checksum(table: sa.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its checksum, ready to be inserted."""
    return {**row, "checksum": _checksum(table, row)}


def verify_checksum(table: sa.Table, row: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The row as it is; StudyError if a value has changed since it was written."""
    if row["checksum"] != _checksum(table, row):
        raise damaged(f"the checksum of a row of {table.name} does not fit")
    return row


def _checksum(table: sa.Table, row: Mapping[Any, Any]) -> str:
    """64 bits over every value except the id, which the database assigns."""
    hashed = hashlib.blake2b(digest_size=8)
    for name in table.columns.keys():  # noqa: SIM118 - it is no mapping
        if name not in ("id", "checksum"):
            value = _bytes(row[name])
            hashed.update(struct.pack("<q", len(value)) + value)
    return hashed.hexdigest()


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return b"b" + value
    if isinstance(value, float):
        return b"f" + struct.pack("<d", value)
    return type(value).__name__.encode() + str(value).encode("utf-8", "surrogatepass")


def storable(value: object) -> str:
    """sa.Text that every database accepts: no lone surrogates, no NUL."""
    return str(value).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def packed(numbers: Iterable[Any], dtype: str) -> bytes:
    """Numbers as compressed bytes; `dtype` is `<f8` or `<i8`."""
    return zlib.compress(np.asarray(numbers, dtype=dtype).tobytes(), level=1)


def unpacked(blob: bytes, dtype: str, count: int) -> NDArray[Any]:
    """The `count` numbers that were packed; StudyError if there are more, fewer, or none."""
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

"""Leases: which of the processes that share a study trains which run, and which processes live.

A process takes a lease on each run before it trains it, so that nothing is trained twice. While it
waits for the runs of others it has a lease under its own token, so that they leave it a share of
the next runs. The leases of a process that died go back.
"""

import itertools
import os
import platform
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, update

from lrtune.errors import StudyError
from lrtune.study import tables
from lrtune.study.database import Database

BATCH = 500
"""Keys in one query; databases limit the number of parameters."""

HEARTBEAT = 15.0
"""Seconds between two heartbeats."""

GRACE = 120.0
"""Seconds without a heartbeat after which a process of another host counts as dead."""

WHOLE = -1
"""The number that stands for the whole validation data, where any other counts samples."""

TRAINING: set[str] = set()
"""Tokens under which this process trains, or waits for others, at this moment.

A lease under another token of this process could not be given back, as on a full disk.
"""


class Request(NamedTuple):
    """A wish for one run, trained up to one step, and validated there on so many samples."""

    key: str
    until: int
    validated: int  # 0 for none, `WHOLE` for both parts of the validation data

    def columns(self) -> dict[str, Any]:
        """Its columns in `lrtune_runs` and `lrtune_leases`."""
        return self._asdict()


def matching_rows(
    link: Connection, study: int, requests: Iterable[Request], *columns: Any
) -> Iterator[Mapping[Any, Any]]:
    """Rows of `lrtune_runs` or `lrtune_leases` that answer requests for one step.

    A run answers a request for its own number of validation samples, and one for none.
    """
    table = getattr(columns[0], "table", columns[0])
    requests, validated = list(requests), table.c.validated
    for start in range(0, len(requests), BATCH):
        some = requests[start : start + BATCH]
        query = (
            select(*columns)
            .where(table.c.study == study, table.c.until == some[0].until)
            .where(table.c.key.in_([one.key for one in some]))
            .order_by(validated != 0, validated)  # those without validation cost least
        )
        if some[0].validated:
            query = query.where(validated == some[0].validated)
        yield from link.execute(query).mappings()


class Leases:
    """The runs of a study that this process has leased, so that no other process trains them."""

    def __init__(self, database: Database, study: int, session: int = 0) -> None:
        self._database, self._study = database, study
        self._token, self._monitor = f"{session:x}-{uuid4().hex}"[:32], LivenessMonitor()
        # Far apart, so that short calls, which have no time for a heartbeat, show life as well.
        self._beats = itertools.count(step=1_000_000)

    def of_others(self, link: Connection, requests: Iterable[Request]) -> dict[str, str]:
        """Keys that other living processes have a lease on, with these processes in words."""
        self.drop_dead(link)
        return {
            row["key"]: f"process {row['pid']} on {row['host'].partition('/')[0]}"
            for row in matching_rows(link, self._study, requests, tables.leases)
            if row["token"] != self._token
        }

    def companions(self, link: Connection) -> set[int]:
        """The sessions of other processes that train for this study, or wait, at this moment."""
        leases = tables.leases.c
        others = select(leases.token).where(leases.study == self._study)
        others = others.where(leases.token != self._token).distinct()
        return {int(token.partition("-")[0], 16) for token in link.scalars(others)}

    def take(self, link: Connection, requests: Collection[Request]) -> None:
        """Take a lease on each of these; without any, one that shows that this process waits.

        What an interrupted call has left is given back.
        """
        if not requests and self._token in TRAINING:
            return  # it waits already
        self.give_back(link)
        TRAINING.add(self._token)
        mine = {"study": self._study, "token": self._token, "heartbeat": next(self._beats)}
        mine |= this_process()
        leased = requests or [Request(self._token, 0, 0)]
        link.execute(insert(tables.leases), [{**mine, **one.columns()} for one in leased])

    def give_back(self, link: Connection) -> None:
        """Give all leases back. If the database fails here, they count as those of the dead."""
        TRAINING.discard(self._token)
        link.execute(delete(tables.leases).where(tables.leases.c.token == self._token))

    def release(self) -> None:
        """Give all leases back after an error, which may be one of the database."""
        TRAINING.discard(self._token)
        with suppress(StudyError), self._database.write() as link:
            self.give_back(link)

    @contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Show other hosts every `HEARTBEAT` seconds that this process lives, during the block."""
        over, leases = threading.Event(), tables.leases
        mine = update(leases).where(leases.c.token == self._token)

        def run() -> None:
            while not over.wait(HEARTBEAT):
                # A database that is busy for once costs one heartbeat.
                with suppress(StudyError), self._database.write() as link:
                    link.execute(mine.values(heartbeat=leases.c.heartbeat + 1))

        thread = threading.Thread(target=run, name="lrtune-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def drop_dead(self, link: Connection) -> None:
        """Delete the leases of processes that have died."""
        leases = tables.leases.c
        processes = select(leases.token, leases.host, leases.pid, leases.started, leases.heartbeat)
        for process in link.execute(processes.distinct()).mappings().all():
            if self._monitor.is_dead(process):
                link.execute(delete(tables.leases).where(leases.token == process["token"]))


class LivenessMonitor:
    """Tells which processes that share a study have died, by process id or missing heartbeat."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def is_dead(self, process: Mapping[Any, Any]) -> bool:
        """Whether the process in this row of `lrtune_leases` has ended, or its lease is stale.

        No wall clock takes part, as clocks jump: another host's process is dead once its heartbeat
        has not changed for `GRACE` seconds of this process's own monotonic clock.
        """
        if process["host"] == _host():
            if process["pid"] == os.getpid() and process["token"] not in TRAINING:
                return True
            return bool(_started(process["pid"]) != process["started"])
        heartbeat, since = self._seen.get(process["token"], (None, 0.0))
        if heartbeat != process["heartbeat"]:
            self._seen[process["token"]] = process["heartbeat"], time.monotonic()
            return False
        return time.monotonic() - since > GRACE


def this_process() -> dict[str, Any]:
    """Host, number and birth of this process."""
    return {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}


@cache
def _host() -> str:
    """This machine since it was started, and the namespace in which process numbers mean anything.

    Containers on one machine do not see each other's processes, so each is a host of its own.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()}/{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        # Without /proc no process can be looked up by number, so each counts as a host.
        return f"{platform.node()}/{os.getpid()}-{time.time_ns()}"


def _started(pid: int) -> str:
    """When a process of this host started, in ticks since the boot; empty if it is dead.

    Numbers of processes are reused; a number and its start are not.
    """
    try:
        stat = Path(f"/proc/{int(pid)}/stat").read_text(errors="replace")
    except (OSError, ValueError):
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]  # field 22 of proc(5); zombies are dead

"""Leases: which of the processes that share a study trains which run, and which processes live.

A process takes a lease on each run before it trains it, so that nothing is trained twice. The
leases of a process that died go back.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, update

from lrtune.errors import StudyError
from lrtune.study import tables

BATCH = 500
"""Keys in one query; databases limit the number of parameters."""

HEARTBEAT = 15.0
"""Seconds between two heartbeats."""

GRACE = 120.0
"""Seconds without a heartbeat after which a process of another host counts as dead."""

TRAINING: set[str] = set()
"""Tokens under which this process trains at this moment.

A lease under another token of this process could not be given back, as on a full disk.
"""


class Request(NamedTuple):
    """A wish for one run, trained up to one step, with or without its validation loss."""

    key: str
    until: int
    validated: bool


def matching_rows(
    link: Connection, study: int, requests: Iterable[Request], *columns: Any
) -> Iterator[Mapping[Any, Any]]:
    """Rows of `lrtune_runs` or `lrtune_leases` that answer requests.

    A validated run answers a request without validation, too.

    Args:
        link: A connection in a transaction.
        study: The id of the study.
        requests: All with the same step and the same wish for validation.
        columns: The table, or some of its columns.
    """
    table = getattr(columns[0], "table", columns[0])
    requests = list(requests)
    for start in range(0, len(requests), BATCH):
        some = requests[start : start + BATCH]
        query = (
            select(*columns)
            .where(table.c.study == study, table.c.until == some[0].until)
            .where(table.c.validated >= int(some[0].validated))
            .where(table.c.key.in_([one.key for one in some]))
            .order_by(table.c.validated)
        )
        yield from link.execute(query).mappings()


class Leases:
    """The leases that this process holds on the runs of one study."""

    def __init__(self, study: int) -> None:
        """Hold no lease yet."""
        self._study, self._token, self._monitor = study, uuid4().hex, LivenessMonitor()

    def of_others(self, link: Connection, requests: Iterable[Request]) -> dict[str, str]:
        """Keys that other living processes have a lease on, with their tokens."""
        self.drop_dead(link)
        rows = matching_rows(link, self._study, requests, tables.leases)
        return {row["key"]: row["process"] for row in rows if row["process"] != self._token}

    def take(self, link: Connection, requests: Iterable[Request]) -> None:
        """Take a lease on each of these, and give back what an interrupted call left."""
        self.give_back(link)
        TRAINING.add(self._token)
        process = {"token": self._token, "heartbeat": 0, **this_process()}
        link.execute(insert(tables.processes).values(process))
        rows = [
            {
                "study": self._study,
                "key": one.key,
                "until": one.until,
                "validated": int(one.validated),
                "process": self._token,
            }
            for one in requests
        ]
        link.execute(insert(tables.leases), rows)

    def give_back(self, link: Connection) -> None:
        """Give all leases back. If the database fails here, they count as those of the dead."""
        TRAINING.discard(self._token)
        _drop(link, self._token)

    def stop(self) -> None:
        """Note that this process trains nothing any more, whatever the database still says."""
        TRAINING.discard(self._token)

    def heartbeat(self, link: Connection) -> None:
        """Show other hosts that this process lives."""
        processes = tables.processes
        mine = update(processes).where(processes.c.token == self._token)
        link.execute(mine.values(heartbeat=processes.c.heartbeat + 1))

    def drop_dead(self, link: Connection) -> None:
        """Delete the leases of processes that have died."""
        for process in link.execute(select(tables.processes)).mappings().all():
            if self._monitor.is_dead(process):
                _drop(link, process["token"])


def _drop(link: Connection, token: str) -> None:
    link.execute(delete(tables.leases).where(tables.leases.c.process == token))
    link.execute(delete(tables.processes).where(tables.processes.c.token == token))


def describe_processes(link: Connection, tokens: Sequence[str]) -> list[str]:
    """For each token, its process in words."""
    processes = tables.processes
    rows = link.execute(select(processes).where(processes.c.token.in_(set(tokens)))).all()
    words = {row.token: f"process {row.pid} on {row.host.partition('/')[0]}" for row in rows}
    return [words.get(token, "another process") for token in tokens]


class LivenessMonitor:
    """Tells which processes are dead, by their number and birth or by their heartbeats."""

    def __init__(self) -> None:
        """Start without any heartbeat seen."""
        self._seen: dict[str, tuple[int, float]] = {}

    def is_dead(self, process: Mapping[Any, Any]) -> bool:
        """Whether the process in this row of `lrtune_processes` has ended, or holds stale leases.

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
    return {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid()) or "?"}


@contextmanager
def heartbeats(send: Callable[[], None]) -> Iterator[None]:
    """Call `send` every `HEARTBEAT` seconds, as long as the block runs."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(HEARTBEAT):
            with suppress(StudyError):  # a database that is busy for once costs one heartbeat
                send()

    thread = threading.Thread(target=run, name="lrtune-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@cache
def _host() -> str:
    """This machine since it was started, and the namespace in which process numbers mean anything.

    Containers on one machine do not see each other's processes, so each is a host of its own.
    """
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    if len(parts) < 3:
        # Without /proc no process can be looked up by number, so each counts as a host.
        parts.append(f"{os.getpid()}-{time.time_ns()}")
    return "/".join(parts)


def _started(pid: int) -> str | None:
    """When a process of this host started, in ticks since the boot; None if it is dead.

    Numbers of processes are reused; a number and its start are not.
    """
    try:
        stat = Path(f"/proc/{int(pid)}/stat").read_text(errors="replace")
    except (OSError, ValueError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # field 22 of proc(5); zombies are dead

"""Claims: of the processes that share a study, which one trains what."""

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
from lrtune.study import tables, trials

MANY = 500
"""Keys in one query."""


class Want(NamedTuple):
    """One run up to one step, with or without its validation loss."""

    key: str
    until: int
    validated: bool


def matching(
    link: Connection, study: int, wants: Iterable[Want], *what: Any
) -> Iterator[Mapping[Any, Any]]:
    """Rows of `rungs` or `claims` that answer wants; one with validation answers for both.

    Args:
        link: In a transaction.
        study: The study's number.
        wants: All with the same step and the same wish for validation.
        what: The table, or columns of it.
    """
    table = getattr(what[0], "table", what[0])
    wants = list(wants)
    for start in range(0, len(wants), MANY):
        some = wants[start : start + MANY]
        asked = (
            select(*what)
            .where(table.c.study == study, table.c.until == some[0].until)
            .where(table.c.validated >= int(some[0].validated))
            .where(table.c.key.in_([one.key for one in some]))
            .order_by(table.c.validated)
        )
        yield from link.execute(asked).mappings()


class Claims:
    """What one process has claimed of a study, and what others have."""

    def __init__(self, study: int) -> None:
        """Nothing claimed yet."""
        self._study, self._token, self._watch = study, uuid4().hex, Watch()

    def others(self, link: Connection, wants: Iterable[Want]) -> dict[str, str]:
        """What living processes have claimed of these: key to owner. The dead lose theirs."""
        self.bury(link)
        rows = matching(link, self._study, wants, tables.claims)
        return {row["key"]: row["owner"] for row in rows if row["owner"] != self._token}

    def take(self, link: Connection, mine: Mapping[Want, int]) -> None:
        """Claim these, each with its trial; what an interruption has left of ours goes."""
        self.give_back(link)
        TRAINING.add(self._token)
        signature = {"token": self._token, "beat": 0, **this_process()}
        link.execute(insert(tables.owners).values(signature))
        rows = [
            {
                "study": self._study,
                "key": want.key,
                "until": want.until,
                "validated": int(want.validated),
                "owner": self._token,
                "trial": trial,
            }
            for want, trial in mine.items()
        ]
        link.execute(insert(tables.claims), rows)

    def give_back(self, link: Connection) -> None:
        """All that is ours; trials that still run failed. Where this fails, it counts as dead."""
        TRAINING.discard(self._token)
        _drop(link, self._token)

    def stop(self) -> None:
        """Nothing of ours is being trained any more, whatever the database still says."""
        TRAINING.discard(self._token)

    def beat(self, link: Connection) -> None:
        """Tell other hosts that we live."""
        owners = tables.owners
        mine = update(owners).where(owners.c.token == self._token)
        link.execute(mine.values(beat=owners.c.beat + 1))

    def bury(self, link: Connection) -> None:
        """Take from the dead what they had claimed."""
        for owner in link.execute(select(tables.owners)).mappings().all():
            if self._watch.dead(owner):
                _drop(link, owner["token"])


def _drop(link: Connection, token: str) -> None:
    claims, owners = tables.claims, tables.owners
    held = select(claims.c.trial).where(claims.c.owner == token)
    trials.fail(link, list(link.scalars(held)))
    link.execute(delete(claims).where(claims.c.owner == token))
    link.execute(delete(owners).where(owners.c.token == token))


def names(link: Connection, tokens: Sequence[str]) -> list[str]:
    """For each owner, its process in words."""
    owners = tables.owners
    rows = link.execute(select(owners).where(owners.c.token.in_(set(tokens)))).all()
    words = {row.token: f"process {row.pid} on {row.host.partition('/')[0]}" for row in rows}
    return [words.get(token, "another process") for token in tokens]


BEAT = 15.0
"""Seconds between two beats."""

GRACE = 120.0
"""Seconds without a beat after which a process of another host counts as dead."""


def this_process() -> dict[str, Any]:
    """Host, pid and birth of this process."""
    return {"host": _host(), "pid": os.getpid(), "born": _born(os.getpid()) or "?"}


TRAINING: set[str] = set()
"""Tokens of this process that train at this moment.

A claim under another token of ours is one that could not be given back, as on a full disk.
"""


class Watch:
    """Tells who is dead, from what it has seen."""

    def __init__(self) -> None:
        """Nobody seen yet."""
        self._seen: dict[str, tuple[int, float]] = {}

    def dead(self, owner: Mapping[Any, Any]) -> bool:
        """Whether this owner of a claim does not live any more."""
        if owner["host"] == _host():
            if owner["pid"] == os.getpid() and owner["token"] not in TRAINING:
                return True
            return bool(_born(owner["pid"]) != owner["born"])
        beat, since = self._seen.get(owner["token"], (None, 0.0))
        if beat != owner["beat"]:
            self._seen[owner["token"]] = owner["beat"], time.monotonic()
            return False
        return time.monotonic() - since > GRACE


@contextmanager
def beating(beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` now and then, as long as the block runs."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(BEAT):
            with suppress(StudyError):  # a database that is busy for once costs one beat
                beat()

    thread = threading.Thread(target=go_on, name="lrtune-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@cache
def _host() -> str:
    """This machine, since it was started, as processes that see each other see it."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    if len(parts) < 3:
        # Without /proc nobody can be looked up by number, so each process counts as a host.
        parts.append(f"{os.getpid()}-{time.time_ns()}")
    return "/".join(parts)


def _born(pid: int) -> str | None:
    """When a process of this host started, in ticks since the boot; None for a dead one."""
    try:
        told = Path(f"/proc/{int(pid)}/stat").read_text(errors="replace")
    except (OSError, ValueError):
        return None
    fields = told.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]  # the 22nd of proc(5); zombies are dead

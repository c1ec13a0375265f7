"""Owners: which process trains what, and whether it still lives. No wall clock takes part.

A process of this host is looked up by its number and the moment it started, so that a number that
was given out again does not pass for it. One of another host lives as long as its beat goes on,
by our own monotonic clock: clocks that differ or jump change nothing.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from lrtune.errors import StudyError

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

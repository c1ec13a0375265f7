"""Claims: of the processes that share a study, which one trains what."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, update

from lrtune.study import tables, trials
from lrtune.study.owners import TRAINING, Watch, this_process

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

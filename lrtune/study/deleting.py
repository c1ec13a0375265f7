"""Deleting a study: only where nobody trains for it."""

from typing import Any

from sqlalchemy import delete, func, select

from lrtune.errors import StudyError
from lrtune.study import files, tables, trials
from lrtune.study.database import Database
from lrtune.study.owners import Watch
from lrtune.study.places import place
from lrtune.study.reading import count, study_row


def deleted(study: str) -> str:
    """Delete a study; returns what was deleted, in words.

    Raises:
        StudyError: A process trains for it, or it cannot be read: delete the file yourself then.
    """
    where = place(study)
    database, watch = Database(where, make=False), Watch()
    with database.write() as link:
        row = study_row(link, where)
        for owner in link.execute(_owners_of(row["id"])).mappings():
            if not watch.dead(owner):
                raise StudyError(
                    f"the study {str(where)!r} is in use by process {owner['pid']}. End it first."
                )
        runs = count(link, row["id"])
        for each in tables.OWNED:
            link.execute(delete(each).where(each.c.study == row["id"]))
        trials.forget(link, row["trials"])
        link.execute(delete(tables.studies).where(tables.studies.c.id == row["id"]))
        left = link.scalar(select(func.count()).select_from(tables.studies))
    if where.file is not None and not left:
        files.remove(where.file)
    return f"{where} with {runs} runs"


def _owners_of(study: int) -> Any:
    owners, claims = tables.owners, tables.claims
    mine = select(claims.c.owner).where(claims.c.study == study)
    return select(owners).where(owners.c.token.in_(mine))

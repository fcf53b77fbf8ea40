"""Runs as a person names them: an id, an unambiguous beginning of one, or the latest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from discover.errors import StoreError
from discover.store.engine import Database
from discover.store.tables import ID_LENGTH, jobs, runs

_COLUMNS = ("id", "created_at", "model", "task", "status")


def find_one(database: Database, ref: str) -> str:
    """The id of the run, begun or only submitted, that a reference names.

    Raises:
        StoreError: there is no such run, or several (it lists them).
    """
    wanted = ref.strip().lower()
    found: Sequence[sa.Row[Any]] = []
    if wanted == "latest":
        found = _select(database, "", 1)
    elif re.fullmatch(rf"[0-9a-f]{{1,{ID_LENGTH}}}", wanted):
        found = _select(database, wanted, 6)
        exact = [row for row in found if row[0] == wanted]
        found = exact or found
    if len(found) == 1:
        return str(found[0][0])
    if found:
        listed = "\n  ".join(_brief(row) for row in found[:5])
        more = "\n  ..." if len(found) > 5 else ""
        raise StoreError(f"{ref!r} is the beginning of several runs:\n  {listed}{more}")
    if wanted == "latest":
        raise StoreError(f"there are no runs in {database.label} yet; start with `discover run`")
    newest = ", ".join(row[0] for row in _select(database, "", 3))
    hint = f"the newest are {newest}" if newest else "it has no runs yet"
    raise StoreError(f"there is no run {ref!r} in {database.label}; {hint}")


def _select(database: Database, prefix: str, limit: int) -> Sequence[sa.Row[Any]]:
    """Runs and jobs whose ids begin like that, newest first."""
    begun = sa.select(*(runs.c[name] for name in _COLUMNS))
    only = sa.select(*(jobs.c[name] for name in _COLUMNS)).where(
        ~sa.exists().where(runs.c.id == jobs.c.id)
    )
    if prefix:
        begun = begun.where(*_begins(runs.c.id, prefix))
        only = only.where(*_begins(jobs.c.id, prefix))
    both = sa.union_all(begun, only).subquery()
    query = sa.select(both).order_by(both.c.created_at.desc(), both.c.id.desc()).limit(limit)
    with database.read() as connection:
        return connection.execute(query).all()


def _begins(column: sa.Column[str], prefix: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Whether an id begins with these hexadecimal digits, said so that its index is of use.

    Not LIKE, which SQLite and most collations of PostgreSQL answer by reading every row. All of
    them sort g behind the digits and behind a to f.
    """
    return column >= prefix, column < prefix + "g"


def _brief(row: sa.Row[Any]) -> str:
    when = row.created_at.isoformat(sep=" ", timespec="seconds")
    return f"{row.id}  {when}  {row.model}  {row.task}  {row.status}"

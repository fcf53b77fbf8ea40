"""What a database does to answer the store: its statements, caught as they go, and their plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from discover.store import Store
from discover.store.engine import Database


@dataclass(frozen=True)
class Asked:
    """One statement as it went to the database, with its parameters."""

    statement: str
    parameters: Any


@contextmanager
def listening(database: Database) -> Iterator[list[Asked]]:
    """Every statement that goes to the database meanwhile, its own housekeeping left out."""
    heard: list[Asked] = []

    def hear(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.split(None, 1)[0] in ("SELECT", "UPDATE", "DELETE", "INSERT"):
            heard.append(Asked(statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", hear)


def plan(database: Database, asked: Asked, *, scans: bool = True, run: bool = False) -> str:
    """The plan of one statement, a line a step.

    Without `scans` PostgreSQL is to read no table from end to end where an index will do, as it
    will not with the few rows of a test. With `run` it says how long each step took.
    """
    words = "EXPLAIN QUERY PLAN "
    with database.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            words = "EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF) " if run else "EXPLAIN (COSTS OFF) "
            connection.exec_driver_sql(f"SET LOCAL enable_seqscan = {'on' if scans else 'off'}")
        rows = connection.exec_driver_sql(words + asked.statement, asked.parameters).all()
        connection.rollback()
    return "\n".join(str(row[-1]) for row in rows)


def plans(
    store: Store, call: Callable[[], object], *, scans: bool = True, run: bool = False
) -> list[tuple[Asked, str]]:
    """Every statement with which the store answers a call, each with its plan."""
    database = store._database
    with listening(database) as heard:
        call()
    return [(asked, plan(database, asked, scans=scans, run=run)) for asked in heard]

"""The part of the store that lists: runs begun and runs only submitted, as one list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args

import sqlalchemy as sa

from discover.errors import NotFoundError, StoreError
from discover.store.contract import ListedRun, ListedStatus
from discover.store.engine import Database
from discover.store.records import storable
from discover.store.refs import find_one
from discover.store.tables import decisions, jobs, runs, sweep_runs

LISTED_STATUSES: tuple[str, ...] = get_args(ListedStatus)

SORTS = ("created_at", "tau", "kept", "damage", "seconds", "model", "task", "status")
"""By what a list can be sorted; the first is the default."""

SEARCH_LENGTH = 1000
"""Characters of a search at most: SQLite refuses long patterns."""

_SHARED = ("id", "model", "task", "metric", "ablation", "tau", "engine", "spec", "updated_at")


class Listing:
    """What a store can do with runs as a list; `Store` is one."""

    _database: Database

    def listed(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = SORTS[0],
        descending: bool = True,
        **filters: Any,
    ) -> tuple[int, list[ListedRun]]:
        """How many runs there are, and one page of them; runs that only wait among them.

        Filters: `status`, `model`, `task`, `metric`, `ablation` (equal to), `sweep` (an id), `ids`
        (a collection), `search` (part of an id, model, task or note, whatever the case of its
        ASCII letters). Those without the value that is sorted by come last.

        Raises:
            StoreError: a status, an order or a number is none.
        """
        if sort not in SORTS:
            raise StoreError(f"unknown order {sort!r}; choose one of {', '.join(SORTS)}")
        if offset < 0 or (limit is not None and limit < 0):
            raise StoreError("limit and offset cannot be negative")
        base = _all_runs()
        query = sa.select(base).where(*_conditions(base, filters))
        key = base.c[sort]
        direction = key.desc() if descending else key.asc()
        # The runs of a sweep are submitted in one moment: they stand by their thresholds.
        page = query.order_by(
            direction.nulls_last(), base.c.created_at.desc(), base.c.tau, base.c.id.desc()
        )
        page = page.limit(limit).offset(offset)
        total = sa.select(sa.func.count()).select_from(query.subquery())
        with self._database.read() as connection:
            number = connection.execute(total).scalar_one()
            rows = connection.execute(page).mappings().all()
            decided = _decided(connection, [row["id"] for row in rows])
        return number, [_listed(row, decided) for row in rows]

    def listed_run(self, ref: str) -> ListedRun:
        """One run as it stands in the list, by its id or the beginning of one.

        Raises:
            StoreError: there is none, or there are several.
        """
        run_id = find_one(self._database, ref)
        found = self.listed(ids=[run_id])[1]
        if not found:
            raise NotFoundError(f"there is no run {run_id!r} in {self._database.label}")
        return found[0]

    def check(self) -> None:
        """Raise StoreError unless the database answers."""
        with self._database.read() as connection:
            connection.execute(sa.select(runs.c.id).limit(1)).scalar()

    def statuses(self) -> dict[str, int]:
        """How many runs there are of each status."""
        base = _all_runs()
        query = sa.select(base.c.status, sa.func.count()).group_by(base.c.status)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}


@cache
def _all_runs() -> sa.Subquery:
    """Every run that has begun, with its job if it has one, and every job without a run."""
    # A job that has ended says no more than its run, which may since have been gone on with by
    # hand; but that it was cancelled only the job knows.
    active = sa.and_(jobs.c.status.in_(("queued", "running")), runs.c.status != "done")
    status = sa.case(
        (active, jobs.c.status),
        (sa.and_(jobs.c.status == "cancelled", runs.c.status == "interrupted"), jobs.c.status),
        else_=runs.c.status,
    )
    # How an earlier attempt ended is no news of a run that waits or is at work again.
    finished = sa.case(
        (active, sa.cast(sa.null(), runs.c.finished_at.type)), else_=runs.c.finished_at
    )
    begun = sa.select(
        *(runs.c[name] for name in _SHARED),
        status.label("status"),
        sa.func.coalesce(jobs.c.cancelling, sa.false()).label("cancelling"),
        sa.func.coalesce(jobs.c.created_at, runs.c.created_at, type_=runs.c.created_at.type).label(
            "created_at"
        ),
        sa.func.coalesce(runs.c.note, "").label("note"),
        runs.c.started_at,
        finished.label("finished_at"),
        runs.c.seconds,
        runs.c.attempt,
        jobs.c.worker,
        sa.case((active, sa.null()), else_=runs.c.error).label("error"),
        runs.c.graph,
        runs.c.edges,
        sa.func.coalesce(runs.c.kept, runs.c.kept_so_far).label("kept"),
        sa.func.coalesce(runs.c.damage, runs.c.damage_so_far).label("damage"),
        runs.c.circuit_hash,
    ).select_from(runs.outerjoin(jobs, jobs.c.id == runs.c.id))
    waiting = sa.select(
        *(jobs.c[name] for name in _SHARED),
        jobs.c.status,
        jobs.c.cancelling,
        jobs.c.created_at,
        jobs.c.note,
        sa.cast(sa.null(), runs.c.started_at.type).label("started_at"),
        jobs.c.finished_at,
        sa.literal(0.0, sa.Double).label("seconds"),
        jobs.c.attempt,
        jobs.c.worker,
        jobs.c.error,
        sa.cast(sa.null(), sa.JSON).label("graph"),
        sa.cast(sa.null(), sa.Integer).label("edges"),
        sa.cast(sa.null(), sa.Integer).label("kept"),
        sa.cast(sa.null(), sa.Double).label("damage"),
        sa.cast(sa.null(), sa.String(64)).label("circuit_hash"),
    ).where(~sa.exists().where(runs.c.id == jobs.c.id))
    return sa.union_all(begun, waiting).subquery("all_runs")


def _conditions(base: sa.Subquery, filters: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    for name, value in filters.items():
        if value is None:
            continue
        if name == "status" and value not in LISTED_STATUSES:
            raise StoreError(
                f"unknown status {value!r}; choose one of {', '.join(LISTED_STATUSES)}"
            )
        if name in ("status", "model", "task", "metric", "ablation"):
            found.append(base.c[name] == storable(value))
        elif name == "sweep":
            members = sa.select(sweep_runs.c.run_id).where(sweep_runs.c.sweep_id == storable(value))
            found.append(base.c.id.in_(members))
        elif name == "ids":
            found.append(base.c.id.in_([storable(each) for each in value]))
        elif name == "search":
            columns = (base.c.id, base.c.model, base.c.task, base.c.note)
            text = storable(value)
            if len(text) > SEARCH_LENGTH:
                raise StoreError(f"a search is for at most {SEARCH_LENGTH} characters")
            found.append(sa.or_(*(c.icontains(text, autoescape=True) for c in columns)))
        else:
            raise TypeError(f"runs cannot be filtered by {name!r}")
    return found


def _decided(connection: sa.Connection, ids: Sequence[str]) -> dict[str, int]:
    """How many decisions of each run are stored: its last step tells, from the key alone."""
    last = (
        sa.select(sa.func.coalesce(sa.func.max(decisions.c.step) + 1, 0))
        .where(decisions.c.run_id == runs.c.id)
        .scalar_subquery()
    )
    query = sa.select(runs.c.id, last).where(runs.c.id.in_(list(ids)))
    return {row[0]: row[1] for row in connection.execute(query)}


def _listed(row: sa.RowMapping, decided: Mapping[str, int]) -> ListedRun:
    values = {name: row[name] for name in ListedRun.__dataclass_fields__ if name != "decided"}
    return ListedRun(decided=decided.get(row["id"], 0), **values)

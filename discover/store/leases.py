"""Whose a claimed run is: held, fenced out, given back and ended, each in a transaction at hand.

On PostgreSQL a transaction that locks a job's row, its run's and a worker's does so in this order:
two that did it the other way round would wait for each other.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from discover.errors import FencedError, StateError
from discover.store.contract import Lease
from discover.store.tables import UtcTime, jobs, runs

ACTIVE = ("queued", "running")
"""The statuses of a job that has not ended."""

FREE: dict[str, Any] = {"worker": None, "heartbeat_at": None, "expires_at": None}
"""What a job's row says of its worker where none is at it."""


def check_lease(connection: sa.Connection, lease: Lease) -> None:
    """Keep a claimed run the worker's own until the transaction ends.

    Raises:
        FencedError: it is not the worker's own any more.
    """
    own = sa.select(jobs.c.id).where(held(lease)).with_for_update()
    if connection.execute(own).scalar() is None:
        raise fenced(lease.run_id)


def lock_job(connection: sa.Connection, run_id: str) -> str | None:
    """Hold a run's job, if it has one, until the transaction ends; returns its status."""
    query = sa.select(jobs.c.status).where(jobs.c.id == run_id).with_for_update()
    found: str | None = connection.execute(query).scalar()
    return found


def check_idle(connection: sa.Connection, run_id: str) -> None:
    """Refuse to go on by hand with a run that is queued or being worked on.

    Raises:
        StoreError: it is.
    """
    status = lock_job(connection, run_id)
    if status in ACTIVE:
        whose = "waits for a worker" if status == "queued" else "is being worked on by a worker"
        raise StateError(f"run {run_id[:8]} {whose}; first `discover cancel {run_id[:8]}`")


def fenced(run_id: str) -> FencedError:
    """What is said to a process that a run does not belong to any more."""
    return FencedError(
        f"run {run_id[:8]} has been taken over by another process; nothing more was written here"
    )


def end_job(connection: sa.Connection, run_id: str, status: str, error: str | None) -> None:
    """Bring a job in line with its run, that has just ended as `status`."""
    now = datetime.now(UTC)
    of = jobs.c.id == run_id
    if status == "interrupted":
        # Stopped by its worker: someone else's turn. Stopped by hand: it stays stopped.
        set_free(connection, sa.and_(of, jobs.c.status == "running"), now)
        return
    ended = {"status": status, "error": error, "finished_at": now, "updated_at": now}
    connection.execute(sa.update(jobs).where(of).values(**ended, **FREE, cancelling=False))


def set_free(connection: sa.Connection, which: sa.ColumnElement[bool], now: datetime) -> None:
    """Put jobs back into the queue, or end them if they are being cancelled."""
    # In one statement: what is cancelled between two of them would be given back and yet run on.
    stop = jobs.c.cancelling
    change = {
        **FREE,
        "status": sa.case((stop, "cancelled"), else_="queued"),
        "finished_at": sa.case((stop, sa.literal(now, UtcTime)), else_=sa.null()),
        "cancelling": False,
        "updated_at": now,
    }
    connection.execute(sa.update(jobs).where(which).values(**change))


def held(lease: Lease) -> sa.ColumnElement[bool]:
    """The job of a claimed run, as long as it is the worker's own."""
    return sa.and_(
        jobs.c.id == lease.run_id,
        jobs.c.attempt == lease.attempt,
        jobs.c.worker == lease.worker,
        jobs.c.status == "running",
    )


def end(
    connection: sa.Connection, run_id: str, status: str, error: str | None, now: datetime
) -> None:
    """End a job, and its run if it has begun; the attempt rises, so its worker is fenced out."""
    free = {**FREE, "cancelling": False, "finished_at": now}
    mine = sa.update(jobs).where(jobs.c.id == run_id)
    connection.execute(
        mine.values(**free, status=status, error=error, updated_at=now, attempt=jobs.c.attempt + 1)
    )
    ended = {"status": "failed" if status == "failed" else "interrupted", "error": error}
    going = sa.update(runs).where(runs.c.id == run_id, runs.c.status != "done")
    connection.execute(
        going.values(**ended, attempt=runs.c.attempt + 1, updated_at=now, finished_at=now)
    )

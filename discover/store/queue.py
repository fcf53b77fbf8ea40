"""The part of the store that hands out runs: submitted, claimed by one worker, fenced, finished.

A job is a run that was asked for, and has the id that the run will have. Every claim raises the
`attempt` of the job and of its run in one transaction; whatever a worker writes afterwards names
its attempt, so one that was given up for dead, and comes back, writes nothing more.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from discover.errors import SpecError, StateError, StoreError
from discover.spec import ENGINES, RunSpec
from discover.store.contract import Beat, Claim, JobRecord, Lease, WorkerRecord
from discover.store.engine import Database
from discover.store.jobrows import (
    check_known,
    insert_sweep,
    job_record,
    kills,
    new_job,
    no_retry,
    spec_of,
)
from discover.store.leases import ACTIVE, FREE, end, held, set_free
from discover.store.records import storable
from discover.store.refs import find_one
from discover.store.tables import ID_LENGTH, decisions, jobs, runs, workers

LEASE = 30.0
"""Seconds for which a worker promises to be heard of again, unless it says otherwise."""

MAX_DEATHS = 5
"""So many workers may die on a run in a row, without one decision stored, before it is failed."""

FORGET = timedelta(days=1)
"""After so long without a heartbeat a dead worker's row goes, when the next worker is entered."""


class Queue:
    """What a store can do with jobs and workers; `Store` is one."""

    _database: Database

    def submit(
        self,
        spec: RunSpec,
        *,
        taus: Sequence[float] | None = None,
        engine: str = ENGINES[0],
        options: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> tuple[str | None, list[str]]:
        """Ask for a run, or with `taus` for a sweep; returns the sweep's id and the runs'.

        `spec` need not be pinned. A sweep's runs are ordered by tau, ascending, and share `spec`
        but for it. `options` may have the keys of `jobrows.OPTIONS`.

        Raises:
            SpecError: no tau is given, or an engine or an option is unknown.
            StoreError: the jobs cannot be stored.
        """
        wanted = dict(options or {})
        check_known(engine, wanted)
        if taus is not None and not taus:
            raise SpecError("a sweep needs at least one threshold")
        each = (
            [spec] if taus is None else [dataclasses.replace(spec, tau=t) for t in sorted({*taus})]
        )
        sweep_id = None if taus is None else secrets.token_hex(ID_LENGTH // 2)
        with self._database.write() as connection:
            now = self._now(connection)
            rows = [new_job(one, engine, wanted, storable(note), now) for one in each]
            connection.execute(sa.insert(jobs), rows)
            if sweep_id is not None:
                members = [(row["tau"], row["id"]) for row in rows]
                insert_sweep(connection, sweep_id, each[0], members, note, now)
        return sweep_id, [row["id"] for row in rows]

    def claim(
        self, worker: str, *, lease: float = LEASE, batch_key: str | None = None
    ) -> Claim | None:
        """Give the worker the next run to work on, or None: exactly one worker gets each.

        Runs of `batch_key` come first (the worker has their model and prompts at hand), then the
        oldest, within a sweep the largest tau. The run is the worker's for `lease` seconds and, by
        every heartbeat, for so long again; after that it is handed out to others.

        Raises:
            StoreError: the database cannot be used.
        """
        while True:
            with self._database.write() as connection:
                now = self._now(connection)
                row = self._next(connection, worker, now, batch_key)
                if row is None:
                    return None
                until = now + timedelta(seconds=lease)
                if (claim := self._take(connection, row, worker, now, until)) is not None:
                    return claim

    def _next(
        self, connection: sa.Connection, worker: str, now: datetime, batch_key: str | None
    ) -> sa.RowMapping | None:
        abandoned = sa.or_(jobs.c.expires_at < now, jobs.c.worker == worker)
        open_ = sa.or_(jobs.c.status == "queued", sa.and_(jobs.c.status == "running", abandoned))
        order = [jobs.c.created_at, jobs.c.tau.desc(), jobs.c.id]
        if batch_key is not None:
            order.insert(0, sa.case((jobs.c.batch_key == batch_key, 0), else_=1))
        query = sa.select(jobs).where(open_).order_by(*order).limit(1)
        return connection.execute(query.with_for_update(skip_locked=True)).mappings().first()

    def _take(
        self,
        connection: sa.Connection,
        row: sa.RowMapping,
        worker: str,
        now: datetime,
        until: datetime,
    ) -> Claim | None:
        """Claim a job; one that is cancelled, kills its workers or makes no sense is ended."""
        try:
            spec = spec_of(row, "run")
        except StoreError as error:
            end(connection, row["id"], "failed", str(error), now)
            return None
        run = connection.execute(
            sa.select(runs.c.status, runs.c.attempt).where(runs.c.id == row["id"])
        ).first()
        last = sa.select(sa.func.max(decisions.c.step)).where(decisions.c.run_id == row["id"])
        step = connection.execute(last).scalar()
        decided = 0 if step is None else step + 1
        died = row["status"] == "running" and row["worker"] != worker
        deaths = 0 if decided > row["decided"] else row["deaths"] + int(died)
        if row["cancelling"] or deaths >= MAX_DEATHS:
            status = "cancelled" if row["cancelling"] else "failed"
            reason = None if row["cancelling"] else kills(deaths, row)
            dead = sa.update(jobs).where(jobs.c.id == row["id"])
            connection.execute(dead.values(deaths=deaths))
            end(connection, row["id"], status, reason, now)
            return None
        attempt = max(row["attempt"], run.attempt if run else 0) + 1
        mine = {
            "status": "running",
            "worker": worker,
            "attempt": attempt,
            "heartbeat_at": now,
            "expires_at": until,
            "updated_at": now,
            "finished_at": None,
            "deaths": deaths,
            "decided": decided,
            "error": None,
        }
        connection.execute(sa.update(jobs).where(jobs.c.id == row["id"]).values(**mine))
        connection.execute(sa.update(runs).where(runs.c.id == row["id"]).values(attempt=attempt))
        at_it = sa.case((workers.c.id == worker, row["id"]), else_=None)
        mine_or_theirs = sa.or_(workers.c.id == worker, workers.c.run_id == row["id"])
        connection.execute(sa.update(workers).where(mine_or_theirs).values(run_id=at_it))
        return Claim(
            Lease(row["id"], worker, attempt),
            spec,
            row["engine"],
            dict(row["options"]),
            row["batch_key"],
            started=run is not None,
        )

    def beat(self, worker: str, lease: Lease | None = None, *, seconds: float = LEASE) -> Beat:
        """Say that a worker lives; returns whether the run is still its own, and to be cancelled.

        For so many `seconds` from now it counts as alive, and its run as its own, to everybody.

        Raises:
            StoreError: the database cannot be used.
        """
        with self._database.write() as connection:
            now = self._now(connection)
            alive = {"heartbeat_at": now, "expires_at": now + timedelta(seconds=seconds)}
            answer = Beat(mine=True, cancelling=False)
            if lease is not None:
                mine = held(lease)
                connection.execute(sa.update(jobs).where(mine).values(**alive))
                found = connection.execute(sa.select(jobs.c.cancelling).where(mine)).scalar()
                answer = Beat(mine=found is not None, cancelling=bool(found))
            at = lease.run_id if lease is not None and answer.mine else None
            me = sa.update(workers).where(workers.c.id == worker)
            connection.execute(me.values(**alive, run_id=at))
        return answer

    def release(self, lease: Lease) -> None:
        """Give a claimed run back to the queue, or end it if it is being cancelled.

        A run that is not the worker's own any more is left alone.
        """
        with self._database.write() as connection:
            now = self._now(connection)
            set_free(connection, held(lease), now)
            connection.execute(
                sa.update(runs)
                .where(runs.c.id == lease.run_id, runs.c.attempt == lease.attempt)
                .where(runs.c.status == "running")
                .values(status="interrupted", updated_at=now, finished_at=now)
            )

    def fail(self, lease: Lease, error: str) -> None:
        """End a claimed run, that may not have begun yet, as failed with its reason.

        A run that is not the worker's own any more is left alone.
        """
        with self._database.write() as connection:
            now = self._now(connection)
            own = sa.select(jobs.c.id).where(held(lease)).with_for_update()
            if connection.execute(own).scalar() is not None:
                end(connection, lease.run_id, "failed", storable(error), now)

    def cancel(self, ref: str) -> JobRecord:
        """Take a run out of the queue, or ask its worker to stop; what is decided stays stored.

        Raises:
            StoreError: there is no such run, it was not submitted, or it has ended.
        """
        found = self.job(ref)
        with self._database.write() as connection:
            query = sa.select(jobs).where(jobs.c.id == found.id).with_for_update()
            row = connection.execute(query).mappings().first()
            if row is None or row["status"] not in ACTIVE:
                state = "gone" if row is None else row["status"]
                raise StateError(f"run {found.id[:8]} is {state} already; nothing to cancel")
            now = self._now(connection)
            if row["status"] == "running" and row["expires_at"] > now:
                flag = sa.update(jobs).where(jobs.c.id == found.id)
                connection.execute(flag.values(cancelling=True, updated_at=now))
            else:
                end(connection, found.id, "cancelled", None, now)
        return self.job(found.id)

    def retry(self, ref: str) -> JobRecord:
        """Put a failed, cancelled or interrupted run back into the queue, to be gone on with.

        A run that was started from the command line becomes a job by this.

        Raises:
            StoreError: there is no such run, it is done, or it is being worked on.
        """
        run_id = find_one(self._database, ref)
        with self._database.write() as connection:
            now = self._now(connection)
            row = (
                connection.execute(sa.select(jobs).where(jobs.c.id == run_id).with_for_update())
                .mappings()
                .first()
            )
            run = connection.execute(sa.select(runs).where(runs.c.id == run_id)).mappings().first()
            status = row["status"] if row and row["status"] in ACTIVE else None
            # A run that was gone on with by hand is running although its job has ended.
            if run and run["status"] in ("done", "running"):
                status = status or run["status"]
            if status in ("done", *ACTIVE):
                raise no_retry(run_id, status, mine=row is not None and row["status"] == status)
            fresh = {
                "status": "queued", "cancelling": False, "deaths": 0, "error": None,
                "updated_at": now, "finished_at": None, **FREE,
            }  # fmt: skip
            if row is None and run is not None:
                spec = spec_of(run, "run")
                made = new_job(spec, run["engine"], {}, run["note"] or "", now)
                kept = {"id": run_id, "created_at": run["created_at"], "attempt": run["attempt"]}
                # Somebody else may be retrying it just now: then it is queued, which will do.
                with suppress(IntegrityError), connection.begin_nested():
                    connection.execute(sa.insert(jobs).values(**made | kept))
            else:
                connection.execute(sa.update(jobs).where(jobs.c.id == run_id).values(**fresh))
        return self.job(run_id)

    def job(self, ref: str) -> JobRecord:
        """The job of that id, or of that unambiguous beginning of an id.

        Raises:
            StoreError: there is none, or it is a run that was not submitted.
        """
        run_id = find_one(self._database, ref)
        with self._database.read() as connection:
            row = connection.execute(sa.select(jobs).where(jobs.c.id == run_id)).mappings().first()
        if row is None:
            raise StateError(
                f"run {run_id[:8]} was not submitted but started from the command line; it is "
                "stopped there, and gone on with by `discover resume` or `discover retry`"
            )
        return job_record(row)

    def jobs(self, status: str | None = None, limit: int | None = None) -> list[JobRecord]:
        """Jobs in the order in which they were submitted, optionally of one status only."""
        query = sa.select(jobs).order_by(jobs.c.created_at, jobs.c.tau.desc(), jobs.c.id)
        if status is not None:
            query = query.where(jobs.c.status == status)
        with self._database.read() as connection:
            return [job_record(row) for row in connection.execute(query.limit(limit)).mappings()]

    def add_worker(
        self, worker: str, *, host: str, pid: int, device: str, lease: float = LEASE
    ) -> None:
        """Enter a worker, that will beat its heart from now on, each `lease` seconds at least."""
        with self._database.write() as connection:
            now = self._now(connection)
            silent = workers.c.heartbeat_at < now - FORGET
            connection.execute(sa.delete(workers).where(silent))
            row: dict[str, Any] = {"id": worker, "host": storable(host), "pid": pid}
            row["device"] = device
            row |= {"started_at": now, "heartbeat_at": now, "run_id": None}
            row["expires_at"] = now + timedelta(seconds=lease)
            connection.execute(sa.insert(workers).values(**row))

    def remove_worker(self, worker: str) -> None:
        """Strike a worker off that has ended."""
        with self._database.write() as connection:
            connection.execute(sa.delete(workers).where(workers.c.id == worker))

    def workers(self) -> list[WorkerRecord]:
        """Every worker; alive are those that have been heard of as they promised to be."""
        query = sa.select(workers).order_by(workers.c.started_at)
        with self._database.read() as connection:
            now = self._now(connection)
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [WorkerRecord(alive=row.pop("expires_at") > now, **row) for row in rows]

    def _now(self, connection: sa.Connection) -> datetime:
        """The time by the one clock that all workers share: the server's, or this machine's."""
        if connection.dialect.name != "postgresql":
            return datetime.now(UTC)
        found: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return found.astimezone(UTC)

"""Store: runs, prompts, decisions and evaluations in a SQL database; here what writes of runs."""

from __future__ import annotations

import math
import secrets
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa

from discover.errors import StateError, StoreError
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store.contract import STATUSES, SUMMARY, Lease, OnCommit, RunRecord
from discover.store.engine import BUSY_TIMEOUT, Database
from discover.store.evaluations import Evaluations, delete_evaluations
from discover.store.leases import check_idle, check_lease, end_job, fenced, lock_job
from discover.store.listing import Listing
from discover.store.migrate import prepare
from discover.store.prompts import drop_unused_prompts, store_prompts
from discover.store.protocol import WholeStore
from discover.store.records import storable
from discover.store.runs import Runs
from discover.store.sweeps import Sweeps, drop_unused_files, leave_sweeps
from discover.store.tables import (
    ID_LENGTH,
    UtcTime,
    decisions,
    evaluations,
    jobs,
    runs,
)
from discover.store.writer import DecisionWriter


class Store(Evaluations, Listing, Runs, Sweeps):
    """Runs and all that belongs to them in one SQL database; safe to share between threads.

    Open it with `Store.open`; use it as a context manager, or `close` it. Every method that
    reaches the database raises StoreError, one clear line, when it is unreachable, locked for
    longer than the busy timeout, or damaged.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(
        cls, url: str | None = None, *, create: bool = True, busy_timeout: float = BUSY_TIMEOUT
    ) -> Self:
        """Open the database of that URL or SQLite path; by default `default_url()`.

        With `create` a missing or empty database gets the schema; without, nothing is created.
        `busy_timeout`, in seconds, is how long every call waits for another process's lock.

        Raises:
            StoreError: no database, no driver, no rights, not a database, or another schema.
        """
        database = Database(url, busy_timeout)
        try:
            prepare(database, create=create)
            database.opened = True
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def label(self) -> str:
        """The database's file or URL, without a password, for messages."""
        return self._database.label

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def create_run(
        self,
        spec: RunSpec,
        *,
        graph: ComputationalGraph,
        engine: str,
        versions: dict[str, str],
        prompts_jsonl: str,
        lease: Lease | None = None,
    ) -> str:
        """Store a new run, status `running`, and return its id: 16 random hexadecimal characters.

        `versions` maps programs to their versions. Equal prompts are stored once for all runs.
        With a `lease` it is the run that was claimed, and has its id.

        Raises:
            StoreError: the run cannot be stored.
            FencedError: the claimed run is not the worker's own any more.
        """
        run_id = secrets.token_hex(ID_LENGTH // 2) if lease is None else lease.run_id
        now = datetime.now(UTC)
        lines = sum(1 for line in prompts_jsonl.split("\n") if line.strip())
        with self._database.write() as connection:
            values = {
                "id": run_id,
                "created_at": now,
                "updated_at": now,
                "status": "running",
                "spec": spec.to_json(),
                "spec_hash": spec.hash,
                "model": storable(spec.model),
                "task": storable(spec.task or spec.prompts_file or ""),
                "metric": spec.metric,
                "ablation": spec.ablation,
                "tau": spec.tau,
                "prompts": lines if spec.prompts is None else spec.prompts,
                "seed": spec.seed,
                "engine": engine,
                "graph": graph.shape(),
                "edges": len(graph),
                "seconds": 0.0,
                "versions": versions,
                "evidence": {},
                "prompts_hash": store_prompts(connection, prompts_jsonl),
            }
            if lease is not None:
                check_lease(connection, lease)
                note = sa.select(jobs.c.note).where(jobs.c.id == run_id)
                values |= {
                    "attempt": lease.attempt,
                    "note": connection.execute(note).scalar_one(),
                }
            connection.execute(sa.insert(runs), values)
        return run_id

    def start(self, run_id: str, lease: Lease | None = None) -> int:
        """Mark a run as running: begun now if it never was, its error and results cleared.

        Returns the attempt, which whatever is written from now on must name; it fences out every
        process that started on the run before. With a `lease` it is that of the claim.

        Raises:
            StoreError: there is no such run, or it is queued or claimed and no lease was given.
            FencedError: the claimed run is not the worker's own any more.
        """
        now = datetime.now(UTC)
        values = {
            "status": "running",
            "started_at": sa.func.coalesce(runs.c.started_at, sa.literal(now, UtcTime)),
            "updated_at": now,
            "finished_at": None,
            "error": None,
            **dict.fromkeys(SUMMARY),
        }
        with self._database.write() as connection:
            if lease is None:
                check_idle(connection, run_id)
            else:
                check_lease(connection, lease)
            attempt = runs.c.attempt + 1 if lease is None else lease.attempt
            of = sa.update(runs).where(runs.c.id == run_id)
            if connection.execute(of.values(**values, attempt=attempt)).rowcount != 1:
                raise self._missing(run_id)
            query = sa.select(runs.c.attempt).where(runs.c.id == run_id)
            return int(connection.execute(query).scalar_one())

    def finish(
        self,
        run_id: str,
        status: str,
        *,
        error: str | None = None,
        seconds: float = 0.0,
        summary: dict[str, Any] | None = None,
        evidence: dict[str, Any] | None = None,
        attempt: int | None = None,
    ) -> RunRecord:
        """Mark a run as done, failed or interrupted, and return its record.

        With an `attempt` only if that is still the run's. A job of the run ends with it, but goes
        back into the queue when its worker was interrupted and it is not being cancelled.

        `seconds` is this session's wall time and is added to what is stored. `summary` has some or
        all of the keys kept, evaluated, dead, damage, damage_all_ablated (in the metric's unit) and
        circuit_hash. `evidence` is any JSON object and replaces what is stored.

        Raises:
            StoreError: there is no such run, or a damage is a NaN.
            FencedError: the run has been taken over by another attempt.
            ValueError: the status or a key of the summary is unknown.
        """
        if status not in STATUSES or status == "running":
            raise ValueError(f"a run cannot finish as {status!r}")
        facts = dict(summary or {})
        if unknown := sorted(set(facts) - set(SUMMARY)):
            raise ValueError(f"unknown summary keys: {', '.join(unknown)}")
        for key in ("damage", "damage_all_ablated"):
            if facts.get(key) is not None:
                facts[key] = float(facts[key])
                if math.isnan(facts[key]):
                    raise StoreError(f"the {key} of run {run_id} is a NaN, which cannot be stored")
        if evidence is not None:
            facts["evidence"] = evidence
        now = datetime.now(UTC)
        facts |= {
            "status": status,
            "error": None if error is None else storable(error),
            "seconds": runs.c.seconds + seconds,
            "updated_at": now,
            "finished_at": now,
        }
        with self._database.write() as connection:
            lock_job(connection, run_id)
            mine = sa.update(runs).where(runs.c.id == run_id)
            if attempt is not None:
                mine = mine.where(runs.c.attempt == attempt)
            if connection.execute(mine.values(**facts)).rowcount != 1:
                there = sa.select(runs.c.id).where(runs.c.id == run_id)
                known = connection.execute(there).scalar() is not None
                raise fenced(run_id) if known else self._missing(run_id)
            end_job(connection, run_id, status, facts["error"])
        return self._get(run_id)

    def writer(
        self,
        run_id: str,
        on_commit: OnCommit | None = None,
        interval: float = 0.5,
        attempt: int | None = None,
    ) -> DecisionWriter:
        """What stores the run's further decisions, beginning with step `count(run_id)`.

        With an `attempt` it stores them only while that is the run's; FencedError otherwise.

        `on_commit` gets each batch, on another thread, once it is stored; `interval`, in seconds
        and at most 2, is how long decisions are gathered before that.

        Raises:
            StoreError: there is no such run.
        """
        return DecisionWriter(
            self._database, run_id, self.count(run_id), on_commit, interval, attempt
        )

    def delete(self, run_id: str) -> None:
        """Remove a run, its job, decisions and evaluations, and what nothing else uses then.

        That is its prompts, the file that it was submitted with (see `add_file`), and a sweep that
        has no other run.

        Raises:
            StoreError: there is no such run, or a worker is at it.
        """
        with self._database.write() as connection:
            asked = lock_job(connection, run_id)
            if asked == "running":
                raise StateError(
                    f"run {run_id[:8]} is being worked on; first `discover cancel {run_id[:8]}`"
                )
            connection.execute(sa.delete(jobs).where(jobs.c.id == run_id))
            leave_sweeps(connection, run_id)
            query = sa.select(runs.c.prompts_hash).where(runs.c.id == run_id)
            key = connection.execute(query).scalar()
            if key is None and asked is None:
                raise self._missing(run_id)
            if key is not None:
                _delete_rows(connection, run_id, key)
            drop_unused_files(connection, datetime.now(UTC))


def _delete_rows(connection: sa.Connection, run_id: str, prompts_hash: str) -> None:
    """Remove a run that has begun, and all that belongs to it."""
    used = evaluations.c.run_id == run_id
    theirs = connection.execute(sa.select(evaluations.c.prompts_hash).where(used)).scalars()
    keys = {prompts_hash, *theirs}
    connection.execute(sa.delete(decisions).where(decisions.c.run_id == run_id))
    delete_evaluations(connection, used)
    connection.execute(sa.delete(runs).where(runs.c.id == run_id))
    drop_unused_prompts(connection, keys)


if TYPE_CHECKING:
    _contract: type[WholeStore] = Store

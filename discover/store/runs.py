"""The part of the store that reads runs: their records, decisions and prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from discover.acdc import Decision
from discover.errors import NotFoundError, StateError, StoreError
from discover.store.circuits import CHUNK, COLUMNS, Circuits
from discover.store.contract import STATUSES, RunRecord
from discover.store.queue import Queue
from discover.store.records import decisions_of, record_of, storable
from discover.store.refs import find_one
from discover.store.tables import decisions, prompts, runs

# The steps stored are 0 to n-1, so the last one tells their number from the key alone, without
# reading the rows.
_DECIDED = (
    sa.select(sa.func.coalesce(sa.func.max(decisions.c.step) + 1, 0))
    .where(decisions.c.run_id == runs.c.id)
    .scalar_subquery()
    .label("decided")
)


class Runs(Circuits, Queue):
    """What a store can tell of runs that have begun; `Store` is one."""

    def run(self, ref: str) -> RunRecord:
        """The run of that id, of that unambiguous beginning of an id, or `latest`.

        Raises:
            StoreError: there is no such run, or several (it lists them).
        """
        if ref.strip().lower() == "latest":
            return self._latest()
        run_id = find_one(self._database, ref)
        found = self._select(runs.c.id == run_id)
        if not found:
            job = self.job(run_id)
            hint = ": no worker has begun it yet" if job.status == "queued" else ""
            hint = f" ({job.error})" if job.error else hint
            raise StateError(f"run {run_id[:8]} is {job.status}{hint}; it has nothing to show")
        return found[0]

    def _latest(self) -> RunRecord:
        found = self._select(limit=1)
        if not found:
            raise NotFoundError(
                f"there are no runs in {self._database.label} yet; start with `discover run`"
            )
        return found[0]

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        status: str | None = None,
        model: str | None = None,
        task: str | None = None,
        spec_hash: str | None = None,
    ) -> list[RunRecord]:
        """Runs, newest first, optionally those of one status, model, task or spec only.

        Raises:
            StoreError: the status is none, or a stored run is not readable by this program.
        """
        conditions = []
        if status is not None:
            if status not in STATUSES:
                raise StoreError(f"unknown status {status!r}; choose one of {', '.join(STATUSES)}")
            conditions.append(runs.c.status == status)
        if model is not None:
            conditions.append(runs.c.model == storable(model))
        if task is not None:
            conditions.append(runs.c.task == storable(task))
        if spec_hash is not None:
            conditions.append(runs.c.spec_hash == spec_hash)
        if offset < 0 or (limit is not None and limit < 0):
            raise StoreError("limit and offset cannot be negative")
        return self._select(*conditions, limit=limit, offset=offset)

    def _select(
        self, *conditions: sa.ColumnElement[bool], limit: int | None = None, offset: int = 0
    ) -> list[RunRecord]:
        query = sa.select(runs, _DECIDED).where(*conditions)
        query = query.order_by(runs.c.created_at.desc(), runs.c.id.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit).offset(offset)).mappings().all()
        return [record_of(row) for row in rows]

    def decisions(self, run_id: str) -> Iterator[Decision]:
        """A run's decisions in step order, read a few thousand at a time.

        Raises:
            StoreError: there is no such run, a step is missing, or a row is no edge of its graph.
        """
        return decisions_of(self._get(run_id).graph, run_id, self.decision_rows(run_id))

    def kept_decisions(self, run_id: str) -> Iterator[Decision]:
        """A run's decisions to keep an edge, in step order: its circuit, without all the rest.

        Raises:
            StoreError: there is no such run, or a row is no edge of its graph.
        """
        return decisions_of(self._get(run_id).graph, run_id, self.kept_rows(run_id))

    def decision_rows(self, run_id: str) -> Iterator[dict[str, Any]]:
        """A run's decisions in step order as plain values, keyed by column.

        The keys are step, sender, receiver, before, after, score, outcome and float64.

        Raises:
            StoreError: there is no such run, or a step is missing.
        """
        self._get(run_id)
        query = (
            sa.select(*(decisions.c[name] for name in COLUMNS))
            .where(decisions.c.run_id == run_id, decisions.c.step >= sa.bindparam("first"))
            .order_by(decisions.c.step)
            .limit(CHUNK)
        )
        step = 0
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query, {"first": step}).all()
            for row in rows:
                if row[0] != step:
                    raise StoreError(
                        f"step {step} of run {run_id} is missing; the rows were changed by hand"
                    )
                yield dict(zip(COLUMNS, row, strict=True))
                step += 1
            if len(rows) < CHUNK:
                return

    def count(self, run_id: str) -> int:
        """How many decisions of a run are stored.

        Raises:
            StoreError: there is no such run.
        """
        with self._database.read() as connection:
            found = connection.execute(sa.select(_DECIDED).where(runs.c.id == run_id)).scalar()
        if found is None:
            raise self._missing(run_id)
        return int(found)

    def prompts_jsonl(self, run_id: str) -> str:
        """The prompts that a run used, as they were given to `create_run`.

        Raises:
            StoreError: there is no such run.
        """
        query = sa.select(prompts.c.jsonl).join(runs, runs.c.prompts_hash == prompts.c.hash)
        with self._database.read() as connection:
            found = connection.execute(query.where(runs.c.id == run_id)).scalar()
        if found is None:
            raise self._missing(run_id)
        return str(found)

    def begun(self, run_id: str) -> bool:
        """Whether a run has been stored, or is at most submitted."""
        query = sa.select(runs.c.id).where(runs.c.id == run_id)
        with self._database.read() as connection:
            return connection.execute(query).scalar() is not None

    def _get(self, run_id: str) -> RunRecord:
        found = self._select(runs.c.id == run_id)
        if not found:
            raise self._missing(run_id)
        return found[0]

    def _missing(self, run_id: str) -> StoreError:
        return NotFoundError(f"there is no run {run_id!r} in {self._database.label}")

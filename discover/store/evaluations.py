"""The part of the store that keeps evaluations and their figures."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from discover.errors import StoreError
from discover.evaluation.figures import Measurement
from discover.store.contract import EvaluationRecord
from discover.store.engine import Database
from discover.store.prompts import drop_unused_prompts, store_prompts
from discover.store.records import storable
from discover.store.tables import ID_LENGTH, evaluations, measurements, prompts, runs

_FIGURE = ("subject", "measure", "value", "unit", "low", "high", "extra")


class Evaluations:
    """What a store can do with evaluations; `Store` is one."""

    _database: Database

    def add_evaluation(
        self,
        run_id: str | None,
        *,
        circuit_hash: str,
        settings: dict[str, Any],
        prompts_jsonl: str,
        versions: dict[str, str],
        seconds: float,
        measurements: Sequence[Measurement],
    ) -> EvaluationRecord:
        """Store a finished evaluation with all its figures, whole or not at all.

        `run_id` is None for a circuit that is no run's. The run itself is not touched.

        Raises:
            StoreError: there is no such run, or a figure is a NaN.
        """
        evaluation_id = secrets.token_hex(ID_LENGTH // 2)
        rows = [_row(evaluation_id, at, figure) for at, figure in enumerate(measurements)]
        with self._database.write() as connection:
            if run_id is not None:
                known = sa.select(runs.c.id).where(runs.c.id == run_id)
                if (
                    connection.execute(known.with_for_update(read=True, key_share=True)).scalar()
                    is None
                ):
                    raise StoreError(f"there is no run {run_id!r} in {self._database.label}")
            values = {
                "id": evaluation_id,
                "run_id": run_id,
                "created_at": datetime.now(UTC),
                "circuit_hash": circuit_hash,
                "settings": settings,
                "prompts_hash": store_prompts(connection, prompts_jsonl),
                "versions": versions,
                "seconds": float(seconds),
            }
            connection.execute(sa.insert(evaluations), values)
            if rows:
                connection.execute(sa.insert(_measurements), rows)
        return self.evaluation(evaluation_id)

    def add_measurements(self, evaluation_id: str, figures: Sequence[Measurement]) -> None:
        """Add further figures to a stored evaluation, behind those that it has.

        Raises:
            StoreError: there is no such evaluation, or a figure is a NaN.
        """
        record = self.evaluation(evaluation_id)
        known = sa.select(sa.func.count()).where(_measurements.c.evaluation_id == record.id)
        with self._database.write() as connection:
            first = int(connection.execute(known).scalar_one())
            rows = [_row(record.id, at, figure) for at, figure in enumerate(figures, first)]
            if rows:
                connection.execute(sa.insert(_measurements), rows)

    def evaluations(self, run_id: str | None) -> list[EvaluationRecord]:
        """A run's evaluations, newest first; with None those of circuits that are no run's.

        Raises:
            StoreError: there is no such run.
        """
        with self._database.read() as connection:
            known = sa.select(runs.c.id).where(runs.c.id == run_id)
            if run_id is not None and connection.execute(known).scalar() is None:
                raise StoreError(f"there is no run {run_id!r} in {self._database.label}")
        return self._evaluations(evaluations.c.run_id == run_id)

    def evaluation(self, ref: str) -> EvaluationRecord:
        """The evaluation of that id, or of that unambiguous beginning of an id.

        Raises:
            StoreError: there is no such evaluation, or several.
        """
        wanted = ref.strip().lower()
        found = []
        if re.fullmatch(rf"[0-9a-f]{{1,{ID_LENGTH}}}", wanted):
            found = self._evaluations(evaluations.c.id.startswith(wanted), limit=2)
        if len(found) > 1:
            raise StoreError(f"{ref!r} is the beginning of several evaluations; give more of it")
        if not found:
            raise StoreError(f"there is no evaluation {ref!r} in {self._database.label}")
        return found[0]

    def measurements(self, evaluation_id: str) -> list[Measurement]:
        """An evaluation's figures, in the order in which they were given.

        Raises:
            StoreError: there is no such evaluation.
        """
        record = self.evaluation(evaluation_id)
        query = sa.select(*(_measurements.c[name] for name in _FIGURE))
        query = query.where(_measurements.c.evaluation_id == record.id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_measurements.c.number)).mappings().all()
        return [Measurement(**row) for row in rows]

    def evaluation_prompts(self, evaluation_id: str) -> str:
        """The prompts that an evaluation used, as they were given to `add_evaluation`.

        Raises:
            StoreError: there is no such evaluation.
        """
        record = self.evaluation(evaluation_id)
        query = sa.select(prompts.c.jsonl).where(prompts.c.hash == record.prompts_hash)
        with self._database.read() as connection:
            return str(connection.execute(query).scalar_one())

    def delete_evaluation(self, evaluation_id: str) -> None:
        """Remove an evaluation, its figures, and prompts that nothing else uses.

        Raises:
            StoreError: there is no such evaluation.
        """
        record = self.evaluation(evaluation_id)
        with self._database.write() as connection:
            delete_evaluations(connection, evaluations.c.id == record.id)
            drop_unused_prompts(connection, [record.prompts_hash])

    def _evaluations(
        self, condition: sa.ColumnElement[bool], limit: int | None = None
    ) -> list[EvaluationRecord]:
        query = sa.select(evaluations).where(condition).limit(limit)
        query = query.order_by(evaluations.c.created_at.desc(), evaluations.c.id.desc())
        with self._database.read() as connection:
            return [EvaluationRecord(**row) for row in connection.execute(query).mappings()]


_measurements = measurements
"""The table, where a method of that name hides it."""


def delete_evaluations(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    """Remove evaluations and their figures."""
    ids = sa.select(evaluations.c.id).where(which).scalar_subquery()
    connection.execute(sa.delete(measurements).where(measurements.c.evaluation_id.in_(ids)))
    connection.execute(sa.delete(evaluations).where(which))


def _row(evaluation_id: str, number: int, figure: Measurement) -> dict[str, Any]:
    numbers = {
        key: None if getattr(figure, key) is None else float(getattr(figure, key)) + 0.0
        for key in ("value", "low", "high")
    }
    if any(value is not None and math.isnan(value) for value in numbers.values()):
        raise StoreError(
            f"{figure.measure} of {figure.subject} is a NaN, which cannot be stored; leave it out"
        )
    return {
        "evaluation_id": evaluation_id,
        "number": number,
        "subject": storable(figure.subject),
        "measure": figure.measure,
        "unit": figure.unit,
        "extra": figure.extra,
        **numbers,
    }

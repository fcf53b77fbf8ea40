"""The part of the store that a picture of a run is made from: kept edges, curve, pages of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, get_args

import sqlalchemy as sa

from discover.acdc import Outcome
from discover.errors import StoreError
from discover.store.engine import Database
from discover.store.tables import decisions, jobs, runs

OUTCOMES: tuple[str, ...] = get_args(Outcome)

COLUMNS = ("step", "sender", "receiver", "before", "after", "score", "outcome", "float64")
"""What is told of a decision, in this order."""

CHUNK = 2000
"""Decisions read at a time: flat memory, and no transaction open while the caller works."""

CURVE_POINTS = 1000
"""Points of a damage curve unless told otherwise: more than a screen tells apart."""

_ROW = sa.select(*(decisions.c[name] for name in COLUMNS)).order_by(decisions.c.step)


class Circuits:
    """What a store can tell of a run's decisions without reading them all; `Store` is one."""

    _database: Database

    def decision_page(
        self, run_id: str, after: int = -1, limit: int = 1000, outcome: str | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """At most `limit` decisions behind step `after`, and what `after` is for the next page.

        The rows are as `decision_rows` gives them, optionally of one outcome only. The second is
        None where no more are stored now; a run that is under way may store more later.

        Raises:
            StoreError: there is no such run or outcome, or the limit is not positive.
        """
        if outcome is not None and outcome not in OUTCOMES:
            raise StoreError(f"unknown outcome {outcome!r}; choose one of {', '.join(OUTCOMES)}")
        if limit < 1:
            raise StoreError(f"the limit of a page must be at least 1, got {limit}")
        found = self._rows(run_id, after, limit + 1, outcome)
        rows = [_told(row) for row in found[:limit]]
        return rows, rows[-1]["step"] if len(found) > limit else None

    def kept_rows(self, run_id: str) -> Iterator[dict[str, Any]]:
        """A run's decisions to keep an edge, in step order, a few thousand read at a time.

        They are as `decision_rows` gives them; those of a run under way are those so far.

        Raises:
            StoreError: there is no such run.
        """
        after = -1
        while rows := self._rows(run_id, after, CHUNK, "kept"):
            yield from map(_told, rows)
            if len(rows) < CHUNK:
                return
            after = rows[-1].step

    def _rows(
        self, run_id: str, after: int, limit: int, outcome: str | None
    ) -> Sequence[sa.Row[Any]]:
        query = _ROW.where(decisions.c.run_id == run_id, decisions.c.step > after).limit(limit)
        if outcome is not None:
            query = query.where(decisions.c.outcome == outcome)
        with self._database.read() as connection:
            found = connection.execute(query).all()
            if not found:
                self._known(connection, run_id)
        return found

    def outcomes(self, run_id: str) -> dict[str, int]:
        """How many decisions of each outcome a run has stored; every outcome is there.

        Raises:
            StoreError: there is no such run.
        """
        # Three counters in one pass: twice as fast as to group by the outcome.
        each = (sa.func.count().filter(decisions.c.outcome == outcome) for outcome in OUTCOMES)
        with self._database.read() as connection:
            found = connection.execute(sa.select(*each).where(decisions.c.run_id == run_id)).one()
            if not any(found):
                self._known(connection, run_id)
        return dict(zip(OUTCOMES, found, strict=True))

    def curve(self, run_id: str, points: int = CURVE_POINTS) -> list[tuple[int, float, int]]:
        """How damage and circuit grew with the search: (step, damage, edges kept so far).

        The damage is that of the network after the step, in the metric's unit: `after` of an edge
        that was removed, `before` of one that was kept. At most `points` steps are given, equally
        spaced from step 0, and the last.

        Raises:
            StoreError: there is no such run, or fewer than two points are asked for.
        """
        if points < 2:
            raise StoreError(f"a curve has at least 2 points, got {points}")
        of = decisions.c.run_id == run_id
        step, kept = decisions.c.step, decisions.c.outcome == "kept"
        with self._database.read() as connection:
            end = connection.execute(sa.select(sa.func.max(step)).where(of)).scalar()
            if end is None:
                self._known(connection, run_id)
                return []
            # Two plain passes over the run's rows take a third of the time of a running sum over
            # every one of them. A stretch ends with the point that it is counted for.
            stride = -(-(end + 1) // (points - 1))
            stretch = (step + (stride - 1)) // stride
            damage = sa.case((kept, decisions.c.before), else_=decisions.c.after)
            picked = sa.or_(step % stride == 0, step == end)
            found = sa.select(step, stretch, damage).where(of, step <= end, picked).order_by(step)
            rows = connection.execute(found).all()
            counted = sa.select(stretch, sa.func.count()).where(of, step <= end, kept)
            counts: dict[int, int] = dict(connection.execute(counted.group_by(stretch)).all())
        so_far = accumulate(counts.get(place, 0) for _, place, _ in rows)
        return [(at, value, number) for (at, _, value), number in zip(rows, so_far, strict=True)]

    def _known(self, connection: sa.Connection, run_id: str) -> None:
        """A run that only waits is known too: it has no decisions yet."""
        for table in (runs, jobs):
            if connection.execute(sa.select(table.c.id).where(table.c.id == run_id)).first():
                return
        raise StoreError(f"there is no run {run_id!r} in {self._database.label}")


def _told(row: sa.Row[Any]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))

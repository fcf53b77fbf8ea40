"""DecisionWriter: stores decisions in the background, and reports only what is stored."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from discover.acdc import Decision
from discover.errors import FencedError, StoreError
from discover.store.contract import OnCommit
from discover.store.engine import Database
from discover.store.leases import fenced
from discover.store.tables import decisions, runs

MAX_INTERVAL = 2.0
"""Seconds within which a decision must be stored: the contract."""

MAX_BATCH = 10_000
"""Decisions held back at most; `add` waits when storing is slower than deciding."""


class _ConflictError(StoreError):
    """The rows can never be stored: trying again would be in vain."""


class DecisionWriter:
    """Stores the decisions of one run, in order, as a context manager.

    A thread with its own connection commits what was added `interval` seconds after the first
    addition, one transaction a batch, so the rows stored are steps 0 to n-1 at any moment, also
    after a kill, and also while the next decision is long in coming. After each commit, and on
    that thread, `on_commit` gets the batch; it must not wait for the thread that adds.

    What goes wrong on the thread, `on_commit` included, is raised by the next `add` and by those
    after it, or else on leaving. Leaving stores the rest, also when an exception passes, and tries
    once more what a lock or a full disk kept out, or what was stored and only the answer was lost;
    if that works nothing was lost and nothing is raised. An exception that passes is never masked.
    """

    def __init__(
        self,
        database: Database,
        run_id: str,
        next_step: int,
        on_commit: OnCommit | None = None,
        interval: float = 0.5,
        attempt: int | None = None,
    ) -> None:
        if not 0 < interval <= MAX_INTERVAL:
            raise ValueError(f"interval must be above 0 and at most {MAX_INTERVAL} s")
        self._database = database
        self._run_id = run_id
        self._next_step = next_step
        self._on_commit = on_commit
        self._interval = interval
        self._attempt = attempt
        self._buffer: list[Decision] = []
        self._state = threading.Condition()
        self._closing = False
        self._error: BaseException | None = None
        self._raised = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the thread."""
        if self._thread is not None:
            raise RuntimeError("a DecisionWriter can be entered once")
        # A daemon, so that a second Ctrl-C during a long wait for a lock ends the program.
        self._thread = threading.Thread(target=self._work, name="decisions", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store the rest and stop the thread.

        Raises:
            StoreError: decisions could not be stored, and no exception is passing.
        """
        try:
            self._close()
        except Exception as problem:
            if error is None:
                raise
            if str(error) != str(problem):
                error.add_note(f"besides: {problem}")

    def add(self, decision: Decision) -> None:
        """Hand over the next decision of the run; returns at once unless 10,000 are waiting.

        Raises:
            StoreError: an earlier decision could not be stored, this one is not the run's next
                step, or it holds a NaN, which SQLite cannot store.
        """
        if any(math.isnan(x) for x in (decision.before, decision.after, decision.score)):
            raise StoreError(
                f"step {decision.step} of run {self._run_id} ({decision.edge}) holds a NaN, which "
                "no database keeps; it was not stored"
            )
        with self._state:
            if self._thread is None or self._closing:
                raise RuntimeError("a DecisionWriter takes decisions only inside its `with` block")
            if len(self._buffer) >= MAX_BATCH:
                self._state.wait_for(lambda: self._error or len(self._buffer) < MAX_BATCH)
            if self._error is not None:
                self._raised = True
                raise self._error
            if decision.step != self._next_step:
                raise StoreError(
                    f"run {self._run_id} is at step {self._next_step}, but step {decision.step} "
                    "was handed over to be stored"
                )
            self._buffer.append(decision)
            self._next_step += 1
            if len(self._buffer) in (1, MAX_BATCH):
                self._state.notify_all()

    def _work(self) -> None:
        """The thread: wait for something to store, gather a while, store, report."""
        while True:
            with self._state:
                self._state.wait_for(lambda: self._closing or self._buffer)
                self._state.wait_for(
                    lambda: self._closing or len(self._buffer) >= MAX_BATCH, self._interval
                )
                last = self._closing
            try:
                self._flush()
            except BaseException as error:
                with self._state:
                    self._error = error
                    self._state.notify_all()
                return
            if last:
                return

    def _flush(self) -> None:
        """Commit what there is, then report it; what cannot be committed stays in the buffer."""
        with self._state:
            batch = list(self._buffer)
        if not batch:
            return
        self._commit(batch)
        with self._state:
            del self._buffer[: len(batch)]
            self._state.notify_all()
        if self._on_commit is not None:
            self._on_commit(batch)

    def _commit(self, batch: list[Decision]) -> None:
        with self._database.write() as connection:
            if self._error is not None:
                # The commit that failed may have gone through, and only its answer been lost.
                batch = self._not_stored(connection, batch)
            if batch:
                self._insert(connection, batch)

    def _not_stored(self, connection: sa.Connection, batch: list[Decision]) -> list[Decision]:
        """Those of the batch that are not in the database just as they are here."""
        step = decisions.c.step
        query = sa.select(decisions).where(
            decisions.c.run_id == self._run_id, step.between(batch[0].step, batch[-1].step)
        )
        there = {row["step"]: dict(row) for row in connection.execute(query).mappings()}
        return [each for each in batch if there.get(each.step) != _row(self._run_id, each)]

    def _insert(self, connection: sa.Connection, batch: list[Decision]) -> None:
        last = batch[-1]
        touch = sa.update(runs).where(runs.c.id == self._run_id)
        if self._attempt is not None:
            touch = touch.where(runs.c.attempt == self._attempt)
        values = {
            "updated_at": datetime.now(UTC),
            "kept_so_far": runs.c.kept_so_far + sum(not decision.removed for decision in batch),
            "damage_so_far": float(last.after if last.removed else last.before) + 0.0,
        }
        # First, so that on PostgreSQL the row is held, and nobody takes the run over, until the
        # decisions are in.
        if connection.execute(touch.values(**values)).rowcount != 1:
            raise self._gone(connection)
        try:
            rows = [_row(self._run_id, decision) for decision in batch]
            connection.execute(sa.insert(decisions), rows)
        except IntegrityError as error:
            raise _ConflictError(self._conflict(batch)) from error

    def _gone(self, connection: sa.Connection) -> StoreError | FencedError:
        there = sa.select(runs.c.id).where(runs.c.id == self._run_id)
        if connection.execute(there).scalar() is not None:
            return fenced(self._run_id)
        return _ConflictError(
            f"run {self._run_id} was deleted while its decisions were being stored"
        )

    def _conflict(self, batch: list[Decision]) -> str:
        return (
            f"steps {batch[0].step} to {batch[-1].step} of run {self._run_id} clash with rows that "
            "are stored already; another process is writing the same run: let only one go on"
        )

    def _close(self) -> None:
        if self._thread is None:
            return
        with self._state:
            self._closing = True
            self._state.notify_all()
        self._thread.join()
        # The thread is gone: nothing below is shared any more.
        error = self._error
        if error is None:
            return
        if self._buffer and not isinstance(error, (_ConflictError, FencedError)):
            if not isinstance(error, StoreError):
                self._on_commit = (
                    None  # It was the reporting that failed: store the rest unreported.
                )
            self._flush()
            if isinstance(error, StoreError):
                return
        if not self._raised:
            raise error


def _row(run_id: str, decision: Decision) -> dict[str, Any]:
    # SQLite forgets the sign of zero; adding 0.0 drops it everywhere, so that all databases agree.
    return {
        "run_id": run_id,
        "step": decision.step,
        "sender": decision.edge.sender.name,
        "receiver": decision.edge.receiver.name,
        "before": float(decision.before) + 0.0,
        "after": float(decision.after) + 0.0,
        "score": float(decision.score) + 0.0,
        "outcome": decision.outcome,
        "float64": bool(decision.float64),
    }

"""For tests of the store: runs without a model, a clock to be turned, all that a database holds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from discover.acdc import Decision
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store import Claim, Lease, Store

GRAPH = ComputationalGraph(2, 2)
SPEC = RunSpec(model="toy", task="ioi", tau=0.5)
PROMPTS = '{"clean": "a"}\n'


class Clocked(Store):
    """A store whose shared clock stands still until a test turns it."""

    clock = datetime(2026, 1, 1, tzinfo=UTC)

    def _now(self, connection: sa.Connection) -> datetime:
        return self.clock

    def wait(self, seconds: float) -> None:
        """Let so much time pass."""
        self.clock += timedelta(seconds=seconds)


def begin(store: Store, lease: Lease | None = None, spec: RunSpec = SPEC) -> str:
    """Store a run's row, as a worker does once it has loaded the model."""
    return store.create_run(
        spec, graph=GRAPH, engine="exact", versions={}, prompts_jsonl=PROMPTS, lease=lease
    )


def decision(step: int, outcome: str = "kept") -> Decision:
    """The decision about the edge of that step."""
    return Decision(step, GRAPH.edges[step % len(GRAPH)], step / 7, step / 3, outcome)


def decide(store: Store, run_id: str, n: int, attempt: int | None = None) -> None:
    """Store a run's next n decisions."""
    with store.writer(run_id, attempt=attempt) as writer:
        first = store.count(run_id)
        for step in range(first, first + n):
            writer.add(decision(step))


def claimed(store: Store, worker: str, **options: Any) -> Claim:
    """What the worker is given, which must be something."""
    claim = store.claim(worker, **options)
    assert claim is not None
    return claim


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, whatever the code says that there is."""
    with store._database.read() as connection:
        names = sa.inspect(connection).get_table_names()
        found = {
            name: connection.exec_driver_sql(f"SELECT * FROM {name}").all()
            for name in names
            if name != "alembic_version"
        }
    return {name: sorted((tuple(row) for row in rows), key=repr) for name, rows in found.items()}


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Call all of these at the same moment, each in a thread; their answers, or their errors."""
    answers: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def one(at: int) -> None:
        gate.wait()
        try:
            answers[at] = calls[at]()
        except Exception as error:
            answers[at] = error

    threads = [threading.Thread(target=one, args=[at]) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers

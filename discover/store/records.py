"""Between rows and values: a run's record, and text that every database takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from discover.acdc import Decision
from discover.errors import GraphError, SpecError, StoreError
from discover.graph import ComputationalGraph, Edge, graph_of_shape
from discover.spec import RunSpec
from discover.store.contract import RunRecord


def record_of(row: Mapping[Any, Any]) -> RunRecord:
    """The record in a row of `runs`, which has the number of decisions as `decided`.

    Raises:
        StoreError: its spec or graph is none that this program knows.
    """
    names = set(RunRecord.__dataclass_fields__) - {"spec", "graph"}
    try:
        spec = RunSpec.from_json(row["spec"])
        graph = graph_of_shape(row["graph"])
    except (SpecError, GraphError, TypeError) as error:
        raise StoreError(f"run {row['id']} cannot be read: {error}") from error
    return RunRecord(spec=spec, graph=graph, **{name: row[name] for name in names})


def decisions_of(
    graph: ComputationalGraph, run_id: str, rows: Iterable[Mapping[str, Any]]
) -> Iterator[Decision]:
    """The decisions in rows of a run, as `decision_rows` gives them.

    Raises:
        StoreError: a row is no edge of the graph.
    """
    senders = {sender.name: sender for sender in graph.senders}
    receivers = {r.name: (r, graph.n_senders_of(r)) for r in graph.receivers}
    place = graph.sender_index
    for row in rows:
        sender = senders.get(row["sender"])
        receiver, feeding = receivers.get(row["receiver"], (None, 0))
        if sender is None or receiver is None or place[sender] >= feeding:
            raise StoreError(
                f"step {row['step']} of run {run_id} is about {row['sender']}->"
                f"{row['receiver']}, which is no edge of its graph; the row is damaged"
            )
        yield Decision(
            row["step"],
            Edge(sender, receiver),
            row["before"],
            row["after"],
            row["outcome"],
            row["float64"],
        )


def storable(text: str) -> str:
    """Text that every database takes: no NUL, no half of a surrogate pair (as in odd paths)."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")

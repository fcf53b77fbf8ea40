"""Circuits by name: a finished run's, ready to be exported, or a known one; and two compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from discover.acdc import circuit_of
from discover.circuit import Circuit
from discover.errors import MismatchError, StateError
from discover.report import facts
from discover.spec import METRICS

if TYPE_CHECKING:
    from discover.acdc import Decision
    from discover.canonical import CanonicalCircuit
    from discover.evaluation.overlap import Comparison
    from discover.export import CircuitExport
    from discover.graph import Edge, Sender
    from discover.store import RunRecord, Store

KNOWN = "canonical:"


def check_done(record: RunRecord) -> None:
    """Refuse a run that has no circuit yet.

    Raises:
        StateError: the run is not done.
    """
    if record.status != "done":
        raise StateError(
            f"run {record.id[:8]} is {record.status} with {record.decided:,} of {record.edges:,} "
            f"edges decided; finish it first: discover resume {record.id[:8]}"
        )


def stored_circuit(store: Store, record: RunRecord) -> CircuitExport:
    """A finished run's circuit with all decisions, ready to export.

    Raises:
        StateError: the run is not done.
    """
    from discover.export import CircuitExport

    check_done(record)
    rows = list(store.decisions(record.id))
    shown = {key: value for key, value in facts(record).items() if key != "evidence"}
    shown["unit"] = METRICS[record.spec.metric]
    return CircuitExport(circuit_of(record.graph, rows), {row.edge: row for row in rows}, shown)


def _kept(store: Store, record: RunRecord) -> tuple[Circuit, dict[Edge, Decision]]:
    """A finished run's circuit, and its edges' decisions: a fraction of all its rows."""
    check_done(record)
    kept = {row.edge: row for row in store.kept_decisions(record.id)}
    circuit = Circuit(record.graph, frozenset(kept))
    if circuit.hash != record.circuit_hash:
        raise MismatchError(
            f"the rows of run {record.id[:8]} are not its circuit's; they were changed by hand"
        )
    return circuit, kept


@dataclass(frozen=True)
class Named:
    """A circuit and what is known about it: the run it is of, the roles of its nodes, its model.

    Of a run also the decisions to keep the circuit's edges.
    """

    name: str
    circuit: Circuit
    record: RunRecord | None = None
    model: str | None = None
    roles: Mapping[str, tuple[Sender, ...]] = field(default_factory=dict)
    decisions: Mapping[Edge, Decision] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What JSON output says of it."""
        return {
            "name": self.name,
            "run": None if self.record is None else self.record.id,
            "model": self.model,
            "edges": len(self.circuit),
            "nodes": len(self.circuit.nodes),
            "circuit_hash": self.circuit.hash,
        }


def of_run(store: Store, record: RunRecord) -> Named:
    """A finished run's circuit.

    Raises:
        StateError: the run is not done.
    """
    circuit, kept = _kept(store, record)
    return Named(f"run {record.id[:8]}", circuit, record, record.model, decisions=kept)


def of_known(known: CanonicalCircuit) -> Named:
    """A circuit that is known already."""
    return Named(f"{KNOWN}{known.name}", known.circuit, None, known.model, known.roles)


def spec_differences(left: Named, right: Named) -> dict[str, tuple[Any, Any]]:
    """Every field in which two runs' specs differ, with both values; empty unless both are runs."""
    if left.record is None or right.record is None:
        return {}
    # Not as JSON, where later fields are left out at their default.
    ours, theirs = (dataclasses.asdict(record.spec) for record in (left.record, right.record))
    return {key: (ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]}


def comparison_json(found: Comparison, left: Named, right: Named) -> dict[str, Any]:
    """Two circuits held against each other, as JSON values."""
    return {
        "left": left.facts(),
        "right": right.facts(),
        "edges": found.edges.to_json(),
        "nodes": found.nodes.to_json(),
        "roles": [role.to_json() for role in found.roles],
        "spec_differences": {
            key: {"left": values[0], "right": values[1]}
            for key, values in spec_differences(left, right).items()
        },
    }

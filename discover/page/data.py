"""The view: everything that the circuit viewer is given, as one JSON value."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from discover.circuit import connected_edges
from discover.errors import InputError
from discover.graph import (
    ComputationalGraph,
    Edge,
    Receiver,
    graph_of_shape,
    parse_receiver,
    parse_sender,
)
from discover.page.places import places
from discover.spec import METRICS, RunSpec

if TYPE_CHECKING:
    from discover.export import CircuitExport
    from discover.export.figure import Contrast
    from discover.store import Store
    from discover.store.contract import ListedRun

SCHEMA = "discover.view"
VERSION = 1

MOST_EDGES = 3_000
"""So many edges a view holds if not asked otherwise: those with the largest scores."""

CURVE_POINTS = 1_000
"""To so many points the curve of damage is thinned."""

SAID = ("prompts", "seed", "order", "mean_by", "dtype")
"""What a view says of a run's spec besides model, task, metric, ablation and tau."""

USUAL = {field.name: field.default for field in dataclasses.fields(RunSpec)}

Row = Mapping[str, Any]
View = dict[str, Any]


def view_of_run(store: Store, ref: str, edges: int = MOST_EDGES) -> View:
    """The view of a stored run, finished, under way or only submitted.

    Before a run has begun `graph` is None and there are no nodes.

    Raises:
        StoreError: there is no such run, or its rows are damaged.
        InputError: `edges` is below 1.
    """
    listed = store.listed_run(ref)
    facts = run_facts(listed)
    if listed.graph is None:
        return _view(facts, None, [], [], edges, final=False)
    if listed.status == "done":
        record = store.run(listed.id)
        facts |= {
            "evaluated": record.evaluated,
            "dead": record.dead,
            "damage_all_ablated": record.damage_all_ablated,
            "versions": record.versions,
        }
    graph = graph_of_shape(listed.graph)
    kept, curve = list(store.kept_rows(listed.id)), store.curve(listed.id, CURVE_POINTS)
    return _view(facts, graph, kept, curve, edges, final=listed.status == "done")


def view_of_export(export: CircuitExport, edges: int = MOST_EDGES) -> View:
    """The view of a circuit with its decisions and facts, as every export format is given it.

    Raises:
        InputError: `edges` is below 1.
    """
    circuit = export.circuit
    facts = {key: value for key, value in export.facts.items() if key != "evidence"}
    facts.setdefault("id", facts.get("run"))
    facts |= {"edges": len(circuit.graph), "kept": len(circuit), "circuit_hash": circuit.hash}
    facts.setdefault("unit", METRICS.get(str(facts.get("metric")), ""))
    facts.setdefault("status", "done")
    kept, curve = _read(_rows_of(export))
    return _view(facts, circuit.graph, kept, curve, edges, final=True)


def view_of_contrast(
    contrast: Contrast,
    facts: Mapping[str, Any],
    left: CircuitExport | None = None,
    right: CircuitExport | None = None,
    edges: int = MOST_EDGES,
) -> View:
    """The view of two circuits at once; each edge has a `side`: both, left or right.

    An edge's numbers are the left's, or the right's where only that has it; `left` and `right`
    give them where they are known. Edges that both have come first if not all can be sent.

    Raises:
        InputError: `edges` is below 1.
    """
    sides = {"shared": "both", "extra": "left", "missing": "right"}
    rows = []
    for edge in contrast.union.ordered:
        source = left if edge in contrast.left else right
        rows.append({**_row(edge, source), "side": sides[contrast.side(edge)]})
    facts = {**facts, "left": contrast.left_name, "right": contrast.right_name}
    facts |= {"edges": len(contrast.union.graph), "kept": len(contrast.union)}
    view = _view(facts, contrast.union.graph, rows, [], edges, final=True)
    connected = {edge.name for edge in contrast.connected.edges}
    for item in view["edges"]:
        item["connected"] = f"{item['sender']}->{item['receiver']}" in connected
    return view


def run_facts(listed: ListedRun) -> dict[str, Any]:
    """What a view says of a stored run."""
    spec = listed.spec
    names = ("id", "status", "cancelling", "model", "task", "metric", "ablation", "tau", "engine",
             "note", "seconds", "error", "edges", "decided", "kept", "damage",
             "circuit_hash")  # fmt: skip
    facts = {name: getattr(listed, name) for name in names}
    facts["unit"] = METRICS.get(listed.metric, "")
    # A stored spec leaves out some of what is as usual.
    facts |= {key: spec.get(key, USUAL[key]) for key in SAID}
    for name in ("created_at", "started_at", "finished_at"):
        when = getattr(listed, name)
        facts[name] = None if when is None else when.isoformat()
    return facts


def plain(value: Any) -> Any:
    """The value with floats that JSON lacks as the strings Infinity, -Infinity and NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _rows_of(export: CircuitExport) -> Iterator[Row]:
    """Decisions as a store would stream them, by step; kept edges without one come last."""
    known = sorted(export.decisions.values(), key=lambda decision: decision.step)
    for decision in known:
        yield _row(decision.edge, export)
    for edge in export.circuit.ordered:
        if edge not in export.decisions:
            yield _row(edge, export)


def _row(edge: Edge, export: CircuitExport | None) -> Row:
    row: dict[str, Any] = {"sender": edge.sender.name, "receiver": edge.receiver.name}
    decision = None if export is None else export.decisions.get(edge)
    if decision is None:
        return row | dict.fromkeys(("step", "before", "after", "score")) | {"outcome": "kept"}
    return row | {
        "step": decision.step,
        "before": decision.before,
        "after": decision.after,
        "score": decision.score,
        "outcome": decision.outcome,
    }


def _view(
    facts: Mapping[str, Any],
    graph: ComputationalGraph | None,
    kept: Sequence[Row],
    curve: Sequence[Sequence[Any]],
    most: int,
    *,
    final: bool,
) -> View:
    if most < 1:
        raise InputError(f"a view shows at least one edge, got edges={most}")
    # A stable sort: equal scores rank by step, edges without a score come last.
    ranked = sorted(kept, key=lambda row: -_worth(row))
    ranks = {id(row): place for place, row in enumerate(ranked, 1) if row["score"] is not None}
    largest = heapq.nsmallest(most, ranked, key=_less_in_one) if len(ranked) > most else ranked
    chosen = {id(row) for row in largest}
    edges = _edges(graph, kept, chosen, ranks) if graph is not None else []
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "run": plain(dict(facts)),
        "graph": None if graph is None else graph.shape(),
        "nodes": [] if graph is None else places(graph, edges, fixed=not final),
        "edges": edges,
        "shown": len(edges),
        "total": len(kept),
        "curve": plain(curve),
        "roles": {} if graph is None else roles_of(graph, str(facts.get("model")))[0],
        "role_models": {} if graph is None else roles_of(graph, str(facts.get("model")))[1],
    }


def _less_in_one(row: Row) -> int:
    """What both circuits have is sent before what only one has."""
    return int(row.get("side", "both") != "both")


def _worth(row: Row) -> float:
    score = row["score"]
    return -math.inf if score is None or math.isnan(score) else float(score)


def _read(rows: Iterable[Row]) -> tuple[list[Row], list[list[Any]]]:
    """The kept edges' rows, and the thinned curve of step, damage and edges kept so far."""
    kept: list[Row] = []
    curve: list[list[Any]] = []
    for row in rows:
        stays = row["outcome"] == "kept"
        if stays:
            kept.append(row)
        if row["step"] is not None:
            # A kept edge is put back: the damage is what it was before it was tried.
            curve.append([row["step"], row["before"] if stays else row["after"], len(kept)])
    return kept, thinned(curve, CURVE_POINTS)


def thinned(points: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (most - 1))] for i in range(most)]


def _edges(
    graph: ComputationalGraph, kept: Sequence[Row], chosen: set[int], ranks: Mapping[int, int]
) -> list[dict[str, Any]]:
    """The chosen edges as the viewer is given them, in the order in which they were decided."""
    senders = {name: parse_sender(name) for name in {row["sender"] for row in kept}}
    receivers = {name: parse_receiver(name) for name in {row["receiver"] for row in kept}}
    parsed = [Edge(senders[row["sender"]], receivers[row["receiver"]]) for row in kept]
    for sender in senders.values():
        graph.check_sender(sender)
    for receiver in receivers.values():
        graph.check_receiver(receiver)
    connected = connected_edges(graph, parsed)
    found = []
    for row, edge in zip(kept, parsed, strict=True):
        if id(row) in chosen:
            item = {
                "sender": row["sender"],
                "receiver": row["receiver"],
                "source": row["sender"],
                "target": node_of(edge.receiver),
                "port": edge.receiver.kind if edge.receiver.kind in ("q", "k", "v") else "in",
                "rank": ranks.get(id(row)),
                "connected": edge in connected,
            }
            item |= {key: plain(row[key]) for key in ("step", "before", "after", "score")}
            found.append(item | ({"side": row["side"]} if "side" in row else {}))
    return found


def node_of(receiver: Receiver) -> str:
    """The node of the picture that an input belongs to, e.g. `a9.h9` for `a9.h9.q`."""
    name = receiver.name
    return name if receiver.kind == "logits" else name.rpartition(".")[0]


@cache
def roles_of(
    graph: ComputationalGraph, model: str = ""
) -> tuple[dict[str, dict[str, list[str]]], dict[str, str]]:
    """The roles of the known circuits of this very graph, and the models that they are of.

    Of circuits with the same roles the first stands for all.
    """
    from discover.canonical import canonical
    from discover.planted import PREFIX

    roles: dict[str, dict[str, list[str]]] = {}
    models: dict[str, str] = {}
    for name in (*_with_roles(), *([model] if model.startswith(PREFIX) else [])):
        try:
            known = canonical(name)
        except InputError:  # a file of someone else's may name a model that there is not
            continue
        if known.graph == graph and known.roles:
            found = {role: [node.name for node in nodes] for role, nodes in known.roles.items()}
            if found not in roles.values():
                roles[name], models[name] = found, known.model
    return roles, models


@cache
def _with_roles() -> tuple[str, ...]:
    """The published circuits whose authors named their nodes' roles."""
    from discover.canonical import canonical, canonical_names

    # Programs are made of what their compiler made: nobody named it, and reading all takes long.
    names = [name for name in canonical_names() if not name.startswith("tracr-")]
    return tuple(name for name in names if canonical(name).roles)

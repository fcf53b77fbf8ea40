"""A circuit: the set of edges that survive, as a sub-graph of one computational graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from discover.errors import GraphError
from discover.graph import ComputationalGraph, Edge, Receiver, Sender

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Circuit:
    """A frozen set of edges of one graph.

    Raises:
        GraphError: an edge is not in the graph.
    """

    graph: ComputationalGraph
    edges: frozenset[Edge]

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", frozenset(self.edges))
        if strangers := sorted(edge.name for edge in self.edges if edge not in self.graph):
            raise GraphError(f"edges that are not in the graph: {', '.join(strangers[:5])}")

    @classmethod
    def from_names(cls, graph: ComputationalGraph, names: Iterable[str]) -> Circuit:
        """The circuit of the named edges.

        Raises:
            GraphError: a name is no edge of the graph.
        """
        return cls(graph, frozenset(graph.edge(name) for name in names))

    @classmethod
    def full(cls, graph: ComputationalGraph) -> Circuit:
        """The circuit that keeps every edge."""
        return cls(graph, graph.edge_set)

    def __len__(self) -> int:
        return len(self.edges)

    def __contains__(self, edge: Edge) -> bool:
        return edge in self.edges

    @cached_property
    def ordered(self) -> tuple[Edge, ...]:
        """The kept edges in the graph's canonical order."""
        return tuple(sorted(self.edges, key=self.graph.index))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the kept edges' names, sorted by code point, joined by newlines."""
        names = sorted(edge.name for edge in self.edges)
        return hashlib.sha256("\n".join(names).encode("utf-8")).hexdigest()

    def complement(self) -> Circuit:
        """The circuit of all the other edges."""
        return Circuit(self.graph, self.graph.edge_set - self.edges)

    def kept(self, receiver: Receiver) -> tuple[bool, ...]:
        """For each sender of the receiver, in canonical order, whether its edge is kept."""
        return tuple(
            Edge(sender, receiver) in self.edges for sender in self.graph.senders_of(receiver)
        )

    @cached_property
    def connected(self) -> Circuit:
        """The part that lies on a path of kept edges from the embedding to the logits.

        A head is fed if any of its q, k or v inputs is; an edge counts if its sender is fed from
        `embed` and its receiver's node reaches `logits`.
        """
        return Circuit(self.graph, connected_edges(self.graph, self.edges))

    @cached_property
    def nodes(self) -> tuple[Sender, ...]:
        """Senders that some kept edge leaves from or leads into, in the order of computation."""
        used = {edge.sender for edge in self.edges}
        for edge in self.edges:
            into = self.graph.nodes_of(edge.receiver)
            # A shared key/value input names no head of its group; the heads in use name themselves.
            if len(into) == 1:
                used.update(into)
        return tuple(sender for sender in self.graph.senders if sender in used)

    def to_networkx(self, scores: Mapping[Edge, Any] | None = None) -> nx.DiGraph:
        """The circuit as a networkx DiGraph whose nodes are sender and receiver names.

        Edges from sender to receiver have `kind="residual"`; a node's inputs lead to its output
        by edges of `kind="internal"`. `scores` maps edges to a score, or to a mapping of edge
        attributes (score, before, after, ...); None values are left out.
        """
        import networkx as nx

        view = nx.DiGraph(kept=len(self), edges=len(self.graph), circuit_hash=self.hash)
        for edge in self.ordered:
            _add_node(view, edge.sender)
            _add_node(view, edge.receiver)
            given = (scores or {}).get(edge)
            facts = dict(given) if isinstance(given, Mapping) else {"score": given}
            view.add_edge(
                edge.sender.name,
                edge.receiver.name,
                kind="residual",
                **{key: value for key, value in facts.items() if value is not None},
            )
        # In canonical order: a set's own order would change with the interpreter's hash seed.
        for receiver in dict.fromkeys(edge.receiver for edge in self.ordered):
            for node in self.graph.nodes_of(receiver):
                if node in self.nodes:
                    _add_node(view, node)
                    view.add_edge(receiver.name, node.name, kind="internal")
        return view


def connected_edges(graph: ComputationalGraph, edges: Iterable[Edge]) -> frozenset[Edge]:
    """The edges on a path of the given edges from the embedding to the logits."""
    edges = list(edges)
    nodes = {receiver: graph.nodes_of(receiver) for receiver in {e.receiver for e in edges}}
    into: dict[Sender, list[Sender]] = {}
    out: dict[Sender, list[Edge]] = {}
    for edge in edges:
        out.setdefault(edge.sender, []).append(edge)
        for node in nodes[edge.receiver]:
            into.setdefault(node, []).append(edge.sender)
    order = graph.sender_index
    fed = {Sender("embed")}
    # In the order of computation every sender comes after those that feed it.
    for node in sorted(into, key=order.__getitem__):
        if not fed.isdisjoint(into[node]):
            fed.add(node)
    # An input counts as soon as a node that it feeds is known to reach the logits.
    reaching = {receiver for receiver in nodes if receiver.kind == "logits"}
    connected: set[Edge] = set()
    for sender in sorted(out, key=order.__getitem__, reverse=True):
        onward = [edge for edge in out[sender] if edge.receiver in reaching]
        if onward:
            reaching.update(graph.receivers_of(sender))
        if sender in fed:
            connected.update(onward)
    return frozenset(connected)


def _add_node(view: nx.DiGraph, node: Sender | Receiver) -> None:
    index = node.head if isinstance(node, Sender) else node.index
    facts: dict[str, Any] = {
        "role": "sender" if isinstance(node, Sender) else "receiver",
        "kind": node.kind,
    }
    if node.layer >= 0:
        facts["layer"] = node.layer
    if index >= 0:
        facts["index"] = index
    view.add_node(node.name, **facts)

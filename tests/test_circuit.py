"""Circuits: their hash, their connected part, and their networkx view."""

from __future__ import annotations

import hashlib
import random

import networkx as nx
import pytest
from helpers_graph import graphs, law, nodes_behind, printed_under_hash_seeds
from hypothesis import given
from hypothesis import strategies as st

from discover.circuit import Circuit
from discover.errors import GraphError
from discover.graph import ComputationalGraph, parse_receiver, parse_sender

SMALL = ComputationalGraph(2, 2)


@st.composite
def circuits(draw: st.DrawFn) -> Circuit:
    """Any subset of any small graph's edges, sparse ones as often as dense ones."""
    graph = draw(graphs())
    chance, dice = draw(st.sampled_from([0, 0.1, 0.3, 0.7, 1])), random.Random(draw(st.integers()))
    return Circuit(graph, frozenset(e for e in graph.edges if dice.random() < chance))


@law
@given(circuits())
def test_the_hash_is_that_of_the_sorted_names(circuit):
    text = "\n".join(sorted(f"{e.sender.name}->{e.receiver.name}" for e in circuit.edges))
    assert circuit.hash == hashlib.sha256(text.encode("utf-8")).hexdigest()


def test_a_known_circuit_has_the_digest_that_sha256sum_gives():
    # printf 'a0.h1->logits\na0.h10->logits\na0.h2->logits\nembed->a0.h10.q\nm0->logits' | sha256sum
    # ('-' comes before '0', so the line of a0.h1 comes before that of a0.h10)
    names = "m0->logits a0.h2->logits embed->a0.h10.q a0.h10->logits a0.h1->logits".split()
    circuit = Circuit.from_names(ComputationalGraph(1, 11), names)
    assert circuit.hash == "7478c4f8f69a788e521a375ba4550c79e83d32905489e0a50056589c9f1f2aad"


def test_the_empty_circuit_has_the_digest_of_nothing():
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Circuit(SMALL, frozenset()).hash == digest


def wires(circuit: Circuit) -> nx.DiGraph:
    """The circuit as plain wires between names, made without `Circuit`'s own code."""
    view = nx.DiGraph([(e.sender.name, e.receiver.name) for e in circuit.edges])
    view.add_nodes_from(["embed", "logits"])
    for receiver in {e.receiver.name for e in circuit.edges}:
        view.add_edges_from((receiver, node) for node in nodes_behind(circuit.graph, receiver))
    return view


@law
@given(circuits())
def test_the_connected_part_is_every_edge_on_a_path_from_embed_to_logits(circuit):
    view = wires(circuit)
    fed = nx.descendants(view, "embed") | {"embed"}
    reaching = nx.ancestors(view, "logits") | {"logits"}
    assert circuit.connected.edges == {
        e for e in circuit.edges if e.sender.name in fed and e.receiver.name in reaching
    }
    assert circuit.connected.connected == circuit.connected


@law
@given(circuits())
def test_the_view_of_a_connected_circuit_is_connected(circuit):
    view = circuit.connected.to_networkx()
    if view:
        assert nx.descendants(view, "embed") | {"embed"} == set(view)
        assert nx.ancestors(view, "logits") | {"logits"} == set(view)


def test_one_head_of_a_group_keeps_the_shared_input_connected():
    graph = ComputationalGraph(1, 4, n_kv_heads=2)
    names = ["embed->a0.kv0.v", "embed->a0.kv1.v", "a0.h1->logits"]
    circuit = Circuit.from_names(graph, names)
    assert {e.name for e in circuit.connected.edges} == {"embed->a0.kv0.v", "a0.h1->logits"}
    assert [n.name for n in circuit.nodes] == ["embed", "a0.h1"]


@law
@given(circuits())
def test_networkx_gives_the_circuit_back(circuit):
    view = circuit.to_networkx()
    kinds = nx.get_edge_attributes(view, "kind")
    residual = [f"{s}->{r}" for (s, r), kind in kinds.items() if kind == "residual"]
    assert Circuit.from_names(circuit.graph, residual) == circuit
    assert {edge for edge, kind in kinds.items() if kind == "internal"} == {
        (receiver, node.name)
        for receiver in {e.receiver.name for e in circuit.edges}
        for node in circuit.nodes
        if node.name in nodes_behind(circuit.graph, receiver)
    }
    assert view.graph == {
        "kept": len(circuit.edges),
        "edges": len(circuit.graph.edges),
        "circuit_hash": circuit.hash,
    }


@law
@given(circuits())
def test_networkx_nodes_carry_what_their_names_say(circuit):
    for name, facts in circuit.to_networkx().nodes(data=True):
        sender = facts["role"] == "sender"
        node = parse_sender(name) if sender else parse_receiver(name)
        assert facts["kind"] == node.kind
        assert facts.get("layer", -1) == node.layer
        assert facts.get("index", -1) == (node.head if sender else node.index)


@law
@given(circuits())
def test_nodes_are_the_ends_of_kept_edges_but_not_all_heads_of_a_shared_input(circuit):
    used = {e.sender.name for e in circuit.edges}
    for edge in circuit.edges:
        if ".kv" not in edge.receiver.name:
            used |= nodes_behind(circuit.graph, edge.receiver.name)
    assert [n.name for n in circuit.nodes] == [
        s.name for s in circuit.graph.senders if s.name in used
    ]


def test_networkx_edges_carry_scores_as_given_and_leave_none_out():
    circuit = Circuit.from_names(SMALL, ["embed->logits", "m1->logits", "m0->logits"])
    plain, rich, none = (SMALL.edge(n) for n in ("embed->logits", "m1->logits", "m0->logits"))
    scores = {plain: 0.5, rich: {"score": 0.25, "before": 1.0, "after": None}, none: None}
    view = circuit.to_networkx(scores)
    assert view.edges["embed", "logits"] == {"kind": "residual", "score": 0.5}
    assert view.edges["m1", "logits"] == {"kind": "residual", "score": 0.25, "before": 1.0}
    assert view.edges["m0", "logits"] == {"kind": "residual"}


def test_networkx_order_does_not_depend_on_the_hash_seed():
    code = (
        "from discover.circuit import Circuit; from discover.graph import ComputationalGraph\n"
        "graph = ComputationalGraph(2, 3)\n"
        "dangling = {edge for edge in graph.edges if edge.sender.kind == 'embed'}\n"
        "view = Circuit(graph, dangling).to_networkx()\n"
        "print(list(view), list(view.edges))"
    )
    assert len(printed_under_hash_seeds(code)) == 1


@law
@given(circuits())
def test_the_complement_is_all_the_other_edges(circuit):
    other = circuit.complement()
    assert other.edges | circuit.edges == set(circuit.graph.edges)
    assert not other.edges & circuit.edges
    assert other.complement() == circuit
    assert len(other) + len(circuit) == len(Circuit.full(circuit.graph))


@law
@given(circuits())
def test_kept_follows_the_senders_order(circuit):
    for receiver in circuit.graph.receivers:
        names = [f"{s.name}->{receiver.name}" for s in circuit.graph.senders_of(receiver)]
        kept = {e.name for e in circuit.edges}
        assert circuit.kept(receiver) == tuple(name in kept for name in names)


@law
@given(circuits())
def test_ordered_is_the_graphs_order(circuit):
    place = {edge: step for step, edge in enumerate(circuit.graph.edges)}
    assert sorted(circuit.edges, key=place.__getitem__) == list(circuit.ordered)
    assert all(edge in circuit for edge in circuit.ordered)
    assert not any(edge in circuit for edge in circuit.complement().edges)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nonsense", "'nonsense' is not an edge"),
        ("embed->m9.in", "no receiver m9.in"),
        ("m0->a0.h0.q", "m0 is not computed before a0.h0.q"),
    ],
)
def test_a_circuit_takes_only_names_of_its_graphs_edges(name, reason):
    with pytest.raises(GraphError, match=reason):
        Circuit.from_names(SMALL, ["embed->logits", name])


def test_a_circuit_takes_only_its_graphs_edges():
    stranger = ComputationalGraph(3, 2).edge("m2->logits")
    with pytest.raises(GraphError, match="not in the graph: m2->logits"):
        Circuit(SMALL, frozenset({stranger}))

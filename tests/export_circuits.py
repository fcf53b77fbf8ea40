"""Circuits to export: made by hand or at random, with scores over several orders of magnitude."""

from __future__ import annotations

import math
import random

from discover.acdc import Decision
from discover.circuit import Circuit
from discover.export import CircuitExport
from discover.graph import ComputationalGraph, Edge

GPT2 = ComputationalGraph(12, 12)
FACTS = {
    "run": 7,
    "model": "gpt2",
    "task": "ioi",
    "metric": "kl",
    "ablation": "resample",
    "tau": 0.02,
    "damage": 0.2345,
}


def decisions_of(circuit: Circuit, seed: int = 0) -> dict[Edge, Decision]:
    rng = random.Random(seed)
    found = {}
    for step, edge in enumerate(circuit.graph.edges):
        if edge in circuit:
            score = math.exp(rng.uniform(math.log(0.02), math.log(3)))
            found[edge] = Decision(step, edge, 0.125, 0.125 + score, "kept")
    return found


def export_of(circuit: Circuit, **facts: object) -> CircuitExport:
    return CircuitExport(circuit, decisions_of(circuit), FACTS | facts)


def random_circuit(graph: ComputationalGraph, edges: int, nodes: int, seed: int) -> Circuit:
    """A circuit of about so many edges, all connected from embedding to logits."""
    rng = random.Random(seed)
    chosen = set(rng.sample(graph.senders[1:], nodes)) | {graph.senders[0]}
    pool = [
        edge
        for edge in graph.edges
        if edge.sender in chosen
        and (edge.receiver.kind == "logits" or chosen.intersection(graph.nodes_of(edge.receiver)))
    ]
    rng.shuffle(pool)
    for count in range(edges, len(pool) + 1, 1 + edges // 40):
        found = Circuit(graph, frozenset(pool[:count])).connected
        if len(found) >= edges:
            return found
    return Circuit(graph, frozenset(pool)).connected


def small() -> Circuit:
    names = """m0->a1.h0.q embed->m0.in embed->a1.h0.k m0->a1.h0.v m0->a1.h0.k a1.h0->a2.h1.v
    a1.h0->logits m0->logits a2.h1->logits a2.h1->m2.in m2->logits embed->a2.h1.q"""
    return Circuit.from_names(ComputationalGraph(3, 2), names.split())


def half_connected() -> Circuit:
    """Three edges from embedding to logits, and two that nothing feeds."""
    names = "embed->m0.in m0->a1.h0.q a1.h0->logits a0.h1->a1.h1.v a1.h1->logits"
    return Circuit.from_names(ComputationalGraph(2, 2), names.split())


def grouped() -> Circuit:
    names = """embed->a0.kv0.k embed->a0.h1.q a0.h1->logits a0.h0->logits embed->a0.h0.q
    embed->a0.kv0.v a0.h0->a1.kv1.v a0.h0->a1.h2.q a1.h2->logits a1.h3->logits"""
    return Circuit.from_names(ComputationalGraph(2, 4, 2), names.split())

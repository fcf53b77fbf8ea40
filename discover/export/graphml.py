"""Circuits as GraphML, through networkx, for Gephi, Cytoscape, yEd and igraph."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from xml.etree import ElementTree

from discover.acdc import Decision
from discover.export.record import CircuitExport

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAX_LONG = 2**63 - 1


def to_graphml(export: CircuitExport) -> str:
    """Every kept edge as GraphML, with score, before, after, step and outcome as attributes.

    Nodes are senders and receivers, as in `Circuit.to_networkx`. Facts become attributes of the
    graph: numbers, booleans and strings as such, lists and objects as JSON text, null left out.
    GraphML knows only doubles, 64-bit integers, booleans and strings: larger integers become
    strings, and characters that XML cannot hold become U+FFFD.
    """
    import networkx as nx

    circuit = export.circuit
    scores = {e: _facts_of(d) for e, d in export.decisions.items() if e in circuit.edges}
    found = circuit.to_networkx(scores)
    # Rebuilt in a sorted order, so that the same circuit gives the same bytes.
    view = nx.DiGraph(**(_attributes(dict(export.facts)) | found.graph))
    view.add_nodes_from(sorted(found.nodes(data=True), key=lambda item: item[0]))
    view.add_edges_from(sorted(found.edges(data=True), key=lambda item: item[:2]))
    return _with_xsd_doubles("\n".join(nx.generate_graphml(view)))


def _facts_of(decision: Decision) -> dict[str, Any]:
    return {
        "score": float(decision.score),
        "before": float(decision.before),
        "after": float(decision.after),
        "step": int(decision.step),
        "outcome": decision.outcome,
        "float64": bool(decision.float64),
    }


def _attributes(facts: dict[str, Any]) -> dict[str, Any]:
    return {_xml(key): _attribute(v) for key, v in sorted(facts.items()) if v is not None}


def _attribute(value: Any) -> Any:
    if isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _MAX_LONG else str(value)
    return _xml(value if isinstance(value, str) else json.dumps(value))


def _xml(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)


def _with_xsd_doubles(text: str) -> str:
    """Spell infinities as XML Schema does (INF); networkx writes Python's `inf`."""
    ElementTree.register_namespace("", _NAMESPACE)
    root = ElementTree.fromstring(text)
    tag = f"{{{_NAMESPACE}}}"
    doubles = {k.get("id") for k in root.iter(f"{tag}key") if k.get("attr.type") == "double"}
    for data in root.iter(f"{tag}data"):
        if data.get("key") in doubles and not math.isfinite(float(data.text or "0")):
            data.text = {"inf": "INF", "-inf": "-INF"}.get(data.text or "", "NaN")
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from export_circuits import FACTS, export_of, half_connected, small
from hypothesis import given, settings
from hypothesis import strategies as st

from discover.acdc import Decision
from discover.circuit import Circuit
from discover.errors import DiscoverError, InputError
from discover.export import FORMATS, CircuitExport, read_json, render, write
from discover.graph import ComputationalGraph

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def exports(draw: Any) -> CircuitExport:
    groups = draw(st.integers(1, 2))
    graph = ComputationalGraph(
        draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 2)),
        groups,
        draw(st.booleans()),
        draw(st.booleans()),
    )
    kept = draw(st.sets(st.sampled_from(graph.edges)))
    told = draw(st.sets(st.sampled_from(graph.edges)))
    decisions = {}
    for step, edge in enumerate(graph.edges):
        if edge in told:
            outcome = "kept" if edge in kept else draw(st.sampled_from(["removed", "dead"]))
            numbers = draw(FLOATS), draw(FLOATS)
            decisions[edge] = Decision(step, edge, *numbers, outcome, draw(st.booleans()))
    facts = draw(st.dictionaries(st.text(), JSON, max_size=3))
    facts.pop("circuit_hash", None)
    return CircuitExport(Circuit(graph, frozenset(kept)), decisions, facts)


def plain(value: Any) -> Any:
    """A value in a form that compares to the last bit: NaN is itself, and True is not 1."""
    if isinstance(value, CircuitExport):
        return plain([value.circuit, dict(value.decisions), dict(value.facts)])
    if isinstance(value, Decision):
        numbers = [value.step, value.before, value.after, value.float64]
        return value.edge, value.outcome, plain(numbers)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return type(value), value.hex() if isinstance(value, float) else value


def same(one: Any, other: Any) -> bool:
    return bool(plain(one) == plain(other))


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@settings(max_examples=150, deadline=None)
@given(exports())
def test_json_reads_back_without_loss(export: CircuitExport) -> None:
    try:
        text = render(export, "json")
    except InputError as error:
        assert "$float" in str(error)
        return
    json.loads(text, parse_constant=no_constant)
    assert same(read_json(text), export)
    assert same(read_json(text.decode()), export)
    assert render(read_json(text), "json") == text


def test_json_says_what_it_is_and_holds_every_kept_edge(tmp_path: Path) -> None:
    circuit = half_connected()
    path = write(export_of(circuit), "json", tmp_path / "c.json")
    data = json.loads(path.read_text())
    assert (data["schema"], data["version"]) == ("discover.circuit", 1)
    assert data["circuit_hash"] == circuit.hash
    assert data["kept"] == len(data["edges"]) == 5 > len(circuit.connected)
    assert data["edges_in_graph"] == len(circuit.graph)
    assert data["facts"] == FACTS
    row = next(row for row in data["edges"] if row["sender"] == "m0")
    decision = next(d for d in export_of(circuit).decisions.values() if d.edge.sender.name == "m0")
    assert row == {
        "sender": "m0",
        "receiver": "a1.h0.q",
        "step": decision.step,
        "before": 0.125,
        "after": decision.after,
        "score": decision.score,
        "outcome": "kept",
        "float64": False,
    }
    assert read_json(path) == export_of(circuit)


def test_json_spells_what_json_lacks() -> None:
    graph = ComputationalGraph(1, 1)
    edge = graph.edges[0]
    decision = Decision(0, edge, 0.0, math.inf, "kept")
    export = CircuitExport(Circuit(graph, frozenset([edge])), {edge: decision}, {"x": -math.inf})
    data = json.loads(render(export, "json"))
    assert data["edges"][0]["after"] == data["edges"][0]["score"] == "Infinity"
    assert data["facts"] == {"x": {"$float": "-Infinity"}}


def damaged(**changes: Any) -> str:
    data = json.loads(render(export_of(small()), "json"))
    return json.dumps(data | changes)


def with_row(**changes: Any) -> str:
    data = json.loads(render(export_of(small()), "json"))
    data["edges"][0] |= changes
    return json.dumps(data)


def with_shape(**changes: Any) -> str:
    data = json.loads(render(export_of(small()), "json"))
    data["graph"] |= changes
    return json.dumps(data)


def without(key: str) -> str:
    data = json.loads(render(export_of(small()), "json"))
    del data[key]
    return json.dumps(data)


def doubled_row() -> str:
    data = json.loads(render(export_of(small()), "json"))
    data["edges"].append(data["edges"][0])
    return json.dumps(data)


def unscored_twice() -> str:
    data = json.loads(render(CircuitExport(small()), "json"))
    data["edges"].append(data["edges"][0])
    return json.dumps(data)


def changed_edge() -> str:
    return render(export_of(small()), "json").decode().replace("a2.h1.q", "a2.h0.q")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not JSON"),
        ("figure.json", "pathlib.Path"),
        ("[1, 2]", "no .schema"),
        ("3", "no .schema"),
        ('{"schema": "discover.circuit"', "not JSON"),
        ('{"schema": "other"}', "no .schema"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"schema": NaN}', "NaN"),
        ("[" * 100_000, "nests too deep"),
        ('{"a":' * 100_000, "nests too deep"),
        ("1" * 10_000, "cannot be read"),
        (b"\xff\xfe\x00", "UTF-8"),
        (Path("/nowhere/at/all.json"), "cannot be read"),
        (Path("/"), "cannot be read"),
        (damaged(version=2), "update discover"),
        (damaged(version=True), "version"),
        (damaged(version="1"), "version"),
        (without("version"), "version"),
        (without("edges"), "lacks edges"),
        (without("facts"), "lacks facts"),
        (damaged(extra=1), "unknown fields"),
        (damaged(edges={}), "type list"),
        (damaged(edges=[3]), r"edges\[0\]"),
        (damaged(edges=[{}]), "lacks sender"),
        (damaged(edges=[]), "kept is"),
        (damaged(facts=[]), "type dict"),
        (damaged(facts={"x": {"$float": "big"}}), "float"),
        (damaged(facts={"x": {"$float": []}}), "float"),
        (damaged(circuit_hash="0" * 64), "circuit_hash"),
        (damaged(circuit_hash=None), "circuit_hash"),
        (damaged(kept=3), "kept is 3"),
        (damaged(kept=True), "type int"),
        (damaged(edges_in_graph=0), "edges_in_graph"),
        (damaged(graph=None), "graph"),
        (with_shape(n_layers=0), "shape"),
        (with_shape(n_layers=-3), "shape"),
        (with_shape(n_heads=3, n_kv_heads=2), "evenly"),
        (with_shape(n_layers=10**9), "too large"),
        (with_shape(n_heads="2"), "type int"),
        (with_shape(n_layers=2.5), "type int"),
        (with_shape(mlp=1), "type bool"),
        (with_shape(mlp=False), "no receiver|no sender"),
        (with_row(sender="a9.h9"), "no sender"),
        (with_row(sender=5), "type str"),
        (with_row(receiver="m0.out"), "not a receiver"),
        (with_row(receiver="m0.in->x"), "not a receiver"),
        (with_row(outcome="lost"), "outcome"),
        (with_row(outcome=["kept"]), "outcome"),
        (with_row(outcome="removed"), "kept is"),
        (with_row(before=None), "number"),
        (with_row(before="1.0"), "number"),
        (with_row(before=True), "number"),
        (with_row(before=10**400), "too large a number"),
        (with_row(score=12.0), "after - before"),
        (with_row(step=1.5), "type int"),
        (with_row(float64=0), "type bool"),
        (with_row(colour="red"), "unknown fields"),
        (doubled_row(), "stands twice"),
        (unscored_twice(), "stands twice"),
        (changed_edge(), "circuit_hash"),
    ],
)
def test_json_that_is_wrong_is_refused(text: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_json(text)
    assert len(str(caught.value)) < 500


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_damage_to_json_gives_a_traceback(data: st.DataObject) -> None:
    whole = json.loads(render(export_of(half_connected()), "json"))
    at = whole
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(JSON)
        break
    try:
        export = read_json(json.dumps(whole))
    except DiscoverError as error:
        assert isinstance(error, InputError)
    else:
        assert export.circuit == half_connected()


def graphml_of(export: CircuitExport) -> nx.DiGraph:
    return nx.read_graphml(BytesIO(render(export, "graphml")))


def test_graphml_holds_every_kept_edge_with_its_score() -> None:
    circuit = half_connected()
    export = export_of(circuit)
    view = graphml_of(export)
    found = {
        (tail, head): facts
        for tail, head, facts in view.edges(data=True)
        if facts["kind"] == "residual"
    }
    assert set(found) == {(e.sender.name, e.receiver.name) for e in circuit.edges}
    for edge, decision in export.decisions.items():
        facts = found[edge.sender.name, edge.receiver.name]
        assert facts["score"] == decision.score
        assert facts["step"] == decision.step
        assert facts["outcome"] == "kept"
    assert view.graph["circuit_hash"] == circuit.hash
    assert view.graph["kept"] == 5
    assert view.graph["tau"] == FACTS["tau"]
    assert view.nodes["a1.h0.q"]["role"] == "receiver"


def test_graphml_takes_what_xml_does_not() -> None:
    circuit = small()
    edge = circuit.ordered[0]
    facts = {
        "inf": math.inf,
        "text": "inf",
        "nasty": "a\x00<&>\ud800]]>'\"",
        "deep": {"a": [1, None]},
        "none": None,
        "huge": 10**30,
        "yes": True,
    }
    decision = Decision(0, edge, 0.0, math.inf, "kept")
    export = CircuitExport(circuit, {edge: decision}, facts)
    assert b">INF<" in render(export, "graphml")
    view = graphml_of(export)
    assert view.edges[edge.sender.name, edge.receiver.name]["score"] == math.inf
    assert view.graph["inf"] == math.inf
    assert view.graph["text"] == "inf"
    assert view.graph["nasty"] == "a\ufffd<&>\ufffd]]>'\""
    assert view.graph["deep"] == '{"a": [1, null]}'
    assert view.graph["huge"] == str(10**30)
    assert view.graph["yes"] is True
    assert "none" not in view.graph


def test_an_export_is_checked() -> None:
    circuit = small()
    edge, other = circuit.ordered[:2]
    removed = Decision(0, edge, 0.0, 0.0, "removed")
    with pytest.raises(InputError, match="decided as removed"):
        CircuitExport(circuit, {edge: removed})
    with pytest.raises(InputError, match="is about"):
        CircuitExport(circuit, {other: Decision(0, edge, 0.0, 1.0, "kept")})
    stranger = ComputationalGraph(9, 9).edge("a8.h8->logits")
    with pytest.raises(InputError, match="not in the graph"):
        CircuitExport(circuit, {stranger: Decision(0, stranger, 0.0, 1.0, "kept")})
    with pytest.raises(InputError, match="circuit"):
        CircuitExport(circuit, {}, {"circuit_hash": "0" * 64})
    with pytest.raises(InputError, match=r"facts\.x is a object"):
        CircuitExport(circuit, {}, {"x": object()})
    with pytest.raises(InputError, match="keys must be strings"):
        CircuitExport(circuit, {}, {"x": {1: 2}})
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(InputError, match="deeper"):
        CircuitExport(circuit, {}, {"x": deep})


def test_facts_are_a_plain_copy() -> None:
    given = {"a": (1, np.float64(0.1)), "circuit_hash": small().hash}
    export = CircuitExport(small(), {}, given)
    given["a"] = 5
    assert export.facts["a"] == [1, 0.1]
    assert type(export.facts["a"][1]) is float


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    export = export_of(small())
    with pytest.raises(InputError, match="choose one of dot, svg, pdf, png, json, graphml"):
        render(export, "gif")
    with pytest.raises(InputError, match="without effect on json"):
        render(export, "json", all_edges=True)
    with pytest.raises(InputError, match="cannot be written"):
        write(export, "json", tmp_path / "no" / "such" / "folder.json")
    assert list(FORMATS) == ["dot", "svg", "pdf", "png", "json", "graphml"]


def test_importing_is_light() -> None:
    code = "import sys, discover.export; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "pygraphviz", "graphviz", "networkx", "transformer_lens"}

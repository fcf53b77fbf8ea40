"""Circuits as JSON: a versioned schema that reads back without loss.

The file is strict JSON, which has no infinities: in an edge's numbers they are the strings
`"Infinity"`, `"-Infinity"` and `"NaN"`; among the facts, where a string could be meant, they are
`{"$float": "Infinity"}`. Finite floats are written in Python's shortest form that reads back to
the same bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, cast, get_args

from discover.acdc import Decision, Outcome
from discover.circuit import Circuit
from discover.errors import GraphError, InputError
from discover.export.record import CircuitExport
from discover.graph import ComputationalGraph, Edge

SCHEMA = "discover.circuit"
VERSION = 1

MAX_EDGES = 5_000_000
"""A stored shape with more edges is refused unread: building it would exhaust the memory."""

_SHAPE = {"n_layers": int, "n_heads": int, "n_kv_heads": int, "parallel": bool, "mlp": bool}
_TOP = ("schema", "version", "graph", "circuit_hash", "kept", "edges_in_graph", "facts", "edges")
_ROW = ("sender", "receiver", "step", "before", "after", "score", "outcome", "float64")
_SPECIAL = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
_FLOAT = "$float"


def to_json(export: CircuitExport) -> str:
    """The export as JSON text, one edge a line: every kept edge, and every decision that is known.

    Raises:
        InputError: a fact's key is `$float`, which the schema needs for itself.
    """
    circuit = export.circuit
    head = {
        "schema": SCHEMA,
        "version": VERSION,
        "graph": circuit.graph.shape(),
        "circuit_hash": circuit.hash,
        "kept": len(circuit),
        "edges_in_graph": len(circuit.graph),
        "facts": _encode_fact(dict(export.facts), "facts"),
    }
    top = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    listed = [e for e in circuit.graph.edges if e in circuit.edges or e in export.decisions]
    rows = [f"  {json.dumps(_row(edge, export), allow_nan=False)}" for edge in listed]
    edges = "[\n" + ",\n".join(rows) + "\n ]" if rows else "[]"
    return "{\n" + ",\n".join([*top, f' "edges": {edges}']) + "\n}\n"


def _row(edge: Edge, export: CircuitExport) -> dict[str, Any]:
    decision = export.decisions.get(edge)
    row: dict[str, Any] = {"sender": edge.sender.name, "receiver": edge.receiver.name}
    if decision is None:
        return row | {"outcome": "kept"}
    return row | {
        "step": decision.step,
        "before": _encode(decision.before),
        "after": _encode(decision.after),
        "score": _encode(decision.score),
        "outcome": decision.outcome,
        "float64": decision.float64,
    }


def _encode(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _encode_fact(value: Any, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: _encode(value)}
    if isinstance(value, list):
        return [_encode_fact(item, where) for item in value]
    if isinstance(value, dict):
        if _FLOAT in value:
            raise InputError(f"{where} has the key {_FLOAT!r}, which the JSON schema reserves")
        return {key: _encode_fact(item, f"{where}.{key}") for key, item in value.items()}
    return value


def read_json(source: str | bytes | PathLike[str]) -> CircuitExport:
    """Read a circuit from JSON: text as `str` or `bytes`, a file as a `pathlib.Path`.

    Raises:
        InputError: the file cannot be read, is no JSON, is of another schema or version, has
            missing, unknown or wrongly typed fields, unknown or doubled edges, or its edges do
            not have the hash that it names.
    """
    try:
        return _export_of(_parse(_text_of(source)))
    except RecursionError:
        raise InputError("this JSON nests too deep to be a circuit") from None


def _text_of(source: str | bytes | PathLike[str]) -> str:
    if isinstance(source, str):
        return source
    try:
        raw = source if isinstance(source, bytes) else Path(source).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{source!s} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"this is no JSON text: not UTF-8 at byte {error.start}") from None


def _parse(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        hint = "" if text.lstrip()[:1] in ("{", "[") else "; to read a file, give a pathlib.Path"
        raise InputError(
            f"this is not JSON: {error.msg} in line {error.lineno}, column {error.colno}{hint}"
        ) from None
    except ValueError as error:
        # Python refuses integers of thousands of digits with a plain ValueError.
        raise InputError(f"this JSON cannot be read: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"the key {doubled!r} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise InputError(f"bare {name} is not JSON; this schema writes it as a string")


def _export_of(data: Any) -> CircuitExport:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f'this JSON is not a circuit: it has no "schema": "{SCHEMA}"')
    if data.get("version") != VERSION or isinstance(data["version"], bool):
        raise InputError(
            f"this circuit has version {_short(data.get('version'))}, this program reads "
            f"version {VERSION}; update discover"
        )
    _check_keys(data, _TOP, _TOP, "the circuit")
    graph = _graph_of(data["graph"])
    edges: list[Edge] = []
    decisions: dict[Edge, Decision] = {}
    rows = _typed(data["edges"], list, "edges")
    for number, row in enumerate(rows):
        _read_row(row, f"edges[{number}]", graph, edges, decisions)
    circuit = Circuit(graph, frozenset(edges))
    _check_counts(data, circuit, rows, decisions)
    facts = _decode_fact(_typed(data["facts"], dict, "facts"), "facts")
    return CircuitExport(circuit, decisions, facts)


def _graph_of(shape: Any) -> ComputationalGraph:
    shape = _typed(shape, dict, "graph")
    _check_keys(shape, tuple(_SHAPE), tuple(_SHAPE), "graph")
    for key, kind in _SHAPE.items():
        _typed(shape[key], kind, f"graph.{key}")
    inputs = shape["n_heads"] + 2 * shape["n_kv_heads"] + 1
    edges = shape["n_layers"] ** 2 * inputs * (shape["n_heads"] + 1) // 2
    if min(shape["n_layers"], shape["n_heads"], shape["n_kv_heads"]) < 1 or edges > MAX_EDGES:
        raise InputError(f"graph is an impossible or too large shape: {_short(shape)}")
    return ComputationalGraph(**shape)


def _read_row(
    row: Any,
    where: str,
    graph: ComputationalGraph,
    kept: list[Edge],
    decisions: dict[Edge, Decision],
) -> None:
    row = _typed(row, dict, where)
    _check_keys(row, ("sender", "receiver", "outcome"), _ROW, where)
    name = "->".join(_typed(row[end], str, f"{where}.{end}") for end in ("sender", "receiver"))
    try:
        edge = graph.edge(name)
    except GraphError as error:
        raise GraphError(f"{where}: {error}") from None
    outcome = row["outcome"]
    if outcome not in get_args(Outcome):
        raise InputError(f"{where}.outcome is {_short(outcome)}; it must be kept, removed or dead")
    if "step" in row or outcome != "kept":
        _check_keys(row, _ROW, _ROW, where)
        if edge in decisions:
            raise InputError(f"{where}: the edge {edge} stands twice")
        decisions[edge] = _decision(row, where, edge, outcome)
    elif len(row) > 3:
        raise InputError(f"{where} has numbers but no step; give all of {', '.join(_ROW)} or none")
    if outcome == "kept":
        kept.append(edge)


def _decision(row: dict[str, Any], where: str, edge: Edge, outcome: str) -> Decision:
    step = _typed(row["step"], int, f"{where}.step")
    decision = Decision(
        step,
        edge,
        _decode(row["before"], f"{where}.before"),
        _decode(row["after"], f"{where}.after"),
        cast(Outcome, outcome),
        _typed(row["float64"], bool, f"{where}.float64"),
    )
    score = _decode(row["score"], f"{where}.score")
    if score != decision.score and not (math.isnan(score) and math.isnan(decision.score)):
        raise InputError(f"{where}.score is {score!r}, but after - before is {decision.score!r}")
    return decision


def _check_counts(
    data: dict[str, Any], circuit: Circuit, rows: list[Any], decisions: dict[Edge, Decision]
) -> None:
    if len(circuit) + sum(d.removed for d in decisions.values()) != len(rows):
        raise InputError("an edge stands twice among the edges")
    for key, count in (("kept", len(circuit)), ("edges_in_graph", len(circuit.graph))):
        if _typed(data[key], int, key) != count:
            raise InputError(f"{key} is {_short(data[key])}, but there are {count}")
    told = _typed(data["circuit_hash"], str, "circuit_hash")
    if told != circuit.hash:
        raise InputError(
            f"circuit_hash is {_short(told)}, but these edges have the hash {circuit.hash}; "
            "the file was changed after it was written"
        )


def _decode(value: Any, where: str) -> float:
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where} is {_short(value)}; it must be a number")
    try:
        return float(value)
    except OverflowError:
        raise InputError(f"{where} is too large a number") from None


def _decode_fact(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return [_decode_fact(item, where) for item in value]
    if isinstance(value, dict) and _FLOAT in value:
        if len(value) > 1 or not isinstance(value[_FLOAT], str) or value[_FLOAT] not in _SPECIAL:
            raise InputError(f"{where} has a broken {_FLOAT}: {_short(value)}")
        return _SPECIAL[value[_FLOAT]]
    if isinstance(value, dict):
        return {key: _decode_fact(item, f"{where}.{key}") for key, item in value.items()}
    return value


def _typed(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{where} is {_short(value)}; it must be of type {kind.__name__}")
    return value


def _check_keys(
    found: dict[str, Any], needed: Iterable[str], known: Iterable[str], where: str
) -> None:
    if missing := [key for key in needed if key not in found]:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    if strange := [key for key in found if key not in known]:
        raise InputError(f"{where} has unknown fields: {', '.join(map(_short, strange[:5]))}")


def _short(value: Any) -> str:
    """A value in an error message: never longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer beyond Python's limit of digits
        text = type(value).__name__
    return text if len(text) <= 80 else text[:77] + "..."

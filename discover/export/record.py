"""What every export is made from: a circuit, the decisions that led to it, and a run's facts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from discover.acdc import Decision
from discover.circuit import Circuit
from discover.errors import InputError
from discover.graph import Edge

MAX_DEPTH = 50
"""How deep facts may nest: far beyond any use, far below Python's recursion limit."""

Fact = str | int | float | bool | None | list[Any] | dict[str, Any]
"""A value that JSON can hold (infinities and NaN included, see `docs/figures.md`)."""


@dataclass(frozen=True)
class CircuitExport:
    """A circuit with its decisions and facts: the one input of every export.

    `decisions` holds the decisions of all edges, of the kept ones only, or of any part of them;
    what is missing is exported without a score. `facts` are JSON values; figures read `title`,
    `model`, `task`, `metric`, `unit`, `ablation`, `tau` and `damage` where they are there, all
    others are passed on by the data formats.

    Raises:
        InputError: a decision is about another graph, under another edge's key or against the
            circuit's own word; a fact is no JSON value; `facts["circuit_hash"]` is another
            circuit's.
    """

    circuit: Circuit
    decisions: Mapping[Edge, Decision] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for edge, decision in self.decisions.items():
            self._check(edge, decision)
        object.__setattr__(self, "decisions", dict(self.decisions))
        object.__setattr__(self, "facts", plain_facts(self.facts))
        told = self.facts.get("circuit_hash", self.circuit.hash)
        if told != self.circuit.hash:
            raise InputError(
                f"the facts name circuit {told}, but these edges are circuit {self.circuit.hash}"
            )

    def _check(self, edge: Edge, decision: Decision) -> None:
        if decision.edge != edge:
            raise InputError(f"the decision of {edge} is about {decision.edge}")
        if edge not in self.circuit.graph:
            raise InputError(f"there is a decision about {edge}, which is not in the graph")
        if decision.removed == (edge in self.circuit):
            state = "kept" if edge in self.circuit else "not kept"
            raise InputError(f"{edge} is {state} in the circuit, but decided as {decision.outcome}")

    def score(self, edge: Edge) -> float | None:
        """The edge's score in the metric's unit; None where no decision about it is known."""
        decision = self.decisions.get(edge)
        return None if decision is None or math.isnan(decision.score) else decision.score


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy of the facts as plain JSON values (tuples become lists).

    Raises:
        InputError: a value is not one that JSON knows, a key is no string, or they nest too deep.
    """
    return {key: _plain(value, f"facts.{key}", 0) for key, value in _string_keys(facts, "facts")}


def _string_keys(given: Mapping[Any, Any], where: str) -> list[tuple[str, Any]]:
    if bad := [key for key in given if not isinstance(key, str)]:
        raise InputError(f"{where} has the key {bad[0]!r}; keys must be strings")
    return [(str.__str__(key), value) for key, value in given.items()]


def _plain(value: Any, where: str, depth: int) -> Fact:
    if depth > MAX_DEPTH:
        raise InputError(f"{where[:60]}... nests deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, bool):
        return value
    # Subclasses (numpy.float64, str enums) are brought down to the plain type they extend.
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value) if kind is not str else str.__str__(value)
    if isinstance(value, Mapping):
        items = _string_keys(value, where)
        return {key: _plain(item, f"{where}.{key}", depth + 1) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    raise InputError(
        f"{where} is a {type(value).__name__}; facts must be strings, numbers, booleans, null, "
        "lists or objects"
    )

"""ACDC: the pruning loop, a fold over decisions that knows no model, database or progress bar.

Source: Conmy et al., "Towards Automated Circuit Discovery for Mechanistic Interpretability",
arXiv 2304.14997, Algorithm 1; the order of edges is this project's contract (`graph.py`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from discover.circuit import Circuit
from discover.errors import MismatchError, RunError, SpecError
from discover.graph import ComputationalGraph, Edge, Receiver, Sender

Outcome = Literal["kept", "removed", "dead"]

NEAR_TAU = 1e-4
"""A score this close to tau is decided again in float64 (in the metric's unit)."""

MAX_TAU = sys.float_info.max
"""The largest finite float; whole numbers beyond it have no float of their own."""


class Patcher(Protocol):
    """What the loop asks of a model: damages of variants, and to remember a decision."""

    def damages(
        self, receiver: Receiver, variants: np.ndarray, *, float64: bool = False
    ) -> Sequence[float]:
        """Damage of the network with other edges into one receiver kept.

        `variants`: Bool[K, sender], in the graph's order of the receiver's senders; everything
        else as committed so far. Returns Float[K]. `float64` asks for double precision, one
        variant at a time.
        """
        ...

    def commit(self, receiver: Receiver, kept: np.ndarray) -> None:
        """Fix which edges into a receiver are kept (Bool[sender])."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one edge.

    `score = after - before`: the rise in damage when the edge is ablated, given everything ablated
    before it, in the metric's unit. Dead edges are not evaluated: they feed nothing, so
    `after == before` and `score == 0` by argument, not by measurement. `float64` says that the
    score lay so near tau that before and after were computed again in double precision.
    """

    step: int
    edge: Edge
    before: float
    after: float
    outcome: Outcome
    float64: bool = False

    @property
    def score(self) -> float:
        """`after - before`, in the metric's unit; positive means that the edge matters."""
        return self.after - self.before

    @property
    def removed(self) -> bool:
        """Whether the edge is gone, by its score or because it feeds nothing."""
        return self.outcome != "kept"


def check_tau(tau: float) -> float:
    """Return tau if it is a positive finite number, else raise SpecError."""
    if isinstance(tau, (int, float)) and not isinstance(tau, bool) and 0 < tau <= MAX_TAU:
        return float(tau)
    raise SpecError(f"tau must be a positive number, got {tau!r}")


def search(
    graph: ComputationalGraph,
    patcher: Patcher,
    tau: float,
    decided: Iterable[Decision] = (),
) -> Iterator[Decision]:
    """Run ACDC from the logits down and yield each decision as it becomes final.

    An edge is removed if and only if `score < tau`. Incoming edges of a node with no kept outgoing
    edge are removed unevaluated (`dead`). `decided` are the first decisions of a broken-off search:
    they are replayed into the patcher, not yielded again, and the search goes on after them.

    Raises:
        SpecError: tau is not a positive number.
        RunError: a damage or a score is not a number.
        MismatchError: `decided` are not this graph's first decisions.
    """
    check_tau(tau)
    return _search(graph, patcher, tau, list(decided))


def _search(
    graph: ComputationalGraph, patcher: Patcher, tau: float, decided: list[Decision]
) -> Iterator[Decision]:
    if len(decided) > len(graph):
        raise MismatchError(
            f"{len(decided)} stored decisions are more than this graph's {len(graph)} edges; "
            "the rows belong to another run or are damaged"
        )
    live: set[Sender] = set()
    damage = math.nan
    step = 0
    for receiver in graph.receivers:
        senders = graph.senders_of(receiver)
        kept = np.ones(len(senders), dtype=bool)
        dead = receiver.kind != "logits" and not live.intersection(graph.nodes_of(receiver))
        for place, sender in enumerate(senders):
            edge = Edge(sender, receiver)
            if step < len(decided):
                decision = _check_replayed(decided[step], step, edge, dead, damage, tau)
            elif dead:
                decision = Decision(step, edge, damage, damage, "dead")
            else:
                if step == 0:
                    damage = _damage_of_full(patcher, receiver, len(senders))
                decision = _decide(patcher, tau, step, edge, damage, kept, place)
            kept[place] = not decision.removed
            damage = decision.after if decision.removed else decision.before
            if not decision.removed:
                live.add(sender)
            step += 1
            if step > len(decided):
                yield decision
        patcher.commit(receiver, kept)


def _damage_of_full(patcher: Patcher, receiver: Receiver, senders: int) -> float:
    """Damage with every edge kept, by the same computation as all others (about zero)."""
    return _number(patcher.damages(receiver, np.ones((1, senders), dtype=bool))[0], "all edges")


def _decide(
    patcher: Patcher,
    tau: float,
    step: int,
    edge: Edge,
    before: float,
    kept: np.ndarray,
    place: int,
) -> Decision:
    """Evaluate one edge's removal; near tau, decide on double-precision numbers instead."""
    without = kept.copy()
    without[place] = False
    after = _number(patcher.damages(edge.receiver, without[None])[0], edge)
    near = abs(after - before - tau) <= NEAR_TAU
    if near:
        pair = patcher.damages(edge.receiver, np.stack([kept, without]), float64=True)
        before, after = (_number(value, edge) for value in pair)
    _number(after - before, edge, "score")
    return Decision(step, edge, before, after, _outcome(before, after, tau), near)


def _outcome(before: float, after: float, tau: float) -> Outcome:
    """The rule: an edge is removed if and only if its score is below tau."""
    return "removed" if after - before < tau else "kept"


def _number(value: float, where: object, what: str = "damage") -> float:
    value = float(value)
    if math.isnan(value):
        raise RunError(
            f"the {what} at {where} is not a number; look for overflow in the model's outputs "
            "(try --dtype float32 or float64)"
        )
    return value


def _check_replayed(
    decision: Decision, step: int, edge: Edge, dead: bool, damage: float, tau: float
) -> Decision:
    """The stored decision, if this search could have made it at this step."""
    before, after = decision.before, decision.after
    if decision.step != step or decision.edge != edge or (decision.outcome == "dead") != dead:
        problem = f"this graph's step {step} is {edge}{' (dead)' if dead else ''}"
    elif math.isnan(before) or math.isnan(after):
        problem = "its damage is not a number"
    elif decision.outcome != ("dead" if dead else _outcome(before, after, tau)):
        problem = f"its score is {decision.score:g} and tau is {tau:g}"
    elif (step > 0 and not decision.float64 and before != damage) or (dead and after != before):
        problem = f"its damage does not follow from {damage:g}, which the row before it left"
    else:
        return decision
    raise MismatchError(
        f"stored decision {decision.step} is about {decision.edge} ({decision.outcome}), but "
        f"{problem}; the rows belong to another run or are damaged"
    )


def circuit_of(graph: ComputationalGraph, decisions: Iterable[Decision]) -> Circuit:
    """The circuit that a finished search leaves.

    Raises:
        MismatchError: an edge is missing, foreign or decided twice.
    """
    rows = list(decisions)
    if len(rows) != len(graph) or {row.edge for row in rows} != graph.edge_set:
        raise MismatchError(f"{len(rows)} decisions do not decide {len(graph)} edges once each")
    return Circuit(graph, frozenset(row.edge for row in rows if not row.removed))

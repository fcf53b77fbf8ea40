"""How well scores, or circuits at several thresholds, recover a known circuit: the ROC curve.

Positives are the members of the known circuit, negatives all others of the graph, and

    TPR = found positives / positives,    FPR = found negatives / negatives.

The area under the curve is taken in two ways. `Roc.auc` is the ACDC paper's (arXiv 2304.14997,
Section 4; `notebooks/plotly_roc_plot.py` and `acdc/graphics.py` of its repository): of the points
and the ends (0, 0) and (1, 1) those are dropped that another beats on both axes, and from one to
the next the curve runs level first and then up, so that no circuit counts that was not found:

    auc = sum over frontier (1 - FPR[i]) (TPR[i] - TPR[i-1])
        = integral over x from 0 to 1 of max {TPR[i] : FPR[i] <= x}.

Of scores it is the chance that a positive scores higher than a negative, a tie counting as lost.
`Roc.auc_linear` joins the same points by straight lines (the trapezoid rule); of scores that is the
usual area, in which a tie counts as half.

A node, in that paper's figures, is each of a head's q, k and v inputs and the head's output, an MLP
(in and out together), the embedding, and the logits; one counts as found if a kept edge starts or
ends at it. The paper's edges include one from each q, k and v input to its projection, which no
search decides on its own (37 of Docstring's known edges are 24 of this graph's); those are not
edges here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from typing import Literal, TypeVar

from discover.circuit import Circuit
from discover.errors import InputError, MismatchError
from discover.graph import Edge

Of = Literal["edges", "nodes"]
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RocPoint:
    """What one threshold finds.

    `tp` positives and `fp` negatives, as fractions `tpr` and `fpr`; `threshold` is the least score
    or the tau that finds them: inf where nothing is found, -inf where everything is, NaN where it
    was not told.
    """

    fpr: float
    tpr: float
    threshold: float
    fp: int
    tp: int


@dataclass(frozen=True)
class Roc:
    """A ROC curve: its points, by falling threshold, with (0, 0) and (1, 1) at its ends.

    `of` says what was counted; `positives` and `negatives` how many of them there are.
    """

    of: Of
    positives: int
    negatives: int
    points: tuple[RocPoint, ...]

    @cached_property
    def frontier(self) -> tuple[RocPoint, ...]:
        """The points that none beats on both axes (lower FPR and higher TPR), left to right."""
        best, found = -1, []
        by_fp = sorted(self.points, key=lambda point: (point.fp, point.tp))
        for _, level in groupby(by_fp, key=lambda point: point.fp):
            column = [point for point in level if point.tp >= best]
            found += column
            best = max([best, *(point.tp for point in column)])
        return tuple(found)

    @property
    def auc(self) -> float:
        """The area under the pessimistic steps of the frontier (ACDC's convention), 0 to 1."""
        area = sum((self.negatives - b.fp) * (b.tp - a.tp) for a, b in pairwise(self.frontier))
        return area / (self.positives * self.negatives)

    @property
    def auc_linear(self) -> float:
        """The area under straight lines between the frontier's points (trapezoid rule), 0 to 1."""
        area = sum((b.fp - a.fp) * (b.tp + a.tp) for a, b in pairwise(self.frontier))
        return area / (2 * self.positives * self.negatives)


def nodes_of(edges: Iterable[Edge]) -> frozenset[str]:
    """The names of the nodes at the ends of edges, as the ACDC paper counts nodes.

    `a5.h1` (a head's output), `a5.h1.q` (an input), `m3` (an MLP, in and out), `embed`, `logits`.
    """
    found = set()
    for edge in edges:
        receiver = edge.receiver
        found.add(edge.sender.name)
        found.add(f"m{receiver.layer}" if receiver.kind == "mlp" else receiver.name)
    return frozenset(found)


def roc_of_scores(
    scores: Mapping[Edge, float], truth: Circuit | Collection[Edge], of: Of = "edges"
) -> Roc:
    """The ROC curve of keeping every edge that scores at least so much, for each score there is.

    `scores` has every edge of the graph; higher means more likely in the circuit, so scores whose
    sign means helping or hurting go in as absolute values. A node's score is the highest of the
    edges that start or end at it.

    Raises:
        InputError: a score is NaN, or the truth is empty or everything.
        MismatchError: an edge of the truth has no score.
    """
    edges = truth.edges if isinstance(truth, Circuit) else frozenset(truth)
    if strangers := sorted(edge.name for edge in edges - scores.keys()):
        raise MismatchError(f"edges of the known circuit without a score: {_some(strangers)}")
    if of == "edges":
        return _of_scores(scores, edges, of)
    by_node: dict[str, float] = {}
    for edge, score in scores.items():
        _check_number(edge, score)
        for node in nodes_of([edge]):
            by_node[node] = max(score, by_node.get(node, -math.inf))
    return _of_scores(by_node, nodes_of(edges), of)


def roc_of_circuits(
    circuits: Sequence[Circuit],
    truth: Circuit | Collection[Edge],
    of: Of = "edges",
    thresholds: Sequence[float] | None = None,
) -> Roc:
    """The ROC curve of several circuits of one graph, usually of one search at several taus.

    `thresholds` gives each circuit's tau, for its point; circuits need not lie in one another.

    Raises:
        InputError: there is no circuit, there are not as many thresholds as circuits, or the truth
            is empty or everything.
        MismatchError: the circuits or the truth are of different graphs.
    """
    if not circuits:
        raise InputError("a ROC curve needs at least one circuit")
    taus = [math.nan] * len(circuits) if thresholds is None else list(thresholds)
    if len(taus) != len(circuits):
        raise InputError(f"there are {len(circuits)} circuits, but {len(taus)} thresholds")
    graph = circuits[0].graph
    graphs = [circuit.graph for circuit in circuits[1:]]
    if isinstance(truth, Circuit):
        graphs.append(truth.graph)
    if any(other != graph for other in graphs):
        raise MismatchError("a ROC curve needs circuits, and a known circuit, of one graph")
    edges = truth.edges if isinstance(truth, Circuit) else frozenset(truth)
    if strangers := sorted(edge.name for edge in edges if edge not in graph):
        raise MismatchError(f"edges of the known circuit not in the graph: {_some(strangers)}")
    if of == "edges":
        return _of_sets([c.edges for c in circuits], graph.edge_set, edges, of, taus)
    found = [nodes_of(circuit.edges) for circuit in circuits]
    return _of_sets(found, nodes_of(graph.edges), nodes_of(edges), of, taus)


def _of_scores(scores: Mapping[Item, float], truth: Set[Item], of: Of) -> Roc:
    for item, score in scores.items():
        _check_number(item, score)
    positives = len(truth)
    negatives = _negatives(len(scores), positives, of)
    tp = fp = 0
    points = []
    order = sorted(scores, key=lambda item: -scores[item])
    for threshold, level in groupby(order, key=lambda item: scores[item]):
        hits = [item in truth for item in level]
        tp += sum(hits)
        fp += len(hits) - sum(hits)
        points.append(RocPoint(fp / negatives, tp / positives, float(threshold), fp, tp))
    return _with_ends(points, positives, negatives, of)


def _of_sets(
    found: Sequence[Set[Item]], everything: Set[Item], truth: Set[Item], of: Of, taus: list[float]
) -> Roc:
    positives = len(truth)
    negatives = _negatives(len(everything), positives, of)
    points = []
    for members, tau in zip(found, taus, strict=True):
        tp = len(members & truth)
        fp = len(members) - tp
        points.append(RocPoint(fp / negatives, tp / positives, float(tau), fp, tp))
    # Stable, and NaNs (no tau told) stay where they are.
    points.sort(key=lambda point: 0.0 if math.isnan(point.threshold) else -point.threshold)
    return _with_ends(points, positives, negatives, of)


def _with_ends(points: list[RocPoint], positives: int, negatives: int, of: Of) -> Roc:
    start = RocPoint(0.0, 0.0, math.inf, 0, 0)
    end = RocPoint(1.0, 1.0, -math.inf, negatives, positives)
    return Roc(of, positives, negatives, (start, *points, end))


def _negatives(everything: int, positives: int, of: Of) -> int:
    if not 0 < positives < everything:
        what = "is empty" if not positives else f"has all {everything:,} {of}"
        raise InputError(f"a known circuit that {what} has no ROC curve: both rates need members")
    return everything - positives


def _check_number(item: object, score: float) -> None:
    if math.isnan(score):
        raise InputError(f"the score of {item} is NaN; there is no order to put it in")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

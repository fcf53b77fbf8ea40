"""ROC curves against counting by hand: every pair, every column of the integral, every level."""

from __future__ import annotations

import dataclasses
import math
import random
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from discover.circuit import Circuit
from discover.errors import InputError, MismatchError
from discover.evaluation.roc import Roc, RocPoint, nodes_of, roc_of_circuits, roc_of_scores
from discover.graph import ComputationalGraph, parse_edge

GRAPH = ComputationalGraph(2, 2)
SMALL = ComputationalGraph(1, 1)
"""Seven edges: embed and the head into the MLP and the logits, ..."""


def cases(graph=SMALL):
    """Scores (few levels: many ties) and a proper, non-empty truth."""
    edges = graph.edges
    scores = st.lists(st.integers(-3, 3), min_size=len(edges), max_size=len(edges))
    truths = st.sets(st.sampled_from(edges), min_size=1, max_size=len(edges) - 1)
    return st.tuples(scores.map(lambda s: dict(zip(edges, s, strict=True))), truths)


def by_pairs(scores, truth, tie):
    """The chance that a positive beats a negative, from every pair."""
    pairs = [(scores[p], scores[n]) for p in truth for n in scores.keys() - truth]
    wins = sum(Fraction(p > n) + tie * (p == n) for p, n in pairs)
    return wins / len(pairs)


def by_columns(points, negatives):
    """The integral of the best TPR at or left of x: a sum over columns between whole counts."""
    columns = [max(p.tpr for p in points if p.fp <= x) for x in range(negatives)]
    return math.fsum(columns) / negatives


@given(cases())
@settings(max_examples=300, deadline=None)
def test_areas_of_scores_are_chances_over_all_pairs(case):
    scores, truth = case
    roc = roc_of_scores(scores, truth)
    assert roc.auc == pytest.approx(float(by_pairs(scores, truth, 0)), abs=1e-12)
    assert roc.auc_linear == pytest.approx(
        float(by_pairs(scores, truth, Fraction(1, 2))), abs=1e-12
    )


@given(cases(GRAPH), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_scores_count_by_their_order_alone(case, rng):
    scores, truth = case
    assume(nodes_of(truth) != nodes_of(GRAPH.edges))  # without a negative there is no curve
    roc = roc_of_scores(scores, truth)
    shuffled = list(scores.items())
    rng.shuffle(shuffled)
    assert roc_of_scores(dict(shuffled), truth) == roc
    stretched = {edge: math.exp(2 * score) - 5 for edge, score in scores.items()}
    for of in ("edges", "nodes"):
        given_, again = (roc_of_scores(s, truth, of) for s in (scores, stretched))
        assert [(p.fp, p.tp) for p in again.points] == [(p.fp, p.tp) for p in given_.points]
        assert 0 <= given_.auc <= given_.auc_linear <= 1


@given(cases())
@settings(max_examples=100, deadline=None)
def test_scores_of_opposite_sign_mirror_the_curve(case):
    scores, truth = case
    turned = roc_of_scores({edge: -score for edge, score in scores.items()}, truth)
    assert turned.auc_linear == pytest.approx(1 - roc_of_scores(scores, truth).auc_linear)


@given(cases(GRAPH))
@settings(max_examples=50, deadline=None)
def test_a_points_threshold_gives_its_circuit(case):
    scores, truth = case
    assume(nodes_of(truth) != nodes_of(GRAPH.edges))
    known = Circuit(GRAPH, frozenset(truth))
    levels = sorted(set(scores.values()), reverse=True)
    circuits = [
        Circuit(GRAPH, frozenset(e for e in GRAPH.edges if scores[e] >= level)) for level in levels
    ]
    from_scores = roc_of_scores(scores, known)
    assert [p.threshold for p in from_scores.points] == [math.inf, *levels, -math.inf]
    assert roc_of_circuits(circuits, known, "edges", levels) == from_scores
    # No node may be at stake between two levels: then there is one point for both.
    nodes = roc_of_circuits(circuits, known, "nodes", levels)
    assert set(roc_of_scores(scores, known, "nodes").points) <= set(nodes.points)
    assert roc_of_scores(scores, known, "nodes").auc == nodes.auc


circuit_sets = st.lists(st.sets(st.sampled_from(GRAPH.edges)), min_size=1, max_size=6)


@given(circuit_sets, st.sets(st.sampled_from(GRAPH.edges), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_area_of_circuits_is_the_integral_of_the_best_rate_so_far(found, truth):
    circuits = [Circuit(GRAPH, frozenset(edges)) for edges in found]
    roc = roc_of_circuits(circuits, truth)
    assert roc.auc == pytest.approx(by_columns(roc.points, roc.negatives), abs=1e-12)
    beaten = {p for p in roc.points if any(o.fp < p.fp and o.tp > p.tp for o in roc.points)}
    assert sorted(roc.frontier, key=id) == sorted(
        (p for p in roc.points if p not in beaten), key=id
    )
    assert roc.auc <= roc.auc_linear + 1e-12
    again = roc_of_circuits(random.Random(0).sample(circuits, len(circuits)), truth)
    assert again.auc == roc.auc


def roc_through(*points):
    """A curve of (fp, tp) points out of 100 negatives and 100 positives."""
    ends = [(0, 0), *points, (100, 100)]
    some = roc_of_scores(dict.fromkeys(SMALL.edges, 0.0), SMALL.edges[:1]).points[0]
    made = tuple(dataclasses.replace(some, fp=x, tp=y, fpr=x / 100, tpr=y / 100) for x, y in ends)
    return Roc("edges", 100, 100, made)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(50, 50)], 0.25),
        ([(25, 25)], 3 / 16),
        ([(25, 25), (50, 50)], 5 / 16),
        ([(25, 25), (75, 50)], 4 / 16),
        ([(0, 100)], 1.0),
    ],
)
def test_areas_that_the_acdc_repository_states(points, area):
    # The assertions under `pessimistic_auc` in acdc/graphics.py, and the perfect curve.
    assert roc_through(*points).auc == pytest.approx(area, abs=1e-12)


def test_a_beaten_point_changes_nothing_and_a_better_one_does():
    plain = roc_through((20, 60))
    assert roc_through((20, 60), (30, 50)).auc == plain.auc == pytest.approx(0.8 * 0.6)
    assert roc_through((20, 60), (30, 50)).auc_linear == plain.auc_linear
    assert roc_through((20, 60), (30, 70)).auc > plain.auc
    # Level with another is not beaten: straight lines go through it.
    assert roc_through((20, 60), (30, 60)).auc == plain.auc
    assert roc_through((20, 60), (30, 60)).auc_linear < plain.auc_linear


def test_a_perfect_search_a_hopeless_one_and_one_edge_wrong():
    truth = GRAPH.edges[:7]
    perfect = {edge: float(edge in truth) for edge in GRAPH.edges}
    assert roc_of_scores(perfect, truth).auc == 1.0
    assert roc_of_scores(dict.fromkeys(GRAPH.edges, 1.0), truth).auc == 0.0
    assert roc_of_scores(dict.fromkeys(GRAPH.edges, 1.0), truth).auc_linear == 0.5
    assert roc_of_circuits([Circuit(GRAPH, frozenset(truth))], truth).auc == 1.0
    one_wrong = perfect | {truth[0]: -1.0}
    assert roc_of_scores(one_wrong, truth).auc == pytest.approx(6 / 7)
    one_more = Circuit(GRAPH, frozenset(GRAPH.edges[:8]))
    expected = 1 - 1 / (len(GRAPH) - 7)
    assert roc_of_circuits([one_more], truth).auc == pytest.approx(expected)


def test_nodes_are_counted_as_in_the_acdc_paper():
    gpt2 = ComputationalGraph(12, 12)
    assert len(nodes_of(gpt2.edges)) == 4 * 144 + 12 + 2
    edges = [parse_edge(name) for name in ("embed->a0.h1.q", "a0.h1->m0.in", "m0->logits")]
    assert nodes_of(edges) == {"embed", "a0.h1.q", "a0.h1", "m0", "logits"}
    grouped = ComputationalGraph(2, 4, 2)
    assert len(nodes_of(grouped.edges)) == 2 * (4 + 4 + 2 + 2) + 2 + 2


def test_what_has_no_curve_is_refused_with_the_reason():
    truth = GRAPH.edges[:3]
    scores = dict.fromkeys(GRAPH.edges, 0.0)
    with pytest.raises(InputError, match=f"{GRAPH.edges[4]} is NaN"):
        roc_of_scores(scores | {GRAPH.edges[4]: math.nan}, truth)
    with pytest.raises(InputError, match="NaN"):
        roc_of_scores(scores | {GRAPH.edges[4]: math.nan}, truth, "nodes")
    with pytest.raises(InputError, match="is empty"):
        roc_of_scores(scores, [])
    with pytest.raises(InputError, match="has all 46 edges"):
        roc_of_scores(scores, GRAPH.edges)
    with pytest.raises(MismatchError, match="without a score: embed->logits"):
        roc_of_scores({e: 0.0 for e in GRAPH.edges if e.name != "embed->logits"},
                      [parse_edge("embed->logits")])  # fmt: skip
    circuit = Circuit(GRAPH, frozenset(truth))
    with pytest.raises(InputError, match="at least one circuit"):
        roc_of_circuits([], truth)
    with pytest.raises(InputError, match="1 circuits, but 2 thresholds"):
        roc_of_circuits([circuit], truth, thresholds=[1.0, 2.0])
    with pytest.raises(MismatchError, match="of one graph"):
        roc_of_circuits([circuit, Circuit(SMALL, frozenset())], truth)
    with pytest.raises(MismatchError, match=r"not in the graph: a5\.h1->logits"):
        roc_of_circuits([circuit], [parse_edge("a5.h1->logits")])


def test_curves_need_no_torch():
    code = "import sys, discover.evaluation.roc; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_published_areas_come_out_of_the_published_points():
    # plots_data/acdc-docstring-docstring_metric-False-0.json (commit 7a02e70) of the ACDC paper's
    # repository, as counts out of 37 and 1,340 edges; auc_tables.tex gives 0.972.
    tp = [7, 15, 26, 26, 29, 33, 33, 33, 33, 33, *[37] * 11]
    fp = [
        0,
        0,
        7,
        9,
        27,
        46,
        66,
        99,
        137,
        190,
        261,
        319,
        389,
        441,
        490,
        529,
        559,
        584,
        601,
        607,
        618,
    ]
    assert published(37, 1340, tp, fp).auc == pytest.approx(0.972, abs=5e-4)
    # plots_data/acdc-tracr-proportion-l2-False-0.json (commit 04afa19): Table 2 has 0.679.
    assert published(10, 28, [6, 8, 6], [0, 17, 0]).auc == pytest.approx(0.679, abs=5e-4)


def published(positives, negatives, tp, fp):
    ends = [(0, 0), *zip(fp, tp, strict=True), (negatives, positives)]
    points = tuple(RocPoint(x / negatives, y / positives, math.nan, x, y) for x, y in ends)
    return Roc("edges", positives, negatives, points)

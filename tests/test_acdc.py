"""The pruning loop, with toys in place of a model: what it asks, decides, commits and resumes."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers_graph import graphs, law, nodes_behind, printed_under_hash_seeds
from hypothesis import given
from hypothesis import strategies as st

from discover.acdc import Decision, check_tau, circuit_of, search
from discover.circuit import Circuit
from discover.errors import MismatchError, RunError, SpecError
from discover.graph import ComputationalGraph, Receiver

SMALL = ComputationalGraph(2, 2)
GROUPED = ComputationalGraph(2, 4, n_kv_heads=2)
LINE = ComputationalGraph(1, 1, mlp=False)
"""Five edges: a0.h0->logits, embed->logits, and embed into v, k and q of the head."""

Damage = Callable[[frozenset[str]], float]
"""What a toy is: the damage when the edges of these names are removed."""


class Toy:
    """A patcher around a damage function; it writes down all that it is asked and told."""

    def __init__(
        self, graph: ComputationalGraph, damage: Damage, precise: Damage | None = None
    ) -> None:
        self.graph, self.damage, self.precise = graph, damage, precise or damage
        self.gone: frozenset[str] = frozenset()
        self.asked: list[tuple[str, tuple[bool, ...], bool]] = []
        self.commits: list[tuple[str, tuple[bool, ...]]] = []

    def _removed(self, receiver: Receiver, kept: np.ndarray) -> frozenset[str]:
        senders = self.graph.senders_of(receiver)
        names = [f"{sender.name}->{receiver.name}" for sender in senders]
        return frozenset(name for name, keep in zip(names, kept, strict=True) if not keep)

    def damages(
        self, receiver: Receiver, variants: np.ndarray, *, float64: bool = False
    ) -> Sequence[float]:
        assert variants.dtype == bool
        self.asked += [(receiver.name, tuple(v.tolist()), float64) for v in variants]
        damage = self.precise if float64 else self.damage
        return [damage(self.gone | self._removed(receiver, v)) for v in variants]

    def commit(self, receiver: Receiver, kept: np.ndarray) -> None:
        self.commits.append((receiver.name, tuple(kept.tolist())))
        self.gone |= self._removed(receiver, kept)


@cache
def wires(graph: ComputationalGraph) -> list[tuple[str, str, str, frozenset[str]]]:
    """Each edge's name, sender and receiver, and the nodes behind its receiver."""
    return [
        (edge.name, edge.sender.name, edge.receiver.name, nodes_behind(graph, edge.receiver.name))
        for edge in graph.edges
    ]


def effective(graph: ComputationalGraph, removed: frozenset[str]) -> set[str]:
    """The edges that are kept and whose receiver still reaches the logits: all that can matter."""
    live: set[str] = set()
    found = set()
    for name, sender, receiver, nodes in wires(graph):
        if name not in removed and (receiver == "logits" or not live.isdisjoint(nodes)):
            live.add(sender)
            found.add(name)
    return found


def interacting(graph: ComputationalGraph, seed: int) -> Damage:
    """Damage by a hash of all that matters: any edge changes what every other is worth.

    Values are sixteenths, so sums and differences are exact and a score often equals tau.
    """

    def damage(removed: frozenset[str]) -> float:
        text = f"{seed} {sorted(effective(graph, removed))}"
        return hashlib.sha256(text.encode()).digest()[0] % 17 / 16

    return damage


def additive(graph: ComputationalGraph, weights: dict[str, float]) -> Damage:
    """Each removed edge costs its own weight, as long as its receiver reaches the logits."""

    def damage(removed: frozenset[str]) -> float:
        kept = effective(graph, removed)
        live = {sender for name, sender, _, _ in wires(graph) if name in kept}
        matter = [
            name
            for name, _, receiver, nodes in wires(graph)
            if name in removed and (receiver == "logits" or not live.isdisjoint(nodes))
        ]
        return sum(weights[name] for name in matter)

    return damage


def decide(toy: Toy, tau: float, decided: Sequence[Decision] = ()) -> list[Decision]:
    return list(search(toy.graph, toy, tau, decided))


def dead_by_name(graph: ComputationalGraph, decisions: Sequence[Decision]) -> set[str]:
    """Edges into nodes none of whose outgoing edges was kept before the edge's turn came."""
    feeding: set[str] = set()
    dead = set()
    for decision in decisions:
        sender, receiver = decision.edge.name.split("->")
        if receiver != "logits" and not feeding & nodes_behind(graph, receiver):
            dead.add(decision.edge.name)
        if decision.outcome == "kept":
            feeding.add(sender)
    return dead


SIXTEENTHS = st.integers(1, 16).map(lambda n: n / 16)


@law
@given(graphs(layers=2, per_group=2), st.integers(), SIXTEENTHS)
def test_with_additive_damage_an_edge_goes_if_its_own_weight_is_below_tau(graph, seed, tau):
    dice = random.Random(seed)
    weights = {edge.name: dice.randint(-4, 16) / 16 for edge in graph.edges}
    for decision in decide(Toy(graph, additive(graph, weights)), tau):
        if decision.outcome != "dead":
            assert decision.score == weights[decision.edge.name]
            assert decision.removed == (weights[decision.edge.name] < tau)


def test_a_score_equal_to_tau_keeps_the_edge_and_just_below_does_not():
    equal = additive(LINE, {edge.name: 0.25 for edge in LINE.edges})
    assert {d.outcome for d in decide(Toy(LINE, equal), 0.25)} == {"kept"}
    assert {d.outcome for d in decide(Toy(LINE, equal), math.nextafter(0.25, 1))} == {
        "removed",
        "dead",
    }


def naive_acdc(
    graph: ComputationalGraph, damage: Damage, tau: float
) -> list[tuple[str, float, float, bool]]:
    """The published algorithm: evaluate every edge, of dead nodes too, one after the other."""
    removed: frozenset[str] = frozenset()
    current = damage(removed)
    rows = []
    for edge in graph.edges:
        trial = removed | {edge.name}
        before, after = current, damage(trial)
        gone = not after - before >= tau
        if gone:
            removed, current = trial, after
        rows.append((edge.name, before, after, gone))
    return rows


@law
@given(graphs(layers=2, per_group=2), st.integers(), SIXTEENTHS)
def test_the_fold_is_plain_acdc_and_skipping_dead_nodes_changes_nothing(graph, seed, tau):
    damage = interacting(graph, seed)
    toy = Toy(graph, damage)
    decisions = decide(toy, tau)
    assert [(d.edge.name, d.before, d.after, d.removed) for d in decisions] == naive_acdc(
        graph, damage, tau
    )
    assert [d.step for d in decisions] == list(range(len(graph.edges)))
    assert toy.gone == {d.edge.name for d in decisions if d.removed}
    assert circuit_of(graph, decisions).edges == set(graph.edges) - {
        d.edge for d in decisions if d.removed
    }


@law
@given(graphs(layers=2, per_group=2), st.integers(), SIXTEENTHS)
def test_exactly_the_inputs_of_dead_nodes_are_dead_and_never_evaluated(graph, seed, tau):
    toy = Toy(graph, interacting(graph, seed))
    decisions = decide(toy, tau)
    dead = {d.edge.name for d in decisions if d.outcome == "dead"}
    assert dead == dead_by_name(graph, decisions)
    assert all(d.score == 0 and d.before == d.after for d in decisions if d.outcome == "dead")
    # One question an evaluated edge, one for the full model; float64 asks again, in pairs.
    asked = [name for name, _, float64 in toy.asked if not float64]
    assert len(asked) == 1 + len(graph) - len(dead)
    assert not set(asked) & {name.split("->")[1] for name in dead}


def weigh(graph: ComputationalGraph, *heavy: str) -> Toy:
    return Toy(graph, additive(graph, {e.name: float(e.name in heavy) for e in graph.edges}))


def test_below_a_dead_layer_only_what_is_alive_is_evaluated():
    toy = weigh(SMALL, "m1->logits", "embed->logits")
    decisions = decide(toy, 0.5)
    assert {name for name, _, _ in toy.asked} == {"logits", "m1.in"}
    assert sum(d.outcome == "dead" for d in decisions) == 33
    assert [d.edge.name for d in decisions if d.outcome == "kept"] == [
        "m1->logits",
        "embed->logits",
    ]
    assert [name for name, _ in toy.commits] == [r.name for r in SMALL.receivers]


def test_a_shared_input_lives_while_one_head_of_its_group_does():
    graph = ComputationalGraph(1, 4, n_kv_heads=2, mlp=False)
    decisions = decide(weigh(graph, "a0.h1->logits"), 0.5)
    assert {d.edge.receiver.name: d.outcome for d in decisions[5:]} == {
        "a0.kv0.v": "removed",
        "a0.kv1.v": "dead",
        "a0.kv0.k": "removed",
        "a0.kv1.k": "dead",
        "a0.h0.q": "dead",
        "a0.h1.q": "removed",
        "a0.h2.q": "dead",
        "a0.h3.q": "dead",
    }


def rounding(first_score: float, precise_score: float) -> Toy:
    """LINE, where single and double precision differ about its first edge; all others weigh 1."""

    def damage_of(score: float, full: float) -> Damage:
        def damage(removed: frozenset[str]) -> float:
            others = len(removed - {"a0.h0->logits"})
            return full + others + (score if "a0.h0->logits" in removed else 0)

        return damage

    return Toy(LINE, damage_of(first_score, 0.0), damage_of(precise_score, 0.25))


@pytest.mark.parametrize(
    ("single", "double", "outcome"),
    [
        (0.5 + 0.9e-4, 0.5 - 1e-6, "removed"),
        (0.5 - 0.9e-4, 0.5 + 1e-6, "kept"),
        (0.5 - 0.9e-4, 0.5, "kept"),
        (0.5, 0.25, "removed"),
    ],
)
def test_near_tau_before_and_after_are_asked_in_float64_and_decide(single, double, outcome):
    toy = rounding(single, double)
    first, second, *_ = decide(toy, 0.5)
    assert [(name, kept) for name, kept, float64 in toy.asked if float64] == [
        ("logits", (True, True)),
        ("logits", (False, True)),
    ]
    assert (first.outcome, first.float64) == (outcome, True)
    assert (first.before, first.after) == (0.25, 0.25 + double)
    assert second.before == (first.after if outcome == "removed" else first.before)
    assert not second.float64


@pytest.mark.parametrize(
    ("single", "double", "outcome"),
    [(0.5 + 1.1e-4, 0.0, "kept"), (0.5 - 1.1e-4, 1.0, "removed"), (0.0, 1.0, "removed")],
)
def test_away_from_tau_single_precision_decides(single, double, outcome):
    toy = rounding(single, double)
    first = decide(toy, 0.5)[0]
    assert not any(float64 for _, _, float64 in toy.asked)
    assert (first.outcome, first.float64, first.before, first.after) == (
        outcome,
        False,
        0.0,
        single,
    )


@pytest.mark.parametrize("tau", [4 / 16, 5 / 16])
@pytest.mark.parametrize("graph", [SMALL, GROUPED], ids=["plain", "grouped"])
def test_resumed_at_any_step_a_search_goes_on_as_if_never_broken(graph, tau):
    def precise(removed: frozenset[str]) -> float:
        return damage(removed) + 2**-20

    damage = interacting(graph, 4)
    whole = Toy(graph, damage, precise)
    decisions = decide(whole, tau)
    assert {d.outcome for d in decisions} == {"kept", "removed", "dead"}
    assert any(d.float64 for d in decisions)
    for n in range(len(decisions) + 1):
        again = Toy(graph, damage, precise)
        assert decide(again, tau, decisions[:n]) == decisions[n:]
        assert again.commits == whole.commits
        assert again.asked == whole.asked[len(whole.asked) - len(again.asked) :]
        if n:
            todo = [d for d in decisions[n:] if d.outcome != "dead"]
            assert sum(not float64 for _, _, float64 in again.asked) == len(todo)


ROWS = decide(weigh(SMALL, "m1->logits", "embed->logits", "m0->m1.in"), 0.5)
"""13 evaluated edges of `logits` and `m1.in`; then 24 dead ones of a1; then m0.in, alive; then a0,
dead."""

DAMAGED = {
    "a row is missing": ROWS[:4] + ROWS[5:9],
    "a row is twice there": [*ROWS[:4], ROWS[3], *ROWS[4:9]],
    "two rows are swapped": [*ROWS[:3], ROWS[4], ROWS[3], *ROWS[5:9]],
    "the first row is missing": ROWS[1:5],
    "a step is another": [*ROWS[:3], replace(ROWS[3], step=4)],
    "an edge is another": [*ROWS[:3], replace(ROWS[3], edge=ROWS[4].edge)],
    "a removed edge is said to be kept": [*ROWS[:3], replace(ROWS[3], outcome="kept")],
    "a kept edge is said to be removed": [replace(ROWS[0], outcome="removed")],
    "an evaluated edge is said to be dead": [*ROWS[:3], replace(ROWS[3], outcome="dead")],
    "a dead edge is said to be removed": [*ROWS[:13], replace(ROWS[13], outcome="removed")],
    "a dead edge is said to be kept": [*ROWS[:13], replace(ROWS[13], outcome="kept")],
    "a dead edge has a score": [*ROWS[:13], replace(ROWS[13], after=ROWS[13].after + 1)],
    "a before is not what the row above left": [
        *ROWS[:3],
        replace(ROWS[3], before=0.125, after=0.125),
    ],
    "a dead before is not what the row above left": [
        *ROWS[:13],
        replace(ROWS[13], before=0.125, after=0.125),
    ],
    "an after is not a number": [replace(ROWS[0], after=math.nan)],
    "a before is not a number": [replace(ROWS[0], before=math.nan)],
    "an outcome is unknown": [*ROWS[:3], replace(ROWS[3], outcome="gone")],
    "there are more rows than edges": [*ROWS, ROWS[-1]],
    "rows of a graph of another shape": decide(weigh(ComputationalGraph(2, 2, parallel=True)), 0.5),
    "rows of a larger graph": decide(weigh(ComputationalGraph(3, 2)), 0.5)[:9],
}


@pytest.mark.parametrize("rows", DAMAGED.values(), ids=DAMAGED)
def test_damaged_or_foreign_rows_are_refused(rows):
    with pytest.raises(MismatchError, match="the rows belong to another run or are damaged"):
        decide(weigh(SMALL, "m1->logits", "embed->logits", "m0->m1.in"), 0.5, rows)


def test_rows_of_another_tau_are_refused():
    with pytest.raises(MismatchError, match="its score is 1 and tau is 2"):
        decide(Toy(SMALL, lambda removed: 1.0), 2, ROWS)


def test_undamaged_rows_are_taken():
    assert decide(weigh(SMALL, "m1->logits", "embed->logits", "m0->m1.in"), 0.5, ROWS) == []


def answers(*values: float) -> Damage:
    """Damage by how many edges are removed."""
    return lambda removed: values[len(removed)] if len(removed) < len(values) else 0.0


@pytest.mark.parametrize(
    ("toy", "where"),
    [
        (Toy(LINE, answers(math.nan)), "damage at all edges"),
        (Toy(LINE, answers(0, math.nan)), "damage at a0.h0->logits"),
        (Toy(LINE, answers(0, 0, math.nan)), "damage at embed->logits"),
        (Toy(LINE, answers(0, 0.5), answers(math.nan, 0)), "damage at a0.h0->logits"),
        (Toy(LINE, answers(0, 0.5), answers(0, math.nan)), "damage at a0.h0->logits"),
        (Toy(LINE, answers(math.inf, math.inf)), "score at a0.h0->logits"),
        (Toy(LINE, answers(0, -math.inf, -math.inf)), "score at embed->logits"),
    ],
)
def test_a_damage_or_score_that_is_not_a_number_ends_the_search(toy, where):
    with pytest.raises(RunError, match=f"the {where} is not a number"):
        decide(toy, 0.5)


def test_an_edge_of_infinite_damage_is_kept():
    weights = {edge.name: 0.0 for edge in LINE.edges} | {"a0.h0->logits": math.inf}
    decisions = decide(Toy(LINE, additive(LINE, weights)), 0.5)
    assert [d.outcome for d in decisions] == ["kept"] + ["removed"] * 4
    assert decisions[0].score == math.inf
    assert decisions[1].before == 0


BAD_TAUS = [0, 0.0, -0.0, -1, -1e-9, math.nan, math.inf, -math.inf, "0.1", None, True, [0.1], 1j]


@pytest.mark.parametrize("tau", [*BAD_TAUS, 10**400])
def test_tau_must_be_a_positive_number_and_is_checked_before_the_search(tau):
    with pytest.raises(SpecError, match="tau must be a positive number"):
        search(SMALL, Toy(SMALL, lambda removed: 0.0), tau)


@pytest.mark.parametrize("tau", [1, 5e-324, 0.1, 1.7e308, np.float64(0.1)])
def test_any_positive_number_is_a_tau(tau):
    assert check_tau(tau) == tau
    assert type(check_tau(tau)) is float


def test_nothing_is_asked_before_the_first_decision_is_wanted():
    toy = Toy(SMALL, lambda removed: 0.0)
    found = search(SMALL, toy, 0.5)
    assert toy.asked == toy.commits == []
    next(found)
    assert toy.asked == [("logits", (True,) * 7, False), ("logits", (False,) + (True,) * 6, False)]


@law
@given(graphs(layers=2, per_group=2), st.integers(), SIXTEENTHS)
def test_a_receiver_is_committed_once_after_its_last_decision(graph, seed, tau):
    toy = Toy(graph, interacting(graph, seed))
    decided: dict[str, list[bool]] = {receiver.name: [] for receiver in graph.receivers}
    for decision in search(graph, toy, tau):
        at = decision.edge.receiver.name
        decided[at].append(not decision.removed)
        before = [r.name for r in graph.receivers[: list(decided).index(at)]]
        assert [name for name, _ in toy.commits] == before
    assert toy.commits == [(name, tuple(kept)) for name, kept in decided.items()]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:-1],
        [*ROWS, ROWS[0]],
        [*ROWS[:-1], ROWS[0]],
        [*ROWS[:-1], replace(ROWS[-1], edge=ComputationalGraph(3, 2).edge("m2->logits"))],
    ],
    ids=["missing", "too many", "twice", "foreign"],
)
def test_a_circuit_is_made_of_one_decision_for_each_edge(rows):
    with pytest.raises(MismatchError, match="do not decide 46 edges once each"):
        circuit_of(SMALL, rows)


def test_a_circuit_is_made_of_the_kept_edges():
    names = ["m1->logits", "embed->logits", "m0->m1.in"]
    assert circuit_of(SMALL, ROWS) == Circuit.from_names(SMALL, names)


def test_decisions_do_not_depend_on_the_hash_seed():
    code = (
        "from test_acdc import *\n"
        "rows = decide(Toy(GROUPED, interacting(GROUPED, 7)), 0.25)\n"
        "print([(d.edge.name, d.before, d.after, d.outcome) for d in rows])\n"
        "print(circuit_of(GROUPED, rows).hash)"
    )
    seen = printed_under_hash_seeds(code)
    assert len(seen) == 1
    assert "dead" in seen.pop()

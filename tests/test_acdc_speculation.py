"""Speculation changes what a search costs and nothing else, whatever the draft."""

from __future__ import annotations

import random

import pytest
from helpers_graph import graphs, law
from hypothesis import given
from hypothesis import strategies as st
from test_acdc import GROUPED, SMALL, Toy, interacting

from discover.acdc import Speculation, search
from discover.errors import SpecError
from discover.graph import Receiver

TAUS = st.sampled_from([1 / 16, 3 / 16, 6 / 16])


def plain(graph, seed, tau):
    toy = Toy(graph, interacting(graph, seed))
    return list(search(graph, toy, tau)), toy


def drafts(rows, seed):
    """All removed, all kept, right, wrong everywhere, and by chance."""
    kept = {row.edge for row in rows if not row.removed}
    every = {row.edge for row in rows}
    draw = random.Random(seed)
    return {
        "removed": set(),
        "kept": every,
        "right": kept,
        "wrong": every - kept,
        "chance": {row.edge for row in rows if draw.random() < 0.5},
    }


def singles(toy):
    """What was asked in single precision (a stored decision near tau is not asked again)."""
    return [asked for asked in toy.asked if not asked[2]]


@law
@given(graphs(), st.integers(0, 99), TAUS, st.sampled_from([1, 2, 3, 8, 64]))
def test_the_decisions_are_the_plain_loops_whatever_the_draft_and_the_block(
    graph, seed, tau, block
):
    expected, slow = plain(graph, seed, tau)
    for draft in drafts(expected, seed).values():
        toy = Toy(graph, interacting(graph, seed))
        speculation = Speculation(draft, block)
        assert list(search(graph, toy, tau, speculation=speculation)) == expected
        assert toy.commits == slow.commits
        evaluated = sum(row.outcome != "dead" for row in expected)
        assert speculation.accepted == evaluated
        assert speculation.evaluations == evaluated + speculation.wasted
        # One more question at the start: the damage with every edge kept.
        assert len(singles(toy)) == speculation.evaluations + 1


@law
@given(graphs(), st.integers(0, 99), TAUS)
def test_a_right_draft_wastes_nothing_and_a_wrong_one_still_advances(graph, seed, tau):
    expected, _ = plain(graph, seed, tau)
    guesses = drafts(expected, seed)
    right = Speculation(guesses["right"], 64)
    list(search(graph, Toy(graph, interacting(graph, seed)), tau, speculation=right))
    assert right.wasted == 0
    wrong = Speculation(guesses["wrong"], 64)
    list(search(graph, Toy(graph, interacting(graph, seed)), tau, speculation=wrong))
    # Each first guess of a block fails, and is itself decided.
    assert wrong.blocks == wrong.accepted == right.accepted


@pytest.mark.parametrize("graph", [SMALL, GROUPED])
@pytest.mark.parametrize("block", [2, 5, 64])
def test_resumed_anywhere_it_asks_the_very_same_blocks(graph, block):
    """Not just the same decisions: the same questions, so that rounding is the same too."""
    damage = interacting(graph, 3)
    draft = set(list(graph.edges)[::3])
    calm = Toy(graph, damage)
    rows = list(search(graph, calm, 3 / 16, speculation=Speculation(draft, block)))
    assert {row.outcome for row in rows} == {"kept", "removed", "dead"}
    for cut in range(len(rows) + 1):
        toy = Toy(graph, damage)
        rest = search(graph, toy, 3 / 16, rows[:cut], Speculation(draft, block))
        assert list(rest) == rows[cut:]
        assert toy.commits == calm.commits
        questions, again = singles(calm), singles(toy)
        assert again == questions[len(questions) - len(again) :]


def test_blocks_grow_while_guesses_hold_and_stay_within_every_bound():
    speculation = Speculation(largest=32, limit=lambda receiver: 24)
    sizes = []
    for _ in range(4):
        size = speculation.size(Receiver("logits"), 1000)
        sizes.append(size)
        speculation.learn(size, size, failed=False)
    assert sizes == [16, 24, 24, 24]
    speculation.learn(24, 3, failed=True)
    assert speculation.size(Receiver("logits"), 1000) == 6
    assert speculation.size(Receiver("logits"), 2) == 2
    with pytest.raises(SpecError, match="at least 1"):
        Speculation(largest=0)

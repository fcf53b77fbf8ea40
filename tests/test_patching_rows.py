"""Packed positions: packing loses nothing, and exactly what cannot matter is left out."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from discover.patching.rows import Rows, changing, needed


@st.composite
def masks(draw):
    batch, pos = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rows = st.lists(st.booleans(), min_size=pos, max_size=pos).filter(any)
    return torch.tensor(draw(st.lists(rows, min_size=batch, max_size=batch)))


@given(masks())
def test_packing_and_unpacking_keep_every_row(mask):
    rows = Rows.of(mask)
    assert len(rows) == int(mask.sum())
    x = torch.randn(3, len(rows), 2)
    grid = rows.unpack(x)
    assert grid.shape == (3, len(mask), int(mask.sum(1).max()), 2)
    assert torch.equal(rows.pack(grid), x)
    assert rows.prompt.tolist() == mask.nonzero()[:, 0].tolist()
    assert (rows.flat % mask.shape[1]).tolist() == mask.nonzero()[:, 1].tolist()


@given(masks(), st.data())
def test_rows_are_found_among_others(mask, data):
    some = mask & torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=mask.numel(), max_size=mask.numel()))
    ).view(mask.shape)
    some[~some.any(1)] = mask[~some.any(1)]
    rows, all_rows = Rows.of(some), Rows.of(mask)
    assert torch.equal(all_rows.flat[rows.within(all_rows)], rows.flat)


def causal(n):
    return torch.ones(1, n, n).triu(1).bool()


def test_causal_attention_changes_what_follows_and_needs_what_precedes():
    differ = torch.tensor([[False, False, True, False, False]])
    answers = torch.tensor([[False, False, False, True, False]])
    assert changing(differ, [causal(5)]).tolist() == [[False, False, True, True, True]]
    assert needed(answers, [causal(5)]).tolist() == [[True, True, True, True, False]]


def test_a_window_reaches_one_step_further_with_every_layer():
    window = ~torch.eye(6).bool() & ~torch.eye(6).roll(1, 0).tril().bool()
    first = torch.zeros(1, 6).bool()
    first[0, 1] = True
    last = torch.zeros(1, 6).bool()
    last[0, 5] = True
    for layers in range(4):
        masks = [window[None]] * layers
        assert changing(first, masks)[0].nonzero()[:, 0].tolist() == list(range(1, 2 + layers))
        assert needed(last, masks)[0].nonzero()[:, 0].tolist() == list(range(5 - layers, 6))


def test_layers_are_followed_in_their_order():
    """Position 0 reaches 1 in the first layer and 2 only through it in the second."""
    first = ~torch.tensor([[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]).bool()
    second = ~torch.tensor([[[1, 0, 0], [0, 1, 0], [0, 1, 1]]]).bool()
    differ = torch.tensor([[True, False, False]])
    assert changing(differ, [first, second]).tolist() == [[True, True, True]]
    assert changing(differ, [second, first]).tolist() == [[True, True, False]]
    answer = torch.tensor([[False, False, True]])
    assert needed(answer, [first, second]).tolist() == [[True, True, True]]
    assert needed(answer, [second, first]).tolist() == [[False, True, True]]

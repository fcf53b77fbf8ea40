"""Bounds of memory: sizes as people write them, plans that fit, and the same answers in them."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from helpers import family_model, random_prompts
from hypothesis import given
from hypothesis import strategies as st

from discover.acdc import Speculation, circuit_of, search
from discover.errors import RunError, SpecError
from discover.graph import Receiver
from discover.model import load_model
from discover.patching.engine import EngineState
from discover.patching.exact import ExactPatcher
from discover.patching.memory import make_plan, parse_size, show_size
from discover.patching.reference import ReferencePatcher
from discover.tasks import build_prompts


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 << 30),
        ("500MB", 500_000_000),
        ("1.5 GiB", 3 << 29),
        ("64k", 64 << 10),
        ("2g", 2 << 30),
        ("4000", 4000),
        ("7B", 7),
    ],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-4GiB", "4 apples", "0", "1e9", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(SpecError, match="memory"):
        parse_size(text)


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_one_error(text):
    with contextlib.suppress(SpecError):
        assert parse_size(text) >= 1


def test_sizes_are_shown():
    assert [show_size(n) for n in (5, 2048, 3 << 20, 3 << 29)] == [
        "5 B",
        "2 KiB",
        "3 MiB",
        "1.5 GiB",
    ]


@pytest.fixture(scope="module")
def tiny():
    model = load_model("tiny-ioi")
    return model, build_prompts("ioi", model.tokenizer, 12, 0)


def limits(model, prompts):
    """The least memory that is taken, with some above it."""
    with pytest.raises(SpecError, match="at least"):
        make_plan(model, prompts, 1)
    low, high = 1, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        try:
            make_plan(model, prompts, middle)
            high = middle
        except SpecError:
            low = middle
    return high, int(1.1 * high), 2 * high, 1 << 40


def test_less_memory_means_fewer_prompts_and_variants_at_once(tiny):
    model, prompts = tiny
    found = []
    for memory in limits(model, prompts):
        patcher = ExactPatcher(model, prompts, "kl", "resample", memory=memory)
        found.append((patcher.chunk, patcher.block_limit(Receiver("logits"))))
    assert found == sorted(found)
    assert found[0][0] == 1
    assert found[-1][0] == 12
    assert found[0][1] < found[-1][1]


def test_same_circuit_in_any_memory_from_both_engines(tiny):
    model, prompts = tiny
    plain = list(search(model.graph, ReferencePatcher(model, prompts, "kl", "resample"), 0.02))
    cut = ReferencePatcher(model, prompts, "kl", "resample", chunk=5)
    hashes = {
        circuit_of(model.graph, rows).hash for rows in (plain, search(model.graph, cut, 0.02))
    }
    for memory in limits(model, prompts):
        patcher = ExactPatcher(model, prompts, "kl", "resample", memory=memory)
        rows = list(
            search(model.graph, patcher, 0.02, speculation=Speculation(limit=patcher.block_limit))
        )
        hashes.add(circuit_of(model.graph, rows).hash)
        worst = max(abs(a.after - b.after) for a, b in zip(rows, plain, strict=True))
        assert worst < 2e-5
    assert len(hashes) == 1


def test_what_cannot_fit_is_refused_with_the_number(tiny):
    model, prompts = tiny
    with pytest.raises(SpecError, match=r"takes at least [\d.]+ [KMG]iB .* 1 KiB may be used"):
        ExactPatcher(model, prompts, "kl", "resample", memory=1024)


def test_portions_share_copies_of_weights(tiny):
    model, prompts = tiny
    first, *others = ExactPatcher(model, prompts, "kl", "resample", chunk=5).states
    assert len(others) == 2
    for state in others:
        assert state.unembedding is first.unembedding
        for own, same in zip(state.layers, first.layers, strict=True):
            assert own.W_O is same.W_O
            assert own.weights is same.weights
            assert len(own.blocked) == len(state.rows[False].grid), "masks are each portion's own"


def test_running_out_of_memory_halves_the_batch_and_goes_on(monkeypatch):
    model, prompts = family_model("llama"), random_prompts()
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    calm = list(search(model.graph, patcher, 0.02, speculation=Speculation(largest=32)))
    original = EngineState.damages

    def small(self, receiver, variants):
        if len(variants) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, receiver, variants)

    monkeypatch.setattr(EngineState, "damages", small)
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    before = patcher.block_limit(Receiver("logits"))
    rows = list(search(model.graph, patcher, 0.02, speculation=Speculation(largest=32)))
    assert [row.outcome for row in rows] == [row.outcome for row in calm]
    assert max(abs(a.after - b.after) for a, b in zip(rows, calm, strict=True)) < 1e-12
    assert patcher.halvings > 0
    assert patcher.block_limit(Receiver("logits")) < before


def test_a_single_variant_that_does_not_fit_says_what_to_do(monkeypatch):
    model, prompts = family_model("llama"), random_prompts()
    patcher = ExactPatcher(model, prompts, "kl", "resample")

    def never(self, receiver, variants):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(EngineState, "damages", never)
    with pytest.raises(RunError, match="ran out of memory at logits .* smaller --memory"):
        patcher.damages(Receiver("logits"), np.ones((4, len(model.graph.senders)), dtype=bool))

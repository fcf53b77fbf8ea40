"""Bounds of memory: sizes as people write them, plans that fit, and the same answers in them."""

from __future__ import annotations

import contextlib
import gc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import LiveTensors, family_model, random_prompts
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from discover.acdc import Speculation, circuit_of, search
from discover.attribution import usual_chunk
from discover.circuit import Circuit
from discover.errors import RunError, SpecError
from discover.graph import Receiver
from discover.model import Model, load_model, wrap_module
from discover.patching.engine import EngineState
from discover.patching.exact import ExactPatcher
from discover.patching.memory import Load, make_plan
from discover.patching.reference import ReferencePatcher
from discover.patching.selfcheck import check_all
from discover.session import How, Session
from discover.sizes import parse_size, show_size
from discover.spec import RunSpec
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


def limits(model, prompts, **how):
    """The least memory that is taken, with some above it."""
    with pytest.raises(SpecError, match="at least"):
        make_plan(model, prompts, 1, **how)
    low, high = 1, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        try:
            make_plan(model, prompts, middle, **how)
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


def test_half_of_what_is_free_is_taken_and_the_least_where_that_will_not_do(tiny, monkeypatch):
    model, prompts = tiny
    least = limits(model, prompts)[0]
    held = make_plan(model, prompts, least).held
    for free, taken in ((4 * least, 2 * least), (2 * least, least), (least, least)):
        monkeypatch.setattr("discover.patching.memory.free_memory", lambda device, n=free: n)
        assert make_plan(model, prompts, None).free == taken - held
    # Where not even the bound is free, nobody has set a limit either: the least is tried.
    monkeypatch.setattr("discover.patching.memory.free_memory", lambda device: least // 4)
    assert make_plan(model, prompts, None).free == least - held
    with pytest.raises(SpecError, match="takes at least"):
        make_plan(model, prompts, least - 1)


def test_what_cannot_fit_is_refused_with_the_number(tiny):
    model, prompts = tiny
    with pytest.raises(SpecError, match=r"takes at least [\d.]+ [KMG]iB .* 1 KiB may be used"):
        ExactPatcher(model, prompts, "kl", "resample", memory=1024)


def test_tensors_are_counted_as_they_come_and_go():
    with LiveTensors() as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second.view(10, 100)
        second.add_(1)
        assert live.now == 8000
        del second
        assert live.now == 8000
        del view
        assert live.now == 4000
    assert live.peak == 8000


def gpt2_model(vocab=50, inner=None, layers=2, heads=2, width=16):
    config = GPT2Config(
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        n_inner=inner,
        vocab_size=vocab,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return wrap_module(GPT2LMHeadModel(config).eval(), name="gpt2")


# Each makes another part of the plan the largest: the twin, logits, MLPs, attention, heads.
SHAPES = {
    "tiny-ioi": lambda: (load_model("tiny-ioi"), None),
    "large vocabulary": lambda: (gpt2_model(vocab=20_000), random_prompts([5] * 4)),
    "wide MLPs": lambda: (gpt2_model(inner=2000), random_prompts([8] * 4)),
    "long prompts": lambda: (gpt2_model(heads=4), random_prompts([120] * 2)),
    "many heads": lambda: (gpt2_model(heads=8, width=16), random_prompts([8] * 4)),
    "float64": lambda: (gpt2_model(layers=3).double(), random_prompts([8] * 4)),
    "bfloat16": lambda: (family_model("llama", "bfloat16"), random_prompts([30, 4, 4])),
    "soft caps": lambda: (family_model("vaultgemma", "float32"), random_prompts([8] * 4)),
}


@pytest.mark.parametrize(
    ("shape", "metric"),
    [
        *((shape, "kl") for shape in SHAPES),
        ("tiny-ioi", "logit_diff"),
        ("large vocabulary", "l2"),
        ("soft caps", "logit_diff"),
        ("large vocabulary", "prob_diff"),
        ("long prompts", "nll"),
    ],
)
def test_what_a_search_holds_stays_below_its_memory(shape, metric):
    """With all but a few edges kept, the largest blocks, and scores near tau from the start on."""
    model, prompts = SHAPES[shape]()
    prompts = prompts or build_prompts("ioi", model.tokenizer, 4, 0)
    model.forward(torch.zeros(1, 1, dtype=torch.long))  # what a first forward leaves behind
    least, _, more, _ = limits(model, prompts)
    for memory in (least, more):
        draw = np.random.default_rng(0)
        gc.collect()
        with LiveTensors() as live:
            chunk = make_plan(model, prompts, memory).chunk
            oracle = ReferencePatcher(model, prompts, metric, "zero", chunk=chunk)
            patcher = ExactPatcher(model, prompts, metric, "zero", memory=memory)
            check_all(oracle.runners, "zero")
            for number, receiver in enumerate(model.graph.receivers):
                n, size = model.graph.n_senders_of(receiver), patcher.block_limit(receiver)
                patcher.damages(receiver, ~np.eye(n, dtype=bool)[np.arange(size) % n])
                if number % 5 == 0:
                    patcher.damages(receiver, np.ones((1, n), dtype=bool), float64=True)
                patcher.commit(receiver, (draw.random(n) < 0.9) | (np.arange(n) == 0))
            oracle.circuit_damage(Circuit(model.graph, frozenset()))
        assert live.peak <= memory
    assert live.peak > 0.1 * least, "nothing was measured"


@pytest.mark.parametrize("shape", ["wide MLPs", "large vocabulary", "long prompts", "float64"])
def test_means_and_an_order_by_attribution_stay_below_their_memory(shape):
    """What is made before the search: the patchers with their means, scores by gradients."""
    model, prompts = SHAPES[shape]()
    model.forward(torch.zeros(1, 1, dtype=torch.long))  # what a first forward leaves behind
    least, _, more, _ = limits(model, prompts, gradients=True)
    spec = RunSpec(
        model="gpt2", prompts_file="none", metric="prob_diff", ablation="mean", order="attribution"
    )
    for memory in (least, more):
        gc.collect()
        with LiveTensors() as live:
            session = Session(spec, model, prompts, "exact", How(memory=memory))
            built, live.peak = live.peak, live.now
            session.order()
        assert max(built, live.peak) <= memory
    assert live.peak > 0.1 * least, "nothing was measured"


def test_attribution_drafts_take_no_more_prompts_at_a_time_than_the_search(tiny, monkeypatch):
    model, prompts = tiny
    spec = RunSpec(model="tiny-ioi", task="ioi")
    seen = []
    monkeypatch.setattr(
        "discover.session.attribute",
        lambda model, *_, chunk, **__: seen.append(chunk) or np.zeros(len(model.graph)),
    )
    for memory in (limits(model, prompts, gradients=True)[0], 1 << 40):
        Session(spec, model, prompts, "exact", How(memory=memory, draft="eap-ig")).draft(0.1)
    assert seen == [1, usual_chunk(model, prompts)]
    assert 1 < seen[1] < 12


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


def test_mlps_are_counted_whole_where_they_are_not_sliced():
    cpu = SimpleNamespace(
        device="cpu", graph=gpt2_model().graph, d_model=8, d_head=4, mlp_width=1000
    )
    gpu = SimpleNamespace(**{**vars(cpu), "device": "cuda"})
    load = Load(rows=100, positions=0, width=10, heads=2, mlps=2)
    assert load.values(cpu, 10) == load.values(gpu, 10)
    assert load.values(gpu, 100) == 10 * load.values(gpu, 10)
    assert load.values(gpu, 100) - load.values(cpu, 100) == 8 * 1000 * (100 * 100 - 1024)


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


def never(*_args, **_kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_single_variant_that_does_not_fit_says_what_to_do(monkeypatch):
    model, prompts = family_model("llama"), random_prompts()
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    monkeypatch.setattr(EngineState, "damages", never)
    with pytest.raises(RunError, match="ran out of memory at logits .* smaller --memory"):
        patcher.damages(Receiver("logits"), np.ones((4, len(model.graph.senders)), dtype=bool))


def test_a_commit_that_does_not_fit_says_what_to_do(monkeypatch):
    model, prompts = family_model("llama"), random_prompts()
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    monkeypatch.setattr(EngineState, "commit", never)
    kept = np.ones(len(model.graph.senders), dtype=bool)
    with pytest.raises(
        RunError, match="out of memory at the commit of logits, .* smaller --memory"
    ):
        patcher.commit(Receiver("logits"), kept)


@pytest.mark.parametrize("where", ["Model.double", "EngineState.__init__", "EngineState.restore"])
def test_a_float64_twin_that_does_not_fit_says_what_to_do(monkeypatch, where):
    model, prompts = family_model("llama", "float32"), random_prompts()
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    kept = np.ones(len(model.graph.senders), dtype=bool)
    kept[2] = False
    patcher.commit(Receiver("logits"), kept)
    receiver = Receiver("mlp", 1)
    variant = ~np.eye(model.graph.n_senders_of(receiver), dtype=bool)[0]
    other = ExactPatcher(model.double(), prompts, "kl", "resample")
    other.commit(Receiver("logits"), kept)
    expected = other.damages(receiver, variant)
    owner, name = where.split(".")
    monkeypatch.setattr({"Model": Model, "EngineState": EngineState}[owner], name, never)
    with pytest.raises(RunError, match=r"memory at m1\.in in float64, .* smaller --memory"):
        patcher.damages(receiver, variant, float64=True)
    monkeypatch.undo()
    found = patcher.damages(receiver, variant, float64=True)
    assert found == pytest.approx(expected, abs=1e-12), "no half-made twin is left behind"

"""The reference against laws, hand-written forwards and TransformerLens's own tools."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from families import CONFIGS, VOCAB, build_module
from helpers import RAGGED, family_model, random_prompts
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformer_lens.patching import get_act_patch_direct_path
from transformer_lens.tools.analysis import attribution_patching as tl

from discover.acdc import circuit_of, search
from discover.circuit import Circuit
from discover.errors import ModelError, PromptError, RunError, SpecError
from discover.graph import Edge, Receiver, Sender
from discover.model import load_model
from discover.patching.reference import ReferencePatcher, ReferenceRunner
from discover.prompts import PromptPairs
from discover.tasks import build_prompts

EXACT = 1e-9


def random_circuit(graph, seed, keep=0.5):
    draw = np.random.default_rng(seed)
    kept = draw.random(len(graph)) < keep
    return Circuit(graph, frozenset(e for e, k in zip(graph.edges, kept, strict=True) if k))


def gap(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize("shape", RAGGED)
@pytest.mark.parametrize("family", CONFIGS)
def test_laws(family, shape):
    model = family_model(family)
    prompts = random_prompts(**RAGGED[shape])
    runner = ReferenceRunner(model, prompts, "resample")
    assert gap(runner.circuit_logits(Circuit.full(model.graph)), runner.full_logits) < EXACT
    nothing = Circuit(model.graph, frozenset())
    assert gap(runner.circuit_logits(nothing), runner.corrupted_logits) < EXACT
    # The two must differ, or the laws above would hold of a patcher that does nothing.
    assert gap(runner.corrupted_logits, runner.full_logits) > 0.1
    same = PromptPairs([dataclasses.replace(p, corrupted=p.clean) for p in prompts], prompts.side)
    still = ReferenceRunner(model, same, "resample")
    assert gap(still.circuit_logits(random_circuit(model.graph, 0)), still.full_logits) < EXACT


@pytest.mark.parametrize("family", ["gpt2", "neox", "gptj", "llama", "qwen2"])
def test_padding_changes_no_prompt(family):
    model = family_model(family)
    circuit = random_circuit(model.graph, 1)
    ragged = random_prompts((6, 4, 5))
    left = PromptPairs(list(ragged), "left")
    one_by_one = torch.cat(
        [
            ReferenceRunner(model, PromptPairs([pair]), "resample").circuit_logits(circuit)
            for pair in ragged
        ]
    )
    for prompts in (ragged, left):
        together = ReferenceRunner(model, prompts, "resample").circuit_logits(circuit)
        assert gap(together, one_by_one) < EXACT


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
def test_projection_oracle_equals_split_oracle(family):
    """The plain form for models without a q/k/v split is checked where the split exists."""
    model = family_model(family)
    prompts = random_prompts((6, 4, 5))
    for seed in range(4):
        circuit = random_circuit(model.graph, seed, keep=0.7)
        split = ReferenceRunner(model, prompts, "resample").circuit_logits(circuit)
        model.splits_qkv = False
        model.bridge.set_use_split_qkv_input(False)
        projected = ReferenceRunner(model, prompts, "resample").circuit_logits(circuit)
        model.splits_qkv = True
        model.bridge.set_use_split_qkv_input(True)
        assert gap(split, projected) < EXACT


def test_zero_ablation_of_everything_leaves_the_biases():
    model = family_model("gpt2")
    runner = ReferenceRunner(model, random_prompts(), "zero")
    module = build_module("gpt2").double()
    stream = sum(block.attn.c_proj.bias for block in module.transformer.h)
    expected = module.lm_head(module.transformer.ln_f(stream)).detach()
    found = runner.circuit_logits(Circuit(model.graph, frozenset()))
    assert gap(found, expected.expand_as(found)) < EXACT
    assert gap(expected, torch.zeros_like(expected)) > 0.1


def hand_forward(module, tokens, corrupted, removed):
    """GPT-2 written out by hand, every receiver's input summed from its own senders."""
    cfg = module.config
    heads, width = cfg.n_head, cfg.n_embd // cfg.n_head
    transformer = module.transformer

    def senders_of_run(ids, ablated):
        embed = transformer.wte(ids) + transformer.wpe(torch.arange(ids.shape[1]))
        out = {"embed": embed}
        constant = torch.zeros(cfg.n_embd, dtype=torch.float64)

        def read(receiver):
            return constant + sum(
                ablated[name] if (name, receiver) in removed and ablated else value
                for name, value in out.items()
            )

        for layer, block in enumerate(transformer.h):
            weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
            results = []
            for head in range(heads):
                part = {}
                for offset, kind in enumerate("qkv"):
                    at = offset * cfg.n_embd + head * width
                    x = block.ln_1(read(f"a{layer}.h{head}.{kind}"))
                    part[kind] = x @ weight[:, at : at + width] + bias[at : at + width]
                scores = part["q"] @ part["k"].transpose(-1, -2) / width**0.5
                mask = torch.ones(scores.shape[-2:]).triu(1).bool()
                z = scores.masked_fill(mask, -torch.inf).softmax(-1) @ part["v"]
                rows = slice(head * width, (head + 1) * width)
                results.append(z @ block.attn.c_proj.weight[rows])
            for head, result in enumerate(results):
                out[f"a{layer}.h{head}"] = result
            constant = constant + block.attn.c_proj.bias
            out[f"m{layer}"] = block.mlp(block.ln_2(read(f"m{layer}.in")))
        return out, module.lm_head(transformer.ln_f(read("logits")))

    with torch.no_grad():
        ablated, _ = senders_of_run(corrupted, None)
        return senders_of_run(tokens, ablated)[1]


def test_every_single_edge_against_gpt2_written_out_by_hand():
    model = family_model("gpt2")
    prompts = random_prompts()
    runner = ReferenceRunner(model, prompts, "resample")
    module = build_module("gpt2").double()
    corrupted = torch.as_tensor(runner.padded.corrupted)
    moved = 0
    for edge in model.graph.edges:
        removed = {(edge.sender.name, edge.receiver.name)}
        expected = hand_forward(module, runner.clean, corrupted, removed)[:, -1]
        found = runner.circuit_logits(Circuit(model.graph, model.graph.edge_set - {edge}))
        assert gap(found, expected) < EXACT, edge.name
        moved += gap(found, runner.full_logits) > 1e-6
    assert moved > 35


def test_random_circuits_against_gpt2_written_out_by_hand():
    model = family_model("gpt2")
    runner = ReferenceRunner(model, random_prompts(), "resample")
    module = build_module("gpt2").double()
    corrupted = torch.as_tensor(runner.padded.corrupted)
    for seed in range(20):
        circuit = random_circuit(model.graph, seed, keep=seed / 20)
        removed = {(e.sender.name, e.receiver.name) for e in circuit.complement().edges}
        expected = hand_forward(module, runner.clean, corrupted, removed)[:, -1]
        assert gap(runner.circuit_logits(circuit), expected) < EXACT
        # `embed` differs between the runs whatever else is removed.
        perturbed = Circuit(model.graph, circuit.edges ^ {model.graph.edge("embed->logits")})
        assert gap(runner.circuit_logits(perturbed), expected) > 1e-7


def tl_bridge(family):
    module = build_module(family).double()
    return build_bridge_from_module(module, type(module).__name__, hf_config=module.config).eval()


@pytest.mark.parametrize("family", ["gpt2", "neox"])
@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_direct_paths_against_transformer_lens(family, component):
    """Its direct path patch is denoising: clean into corrupted; so our twins are swapped."""
    model = family_model(family)
    prompts = random_prompts()
    swapped = PromptPairs(
        [dataclasses.replace(p, clean=p.corrupted, corrupted=p.clean) for p in prompts]
    )
    runner = ReferenceRunner(model, swapped, "resample")
    bridge = tl_bridge(family)
    clean, corrupted = (torch.as_tensor(x) for x in (runner.padded.corrupted, runner.padded.clean))
    with torch.no_grad():
        _, clean_cache = bridge.run_with_cache(clean)
        _, corrupted_cache = bridge.run_with_cache(corrupted)

    def metric(logits):
        return (logits[:, -1, 1] - logits[:, -1, 2]).mean()

    for head in range(model.graph.n_heads):
        table = get_act_patch_direct_path(
            bridge,
            corrupted,
            clean_cache,
            corrupted_cache,
            metric,
            src_layer=0,
            src_head=head,
            component=component,
            verbose=False,
        )
        for target in range(model.graph.n_heads):
            edge = Edge(Sender("head", 0, head), Receiver(component, 1, target))
            logits = runner.circuit_logits(Circuit(model.graph, model.graph.edge_set - {edge}))
            ours = (logits[:, 1] - logits[:, 2]).mean()
            # Its table is float32.
            assert float(ours) == pytest.approx(float(table[1, target]), abs=2e-6)
    assert table[1].unique().numel() > 1


def tl_edge(edge, position, layers):
    sender, receiver = edge.sender, edge.receiver
    kinds = {"embed": "embed", "head": "attn_head_out", "mlp": "mlp_out"}
    writer = tl.Node(
        kinds[sender.kind],
        position,
        None if sender.kind == "embed" else sender.layer,
        sender.head if sender.kind == "head" else None,
    )
    if receiver.kind == "logits":
        return writer, tl.Node("logits", position, layers - 1)
    if receiver.kind == "mlp":
        return writer, tl.Node("mlp_in", position, receiver.layer)
    return writer, tl.Node(f"{receiver.kind}_input", position, receiver.layer, receiver.index)


@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_circuits_against_transformer_lens_faithfulness(family):
    """Its position embedding is in no writer: shift it into both runs by resampling `embed`.

    Clean and corrupted share positions, so the position embedding cancels and the two agree.
    """
    model = family_model(family)
    bridge = tl_bridge(family)
    prompts = random_prompts((5,))
    runner = ReferenceRunner(model, prompts, "resample")
    clean, corrupted = (torch.as_tensor(x) for x in (runner.padded.clean, runner.padded.corrupted))

    def metric(logits):
        return logits[0, -1, 1] - logits[0, -1, 2]

    full = float(runner.full_logits[0, 1] - runner.full_logits[0, 2])
    none = float(runner.corrupted_logits[0, 1] - runner.corrupted_logits[0, 2])
    for seed in range(5):
        circuit = random_circuit(model.graph, seed, keep=0.8)
        theirs = tl.faithfulness(
            bridge,
            clean,
            corrupted,
            metric,
            [
                tl_edge(edge, position, model.graph.n_layers)
                for edge in circuit.ordered
                for position in range(clean.shape[1])
            ],
        )
        logits = runner.circuit_logits(circuit)
        ours = (float(logits[0, 1] - logits[0, 2]) - none) / (full - none)
        assert ours == pytest.approx(theirs.recovered, abs=1e-6)
        assert theirs.circuit_size == len(circuit) * clean.shape[1]


@pytest.mark.parametrize("ablation", ["resample", "zero"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gptj"])
def test_search_keeps_its_damage(family, ablation):
    """After a search a plain forward of the final circuit gives the last decision's damage."""
    model = family_model(family)
    patcher = ReferencePatcher(model, random_prompts(), "kl", ablation)
    rows = list(search(model.graph, patcher, 0.02))
    last = rows[-1].after if rows[-1].removed else rows[-1].before
    assert patcher.circuit_damage(circuit_of(model.graph, rows)) == pytest.approx(last, abs=EXACT)
    assert {row.outcome for row in rows} >= {"kept", "removed"}
    assert rows[0].before == pytest.approx(0, abs=EXACT)


def test_float64_twin_answers_in_float64():
    model = family_model("llama", "float32")
    exact = ReferencePatcher(family_model("llama"), random_prompts(), "kl", "resample")
    patcher = ReferencePatcher(model, random_prompts(), "kl", "resample")
    receiver = Receiver("logits")
    variants = np.ones((2, model.graph.n_senders_of(receiver)), dtype=bool)
    variants[1, 3] = False
    truth = exact.damages(receiver, variants)
    assert patcher.damages(receiver, variants, float64=True) == pytest.approx(truth, abs=EXACT)
    assert patcher.damages(receiver, variants) == pytest.approx(truth, abs=1e-5)
    assert patcher.damages(receiver, variants) != truth


def test_tracr_reverse_prompts_run_bidirectionally():
    model = load_model("tracr-reverse")
    prompts = build_prompts("reverse", model.tokenizer, 4, 0)
    runner = ReferenceRunner(model, prompts, "zero")
    answers = runner.full_logits.argmax(-1).split([len(p.answer_positions) for p in prompts])
    for pair, found in zip(prompts, answers, strict=True):
        assert found.tolist() == list(reversed(pair.clean[1:]))


def test_wrong_variants_and_settings_are_errors():
    model = family_model("gpt2")
    patcher = ReferencePatcher(model, random_prompts(), "kl", "resample")
    with pytest.raises(RunError, match="7 senders"):
        patcher.damages(Receiver("logits"), np.ones((1, 3), dtype=bool))
    with pytest.raises(SpecError, match="unknown ablation 'noise'"):
        ReferencePatcher(model, random_prompts(), "kl", "noise")
    with pytest.raises(SpecError, match="unknown metric 'auc'"):
        ReferencePatcher(model, random_prompts(), "auc", "zero")
    with pytest.raises(PromptError, match="at most 32"):
        ReferencePatcher(model, random_prompts((40,)), "kl", "zero")
    with pytest.raises(PromptError, match=r"has token \d+, but gpt2 has 23"):
        ReferencePatcher(model, random_prompts(vocab=31), "kl", "zero")


def hook_count(model):
    return sum(len(point.fwd_hooks) for point in model.bridge.hook_dict.values())


def test_state_is_left_as_found_also_after_an_exception():
    model = family_model("gpt2")
    tokens = torch.zeros(1, 3, dtype=torch.long)
    before = hook_count(model)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()

    def explode(_value):
        raise KeyboardInterrupt

    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            with pytest.raises(KeyboardInterrupt):
                model.forward(tokens, hooks=[("blocks.1.hook_in", explode)])
            assert torch.is_grad_enabled() == grad
    assert hook_count(model) == before
    plain = model.forward(tokens)
    ReferencePatcher(model, random_prompts(vocab=VOCAB), "kl", "resample")
    assert torch.equal(model.forward(tokens), plain)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_hook_that_cannot_work_is_an_error():
    model = family_model("gptj")
    tokens = torch.zeros(1, 3, dtype=torch.long)
    before = hook_count(model)
    for name in ("blocks.9.hook_in", "blocks.0.hook_mlp_in", "nonsense"):
        with pytest.raises(ModelError, match="no such hook point"):
            model.forward(tokens, hooks=[(name, lambda x: None)])
    model.bridge.set_use_hook_mlp_in(True)
    with pytest.raises(ModelError, match=r"blocks.0.hook_mlp_in .* did not fire"):
        model.forward(tokens, hooks=[("blocks.0.hook_mlp_in", lambda x: None)])
    assert hook_count(model) == before

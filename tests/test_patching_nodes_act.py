from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from families import CONFIGS, MORE
from helpers import RAGGED, family_model, random_prompts
from helpers_hooks import POINTS, patched

from discover.errors import InputError, ModelError, PatchError, PromptError
from discover.labelled import LabelledArray, LabelledList
from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    Node,
    act_patch,
    clean_inputs,
    corrupted_inputs,
    denoising,
    logit_difference,
    run_with_cache,
)
from discover.patching.nodes.cache import all_components

FAMILIES = [*CONFIGS, *MORE]

HIDDEN = {
    **dict.fromkeys(("gptj", "opt", "gpt-neo", "xglm"), ("pattern", "attn_scores")),
    **dict.fromkeys(("attention-only", "attention-only-rotary", "bidirectional"), ("attn_scores",)),
}


@functools.lru_cache(maxsize=4)
def model_of(family: str) -> Model:
    return family_model(family)


def sides(shape: str = "equal"):
    prompts = random_prompts(**RAGGED[shape])
    return prompts, corrupted_inputs(prompts), clean_inputs(prompts)


def all_logits(logits):
    return logits.clone()


def real(logits, inputs):
    return logits[torch.as_tensor(inputs.attention)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_of_every_family_is_patched_as_by_plain_hooks(family):
    model = model_of(family)
    for shape in ("equal", "left, two answers"):
        _, orig, new = sides(shape)
        for name in set(all_components(model)) & set(POINTS):
            layer = model.graph.n_layers - 1 if name == "resid_pre" else 0
            index = 0 if name in ("q", "k", "v", "z", "pattern", "pre", "pre_linear") else None
            mask = orig.mask(1)
            key = "neuron" if name.startswith("p") and name != "pattern" else "head"
            node = Node(name, layer, seq_pos=1, **({} if index is None else {key: index}))
            try:
                got = act_patch(model, orig, node, all_logits, new_input=new)
            except ModelError as error:
                # These attentions show what they have used already, and the bridge says so.
                assert name in HIDDEN.get(family, ()) and "has no effect" in str(error)
                continue
            want = patched(model, orig, new, [(name, layer, index)], torch.as_tensor(mask))
            torch.testing.assert_close(real(got, orig), real(want, orig), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "attention-only"])
@pytest.mark.parametrize("shape", RAGGED)
def test_patching_everything_gives_the_new_run_and_patching_nothing_the_original(family, shape):
    model = model_of(family)
    _, orig, new = sides(shape)
    layers = range(model.graph.n_layers)
    own = run_with_cache(model, orig)[0]
    other = run_with_cache(model, new)[0]
    everything = [Node("resid_pre", 0)]
    got = act_patch(model, orig, everything, all_logits, new_input=new)
    torch.testing.assert_close(real(got, orig), real(other, orig), rtol=0, atol=1e-9)
    pieces = [Node("resid_pre", 0)] + [Node("z", at) for at in layers]
    got = act_patch(model, orig, pieces, all_logits, new_input=new)
    torch.testing.assert_close(real(got, orig), real(other, orig), rtol=0, atol=1e-9)
    got = act_patch(model, orig, [Node("z", at) for at in layers], all_logits, new_input=orig)
    torch.testing.assert_close(real(got, orig), real(own, orig), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_head_inputs_and_mlp_in_are_patched_as_what_is_made_from_them(family):
    model = model_of(family)
    _, orig, new = sides()
    for name in "qkv":
        one = act_patch(model, orig, Node(name, 1, head=0), all_logits, new_input=new)
        same = act_patch(model, orig, Node(f"{name}_input", 1, head=0), all_logits, new_input=new)
        torch.testing.assert_close(one, same, rtol=0, atol=1e-9)
    one = act_patch(model, orig, Node("mlp_out", 1), all_logits, new_input=new)
    same = act_patch(model, orig, Node("mlp_in", 1), all_logits, new_input=new)
    torch.testing.assert_close(one, same, rtol=0, atol=1e-9)
    both = [Node("resid_pre", 0), Node("resid_mid", 1)]
    mid = act_patch(model, orig, Node("resid_mid", 1), all_logits, new_input=new)
    torch.testing.assert_close(
        mid, act_patch(model, orig, both, all_logits, new_input=new), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_iter_node_gives_what_its_nodes_give_one_by_one(family):
    model = model_of(family)
    prompts, orig, new = sides("right")
    metric = denoising(model, prompts)
    graph = model.graph
    names = ["z", "k", "pattern", "resid_pre", "mlp_out", "post"]
    for at_once in (None, 1, 3):
        found = act_patch(
            model, orig, IterNode(names, "each"), metric, new_input=new, at_once=at_once
        )
        assert list(found) == names
        assert found["z"].shape == (graph.n_layers, 6, graph.n_heads)
        assert found["k"].axes[2] == ("head" if graph.n_kv_heads == graph.n_heads else "kv_head")
        assert found["z"].direction.startswith("denoising")
        for name in names:
            array = found[name]
            assert isinstance(array, LabelledArray)
            rng = np.random.default_rng(0)
            for flat in rng.choice(array.values.size, size=6, replace=False):
                at = np.unravel_index(flat, array.shape)
                where = (name, int(at[0]), int(at[2]) if len(at) == 3 else None)
                mask = torch.as_tensor(orig.nth(int(at[1])))
                want = metric(patched(model, orig, new, [where], mask))
                assert array.values[at] == pytest.approx(float(want), abs=1e-9)


def test_positions_are_taken_in_every_form():
    model = model_of("gpt2")
    prompts, orig, new = sides("left, two answers")
    metric = logit_difference(model, prompts)

    def at(seq_pos):
        return act_patch(model, orig, Node("z", 0, 1, seq_pos=seq_pos), metric, new_input=new)

    by_row = [[2], [2], [2]]
    want = metric(patched(model, orig, new, [("z", 0, 1)], torch.as_tensor(orig.mask(2))))
    for form in (2, [2, 2, 2], torch.tensor([2, 2, 2]), by_row, np.array(by_row)):
        assert at(form) == pytest.approx(float(want), abs=1e-9)
    assert orig.mask(2)[1].tolist() == [False] * 4 + [True, False]
    assert at(-1) == pytest.approx(at([5, 3, 4]), abs=1e-12)
    assert at([[0, 1]] * 3) != pytest.approx(at(0))
    for wrong in (6, [0, 4, 0], [[0]], "end", 1.5, [True, True, True], np.zeros((3, 1, 1), int)):
        with pytest.raises(PatchError, match="position|seq_pos"):
            at(wrong)


def test_metrics_of_other_kinds_come_back_as_they_are():
    model = model_of("gpt2")
    prompts, orig, new = sides()
    per_prompt = logit_difference(model, prompts).per_prompt()
    one = act_patch(model, orig, Node("z", 1), per_prompt, new_input=new)
    assert one.shape == (3,)
    many = act_patch(model, orig, IterNode("z"), per_prompt, new_input=new)["z"]
    assert isinstance(many, LabelledList) and len(many) == 4
    alone = act_patch(model, orig, Node("z", 1, 0), per_prompt, new_input=new)
    torch.testing.assert_close(many.at(layer=1, head=0), alone, rtol=0, atol=1e-9)
    text = act_patch(model, orig, IterNode("z"), lambda _: "word", new_input=new)["z"]
    assert list(text) == ["word"] * 4


def test_losses_are_of_the_inputs_own_next_tokens():
    model = model_of("gpt2")
    _, orig, new = sides("right")
    logits = act_patch(model, orig, Node("resid_pre", 1), all_logits, new_input=new)
    tokens = torch.as_tensor(orig.tokens)
    want = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none"
    )
    each = act_patch(model, orig, Node("resid_pre", 1), "loss_per_token", new_input=new)
    mask = torch.as_tensor(orig.attention[:, 1:])
    torch.testing.assert_close(each[mask], want[mask], rtol=0, atol=1e-9)
    assert each[~mask].isnan().all()
    mean = act_patch(model, orig, Node("resid_pre", 1), "loss", new_input=new)
    assert mean == pytest.approx(float(want[mask].mean()), abs=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "llama", "attention-only"])
def test_a_metric_reads_the_patched_runs_cache(family):
    model = model_of(family)
    _, orig, new = sides()

    def attention(cache):
        return cache["pattern", 1][:, 0, -1, 0].mean() + cache["blocks.1.attn.hook_q"].mean()

    found = act_patch(
        model, orig, IterNode("z"), attention, new_input=new, apply_metric_to_cache=True, at_once=3
    )["z"]
    names = ["blocks.1.attn.hook_pattern", "blocks.1.attn.q.hook_out"]
    seen = {}
    for layer, head in np.ndindex(found.shape):
        put_z = patched_hooks(model, orig, new, ("z", layer, head))
        hooks = [*put_z, *((name, functools.partial(seen.__setitem__, name)) for name in names)]
        model.forward(torch.as_tensor(orig.tokens), None, hooks)
        want = seen[names[0]][:, 0, -1, 0].mean() + seen[names[1]].mean()
        assert found.values[layer, head] == pytest.approx(float(want), abs=1e-9)
    with pytest.raises(PatchError, match="reads nothing"):
        act_patch(
            model, orig, Node("z", 0), lambda _: 1.0, new_input=new, apply_metric_to_cache=True
        )


def patched_hooks(model, orig, new, where):
    from helpers_hooks import point, put, record

    seen = record(model, new, [point(where[0], where[1])])
    return [put(where, seen[point(where[0], where[1])], torch.ones(orig.tokens.shape).bool())]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_in_a_cache_are_what_the_pattern_is_made_from_or_are_refused(family):
    model = model_of(family)
    _, orig, _ = sides()
    if "attn_scores" in HIDDEN.get(family, ()):
        assert "attn_scores" not in all_components(model)
        with pytest.raises(ModelError, match="has no effect"):
            run_with_cache(model, orig, "attn_scores")
        return
    _, cache = run_with_cache(model, orig, ["attn_scores", "pattern"])
    made = cache["attn_scores", 1].softmax(-1)
    torch.testing.assert_close(made, cache["pattern", 1], rtol=0, atol=1e-6)


def test_caches_are_taken_from_anywhere():
    model = model_of("llama")
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    nodes = [Node("k", 1, head=1), Node("mlp_out", 0), Node("q_input", 0, head=2)]
    want = act_patch(model, orig, nodes, metric, new_input=new)
    _, ours = run_with_cache(model, new, ["k", "mlp_out", "q_input"])
    assert act_patch(model, orig, nodes, metric, new_cache=ours) == pytest.approx(want, abs=1e-9)
    plain = {key: ours[key] for key in ours}
    assert act_patch(model, orig, nodes, metric, new_cache=plain) == pytest.approx(want, abs=1e-9)
    _, theirs = model.bridge.run_with_cache(torch.as_tensor(new.tokens))
    node = Node("z", 1, head=3)
    one = act_patch(model, orig, node, metric, new_input=new)
    assert act_patch(model, orig, node, metric, new_cache=theirs) == pytest.approx(one, abs=1e-5)
    zeros = {key: torch.zeros_like(value) for key, value in plain.items()}
    nothing = act_patch(model, orig, nodes, metric, new_cache="zero")
    assert nothing == pytest.approx(act_patch(model, orig, nodes, metric, new_cache=zeros))
    assert nothing != pytest.approx(want)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda: Node("qq", 0), "unknown component 'qq'"),
        (lambda: Node("q"), "needs a layer"),
        (lambda: Node("q", -1), "needs a layer"),
        (lambda: Node("mlp_out", 0, head=1), "no heads"),
        (lambda: Node("z", 0, neuron=1), "no neurons"),
        (lambda: Node("z", 0, head=-1), "index of 0 or more"),
        (lambda: Node("z", 0, head=[1, 1]), "each one once"),
        (lambda: Node("blocks.0.hook_nothing"), "no activation that can be patched"),
        (lambda: Node("blocks.3.attn.hook_q", 2), "of layer 3, not of 2"),
        (lambda: IterNode("zz"), "unknown component"),
        (lambda: IterNode([]), "at least one component"),
        (lambda: IterNode("z", seq_pos="all"), "'each' or positions"),
    ],
)
def test_nodes_that_cannot_be_are_refused_where_they_are_written(wrong, told):
    with pytest.raises(PatchError, match=told):
        wrong()


@pytest.mark.parametrize(
    ("family", "nodes", "told"),
    [
        ("gpt2", Node("z", 2), "gpt2 has 2 layers"),
        ("gpt2", Node("z", 0, 2), "has 2 heads in a layer"),
        ("llama", Node("k", 0, 2), "has 2 key/value heads"),
        ("gpt2", Node("post", 0, neuron=32), "has 32 neurons"),
        ("gpt2", Node("pre_linear", 0), "no gated MLPs"),
        ("neox", Node("resid_mid", 0), "parallel blocks"),
        ("attention-only", Node("mlp_out", 0), "no MLPs"),
        ("attention-only", IterNode("resid_mid"), "no MLPs"),
        ("gpt2", [], "at least one node"),
        ("gpt2", "z", "must be a Node"),
        ("gpt2", [IterNode("z")], "must be a Node"),
        ("gpt2", IterNode("z", layers=[5]), "gpt2 has 2 layers"),
    ],
)
def test_what_a_model_lacks_is_named(family, nodes, told):
    model = model_of(family)
    prompts, orig, new = sides()
    with pytest.raises(PatchError, match=told):
        act_patch(model, orig, nodes, logit_difference(model, prompts), new_input=new)


def test_wrong_inputs_and_caches_are_refused():
    model = model_of("gpt2")
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)

    def refused(kind, told, **given):
        arguments = {"orig_input": orig, "patching_nodes": Node("z", 0), "patching_metric": metric}
        with pytest.raises(kind, match=told):
            act_patch(model, **(arguments | given))

    refused(PatchError, "new_input or new_cache")
    refused(PatchError, "new_input or new_cache", new_input=new, new_cache="zero")
    refused(PatchError, "'zero', not 'one'", new_cache="one")
    refused(PatchError, "has no blocks.0.attn.hook_z", new_cache={})
    refused(PatchError, "does not fit", new_cache={"blocks.0.attn.hook_z": torch.zeros(1, 6, 2, 4)})
    refused(PatchError, "not in this cache", new_cache=run_with_cache(model, new, "q")[1])
    refused(PromptError, "equally long", new_input=new.tokens[:, :4])
    refused(PromptError, "no tokenizer", new_input="a text")
    refused(PromptError, "takes at most", orig_input=np.zeros((1, 99), int), new_input=new)
    refused(PromptError, "has token 99", orig_input=np.full((1, 3), 99), new_input=new)
    refused(PromptError, "cannot run a model on", orig_input=prompts, new_input=new)
    refused(PromptError, "integers shaped", orig_input=np.zeros((1, 3)), new_input=new)
    refused(PatchError, "must be a function", patching_metric="accuracy", new_input=new)
    refused(PatchError, "at least 1", at_once=0, new_input=new)
    refused(
        PatchError,
        "cannot be applied",
        patching_metric="loss",
        new_input=new,
        apply_metric_to_cache=True,
    )
    other = random_prompts((4, 4))
    refused(
        PatchError,
        "is for prompts shaped",
        new_input=new,
        patching_metric=logit_difference(model, other),
    )
    assert issubclass(PatchError, InputError)


def test_a_model_is_left_as_it_was_also_after_an_exception():
    model = model_of("gpt2")
    _, orig, new = sides()
    before = run_with_cache(model, orig)[0]

    def fail(_logits):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        act_patch(model, orig, IterNode("z", "each"), fail, new_input=new)
    assert torch.equal(run_with_cache(model, orig)[0], before)
    assert torch.is_grad_enabled()
    assert not any("forward" in block.__dict__ for block in model.bridge.blocks)

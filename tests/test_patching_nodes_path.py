from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from families import CONFIGS, MORE
from helpers import RAGGED, family_model, random_prompts
from helpers_hooks import path_patched, run

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    Node,
    act_patch,
    clean_inputs,
    corrupted_inputs,
    logit_difference,
    noising,
    path_patch,
    run_with_cache,
)

WITH_MLP = [name for name in [*CONFIGS, *MORE] if not name.startswith("attention-only")]


@functools.lru_cache(maxsize=4)
def model_of(family: str) -> Model:
    return family_model(family)


def sides(shape: str = "equal"):
    prompts = random_prompts(**RAGGED[shape])
    return prompts, clean_inputs(prompts), corrupted_inputs(prompts)


def all_logits(logits):
    return logits.clone()


def real(logits, inputs):
    return logits[torch.as_tensor(inputs.attention)]


def node(where):
    component, layer, index = where
    if index is None:
        return Node(component, layer)
    key = "neuron" if component in ("pre", "post") else "head"
    return Node(component, layer, **{key: index})


def as_receivers(model, where):
    """What the oracle is to set: a gated neuron has two inputs."""
    if where[0] == "pre" and model.has_gated_mlp:
        return [where, ("pre_linear", *where[1:])]
    return [where]


LAST = 1
PATHS = [
    ([("z", 0, 1)], [("resid_post", LAST, None)]),
    ([("z", 0, 0)], [("q", 1, 0)]),
    ([("z", 0, 1)], [("k", 1, 0), ("v", 1, 0)]),
    ([("attn_out", 0, None)], [("pre", 1, 3)]),
    ([("mlp_out", 0, None)], [("v", 1, 0), ("q", 1, 1)]),
    ([("post", 0, 5)], [("resid_post", LAST, None)]),
    ([("resid_pre", 0, None)], [("resid_pre", 1, None)]),
    ([("resid_post", 0, None)], [("k", 1, 0)]),
    ([("z", 0, 0), ("z", 0, 1), ("post", 0, 2)], [("resid_post", LAST, None), ("q", 1, 0)]),
    ([("z", 0, 0), ("post", 1, 1)], [("resid_post", LAST, None)]),
    ([("z", 0, 0), ("mlp_out", 1, None), ("z", 1, 0)], [("resid_post", LAST, None)]),
]


@pytest.mark.parametrize("family", WITH_MLP)
def test_paths_of_every_family_are_those_of_the_three_runs(family):
    model = model_of(family)
    for shape, seq_pos in (("equal", None), ("left, two answers", [[1, 2], [0, 3], [2, 4]])):
        _, orig, new = sides(shape)
        mask = torch.as_tensor(orig.mask(seq_pos))
        for senders, receivers in PATHS:
            for through in (True, False):
                want = path_patched(
                    model,
                    orig,
                    new,
                    senders,
                    [part for where in receivers for part in as_receivers(model, where)],
                    mask,
                    through,
                )
                got = path_patch(
                    model,
                    orig,
                    new,
                    [node(s) for s in senders],
                    [node(r) for r in receivers],
                    all_logits,
                    direct_includes_mlps=through,
                    seq_pos=seq_pos,
                )
                torch.testing.assert_close(
                    real(got, orig), real(want, orig), rtol=0, atol=1e-9, msg=f"{senders}"
                )
    # Something has been compared: the paths through MLPs are others than those along skips.
    given = (model, orig, new, Node("z", 0), Node("resid_post", LAST), all_logits)
    with_mlps, without = (path_patch(*given, direct_includes_mlps=on) for on in (True, False))
    own = run(model, orig)
    assert float((with_mlps - own).abs().max()) > 1e-6
    assert float((with_mlps - without).abs().max()) > 1e-9 or model.graph.parallel


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "attention-only"])
def test_skip_only_paths_add_the_senders_difference_to_the_receivers_input(family):
    model = model_of(family)
    _, orig, new = sides("right")
    _, ours = run_with_cache(model, orig)
    _, theirs = run_with_cache(model, new)
    head = 1
    moved = theirs["z", 0][:, :, head] - ours["z", 0][:, :, head]
    moved = moved @ model.head_output_weights(0)[head]
    stream = ours["resid_pre", 1] + moved
    weight, bias = model.input_projection(1, "q")
    q = model.normalise(1, "attn", stream) @ weight[0] + (0 if bias is None else bias[0])

    def put(value):
        heads = value.reshape(*value.shape[:2], model.graph.n_heads, -1).clone()
        heads[:, :, 0] = q
        return heads.reshape(value.shape)

    want = run(model, orig, [("blocks.1.attn.q.hook_out", put)])
    got = path_patch(
        model,
        orig,
        new,
        Node("z", 0, head),
        Node("q", 1, 0),
        all_logits,
        direct_includes_mlps=False,
    )
    torch.testing.assert_close(real(got, orig), real(want, orig), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "attention-only"])
@pytest.mark.parametrize("shape", RAGGED)
def test_skip_only_effects_of_all_senders_sum_to_the_whole_difference_of_the_stream(family, shape):
    model = model_of(family)
    _, orig, new = sides(shape)
    last = model.graph.n_layers - 1
    final = Node("resid_post", last)

    def stream(cache):
        return cache["resid_post", last].clone()

    own = run_with_cache(model, orig, "resid_post")[1]["resid_post", last]
    other = run_with_cache(model, new, "resid_post")[1]["resid_post", last]
    senders = [Node("resid_pre", 0)]
    for layer in range(last + 1):
        senders += [Node("z", layer, head) for head in range(model.graph.n_heads)]
        senders += [Node("mlp_out", layer)] if model.graph.mlp else []
    moved = torch.zeros_like(own)
    for sender in senders:
        patched = path_patch(
            model,
            orig,
            new,
            sender,
            final,
            stream,
            direct_includes_mlps=False,
            apply_metric_to_cache=True,
        )
        moved += patched - own
    torch.testing.assert_close(real(moved, orig), real(other - own, orig), rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama"])
def test_patching_all_senders_gives_the_new_run_and_none_changes_nothing(family):
    model = model_of(family)
    _, orig, new = sides()
    last = model.graph.n_layers - 1
    everything = [Node("resid_pre", 0)] + [Node("z", at) for at in range(last + 1)]
    got = path_patch(model, orig, new, everything, Node("resid_post", last), all_logits)
    torch.testing.assert_close(got, run(model, new), rtol=0, atol=1e-9)
    same = path_patch(model, orig, orig, everything, Node("resid_post", last), all_logits)
    assert torch.equal(same, run(model, orig))
    if model.graph.n_kv_heads < model.graph.n_heads:
        return  # Other heads read the same k and v.
    # q, k and v of the first layer are all that its z is made of.
    z = path_patch(model, orig, new, Node("resid_pre", 0), Node("z", 0, 1), all_logits)
    torch.testing.assert_close(
        z, act_patch(model, orig, Node("z", 0, 1), all_logits, new_input=new), rtol=0, atol=1e-9
    )


def test_z_as_receiver_is_q_k_and_v_of_its_group():
    model = model_of("llama")
    _, orig, new = sides()
    got = path_patch(model, orig, new, Node("mlp_out", 0), Node("z", 1, 3), all_logits)
    parts = [Node("q", 1, 3), Node("k", 1, 1), Node("v", 1, 1)]
    want = path_patch(model, orig, new, Node("mlp_out", 0), parts, all_logits)
    assert torch.equal(got, want)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("through", [True, False])
def test_iterating_is_the_same_as_one_by_one_and_nan_where_no_path_can_be(family, through):
    model = model_of(family)
    prompts, orig, new = sides("right")
    metric = noising(model, prompts)

    def path(senders, receivers, **more):
        return path_patch(
            model, orig, new, senders, receivers, metric, direct_includes_mlps=through, **more
        )

    for at_once in (None, 1):
        senders = path(IterNode(["z", "mlp_out"]), Node("q", 1, 0), at_once=at_once)
        assert np.isnan(senders["z"].values[1]).all() and np.isnan(senders["mlp_out"].values[1])
        for head in range(model.graph.n_heads):
            alone = path(Node("z", 0, head), Node("q", 1, 0))
            assert senders["z"].values[0, head] == pytest.approx(alone, abs=1e-9)
        receivers = path(Node("z", 0, 1), IterNode(["q", "k", "resid_post"]), at_once=at_once)
        assert np.isnan(receivers["k"].values[0]).all()
        assert receivers["k"].shape == (2, model.graph.n_kv_heads)
        for head in range(model.graph.n_kv_heads):
            alone = path(Node("z", 0, 1), Node("k", 1, head))
            assert receivers["k"].values[1, head] == pytest.approx(alone, abs=1e-9)
        by_pos = path(IterNode("z", "each"), Node("resid_post", 1), at_once=at_once)["z"]
        alone = path(Node("z", 1, 0), Node("resid_post", 1), seq_pos=3)
        assert by_pos.shape == (2, 6, model.graph.n_heads)
        assert by_pos.values[1, 3, 0] == pytest.approx(alone, abs=1e-9)
        fixed = path(IterNode("z", 3), Node("resid_post", 1), at_once=at_once)["z"]
        np.testing.assert_allclose(fixed.values, by_pos.values[:, 3], atol=1e-9)


def test_a_metric_of_the_cache_sees_the_receivers_patched():
    model = model_of("llama")
    _, orig, new = sides()

    def attention(cache):
        return cache["pattern", 1][:, 0, -1, 1].mean()

    given = (model, orig, new, Node("z", 0), Node("q", 1, 0), attention)
    got = path_patch(*given, apply_metric_to_cache=True)
    own = attention(run_with_cache(model, orig)[1])
    other = path_patch(
        model, orig, new, Node("z", 0), Node("v", 1, 0), attention, apply_metric_to_cache=True
    )
    assert got != pytest.approx(float(own), abs=1e-6) and other == pytest.approx(float(own))


@pytest.mark.parametrize(
    ("family", "senders", "receivers", "more", "told"),
    [
        ("gpt2", IterNode("z"), IterNode("q"), {}, "cannot both iterate"),
        ("gpt2", Node("q", 0), Node("resid_post", 1), {}, "q cannot be a sender"),
        ("gpt2", Node("z", 0), Node("attn_out", 1), {}, "attn_out cannot be a receiver"),
        ("gpt2", Node("z", 0), Node("pattern", 1), {}, "pattern cannot be a receiver"),
        ("gpt2", IterNode("q"), Node("resid_post", 1), {}, "q cannot be a sender"),
        ("gpt2", Node("z", 0), IterNode("mlp_out"), {}, "mlp_out cannot be a receiver"),
        ("gpt2", Node("z", 0, seq_pos=1), Node("q", 1), {}, "positions belong to the path"),
        ("gpt2", Node("z", 0), Node("q", 1, seq_pos=1), {}, "positions belong to the path"),
        ("gpt2", Node("z", 1), Node("q", 1), {}, "there is no path"),
        ("gpt2", Node("resid_post", 0), Node("resid_pre", 1), {}, "there is no path"),
        ("neox", Node("z", 0), Node("mlp_in", 0), {}, "there is no path"),
        ("gpt2", Node("z", 0), Node("q", 1), {"seq_pos": 9}, "outside prompt 1"),
        ("gpt2", IterNode("z", 1), Node("q", 1), {"seq_pos": 1}, "not to both"),
        ("gpt2", [], Node("q", 1), {}, "at least one node as sender_nodes"),
        ("gpt2", Node("z", 0), [], {}, "at least one node as receiver_nodes"),
        ("gpt2", Node("z", 0), Node("q", 2), {}, "gpt2 has 2 layers"),
        ("gpt2", Node("z", 0), Node("q", 1), {"orig_cache": "zero"}, "not a word"),
        ("gpt2", Node("z", 0), Node("q", 1), {"new_cache": "zero"}, "must come from one"),
    ],
)
def test_wrong_combinations_are_refused(family, senders, receivers, more, told):
    model = model_of(family)
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    with pytest.raises(PatchError, match=told):
        path_patch(model, orig, new, senders, receivers, metric, **more)


def test_caches_may_be_given():
    model = model_of("gpt2")
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    ends = (Node("z", 0, 1), Node("q", 1, 0), metric)
    want = path_patch(model, orig, new, *ends)
    caches = {
        "orig_cache": run_with_cache(model, orig, "z")[1],
        "new_cache": run_with_cache(model, new, "z")[1],
    }
    assert path_patch(model, orig, None, *ends, **caches) == pytest.approx(want, abs=1e-12)
    zeros = {"blocks.0.attn.hook_z": torch.zeros(3, 6, 2, 4, dtype=torch.float64)}
    nothing = path_patch(model, orig, None, *ends, new_cache="zero")
    assert nothing == pytest.approx(path_patch(model, orig, None, *ends, new_cache=zeros))
    assert nothing != pytest.approx(want)

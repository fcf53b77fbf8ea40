from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import RAGGED, family_model, random_prompts
from transformer_lens.patching import (
    get_act_patch_direct_path,
    get_act_patch_direct_path_all_sources,
)

from discover.errors import ModelError, PatchError
from discover.labelled import LabelledList
from discover.model import Model
from discover.patching.nodes import (
    Node,
    clean_inputs,
    corrupted_inputs,
    denoising,
    direct_paths,
    kl_divergence,
    logit_difference,
    measure,
    noising,
    path_patch,
    run_with_cache,
)
from discover.patching.nodes.engine import engine_for
from discover.patching.nodes.variants import VariantRunner


@functools.lru_cache(maxsize=4)
def model_of(family: str) -> Model:
    return family_model(family)


def sides():
    prompts = random_prompts()
    return prompts, corrupted_inputs(prompts), clean_inputs(prompts)


@pytest.mark.parametrize("family", ["gpt2", "neox", "neox-sequential", "llama", "qwen3"])
def test_direct_paths_are_transformer_lenss(family):
    model = model_of(family)
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    tokens = torch.as_tensor(orig.tokens)
    caches = [
        {f"blocks.{at}.attn.hook_z": run_with_cache(model, side, "z")[1]["z", at] for at in (0, 1)}
        for side in (new, orig)
    ]
    for component in "qkv":
        ours = direct_paths(model, orig, new, metric, component=component)
        if component != "q" and model.graph.n_kv_heads < model.graph.n_heads:
            with pytest.raises(ValueError, match="GQA"):
                get_act_patch_direct_path(
                    model.bridge, tokens, *caches, metric, 0, 0, component, verbose=False
                )
            continue
        theirs = get_act_patch_direct_path_all_sources(
            model.bridge, tokens, *caches, metric, component, verbose=False
        ).numpy()
        impossible = np.isnan(ours.values)
        # TransformerLens writes 0.0 where no path can be.
        assert (theirs[impossible] == 0).all() and not (theirs[~impossible] == 0).any()
        # TransformerLens keeps results in float32, and Llama's norms and softmax in it too.
        np.testing.assert_allclose(ours.values[~impossible], theirs[~impossible], atol=1e-4)
        assert np.ptp(ours.values[~impossible]) > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "neox", "llama", "attention-only", "phi", "gemma"])
def test_direct_paths_are_skip_only_path_patches(family):
    model = model_of(family)
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    for component in "qkv":
        for at_once in (None, 1):
            # Without at_once the engine of the search computes them.
            ours = direct_paths(model, orig, new, metric, component=component, at_once=at_once)
            part = "head" if ours.shape[3] == model.graph.n_heads else "kv_head"
            assert ours.axes == ("src_layer", "src_head", "layer", part)
            for place in np.ndindex(ours.shape):
                source, target = place[:2], place[2:]
                if target[0] <= source[0]:
                    assert np.isnan(ours.values[place])
                    continue
                want = path_patch(
                    model,
                    orig,
                    new,
                    Node("z", *source),
                    Node(component, *target),
                    metric,
                    direct_includes_mlps=False,
                )
                assert ours.values[place] == pytest.approx(want, abs=1e-9)
        one = direct_paths(model, orig, new, metric, component=component, source=(0, 1))
        np.testing.assert_allclose(one.values, ours.values[0, 1], atol=1e-9)


def by_hand(model, orig, new, source, target, fold):
    """q with the source's write over the cached scale, the gains in or left out."""
    ours, theirs = (run_with_cache(model, side)[1] for side in (orig, new))
    layer, head = source
    write = (theirs["z", layer] - ours["z", layer])[:, :, head]
    write = write @ model.head_output_weights(layer)[head]
    norm = model.bridge.blocks[target[0]].ln1.original_component
    stream = ours["resid_pre", target[0]]
    centre = getattr(norm, "bias", None) is not None
    eps = getattr(norm, "eps", None) or norm.variance_epsilon
    spread = stream - stream.mean(-1, keepdim=True) if centre else stream
    scale = (spread.square().mean(-1, keepdim=True) + eps).sqrt()
    moved = (write - write.mean(-1, keepdim=True) if centre else write) / scale * norm.weight
    weight, _ = model.input_projection(target[0], "q")
    return moved @ weight[target[1]]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_frozen_norms_divide_the_change_by_the_cached_scale(family):
    model = model_of(family)
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    with pytest.warns(UserWarning, match="not folded"):
        frozen = direct_paths(model, orig, new, metric, layernorm="frozen")
    moved = by_hand(model, orig, new, (0, 1), (1, 0), fold=False)

    def put(value):
        heads = value.reshape(*value.shape[:2], model.graph.n_heads, -1).clone()
        heads[:, :, 0] += moved
        return heads.reshape(value.shape)

    logits = model.forward(torch.as_tensor(orig.tokens), None, [("blocks.1.attn.q.hook_out", put)])
    assert frozen.values[0, 1, 1, 0] == pytest.approx(float(metric(logits)), abs=1e-8)
    exact = direct_paths(model, orig, new, metric)
    assert not np.allclose(exact.values, frozen.values, atol=1e-4, equal_nan=True)
    assert (np.isnan(exact.values) == np.isnan(frozen.values)).all()


def test_frozen_and_exact_norms_agree_for_small_changes():
    model = model_of("gpt2")
    _, orig, new = sides()
    _, ours = run_with_cache(model, orig, ["resid_pre", "z"])
    _, theirs = run_with_cache(model, new, "z")
    stream = ours["resid_pre", 1]
    change = (theirs["z", 0] - ours["z", 0])[:, :, 0] @ model.head_output_weights(0)[0]
    for step in (1e-2, 1e-4):
        exact = model.normalise(1, "attn", stream + step * change)
        linear = model.normalise(1, "attn", stream) + model.frozen_norm(1, stream, step * change)
        # Only what moves the scale is missing, so the change across the stream agrees.
        centred = change - change.mean(-1, keepdim=True)
        own = stream - stream.mean(-1, keepdim=True)
        along = (centred * own).sum(-1) / own.square().sum(-1)
        missing = (
            -step
            * along[..., None]
            * (
                model.normalise(1, "attn", stream)
                - model.normalise(1, "attn", torch.zeros_like(stream))
            )
        )
        torch.testing.assert_close(exact - linear, missing, rtol=0, atol=30 * step**2)


def test_folded_norms_are_known_and_do_not_warn():
    model = model_of("gpt2")
    assert not model.norm_is_folded(0)
    fresh = family_model("gpt2")
    for block in fresh.bridge.blocks:
        torch.nn.init.ones_(block.ln1.original_component.weight)
    assert all(fresh.norm_is_folded(layer) for layer in (0, 1))
    prompts, orig, new = sides()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        direct_paths(fresh, orig, new, logit_difference(fresh, prompts), layernorm="frozen")


def test_wrong_requests_are_refused_and_other_metrics_come_back_as_lists():
    model = model_of("llama")
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    for given, told in (
        ({"component": "z"}, "end in q, k or v"),
        ({"layernorm": "linear"}, "exact' or 'frozen"),
        ({"source": (2, 0)}, "has 2 layers"),
        ({"source": (0, 9)}, "has 4 heads"),
    ):
        with pytest.raises(PatchError, match=told):
            direct_paths(model, orig, new, metric, **given)
    found = direct_paths(model, orig, new, metric.per_prompt(), source=(0, 0), component="k")
    assert isinstance(found, LabelledList) and found.at(layer=0, kv_head=0) is None
    assert found.at(layer=1, kv_head=1).shape == (3,)


@pytest.mark.parametrize("shape", ["right", "left, two answers"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "neox"])
def test_the_engine_and_one_forward_a_pair_give_the_same_shares(family, shape):
    model = model_of(family)
    prompts = random_prompts(**RAGGED[shape])
    for direction, orig, new in (
        (denoising, corrupted_inputs(prompts), clean_inputs(prompts)),
        (noising, clean_inputs(prompts), corrupted_inputs(prompts)),
    ):
        metric = direction(model, prompts)
        fast = direct_paths(model, orig, new, metric, component="v")
        slow = direct_paths(model, orig, new, metric, component="v", at_once=2)
        np.testing.assert_allclose(fast.values, slow.values, atol=1e-9)
        assert np.nanmax(np.abs(fast.values - float(measure(model, orig, metric)))) > 1e-4


def test_where_the_engine_does_not_apply_forwards_do(monkeypatch):
    model = model_of("gpt2")
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    runner = VariantRunner(model, orig, metric)
    assert engine_for(runner, new) is not None
    assert engine_for(VariantRunner(model, orig, metric.per_prompt()), new) is None
    assert engine_for(VariantRunner(model, orig, kl_divergence(model, prompts)), new) is None
    assert engine_for(VariantRunner(model, orig, "loss"), new) is None

    # A metric made from a logit difference is one no more.
    squared = replace(metric, at_answers=lambda rows: metric.at_answers(rows) ** 2)
    assert engine_for(VariantRunner(model, orig, squared), new) is None
    found = direct_paths(model, orig, new, squared, source=(0, 0)).values[1, 0]
    path = (Node("z", 0, 0), Node("q", 1, 0), squared)
    alone = path_patch(model, orig, new, *path, direct_includes_mlps=False)
    assert found == pytest.approx(alone, abs=1e-9)

    def refuse(*_given):
        raise ModelError("cannot be taken apart")

    want = direct_paths(model, orig, new, metric).values
    monkeypatch.setattr("discover.patching.nodes.engine.ExactPatcher", refuse)
    assert engine_for(runner, new) is None
    np.testing.assert_allclose(direct_paths(model, orig, new, metric).values, want, atol=1e-9)

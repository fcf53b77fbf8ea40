from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from helpers import family_model, random_prompts
from transformer_lens import patching

from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    act_patch,
    block_every,
    clean_inputs,
    corrupted_inputs,
    denoising,
    head_all_pos_every,
    head_by_pos_every,
    run_with_cache,
)


@functools.lru_cache(maxsize=4)
def model_of(family: str) -> Model:
    return family_model(family)


def sides():
    prompts = random_prompts()
    return prompts, corrupted_inputs(prompts), clean_inputs(prompts)


def their_arguments(model):
    prompts, orig, new = sides()
    metric = denoising(model, prompts)
    tokens = torch.as_tensor(orig.tokens)
    _, cache = model.bridge.run_with_cache(torch.as_tensor(new.tokens))
    return (model.bridge, tokens, cache, metric)


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox"])
def test_block_sweeps_are_transformer_lenss(family):
    model = model_of(family)
    prompts, orig, new = sides()
    theirs = patching.get_act_patch_block_every(*their_arguments(model)).numpy()
    ours = block_every(model, orig, new, denoising(model, prompts))
    for mine, yours in zip(ours.values(), theirs, strict=True):
        assert mine.axes == ("layer", "pos")
        np.testing.assert_allclose(mine.values, yours, atol=1e-4)
        assert np.ptp(mine.values) > 1e-3


@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_head_sweeps_are_transformer_lenss(family):
    model = model_of(family)
    prompts, orig, new = sides()
    metric = denoising(model, prompts)
    theirs = patching.get_act_patch_attn_head_all_pos_every(*their_arguments(model)).numpy()
    ours = head_all_pos_every(model, orig, new, metric)
    assert list(ours) == ["z", "q", "k", "v", "pattern"]
    for mine, yours in zip(ours.values(), theirs, strict=True):
        np.testing.assert_allclose(mine.values, yours, atol=1e-4)
    theirs = patching.get_act_patch_attn_head_by_pos_every(*their_arguments(model)).numpy()
    ours = head_by_pos_every(model, orig, new, metric)
    for mine, yours in zip(ours.values(), theirs, strict=True):
        assert mine.axes == ("layer", "pos", "head")
        np.testing.assert_allclose(mine.values, yours, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_single_sweeps_are_transformer_lenss(family):
    model = model_of(family)
    prompts, orig, new = sides()
    metric = denoising(model, prompts)
    arguments = their_arguments(model)
    for name, each, function in (
        ("z", None, patching.get_act_patch_attn_head_out_all_pos),
        ("q", None, patching.get_act_patch_attn_head_q_all_pos),
        ("pattern", None, patching.get_act_patch_attn_head_pattern_all_pos),
        ("z", "each", patching.get_act_patch_attn_head_out_by_pos),
        ("resid_mid", "each", patching.get_act_patch_resid_mid),
        ("resid_pre", "each", patching.get_act_patch_resid_pre),
    ):
        ours = act_patch(model, orig, IterNode(name, each), metric, new_input=new)[name].values
        np.testing.assert_allclose(ours, function(*arguments).numpy(), atol=1e-4, err_msg=name)


def test_sweeps_of_grouped_queries_count_key_value_heads():
    model = model_of("llama")
    prompts, orig, new = sides()
    found = head_all_pos_every(model, orig, new, denoising(model, prompts), at_once=5)
    assert found["k"].axes == ("layer", "kv_head") and found["k"].shape == (2, 2)
    assert found["q"].shape == (2, 4)


def test_attention_only_models_have_no_mlp_in_their_sweep():
    model = model_of("attention-only")
    prompts, orig, new = sides()
    found = block_every(model, orig, new, denoising(model, prompts))
    assert list(found) == ["resid_pre", "attn_out"]
    # The last stream before the answer is all that is read of it.
    _, cache = run_with_cache(model, new, "resid_pre")
    assert found["resid_pre"].shape == (2, cache["resid_pre", 0].shape[1])

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import family_model, random_prompts
from transformer_lens import patching

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    Node,
    act_patch,
    attribution_patch,
    block_every,
    clean_inputs,
    corrupted_inputs,
    denoising,
    head_all_pos_every,
    head_by_pos_every,
    path_patch,
    roles_of,
    run_with_cache,
)
from discover.prompts import PromptPairs


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


def test_sweeps_go_by_role_where_positions_differ_from_prompt_to_prompt():
    model = model_of("gpt2")
    prompts = random_prompts((6, 4, 5))
    named = PromptPairs(
        replace(pair, roles={"first": 0, "end": len(pair.clean) - 1}) for pair in prompts
    )
    metric = denoising(model, named)
    orig, new = corrupted_inputs(named), clean_inputs(named)
    assert roles_of(named) == {"first": [0, 0, 0], "end": [5, 3, 4]}
    found = block_every(model, orig, new, metric, seq_pos=roles_of(named), layers=[1])
    assert found["resid_pre"].labels == {"layer": (1,), "pos": ("first", "end")}
    for role, at in roles_of(named).items():
        alone = act_patch(model, orig, Node("mlp_out", 1, seq_pos=at), metric, new_input=new)
        assert found["mlp_out"].sel(layer=1, pos=role).values == pytest.approx(alone, abs=1e-9)
    by_role = IterNode("z", roles_of(named))
    paths = path_patch(model, orig, new, by_role, Node("resid_post", 1), metric)["z"]
    alone = path_patch(
        model, orig, new, Node("z", 0, 1), Node("resid_post", 1), metric, seq_pos=[5, 3, 4]
    )
    assert paths.sel(layer=0, pos="end", head=1).values == pytest.approx(alone, abs=1e-9)
    whole = attribution_patch(model, orig, new, IterNode("z", [5, 3, 4]), metric)["z"]
    parts = attribution_patch(model, orig, new, by_role, metric)["z"]
    np.testing.assert_allclose(parts.sel(pos="end").values, whole.values, atol=1e-12)
    heads = head_by_pos_every(model, orig, new, metric, seq_pos=roles_of(named), layers=[0])
    assert heads["pattern"].shape == (1, 2, 2)
    for wrong, told in (({}, "names no positions"), ({"end": 9}, "outside prompt 1")):
        with pytest.raises(PatchError, match=told):
            block_every(model, orig, new, metric, seq_pos=wrong)
    with pytest.raises(PatchError, match="no role in common"):
        roles_of(prompts)

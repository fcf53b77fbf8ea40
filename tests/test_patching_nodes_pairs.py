from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import RAGGED, family_model, random_prompts
from helpers_hooks import patched

from discover.errors import PatchError, PromptError
from discover.model import Model
from discover.patching.nodes import (
    clean_inputs,
    corrupted_inputs,
    logit_difference,
    measure,
    patch_heads,
)
from discover.prompts import PromptPairs


@functools.lru_cache(maxsize=4)
def model_of(family: str) -> Model:
    return family_model(family)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("component", ["z", "pattern", "k"])
@pytest.mark.parametrize("shape", RAGGED)
def test_effects_are_each_pairs_share_of_what_was_lost(family, component, shape):
    model = model_of(family)
    prompts = random_prompts(**RAGGED[shape])
    orig, new = corrupted_inputs(prompts), clean_inputs(prompts)
    metric = logit_difference(model, prompts).per_prompt()
    for seq_pos in (None, 1, "end"):
        found = patch_heads(model, prompts, component, seq_pos=seq_pos)
        clean, corrupted = (measure(model, side, metric).numpy() for side in (new, orig))
        np.testing.assert_allclose(found.clean.values, clean, atol=1e-9)
        np.testing.assert_allclose(found.corrupted.values, corrupted, atol=1e-9)
        at = [len(pair.clean) - 1 for pair in prompts] if seq_pos == "end" else seq_pos
        mask = torch.as_tensor(orig.mask(at))
        for layer, head in np.ndindex(found.effects.shape):
            value = metric(patched(model, orig, new, [(component, layer, head)], mask)).numpy()
            share = (value - corrupted) / (clean - corrupted)
            np.testing.assert_allclose(found.patched.values[layer, head], value, atol=1e-9)
            np.testing.assert_allclose(found.by_pair.values[layer, head], share, atol=1e-8)
            assert found.effects.values[layer, head] == pytest.approx(share.mean(), abs=1e-8)
    assert found.top(1)[0].value == found.effects.values.flat[np.abs(found.effects.values).argmax()]
    assert len(found.above(-1)) == found.effects.values.size
    assert found.terminal() and found.heatmap().figure is not None


def test_a_pair_that_lost_nothing_is_nan_with_a_warning_and_counts_in_no_mean():
    model = model_of("gpt2")
    prompts = random_prompts()
    same = replace(prompts[1], corrupted=prompts[1].clean)
    mixed = PromptPairs([prompts[0], same, prompts[2]])
    with pytest.warns(UserWarning, match=r"1 of 3 prompt pairs .* pair 2"):
        found = patch_heads(model, mixed)
    assert np.isnan(found.by_pair.values[..., 1]).all()
    others = found.by_pair.values[..., [0, 2]]
    np.testing.assert_allclose(found.effects.values, others.mean(-1))
    with pytest.warns(UserWarning, match="3 of 3"):
        nothing = patch_heads(model, PromptPairs([same] * 3))
    assert np.isnan(nothing.effects.values).all() and nothing.top() == []


def test_roles_metrics_and_components_that_cannot_be_are_refused():
    model = model_of("gpt2")
    prompts = random_prompts()
    for given, told in (
        ({"seq_pos": "S2"}, "no role 'S2'"),
        ({"component": "mlp_out"}, "no part of a head"),
        ({"metric": "denoising"}, "no metric of single pairs"),
        ({"metric": "accuracy"}, "no metric of single pairs"),
        ({"seq_pos": 6}, "outside prompt 1"),
    ):
        with pytest.raises(PatchError, match=told):
            patch_heads(model, prompts, **given)
    roles = PromptPairs(replace(pair, roles={"S2": 2}) for pair in prompts)
    by_role = patch_heads(model, roles, seq_pos="S2").effects.values
    np.testing.assert_array_equal(by_role, patch_heads(model, prompts, seq_pos=2).effects.values)
    bare = PromptPairs(replace(pair, correct=()) for pair in prompts)
    with pytest.raises(PromptError, match="no correct answer"):
        patch_heads(model, bare)
    long = random_prompts((60,))
    with pytest.raises(PromptError, match="takes at most"):
        patch_heads(model, long)

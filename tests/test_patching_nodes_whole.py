"""IterNode(whole=True): all heads or neurons of a layer together."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from helpers import RAGGED, family_model, random_prompts

from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    Node,
    act_patch,
    attribution_patch,
    clean_inputs,
    corrupted_inputs,
    denoising,
    path_patch,
)

COMPONENTS = ("z", "k", "pattern", "post", "resid_pre")


@functools.cache
def model_of(family: str) -> Model:
    return family_model(family)


def sides():
    prompts = random_prompts(**RAGGED["right"])
    return prompts, corrupted_inputs(prompts), clean_inputs(prompts)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_whole_layer_is_patched_as_by_a_node_without_heads(family):
    model, (prompts, orig, new) = model_of(family), sides()
    metric = denoising(model, prompts)
    found = act_patch(model, orig, IterNode(COMPONENTS, whole=True), metric, new_input=new)
    for name in COMPONENTS:
        assert found[name].axes == ("layer",)
        for layer in range(model.graph.n_layers):
            alone = act_patch(model, orig, Node(name, layer), metric, new_input=new)
            assert found[name].values[layer] == pytest.approx(alone, abs=1e-9)
    by_head = act_patch(model, orig, IterNode("z"), metric, new_input=new)["z"]
    assert not np.allclose(by_head.values[:, 0], found["z"].values, atol=1e-6)


def test_a_whole_layer_is_a_sender():
    model, (prompts, orig, new) = model_of("gpt2"), sides()
    metric, end = denoising(model, prompts), Node("resid_post", 1)
    found = path_patch(model, orig, new, IterNode("z", whole=True), end, metric)["z"]
    alone = path_patch(model, orig, new, Node("z", 0), end, metric)
    assert found.values[0] == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize("seq_pos", [None, "each"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_estimate_of_a_whole_layer_is_the_sum_of_its_parts(family, seq_pos):
    model, (prompts, orig, new) = model_of(family), sides()
    metric = denoising(model, prompts)
    together = IterNode(COMPONENTS, seq_pos, whole=True)
    parts = attribution_patch(model, orig, new, IterNode(COMPONENTS, seq_pos), metric)
    whole = attribution_patch(model, orig, new, together, metric)
    for name in COMPONENTS:
        kept = ("layer",) if seq_pos is None else ("layer", "pos")
        assert whole[name].axes == kept
        expected = parts[name].sum([axis for axis in parts[name].axes if axis not in kept])
        np.testing.assert_allclose(whole[name].values, expected.values, atol=1e-12)
        assert np.abs(expected.values).max() > 1e-6

from __future__ import annotations

import functools

import pytest
import torch
from families import CONFIGS, MORE
from helpers import family_model, random_prompts

from discover.errors import ModelError
from discover.model import Model
from discover.patching.nodes import IterNode, Node, act_patch, clean_inputs, corrupted_inputs
from discover.patching.nodes.measures import denoising
from discover.patching.nodes.variants import VariantRunner


@functools.lru_cache(maxsize=2)
def model_of(family: str, dtype: str = "float64") -> Model:
    return family_model(family, dtype)


@pytest.mark.parametrize("family", [*CONFIGS, *MORE])
def test_a_forward_may_start_at_any_layer(family):
    model = model_of(family)
    inputs = clean_inputs(random_prompts((6, 4, 5), side="left"))
    tokens, padded = torch.as_tensor(inputs.tokens), inputs.padded()
    runner = VariantRunner(model, inputs, lambda logits: logits)
    real = torch.as_tensor(inputs.attention)
    whole = model.forward(tokens, padded)[real]
    for layer, stream in enumerate(runner.streams):
        again = model.forward(tokens, padded, start=(layer, stream))[real]
        assert torch.equal(again, whole)
        other = stream + torch.randn(stream.shape, generator=torch.Generator().manual_seed(0))
        assert not torch.allclose(model.forward(tokens, padded, start=(layer, other))[real], whole)
    assert not any("forward" in block.__dict__ for block in model.bridge.blocks)
    with pytest.raises(ModelError, match="no layer 9"):
        model.forward(tokens, padded, start=(9, runner.streams[0]))
    with pytest.raises(ModelError, match="did not fire"):
        model.forward(tokens, padded, [("blocks.0.hook_in", lambda _: None)], start=(1, stream))
    assert torch.equal(model.forward(tokens, padded)[real], whole)


def test_float32_batches_agree_with_one_at_a_time_within_rounding():
    model = model_of("llama", "float32")
    prompts = random_prompts((6, 4, 5))
    orig, new = corrupted_inputs(prompts), clean_inputs(prompts)
    metric = denoising(model, prompts)
    for name in ("z", "pattern", "mlp_out"):
        several = act_patch(model, orig, IterNode(name, "each"), metric, new_input=new)[name]
        one = act_patch(model, orig, IterNode(name, "each"), metric, new_input=new, at_once=1)[name]
        assert abs(several.values - one.values).max() < 2e-5


def test_variants_come_back_in_the_order_they_were_asked_for():
    model = model_of("gpt2")
    prompts = random_prompts()
    orig, new = corrupted_inputs(prompts), clean_inputs(prompts)
    metric = denoising(model, prompts)
    deep_first = IterNode(["resid_post", "resid_pre"], layers=[1, 0])
    found = act_patch(model, orig, deep_first, metric, new_input=new)
    assert found["resid_post"].labels["layer"] == (1, 0)
    for name in ("resid_post", "resid_pre"):
        for row, layer in enumerate((1, 0)):
            alone = act_patch(model, orig, Node(name, layer), metric, new_input=new)
            assert found[name].values[row] == pytest.approx(alone, abs=1e-12)


def test_many_variants_share_a_forward_and_none_starts_below_its_own_layer(monkeypatch):
    model = model_of("gpt2")
    prompts = random_prompts()
    orig, new = corrupted_inputs(prompts), clean_inputs(prompts)
    metric = denoising(model, prompts)
    starts = []
    forward = model.forward

    def spy(tokens, *rest, start=None, **more):
        if start is not None:
            starts.append((start[0], len(tokens) // 3))
        return forward(tokens, *rest, start=start, **more)

    monkeypatch.setattr(model, "forward", spy)
    act_patch(model, orig, IterNode("z"), metric, new_input=new)
    assert starts == [(0, 4)]
    starts.clear()
    act_patch(model, orig, IterNode("z"), metric, new_input=new, at_once=2)
    assert starts == [(0, 2), (1, 2)]
    starts.clear()
    act_patch(model, orig, Node("resid_post", 1), metric, new_input=new)
    assert starts == [(2, 1)]

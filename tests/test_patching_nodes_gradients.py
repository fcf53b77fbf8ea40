from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from families import CONFIGS, MORE
from helpers import RAGGED, family_model, random_prompts
from helpers_hooks import POINTS, point, record, run

from discover.errors import ModelError, PatchError
from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    act_patch,
    attribution_agreement,
    attribution_patch,
    clean_inputs,
    corrupted_inputs,
    denoising,
    logit_difference,
)
from discover.patching.nodes.cache import all_components

FAMILIES = [*CONFIGS, *MORE]


@functools.lru_cache(maxsize=4)
def model_of(family: str) -> Model:
    return family_model(family)


def sides(shape: str = "equal"):
    prompts = random_prompts(**RAGGED[shape])
    return prompts, corrupted_inputs(prompts), clean_inputs(prompts)


@pytest.mark.parametrize("family", FAMILIES)
def test_estimates_are_derivatives_on_the_way_to_the_new_activation(family):
    """Against central differences of plainly hooked runs, for one part of every component."""
    model = model_of(family)
    prompts, orig, new = sides("left, two answers")
    metric = logit_difference(model, prompts)
    names = [n for n in all_components(model) if n in POINTS]
    if family in ("gptj", "opt", "gpt-neo", "xglm"):
        with pytest.raises(ModelError, match="do not depend on it"):
            attribution_patch(model, orig, new, IterNode("pattern"), metric)
        names.remove("pattern")
    found = attribution_patch(model, orig, new, IterNode(names, "each", layers=[1]), metric)
    rng = np.random.default_rng(0)
    for name in names:
        array = found[name].values
        at = tuple(rng.integers(0, size) for size in array.shape)
        place, pos = point(name, 1), torch.as_tensor(orig.nth(int(at[1])))
        own, other = (record(model, side, [place])[place] for side in (orig, new))
        chosen = torch.zeros_like(own, dtype=torch.bool)
        index = int(at[2]) if len(at) == 3 else slice(None)
        if name in ("pattern", "attn_scores"):
            chosen[:, index] = pos[:, None, None] if isinstance(index, slice) else pos[..., None]
        elif own.ndim == 4:
            chosen[:, :, index] = (
                pos[..., None] if not isinstance(index, slice) else pos[..., None, None]
            )
        else:
            flat = own.shape[-1] // array.shape[2] if name == "z" and len(at) == 3 else 1
            part = slice(index * flat, (index + 1) * flat) if len(at) == 3 else index
            chosen[..., part] = pos[..., None]
        step = (other - own) * chosen

        def shifted(by, step=step, place=place):
            return float(metric(run(model, orig, [(place, lambda value: value + by * step)])))

        slope = (shifted(1e-4) - shifted(-1e-4)) / 2e-4
        assert array[at] == pytest.approx(slope, abs=1e-5, rel=1e-4), name


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_positions_sum_to_the_whole_and_nothing_new_changes_nothing(family):
    model = model_of(family)
    prompts, orig, new = sides("right")
    metric = logit_difference(model, prompts)
    names = ["z", "k", "pattern", "resid_mid", "post", "mlp_out"]
    whole = attribution_patch(model, orig, new, IterNode(names), metric)
    each = attribution_patch(model, orig, new, IterNode(names, "each"), metric)
    for name in names:
        np.testing.assert_allclose(each[name].sum("pos").values, whole[name].values, atol=1e-9)
        assert (
            whole[name].axes
            == act_patch(model, orig, IterNode(name), metric, new_input=new)[name].axes
        )
    fixed = attribution_patch(model, orig, new, IterNode("z", 2), metric)["z"]
    np.testing.assert_allclose(fixed.values, each["z"].values[:, 2], atol=1e-12)
    same = attribution_patch(model, orig, orig, IterNode(names), metric)
    assert all((same[name].values == 0).all() for name in names)


def test_small_changes_agree_with_exact_patching():
    model = model_of("llama")
    prompts, orig, new = sides()
    metric = denoising(model, prompts)
    agreement = attribution_agreement(model, orig, new, IterNode(["z", "mlp_out"]), metric)
    estimate = attribution_patch(model, orig, new, IterNode(["z", "mlp_out"]), metric)
    exact = act_patch(model, orig, IterNode(["z", "mlp_out"]), metric, new_input=new)
    for name in ("z", "mlp_out"):
        # Denoising is 0 at the original run, so that values are effects.
        gap = np.abs(estimate[name].values - exact[name].values).mean()
        assert agreement[name].mean_absolute_error == pytest.approx(gap, abs=1e-9)
        assert -1 <= agreement[name].spearman <= 1
    worst = agreement["z"].worst[0]
    assert abs(worst.estimate - worst.exact) == pytest.approx(
        np.abs(estimate["z"].values - exact["z"].values).max(), abs=1e-9
    )


def test_wrong_requests_are_refused_and_gradients_leave_nothing_behind():
    model = model_of("gpt2")
    prompts, orig, new = sides()
    metric = logit_difference(model, prompts)
    for nodes, read, told in (
        (IterNode("q_input"), metric, "no gradient is taken at q_input"),
        (IterNode("mlp_in"), metric, "no gradient is taken at mlp_in"),
        ("z", metric, "for an IterNode"),
        (IterNode("z"), metric.per_prompt(), "one number"),
        (IterNode("z"), lambda logits: float(logits.detach().sum()), "one number"),
    ):
        with pytest.raises(PatchError, match=told):
            attribution_patch(model, orig, new, nodes, read)
    loss = attribution_patch(model, orig, new, IterNode("z"), "loss")["z"]
    assert np.isfinite(loss.values).all() and np.ptp(loss.values) > 0
    assert all(parameter.grad is None for parameter in model.bridge.parameters())
    assert torch.is_grad_enabled()

"""Attribution scores against finite differences of the reference, and what they must refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import CONFIGS
from helpers import RAGGED, family_model, random_prompts

from discover.attribution import attribute, draft_of
from discover.errors import SpecError
from discover.methods import METHODS
from discover.metrics import damage
from discover.model import Model
from discover.model.senders import run_senders
from discover.patching.reference import ReferencePatcher
from discover.prompts import PromptPairs

STEP = 1e-5


def differences(model: Model, prompts: PromptPairs, ablation: str, edges: list) -> list[float]:
    """d damage / d (share of the ablated value that one edge carries), by central differences."""
    patcher = ReferencePatcher(model, prompts, "logit_diff", ablation)
    runner = patcher.runner
    clean, _ = run_senders(model, runner.clean, runner.padded)
    found = []
    for edge in edges:
        removed = runner.nothing_removed()
        row = runner.receiver_index[edge.receiver]
        removed[row, model.graph.sender_index[edge.sender]] = True
        ends = []
        for share in (STEP, -STEP):
            logits = runner.logits(removed, clean + share * (runner.ablated - clean))
            ends.append(damage(patcher.metric, runner.full_logits, logits, prompts))
        found.append((ends[0] - ends[1]) / (2 * STEP))
    return found


@pytest.mark.parametrize("shape", RAGGED)
@pytest.mark.parametrize("family", CONFIGS)
def test_eap_is_the_derivative_of_every_kind_of_edge(family: str, shape: str) -> None:
    model, prompts = family_model(family), random_prompts(**RAGGED[shape])
    scores = attribute(model, prompts)
    edges = model.graph.edges
    places = range(0, len(edges), max(1, len(edges) // 40))
    expected = differences(model, prompts, "resample", [edges[i] for i in places])
    found = scores[list(places)]
    assert np.abs(found).max() > 1e-3, "scores that are all zero would prove nothing"
    assert found == pytest.approx(expected, abs=1e-8 * max(1, np.abs(found).max()))


def test_zero_ablation_and_chunks_of_prompts() -> None:
    model, prompts = family_model("llama"), random_prompts((6, 4, 5, 7, 3))
    scores = attribute(model, prompts, ablation="zero")
    edges = list(model.graph.edges)
    expected = differences(model, prompts, "zero", edges[::17])
    assert scores[::17] == pytest.approx(expected, abs=1e-7)
    assert attribute(model, prompts, ablation="zero", chunk=2) == pytest.approx(scores, abs=1e-12)


def test_eap_ig_adds_up_to_the_whole_damage() -> None:
    """On the edges from the embedding the mean gradient integrates to the damage of corruption."""
    model, prompts = family_model("gpt2"), random_prompts((5, 5, 5))
    scores = attribute(model, prompts, "kl", method="eap-ig", steps=400)
    patcher = ReferencePatcher(model, prompts, "kl", "resample")
    runner = patcher.runner
    whole = damage(patcher.metric, runner.full_logits, runner.corrupted_logits, prompts)
    from_embedding = sum(
        score
        for edge, score in zip(model.graph.edges, scores, strict=True)
        if edge.sender.kind == "embed"
    )
    assert from_embedding == pytest.approx(whole, rel=0.02)
    assert abs(whole) > 0.1


def test_one_step_of_eap_ig_is_eap() -> None:
    model, prompts = family_model("qwen2"), random_prompts((6, 6))
    assert attribute(model, prompts, method="eap-ig", steps=1) == pytest.approx(
        attribute(model, prompts), abs=1e-12
    )


def test_equal_prompts_score_zero() -> None:
    model = family_model("neox")
    pairs = random_prompts((5, 5))
    same = PromptPairs([type(p)(p.clean, p.clean, p.correct, p.incorrect) for p in pairs])
    assert not attribute(model, same).any()


def test_draft_keeps_what_reaches_tau() -> None:
    model = family_model("gpt2")
    scores = attribute(model, random_prompts((6, 6)))
    draft = draft_of(model.graph.edges, scores, 0.01)
    assert 0 < len(draft) < len(model.graph)
    assert {e for e, s in zip(model.graph.edges, scores, strict=True) if s >= 0.01} == draft


def test_leaves_gradients_and_hooks_as_found() -> None:
    model, prompts = family_model("gpt2"), random_prompts((6, 6))
    before = model.forward(torch.as_tensor(prompts.padded().clean))
    attribute(model, prompts)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        again = attribute(model, prompts)
        assert not torch.is_grad_enabled()
    assert again == pytest.approx(attribute(model, prompts))
    assert torch.equal(before, model.forward(torch.as_tensor(prompts.padded().clean)))
    assert not any(p.grad is not None for p in model.bridge.parameters())


def test_refuses_what_says_nothing() -> None:
    model, prompts = family_model("gpt2"), random_prompts((6,))
    with pytest.raises(SpecError, match="gradient is zero.*eap-ig"):
        attribute(model, prompts, "kl")
    with pytest.raises(SpecError, match="unknown method 'x'; choose one of " + ", ".join(METHODS)):
        attribute(model, prompts, method="x")
    with pytest.raises(SpecError, match="steps must be at least 1"):
        attribute(model, prompts, method="eap-ig", steps=0)

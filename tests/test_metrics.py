"""Metrics against their formulas written out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import random_prompts

from discover.errors import PromptError, SpecError
from discover.metrics import damage, make_metric, per_prompt
from discover.prompts import PromptPair, PromptPairs
from discover.spec import METRICS

PROMPTS = PromptPairs(
    [
        PromptPair((0, 1), (1, 1), (0,), (1,), answer_positions=(0, 1)),
        PromptPair((0, 1), (1, 1), (1, 2), (0,)),
    ]
)
FULL = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0], [0.5, 0.5, -1.0]])
OTHER = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0], [1.5, 0.0, -2.0]])


def softmax(row):
    total = sum(math.exp(x) for x in row)
    return [math.exp(x) / total for x in row]


def test_kl_is_full_against_circuit_in_nats():
    metric = make_metric("kl", PROMPTS, 3)
    expected = [
        sum(p * math.log(p / q) for p, q in zip(softmax(a), softmax(b), strict=True))
        for a, b in zip(FULL.tolist(), OTHER.tolist(), strict=True)
    ]
    found = metric.per_answer(FULL, OTHER)
    assert found.tolist() == pytest.approx(expected, abs=1e-7)
    assert found.tolist() != pytest.approx(metric.per_answer(OTHER, FULL).tolist(), abs=1e-3)
    assert damage(metric, FULL, OTHER, PROMPTS) == pytest.approx(
        ((expected[0] + expected[1]) / 2 + expected[2]) / 2
    )


def test_logit_difference_is_the_drop_and_averages_answers():
    metric = make_metric("logit_diff", PROMPTS, 3)
    full = [1.0 - 0.0, 0.0 - 3.0, (0.5 - 1.0) / 2 - 0.5]
    other = [0.0 - 1.0, 0.0 - 3.0, (0.0 - 2.0) / 2 - 1.5]
    expected = [a - b for a, b in zip(full, other, strict=True)]
    assert metric.per_answer(FULL, OTHER).tolist() == pytest.approx(expected)
    assert metric.per_answer(FULL, OTHER)[0] > 0


def test_l2_is_the_squared_distance():
    metric = make_metric("l2", PROMPTS, 3)
    assert metric.per_answer(FULL, OTHER).tolist() == pytest.approx([2.0, 0.0, 2.25])


@pytest.mark.parametrize("name", METRICS)
def test_unit_is_declared_and_no_damage_to_itself(name):
    metric = make_metric(name, PROMPTS, 3)
    assert metric.unit == METRICS[name]
    assert metric.higher_is_worse
    assert damage(metric, FULL, FULL, PROMPTS) == 0
    assert metric.per_answer(FULL, OTHER).dtype == torch.float64


def test_mean_is_over_a_prompts_answers_first():
    values = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)
    assert per_prompt(values, PROMPTS).tolist() == [2.0, 10.0]


def test_kl_keeps_differences_that_float32_would_lose():
    full = torch.randn(1, 50000, generator=torch.Generator().manual_seed(0))
    other = full.clone()
    other[0, 7] += 1e-3
    exact = make_metric("kl", random_prompts((3,)), 50000).per_answer(full, other)
    p = full.double().softmax(-1)[0, 7]
    expected = torch.log1p(p * math.expm1(other[0, 7] - full[0, 7])) - p * (
        other[0, 7].double() - full[0, 7]
    )
    assert float(exact) == pytest.approx(float(expected), rel=1e-3)


def test_metrics_that_cannot_be_are_refused():
    bare = PromptPairs([PromptPair((1,), (2,))])
    with pytest.raises(PromptError, match="prompt 1 has no correct answer"):
        make_metric("logit_diff", bare, 3)
    with pytest.raises(SpecError, match="always zero on a model with a single output"):
        make_metric("kl", bare, 1)
    with pytest.raises(SpecError, match="unknown metric 'accuracy'"):
        make_metric("accuracy", bare, 3)

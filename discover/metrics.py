"""Metrics: logits at the answer positions -> damage per prompt, unit and direction declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from discover.errors import PromptError, SpecError
from discover.prompts import PromptPairs


class Metric(Protocol):
    """Damage of a circuit's output against the full model's; zero for the full model itself."""

    name: str
    unit: str
    higher_is_worse: bool

    def per_answer(
        self, full: Float[Tensor, "answer d_vocab"], circuit: Float[Tensor, "answer d_vocab"]
    ) -> Float[Tensor, " answer"]:
        """Damage at each answer position, in float64."""
        ...


@dataclass(frozen=True)
class KLDivergence:
    """`D(full || circuit) = sum_v p_full(v) (log p_full(v) - log p_circuit(v))`, in nats."""

    name = "kl"
    unit = "nats"
    higher_is_worse = True

    def per_answer(
        self, full: Float[Tensor, "answer d_vocab"], circuit: Float[Tensor, "answer d_vocab"]
    ) -> Float[Tensor, " answer"]:
        """KL at each answer position; the softmax is taken in float64, where 1e-7 is not noise."""
        log_p = full.double().log_softmax(-1)
        log_q = circuit.double().log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)


@dataclass(frozen=True)
class L2Distance:
    """`||logits_full - logits_circuit||^2`, summed over the output axis, in squared logit units."""

    name = "l2"
    unit = "squared logits"
    higher_is_worse = True

    def per_answer(
        self, full: Float[Tensor, "answer d_vocab"], circuit: Float[Tensor, "answer d_vocab"]
    ) -> Float[Tensor, " answer"]:
        """Squared Euclidean distance of the outputs at each answer position."""
        return (full.double() - circuit.double()).square().sum(-1)


class LogitDifference:
    """`LD_full - LD_circuit` with `LD = mean logit(correct) - mean logit(incorrect)`, in logits.

    Positive: the circuit does worse than the model. Negative: it does better.

    Raises:
        PromptError: a prompt lacks correct or incorrect answers.
    """

    name = "logit_diff"
    unit = "logits"
    higher_is_worse = True

    def __init__(self, prompts: PromptPairs, d_vocab: int) -> None:
        rows: list[Tensor] = []
        for number, pair in enumerate(prompts, 1):
            if not (pair.correct and pair.incorrect):
                raise PromptError(
                    f"prompt {number} has no {'correct' if not pair.correct else 'incorrect'} "
                    "answer, which the metric logit_diff needs; give answers or use --metric kl"
                )
            weights = torch.zeros(d_vocab, dtype=torch.float64)
            weights[list(pair.correct)] = 1 / len(pair.correct)
            weights[list(pair.incorrect)] = -1 / len(pair.incorrect)
            rows += [weights] * len(pair.answer_positions)
        self._weights = torch.stack(rows)
        self.prompts = prompts

    def difference(self, logits: Float[Tensor, "answer d_vocab"]) -> Float[Tensor, " answer"]:
        """The logit difference itself at each answer position (higher is better)."""
        return (logits.double() * self._weights.to(logits.device)).sum(-1)

    def per_answer(
        self, full: Float[Tensor, "answer d_vocab"], circuit: Float[Tensor, "answer d_vocab"]
    ) -> Float[Tensor, " answer"]:
        """Drop in logit difference at each answer position."""
        return self.difference(full) - self.difference(circuit)


def make_metric(name: str, prompts: PromptPairs, d_vocab: int) -> Metric:
    """The metric of that name for these prompts.

    Raises:
        SpecError: there is no such metric.
        PromptError: the metric needs answers that the prompts lack.
    """
    if name == "kl":
        if d_vocab < 2:
            raise SpecError("KL is always zero on a model with a single output; use --metric l2")
        return KLDivergence()
    if name == "l2":
        return L2Distance()
    if name == "logit_diff":
        return LogitDifference(prompts, d_vocab)
    raise SpecError(f"unknown metric {name!r}; choose kl, logit_diff or l2")


def per_prompt(values: Float[Tensor, " answer"], prompts: PromptPairs) -> Float[Tensor, " batch"]:
    """Mean over each prompt's answer positions."""
    counts = [len(pair.answer_positions) for pair in prompts]
    return torch.stack([part.mean() for part in torch.split(values, counts)])


def damage(
    metric: Metric,
    full: Float[Tensor, "answer d_vocab"],
    circuit: Float[Tensor, "answer d_vocab"],
    prompts: PromptPairs,
) -> float:
    """Mean over a prompt's answer positions, then over prompts, summed in float64."""
    return float(per_prompt(metric.per_answer(full, circuit), prompts).mean())

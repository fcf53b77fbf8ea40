"""Damage from the final residual stream: only the answer positions, only the logits asked for."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from discover.errors import SpecError
from discover.metrics import LogitDifference
from discover.model import Model
from discover.prompts import PromptPairs

Final = Float[Tensor, "batch answer d_model"]

CHUNK = 1 << 24
"""How many logits are held at once."""


class Damage(Protocol):
    """Damage of variants from their final streams; prepared from the full model's."""

    def __call__(self, streams: Float[Tensor, "k batch answer d_model"]) -> list[float]:
        """Damage of each variant: mean over a prompt's answers, then over prompts."""
        ...

    def rebase(self, stream: Final) -> None:
        """Hear of the committed network's final stream."""
        ...


def make_damage(metric: str, model: Model, prompts: PromptPairs, full: Final) -> Damage:
    """The damage of that name; `full` is the full model's final stream.

    Raises:
        SpecError: there is no such metric, or it says nothing about this model.
        PromptError: the metric needs answers that the prompts lack.
    """
    if metric == "logit_diff":
        return LogitDifferenceDamage(model, prompts, full)
    if metric == "kl":
        if model.d_vocab < 2:
            raise SpecError("KL is always zero on a model with a single output; use --metric l2")
        return DistributionDamage(model, prompts, full, kl=True)
    if metric == "l2":
        return DistributionDamage(model, prompts, full, kl=False)
    raise SpecError(f"unknown metric {metric!r}; choose kl, logit_diff or l2")


def _weights(prompts: PromptPairs, width: int) -> Float[Tensor, "batch answer"]:
    """Each answer's weight in the mean; zero for repeated (padding) answers."""
    weights = torch.zeros(len(prompts), width, dtype=torch.float64)
    for row, pair in enumerate(prompts):
        n = len(pair.answer_positions)
        weights[row, :n] = 1 / (n * len(prompts))
    return weights


class _Unembedding:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.weight, self.bias = model.unembedding()
        self.cap = model.logit_soft_cap

    def logits(self, streams: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Logits of final streams."""
        out = self.model.final_norm(streams) @ self.weight.T
        return self.capped(out if self.bias is None else out + self.bias)

    def capped(self, logits: Tensor) -> Tensor:
        return self.cap * torch.tanh(logits / self.cap) if self.cap > 0 else logits


class DistributionDamage:
    """KL in nats or squared L2, from all logits at the answer positions."""

    def __init__(self, model: Model, prompts: PromptPairs, full: Final, kl: bool) -> None:
        self.unembedding = _Unembedding(model)
        self.weights = _weights(prompts, full.shape[1]).to(full.device)
        self.kl = kl
        logits = self.unembedding.logits(full).double()
        self.full = logits.log_softmax(-1) if kl else logits

    def __call__(self, streams: Float[Tensor, "k batch answer d_model"]) -> list[float]:
        """Damage of each variant, in chunks of variants."""
        per_variant = self.full.shape[0] * self.full.shape[1] * self.full.shape[2]
        size = max(1, CHUNK // per_variant)
        return [d for part in torch.split(streams, size) for d in self._some(part)]

    def _some(self, streams: Tensor) -> list[float]:
        logits = self.unembedding.logits(streams).double()
        if self.kl:
            values = (self.full.exp() * (self.full - logits.log_softmax(-1))).sum(-1)
        else:
            values = (self.full - logits).square().sum(-1)
        found: list[float] = (values * self.weights).sum((-1, -2)).tolist()
        return found

    def rebase(self, stream: Final) -> None:
        """Nothing is kept of the committed network."""


class LogitDifferenceDamage:
    """Drop in `mean logit(correct) - mean logit(incorrect)`, from those columns alone."""

    def __init__(self, model: Model, prompts: PromptPairs, full: Final) -> None:
        self.unembedding = _Unembedding(model)
        self.weights = _weights(prompts, full.shape[1]).to(full.device)
        LogitDifference(prompts, model.d_vocab)  # refuses prompts without answers
        width = max(len(p.correct) + len(p.incorrect) for p in prompts)
        self.columns = torch.zeros(len(prompts), width, dtype=torch.long, device=full.device)
        self.signs = torch.zeros(len(prompts), width, dtype=torch.float64, device=full.device)
        for row, pair in enumerate(prompts):
            for at, token in enumerate(pair.correct + pair.incorrect):
                right = at < len(pair.correct)
                self.columns[row, at] = token
                self.signs[row, at] = 1 / len(pair.correct) if right else -1 / len(pair.incorrect)
        self.rows = self.unembedding.weight[self.columns].double()
        bias = self.unembedding.bias
        self.bias = 0 if bias is None else bias[self.columns].double()[:, None]
        self.full = self._differences(full[None])[0]

    def _differences(self, streams: Tensor) -> Float[Tensor, "k batch answer"]:
        x = self.unembedding.model.final_norm(streams).double()
        logits = torch.einsum("kbad,bcd->kbac", x, self.rows) + self.bias
        return (self.unembedding.capped(logits) * self.signs[:, None]).sum(-1)

    def __call__(self, streams: Float[Tensor, "k batch answer d_model"]) -> list[float]:
        """Damage of each variant."""
        drop = self.full - self._differences(streams)
        found: list[float] = (drop * self.weights).sum((-1, -2)).tolist()
        return found

    def rebase(self, stream: Final) -> None:
        """Nothing is kept of the committed network."""

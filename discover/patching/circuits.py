"""Whole circuits, one plain forward each, with fewer sums than the reference.

The reference adds up every receiver's input from all its senders. Here an input is the stream as
all live senders make it, less what the removed edges change, or the stream as all ablated senders
make it, plus what the kept edges change: whichever is fewer. The tests hold the two equal.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from discover.ablation import Ablation, carried_by
from discover.circuit import Circuit
from discover.errors import SpecError
from discover.graph import Receiver
from discover.model import Model, logits_at
from discover.model.senders import SenderOutputs, empty_outputs, sender_hooks
from discover.patching.damage import LOGIT
from discover.patching.memory import SHARE, free_memory
from discover.patching.reference import (
    Correction,
    ReferenceRunner,
    Removed,
)
from discover.prompts import PromptPairs
from discover.sizes import show_size

__all__ = ["CircuitRunner", "fitting_prompts"]

COPIES = 5
"""How many times every sender's output is held at once for the prompts that are being run, at most,
the model's own work included and what removed edges carry apart."""

FEW = 0.25
"""Below this share of its senders a place's sum picks them out; above, a copy of them costs more
than products with zero."""


def fitting_prompts(model: Model, prompts: PromptPairs, memory: int | None = None) -> int:
    """How many prompts to run at a time so that all fits in memory.

    `memory` is in bytes beside the weights (None: half of what is free on the model's device; if
    that will not do, the least).

    Raises:
        SpecError: not even one prompt at a time would fit.
    """
    itemsize, longest = model.torch_dtype.itemsize, max(len(pair.clean) for pair in prompts)
    answers = sum(len(pair.answer_positions) for pair in prompts)
    outputs = longest * len(model.graph.senders) * model.d_model * itemsize
    # What removed edges carry stays for all prompts (and a mean, itself and in float64, once); so
    # do logits of the clean, the corrupted and the last run, by portion and together.
    held = (len(prompts) + 3) * outputs + answers * model.d_vocab * (6 * itemsize + LOGIT)
    passing = COPIES * outputs + 3 * longest * model.d_vocab * max(8, itemsize)
    free = memory
    if free is None:
        free = max(int(SHARE * free_memory(model.device)), held + passing)
    if held + passing > free:
        raise SpecError(
            f"{len(prompts)} prompts of up to {longest} tokens take at least "
            f"{show_size(held + passing)} beside the weights, and {show_size(free)} may be used; "
            "allow more (--memory), or use fewer or shorter prompts"
        )
    return max(1, min(len(prompts), (free - held) // passing))


class CircuitRunner:
    """Runs clean prompts with everything outside a circuit ablated, in portions of prompts.

    Raises:
        PromptError: prompts that do not fit the model.
        SpecError: too little memory for even one prompt at a time, or an unknown ablation.
    """

    def __init__(
        self,
        model: Model,
        prompts: PromptPairs,
        ablation: str | Ablation,
        *,
        memory: int | None = None,
    ) -> None:
        size = fitting_prompts(model, prompts, memory)
        # Of all prompts, before they are cut: a mean is over all of them.
        carried = carried_by(ablation, model, prompts, size)
        self.model, self.prompts = model, prompts
        self.parts = [
            _Portion(model, prompts[at : at + size], carried) for at in range(0, len(prompts), size)
        ]
        self.full_logits = torch.cat([part.full_logits for part in self.parts])
        self.corrupted_logits = torch.cat([part.corrupted_logits for part in self.parts])

    def removed_by(self, circuit: Circuit) -> Removed:
        """The mask that removes all edges outside a circuit."""
        return self.parts[0].removed_by(circuit)

    @torch.no_grad()
    def logits(self, removed: Removed) -> Float[Tensor, "answer d_vocab"]:
        """Logits at the answer positions with the masked edges removed."""
        return torch.cat([part.logits(removed) for part in self.parts])

    def circuit_logits(self, circuit: Circuit) -> Float[Tensor, "answer d_vocab"]:
        """Logits at the answer positions with everything outside the circuit ablated."""
        return self.logits(self.removed_by(circuit))


class _Portion(ReferenceRunner):
    """The reference on some of the prompts, with `_Sparse` in place of its sums."""

    def logits(
        self, removed: Removed, carried: SenderOutputs | None = None
    ) -> Float[Tensor, "answer d_vocab"]:
        live = empty_outputs(self.model, self.clean)
        carried = self.ablated if carried is None else carried
        correct = _Sparse(self.model, removed.to(self.model.device), live, carried)
        hooks = sender_hooks(self.model, live) + correct.hooks()
        return logits_at(self.model.forward(self.clean, self.padded, hooks), self.padded.answers)


class _Sparse(Correction):
    """Receivers' inputs from the sum of all senders and the few edges that differ from it."""

    def __init__(
        self, model: Model, removed: Removed, live: SenderOutputs, ablated: SenderOutputs
    ) -> None:
        super().__init__(model, removed, live, ablated)
        self._delta = torch.empty_like(live)
        self._done = 0
        self._sums: dict[bool, tuple[int, Tensor]] = {}

    def _changes(self, n: int) -> Float[Tensor, "sender batch pos d_model"]:
        """What the first n senders' live values are above their ablated ones."""
        if n > self._done:
            new = slice(self._done, n)
            torch.sub(self.live[new], self.ablated[new], out=self._delta[new])
            self._done = n
        return self._delta[:n]

    def _sum(self, alive: bool, n: int) -> Float[Tensor, "batch pos d_model"]:
        """The sum of the first n senders, live or ablated; carried on from place to place."""
        values = self.live if alive else self.ablated
        done, total = self._sums.get(alive, (0, torch.zeros_like(values[0])))
        if n < done:
            done, total = 0, torch.zeros_like(values[0])
        if n > done:
            total = total + values[done:n].sum(0)
        self._sums[alive] = (n, total)
        return total

    def input_of(self, receivers: list[Receiver]) -> Float[Tensor, "batch pos receiver d_model"]:
        """Each receiver's input (receivers of one place)."""
        first = receivers[0]
        n = self.model.graph.n_senders_of(first)
        removed = self.removed[[self.index[r] for r in receivers], :n]
        mostly_kept = bool(removed.float().mean() < 0.5)
        odd = removed if mostly_kept else ~removed
        change = self._changes(n)
        senders = odd.any(0).nonzero().flatten()
        if len(senders) < FEW * n:
            odd, change = odd[:, senders], change[senders]
        change = einsum(odd.to(change.dtype), change, "r s, s b p d -> b p r d")
        base = self._sum(mostly_kept, n) + self.biases[self._layers_before(first)]
        return base[:, :, None] + (-change if mostly_kept else change)

"""Attribution patching of every edge at once: EAP and EAP-IG, from gradients instead of searches.

An edge's attribution score estimates to first order what its `score` is by path patching with
everything else kept: how much damage rises when the edge alone is ablated,

    score(sender -> receiver) = sum_{batch, pos} (ablated - clean output of the sender)
                                . d damage / d (input of the receiver),

in the metric's unit, positive if the edge matters. Estimates, not decisions: the exact search may
take them as a draft (`Speculation`), where a wrong guess costs time and never an edge.

Sources: Syed et al., "Attribution Patching Outperforms Automated Circuit Discovery" (arXiv
2310.10348), section 3 (EAP); Hanna et al., "Have Faith in Faithfulness" (arXiv 2403.17806),
section 3 (EAP-IG, inputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from discover.ablation import Ablation, Carried, carried_by
from discover.graph import Edge
from discover.methods import STEPS, check_method
from discover.metrics import Metric, make_metric, per_prompt
from discover.model import Hook, Model, NamedHook, logits_at
from discover.model.senders import empty_outputs, sender_hooks
from discover.prompts import PaddedPrompts, PromptPairs

ROWS = 64
"""About how many positions of prompts a CPU takes together; more take memory and save no time."""

DEVICE_ROWS = 2048
"""The same on an accelerator, which takes many more to fill."""


def attribute(
    model: Model,
    prompts: PromptPairs,
    metric: str = "logit_diff",
    ablation: str | Ablation = "resample",
    *,
    method: str = "eap",
    steps: int = STEPS,
    chunk: int | None = None,
) -> Float[np.ndarray, " edge"]:
    """Attribution scores in the order of `model.graph.edges`, in the metric's unit.

    `eap` takes one forward pair and one backward; `eap-ig` takes `steps` further forwards and
    backwards, at embeddings `ablated + i/steps (clean - ablated)` for i = 1..steps. Prompts are
    taken `chunk` at a time (None: as many as have about `ROWS` positions; more on an accelerator).

    Raises:
        SpecError: unknown method, metric or ablation, or a metric whose gradient says nothing.
        PromptError: prompts do not fit the model or the metric.
    """
    check_method(method, metric, steps)
    model.check_prompts(prompts)
    make_metric(metric, prompts, model.d_vocab)
    size = chunk or usual_chunk(model, prompts)
    total = _Scores(model)
    carried = carried_by(ablation, model, prompts, size)
    for at in range(0, len(prompts), size):
        part = prompts[at : at + size]
        points = [1.0] if method == "eap" else [i / steps for i in range(1, steps + 1)]
        _add_chunk(total, model, part, metric, carried, points, len(part) / len(prompts))
    return total.by_edge()


def usual_chunk(model: Model, prompts: PromptPairs) -> int:
    """How many prompts are taken together unless told otherwise."""
    rows = ROWS if model.device == "cpu" else DEVICE_ROWS
    return max(1, rows // int(prompts.padded().clean.shape[1]))


def draft_of(
    edges: Sequence[Edge], scores: Float[np.ndarray, " edge"], tau: float
) -> frozenset[Edge]:
    """The edges that scores alone would keep: a draft for the exact search."""
    return frozenset(edge for edge, score in zip(edges, scores, strict=True) if score >= tau)


class _Scores:
    """Scores by receiver, Float[receivers of one place, sender before them]."""

    def __init__(self, model: Model) -> None:
        self.graph = model.graph
        self.n_senders: dict[tuple[int, str], int] = {
            (r.layer, r.kind): model.graph.n_senders_of(r) for r in self.graph.receivers
        }
        self.totals: dict[tuple[int, str], Tensor] = {}

    def add(
        self,
        place: tuple[int, str],
        gradients: Float[Tensor, "receiver batch pos d_model"],
        changes: Float[Tensor, "sender batch pos d_model"],
    ) -> None:
        """Add the products of the gradients at one place and the changes of what feeds it."""
        n = self.n_senders[place]
        found = (gradients.flatten(1) @ changes[:n].flatten(1).T).double()
        self.totals[place] = self.totals[place] + found if place in self.totals else found

    def by_edge(self) -> Float[np.ndarray, " edge"]:
        """All scores, receivers and senders in the graph's own order."""
        rows = [
            # Senders count from the embedding up here, from the latest down in the graph.
            self.totals[r.layer, r.kind][max(r.index, 0)].flip(0).cpu().numpy()
            for r in self.graph.receivers
        ]
        return np.concatenate(rows)


def _add_chunk(
    total: _Scores,
    model: Model,
    prompts: PromptPairs,
    metric: str,
    carried: Carried,
    points: Sequence[float],
    weight: float,
) -> None:
    """Add the scores of some prompts: a corrupted forward, then forward and backward a point.

    The last of `points` is 1, the clean prompts themselves; its forward is the clean run too.
    """
    padded = prompts.padded()
    corrupted_tokens = torch.as_tensor(padded.corrupted, device=model.device)
    outputs = empty_outputs(model, corrupted_tokens)
    model.forward(corrupted_tokens, padded, [*sender_hooks(model, outputs), _only_answers(padded)])
    # Resampled values become the changes in place: a second tensor of this size never is.
    changes = carried(outputs, prompts)
    changes = changes if changes is outputs else outputs.copy_(changes)
    ends = [changes[0].clone()]
    metric_of = make_metric(metric, prompts, model.d_vocab)
    full: Tensor | None = None
    for point in reversed(points):
        start = None if full is None else torch.lerp(ends[0], ends[1], point)
        run = _Traced(model, padded, start, changes if full is None else None)
        if full is None:
            full = run.logits.detach()[:, 0]
            ends.append(ends[0] - changes[0])
        found = run.gradients(metric_of, full, prompts, weight / len(points))
        while found:
            place, gradient = found.popitem()
            total.add(place, run.at_inputs(place, gradient), changes)


def _only_answers(padded: PaddedPrompts) -> NamedHook:
    """Unembed the answer positions alone: logits Float[answer, 1, d_vocab]."""

    def hook(final: Tensor) -> Tensor:
        return logits_at(final, padded.answers)[:, None]

    return "unembed.hook_in", hook


class _Less:
    """Takes what is assigned to a part of a tensor off that part instead."""

    def __init__(self, rest: Tensor) -> None:
        self.rest = rest

    def __setitem__(self, at: int | slice, value: Tensor) -> None:
        self.rest[at] -= value


class _Traced:
    """One forward from given embeddings that remembers what gradients are wanted for.

    `seen`: projected q, k and v and normalised MLP inputs by layer, and the final stream.
    `streams`: what enters each block, and what its attention adds to that.
    """

    def __init__(
        self, model: Model, padded: PaddedPrompts, start: Tensor | None, less: Tensor | None
    ) -> None:
        """Run from the embeddings `start` (None: the clean ones).

        Each sender's output is taken off its place in `less`, if that is given.
        """
        self.model = model
        self.seen: dict[tuple[int, str], Tensor] = {}
        self.streams: dict[tuple[int, str], Tensor] = {}
        tokens = torch.as_tensor(padded.clean, device=model.device)

        def begin(embed: Tensor) -> Tensor:
            return (embed if start is None else start).detach().requires_grad_(True)

        hooks: list[NamedHook] = [("blocks.0.hook_in", begin)]
        if less is not None:
            catching = sender_hooks(model, cast(Tensor, _Less(less)))
            hooks += [(name, _detached(hook)) for name, hook in catching]
        graph = model.graph
        for layer in range(graph.n_layers):
            hooks.append((f"blocks.{layer}.hook_in", self._keep(layer, "in")))
            hooks += [
                (f"blocks.{layer}.attn.{kind}.hook_out", self._see(layer, kind)) for kind in "qkv"
            ]
            if graph.mlp:
                hooks.append((f"blocks.{layer}.attn.hook_out", self._keep(layer, "attn")))
                hooks.append((f"blocks.{layer}.mlp.hook_in", self._see(layer, "mlp")))
        hooks.append((f"blocks.{graph.n_layers - 1}.hook_out", self._see(-1, "logits")))
        hooks.append(_only_answers(padded))
        self.logits = model.forward(tokens, padded, hooks, gradients=True)

    def _see(self, layer: int, kind: str) -> Hook:
        def hook(value: Tensor) -> Tensor:
            # The hook point may go on with another view of its value: hand it this one.
            self.seen[layer, kind] = value.view_as(value)
            return self.seen[layer, kind]

        return hook

    def _keep(self, layer: int, what: str) -> Hook:
        def hook(value: Tensor) -> None:
            self.streams[layer, what] = value.detach()

        return hook

    def gradients(
        self, metric: Metric, full: Tensor, prompts: PromptPairs, weight: float
    ) -> dict[tuple[int, str], Tensor]:
        """Gradient of the weighted mean damage at everything seen."""
        with torch.enable_grad():
            values = metric.per_answer(full, self.logits[:, 0])
            damage = per_prompt(values, prompts).mean() * weight
        found = torch.autograd.grad(damage, list(self.seen.values()))
        places = list(self.seen)
        self.seen.clear()
        return dict(zip(places, found, strict=True))

    def at_inputs(
        self, place: tuple[int, str], gradient: Tensor
    ) -> Float[Tensor, "receiver batch pos d_model"]:
        """Gradient at each receiver's own input, from that behind its norm and projection."""
        layer, kind = place
        if kind == "logits":
            return gradient[None]
        stream = self.streams[layer, "in"]
        if kind == "mlp":
            if not self.model.graph.parallel:
                stream = stream + self.streams[layer, "attn"]
            return self._before_norm(layer, "mlp", stream, gradient.reshape(1, *stream.shape))
        weights, _ = self.model.input_projection(layer, kind)
        by_head = gradient.reshape(*stream.shape[:2], *weights.shape[::2])
        behind = torch.einsum("bphd,hmd->hbpm", by_head, weights)
        return self._before_norm(layer, "attn", stream, behind)

    def _before_norm(self, layer: int, before: str, stream: Tensor, behind: Tensor) -> Tensor:
        with torch.enable_grad():
            x = stream.expand_as(behind).detach().requires_grad_(True)
            y = self.model.normalise(layer, before, x)
        (found,) = torch.autograd.grad(y, x, behind)
        return found


def _detached(hook: Hook) -> Hook:
    """The hook on values that no gradient goes through; it must not replace them."""

    def call(value: Tensor) -> None:
        hook(value.detach())

    return call

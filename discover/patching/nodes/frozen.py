"""Changes of the residual stream that go on behind frozen heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes.cache import Need, by_head, look_up, needed, record
from discover.patching.nodes.inputs import Inputs, check_twins, make_inputs
from discover.patching.nodes.node import Node

Stage = int
"""A place along the stream: `2 layer` is what enters a layer, `2 layer + 1` what has its attention
added, `2 n_layers` the final stream."""


def arrives(model: Model, sender: Node) -> Stage:
    """The first stage whose stream holds what a sender writes."""
    base = 2 * sender.at
    after = {"resid_pre": 0, "z": 1, "attn_out": 1, "resid_mid": 1}
    if not model.graph.mlp and sender.component != "resid_pre":
        return base + 2
    return base + after.get(sender.component, 2)


def reads(model: Model, receiver: Node) -> Stage:
    """The stage of the stream that a receiver reads."""
    base = 2 * receiver.at
    if receiver.component in ("mlp_in", "pre", "pre_linear"):
        return base if model.graph.parallel else base + 1
    return base + {"resid_mid": 1, "resid_post": 2}.get(receiver.component, 0)


class FrozenHeads:
    """Carries what senders change along the residual stream, with all heads at their own values.

    `through_mlps`: MLPs are computed anew on the changed stream; else they are frozen too.

    Raises:
        PatchError: no source of new activations, or a cache that does not fit.
    """

    def __init__(
        self,
        model: Model,
        inputs: Inputs,
        streams: Sequence[Float[Tensor, "batch pos d_model"]],
        senders: Sequence[Node],
        *,
        new_input: Any,
        new_cache: Any,
        orig_cache: Any,
        through_mlps: bool,
    ) -> None:
        if (new_input is None) == (new_cache is None):
            raise PatchError("give new_input or new_cache: the new activations must come from one")
        if orig_cache is not None and isinstance(orig_cache, str):
            raise PatchError("orig_cache is a cache of orig_input, not a word")
        self.model, self.inputs = model, inputs
        self.streams, self.through_mlps = list(streams), through_mlps
        wanted = needed(senders)
        own = self._record(inputs, [*wanted, *self._mlps()])
        self.mlp_out = {at: own["mlp_out", at] for _, at in self._mlps()}
        self._mids: dict[int, Tensor] = {}
        if model.graph.mlp and not model.graph.parallel:
            self._mids = {at: own["resid_mid", at] for at in range(model.graph.n_layers)}
        self.orig: Mapping[Any, Tensor] = own if orig_cache is None else orig_cache
        self.zero = new_cache == "zero" if isinstance(new_cache, str) else False
        if isinstance(new_cache, str) and not self.zero:
            raise PatchError(f"new_cache is a cache or 'zero', not {new_cache!r}")
        if new_input is not None:
            new = make_inputs(model, new_input)
            check_twins(inputs, new)
            new_cache = self._record(new, wanted)
        self.new: Mapping[Any, Tensor] = own if self.zero else new_cache

    def _mlps(self) -> list[Need]:
        layers = range(self.model.graph.n_layers) if self.model.graph.mlp else range(0)
        return [("mlp_out", at) for at in layers]

    def _record(self, inputs: Inputs, needs: Sequence[Need]) -> Mapping[Any, Tensor]:
        mids: list[Need] = []
        if self.model.graph.mlp and not self.model.graph.parallel and inputs is self.inputs:
            mids = [("resid_mid", at) for at in range(self.model.graph.n_layers)]
        return record(self.model, inputs, [*needs, *mids])

    def stream(self, stage: Stage) -> Float[Tensor, "batch pos d_model"]:
        """The original run's stream at a stage."""
        layer, after_attention = divmod(stage, 2)
        return self._mids[layer] if after_attention else self.streams[layer]

    def changes(
        self,
        senders: Sequence[Sequence[Node]],
        masks: Bool[Tensor, "k batch pos"],
        wanted: Collection[Stage],
    ) -> dict[Stage, Float[Tensor, "k batch pos d_model"]]:
        """The stream's change at the wanted stages, for several sets of senders at once."""
        shape = (len(senders), *self.inputs.tokens.shape, self.model.d_model)
        change = torch.zeros(shape, dtype=self.model.torch_dtype, device=self.model.device)
        found: dict[Stage, Tensor] = {}
        for layer in range(self.model.graph.n_layers + 1):
            at = 2 * layer
            self._replace_stream(change, senders, masks, layer, ("resid_pre",))
            self._replace_stream(change, senders, masks, layer - 1, ("resid_post",))
            self._keep(found, wanted, at, change)
            if layer == self.model.graph.n_layers or at >= max(wanted, default=0):
                break
            # A parallel block's MLP reads what its attention reads.
            entering = change.clone() if self.model.graph.parallel else change
            self._add_attention(change, senders, masks, layer)
            self._replace_stream(change, senders, masks, layer, ("resid_mid",))
            self._keep(found, wanted, at + 1, change)
            self._add_mlp(change, entering, senders, masks, layer)
        return found

    @staticmethod
    def _keep(
        found: dict[Stage, Tensor], wanted: Collection[Stage], stage: Stage, change: Tensor
    ) -> None:
        if stage in wanted:
            found[stage] = change.clone()

    def _of(
        self, senders: Sequence[Sequence[Node]], layer: int, components: Collection[str]
    ) -> list[tuple[int, Node]]:
        return [
            (k, node)
            for k, nodes in enumerate(senders)
            for node in nodes
            if node.layer == layer and node.component in components
        ]

    def _difference(self, node: Node) -> Tensor:
        """New minus original activation, heads by themselves."""
        shape = (self.inputs.batch, self.inputs.width)
        own = by_head(self.model, node.kind, look_up(self.orig, node, shape))
        new = (
            own * 0 if self.zero else by_head(self.model, node.kind, look_up(self.new, node, shape))
        )
        return (new.to(own) - own).to(device=self.model.device, dtype=self.model.torch_dtype)

    def _replace_stream(
        self,
        change: Tensor,
        senders: Sequence[Sequence[Node]],
        masks: Tensor,
        layer: int,
        components: Collection[str],
    ) -> None:
        for k, node in self._of(senders, layer, components):
            change[k] = torch.where(masks[k][..., None], self._difference(node), change[k])

    def _add_attention(
        self, change: Tensor, senders: Sequence[Sequence[Node]], masks: Tensor, layer: int
    ) -> None:
        written = torch.zeros_like(change) if self._of(senders, layer, ("z", "attn_out")) else None
        if written is None:
            return
        for k, node in self._of(senders, layer, ("z",)):
            at = list(node.indices or range(self.model.graph.n_heads))
            weights = self.model.head_output_weights(layer)[at]
            out = einsum(self._difference(node)[:, :, at], weights, "b p h d, h d m -> b p m")
            written[k] += out * masks[k][..., None]
        for k, node in self._of(senders, layer, ("attn_out",)):
            # It holds all heads: what they write by themselves is in it already.
            written[k] = torch.where(masks[k][..., None], self._difference(node), written[k])
        change += written

    def _add_mlp(
        self,
        change: Tensor,
        entering: Tensor,
        senders: Sequence[Sequence[Node]],
        masks: Tensor,
        layer: int,
    ) -> None:
        if not self.model.graph.mlp:
            return
        written = torch.zeros_like(change)
        stream = self.stream(2 * layer if self.model.graph.parallel else 2 * layer + 1)
        k, batch, pos = torch.nonzero((entering != 0).any(-1), as_tuple=True)
        if self.through_mlps and len(k):
            rows = stream[batch, pos] + entering[k, batch, pos]
            written[k, batch, pos] = self.model.mlp(layer, rows) - self.mlp_out[layer][batch, pos]
        for at, node in self._of(senders, layer, ("post",)):
            moved = entering[at] if self.through_mlps else torch.zeros_like(entering[at])
            out = self._neurons(node, stream, moved) * masks[at][..., None]
            written[at] += out
        for at, node in self._of(senders, layer, ("mlp_out",)):
            written[at] = torch.where(masks[at][..., None], self._difference(node), written[at])
        change += written

    def _neurons(self, node: Node, stream: Tensor, moved: Tensor) -> Tensor:
        """What an MLP writes more with some neurons at their new value."""
        difference = self._difference(node)
        if (moved != 0).any():
            own = self.model.neurons(node.at, stream, "hook_post")
            difference = difference + own - self.model.neurons(node.at, stream + moved, "hook_post")
        if node.indices is not None:
            chosen = torch.zeros_like(difference)
            chosen[..., list(node.indices)] = difference[..., list(node.indices)]
            difference = chosen
        return self.model.neuron_output(node.at, difference)

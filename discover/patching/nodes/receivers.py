"""What a receiver is set to when the stream that it reads changes."""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from discover.model import Model
from discover.patching.nodes.components import COMPONENTS, projection_of
from discover.patching.nodes.frozen import FrozenHeads, reads
from discover.patching.nodes.node import Node
from discover.patching.nodes.variants import Override


def receive(
    model: Model,
    node: Node,
    frozen: FrozenHeads,
    change: Float[Tensor, "batch pos d_model"],
    mask: Bool[Tensor, "batch pos"],
) -> Override:
    """The node set to what it is when its stream changes, at some positions."""
    stream = frozen.stream(reads(model, node)) + change
    kind = projection_of(node.kind) or node.component
    if kind in ("q", "k", "v"):
        value = project_heads(model, node, kind, model.normalise(node.at, "attn", stream))
        return Override(node.at, COMPONENTS[kind], value, mask, node.indices)
    if node.component in ("pre", "pre_linear"):
        value = model.neurons(node.at, stream, f"hook_{node.component}")
        if node.indices is not None:
            value = value[..., list(node.indices)]
        return Override(node.at, node.kind, value, mask, node.indices)
    if node.component == "mlp_in":
        return Override(node.at, node.kind, model.normalise(node.at, "mlp", stream), mask)
    return Override(node.at, node.kind, stream, mask)


def project_heads(
    model: Model, node: Node, kind: str, normed: Float[Tensor, "batch pos d_model"]
) -> Float[Tensor, "batch pos head d_head"]:
    """q, k or v of a node's heads from the normalised stream that they share."""
    weight, bias = model.input_projection(node.at, kind)
    if node.indices is not None:
        at = torch.tensor(node.indices, device=weight.device)
        weight = weight[at]
        bias = None if bias is None else bias[at]
    found = einsum(normed, weight, "b p m, h m d -> b p h d")
    return found if bias is None else found + bias

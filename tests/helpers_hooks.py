"""Patching written out with plain hooks, one forward at a time: what the hand tools must equal.

Only the model's own forward with hooks is used, no part of `discover.patching.nodes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from discover.model import Model, NamedHook
from discover.patching.nodes import Inputs

Where = tuple[str, int, int | None]
"""Component, layer, head or neuron."""

POINTS = {
    "resid_pre": "hook_in",
    "resid_post": "hook_out",
    "attn_out": "attn.hook_out",
    "mlp_out": "mlp.hook_out",
    "q": "attn.q.hook_out",
    "k": "attn.k.hook_out",
    "v": "attn.v.hook_out",
    "z": "attn.o.hook_in",
    "pattern": "attn.hook_pattern",
    "attn_scores": "attn.hook_attn_scores",
    "pre": "mlp.hook_pre",
    "pre_linear": "mlp.hook_pre_linear",
    "post": "mlp.hook_post",
}


def point(component: str, layer: int) -> str:
    return f"blocks.{layer}.{POINTS[component]}"


def run(model: Model, inputs: Inputs, hooks: Sequence[NamedHook] = ()) -> Tensor:
    return model.forward(torch.as_tensor(inputs.tokens), inputs.padded(), hooks)


def record(model: Model, inputs: Inputs, names: Sequence[str]) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    run(model, inputs, [(name, keep(seen, name)) for name in names])
    return seen


def keep(seen: dict[str, Tensor], name: str) -> Callable[[Tensor], None]:
    def hook(value: Tensor) -> None:
        seen[name] = value.clone()

    return hook


def part_of(where: Where, value: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
    """An index of the part of an activation: head or neuron, at Bool[batch, pos]."""
    component, _, index = where
    index_mask = torch.zeros_like(value, dtype=torch.bool)
    if component in ("pattern", "attn_scores"):
        index_mask[:, slice(None) if index is None else index] = True
        index_mask &= positions[:, None, :, None]
    elif value.ndim == 4:
        index_mask[:, :, slice(None) if index is None else index] = True
        index_mask &= positions[:, :, None, None]
    else:
        index_mask[..., slice(None) if index is None else index] = True
        index_mask &= positions[..., None]
    return (index_mask,)


def put(where: Where, new: Tensor, positions: Tensor) -> NamedHook:
    def hook(value: Tensor) -> Tensor:
        value = value.clone()
        at = part_of(where, value, positions)
        value[at] = new[at]
        return value

    return point(where[0], where[1]), hook


def patched(
    model: Model, orig: Inputs, new: Inputs, nodes: Sequence[Where], positions: Tensor
) -> Tensor:
    """Logits of activation patching."""
    names = [point(component, layer) for component, layer, _ in nodes]
    seen = record(model, new, names)
    hooks = [put(node, seen[point(node[0], node[1])], positions) for node in nodes]
    return run(model, orig, hooks)


def path_patched(
    model: Model,
    orig: Inputs,
    new: Inputs,
    senders: Sequence[Where],
    receivers: Sequence[Where],
    positions: Tensor,
    through_mlps: bool,
) -> Tensor:
    """Logits of path patching by its three runs; each receiver is read before it is frozen."""
    layers = range(model.graph.n_layers)
    frozen = [point("z", layer) for layer in layers]
    if not through_mlps:
        frozen += [point("post", layer) for layer in layers]
    own = record(model, orig, frozen)
    theirs = record(model, new, [point(component, layer) for component, layer, _ in senders])
    read: dict[str, Tensor] = {}
    hooks: list[NamedHook] = []
    for component, layer, _ in receivers:
        hooks.append((point(component, layer), keep(read, point(component, layer))))
    everywhere = torch.ones_like(positions)
    for name in frozen:
        component = "z" if name.endswith("o.hook_in") else "post"
        layer = int(name.split(".")[1])
        hooks.append(put((component, layer, None), own[name], everywhere))
    hooks += [put(node, theirs[point(node[0], node[1])], positions) for node in senders]
    run(model, orig, hooks)
    back = [put(node, read[point(node[0], node[1])], positions) for node in receivers]
    return run(model, orig, back)

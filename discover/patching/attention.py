"""One layer's attention taken apart by head, for the engine.

Norms and MLPs are called as the model's own modules; attention is redone here because the engine
changes one input of one head. What cannot be read off a config is measured on the model: which
positions attend to which (with all queries zeroed every allowed position gets the same weight),
and, at the start of every search, whether each head's output is the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from discover.errors import ModelError
from discover.model import Model, NamedHook
from discover.patching.rows import Rows
from discover.prompts import PaddedPrompts

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class AttentionLayer:
    """Weights by head and what happens between projection and output of one layer.

    `W_Q`: Float[n_heads, d_model, d_head]; `W_K`, `W_V` by key/value head; `W_O`: Float[n_heads,
    d_head, d_model]; biases by head or None. `blocked`: Bool[batch, pos, pos], true where a query
    (second axis) may not attend to a key (third axis). `scale` multiplies scores; a positive
    `soft_cap` squashes them; a positive `clip` bounds what is projected.
    """

    weights: dict[str, Tensor]
    biases: dict[str, Tensor | None]
    W_O: Tensor
    norm: Norm
    head_norms: dict[str, Norm]
    rotary: Rotary | None
    blocked: Bool[Tensor, "batch pos pos"]
    scale: float
    soft_cap: float
    clip: float

    def project(
        self, kind: str, head: int, x: Float[Tensor, "k row d_model"], where: Where
    ) -> Float[Tensor, "k row d_head"]:
        """A head's q, k or v from its (not yet normalised) input, with rotation."""
        out = self.norm(x) @ self.weights[kind][head]
        bias = self.biases[kind]
        if bias is not None:
            out = out + bias[head]
        if self.clip > 0:
            out = out.clamp(-self.clip, self.clip)
        if kind in self.head_norms:
            out = self.head_norms[kind](out)
        if where.rotary is not None and kind != "v":
            out = where.rotary(out)
        return out

    def pattern(
        self,
        q: Float[Tensor, "k batch some d_head"],
        k: Float[Tensor, "k batch pos d_head"],
        where: Where,
    ) -> Float[Tensor, "k batch some pos"]:
        """Attention weights of one head, from queries at some positions to keys at all."""
        scores = (q @ k.transpose(-1, -2)) * self.scale
        if self.soft_cap > 0:
            scores = self.soft_cap * torch.tanh(scores / self.soft_cap)
        return scores.masked_fill(where.blocked, torch.finfo(scores.dtype).min).softmax(-1)

    def at(self, rows: Rows) -> Where:
        """What depends on which positions are computed."""
        # One index a place of the grid: its rows' own positions, in the mask's first two axes.
        places = rows.flat[rows.grid]
        return Where(
            blocked=self.blocked.flatten(0, 1)[places],
            rotary=None if self.rotary is None else self.rotary.at(rows, len(self.blocked)),
        )


@dataclass(frozen=True)
class Where:
    """A layer's mask (Bool[batch, some, pos]) and rotation at one set of positions."""

    blocked: Tensor
    rotary: Rotary | None


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding on the first `cos.shape[-1]` coordinates of a head.

    `cos`, `sin`: Float[batch or 1, pos, d_rotary], or Float[row, d_rotary]. `interleaved` pairs
    neighbours (GPT-J), else the two halves are paired (Llama, GPT-NeoX).
    """

    cos: Tensor
    sin: Tensor
    interleaved: bool

    def at(self, rows: Rows, batch: int) -> Rotary:
        """The rotation of these rows alone, Float[row, d_rotary]."""
        cos, sin = (
            table.expand(batch, -1, -1).flatten(0, 1)[rows.flat] for table in (self.cos, self.sin)
        )
        return Rotary(cos, sin, self.interleaved)

    def __call__(self, x: Float[Tensor, "k row d_head"]) -> Float[Tensor, "k row d_head"]:
        """Rotate each row by its position."""
        cos, sin = self.cos, self.sin
        width = cos.shape[-1]
        turned, rest = x[..., :width], x[..., width:]
        if self.interleaved:
            other = torch.stack((-turned[..., 1::2], turned[..., ::2]), -1).flatten(-2)
        else:
            half = width // 2
            other = torch.cat((-turned[..., half:], turned[..., :half]), -1)
        turned = turned * cos + other * sin
        return torch.cat((turned, rest), -1) if rest.shape[-1] else turned


def read_attention(
    model: Model,
    tokens: Tensor,
    padded: PaddedPrompts,
    like: Sequence[AttentionLayer] | None = None,
) -> list[AttentionLayer]:
    """Every layer's attention on these prompts.

    `like`: the same model's on other prompts, whose weights are taken, so that they are held once.

    Raises:
        ModelError: the attention has a part that this cannot take apart, which is named.
    """
    blocked, rotations = _measure(model, tokens, padded)
    if like is not None:
        return [
            replace(layer, blocked=blocked[at], rotary=rotations[at])
            for at, layer in enumerate(like)
        ]
    layers = []
    for layer in range(model.graph.n_layers):
        projections = {kind: model.input_projection(layer, kind) for kind in "qkv"}
        layers.append(
            AttentionLayer(
                weights={kind: weight.contiguous() for kind, (weight, _) in projections.items()},
                biases={kind: bias for kind, (_, bias) in projections.items()},
                W_O=model.head_output_weights(layer).contiguous(),
                norm=lambda x, layer=layer: model.normalise(layer, "attn", x),  # type: ignore[misc]
                head_norms=model.head_norms(layer),
                rotary=rotations[layer],
                blocked=blocked[layer],
                scale=model.attention_scale(layer),
                soft_cap=model.attention_soft_cap,
                clip=model.projection_clip(layer),
            )
        )
    return layers


def _measure(
    model: Model, tokens: Tensor, padded: PaddedPrompts
) -> tuple[list[Tensor], list[Rotary | None]]:
    """Masks and rotations as the model itself uses them on these prompts."""
    patterns: dict[int, Tensor] = {}
    angles: dict[tuple[int, str], Tensor] = {}
    hooks: list[NamedHook] = []
    for layer in range(model.graph.n_layers):
        hooks.append((f"blocks.{layer}.attn.q.hook_out", torch.zeros_like))
        hooks.append((f"blocks.{layer}.attn.hook_pattern", _keep(patterns, layer)))
        if layer in model.rotated_layers:
            for name in ("cos", "sin"):
                hooks.append((f"blocks.{layer}.attn.hook_{name}", _keep(angles, (layer, name))))
    model.forward(tokens, padded, hooks)
    layers = range(model.graph.n_layers)
    blocked = [_blocked(model, layer, patterns[layer]) for layer in layers]
    return blocked, [_rotation(model, layer, angles, padded) for layer in layers]


def _rotation(
    model: Model, layer: int, angles: dict[tuple[int, str], Tensor], padded: PaddedPrompts
) -> Rotary | None:
    kind = model.rotary(layer)
    if kind is None:
        return None
    if kind == "table":
        return Rotary(*model.interleaved_angles(layer, padded), interleaved=True)
    cos, sin = angles[layer, "cos"], angles[layer, "sin"]
    if kind == "unfolded":
        half = cos.shape[-1] // 2
        cos, sin = (table[..., :half].repeat_interleave(2, -1) for table in (cos, sin))
    return Rotary(cos, sin, interleaved=kind != "halves")


def _keep(store: dict, key: object) -> Callable[[Tensor], None]:  # type: ignore[type-arg]
    def hook(value: Tensor) -> None:
        store[key] = value

    return hook


def _blocked(model: Model, layer: int, pattern: Tensor) -> Bool[Tensor, "batch pos pos"]:
    """With zero queries the weights are uniform over what may be attended to, zero elsewhere."""
    allowed = pattern > 0
    uniform = allowed / allowed.sum(-1, keepdim=True).clamp(min=1)
    if not torch.allclose(pattern, uniform.to(pattern.dtype), atol=1e-6):
        raise ModelError(
            f"the engine cannot take {model.name} apart: attention of layer {layer} prefers some "
            "positions by itself (a position bias or attention sinks); use --engine reference"
        )
    if not (allowed == allowed[:, :1]).all():
        raise ModelError(
            f"the engine cannot take {model.name} apart: heads of layer {layer} differ in where "
            "they may attend; use --engine reference"
        )
    return ~allowed[:, 0]

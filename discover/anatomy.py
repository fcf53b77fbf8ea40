"""What is inside a wrapped model: weights by head, norms, MLPs, rotations, the unembedding."""

from __future__ import annotations

import contextlib
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from discover.errors import ModelError
from discover.prompts import PaddedPrompts

MLP_ROWS = 1024
"""An MLP's hidden activations of about so many rows stay in a CPU's cache; more are slower."""


class Anatomy(ABC):
    """Parts of a model as the model itself holds and computes them."""

    name: str
    bridge: Any
    d_head: int
    rotated_layers: frozenset[int]

    @property
    @abstractmethod
    def torch_dtype(self) -> torch.dtype:
        """The dtype of weights and activations."""

    @abstractmethod
    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """What keeps a float64 model's own code from dropping to float32."""

    def head_output_weights(self, layer: int) -> Float[Tensor, "n_heads d_head d_model"]:
        """`W_O` by head: a head writes `z @ W_O[head]` to the residual stream."""
        weights: Tensor = self.bridge.blocks[layer].attn.W_O
        return weights.detach()

    def head_output_bias(self, layer: int) -> Float[Tensor, " d_model"] | None:
        """`b_O`, which the attention of a layer adds once for all heads, or None."""
        bias = getattr(self.bridge.blocks[layer].attn.o.original_component, "bias", None)
        return None if bias is None else bias.detach()

    def input_projection(
        self, layer: int, kind: str
    ) -> tuple[Float[Tensor, "n_heads d_model d_head"], Float[Tensor, "n_heads d_head"] | None]:
        """`W_Q`, `W_K` or `W_V` by (key/value) head, and its bias if there is one."""
        attn = self.bridge.blocks[layer].attn
        weight: Tensor = getattr(attn, f"W_{kind.upper()}").detach()
        linear = getattr(attn, kind).original_component
        if getattr(linear, "bias", None) is None:
            return weight, None
        bias: Tensor = getattr(attn, f"b_{kind.upper()}").detach()
        return weight, bias.reshape(weight.shape[0], weight.shape[2])

    def attention_scale(self, layer: int) -> float:
        """What multiplies attention scores, `1/sqrt(d_head)` unless the model says otherwise."""
        cfg, attn = self.bridge.cfg, self.bridge.blocks[layer].attn.original_component
        if cfg.architecture == "GPTNeoForCausalLM":
            return 1.0  # Its initialisation makes up for it.
        if cfg.architecture == "TransformerLensNative":
            return 1 / float(attn.scale)
        scale = float(getattr(attn, "scaling", None) or self.d_head**-0.5)
        if getattr(cfg, "scale_attn_by_inverse_layer_idx", False):
            scale = self.d_head**-0.5 / (layer + 1)
        return scale

    def projection_clip(self, layer: int) -> float:
        """q, k and v are held between plus and minus this if it is positive (OLMo)."""
        attn = self.bridge.blocks[layer].attn.original_component
        return float(getattr(getattr(attn, "config", None), "clip_qkv", None) or 0.0)

    @property
    def attention_soft_cap(self) -> float:
        """`cap * tanh(score / cap)` is applied to attention scores if this is positive."""
        return float(getattr(self.bridge.cfg, "attn_scores_soft_cap", None) or 0.0)

    @property
    def logit_soft_cap(self) -> float:
        """`cap * tanh(logit / cap)` is applied to logits if this is positive."""
        return float(getattr(self.bridge.cfg, "output_logits_soft_cap", None) or 0.0)

    @property
    def logit_scale(self) -> float:
        """What multiplies logits, before any soft cap (Cohere, Granite)."""
        cfg = self.bridge.cfg
        scale = float(getattr(cfg, "logit_scale", None) or 1.0)
        return scale / float(getattr(cfg, "logits_scaling", None) or 1.0)

    def head_norms(self, layer: int) -> dict[str, Callable[[Tensor], Tensor]]:
        """Norms over each head's own q and k (Qwen3), by kind; empty where there are none.

        Raises:
            ModelError: the norm runs over all heads at once, so heads cannot be taken apart; or it
                has other weights for each head, or comes behind the rotation.
        """
        attn = self.bridge.blocks[layer].attn
        found = {kind: f"{kind}_norm" for kind in "qk" if f"{kind}_norm" in attn.submodules}
        if found and getattr(attn, "_qk_norm_phase", "") != "post_reshape":
            raise ModelError(
                f"{self.name} normalises q and k over all heads of layer {layer} at once, which "
                "the engine cannot take apart by head; use --engine reference"
            )
        if found and getattr(self.bridge.cfg, "qk_norm_after_rope", False):
            raise ModelError(
                f"{self.name} normalises q and k behind their rotation; the engine only knows "
                "norms in front of it: use --engine reference"
            )
        norms = {kind: self._module(getattr(attn, name)) for kind, name in found.items()}
        for name in found.values():
            weight = getattr(getattr(attn, name).original_component, "weight", None)
            if weight is None or weight.shape != (self.d_head,):
                raise ModelError(
                    f"{self.name} normalises q and k of layer {layer} with other weights for each "
                    "head; the engine only knows weights that all share: use --engine reference"
                )
        return norms

    def _module(self, component: Any) -> Callable[[Tensor], Tensor]:
        """A component's own module as a plain function in the model's precision."""
        module = component.original_component

        def call(x: Tensor) -> Tensor:
            with self._precision():
                out = module(x)
            value: Tensor = out[0] if isinstance(out, tuple) else out
            return value

        return call

    def rotary(self, layer: int) -> str | None:
        """How a layer rotates q and k; None for not at all.

        `halves`: coordinate i is paired with i + d/2. `pairs`: neighbours are paired, each angle
        twice in a row. `unfolded`: neighbours are paired, but the angles come as for `halves`.
        `table`: as `pairs`, with angles from the layer's own table (`interleaved_angles`).

        Raises:
            ModelError: the model rotates in a way that is not known here.
        """
        cfg = self.bridge.cfg
        if layer in self.rotated_layers:
            if getattr(cfg, "rotary_interleaved_cos_sin", False):
                return "pairs"
            return "unfolded" if getattr(cfg, "rotary_adjacent_pairs", False) else "halves"
        if self._angle_table(layer) is not None:
            return "table"
        shows = f"blocks.{layer}.attn.hook_cos" in self.bridge.hook_dict
        if cfg.positional_embedding_type == "rotary" and not shows:
            raise ModelError(
                f"{self.name} rotates q and k where the engine cannot see it; use "
                "--engine reference"
            )
        return None  # A layer without positions: its angles could be seen, but none are used.

    def _angle_table(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines by position, each angle twice in a row, where attention holds them."""
        attn = self.bridge.blocks[layer].attn.original_component
        if hasattr(attn, "embed_positions"):  # GPT-J, CodeGen
            sin, cos = attn.embed_positions.chunk(2, -1)
            return cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1)
        if getattr(attn, "rotary", None) is not None:  # TransformerLens's own models
            return attn.rotary.cos_cached, attn.rotary.sin_cached
        return None

    def interleaved_angles(
        self, layer: int, padded: PaddedPrompts
    ) -> tuple[Float[Tensor, "batch pos d_rotary"], Float[Tensor, "batch pos d_rotary"]]:
        """Cosines and sines of a layer whose rotation is a `table`."""
        table = self._angle_table(layer)
        if table is None:
            raise ModelError(f"{self.name} has no table of angles in layer {layer}")
        at = torch.as_tensor(padded.position_ids, device=table[0].device)
        cos, sin = (part[at].to(self.torch_dtype) for part in table)
        return cos, sin

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        """A layer's MLP with its norm, over the last axis of any tensor: what `m{layer}` writes."""
        module = self._mlp_module(layer)
        rows = x.reshape(-1, x.shape[-1])
        if x.device.type != "cpu" or len(rows) <= MLP_ROWS:
            return module(self.normalise(layer, "mlp", x))
        parts = [module(self.normalise(layer, "mlp", part)) for part in torch.split(rows, MLP_ROWS)]
        return torch.cat(parts).view(x.shape)

    @functools.cached_property
    def mlp_width(self) -> int:
        """The most values that one map of an MLP puts out, a gate's among them; 0 without MLPs."""
        blocks = [block for block in self.bridge.blocks if "mlp" in block.submodules]
        weights = [
            weight
            for block in blocks
            for part in _mlp_parts(block)
            for weight in part.original_component.parameters()
        ]
        return max((max(w.shape) for w in weights if w.ndim == 2), default=0)

    def _mlp_module(self, layer: int) -> Callable[[Tensor], Tensor]:
        block = self.bridge.blocks[layer]
        if block.mlp.name is not None:
            return self._module(block.mlp)
        into, out = (self._module(part) for part in _mlp_parts(block))
        activation = block.original_component.activation_fn
        return lambda x: out(activation(into(x)))

    @property
    def has_gated_mlp(self) -> bool:
        """Whether neurons are gated (Llama): `post = act(pre) * pre_linear`."""
        return "blocks.0.mlp.hook_pre_linear" in self.bridge.hook_dict

    def neurons(
        self, layer: int, x: Float[Tensor, "... d_model"], point: str
    ) -> Float[Tensor, "... d_mlp"]:
        """What passes a hook point of a layer's MLP (`hook_pre`, ...) for these streams."""
        rows = self.normalise(layer, "mlp", x.reshape(-1, x.shape[-1]))
        mlp, seen = self.bridge.blocks[layer].mlp, []
        name = f"blocks.{layer}.mlp.{point}"

        def keep(value: Tensor, hook: Any) -> None:  # noqa: ARG001
            seen.append(value.detach())

        with self._precision(), torch.no_grad(), self.bridge.hooks(fwd_hooks=[(name, keep)]):
            if mlp.name is not None:
                mlp(rows[None])
            else:  # OPT's two linear maps stand in the block itself.
                activation = self.bridge.blocks[layer].original_component.activation_fn
                mlp.out(activation(getattr(mlp, "in")(rows)))
        if not seen:
            raise ModelError(f"nothing passes {name} of {self.name}")
        return seen[0].reshape(*x.shape[:-1], -1)

    def neuron_output(
        self, layer: int, change: Float[Tensor, "... d_mlp"]
    ) -> Float[Tensor, "... d_model"]:
        """What a change of a layer's `post` activations changes of what its MLP writes."""
        out = self._module(self.bridge.blocks[layer].mlp.out)
        return out(change) - out(torch.zeros_like(change))

    def final_norm(self, x: Tensor) -> Tensor:
        """The norm in front of the unembedding, over the last axis of any tensor.

        Raises:
            ModelError: there is something else between the final stream and the unembedding.
        """
        if not hasattr(self.bridge, "ln_final"):
            raise ModelError(
                f"{self.name} has no norm of the final stream, and the engine does not know what "
                "it has instead; use --engine reference"
            )
        return self._module(self.bridge.ln_final)(x)

    def unembedding(
        self,
    ) -> tuple[Float[Tensor, "d_vocab d_model"], Float[Tensor, " d_vocab"] | None]:
        """Weight and bias of the unembedding, with the logits' scale if the model has one."""
        head, scale = self.bridge.unembed.original_component, self.logit_scale
        weight, bias = head.weight.detach(), getattr(head, "bias", None)
        bias = None if bias is None else bias.detach()
        if scale != 1:
            weight, bias = weight * scale, None if bias is None else bias * scale
        return weight, bias

    def norm_is_folded(self, layer: int) -> bool:
        """Whether the norm in front of attention has gains of 1, or none."""
        size = self.bridge.cfg.d_model
        unit = torch.eye(
            size, dtype=self.torch_dtype, device=self.head_output_weights(layer).device
        )
        linear = self._norm_map(layer, unit)
        # Off its diagonal only a centring norm has anything, the same everywhere.
        gains = linear.diagonal() - (linear.sum() - linear.trace()) / (size * max(size - 1, 1))
        return bool(torch.allclose(gains, torch.ones_like(gains), atol=1e-3))

    def frozen_norm(
        self, layer: int, stream: Float[Tensor, "... d_model"], change: Float[Tensor, "... d_model"]
    ) -> Float[Tensor, "... d_model"]:
        """What a change of the stream adds behind attention's norm if the scale stays the same."""
        return self._norm_map(layer, change) / self._norm_scale(layer, stream)

    def _norm_map(self, layer: int, x: Tensor) -> Tensor:
        """The norm's linear part, centring and gain, without the division by its scale."""
        offset = self.normalise(layer, "attn", torch.zeros_like(x))
        return (self.normalise(layer, "attn", x) - offset) * self._norm_scale(layer, x)

    def _norm_scale(self, layer: int, x: Tensor) -> Float[Tensor, "... 1"]:
        """What the norm in front of attention divides by."""
        name, seen = f"blocks.{layer}.ln1.hook_scale", []

        def keep(value: Tensor, hook: Any) -> None:  # noqa: ARG001
            seen.append(value.detach())

        if name not in self.bridge.hook_dict:
            raise ModelError(f"{self.name} does not show the scale of its norms ({name})")
        with self._precision(), torch.no_grad(), self.bridge.hooks(fwd_hooks=[(name, keep)]):
            self.bridge.blocks[layer].ln1(x)
        if not seen:
            raise ModelError(f"nothing passes {name} of {self.name}")
        return seen[0]

    def normalise(self, layer: int, before: str, x: Tensor) -> Tensor:
        """The model's own norm in front of `attn` or `mlp`, over the last axis of any tensor."""
        block = self.bridge.blocks[layer]
        name = "ln2" if before == "mlp" and "ln2" in block.submodules else "ln1"
        return self._module(getattr(block, name))(x)


def _mlp_parts(block: Any) -> list[Any]:
    """A block's MLP as one component, or OPT's two linear maps, which stand in the block itself."""
    if block.mlp.name is not None:
        return [block.mlp]
    return [getattr(block.mlp, name) for name in ("in", "out")]

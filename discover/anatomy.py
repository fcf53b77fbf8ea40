"""What is inside a wrapped model: weights by head, norms, MLPs, rotations, the unembedding."""

from __future__ import annotations

import contextlib
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
        scale = float(getattr(attn, "scaling", None) or self.d_head**-0.5)
        if getattr(cfg, "scale_attn_by_inverse_layer_idx", False):
            scale = self.d_head**-0.5 / (layer + 1)
        return scale

    @property
    def attention_soft_cap(self) -> float:
        """`cap * tanh(score / cap)` is applied to attention scores if this is positive."""
        return float(getattr(self.bridge.cfg, "attn_scores_soft_cap", None) or 0.0)

    @property
    def logit_soft_cap(self) -> float:
        """`cap * tanh(logit / cap)` is applied to logits if this is positive."""
        return float(getattr(self.bridge.cfg, "output_logits_soft_cap", None) or 0.0)

    def head_norms(self, layer: int) -> dict[str, Callable[[Tensor], Tensor]]:
        """Norms over each head's own q and k (Qwen3), by kind; empty where there are none.

        Raises:
            ModelError: the norm runs over all heads at once, so heads cannot be taken apart.
        """
        attn = self.bridge.blocks[layer].attn
        found = {kind: f"{kind}_norm" for kind in "qk" if f"{kind}_norm" in attn.submodules}
        if found and getattr(attn, "_qk_norm_phase", "") != "post_reshape":
            raise ModelError(
                f"{self.name} normalises q and k over all heads of layer {layer} at once; the "
                "engine cannot take that apart by head"
            )
        return {kind: self._module(getattr(attn, name)) for kind, name in found.items()}

    def _module(self, component: Any) -> Callable[[Tensor], Tensor]:
        """A component's own module as a plain function in the model's precision."""
        module = component.original_component

        def call(x: Tensor) -> Tensor:
            with self._precision():
                out = module(x)
            value: Tensor = out[0] if isinstance(out, tuple) else out
            return value

        return call

    @property
    def rotary(self) -> str | None:
        """How q and k are rotated: `halves`, `interleaved`, or None for no rotation.

        Raises:
            ModelError: the model rotates in a way that is not known here.
        """
        attn = self.bridge.blocks[0].attn
        if "blocks.0.attn.hook_cos" in self.bridge.hook_dict:
            return "halves"
        if hasattr(attn.original_component, "embed_positions"):
            return "interleaved"
        if getattr(self.bridge.cfg, "positional_embedding_type", None) in ("rotary", "alibi"):
            raise ModelError(f"{self.name} embeds positions in a way that the engine does not know")
        return None

    def interleaved_angles(self, layer: int, padded: PaddedPrompts) -> tuple[Tensor, Tensor]:
        """GPT-J's cosines and sines, each angle twice: Float[batch, pos, d_rotary]."""
        table = self.bridge.blocks[layer].attn.original_component.embed_positions
        at = torch.as_tensor(padded.position_ids, device=table.device)
        sin, cos = table[at].to(self.torch_dtype).chunk(2, -1)
        return cos.repeat_interleave(2, -1), sin.repeat_interleave(2, -1)

    def mlp(self, layer: int, x: Tensor) -> Tensor:
        """A layer's MLP with its norm, over the last axis of any tensor: what `m{layer}` writes."""
        module = self._module(self.bridge.blocks[layer].mlp)
        rows = x.reshape(-1, x.shape[-1])
        if x.device.type != "cpu" or len(rows) <= MLP_ROWS:
            return module(self.normalise(layer, "mlp", x))
        parts = [module(self.normalise(layer, "mlp", part)) for part in rows.split(MLP_ROWS)]
        return torch.cat(parts).view(x.shape)

    def final_norm(self, x: Tensor) -> Tensor:
        """The norm in front of the unembedding, over the last axis of any tensor."""
        return self._module(self.bridge.ln_final)(x)

    def unembedding(
        self,
    ) -> tuple[Float[Tensor, "d_vocab d_model"], Float[Tensor, " d_vocab"] | None]:
        """Weight and bias of the unembedding, as the model itself holds them."""
        head = self.bridge.unembed.original_component
        bias = getattr(head, "bias", None)
        return head.weight.detach(), None if bias is None else bias.detach()

    def normalise(self, layer: int, before: str, x: Tensor) -> Tensor:
        """The model's own norm in front of `attn` or `mlp`, over the last axis of any tensor."""
        block = self.bridge.blocks[layer]
        name = "ln2" if before == "mlp" and "ln2" in block.submodules else "ln1"
        return self._module(getattr(block, name))(x)

"""What a model must be to have a computational graph; what stands in the way is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components import (
    BlockBridge,
    MoEBridge,
    ParallelBlockBridge,
)

from discover.errors import ModelError
from discover.graph import ComputationalGraph
from discover.model.precision import precision_of
from discover.tolerance import LOADED

PROBE = 8
"""How many tokens a model is tried on when it is loaded."""

CANNOT = (ValueError, LookupError, AttributeError, TypeError, RuntimeError)
"""What models and bridges raise when they are built or run as they cannot be."""

_ALIBI = "{name} is not supported: it adds a position bias to attention scores (ALiBi)"


def check_config(name: str, config: Any) -> None:
    """Refuse what can be told from the config alone."""
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder; only decoders with one residual stream work"
        )
    if getattr(config, "do_layer_norm_before", True) is False:
        raise ModelError(f"{name} has post-norm blocks: what a head writes is normalised again")
    if getattr(config, "alibi", False) is True:
        raise ModelError(_ALIBI.format(name=name))
    multiplier = float(getattr(config, "residual_multiplier", None) or 1.0)
    if multiplier != 1:
        raise ModelError(
            f"{name} is not supported: it scales what heads and MLPs write by its "
            f"residual_multiplier {multiplier:g}, so that head outputs do not simply add"
        )


def graph_of(name: str, bridge: TransformerBridge) -> ComputationalGraph:
    """The computational graph of a bridge, or the obstruction to having one."""
    if not hasattr(bridge, "blocks"):
        raise ModelError(f"{name} has no stack of blocks; only decoder-only transformers work")
    parts = [set(block.submodules) for block in bridge.blocks]
    for layer, block in enumerate(bridge.blocks):
        if obstruction := next(_obstructions(block, parts[layer]), None):
            raise ModelError(f"{name} is not supported: layer {layer} {obstruction}")
    with_mlp = {"mlp" in part for part in parts}
    if len(with_mlp) != 1:
        raise ModelError(f"{name} is not supported: only some of its layers have an MLP")
    cfg = bridge.cfg
    if cfg.positional_embedding_type == "alibi":
        raise ModelError(_ALIBI.format(name=name))
    parallel = {isinstance(block, ParallelBlockBridge) for block in bridge.blocks}
    if len(parallel) != 1:
        raise ModelError(f"{name} is not supported: only some of its blocks are parallel")
    heads = int(cfg.n_heads)
    return ComputationalGraph(
        n_layers=len(parts),
        n_heads=heads,
        n_kv_heads=int(getattr(cfg, "n_key_value_heads", None) or heads),
        parallel=parallel.pop(),
        mlp=with_mlp.pop(),
    )


def _obstructions(block: Any, parts: set[str]) -> Iterator[str]:
    if not isinstance(block, BlockBridge):
        yield f"is a {type(block).__name__}, not attention and MLP on one residual stream"
    if "attn" not in parts:
        yield "has no attention"
    if post := {"ln1_post", "ln2_post"} & parts:
        yield f"has post-norm blocks ({', '.join(sorted(post))}): head outputs do not simply add"
    if extra := parts - {"ln1", "ln2", "attn", "mlp"}:
        yield f"has parts that the graph has no node for: {', '.join(sorted(extra))}"
    if "mlp" in parts and isinstance(block.mlp, MoEBridge):
        yield "is a mixture of experts, which the graph has no node for"
    if missing := {"q", "k", "v", "o"} - set(block.attn.submodules):
        yield f"does not show its {', '.join(sorted(missing))} projections"


def probe_tokens(cfg: Any) -> Int[Tensor, "1 pos"]:
    """The tokens that a model is tried on when it is loaded."""
    vocabulary = int(getattr(cfg, "d_vocab", None) or cfg.vocab_size)
    longest = getattr(cfg, "n_ctx", None) or getattr(cfg, "max_position_embeddings", None)
    return torch.arange(min(PROBE, vocabulary, int(longest or PROBE)))[None]


@torch.no_grad()
def own_logits(module: Any, precision: torch.dtype) -> Tensor | None:
    """A Hugging Face model's logits of the probe; None if it does not run like this."""
    try:
        with precision_of(precision):
            logits: Tensor = module(probe_tokens(module.config)).logits
    except CANNOT:
        return None  # `Model` says what is wrong with it.
    return logits


@torch.no_grad()
def check_logits(name: str, bridge: TransformerBridge, own: Tensor | None) -> None:
    """Refuse a bridge that does not compute what the module in it computed before."""
    if own is None:
        return
    with precision_of(own.dtype):
        gap = relative_gap(bridge(probe_tokens(bridge.original_model.config)), own)
    if not gap <= LOADED[str(own.dtype).removeprefix("torch.")]:
        raise ModelError(
            f"{name} is not supported: behind TransformerLens's bridge it does not give its own "
            f"logits (relative difference {gap:.1e}); some setting of its config is ignored there"
        )


def relative_gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value expected."""
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)


def first_line(error: Exception) -> str:
    """The part of another library's message that fits into one of ours."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__

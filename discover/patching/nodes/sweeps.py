"""The sweeps of TransformerLens's demos, a call each.

Source: N. Nanda, "Attribution Patching" and TransformerLens's `patching` module, whose
`get_act_patch_block_every`, `get_act_patch_attn_head_all_pos_every` and
`get_act_patch_attn_head_by_pos_every` these equal (with named axes: layer, pos, head).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from discover.labelled import Results
from discover.model import Model
from discover.patching.nodes.act import act_patch
from discover.patching.nodes.node import IterNode

_HEAD = ["z", "q", "k", "v", "pattern"]


def block_every(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_metric: Any,
    *,
    seq_pos: Any = "each",
    layers: Sequence[int] | None = None,
    **options: Any,
) -> Results:
    """resid_pre, attn_out and mlp_out of each `(layer, pos)` patched.

    `seq_pos` may map names to positions (`roles_of`), `layers` restrict the layers; other options
    are those of `act_patch`.
    """
    names = ["resid_pre", "attn_out", "mlp_out"] if model.graph.mlp else ["resid_pre", "attn_out"]
    return _sweep(names, seq_pos, layers, model, orig_input, new_input, patching_metric, options)


def head_all_pos_every(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_metric: Any,
    *,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> Results:
    """z, q, k, v and pattern of each `(layer, head)` patched at all positions together.

    `layers` restricts the layers; other options are those of `act_patch`.
    """
    return _sweep(_HEAD, None, layers, model, orig_input, new_input, patching_metric, options)


def head_by_pos_every(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_metric: Any,
    *,
    seq_pos: Any = "each",
    layers: Sequence[int] | None = None,
    **options: Any,
) -> Results:
    """z, q, k, v and pattern of each `(layer, pos, head)`; of a pattern, pos is the query's.

    `seq_pos` may map names to positions (`roles_of`), `layers` restrict the layers; other options
    are those of `act_patch`.
    """
    return _sweep(_HEAD, seq_pos, layers, model, orig_input, new_input, patching_metric, options)


def _sweep(
    names: list[str],
    seq_pos: Any,
    layers: Sequence[int] | None,
    model: Model,
    orig_input: Any,
    new_input: Any,
    metric: Any,
    options: dict[str, Any],
) -> Results:
    nodes = IterNode(names, seq_pos, layers)
    found = act_patch(model, orig_input, nodes, metric, new_input=new_input, **options)
    return cast(Results, found)

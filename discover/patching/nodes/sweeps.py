"""The sweeps of TransformerLens's demos, a call each.

Source: N. Nanda, "Attribution Patching" and TransformerLens's `patching` module, whose
`get_act_patch_block_every`, `get_act_patch_attn_head_all_pos_every` and
`get_act_patch_attn_head_by_pos_every` these equal (with named axes: layer, pos, head).
"""

from __future__ import annotations

from typing import Any, cast

from discover.labelled import Results
from discover.model import Model
from discover.patching.nodes.act import act_patch
from discover.patching.nodes.node import IterNode


def block_every(
    model: Model, orig_input: Any, new_input: Any, patching_metric: Any, **options: Any
) -> Results:
    """resid_pre, attn_out and mlp_out of each `(layer, pos)` patched; options as of `act_patch`."""
    names = ["resid_pre", "attn_out", "mlp_out"] if model.graph.mlp else ["resid_pre", "attn_out"]
    nodes = IterNode(names, seq_pos="each")
    return _all(model, orig_input, new_input, nodes, patching_metric, options)


def head_all_pos_every(
    model: Model, orig_input: Any, new_input: Any, patching_metric: Any, **options: Any
) -> Results:
    """z, q, k, v and pattern of each `(layer, head)` patched at all positions together."""
    nodes = IterNode(["z", "q", "k", "v", "pattern"])
    return _all(model, orig_input, new_input, nodes, patching_metric, options)


def head_by_pos_every(
    model: Model, orig_input: Any, new_input: Any, patching_metric: Any, **options: Any
) -> Results:
    """z, q, k, v and pattern of each `(layer, pos, head)`; of a pattern, pos is the query's."""
    nodes = IterNode(["z", "q", "k", "v", "pattern"], seq_pos="each")
    return _all(model, orig_input, new_input, nodes, patching_metric, options)


def _all(
    model: Model, orig: Any, new: Any, nodes: IterNode, metric: Any, options: dict[str, Any]
) -> Results:
    return cast(Results, act_patch(model, orig, nodes, metric, new_input=new, **options))

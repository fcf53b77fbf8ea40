"""The researcher's hand tools: patch any node, any path, by hand or one after the other."""

from __future__ import annotations

from discover.patching.nodes.act import act_patch
from discover.patching.nodes.cache import ActivationCache, run_with_cache
from discover.patching.nodes.components import COMPONENTS
from discover.patching.nodes.direct import direct_paths
from discover.patching.nodes.gradients import (
    attribution_agreement,
    attribution_patch,
    exact_effects,
)
from discover.patching.nodes.inputs import (
    Inputs,
    clean_inputs,
    corrupted_inputs,
    make_inputs,
    role_positions,
    roles_of,
)
from discover.patching.nodes.measures import (
    METRICS,
    PatchingMetric,
    denoising,
    kl_divergence,
    logit_difference,
    loss,
    measure,
    noising,
)
from discover.patching.nodes.names import node_name, parse_node, parse_nodes
from discover.patching.nodes.node import IterNode, Node
from discover.patching.nodes.pairs import HeadEffects, patch_heads
from discover.patching.nodes.path import path_patch
from discover.patching.nodes.sweeps import block_every, head_all_pos_every, head_by_pos_every

__all__ = [
    "COMPONENTS",
    "METRICS",
    "ActivationCache",
    "HeadEffects",
    "Inputs",
    "IterNode",
    "Node",
    "PatchingMetric",
    "act_patch",
    "attribution_agreement",
    "attribution_patch",
    "block_every",
    "clean_inputs",
    "corrupted_inputs",
    "denoising",
    "direct_paths",
    "exact_effects",
    "head_all_pos_every",
    "head_by_pos_every",
    "kl_divergence",
    "logit_difference",
    "loss",
    "make_inputs",
    "measure",
    "node_name",
    "noising",
    "parse_node",
    "parse_nodes",
    "patch_heads",
    "path_patch",
    "role_positions",
    "roles_of",
    "run_with_cache",
]

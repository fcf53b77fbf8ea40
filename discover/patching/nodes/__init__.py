"""The researcher's hand tools: patch any node, any path, by hand or one after the other."""

from __future__ import annotations

from discover.patching.nodes.act import act_patch
from discover.patching.nodes.cache import ActivationCache, run_with_cache
from discover.patching.nodes.components import COMPONENTS
from discover.patching.nodes.inputs import Inputs, clean_inputs, corrupted_inputs, make_inputs
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
from discover.patching.nodes.node import IterNode, Node
from discover.patching.nodes.path import path_patch

__all__ = [
    "COMPONENTS",
    "METRICS",
    "ActivationCache",
    "Inputs",
    "IterNode",
    "Node",
    "PatchingMetric",
    "act_patch",
    "clean_inputs",
    "corrupted_inputs",
    "denoising",
    "kl_divergence",
    "logit_difference",
    "loss",
    "make_inputs",
    "measure",
    "noising",
    "path_patch",
    "run_with_cache",
]

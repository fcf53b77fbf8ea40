"""Graphs to draw from, and what the tests of the torch-free modules know without their code."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st

from discover.graph import ComputationalGraph

law = settings(max_examples=60, deadline=None)
"""For properties: no deadline, since a busy machine is no defect."""


@st.composite
def graphs(draw: st.DrawFn, layers: int = 3, per_group: int = 3) -> ComputationalGraph:
    groups = draw(st.integers(1, 2))
    return ComputationalGraph(
        n_layers=draw(st.integers(1, layers)),
        n_heads=groups * draw(st.integers(1, per_group)),
        n_kv_heads=groups,
        parallel=draw(st.booleans()),
        mlp=draw(st.booleans()),
    )


@cache
def nodes_behind(graph: ComputationalGraph, receiver: str) -> frozenset[str]:
    """The senders that a receiver is an input of, read off its name."""
    if receiver == "logits":
        return frozenset()
    layer, _, rest = receiver.partition(".")
    if rest == "in":
        return frozenset({layer})
    owner = rest.split(".")[0]
    if not owner.startswith("kv"):
        return frozenset({f"{layer}.{owner}"})
    size = graph.n_heads // graph.n_kv_heads
    return frozenset(f"{layer}.h{h}" for h in range(graph.n_heads) if h // size == int(owner[2:]))


def printed_under_hash_seeds(code: str) -> set[str]:
    """What the code prints under each of three hash seeds: one element if it does not matter."""
    return {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "012"
    }

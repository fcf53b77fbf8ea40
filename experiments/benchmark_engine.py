"""Engine against reference, side by side in one process; figures for docs/benchmarks.md.

    python experiments/benchmark_engine.py [--model tiny-ioi] [--prompts 20] [--tau 0.01]
        [--threads N] [--reference-edges 200]

Both search the same prompts on the same machine with the same number of threads; timed is the
search, without loading and the clean and corrupted runs that either makes first. If the reference
would take too long, only its first `--reference-edges` evaluations are timed and the rest is
extrapolated from their mean, which the output says. Also printed: the machine's GFLOP/s, the
evaluations and node computations, and whether the circuits are equal.
"""

from __future__ import annotations

import argparse
import itertools
import time

import torch
from benchmarking import machine

from discover.acdc import Decision, Speculation, circuit_of, search
from discover.model import Model, load_model
from discover.patching.exact import ExactPatcher
from discover.patching.reference import ReferencePatcher
from discover.prompts import PromptPairs
from discover.tasks import build_prompts


def main() -> None:
    """Time both engines and print one report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-ioi")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tau", type=float, default=0.01)
    parser.add_argument("--metric", default="kl")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--reference-edges", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_model(options.model)
    assert model.tokenizer is not None
    prompts = build_prompts("ioi", model.tokenizer, options.prompts, 0)
    print(machine())
    print(f"{options.model}, {len(prompts)} prompts, {options.metric}, tau {options.tau:g}")
    fast, seconds = _engine(model, prompts, options.metric, options.tau)
    evaluated = sum(row.outcome != "dead" for row in fast)
    slow, slow_seconds, asked = _reference(
        model, prompts, options.metric, options.tau, options.reference_edges
    )
    note = ""
    if len(slow) < len(fast):
        slow_seconds *= evaluated / asked
        note = f" (extrapolated from {asked} evaluations)"
    else:
        same = circuit_of(model.graph, slow).hash == circuit_of(model.graph, fast).hash
        print(f"same circuit: {'yes' if same else 'NO'}")
    agree = all(a.outcome == b.outcome for a, b in zip(slow, fast, strict=False))
    worst = max(abs(a.after - b.after) for a, b in zip(slow, fast, strict=False))
    print(f"same decisions where both decided: {'yes' if agree else 'NO'}, damages to {worst:.1e}")
    print(f"reference {slow_seconds:.1f} s{note}, engine {seconds:.2f} s: ", end="")
    print(f"{slow_seconds / seconds:.0f} times faster")


def _engine(
    model: Model, prompts: PromptPairs, metric: str, tau: float
) -> tuple[list[Decision], float]:
    patcher = ExactPatcher(model, prompts, metric, "resample")
    began = time.perf_counter()
    speculation = Speculation(limit=patcher.block_limit)
    rows = list(search(model.graph, patcher, tau, speculation=speculation))
    seconds = time.perf_counter() - began
    plain = speculation.accepted * len(model.graph.senders)
    print(
        f"engine: {sum(row.outcome == 'kept' for row in rows)} kept, {speculation.accepted} "
        f"decided by evaluation, {speculation.wasted} evaluations wasted, "
        f"{speculation.blocks} blocks, {patcher.node_computations:,} node computations "
        f"({patcher.node_computations / plain:.1%} of the plain loop's {plain:,})"
    )
    return rows, seconds


def _reference(
    model: Model, prompts: PromptPairs, metric: str, tau: float, limit: int | None
) -> tuple[list[Decision], float, int]:
    patcher = ReferencePatcher(model, prompts, metric, "resample")
    began = time.perf_counter()
    found = search(model.graph, patcher, tau)
    rows = list(itertools.islice(found, limit) if limit else found)
    asked = sum(row.outcome != "dead" for row in rows)
    return rows, time.perf_counter() - began, asked


if __name__ == "__main__":
    main()

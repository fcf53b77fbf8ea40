"""How the exact search's cost grows with layers, prompts, their length and the circuit.

    python experiments/benchmark_growth.py [--threads 2]

GPT-2-style models with random weights that leave a circuit (width 256, 8 heads, 4,096 tokens); one
thing is varied at a time. `of peak`: the products' FLOPs as torch counts them, in a second search
of the same edges, over seconds and over the FLOP/s of a large matrix product on this machine.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace

import torch
from benchmarking import machine, matmul_flops, random_module, random_prompts
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config

from discover.acdc import Speculation, search
from discover.model import Model, wrap_module
from discover.patching.exact import ExactPatcher
from discover.prompts import PromptPairs

WIDTH, HEADS, VOCABULARY = 256, 8, 4096
STRENGTH = {"c_attn": 2.0, "attn.c_proj": 4.0, "c_fc": 1.0, "mlp.c_proj": 0.4}
"""Standard deviation of what each matrix puts out for inputs of standard deviation 1."""


@dataclass(frozen=True)
class Case:
    """One search: the model's layers, the prompts, and the threshold."""

    layers: int = 12
    prompts: int = 8
    length: int = 15
    tau: float = 0.1


def main() -> None:
    """Time every case and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    peak = matmul_flops()
    print(machine())
    print("| layers | prompts | length | tau | edges | kept | evaluated | search | an evaluation "
          "| of peak |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    base = Case()
    cases = [replace(base, layers=n) for n in (6, 12, 24)]
    cases += [replace(base, prompts=n) for n in (1, 8, 64)]
    cases += [replace(base, length=n) for n in (8, 15, 30)]
    cases += [replace(base, tau=tau) for tau in (0.2, 0.1, 0.05)]
    for case in dict.fromkeys(cases):
        print(row(case, peak), flush=True)


def row(case: Case, peak: float) -> str:
    """One line of the table."""
    model, prompts = build_model(case.layers), random_prompts(VOCABULARY, case.prompts, case.length)
    seconds, kept, evaluated, edges = run(model, prompts, case.tau)
    with FlopCounterMode(display=False) as counter:
        run(model, prompts, case.tau)
    share = counter.get_total_flops() / seconds / peak
    return (
        f"| {case.layers} | {case.prompts} | {case.length} | {case.tau:g} | {edges:,} | {kept} "
        f"| {evaluated:,} | {seconds:.1f} s | {1e3 * seconds / evaluated:.2f} ms | {share:.0%} |"
    )


def run(model: Model, prompts: PromptPairs, tau: float) -> tuple[float, int, int, int]:
    """Seconds of one search, and its kept, evaluated and all edges."""
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    began = time.perf_counter()
    speculation = Speculation(limit=patcher.block_limit)
    rows = list(search(model.graph, patcher, tau, speculation=speculation))
    seconds = time.perf_counter() - began
    kept = sum(decision.outcome == "kept" for decision in rows)
    return seconds, kept, sum(decision.outcome != "dead" for decision in rows), len(rows)


def build_model(layers: int) -> Model:
    """Random weights of that depth that leave a circuit."""
    config = GPT2Config(
        n_layer=layers,
        n_head=HEADS,
        n_embd=WIDTH,
        vocab_size=VOCABULARY,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    module = random_module(config, STRENGTH, logits=0.3)
    return wrap_module(module, name=f"random-{layers}", share=True)


if __name__ == "__main__":
    main()

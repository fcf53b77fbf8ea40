"""How the exact search's cost grows with layers, prompts, their length and the circuit.

    python experiments/benchmark_growth.py [--threads 2]

GPT-2-style models with random weights that leave a circuit (width 256, 8 heads, 4,096 tokens); one
thing is varied at a time. `of peak`: the products' FLOPs as torch counts them, in a second search
of the same edges, over seconds and over the FLOP/s of a large matrix product on this machine.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from discover.acdc import Speculation, search
from discover.model import Model, wrap_module
from discover.patching.exact import ExactPatcher
from discover.prompts import PromptPair, PromptPairs

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
    peak = _peak()
    machine = f"{platform.machine()}, {options.threads} thread(s), {peak / 1e9:.0f} GFLOP/s float32"
    print(f"{datetime.date.today()}: {machine}, torch {torch.__version__}")
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
    model, prompts = build_model(case.layers), build_prompts(case.prompts, case.length)
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


def build_model(layers: int, seed: int = 0) -> Model:
    """Random weights of that depth that leave a circuit."""
    torch.manual_seed(seed)
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
    module = GPT2LMHeadModel(config)
    for name, parameter in module.named_parameters():
        noise = torch.randn_like(parameter)
        if "ln_" in name:
            parameter.data = 1 + 0.2 * noise if name.endswith("weight") else 0.05 * noise
        elif parameter.ndim == 1:
            parameter.data = 0.02 * noise
        elif "wte" in name or "wpe" in name:
            parameter.data = noise * (1.0 if "wte" in name else 0.3)
        elif "lm_head" in name:
            parameter.data = 0.3 * noise
        else:
            strength = next(value for key, value in STRENGTH.items() if key in name)
            fan_in = 4 * WIDTH if "mlp.c_proj" in name else WIDTH
            parameter.data = noise * strength / fan_in**0.5
    return wrap_module(module, name=f"random-{layers}", share=True)


def build_prompts(number: int, length: int, changed: int = 3, seed: int = 0) -> PromptPairs:
    """Random tokens, of which a few before the last are others in the corrupted twin."""
    draw = np.random.default_rng(seed)
    pairs = []
    for _ in range(number):
        clean = draw.integers(0, VOCABULARY, length)
        corrupted = clean.copy()
        at = draw.choice(length - 1, changed, replace=False)
        corrupted[at] = draw.integers(0, VOCABULARY, changed)
        pairs.append(PromptPair(tuple(map(int, clean)), tuple(map(int, corrupted))))
    return PromptPairs(pairs)


def _peak() -> float:
    a, b = torch.randn(2048, 1024), torch.randn(1024, 2048)
    a @ b
    began = time.perf_counter()
    for _ in range(10):
        a @ b
    return 10 * 2 * 2048 * 1024 * 2048 / (time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""Direct paths of all head pairs: `direct_paths` against TransformerLens, one forward a pair.

Both on the same model, prompts and metric in one process; the values are compared too.

    python experiments/benchmark_direct_paths.py --layers 4 --heads 12 --d-model 768
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarking import machine, random_module, random_prompts
from transformer_lens.patching import get_act_patch_direct_path_all_sources
from transformers import GPT2Config

from discover.model import wrap_module
from discover.patching.nodes import (
    clean_inputs,
    corrupted_inputs,
    direct_paths,
    logit_difference,
    run_with_cache,
)


def main() -> None:
    """Time both, compare their values, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    config = GPT2Config(
        n_layer=options.layers, n_head=options.heads, n_embd=options.d_model, n_positions=64
    )
    module = random_module(config, {"attn": 1.0, "mlp": 0.5}, logits=0.1)
    model = wrap_module(module, name="random GPT-2")
    prompts = random_prompts(config.vocab_size, options.prompts, options.length)
    metric = logit_difference(model, prompts)
    orig, new = corrupted_inputs(prompts), clean_inputs(prompts)
    pairs = options.layers * (options.layers - 1) // 2 * options.heads**2
    what = f"{options.prompts} prompts of {options.length} tokens, {options.layers} layers"
    print(f"{pairs:,} pairs, {what}")

    caches = [
        {key: cache[key] for key in cache}
        for cache in (run_with_cache(model, side, "z")[1] for side in (new, orig))
    ]
    tokens = torch.as_tensor(orig.tokens)
    theirs, slow = timed(
        lambda: get_act_patch_direct_path_all_sources(
            model.bridge, tokens, *caches, metric, "q", verbose=False
        ).numpy()
    )
    ours, fast = timed(lambda: direct_paths(model, orig, new, metric).numpy())
    print(f"TransformerLens {slow:.1f} s, {slow / pairs * 1e3:.1f} ms a pair")
    print(
        f"direct_paths    {fast:.1f} s, {fast / pairs * 1e3:.1f} ms: {slow / fast:.1f} times faster"
    )
    possible = ~np.isnan(ours)
    span = np.ptp(theirs[possible])
    gap = np.abs(ours - theirs)[possible].max() / span
    for name, at_once in (("8 pairs a forward", 8), ("one pair a forward", 1)):
        other, seconds = timed(
            lambda at_once=at_once: direct_paths(model, orig, new, metric, at_once=at_once).numpy()
        )
        apart = np.nanmax(np.abs(other - ours)) / span
        print(f"  {name} {seconds:.1f} s: {slow / seconds:.1f} times; apart {apart:.1e}")
    print(f"largest difference from TransformerLens {gap:.1e} of the values' range")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    began = time.perf_counter()
    value = call()
    return value, time.perf_counter() - began


if __name__ == "__main__":
    main()

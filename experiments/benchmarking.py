"""What the benchmarks share: the machine's speed, and random weights that leave a circuit."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Mapping

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from discover.prompts import PromptPair, PromptPairs


def matmul_flops() -> float:
    """Float32 operations a second of a large matrix product, with the threads now set."""
    a, b = torch.randn(2048, 1024), torch.randn(1024, 2048)
    a @ b
    began = time.perf_counter()
    for _ in range(10):
        a @ b
    return 10 * 2 * 2048 * 1024 * 2048 / (time.perf_counter() - began)


def machine() -> str:
    """Date, processor, threads, speed and torch, for the first line of a report."""
    speed = f"{torch.get_num_threads()} thread(s), {matmul_flops() / 1e9:.0f} GFLOP/s float32"
    return f"{datetime.date.today()}: {platform.machine()}, {speed}, torch {torch.__version__}"


def random_module(
    config: GPT2Config, strength: Mapping[str, float], logits: float, seed: int = 0
) -> GPT2LMHeadModel:
    """A GPT-2 with random weights far from those that a model is initialised with.

    `strength`: for parts of parameter names, the standard deviation of what such a matrix puts out
    for inputs of standard deviation 1; `logits`: that of the unembedding's weights. As initialised
    every edge would die at once, and any search of them be free.
    """
    torch.manual_seed(seed)
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
            parameter.data = logits * noise
        else:
            found = next(value for key, value in strength.items() if key in name)
            fan_in = config.n_embd * (4 if "mlp.c_proj" in name else 1)
            parameter.data = noise * found / fan_in**0.5
    return module


def random_prompts(
    vocabulary: int, number: int, length: int, changed: int = 3, seed: int = 0
) -> PromptPairs:
    """Random tokens, of which a few before the last are others in the corrupted twin."""
    draw = np.random.default_rng(seed)
    pairs = []
    for _ in range(number):
        clean = draw.integers(0, vocabulary, length)
        corrupted = clean.copy()
        at = draw.choice(length - 1, changed, replace=False)
        corrupted[at] = draw.integers(0, vocabulary, changed)
        right, wrong = (int(token) for token in draw.choice(vocabulary, 2, replace=False))
        twins = [tuple(int(token) for token in row) for row in (clean, corrupted)]
        pairs.append(PromptPair(twins[0], twins[1], (right,), (wrong,)))
    return PromptPairs(pairs)

"""Small models of every family, built from their real config classes with awkward weights."""

from __future__ import annotations

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 23

_LLAMA_LIKE = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "vocab_size": VOCAB,
    "max_position_embeddings": 32,
}

CONFIGS = {
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=VOCAB, n_positions=32),
    ),
    "gpt2-inverse-layer": (
        GPT2LMHeadModel,
        GPT2Config(
            n_layer=2,
            n_head=2,
            n_embd=8,
            vocab_size=VOCAB,
            n_positions=32,
            scale_attn_by_inverse_layer_idx=True,
        ),
    ),
    "neox": (
        GPTNeoXForCausalLM,
        GPTNeoXConfig(
            num_hidden_layers=2,
            hidden_size=16,
            num_attention_heads=4,
            intermediate_size=24,
            vocab_size=VOCAB,
            max_position_embeddings=32,
        ),
    ),
    "neox-sequential": (
        GPTNeoXForCausalLM,
        GPTNeoXConfig(
            num_hidden_layers=2,
            hidden_size=16,
            num_attention_heads=4,
            intermediate_size=24,
            vocab_size=VOCAB,
            max_position_embeddings=32,
            use_parallel_residual=False,
        ),
    ),
    "gptj": (
        GPTJForCausalLM,
        GPTJConfig(n_layer=2, n_embd=16, n_head=4, rotary_dim=2, vocab_size=VOCAB, n_positions=32),
    ),
    "llama": (LlamaForCausalLM, LlamaConfig(**_LLAMA_LIKE)),
    "mistral": (MistralForCausalLM, MistralConfig(**_LLAMA_LIKE, sliding_window=3)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**_LLAMA_LIKE)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**_LLAMA_LIKE, head_dim=6)),
}


def build_module(family: str, seed: int = 0) -> torch.nn.Module:
    """A model with random weights, norm weights far from 1 and biases far from 0."""
    kind, config = CONFIGS[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind(config).eval()
        for name, parameter in module.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                parameter.data += 0.3 * noise
            else:
                parameter.data = noise * (0.8 if "embed" in name or "wte" in name else 0.35)
    return module

"""Small models of every family, built from their real config classes with awkward weights.

`CONFIGS` are the families that every test of a forward, an engine or a score runs on; `MORE` are
further ones that both engines agree on; `REFERENCE_ONLY` are those that the exact engine must
refuse, with words of its reason, while the reference runs them; `NATIVE` are TransformerLens's own
models, for what no Hugging Face class has.
"""

from __future__ import annotations

import copy

import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    CodeGenConfig,
    CodeGenForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Ernie4_5Config,
    Ernie4_5ForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GlmConfig,
    GlmForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTBigCodeConfig,
    GPTBigCodeForCausalLM,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    HunYuanDenseV1Config,
    HunYuanDenseV1ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    NanoChatConfig,
    NanoChatForCausalLM,
    NemotronConfig,
    NemotronForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
    VaultGemmaConfig,
    VaultGemmaForCausalLM,
    XGLMConfig,
    XGLMForCausalLM,
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

# Two heads are enough where the family differs in something else than its heads.
_SMALLER = {
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "vocab_size": VOCAB,
    "max_position_embeddings": 32,
}
_GROUPED = {**_SMALLER, "num_key_value_heads": 1}

_NATIVE = {
    "n_layers": 2,
    "n_heads": 2,
    "d_model": 8,
    "d_head": 6,
    "d_mlp": 12,
    "n_ctx": 32,
    "d_vocab": VOCAB,
    "act_fn": "relu",
    "normalization_type": "LN",
    "init_weights": True,
    "seed": 0,
}

NATIVE = {
    "attention-only": {**_NATIVE, "attn_only": True},
    "attention-only-rotary": {
        **_NATIVE,
        "attn_only": True,
        "positional_embedding_type": "rotary",
        "normalization_type": "RMS",
        "n_key_value_heads": 1,
        "attn_scores_soft_cap": 1.5,
        "output_logits_soft_cap": 2.0,
    },
    "bidirectional": {**_NATIVE, "attention_dir": "bidirectional", "normalization_type": None},
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
    # Norm weights count from 1, embeddings are scaled, heads are wider than their share.
    "gemma": (GemmaForCausalLM, GemmaConfig(**_GROUPED, head_dim=6)),
    # Gemma 2 without its post-norms: soft caps on scores and logits, windows in every other layer.
    "vaultgemma": (
        VaultGemmaForCausalLM,
        VaultGemmaConfig(
            **_GROUPED,
            head_dim=6,
            attn_logit_softcapping=1.5,
            final_logit_softcapping=2.0,
            query_pre_attn_scalar=5,
            sliding_window=3,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    # One norm for attention and MLP, half of each head rotated, biases everywhere.
    "phi": (PhiForCausalLM, PhiConfig(**_SMALLER, partial_rotary_factor=0.5)),
    "qwen2-windows": (
        Qwen2ForCausalLM,
        Qwen2Config(**_GROUPED, use_sliding_window=True, sliding_window=3, max_window_layers=1),
    ),
    # No positions in the first layer.
    "smollm3": (
        SmolLM3ForCausalLM,
        SmolLM3Config(**_GROUPED, pad_token_id=0, no_rope_layers=[0, 1]),
    ),
    # Learned positions counted from 2, MLPs that are no module of their own.
    "opt": (
        OPTForCausalLM,
        OPTConfig(
            num_hidden_layers=2,
            hidden_size=8,
            word_embed_proj_dim=8,
            num_attention_heads=2,
            ffn_dim=12,
            vocab_size=VOCAB,
            max_position_embeddings=32,
        ),
    ),
    # Scores without a scale, a window in the second layer.
    "gpt-neo": (
        GPTNeoForCausalLM,
        GPTNeoConfig(
            num_layers=2,
            hidden_size=8,
            num_heads=2,
            vocab_size=VOCAB,
            max_position_embeddings=32,
            attention_types=[[["global", "local"], 1]],
            window_size=3,
        ),
    ),
    "attention-only": (TransformerBridge.boot_native, NATIVE["attention-only"]),
    "bidirectional": (TransformerBridge.boot_native, NATIVE["bidirectional"]),
}

_GPT2_LIKE = {"n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": VOCAB, "n_positions": 32}

MORE = {
    "neox-partial-rotary": (GPTNeoXForCausalLM, GPTNeoXConfig(**_SMALLER, rotary_pct=0.5)),
    "llama-biases-tied": (
        LlamaForCausalLM,
        LlamaConfig(**_GROUPED, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    ),
    "llama3-rope": (
        LlamaForCausalLM,
        LlamaConfig(
            **_GROUPED,
            rope_parameters={
                "rope_type": "llama3",
                "rope_theta": 100.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        ),
    ),
    # Neighbours are rotated, whatever is projected is clipped, logits are scaled, ...
    "cohere": (CohereForCausalLM, CohereConfig(**_GROUPED, logit_scale=0.5)),
    "granite": (
        GraniteForCausalLM,
        GraniteConfig(
            **_GROUPED, embedding_multiplier=3.0, attention_multiplier=0.2, logits_scaling=2.0
        ),
    ),
    "glm": (GlmForCausalLM, GlmConfig(**_GROUPED, head_dim=6, pad_token_id=0)),
    "ernie": (Ernie4_5ForCausalLM, Ernie4_5Config(**_GROUPED)),
    "olmo-clipped": (OlmoForCausalLM, OlmoConfig(**_GROUPED, clip_qkv=0.5)),
    "phi3": (Phi3ForCausalLM, Phi3Config(**_GROUPED, pad_token_id=0)),
    "stablelm": (StableLmForCausalLM, StableLmConfig(**_GROUPED, partial_rotary_factor=0.5)),
    "stablelm-parallel": (
        StableLmForCausalLM,
        StableLmConfig(**_GROUPED, partial_rotary_factor=0.5, use_parallel_residual=True),
    ),
    "falcon": (
        FalconForCausalLM,
        FalconConfig(num_hidden_layers=2, hidden_size=8, num_attention_heads=2, vocab_size=VOCAB),
    ),
    "codegen": (CodeGenForCausalLM, CodeGenConfig(**{**_GPT2_LIKE, "n_head": 4}, rotary_dim=2)),
    "gpt-bigcode": (GPTBigCodeForCausalLM, GPTBigCodeConfig(**_GPT2_LIKE)),
    "starcoder2": (Starcoder2ForCausalLM, Starcoder2Config(**_GROUPED)),
    "nemotron": (NemotronForCausalLM, NemotronConfig(**_GROUPED)),
    "xglm": (
        XGLMForCausalLM,
        XGLMConfig(
            d_model=8,
            num_layers=2,
            attention_heads=2,
            ffn_dim=12,
            vocab_size=VOCAB,
            max_position_embeddings=32,
        ),
    ),
    "smollm3-no-positions": (
        SmolLM3ForCausalLM,
        SmolLM3Config(**_GROUPED, pad_token_id=0, no_rope_layers=[0, 0]),
    ),
    "attention-only-rotary": (TransformerBridge.boot_native, NATIVE["attention-only-rotary"]),
}

REFERENCE_ONLY = {
    "nanochat": (
        NanoChatForCausalLM,
        NanoChatConfig(**_GROUPED),
        "rotates q and k where the engine cannot see it",
    ),
    "hunyuan": (
        HunYuanDenseV1ForCausalLM,
        HunYuanDenseV1Config(**_GROUPED, head_dim=6, pad_token_id=0),
        "normalises q and k behind their rotation",
    ),
    "stablelm-norms": (
        StableLmForCausalLM,
        StableLmConfig(**_GROUPED, partial_rotary_factor=0.5, qk_layernorm=True),
        "other weights for each head",
    ),
    "opt-projected": (
        OPTForCausalLM,
        OPTConfig(
            num_hidden_layers=2,
            hidden_size=8,
            word_embed_proj_dim=6,
            num_attention_heads=2,
            ffn_dim=12,
            vocab_size=VOCAB,
            max_position_embeddings=32,
        ),
        "no norm of the final stream",
    ),
    "modernbert-decoder": (
        ModernBertDecoderForCausalLM,
        ModernBertDecoderConfig(**_SMALLER, pad_token_id=0),
        "does not reproduce the logits",
    ),
}


def build_module(family: str, seed: int = 0) -> torch.nn.Module:
    """A model with random weights, norm weights far from 1 and biases far from 0."""
    kind, config = (CONFIGS | MORE | REFERENCE_ONLY)[family][:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = kind(copy.deepcopy(config)).eval()
        for name, parameter in module.named_parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim == 1:
                parameter.data = parameter.data + 0.3 * noise
            else:
                parameter.data = noise * (0.8 if "embed" in name or "wte" in name else 0.35)
    return module

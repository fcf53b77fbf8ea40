"""Compile the two Tracr programs of the ACDC paper into `discover/assets/`.

Not part of the package: it needs an environment of its own, since Tracr brings JAX along::

    python -m venv tracr-env
    tracr-env/bin/pip install tracr-pypi safetensors
    tracr-env/bin/python experiments/compile_tracr.py

Programs (ACDC, arXiv 2304.14997, Section 4 and the appendix on Tracr; compiler: arXiv 2301.05062):
`reverse` over the tokens 1, 2, 3, and `xproportion`, the fraction of the tokens so far that are
`x`, over w, x, y, z. Both take up to five tokens after a BOS and are not causal. For each it
writes `weights.safetensors` (named as TransformerLens's native bridge names them),
`config.json` and `expected.json` (inputs with Tracr's own outputs). Running it twice gives the
same bytes: Tracr sorts its bases, and nothing here depends on the order of a set.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import haiku as hk
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save
from tracr.compiler import compiling, lib
from tracr.rasp import rasp

BOS, PAD = "BOS", "compiler_pad"
MAX_SEQ_LEN = 5
INPUTS_PER_LENGTH = 13
ASSETS = Path(__file__).resolve().parent.parent / "discover" / "assets"


@dataclass(frozen=True)
class Program:
    """A RASP program, its vocabulary, and the edges that each ablation must find.

    The edge lists are claims about the compiled weights, taken from published code and checked by
    `tests/test_tracr.py`: `zero` as ACDC's repository lists them for zero ablation (token and
    position embedding as one sender), `resample` for prompts of equal length, where positions and
    length are the same in both prompts and so everything that computes the reversed index is idle
    (the AutoCircuit library, by the authors of arXiv 2407.08734, lists the same sets).
    """

    name: str
    sop: rasp.SOp
    vocab: tuple[Any, ...]
    summary: str
    zero: tuple[str, ...]
    resample: tuple[str, ...]


def programs() -> list[Program]:
    """The programs, in the order in which they must be compiled (it numbers Tracr's labels)."""
    return [
        Program(
            "tracr-reverse",
            lib.make_reverse(rasp.tokens),
            (1, 2, 3),
            "the tokens in reverse order",
            zero=(
                "a3.h0->logits",
                "embed->a3.h0.v",
                "embed->a3.h0.k",
                "m2->a3.h0.q",
                "m1->m2.in",
                "m0->m1.in",
                "embed->m1.in",
                "a0.h0->m0.in",
                "embed->m0.in",
                "embed->a0.h0.v",
            ),
            resample=("a3.h0->logits", "embed->a3.h0.v"),
        ),
        Program(
            "tracr-xproportion",
            lib.make_frac_prevs(rasp.tokens == "x"),
            ("w", "x", "y", "z"),
            "the fraction of the tokens so far that are x",
            zero=(
                "a1.h0->logits",
                "m0->a1.h0.v",
                "embed->a1.h0.k",
                "embed->a1.h0.q",
                "embed->m0.in",
            ),
            resample=("a1.h0->logits", "m0->a1.h0.v", "embed->m0.in"),
        ),
    ]


def bridge_weights(model: Any) -> dict[str, np.ndarray]:
    """Tracr's parameters as `[out, in]` matrices under the names of TransformerLens's bridge."""
    params = {
        (module, kind): np.asarray(value)
        for module, kinds in model.params.items()
        for kind, value in kinds.items()
    }
    out = {
        "embed.weight": params["token_embed", "embeddings"],
        "pos_embed.weight": params["pos_embed", "embeddings"],
        "unembed.weight": unembedding(model).T,
    }
    out["unembed.bias"] = np.zeros(len(out["unembed.weight"]), np.float32)
    places = {
        "attn.q": "attn/query",
        "attn.k": "attn/key",
        "attn.v": "attn/value",
        "attn.o": "attn/linear",
        "mlp.in": "mlp/linear_1",
        "mlp.out": "mlp/linear_2",
    }
    for layer in range(model.model_config.num_layers):
        for ours, theirs in places.items():
            module = f"transformer/layer_{layer}/{theirs}"
            out[f"blocks.{layer}.{ours}.weight"] = params[module, "w"].T
            out[f"blocks.{layer}.{ours}.bias"] = params[module, "b"]
    return {name: np.ascontiguousarray(w, dtype=np.float32) for name, w in out.items()}


def unembedding(model: Any) -> np.ndarray:
    """The projection `[d_model, d_vocab_out]` from the residual stream to the output space."""

    # Tracr keeps no such parameter: its unembedding is a closure, read out on the unit vectors.
    def project(x: Any) -> Any:
        return model.get_compiled_model().unembed(x, use_unembed_argmax=False)

    d_model = len(model.residual_labels)
    columns = np.asarray(
        hk.without_apply_rng(hk.transform(project)).apply({}, jnp.eye(d_model)), np.float32
    )
    return columns.reshape(d_model, -1)


def compiled_edges(weights: dict[str, np.ndarray], n_layers: int, n_heads: int) -> list[str]:
    """Every edge that the program's weights use: written by one end, read by the other.

    An edge counts if the sender writes a direction of the residual stream that the receiver has a
    non-zero weight on, and the receiver's node feeds the logits in the same way.
    """

    def split(matrix: np.ndarray) -> np.ndarray:
        return matrix.reshape(n_heads, -1, matrix.shape[-1])

    embed = weights["embed.weight"].any(0) | weights["pos_embed.weight"].any(0)
    writes = {"embed": embed}
    reads: list[tuple[str, str, np.ndarray, list[str]]] = []
    for layer in range(n_layers):
        block = f"blocks.{layer}"
        earlier = list(writes)
        # Backwards, since the walk below is: v before k before q, heads ascending.
        for kind, head in itertools.product("qkv", reversed(range(n_heads))):
            weight = split(weights[f"{block}.attn.{kind}.weight"])[head]
            node = f"a{layer}.h{head}"
            reads.append((f"{node}.{kind}", node, weight.any(0), earlier))
        for head in range(n_heads):
            weight = split(weights[f"{block}.attn.o.weight"].T)[head]
            writes[f"a{layer}.h{head}"] = weight.any(0)
        weight = weights[f"{block}.mlp.in.weight"]
        reads.append((f"m{layer}.in", f"m{layer}", weight.any(0), list(writes)))
        writes[f"m{layer}"] = weights[f"{block}.mlp.out.weight"].any(1)
    reads.append(("logits", "logits", weights["unembed.weight"].any(0), list(writes)))

    edges, alive = [], {"logits"}
    for receiver, node, read, senders in reversed(reads):
        for sender in reversed(senders) if node in alive else ():
            if (writes[sender] & read).any():
                edges.append(f"{sender}->{receiver}")
                alive.add(sender)
    return edges


def config(program: Program, model: Any, weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """Everything needed to rebuild the model and to read its inputs and outputs."""
    cfg = model.model_config
    if cfg.layer_norm or cfg.causal:
        raise RuntimeError("this Tracr compiles layer norms or causal attention: look again")
    ids = {index: str(value) for value, index in model.input_encoder.encoding_map.items()}
    outputs = getattr(model.output_encoder, "encoding_map", None)
    columns = {} if outputs is None else {index: str(value) for value, index in outputs.items()}
    if any(ids[i] != column for i, column in columns.items()):
        raise RuntimeError("output columns are not in the order of token ids: answers would be off")
    return {
        "program": program.name,
        "summary": program.summary,
        "source": "compiled by Tracr (arXiv 2301.05062, Apache-2.0) from RASP",
        "n_layers": cfg.num_layers,
        "n_heads": cfg.num_heads,
        "d_model": len(model.residual_labels),
        "d_head": cfg.key_size,
        "d_mlp": cfg.mlp_hidden_size,
        "d_vocab": len(ids),
        "d_vocab_out": len(weights["unembed.weight"]),
        "act_fn": "relu",
        "attention_dir": "bidirectional",
        "max_seq_len": MAX_SEQ_LEN,
        "vocab": [ids[i] for i in range(len(ids))],
        "bos": BOS,
        "pad": PAD,
        "output": "numerical" if outputs is None else "categorical",
        "output_vocab": [columns[i] for i in range(len(columns))],
        "residual_labels": list(model.residual_labels),
        "compiled_edges": compiled_edges(weights, cfg.num_layers, cfg.num_heads),
        "zero_edges": list(program.zero),
        "resample_edges": list(program.resample),
    }


def expected(program: Program, model: Any) -> list[dict[str, Any]]:
    """Tracr's own outputs on inputs of every length, evenly spaced where there are many."""
    to_logits = unembedding(model)
    cases = []
    for length in range(1, MAX_SEQ_LEN + 1):
        inputs = list(itertools.product(program.vocab, repeat=length))
        picks = np.linspace(0, len(inputs) - 1, min(INPUTS_PER_LENGTH, len(inputs)))
        for index in picks.round().astype(int):
            out = model.apply([BOS, *inputs[index]])
            logits = np.asarray(out.transformer_output)[0] @ to_logits
            cases.append(
                {
                    "text": " ".join(map(str, inputs[index])),
                    "tokens": model.input_encoder.encode([BOS, *inputs[index]]),
                    "decoded": [v if isinstance(v, int) else short(v) for v in out.decoded[1:]],
                    "logits": [[short(value) for value in row] for row in logits],
                }
            )
    return cases


def short(value: float) -> float:
    """The shortest decimal that is the same float32."""
    return float(str(np.float32(value)))


def write(program: Program, folder: Path) -> None:
    """Compile one program and write its three files."""
    model = compiling.compile_rasp_to_model(
        program.sop, set(program.vocab), MAX_SEQ_LEN, compiler_bos=BOS, compiler_pad=PAD
    )
    weights = bridge_weights(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(save(weights))
    facts = json.dumps(config(program, model, weights), indent=1)
    (folder / "config.json").write_text(facts + "\n", encoding="utf-8")
    # One case a line: short enough, and a change shows as the lines that changed.
    lines = ",\n".join(json.dumps(case) for case in expected(program, model))
    (folder / "expected.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{program.name}: {sum(w.size for w in weights.values())} weights -> {folder}")


def main() -> None:
    """Write both programs below `--out`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ASSETS, help="default: the package's assets")
    out = parser.parse_args().out
    for program in programs():
        write(program, out / program.name)


if __name__ == "__main__":
    main()

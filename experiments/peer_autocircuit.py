"""The other side of `benchmark_peers.py`: AutoCircuit 1.0.1, run by its own interpreter.

    PEER_PYTHON experiments/peer_autocircuit.py acdc|eap --weights DIR --prompts FILE
        [--einsum] [--threads 1] [--tau 0.07] [--edges 400] [--scores FILE]

Needs AutoCircuit and TransformerLens 2.18 (3.9 lacks a module that it imports) in a virtual
environment apart from this project's; `benchmark_peers.py` says how to make one. The weights are
a Hugging Face directory of a GPT-2, the prompts a JSON file of token ids; the answer is one JSON
object on stdout. Everything timed is AutoCircuit's own function:

- `acdc` times `acdc_prune_scores` on every so many-th edge of its own order, so that all layers
  have their share (it starts each forward at the layer of the edge, so the first edges are the
  cheapest), and once more on no edge at all, for what it does before the first.
- `eap` times `mask_gradient_prune_scores` with the logit difference and masks of zero.

`--einsum` replaces one line of TransformerLens 2.18, the product of heads' values and `W_O` that
it writes as a broadcast product and a sum, by the einsum that it was up to 2.4. "As shipped" is
without.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
import json
import resource
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import torch
from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.prune_algos.ACDC import acdc_prune_scores
from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores
from auto_circuit.utils.graph_utils import patchable_model
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.components import abstract_attention
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel

SLOW, FAST = "(z * w).sum(-2)", 'torch.einsum("bphd,hdm->bphm", z[..., 0], w[0, 0])'


def main() -> None:
    """Time one algorithm and print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithm", choices=("acdc", "eap"))
    parser.add_argument("--weights", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--einsum", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tau", type=float, default=0.07)
    parser.add_argument("--edges", type=int, default=400)
    parser.add_argument("--scores", help="where to write EAP's scores by edge, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.einsum:
        _use_einsum()
    model = _patchable(options.weights)
    loader = _loader(json.loads(Path(options.prompts).read_text(encoding="utf-8")))
    found: dict[str, Any] = {
        name: importlib.metadata.version(name)
        for name in ("auto-circuit", "transformer-lens", "torch")
    }
    found["all_edges"] = model.n_edges
    if options.algorithm == "acdc":
        found |= _acdc(model, loader, options.tau, options.edges)
    else:
        found |= _eap(model, loader, options.scores)
    print(json.dumps(found))


def _use_einsum() -> None:
    """Replace the slow line, in the source of the one method that has it."""
    source = textwrap.dedent(inspect.getsource(abstract_attention.AbstractAttention.forward))
    if source.count(SLOW) != 1:
        sys.exit(f"this TransformerLens has no line {SLOW!r} to replace; use 2.18")
    code = compile(source.replace(SLOW, FAST), abstract_attention.__file__, "exec")
    scope: dict[str, Any] = {}
    exec(code, vars(abstract_attention), scope)
    abstract_attention.AbstractAttention.forward = scope["forward"]


def _patchable(directory: str) -> Any:
    """The weights in TransformerLens's own model, unprocessed, with AutoCircuit's wrappers."""
    module = GPT2LMHeadModel.from_pretrained(directory)
    config = module.config
    own = HookedTransformerConfig(
        n_layers=config.n_layer,
        d_model=config.n_embd,
        n_heads=config.n_head,
        d_head=config.n_embd // config.n_head,
        d_mlp=4 * config.n_embd,
        n_ctx=config.n_positions,
        d_vocab=config.vocab_size,
        act_fn=config.activation_function,
        eps=config.layer_norm_epsilon,
        normalization_type="LN",
        device="cpu",
    )
    model = HookedTransformer(own)
    state = convert_gpt2_weights(module, own)
    missing, extra = model.load_state_dict(state, strict=False)
    # What is missing are constants (masks); the unembedding has a bias that GPT-2 lacks.
    strange = [n for n in missing if not n.endswith((".mask", ".IGNORE", "unembed.b_U"))]
    if extra or strange:
        sys.exit(f"weights do not fit: extra {extra}, missing {strange}")
    del module, state
    model.unembed.b_U.data.zero_()
    model.set_use_attn_result(True)
    model.set_use_split_qkv_input(True)
    model.set_use_hook_mlp_in(True)
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad = False
    return patchable_model(
        model, factorized=True, slice_output="last_seq", separate_qkv=True, device=own.device
    )


def _loader(pairs: list[dict[str, list[int]]]) -> Any:
    """All prompts as one batch; the answers are read at the last position."""
    columns = [
        [torch.tensor(pair[key]) for pair in pairs]
        for key in ("clean", "corrupted", "correct", "incorrect")
    ]
    return PromptDataLoader(
        PromptDataset(*columns), seq_len=None, diverge_idx=0, batch_size=len(pairs), shuffle=False
    )


def _acdc(model: Any, loader: Any, tau: float, edges: int) -> dict[str, Any]:
    """Seconds before the first edge and for each edge of a sample over all layers."""
    # Its own order is by layer alone; the rest is made definite here.
    ordered = sorted(model.edges, key=lambda edge: (-edge.dest.layer, edge.name))
    at = [int((i + 0.5) * len(ordered) / edges) for i in range(edges)]
    sample = [ordered[i] for i in at]

    def seconds(chosen: list[Any]) -> tuple[float, float]:
        model.edges = set(chosen)
        began, cpu = time.perf_counter(), time.process_time()
        acdc_prune_scores(model, loader, None, tao_exps=[0], tao_bases=[tau])
        return time.perf_counter() - began, time.process_time() - cpu

    seconds(sample[:: max(1, edges // 10)])
    start, cpu_start = seconds([])
    total, cpu_total = seconds(sample)
    return {
        "start_s": start,
        "start_cpu_s": cpu_start,
        "edge_s": (total - start) / edges,
        "edge_cpu_s": (cpu_total - cpu_start) / edges,
        "timed_edges": edges,
    }


def _eap(model: Any, loader: Any, path: str | None) -> dict[str, Any]:
    """Seconds and peak memory of the scores of all edges."""
    before, loaded = _peak_mb(), _resident_mb()
    began, cpu = time.perf_counter(), time.process_time()
    scores = mask_gradient_prune_scores(
        model, loader, None, grad_function="logit", answer_function="avg_diff", mask_val=0.0
    )
    found = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    found |= {"peak_mb": _peak_mb(), "loaded_mb": loaded, "load_peak_mb": before}
    if path is not None:
        by_edge = {
            f"{edge.src.name}->{edge.dest.name}": float(
                scores[edge.dest.module_name][edge.patch_idx]
            )
            for edge in model.edges
        }
        Path(path).write_text(json.dumps(by_edge), encoding="utf-8")
    return found


def _peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    # Not getrusage: its maximum is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _resident_mb() -> float:
    """The memory that this process has now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()

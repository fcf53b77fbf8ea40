"""This project against AutoCircuit at GPT-2 small's shape, side by side; for docs/benchmarks.md.

    python experiments/benchmark_peers.py --peer-python PATH [--threads 1] [--tau 0.07]
        [--edges 400] [--skip search|eap]

PATH is the interpreter of a virtual environment of its own, in which AutoCircuit 1.0.1 runs:

    python3.11 -m venv peers
    peers/bin/pip install torch==2.13.0
    peers/bin/pip install "transformers>=4.57,<5" "huggingface-hub<1.0" "typeguard>=4.2,<5"
    peers/bin/pip install "numpy>=2" "beartype<0.15" "ordered-set>=4.1" "protobuf>=3.20"
    peers/bin/pip install accelerate attrs better-abc blobfile datasets einops fancy-einsum
    peers/bin/pip install jaxtyping packaging pandas plotly rich sentencepiece tqdm
    peers/bin/pip install --no-deps auto-circuit==1.0.1 transformer-lens==2.18.0

(AutoCircuit asks for TransformerLens 1.13 or newer; 3.9 lacks a module that it imports.)

Both sides load the same random weights and the same random prompts. Random weights as a model is
initialised let every edge die at once, so that any speed is free; these have strong heads, weak
MLPs and large logits (`build_weights`), and the report says how many edges were kept and how many
had to be evaluated. They and tau were picked by trial, for just over 200 kept and 20,000 evaluated
edges; stronger MLPs or a lower tau make this project's search slower and AutoCircuit's not.

The search is this project's whole search against AutoCircuit's time an edge on a sample of its
edges, times all edges: it evaluates every one. EAP is timed whole on both sides, each in a fresh
process, whose peak memory counts imports, loading and weights too.

Seconds are wall-clock; CPU seconds stand beside them, for machines that others use as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarking import machine, random_module, random_prompts
from transformers import GPT2Config, GPT2LMHeadModel

from discover.acdc import Speculation, search
from discover.attribution import attribute
from discover.graph import Edge, Receiver, Sender
from discover.model import Model, wrap_module
from discover.patching.exact import ExactPatcher
from discover.prompts import PromptPair, PromptPairs

PEER = Path(__file__).with_name("peer_autocircuit.py")
OF_THE_ISSUE = "with one core, 8 prompts of 16 tokens: EAP-IG 28 s (5.8 s with the einsum), 3.4 GB"
STRENGTH = {"c_attn": 3.0, "attn.c_proj": 6.0, "c_fc": 1.0, "mlp.c_proj": 0.2}
"""Standard deviation of what each matrix puts out for inputs of standard deviation 1."""


def main() -> None:
    """Time both sides and print one report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="the interpreter that has AutoCircuit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tau", type=float, default=0.07)
    parser.add_argument("--edges", type=int, default=400)
    parser.add_argument("--skip", choices=("search", "eap"))
    parser.add_argument("--own-eap", nargs=3, metavar=("DIR", "PROMPTS", "SCORES"), help="internal")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.own_eap:
        print(json.dumps(own_eap(*options.own_eap)))
        return
    if not options.peer_python:
        parser.error("--peer-python is missing: the interpreter that has AutoCircuit")
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place) / "weights"
        build_weights(weights)
        if options.skip != "search":
            report_search(options, weights)
        if options.skip != "eap":
            report_eap(options, weights)


def build_weights(directory: Path) -> None:
    """Random weights of GPT-2 small's shape that leave a circuit, as a Hugging Face directory."""
    config = GPT2Config(tie_word_embeddings=False)
    random_module(config, STRENGTH, logits=0.2).save_pretrained(directory)


def build_prompts(number: int, length: int) -> PromptPairs:
    """Random tokens, of which a few before the last are others in the corrupted twin."""
    return random_prompts(GPT2Config().vocab_size, number, length)


def load(directory: Path | str) -> Model:
    """The weights as this project's model, without a tokenizer."""
    module = GPT2LMHeadModel.from_pretrained(directory)
    return wrap_module(module, name="gpt2-shaped", share=True)


def report_search(options: argparse.Namespace, weights: Path) -> None:
    """The exact search of all edges against AutoCircuit's ACDC."""
    prompts = build_prompts(4, 15)
    print(f"\nACDC: {len(prompts)} prompts of 15 tokens, KL, resample, tau {options.tau:g}")
    own = own_search(load(weights), prompts, options.tau)
    print(
        f"discover: {own['edges']:,} edges, {own['kept']} kept, {own['evaluated']:,} evaluated "
        f"({own['wasted']:,} evaluations wasted on guesses), {own['float64']} in float64: "
        f"{own['s']:.1f} s, {own['cpu_s']:.1f} s of CPU",
        flush=True,
    )
    for how, flags in (("as shipped", []), ("with the einsum", ["--einsum"])):
        settings = ["--tau", str(options.tau), "--edges", str(options.edges), *flags]
        peer = run_peer(options, "acdc", weights, prompts, settings)
        assert peer["all_edges"] == own["edges"], "the graphs differ"
        print(f"AutoCircuit {how}: {peer['edge_s']:.4f} s an edge, ", end="")
        print(f"{peer['edge_cpu_s']:.4f} s of CPU (mean of {peer['timed_edges']} over all layers)")
        for unit, key in (("", "s"), (" of CPU", "cpu_s")):
            total = peer[f"start_{key}"] + peer[f"edge_{key}"] * peer["all_edges"]
            per_edge = peer[f"edge_{key}"] / (own[key] / own["evaluated"])
            print(
                f"  extrapolated {total:,.0f} s{unit}: {total / own[key]:.0f} times; "
                f"per evaluated edge {per_edge:.0f} times",
                flush=True,
            )


def own_search(model: Model, prompts: PromptPairs, tau: float) -> dict[str, Any]:
    """One search of all edges, timed without the clean and corrupted runs before it."""
    patcher = ExactPatcher(model, prompts, "kl", "resample")
    speculation = Speculation(limit=patcher.block_limit)
    began, cpu = time.perf_counter(), time.process_time()
    rows = list(search(model.graph, patcher, tau, speculation=speculation))
    return {
        "s": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
        "edges": len(rows),
        "kept": sum(row.outcome == "kept" for row in rows),
        "evaluated": sum(row.outcome != "dead" for row in rows),
        "float64": sum(row.float64 for row in rows),
        "wasted": speculation.wasted,
    }


def report_eap(options: argparse.Namespace, weights: Path) -> None:
    """EAP scores of all edges against AutoCircuit's, and whether they are the same scores."""
    prompts = build_prompts(8, 16)
    print(f"\nEAP: {len(prompts)} prompts of 16 tokens, logit difference, every side a process")
    scores = weights.parent / "own.json"
    (weights.parent / "prompts.json").write_text(_tokens(prompts), encoding="utf-8")
    files = [str(weights), str(weights.parent / "prompts.json"), str(scores)]
    threads = ["--threads", str(options.threads)]
    own = _json_of([sys.executable, __file__, *threads, "--own-eap", *files])
    _print_eap("discover", own)
    found = json.loads(scores.read_text(encoding="utf-8"))
    for how, flags in (("as shipped", []), ("with the einsum", ["--einsum"])):
        theirs = weights.parent / "theirs.json"
        peer = run_peer(options, "eap", weights, prompts, ["--scores", str(theirs), *flags])
        _print_eap(f"AutoCircuit {how}", peer)
        _compare(found, json.loads(theirs.read_text(encoding="utf-8")))
        print(
            f"  {peer['s'] / own['s']:.1f} times faster ({peer['cpu_s'] / own['cpu_s']:.1f} in CPU "
            f"time), {own['peak_mb'] / peer['peak_mb']:.2f} of its memory, "
            f"{_working(own) / _working(peer):.2f} of it above the loaded model"
        )
    print(f"Not run here, {OF_THE_ISSUE}")


def own_eap(directory: str, prompts: str, path: str) -> dict[str, Any]:
    """This process's time and peak memory for the scores of all edges."""
    model = load(directory)
    given = json.loads(Path(prompts).read_text(encoding="utf-8"))
    lines = [{key: tuple(ids) for key, ids in pair.items()} for pair in given]
    pairs = PromptPairs(
        PromptPair(line["clean"], line["corrupted"], line["correct"], line["incorrect"])
        for line in lines
    )
    before, loaded = _peak_mb(), _resident_mb()
    began, cpu = time.perf_counter(), time.process_time()
    scores = attribute(model, pairs, "logit_diff")
    found = {"s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    found |= {"peak_mb": _peak_mb(), "loaded_mb": loaded, "load_peak_mb": before}
    names = [_peer_name(edge) for edge in model.graph.edges]
    by_edge = dict(zip(names, scores.tolist(), strict=True))
    Path(path).write_text(json.dumps(by_edge), encoding="utf-8")
    return found


def run_peer(
    options: argparse.Namespace,
    algorithm: str,
    weights: Path,
    prompts: PromptPairs,
    settings: list[str],
) -> dict[str, Any]:
    """What the other side found, in a process of its own."""
    file = weights.parent / "prompts.json"
    file.write_text(_tokens(prompts), encoding="utf-8")
    common = ["--threads", str(options.threads), "--weights", str(weights), "--prompts", str(file)]
    return _json_of([options.peer_python, str(PEER), algorithm, *common, *settings])


def _json_of(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _tokens(prompts: PromptPairs) -> str:
    keys = ("clean", "corrupted", "correct", "incorrect")
    return json.dumps([{key: list(getattr(pair, key)) for key in keys} for pair in prompts])


def _peer_name(edge: Edge) -> str:
    """An edge's name in AutoCircuit."""

    def of(node: Sender | Receiver) -> str:
        if node.kind in ("embed", "logits"):
            return "Resid Start" if node.kind == "embed" else "Resid End"
        if node.kind == "mlp":
            return f"MLP {node.layer}"
        at = node.head if isinstance(node, Sender) else node.index
        return f"A{node.layer}.{at}" + (f".{node.kind.upper()}" if node.kind in "qkv" else "")

    return f"{of(edge.sender)}->{of(edge.receiver)}"


def _compare(own: dict[str, float], theirs: dict[str, float]) -> None:
    assert own.keys() == theirs.keys(), "the graphs differ"
    worst = max(abs(own[name] - theirs[name]) for name in own)
    largest = max(abs(score) for score in own.values())
    print(f"  same {len(own):,} scores to {worst:.1e} (the largest is {largest:.2g})")


def _print_eap(who: str, found: dict[str, Any]) -> None:
    print(
        f"{who}: {found['s']:.2f} s ({found['cpu_s']:.2f} s of CPU), peak "
        f"{found['peak_mb']:,.0f} MB ({found['loaded_mb']:,.0f} MB before it, loading had taken "
        f"{found['load_peak_mb']:,.0f} MB)",
        flush=True,
    )


def _working(found: dict[str, Any]) -> float:
    """Memory above the loaded model."""
    return float(found["peak_mb"] - found["loaded_mb"])


def _peak_mb() -> float:
    # Not getrusage: its maximum is handed down from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()

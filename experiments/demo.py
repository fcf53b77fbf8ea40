"""What `make demo` and `make demo-smollm2` run: find a model's IOI circuit, check it, draw it.

Search and figures go through the command line, as a user's own would; the check measures, on
prompts that the search never saw, the circuit alone, the model without it, and random circuits of
the same size and layer profile.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import torch

from discover.acdc import circuit_of
from discover.circuit import Circuit
from discover.evaluation import Behaviour, Evaluator, random_circuits
from discover.graph import Sender
from discover.model import load_model
from discover.session import SMALL_MODEL
from discover.store import Store
from discover.tasks import build_prompts

TAU = 0.01
"""The largest tau whose circuit passes the check; `tiny_ioi_circuit.py` prints all that were
tried."""

HELD_OUT_SEED = 1000
HELD_OUT = 100
DRAWS = 20


def main() -> None:
    """Run, check and draw; say which figure to open."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    parser.add_argument("--model", default="tiny-ioi")
    parser.add_argument("--tau", type=float, default=TAU)
    parser.add_argument("--metric", default="kl")
    parser.add_argument("--corruption", default="abc")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    db = str(out / "demo.db")
    words = f"run --model {options.model} --task ioi --prompts {options.prompts} --seed 0"
    words += f" --corruption {options.corruption} --metric {options.metric} --tau {options.tau}"
    _discover(*words.split(), "--db", db)
    figures = [out / f"{options.model}.{suffix}" for suffix in ("png", "svg", "pdf")]
    for figure in figures:
        _discover("export", "latest", "-o", str(figure), "--db", db, quiet=True)
    check(options.model, db, options.held_out)
    print(f"\nThe circuit's figure: open {figures[0]} (also {figures[1]} and {figures[2]})")
    print(f"Every edge's score:   {_command()} show latest --decisions --db {db}")


def check(name: str, db: str, held_out: int) -> None:
    """Print the heads and the three numbers of the latest run of a database."""
    model = load_model(name)
    assert model.tokenizer is not None
    if model.n_parameters < SMALL_MODEL:
        torch.set_num_threads(1)
    with Store.open(db) as store:
        record = store.run("latest")
        circuit = circuit_of(record.graph, store.decisions(record.id))
    print("\nHeads, each with the inputs through which the circuit reaches it:")
    # No break within an entry: a space that is none to `wrap`.
    entries = ", ".join(entry.replace(" ", "\xa0") for entry in heads(circuit))
    for line in textwrap.wrap(entries, 92):
        print("  " + line.replace("\xa0", " "))
    prompts = build_prompts(
        "ioi", model.tokenizer, held_out, HELD_OUT_SEED, options=record.spec.task_options
    )
    evaluator = Evaluator(model, prompts, record.spec.ablation)
    drawn = [evaluator.only(other) for other in random_circuits(circuit, DRAWS, seed=0)]
    accuracy = [behaviour.accuracy for behaviour in drawn]
    difference = [behaviour.logit_difference for behaviour in drawn]
    what = f"{held_out} prompts that the search never saw, tau {record.spec.tau:g}"
    print(f"\nIs it the circuit? {what}:")
    _line("the whole model", evaluator.model())
    _line(f"the circuit alone ({len(circuit)} edges)", evaluator.only(circuit))
    _line("the model without it", evaluator.without(circuit))
    _line("every edge ablated", evaluator.only(Circuit(circuit.graph, frozenset())))
    print(
        f"  {f'{DRAWS} random circuits of its size':36} {statistics.mean(accuracy):5.0%} right "
        f"({min(accuracy):.0%} to {max(accuracy):.0%}), logit difference "
        f"{statistics.mean(difference):+.2f} (sd {statistics.stdev(difference):.2f})"
    )


def heads(circuit: Circuit) -> list[str]:
    """The heads of a circuit's connected part with their inputs, e.g. `a9.h9 (q v)`; latest first.

    Only those on a path from the embedding to the logits.
    """
    inputs: dict[Sender, set[str]] = defaultdict(set)
    senders = {edge.sender for edge in circuit.connected.ordered if edge.sender.kind == "head"}
    for edge in circuit.connected.ordered:
        for node in circuit.graph.nodes_of(edge.receiver):
            inputs[node].add(edge.receiver.kind)
    ordered = sorted(senders, key=lambda sender: (-sender.layer, sender.head))
    return [f"{s.name} ({' '.join(kind for kind in 'qkv' if kind in inputs[s])})" for s in ordered]


def _line(what: str, found: Behaviour) -> None:
    print(
        f"  {what:36} {found.accuracy:5.0%} right, logit difference {found.logit_difference:+.2f}"
    )


def _command() -> str:
    return str(Path(sys.executable).parent / "discover")


def _discover(*words: str, quiet: bool = False) -> None:
    shown = [sys.executable, "-m", "discover.cli", *words]
    done = subprocess.run(shown, check=False, stderr=subprocess.PIPE if quiet else None)
    if done.returncode:
        sys.stderr.buffer.write(done.stderr or b"")
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()

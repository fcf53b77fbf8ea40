"""Which tau does the demo use, and is its circuit the truth? Run, and copy the table to the README.

    python experiments/tiny_ioi_circuit.py [--model tiny-ioi] [--db FILE]

For each tau from large to small: search on the demo's prompts, then measure on prompts that the
search never saw the circuit alone, the model without the circuit, and 20 random circuits of the
same size and layer profile. A tau passes if the circuit alone is right on at least 99 % of the
prompts (what the model itself must reach), the model without it on at most 60 % (chance plus two
standard errors at 100 prompts), and no random circuit is as good as the circuit. The demo's tau is
the largest that passes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import torch

from discover.acdc import circuit_of
from discover.evaluation import Evaluator, random_circuits
from discover.model import load_model
from discover.run import run
from discover.spec import RunSpec
from discover.store import Store
from discover.tasks import build_prompts

TAUS = (
    2.0,
    1.0,
    0.5,
    0.3,
    0.2,
    0.15,
    0.1,
    0.07,
    0.05,
    0.03,
    0.02,
    0.015,
    0.01,
    0.005,
    0.002,
    0.001,
)
HELD_OUT_SEED = 1000
DRAWS = 20


def main() -> None:
    """Search and measure every tau."""
    torch.set_num_threads(1)  # the model is small
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-ioi")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--taus", type=lambda text: [float(t) for t in text.split(",")])
    parser.add_argument("--db", help="keep the runs in this database")
    options = parser.parse_args()
    model = load_model(options.model)
    assert model.tokenizer is not None
    seen = build_prompts("ioi", model.tokenizer, options.prompts, 0)
    unseen = build_prompts("ioi", model.tokenizer, options.held_out, HELD_OUT_SEED)
    assert not {p.clean for p in seen} & {p.clean for p in unseen}
    evaluator = Evaluator(model, unseen, "resample")
    whole = evaluator.model()
    print(f"model: {whole.accuracy:.0%} right, logit difference {whole.logit_difference:.2f}")
    print("| tau | kept | KL, search | circuit alone | without it | 20 random circuits | passes |")
    print("|---|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.open(options.db or f"{folder}/runs.db") as store,
    ):
        for tau in options.taus or TAUS:
            spec = RunSpec(model=options.model, task="ioi", prompts=options.prompts, tau=tau)
            record = run(spec, store)
            circuit = circuit_of(record.graph, store.decisions(record.id))
            if not circuit.edges:
                print(f"| {tau:g} | 0 | {record.damage:.3f} | | | | no |", flush=True)
                continue
            only, without = evaluator.only(circuit), evaluator.without(circuit)
            drawn = [evaluator.only(c) for c in random_circuits(circuit, DRAWS, seed=0)]
            right = [b.accuracy for b in drawn]
            differences = [b.logit_difference for b in drawn]
            passes = only.accuracy >= 0.99 > max(right) and without.accuracy <= 0.6
            print(
                f"| {tau:g} | {record.kept} | {record.damage:.3f} "
                f"| {only.accuracy:.0%}, {only.logit_difference:+.2f} "
                f"| {without.accuracy:.0%}, {without.logit_difference:+.2f} "
                f"| {statistics.mean(right):.0%} ({min(right):.0%} to {max(right):.0%}), "
                f"{statistics.mean(differences):+.2f} +- {statistics.stdev(differences):.2f} "
                f"| {'yes' if passes else 'no'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

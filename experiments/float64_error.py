"""How far is a float32 run's score from float64's on the same decision? For docs/benchmarks.md.

    discover run --model smollm2 --task ioi --prompts 10 --tau 0.05
    python experiments/float64_error.py [--run latest] [--db discover.db] [--decisions 1000]

Decisions are drawn from a finished run across layers and kinds of receivers, kept ones first; each
is taken again in float64 from the very state that the run took it in: everything decided before it
as the run decided it. Errors are of scores, in the metric's unit. Some are also evaluated in
float32 alone and together with others, since a batch must not move a score either.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import defaultdict

import numpy as np
import torch

from discover.acdc import Decision
from discover.graph import Receiver
from discover.model import Model
from discover.patching.exact import ExactPatcher
from discover.prompts import PromptPairs
from discover.session import prepare
from discover.store import RunRecord, Store

Rows = dict[Receiver, list[Decision]]


def main() -> None:
    """Draw, decide again, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="latest")
    parser.add_argument("--db")
    parser.add_argument("--decisions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with Store.open(options.db, create=False) as store:
        record = store.run(options.run)
        rows: Rows = defaultdict(list)
        for decision in store.decisions(record.id):
            rows[decision.edge.receiver].append(decision)
    _, model, prompts = prepare(record.spec)
    drawn = draw(rows, options.decisions, random.Random(options.seed))
    alone, errors = measure(record, model, prompts, rows, drawn)
    found = defaultdict(list)
    for decision, error in errors:
        found[decision.edge.receiver.kind, decision.outcome].append(error)
        found["all", ""].append(error)
    layers = len({decision.edge.receiver.layer for decision, _ in errors})
    print(f"{record.model}, {len(prompts)} prompts, {record.spec.metric}, tau {record.spec.tau:g}")
    print(f"{len(errors)} decisions of {len(drawn)} receivers in {layers} layers")
    print("| receiver | outcome | decisions | median error | worst |")
    print("|---|---|---|---|---|")
    for (kind, outcome), values in sorted(found.items()):
        print(
            f"| {kind} | {outcome} | {len(values)} | {statistics.median(values):.1e} "
            f"| {max(values):.1e} |"
        )
    print(f"float32, evaluated together against alone: {max(alone):.1e} at worst of {len(alone)}")


def draw(rows: Rows, wanted: int, rng: random.Random) -> dict[Receiver, list[int]]:
    """Places of decisions by receiver: every kept one, and removed ones in equal shares."""
    live = {r: found for r, found in rows.items() if found[0].outcome != "dead"}
    share = -(-wanted // len(live))
    drawn = {}
    for receiver, found in live.items():
        kept = [i for i, decision in enumerate(found) if not decision.removed]
        removed = [i for i, decision in enumerate(found) if decision.removed]
        rng.shuffle(kept)
        chosen = kept[:share]
        chosen += rng.sample(removed, min(len(removed), max(2, share - len(chosen))))
        drawn[receiver] = sorted(chosen)
    return drawn


def measure(
    record: RunRecord,
    single: Model,
    prompts: PromptPairs,
    rows: Rows,
    drawn: dict[Receiver, list[int]],
) -> tuple[list[float], list[tuple[Decision, float]]]:
    """Differences together against alone, and each drawn decision's error against float64."""
    fast, exact = (
        ExactPatcher(model, prompts, record.spec.metric, record.spec.ablation)
        for model in (single, single.double())
    )
    commits: list[tuple[Receiver, np.ndarray]] = []
    alone: list[float] = []
    errors: list[tuple[Decision, float]] = []
    for receiver, found in rows.items():
        kept = np.array([not decision.removed for decision in found])
        if places := drawn.get(receiver):
            for state in exact.states + fast.states:
                state.restore(commits)
            pairs = np.concatenate([_pair(kept, place) for place in places])
            true = _in_blocks(exact, receiver, pairs)
            for at, place in enumerate(places):
                score = true[2 * at + 1] - true[2 * at]
                errors.append((found[place], abs(found[place].score - score)))
            together = fast.damages(receiver, pairs[:16])
            alone += [
                abs(fast.damages(receiver, row)[0] - value)
                for row, value in zip(pairs[:2], together[:2], strict=True)
            ]
            print(f"{receiver}: {len(errors)} decisions", end="\r", flush=True)
        commits.append((receiver, kept))
    return alone, errors


def _pair(kept: np.ndarray, place: int) -> np.ndarray:
    """The masks before and after one decision: what comes later is still kept."""
    before = kept.copy()
    before[place:] = True
    after = before.copy()
    after[place] = False
    return np.stack([before, after])


def _in_blocks(patcher: ExactPatcher, receiver: Receiver, variants: np.ndarray) -> list[float]:
    size = patcher.block_limit(receiver)
    found: list[float] = []
    for at in range(0, len(variants), size):
        found += patcher.damages(receiver, variants[at : at + size])
    return found


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()

"""Attribution patching: every activation patch to first order, against the exact ones.

    python experiments/hand_tools/attribution.py --model smollm2 --out figures

Effects on a normalised logit difference (denoising: of the corrupted run, clean activations patched
in; all of it = 1). Sources: N. Nanda, "Attribution Patching: Activation Patching At Industrial
Scale" (2023); the nnsight tutorial of that name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from common import Experiment, extremes, options_of, ranked, same, step
from gpt2_figures import Checks, check_logit_differences

from discover.labelled import Agreement, LabelledArray, agreement, scatter
from discover.patching.nodes import (
    IterNode,
    PatchingMetric,
    attribution_agreement,
    attribution_patch,
    denoising,
    measure,
)

STRONGEST = 24
"""How many heads are shown by position where all are too many."""

WORST = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Run all parts."""
    run = Experiment.start(options_of(__doc__, argv, "eight", "flipped"))
    metric = denoising(run.model, run.prompts)
    last = heads_at_end(run, metric)
    by_position(run, metric)
    by_layer(run, metric)
    against_exact(run, metric, last)
    checks = Checks(run.model)
    check_logit_differences(checks)
    checks.finish()


def estimate(run: Experiment, nodes: IterNode, metric: PatchingMetric) -> dict[str, LabelledArray]:
    """Attribution patching by component."""
    found = attribution_patch(run.model, run.corrupted, run.clean, nodes, metric)
    return {array.name: array for array in found.arrays()}


def heads_at_end(run: Experiment, metric: PatchingMetric) -> LabelledArray:
    """Each head's output at the last position."""
    with step("every head at the last position, estimated"):
        found = estimate(run, IterNode("z", seq_pos=-1), metric)["z"]
        extremes(found)
        title = run.title("heads at the last position, estimated")
        run.save(found.heatmap(title=title), "attr_heads_at_end")
    return found


def by_position(run: Experiment, metric: PatchingMetric) -> None:
    """Each head's output at each position; the strongest heads where there are many."""
    with step("every head at every position, estimated"):
        found = estimate(run, IterNode("z", seq_pos="each"), metric)["z"]
        ranked("strongest", found.top(5))
        strongest = strongest_heads(found)
        title = run.title("heads by position, estimated by attribution")
        run.save(strongest.heatmap(title=title), "attr_heads_by_position")
        same("sum over positions and the estimate of all positions together",
             found.sum("pos"), estimate(run, IterNode("z"), metric)["z"])  # fmt: skip


def strongest_heads(found: LabelledArray) -> LabelledArray:
    """The heads with the strongest cell, in order of depth, as rows over positions."""
    size = np.abs(found.transpose("layer", "head", "pos").values).max(-1)
    flat = np.sort(np.argsort(-size, axis=None, kind="stable")[:STRONGEST])
    places = [np.unravel_index(int(at), size.shape) for at in flat]
    heads = [(found.labels["layer"][i], found.labels["head"][j]) for i, j in places]
    return LabelledArray(
        np.stack([found.sel(layer=layer, head=head).values for layer, head in heads]),
        ("head", "pos"),
        {"head": [f"a{layer}.h{head}" for layer, head in heads], "pos": found.labels["pos"]},
        name=f"z, the {len(heads)} strongest heads",
        unit=found.unit,
        direction=found.direction,
    )


def by_layer(run: Experiment, metric: PatchingMetric) -> None:
    """Streams, attention and MLP outputs by layer and position."""
    with step("resid_pre, attn_out and mlp_out by layer and position, estimated"):
        names = ["resid_pre", "attn_out"] + ["mlp_out"] * run.model.graph.mlp
        nodes = IterNode(names, seq_pos="each")
        found = attribution_patch(run.model, run.corrupted, run.clean, nodes, metric)
        for array in found.arrays():
            ranked(array.name, array.top(3))
        title = run.title("by layer and position, estimated by attribution")
        run.save(found.heatmap(title=title), "attr_by_layer")


def against_exact(run: Experiment, metric: PatchingMetric, last: LabelledArray) -> None:
    """How far the estimates are from activation patching."""
    nodes = IterNode("z", seq_pos=-1)
    with step("heads at the last position against activation patching"):
        exact = run.denoise(nodes, metric)["z"]
        base = float(measure(run.model, run.corrupted, metric))
        effects = LabelledArray(
            exact.values - base, exact.axes, exact.labels, "exact", exact.unit, exact.direction
        )
        tell(agreement(last, effects, WORST))
        drawing = scatter(
            effects,
            last,
            title=run.title("heads at the last position"),
            x_label="exact (activation patching)",
            y_label="estimate (attribution patching)",
        )
        run.save(drawing, "attr_scatter")
    names = ["attn_out"] + ["mlp_out"] * run.model.graph.mlp
    with step(f"{' and '.join(names)} at the last position by attribution_agreement"):
        sides = (run.model, run.corrupted, run.clean)
        found = attribution_agreement(*sides, IterNode(names, seq_pos=-1), metric, worst=WORST)
        for name, told in found.items():
            print(f"  {name}:")
            tell(told)


def tell(found: Agreement) -> None:
    """Print an agreement and its worst cells."""
    print(f"  {found}")
    for far in found.worst:
        print(f"    {far.text}: estimate {far.estimate:+.3f}, exact {far.exact:+.3f}")


if __name__ == "__main__":
    main()

"""Activation patching by denoising: the corrupted run with clean activations patched in.

    python experiments/hand_tools/activation_patching.py --model smollm2 --out figures

Every number is a normalised logit difference: 0 = as the corrupted run, 1 = as the clean run.
Sources: TransformerLens's "Exploratory Analysis Demo" and `patching` demos; C. McDougall's
path_patching demo.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from common import (
    FRAMES,
    Experiment,
    extremes,
    head_at,
    named,
    nodes_of,
    options_of,
    ranked,
    same,
    step,
)
from found_heads import Heads
from gpt2_figures import Checks, check_logit_differences

from discover.labelled import LabelledArray, Results
from discover.patching.nodes import (
    IterNode,
    Node,
    PatchingMetric,
    block_every,
    denoising,
    head_all_pos_every,
    head_by_pos_every,
    logit_difference,
    measure,
    role_positions,
)

LAYERS_BY_POSITION = 3
"""On large models heads are patched position by position in so many layers only."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run all parts."""
    run = Experiment.start(options_of(__doc__, argv, "eight", "flipped"))
    metric = denoising(run.model, run.prompts)
    logit_differences(run)
    heads = every_head(run, metric)
    one_head(run, metric, heads)
    five_facets(run, metric, heads)
    blocks = every_block(run, metric)
    one_position(run, metric, blocks)
    name_movers(run, metric)
    by_position(run, metric, heads)
    checks = Checks(run.model)
    check_logit_differences(checks)
    checks.finish()


def logit_differences(run: Experiment) -> None:
    """What is to be restored; on all eight prompts the corrupted is exactly minus the clean."""
    plain = logit_difference(run.model, run.prompts)
    clean, corrupted = (
        float(measure(run.model, side, plain)) for side in (run.clean, run.corrupted)
    )
    print(f"logit difference: clean {clean:+.4f}, corrupted {corrupted:+.4f}")
    if run.options.task == "eight" and len(run.prompts) == 2 * len(FRAMES):
        same("corrupted and minus clean logit difference", corrupted, -clean)


def every_head(run: Experiment, metric: PatchingMetric) -> LabelledArray:
    """Part (a)."""
    with step("(a) every head's output z"):
        found = run.denoise(IterNode("z"), metric)["z"]
        extremes(found)
        run.save(found.heatmap(title=run.title("each head's output restored")), "act_heads_z")
    return found


def one_head(run: Experiment, metric: PatchingMetric, heads: LabelledArray) -> None:
    """Part (b)."""
    with step("(b) one head alone"):
        best = heads.top(1)[0]
        layer, head = head_at(best)
        alone = run.denoise(Node("z", layer, head), metric)
        print(f"  {best.text} alone: {alone:+.4f}")
        same("one head alone and its cell", alone, best.value)


def five_facets(run: Experiment, metric: PatchingMetric, heads: LabelledArray) -> None:
    """Parts (c) and (g)."""
    with step("(c) z, q, k, v and pattern of every head (head_all_pos_every)"):
        found = head_all_pos_every(run.model, run.corrupted, run.clean, metric)
        same("z of head_all_pos_every and of (a)", found["z"], heads)
        for array in found.arrays():
            ranked(array.name, array.top(3))
        title = run.title("output, query, key, value and pattern of each head restored")
        run.save(found.heatmap(title=title, columns=5), "act_heads_five")


def every_block(run: Experiment, metric: PatchingMetric) -> Results:
    """Parts (d) and (g)."""
    with step("(d) resid_pre, attn_out and mlp_out by layer and position (block_every)"):
        found = block_every(run.model, run.corrupted, run.clean, metric)
        for name in ("attn_out", "mlp_out"):
            ranked(name, found[name].top(3))
        title = run.title("residual stream, attention and MLP outputs restored, by position")
        run.save(found.heatmap(title=title), "act_blocks")
    return found


def one_position(run: Experiment, metric: PatchingMetric, blocks: Results) -> None:
    """Part (e)."""
    with step("(e) the same at one position: as a number, and as a number a prompt"):
        places = role_positions(run.prompts, "S2")
        alike = len(set(places)) == 1
        at = places[0]
        if not alike:
            print(f"  S2 is at different positions, so position {at} is taken for all prompts")
        tensor = torch.full((len(run.prompts),), at)
        names = [array.name for array in blocks.arrays()]
        number, each = (run.denoise(IterNode(names, seq_pos=p), metric) for p in (at, tensor))
        for name in names:
            same(f"{name} at position {at}, as int and as tensor", number[name], each[name])
            same(f"{name} at position {at} and its column of (d)", number[name],
                 blocks[name].sel(pos=at))  # fmt: skip


def name_movers(run: Experiment, metric: PatchingMetric) -> None:
    """Part (f)."""
    with step("(f) name movers: their q, then k, then v, each alone and all together"):
        heads = Heads(run).name_movers
        rows = {named([head]): [head] for head in heads} | {"together": heads}
        values = [
            [float(run.denoise(nodes_of(run.model, kind, row), metric)) for kind in "qkv"]
            for row in rows.values()
        ]
        for name, row in zip(rows, values, strict=True):
            told = ", ".join(f"{kind} {value:+.4f}" for kind, value in zip("qkv", row, strict=True))
            print(f"  {name}: {told}")
        print(f"  q dominates: {'yes' if max(values[-1], key=abs) == values[-1][0] else 'NO'}")
        array = LabelledArray(
            np.array(values),
            ("head", "component"),
            {"head": list(rows), "component": list("qkv")},
            name="name movers",
            unit=metric.unit,
            direction=metric.direction,
        )
        title = run.title("name movers restored")
        run.save(array.heatmap(title=title), "act_name_movers")


def by_position(run: Experiment, metric: PatchingMetric, heads: LabelledArray) -> None:
    """Part (g)."""
    title = run.title("heads restored position by position")
    if run.small:
        with step("(g) z, q, k, v and pattern of every head by position (head_by_pos_every)"):
            found = head_by_pos_every(run.model, run.corrupted, run.clean, metric)
            for array in found.arrays():
                ranked(array.name, array.top(3))
            run.save(found.heatmap(title=title, columns=3), "act_heads_by_position")
        return
    chosen = sorted(
        list(dict.fromkeys(head_at(item)[0] for item in heads.top(20)))[:LAYERS_BY_POSITION]
    )
    told = ", ".join(map(str, chosen))
    with step(f"(g) z by position in layers {told} only; --full takes head_by_pos_every"):
        found = run.denoise(IterNode("z", seq_pos="each", layers=chosen), metric)
        ranked("z", found["z"].top(5))
        run.save(found["z"].heatmap(title=title), "act_heads_by_position")


if __name__ == "__main__":
    main()

"""Path patching by noising: the clean run with direct paths taken from the corrupted run.

    python experiments/hand_tools/path_patching.py --model smollm2 --out figures --prompts 8

Every number is a normalised logit difference: 0 = unharmed, -1 = as the corrupted run. Source: Wang
et al. (arXiv 2211.00593), figures 3b, 4b and 5b, on the ABC distribution, with our own sentences.
Heads of models other than GPT-2 are found here as the paper found its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from common import (
    Experiment,
    Head,
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
from gpt2_figures import NAME_MOVERS, NEGATIVE, S_INHIBITION, Checks
from torch import Tensor

from discover.labelled import LabelledArray, Results, histogram
from discover.patching.nodes import (
    ActivationCache,
    IterNode,
    Node,
    path_patch,
    role_positions,
    roles_of,
    run_with_cache,
)

BOTH = {"through MLPs": True, "skip connections only": False}
BINS = 12

CANDIDATES = 10
"""How many of the heads that help when they are lost may be the negative name mover."""


def main(argv: Sequence[str] | None = None) -> Heads:
    """Run all parts; returns the heads that were found."""
    run = Experiment.start(options_of(__doc__, argv, "ioi", "abc"))
    heads = Heads(run)
    to_logits = heads_to_logits(heads)
    one_head(heads, to_logits)
    all_name_movers(heads)
    blocks_to_logits(heads)
    heads_to_queries(heads)
    heads_to_values(heads)
    attention(heads)
    check(heads)
    return heads


def both_ways(
    heads: Heads, receivers: Node | list[Node], known: LabelledArray | None = None
) -> Results:
    """Every head to receivers, through MLPs (unless that is known) and without."""
    return Results(
        {
            name: known if mlps and known is not None else heads.every_head(receivers, mlps=mlps)
            for name, mlps in BOTH.items()
        }
    )


def show(heads: Heads, found: Results, title: str, name: str) -> None:
    """Print and draw every head's effect, both ways side by side."""
    run = heads.experiment
    for array in found.arrays():
        print(f"  {array.name}:")
        extremes(array)
    run.save(found.heatmap(title=run.title(title), columns=2), name)


def heads_to_logits(heads: Heads) -> Results:
    """Part (j), figure 3b of the paper."""
    with step("(j) every head to the final residual stream"):
        found = both_ways(heads, heads.final, heads.to_logits)
        show(heads, found, "from each head to the logits", "path_heads_to_logits")
        print(f"  name movers: {named(heads.name_movers)}; negative: {named(heads.negative)}")
    return found


def one_head(heads: Heads, to_logits: Results) -> None:
    """Part (i)."""
    with step("(i) one head to the final residual stream"):
        layer, head = heads.name_movers[0]
        for name, mlps in BOTH.items():
            alone = heads.patched(Node("z", layer, head), heads.final, mlps=mlps)
            print(f"  {named([(layer, head)])} {name}: {alone:+.4f}")
            same(f"alone and its cell, {name}", alone, to_logits[name].sel(layer=layer, head=head))


def all_name_movers(heads: Heads) -> None:
    """Part (k)."""
    with step("(k) all name movers to the final residual stream at once"):
        nodes = nodes_of(heads.experiment.model, "z", heads.name_movers)
        for name, mlps in BOTH.items():
            value = heads.patched(nodes, heads.final, mlps=mlps)
            print(f"  {named(heads.name_movers)} {name}: {value:+.4f}")


def blocks_to_logits(heads: Heads) -> None:
    """Part (l)."""
    run = heads.experiment
    with step("(l) resid_pre, attn_out, mlp_out by position to the final residual stream"):
        names = ["resid_pre", "attn_out"] + ["mlp_out"] * run.model.graph.mlp
        alike = len({len(pair.clean) for pair in run.prompts}) == 1
        # Where prompts differ in length, one position is another word in each: go by role.
        at = "each" if alike else roles_of(run.prompts)
        found = heads.patched(IterNode(names, seq_pos=at), heads.final)
        for array in found.arrays():
            ranked(array.name, array.top(3))
        title = run.title("from streams and layers to the logits, by position")
        run.save(found.heatmap(title=title), "path_blocks_to_logits")


def heads_to_queries(heads: Heads) -> None:
    """Part (n), figure 4b of the paper."""
    with step(f"(n) every head to the q of {named(heads.name_movers)}"):
        receivers = nodes_of(heads.experiment.model, "q", heads.name_movers)
        found = both_ways(heads, receivers, heads.to_name_movers)
        title = f"from each head to the queries of {named(heads.name_movers)}"
        show(heads, found, title, "path_heads_to_name_movers_q")
        print(f"  s-inhibition: {named(heads.s_inhibition)}")


def heads_to_values(heads: Heads) -> None:
    """Part (m), figure 5b of the paper."""
    with step(f"(m) every head to the v of {values_of(heads)}"):
        receivers = nodes_of(heads.experiment.model, "v", heads.s_inhibition)
        found = both_ways(heads, receivers)
        title = f"from each head to the values of {values_of(heads)}"
        show(heads, found, title, "path_heads_to_s_inhibition_v")


def values_of(heads: Heads) -> str:
    """The S-inhibition heads' values in words; of grouped queries their key/value heads'."""
    model = heads.experiment.model
    if model.graph.n_kv_heads == model.graph.n_heads:
        return named(heads.s_inhibition)
    nodes = nodes_of(model, "v", heads.s_inhibition)
    return ", ".join(f"a{node.at}.kv{node.head}" for node in nodes)


def attention(heads: Heads) -> None:
    """Part (o)."""
    run = heads.experiment
    with step("(o) attention of the negative name mover without the name movers in its q"):
        negative = negative_name_mover(heads)
        if negative is None:
            print("  left out: no head that helps when it is lost comes behind a name mover")
            return
        movers = [head for head in heads.name_movers if head[0] < negative[0]]
        metric = attention_difference(run, negative)
        clean = metric(run_with_cache(run.model, run.clean, "pattern")[1])
        patched = path_patch(
            run.model,
            run.clean,
            run.corrupted,
            nodes_of(run.model, "z", movers),
            Node("q", *negative),
            metric,
            apply_metric_to_cache=True,
        )
        means = f"{float(clean.mean()):+.3f} clean, {float(patched.mean()):+.3f} patched"
        print(f"  {named([negative])}, {named(movers)} patched into its q: {means}")
        drawing = histogram(
            {"clean": clean.cpu().numpy(), "name movers patched": patched.cpu().numpy()},
            bins=BINS,
            title=run.title(f"attention of {named([negative])} from end"),
            x_label="attention to IO minus attention to S1",
        )
        run.save(drawing, "path_negative_attention")


def negative_name_mover(heads: Heads) -> Head | None:
    """Of the negative heads behind a name mover, the one that looks most at IO rather than S1.

    On gpt2 the paper's classes are known to attend to names; other models' are asked here.
    """
    run = heads.experiment
    first = min(layer for layer, _ in heads.name_movers)
    items = [head_at(item) for item in heads.to_logits.top(CANDIDATES, by="high") if item.value > 0]
    given = run.options.negative or items
    behind = [head for head in given if head[0] > first]
    if not behind:
        return None
    cache = run_with_cache(run.model, run.clean, "pattern")[1]
    looks = {head: float(attention_difference(run, head)(cache).mean()) for head in behind}
    told = ", ".join(f"{named([head])} {value:+.3f}" for head, value in looks.items())
    print(f"  attention from end to IO minus S1 of heads that help when lost: {told}")
    return max(looks, key=lambda head: looks[head])


def attention_difference(run: Experiment, at: Head) -> Callable[[ActivationCache], Tensor]:
    """Attention from `end` to IO minus S1 of one head, Float[batch], as a metric on the cache."""
    layer, head = at
    end, io, s1 = (torch.tensor(role_positions(run.prompts, role)) for role in ("end", "IO", "S1"))
    rows = torch.arange(len(run.prompts))

    def metric(cache: ActivationCache) -> Tensor:
        pattern = cache["pattern", layer][:, head]
        return pattern[rows, end, io] - pattern[rows, end, s1]

    return metric


def check(heads: Heads) -> None:
    """The paper's heads, on gpt2."""
    checks = Checks(heads.experiment.model)
    if checks.apply:
        checks.heads("name movers", heads.name_movers, NAME_MOVERS)
        checks.heads("negative name movers", heads.negative, NEGATIVE)
        checks.heads("s-inhibition heads", heads.s_inhibition, S_INHIBITION)
    checks.finish()


if __name__ == "__main__":
    main()

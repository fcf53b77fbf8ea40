"""Direct paths from S-inhibition heads to name movers' queries, by three ways.

    python experiments/hand_tools/direct_paths.py --model smollm2 --out figures

Denoising: 0 = as the corrupted run, 1 = as the clean run. `direct_paths` with exact norms must
equal `path_patch` along skip connections (asserted). Printed beside them with norms frozen, that is
linearised, as in TransformerLens's demo of direct path patching. Sources: Wang et al.
(arXiv 2211.00593), section 3.1; TransformerLens pull request 1396.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from common import Experiment, Head, named, options_of, same, step
from found_heads import Heads
from gpt2_figures import Checks, check_direct_paths

from discover.labelled import LabelledArray, Results
from discover.patching.nodes import Node, PatchingMetric, denoising, direct_paths, path_patch


def main(argv: Sequence[str] | None = None) -> None:
    """Print and draw the paths, both norms."""
    run = Experiment.start(options_of(__doc__, argv, "eight", "flipped"))
    heads = Heads(run)
    metric = denoising(run.model, run.prompts)
    with step("the heads"):
        sources, targets = sorted(heads.s_inhibition), sorted(heads.name_movers)
    with step(f"direct paths from {named(sources)} to the q of every later head"):
        sweeps = {norm: sweep(run, sources, metric, norm) for norm in ("exact", "frozen")}
    with step("the same by path_patch, along skip connections"):
        through = np.array([[by_path(run, s, t, metric) for t in targets] for s in sources])
        read = {norm: table(found, targets, metric, norm) for norm, found in sweeps.items()}
        same("direct_paths and path_patch", read["exact"], through)
    report(run, sources, targets, Results(read))
    checks = Checks(run.model)
    check_direct_paths(checks)
    checks.finish()


def sweep(
    run: Experiment, sources: list[Head], metric: PatchingMetric, layernorm: str
) -> dict[Head, LabelledArray]:
    """From each source to every later head's q."""
    with warnings.catch_warnings():
        # With their gains frozen norms are what TransformerLens has after folding the gains in.
        warnings.filterwarnings("ignore", message=".*gains that are not folded")
        return {
            source: direct_paths(
                run.model,
                run.corrupted,
                run.clean,
                metric,
                source=source,
                layernorm=layernorm,
            )
            for source in sources
        }


def by_path(run: Experiment, source: Head, target: Head, metric: PatchingMetric) -> float:
    """One path by path patching; NaN where there is none."""
    if source[0] >= target[0]:
        return float("nan")
    return float(
        path_patch(
            run.model,
            run.corrupted,
            run.clean,
            Node("z", *source),
            Node("q", *target),
            metric,
            direct_includes_mlps=False,
        )
    )


def table(
    sweeps: dict[Head, LabelledArray], targets: list[Head], metric: PatchingMetric, name: str
) -> LabelledArray:
    """The paths between the two lists of heads, sources by targets."""
    values = [
        [float(found.sel(layer=layer, head=head)) for layer, head in targets]
        for found in sweeps.values()
    ]
    return LabelledArray(
        values,
        ("from_head", "to_head"),
        {
            "from_head": [named([head]) for head in sweeps],
            "to_head": [named([head]) for head in targets],
        },
        name=name,
        unit=metric.unit,
        direction=metric.direction,
    )


def report(run: Experiment, sources: list[Head], targets: list[Head], read: Results) -> None:
    """Print every path, both norms, and draw them."""
    print(f"\n  {'path':>20}  {'exact':>8}  {'frozen':>8}")
    exact, frozen = (array.values for array in read.arrays())
    for row, source in enumerate(sources):
        for column, target in enumerate(targets):
            if np.isnan(exact[row, column]):
                continue
            path = f"{named([source])} -> {named([target])}"
            print(f"  {path:>20}  {exact[row, column]:+8.4f}  {frozen[row, column]:+8.4f}")
    title = run.title("direct paths into queries")
    run.save(read.heatmap(title=title, columns=2), "direct_paths")


if __name__ == "__main__":
    main()

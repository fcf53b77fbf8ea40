"""Head patching by prompt pairs: how much of each pair's behaviour one head restores."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from discover.errors import PatchError
from discover.labelled import Heatmap, LabelledArray, Ranked
from discover.model import Model
from discover.patching.nodes.act import act_patch
from discover.patching.nodes.inputs import SeqPos, clean_inputs, corrupted_inputs, role_positions
from discover.patching.nodes.measures import METRICS, measure
from discover.patching.nodes.node import IterNode
from discover.prompts import PromptPairs


@dataclass(frozen=True, eq=False)
class HeadEffects:
    """What each head restores when its clean activation is put into the corrupted run.

    `effects`: `(layer, head)`, the mean over pairs of `by_pair`; `by_pair`: `(layer, head, pair)`,
    `(patched - corrupted) / (clean - corrupted)`; `patched`: `(layer, head, pair)`, the metric
    itself; `clean`, `corrupted`: `(pair,)`. Pairs whose clean and corrupted metric coincide are
    NaN in `by_pair` and count in no mean.
    """

    effects: LabelledArray
    by_pair: LabelledArray
    patched: LabelledArray
    clean: LabelledArray
    corrupted: LabelledArray

    def above(self, threshold: float) -> list[Ranked]:
        """Heads with an effect beyond the threshold either way, largest first."""
        return self.effects.above(threshold)

    def top(self, n: int = 10) -> list[Ranked]:
        """The heads with the largest effects."""
        return self.effects.top(n)

    def heatmap(self, **options: Any) -> Heatmap:
        """The mean effects as a picture; options as in `labelled.heatmap`."""
        return self.effects.heatmap(**options)

    def terminal(self, *, width: int | None = None, color: bool = False) -> str:
        """The mean effects as a table for a terminal."""
        return self.effects.terminal(width=width, color=color)

    def numpy(self) -> Float[np.ndarray, "layer head"]:
        """The mean effects."""
        return self.effects.numpy()

    def pandas(self) -> Any:
        """The mean effects as a DataFrame, layers by heads."""
        return self.effects.pandas()


def patch_heads(
    model: Model,
    prompts: PromptPairs,
    component: str = "z",
    *,
    seq_pos: SeqPos | str | None = None,
    metric: str = "logit_diff",
    verbose: bool = False,
    at_once: int | None = None,
) -> HeadEffects:
    """Put each head's clean output (`z`) or attention pattern into the corrupted run, pair by pair.

    Denoising: 0 = as the corrupted run, 1 = as the clean run, per pair, then averaged. `seq_pos`
    restricts it to one position: a number, one a prompt, or a role of the prompts (`S2`, `end`);
    of a pattern it is the query's.

    Warns:
        UserWarning: pairs whose clean and corrupted metric coincide (they are NaN).

    Raises:
        PatchError: a component without heads, an unknown metric or role.
        PromptError: prompts that do not fit the model or the metric.
    """
    if component not in ("z", "pattern", "q", "k", "v", "attn_scores"):
        raise PatchError(f"{component} is no part of a head; use z or pattern (or q, k, v)")
    if metric not in METRICS or metric in ("denoising", "noising"):
        raise PatchError(f"{metric!r} is no metric of single pairs; use logit_diff or kl")
    model.check_prompts(prompts)
    if isinstance(seq_pos, str):
        seq_pos = role_positions(prompts, seq_pos)
    read = METRICS[metric](model, prompts).per_prompt()
    clean_run, corrupted_run = clean_inputs(prompts), corrupted_inputs(prompts)
    clean, corrupted = (
        measure(model, side, read).double().cpu().numpy() for side in (clean_run, corrupted_run)
    )
    found = act_patch(
        model,
        corrupted_run,
        IterNode(component, seq_pos=seq_pos),
        read,
        new_input=clean_run,
        verbose=verbose,
        at_once=at_once,
    )[component]
    axes = {axis: list(dict.fromkeys(at[axis] for at in found.labels)) for axis in found.axes}
    shape = [len(labels) for labels in axes.values()]
    patched = torch.stack(list(found)).double().cpu().numpy().reshape(*shape, len(prompts))
    return _effects(patched, clean, corrupted, axes, component, read.unit)


def _effects(
    patched: np.ndarray,
    clean: np.ndarray,
    corrupted: np.ndarray,
    axes: dict[str, list[Any]],
    name: str,
    unit: str,
) -> HeadEffects:
    span = np.where(clean == corrupted, np.nan, clean - corrupted)
    if (flat := np.flatnonzero(np.isnan(span))).size:
        warnings.warn(
            f"{flat.size} of {len(span)} prompt pairs have the same metric clean and corrupted "
            f"(the first is pair {flat[0] + 1}): nothing can be restored there, they are left out",
            stacklevel=3,
        )
    by_pair = (patched - corrupted) / span
    told = np.isfinite(by_pair).sum(-1)
    mean = np.where(told > 0, np.nansum(by_pair, -1) / np.maximum(told, 1), np.nan)
    pairs = {"pair": list(range(1, len(span) + 1))}

    def array(values: np.ndarray, of: dict[str, list[Any]], kind: str, direction: str = "") -> Any:
        return LabelledArray(values, tuple(of), of, name=name, unit=kind, direction=direction)

    share, told_as = "share of the clean-corrupted difference", "0 = as corrupted, 1 = as clean"
    return HeadEffects(
        effects=array(mean, axes, share, told_as),
        by_pair=array(by_pair, axes | pairs, share, told_as),
        patched=array(patched, axes | pairs, unit),
        clean=array(clean, pairs, unit),
        corrupted=array(corrupted, pairs, unit),
    )

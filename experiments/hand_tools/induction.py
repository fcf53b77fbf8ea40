"""Induction heads: repeated random tokens AA, restored in runs on AB, BA, BB and BC.

    python experiments/hand_tools/induction.py --model smollm2 --out figures --prompts 4

A, B and C are random sequences of equal length. The metric is the negative loss of the tokens of
the second A, read off the second half (nats; its first token, which nothing foretells, left out),
normalised: 0 = as the corrupted run, 1 = as the clean run on AA. Of a model that does not copy
there is nothing to normalise by; then it stays in nats, 0 = as the corrupted run. Into each
corrupted run every head's clean output z is patched. Source: C. McDougall's path_patching
demo; induction heads: Olsson et al. (arXiv 2209.11895).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from common import extremes, options_of, same, step
from torch import Tensor

from discover.labelled import LabelledArray, Results
from discover.model import Model, load_model
from discover.patching.nodes import (
    Inputs,
    IterNode,
    PatchingMetric,
    act_patch,
    make_inputs,
    measure,
    run_with_cache,
)

CORRUPTED = ("AB", "BA", "BB", "BC")
LENGTH = 16
SEQUENCES = 4
COPIES = 0.5
"""A model copies if AA has so many nats less loss than each corrupted run."""

FIRST_TOKEN = 20
"""Tokens before this one are left out: special ones stand first in vocabularies."""


def main(argv: Sequence[str] | None = None) -> None:
    """Patch, draw, rank."""
    options = options_of(__doc__, argv, "ioi", "abc")
    options.out.mkdir(parents=True, exist_ok=True)
    model = load_model(options.model)
    halves = random_halves(model, options.prompts or SEQUENCES, options.seed)
    metric = second_half(model, halves["A"], options.bos)
    inputs = {name: pair(model, halves, name, options.bos) for name in ("AA", *CORRUPTED)}
    values = {name: float(measure(model, given, metric)) for name, given in inputs.items()}
    print(f"{model.name}: {len(halves['A'])} sequences of {LENGTH} random tokens, twice")
    told = ", ".join(f"{name} {-value:.2f}" for name, value in values.items())
    print(f"loss of the tokens of the second A, nats: {told}")
    gain = values["AA"] - max(values[name] for name in CORRUPTED)
    if gain < COPIES:
        print(f"{model.name} does not copy repeated tokens ({gain:+.2f} nats): effects in nats")
    found: dict[str, LabelledArray] = {}
    for name in CORRUPTED:
        with step(f"(h) corrupted {name}, every head's z"):
            scaled = scale(metric, values[name], values["AA"], gain >= COPIES)
            ends = [float(measure(model, inputs[which], scaled)) for which in (name, "AA")]
            wanted = [0.0, 1.0 if gain >= COPIES else values["AA"] - values[name]]
            same("unpatched runs and the ends of the scale", ends, wanted)
            found[name] = act_patch(
                model, inputs[name], IterNode("z"), scaled, new_input=inputs["AA"]
            )["z"]
            extremes(found[name])
    title = f"{model.name}: each head's output on repeated tokens restored"
    drawing = Results(found).heatmap(title=title, columns=4)
    path = options.out / f"induction_heads.{options.format}"
    drawing.save(path)
    print(f"\n  figure: {path.name}")
    attention(model, inputs["AA"], found["BA"], int(options.bos))


def scale(metric: PatchingMetric, zero: float, one: float, copies: bool) -> PatchingMetric:
    """0 = as the corrupted run; 1 = as on AA if the model copies, else nats."""
    if not copies:
        return replace(metric, direction="0 = as the corrupted run", zero=zero, one=zero + 1)
    return replace(
        metric,
        unit="of the clean-corrupted loss",
        direction="0 = as the corrupted run, 1 = as on AA",
        zero=zero,
        one=one,
    )


def random_halves(model: Model, n: int, seed: int) -> dict[str, np.ndarray]:
    """Sequences A, B and C, Int[batch, pos], without a repeated token within a sequence."""
    draw = np.random.default_rng(seed)
    tokens = np.arange(FIRST_TOKEN, model.d_vocab_in)
    drawn = [draw.choice(tokens, 3 * LENGTH, replace=False) for _ in range(n)]
    parts = np.stack(drawn).reshape(n, 3, LENGTH)
    return {name: parts[:, at] for at, name in enumerate("ABC")}


def pair(model: Model, halves: dict[str, np.ndarray], names: str, bos: bool) -> Inputs:
    """Two sequences one after the other, behind a BOS if asked for."""
    tokens = np.concatenate([halves[name] for name in names], axis=1)
    if bos:
        assert model.tokenizer is not None and model.tokenizer.bos_id is not None
        tokens = np.pad(tokens, ((0, 0), (1, 0)), constant_values=model.tokenizer.bos_id)
    return make_inputs(model, tokens)


def second_half(model: Model, targets: np.ndarray, bos: bool) -> PatchingMetric:
    """Negative loss of the second half's tokens but the first, in nats."""
    wanted = torch.as_tensor(targets[:, 1:].reshape(-1), device=model.device)

    def negative_loss(rows: Tensor) -> Tensor:
        log_p = rows.log_softmax(-1)
        return log_p.gather(-1, wanted[:, None])[:, 0].double()

    answers = np.zeros((len(targets), int(bos) + 2 * LENGTH), dtype=bool)
    answers[:, int(bos) + LENGTH : -1] = True
    return PatchingMetric("negative_loss", "nats", "higher = better", answers, negative_loss)


def attention(model: Model, clean: Inputs, effects: LabelledArray, before: int) -> None:
    """How much the strongest heads attend to the token behind their own token's last occurrence."""
    _, cache = run_with_cache(model, clean, "pattern")
    query = torch.arange(LENGTH, 2 * LENGTH) + before
    print("  attention on AA to the token after the same token's first occurrence:")
    for item in effects.top(5, by="high"):
        pattern = cache["pattern", int(item.labels["layer"])][:, int(item.labels["head"])]
        share = float(pattern[:, query, query - LENGTH + 1].mean())
        print(f"    {item.text}: {share:.2f} ({item.value:+.3f} into BA)")


if __name__ == "__main__":
    main()

"""Attribution scores of a behaviour's edges, as a person asks for them: spec in, table out."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from discover.attribution import attribute
from discover.graph import ComputationalGraph
from discover.methods import STEPS, check_method
from discover.metrics import check_outputs
from discover.session import How, ablation_of, check_device, numerics, prepare
from discover.spec import METRICS, RunSpec


@dataclass(frozen=True)
class EdgeScores:
    """Every edge's estimated score, in the graph's order and the metric's unit.

    `seconds` is what the forwards and backwards took, without loading.
    """

    spec: RunSpec
    method: str
    graph: ComputationalGraph
    scores: Float[np.ndarray, " edge"]
    seconds: float

    def ranked(self, top: int) -> list[tuple[str, float]]:
        """The edges that matter most by these scores: largest first, ties in the graph's order."""
        order = np.argsort(-self.scores, kind="stable")[:top]
        return [(self.graph.edges[i].name, float(self.scores[i])) for i in order]

    def summary(self, top: int) -> dict[str, Any]:
        """The one JSON object of `discover score --json`."""
        spec = self.spec
        return {
            "model": spec.model,
            "task": spec.task or spec.prompts_file,
            "metric": spec.metric,
            "unit": METRICS[spec.metric],
            "ablation": spec.ablation,
            "method": self.method,
            "prompts": spec.prompts,
            "seed": spec.seed,
            "edges": len(self.graph),
            "seconds": self.seconds,
            "top": [{"edge": name, "score": value} for name, value in self.ranked(top)],
        }

    def table(self, fmt: str) -> bytes:
        """All scores as `csv` or `jsonl`, one edge a line, in the graph's order."""
        rows = [
            {"sender": e.sender.name, "receiver": e.receiver.name, "score": float(score)}
            for e, score in zip(self.graph.edges, self.scores, strict=True)
        ]
        if fmt == "jsonl":
            return "".join(json.dumps(row) + "\n" for row in rows).encode()
        text = io.StringIO()
        writer = csv.DictWriter(text, ["sender", "receiver", "score"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()


def score(
    spec: RunSpec,
    *,
    method: str = "eap",
    steps: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    phase: Callable[[str], None] = lambda _name: None,
) -> EdgeScores:
    """Estimate every edge's score; `spec.tau` plays no part.

    Raises:
        InputError: the model, the task or the prompts cannot be had, or there is no such method or
            device.
    """
    check_method(method, spec.metric, steps or STEPS)
    check_device(device)
    phase("loading the model")
    pinned, model, prompts = prepare(spec, device)
    check_outputs(spec.metric, spec.model, model.tokenizer)
    phase(f"scoring {len(model.graph):,} edges on {len(prompts)} prompts")
    with numerics(How(device, threads), model):
        ablation = ablation_of(pinned, model)
        began = time.perf_counter()
        scores = attribute(
            model,
            prompts,
            spec.metric,
            ablation,
            method=method,
            steps=steps or STEPS,
        )
        seconds = time.perf_counter() - began
    return EdgeScores(pinned, method, model.graph, scores, seconds)

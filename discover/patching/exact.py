"""The exact patcher: the engine behind the search's two questions, prompts in chunks."""

from __future__ import annotations

import numpy as np

from discover.graph import ComputationalGraph, Receiver
from discover.model import Model
from discover.patching.engine import EngineState
from discover.prompts import PromptPairs

ROWS = 4096
"""About how many rows of activations fill the machine; larger blocks would only waste more."""


class ExactPatcher:
    """Answers the search's two questions with the engine; see `EngineState`.

    Damage is in the metric's unit, against the full model on the clean prompts. Prompts may be
    split into `chunks` of that many, which are computed one after the other.

    Raises:
        PromptError: prompts do not fit the model or the metric.
        SpecError: unknown metric or ablation.
        ModelError: the engine cannot take this architecture apart.
    """

    def __init__(
        self,
        model: Model,
        prompts: PromptPairs,
        metric: str,
        ablation: str,
        *,
        chunk: int | None = None,
    ) -> None:
        self.model, self.prompts = model, prompts
        self.metric, self.ablation = metric, ablation
        size = chunk or len(prompts)
        parts = [prompts[i : i + size] for i in range(0, len(prompts), size)]
        self.states = [EngineState(model, part, metric, ablation) for part in parts]
        self.weights = [len(part) / len(prompts) for part in parts]
        self._chunk = chunk
        self._commits: list[tuple[Receiver, np.ndarray]] = []
        self._double: ExactPatcher | None = None

    @property
    def graph(self) -> ComputationalGraph:
        """The model's computational graph."""
        return self.model.graph

    def damages(
        self, receiver: Receiver, variants: np.ndarray, *, float64: bool = False
    ) -> list[float]:
        """Damage with each variant of the receiver's incoming edges (`Bool[K, sender]`: kept)."""
        variants = np.atleast_2d(variants)
        if float64 and self.model.dtype != "float64":
            twin = self._twin()
            return [twin.damages(receiver, row)[0] for row in variants]
        parts = [state.damages(receiver, variants) for state in self.states]
        return [
            float(sum(w * part[k] for w, part in zip(self.weights, parts, strict=True)))
            for k in range(len(variants))
        ]

    def commit(self, receiver: Receiver, kept: np.ndarray) -> None:
        """Fix which edges into a receiver are kept (`Bool[sender]`)."""
        for state in self.states:
            state.commit(receiver, kept)
        self._commits.append((receiver, kept.copy()))

    @property
    def node_computations(self) -> int:
        """How many heads and MLPs have been computed, counted for each variant."""
        return sum(state.node_computations for state in self.states)

    def block_limit(self, receiver: Receiver) -> int:
        """How many variants of a receiver are worth evaluating at once."""
        return max(8, ROWS // max(state.row_count(receiver) for state in self.states))

    def _twin(self) -> ExactPatcher:
        """This patcher in float64, brought up to the same commits."""
        if self._double is None:
            self._double = ExactPatcher(
                self.model.double(), self.prompts, self.metric, self.ablation, chunk=self._chunk
            )
        if len(self._double._commits) != len(self._commits):
            # From the bottom up in one pass: cheaper than one by one, and the same numbers
            # whenever the twin was last asked.
            self._double._commits = list(self._commits)
            for state in self._double.states:
                state.restore(self._commits)
        return self._double

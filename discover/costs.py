"""What a search cost: counted and timed around any patcher, added up over a run's sessions."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from discover.acdc import Patcher, Speculation
from discover.graph import Receiver


@dataclass
class Counting:
    """A patcher that counts and times another patcher's answers."""

    patcher: Patcher
    evaluations: int = 0
    near_tau: int = 0
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def damages(
        self, receiver: Receiver, variants: np.ndarray, *, float64: bool = False
    ) -> Sequence[float]:
        """The patcher's own answer."""
        with self._timed("float64" if float64 else "evaluate"):
            found = self.patcher.damages(receiver, variants, float64=float64)
        if float64:
            self.near_tau += 1
        else:
            self.evaluations += len(variants)
        return found

    def commit(self, receiver: Receiver, kept: np.ndarray) -> None:
        """The patcher's own commit."""
        with self._timed("commit"):
            self.patcher.commit(receiver, kept)

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - began


@dataclass
class Costs:
    """The evidence of a run: this session's costs on top of the earlier ones'.

    `evaluations`: variants evaluated; of these `accepted` decided an edge and `wasted` stood behind
    a wrong guess; `near_tau`: decisions taken again in float64; `node_computations`: heads and MLPs
    recomputed for a variant, against `plain_node_computations`, which one full forward for each
    edge decided by evaluation would take; `seconds` by phase.
    """

    earlier: dict[str, Any]
    counting: Counting
    speculation: Speculation
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    check: dict[str, float] | None = None

    def __post_init__(self) -> None:
        # A patcher may have served other searches of the same session.
        self._nodes_before = self._nodes()

    def _nodes(self) -> int:
        return int(getattr(self.counting.patcher, "node_computations", 0))

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase, also if it ends in an exception."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def record(self, n_nodes: int) -> dict[str, Any]:
        """The evidence as JSON values."""
        counts = {
            "evaluations": self.counting.evaluations,
            "accepted": self.speculation.accepted,
            "wasted": self.speculation.wasted,
            "blocks": self.speculation.blocks,
            "near_tau": self.counting.near_tau,
            "node_computations": self._nodes() - self._nodes_before,
            "plain_node_computations": self.speculation.accepted * n_nodes,
            "sessions": 1,
        }
        earlier = self.earlier
        spent: defaultdict[str, float] = defaultdict(float)
        for part in (earlier.get("seconds", {}), self.seconds, self.counting.seconds):
            for phase, taken in part.items():
                spent[phase] += taken
        return {
            **{key: earlier.get(key, 0) + value for key, value in counts.items()},
            "seconds": {key: round(value, 3) for key, value in sorted(spent.items())},
            "self_check": self.check or earlier.get("self_check"),
        }

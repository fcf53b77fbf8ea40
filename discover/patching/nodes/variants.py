"""Many patched variants of one run, several in one forward, from the layer that they change."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from discover.errors import PatchError
from discover.model import Hook, Model, NamedHook
from discover.patching.memory import SHARE, free_memory
from discover.patching.nodes.cache import Recorder, by_head, record, run_with_cache
from discover.patching.nodes.components import NEURONS, STREAM, Component
from discover.patching.nodes.inputs import Inputs
from discover.patching.nodes.measures import PatchingMetric, loss, only_answers

ROWS = {"cpu": 1024, "cuda": 32768}
"""About how many positions of prompts fill a machine; more in one forward gain nothing."""


@dataclass(frozen=True, eq=False)
class Override:
    """What one activation is set to, in part.

    `value` is shaped as the activation, with the chosen `indices` of its heads or neurons (None:
    all). `mask`: Bool[batch, pos], where it is set (of a pattern: which queries).
    """

    layer: int
    component: Component
    value: Tensor
    mask: Bool[Tensor, "batch pos"]
    indices: tuple[int, ...] | None = None

    @property
    def stream_index(self) -> int | None:
        """Which stream between layers it sets (0 enters the first), None if it is another place."""
        after = {"resid_pre": 0, "resid_post": 1}.get(self.component.name)
        return None if after is None else self.layer + after

    @property
    def start(self) -> int:
        """The first layer that computes something new."""
        return self.layer if self.stream_index is None else self.stream_index

    def apply(self, current: Tensor, stream: Tensor | None = None) -> Tensor:
        """The activation `[batch, pos, ...]` (by head) with this override.

        `stream` is what enters the layer, which an override of `resid_mid` is made up from.
        """
        value = self.value
        if self.component.name == "resid_mid":
            assert stream is not None
            value = value - stream
        if self.component.axis == STREAM:
            return torch.where(self.mask[..., None], value, current)
        at: Any = slice(None) if self.indices is None else list(self.indices)
        result = current.clone()
        if self.component.is_pattern:
            mask = self.mask[:, None, :, None]
            result[:, at] = torch.where(mask, value, result[:, at])
        elif self.component.axis == NEURONS:
            result[..., at] = torch.where(self.mask[..., None], value, result[..., at])
        else:
            mask = self.mask[..., None, None]
            result[:, :, at] = torch.where(mask, value, result[:, :, at])
        return result


Variant = Sequence[Override]
"""What is overridden together, earlier ones first."""


@dataclass(eq=False)
class VariantRunner:
    """Runs variants of one input and reads a metric off each.

    `metric` is a function of the logits (`PatchingMetric`: only its answers are unembedded), `loss`
    or `loss_per_token`, or a function of the cache if `on_cache`. `at_once`: how many variants to
    take in one forward (None: as many as fill the machine and fit).
    """

    model: Model
    inputs: Inputs
    metric: Any
    on_cache: bool = False
    at_once: int | None = None

    def __post_init__(self) -> None:
        if self.metric in ("loss", "loss_per_token"):
            if self.on_cache:
                raise PatchError("a loss is read off the logits; it cannot be applied to the cache")
            per_token = self.metric == "loss_per_token"
            self.metric = loss(self.model, self.inputs, per_token=per_token)
        if not callable(self.metric):
            raise PatchError(
                "patching_metric must be a function, 'loss' or 'loss_per_token'; "
                f"got {self.metric!r}"
            )
        if isinstance(self.metric, PatchingMetric):
            self.metric.check(self.inputs.tokens.shape)
        if self.at_once is not None and self.at_once < 1:
            raise PatchError(f"at_once must be at least 1, got {self.at_once}")
        self._needs = self._what_metric_reads() if self.on_cache else []

    def run(
        self, variants: Sequence[Variant], tick: Callable[[int], object] = lambda _: None
    ) -> list[Any]:
        """The metric of each variant, in order; `tick` hears how many more are done."""
        # Neighbours in depth share a forward, so that none is computed from lower than it must.
        order = sorted(range(len(variants)), key=lambda at: self._start([variants[at]]))
        values: list[Any] = [None] * len(variants)
        first = 0
        while first < len(order):
            lowest = self._start([variants[order[first]]])
            size = self.room(only_final=lowest == self.model.graph.n_layers)
            chosen = order[first : first + size]
            first += size
            found = self._forward([variants[at] for at in chosen])
            for at, value in zip(chosen, found, strict=True):
                values[at] = value
            tick(len(chosen))
        return values

    def room(self, only_final: bool = False) -> int:
        """How many variants go into one forward; `only_final`: of the final stream alone."""
        if self.at_once is not None:
            return self.at_once
        rows, model = self.inputs.tokens.size, self.model
        answers = isinstance(self.metric, PatchingMetric)
        read = int(self.metric.answers.sum()) if answers else rows
        wide = 16 * model.d_model + 4 * model.d_mlp + 4 * model.graph.n_heads * self.inputs.width
        size = torch.empty((), dtype=model.torch_dtype).element_size()
        # Metrics go on in float64, with a temporary or two.
        needs = rows * wide * size + read * model.d_vocab * (size + 16)
        fits = int(SHARE / 2 * free_memory(model.device) / needs)
        kind = torch.device(model.device).type
        busy = read if only_final else rows
        return max(1, min(ROWS.get(kind, ROWS["cuda"]) // busy, fits))

    @functools.cached_property
    def streams(self) -> list[Float[Tensor, "batch pos d_model"]]:
        """The original run's stream entering each layer, and the final one."""
        last = self.model.graph.n_layers - 1
        needs = [("resid_pre", layer) for layer in range(last + 1)] + [("resid_post", last)]
        cache = record(self.model, self.inputs, needs)
        return [cache["resid_pre", at] for at in range(last + 1)] + [cache["resid_post", last]]

    def _what_metric_reads(self) -> list[tuple[str, int]]:
        _, cache = run_with_cache(self.model, self.inputs)
        self.metric(cache)
        if not cache.asked:
            raise PatchError(
                "apply_metric_to_cache was asked for, but the metric reads nothing from the cache"
            )
        return sorted(cache.asked)

    def _start(self, variants: Sequence[Variant]) -> int:
        if self.on_cache:
            return 0  # The metric may read any layer.
        depth = self.model.graph.n_layers
        return min((o.start for variant in variants for o in variant), default=depth)

    def _forward(self, variants: Sequence[Variant]) -> list[Any]:
        """One forward of all, stacked along the batch."""
        times, batch = len(variants), self.inputs.batch
        start = self._start(variants)
        stream = torch.cat(
            [self._entering(start, self.streams[start], variant) for variant in variants]
        )
        hooks = _Stack(self.model, variants, batch, start).hooks()
        recorder = Recorder(self.model, self._needs)
        hooks += recorder.hooks()
        answers = isinstance(self.metric, PatchingMetric)
        if answers:
            hooks.append(only_answers(self.metric.answers, times))
        padded = self.inputs.padded(times)
        logits = self.model.forward(
            torch.as_tensor(padded.clean), padded, hooks, start=(start, stream)
        )
        if self.on_cache:
            caches = (recorder.cache(slice(k * batch, (k + 1) * batch)) for k in range(times))
            return [self.metric(cache) for cache in caches]
        if answers:
            return [self.metric.of_answers(part) for part in logits[:, 0].chunk(times)]
        return [self.metric(part) for part in logits.chunk(times)]

    @staticmethod
    def _entering(start: int, stream: Tensor, variant: Variant) -> Tensor:
        """What enters the first layer that is computed."""
        for override in variant:
            if override.stream_index == start:
                stream = override.apply(stream)
        return stream


class _Stack:
    """Hooks that give each variant, stacked along the batch, its own overrides."""

    def __init__(self, model: Model, variants: Sequence[Variant], batch: int, start: int) -> None:
        self.model, self.batch = model, batch
        self.at: dict[tuple[int, str], list[tuple[int, Override]]] = {}
        for k, variant in enumerate(variants):
            for override in variant:
                if override.stream_index != start:
                    self.at.setdefault(self._place(override), []).append((k, override))

    def _place(self, override: Override) -> tuple[int, str]:
        index = override.stream_index
        if index is None:
            return override.layer, override.component.point
        depth = self.model.graph.n_layers
        return (index, "hook_in") if index < depth else (depth - 1, "hook_out")

    def hooks(self) -> list[NamedHook]:
        """One hook a place; what enters a layer is kept for those that need it."""
        hooks: list[NamedHook] = []
        keeps: list[NamedHook] = []
        for (layer, point), overrides in self.at.items():
            self.model.check_point(point, layer)
            entering: dict[str, Tensor] = {}
            hooks.append((f"blocks.{layer}.{point}", self._hook(overrides, entering)))
            if any(o.component.name == "resid_mid" for _, o in overrides):
                keeps.append((f"blocks.{layer}.hook_in", _keep(entering)))
        # Behind the overrides: what enters a layer may itself be overridden.
        return hooks + keeps

    def _hook(self, overrides: list[tuple[int, Override]], entering: dict[str, Tensor]) -> Hook:
        def hook(value: Tensor) -> Tensor:
            current = by_head(self.model, overrides[0][1].component, value).clone()
            for k, override in overrides:
                rows = slice(k * self.batch, (k + 1) * self.batch)
                stream = entering["stream"][rows] if entering else None
                current[rows] = override.apply(current[rows], stream)
            return current.reshape(value.shape)

        return hook


def _keep(into: dict[str, Tensor]) -> Hook:
    def hook(value: Tensor) -> None:
        into["stream"] = value

    return hook


def as_mask(mask: np.ndarray, model: Model) -> Bool[Tensor, "batch pos"]:
    """Positions as a tensor on the model's device."""
    return torch.as_tensor(mask, device=model.device)

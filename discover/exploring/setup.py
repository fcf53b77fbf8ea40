"""A question about a behaviour, and what is needed to answer it: model, prompts, metric, nodes."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from discover.errors import PatchError
from discover.exploring.answer import Answer
from discover.labelled import Results
from discover.model import Model
from discover.patching.nodes import (
    METRICS,
    Inputs,
    IterNode,
    Node,
    PatchingMetric,
    clean_inputs,
    corrupted_inputs,
    measure,
    parse_nodes,
    role_positions,
)
from discover.patching.nodes.components import COMPONENTS, HEADS, KV_HEADS, NEURONS
from discover.patching.nodes.inputs import SeqPos
from discover.prompts import PromptPairs
from discover.session import How, numerics, prepare
from discover.spec import RunSpec

DIRECTIONS = {"denoising": ("corrupted", "clean"), "noising": ("clean", "corrupted")}
"""Which prompts are run, and whose activations are put in."""

ALIKE = 0.1
"""Share of the larger logit difference below which the two runs' count as alike."""

BY = ("layer", "pos", "head", "neuron")

Nodes = list[Node] | IterNode
"""Exact nodes, or all of some components."""


@dataclass(frozen=True)
class Question:
    """What all commands share: the behaviour, what is read off, which way, where.

    `metric` None follows the direction. `by` (axes of `BY`), `layers` and `position` (a role of the
    prompts or a number) are as a person writes them. `phase` hears what is going on.
    """

    spec: RunSpec
    direction: str
    metric: str | None = None
    by: str | None = None
    layers: str | None = None
    position: str | None = None
    device: str = "cpu"
    threads: int | None = None
    phase: Callable[[str], None] = field(default=lambda _name: None, compare=False)


def parse_by(text: str) -> frozenset[str]:
    """Axes between commas.

    Raises:
        PatchError: an unknown axis, or no layer.
    """
    axes = [part.strip() for part in text.split(",")]
    for axis in axes:
        if axis not in BY:
            raise PatchError(f"--by {text}: unknown axis {axis!r}; choose from {', '.join(BY)}")
    if "layer" not in axes or {"head", "neuron"} <= set(axes):
        raise PatchError(
            f"--by {text}: write layer, and with it pos, and head or neuron, such as layer,pos,head"
        )
    return frozenset(axes)


def parse_layers(text: str) -> list[int]:
    """Layers between commas, ranges with a dash: `0,2-4`.

    Raises:
        PatchError: a part is neither a number nor a range.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:-(\d{1,6}))?\s*", part, re.ASCII)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise PatchError(f"--layers {text}: {part.strip()!r} is no layer; write 3,5 or 2-4")
        found |= set(range(first, last + 1))
    return sorted(found)


@dataclass(frozen=True, eq=False)
class Setup:
    """A question with its model, prompts and metric at hand."""

    question: Question
    spec: RunSpec
    model: Model
    prompts: PromptPairs
    metric: PatchingMetric
    scale: str
    values: dict[str, float]
    by: frozenset[str] | None
    layers: list[int] | None
    seq_pos: SeqPos | None

    @classmethod
    @contextlib.contextmanager
    def of(cls, question: Question) -> Iterator[Setup]:
        """The set-up, while the number of threads and the precision are as asked for."""
        by = None if question.by is None else parse_by(question.by)
        layers = None if question.layers is None else parse_layers(question.layers)
        if by is not None and "pos" in by and question.position is not None:
            raise PatchError("--by with pos goes through all positions; leave --position out")
        question.phase("loading the model")
        spec, model, prompts = prepare(question.spec, question.device)
        seq_pos = _position(prompts, question.position)
        with numerics(How(question.device, question.threads), model):
            metric = METRICS[question.metric or question.direction](model, prompts)
            # The scale's own word for the direction may differ from what is run here.
            scale = metric.direction.removeprefix(f"{metric.name}: ")
            values = {side: float(measure(model, _side(prompts, side), metric)) for side in _SIDES}
            _warn_if_alike(metric, values)
            metric = replace(metric, direction=f"{question.direction}: {scale}")
            yield cls(question, spec, model, prompts, metric, scale, values, by, layers, seq_pos)

    @property
    def orig(self) -> Inputs:
        """What is run."""
        return _side(self.prompts, DIRECTIONS[self.question.direction][0])

    @property
    def new(self) -> Inputs:
        """Where activations are taken from."""
        return _side(self.prompts, DIRECTIONS[self.question.direction][1])

    @property
    def effect(self) -> str:
        """What an estimate's values mean."""
        run = DIRECTIONS[self.question.direction][0]
        return (
            f"{self.question.direction}: estimated change from the {run} run's "
            f"{self.values[run]:.4g}"
        )

    def say(self, what: str) -> None:
        """Tell what is going on."""
        self.question.phase(f"{what}, {len(self.prompts)} prompts")

    def parsed(self, text: str, option: str) -> Nodes:
        """Named nodes; an error names the option."""
        try:
            found = parse_nodes(text, self.model)
        except PatchError as error:
            raise PatchError(f"{option}: {error}") from error
        if isinstance(found, list) and option == "--nodes":
            self.no_axes("exact nodes are patched together")
        return found

    def no_axes(self, why: str) -> None:
        """Raise PatchError if something to go through is given where one number comes out."""
        for option, value in (("--by", self.by), ("--layers", self.layers)):
            if value is not None:
                raise PatchError(f"{option} has no effect here: {why} and give one number")

    def spread(self, nodes: IterNode) -> list[IterNode]:
        """The components with the axes, layers and positions asked for."""
        groups: dict[bool, list[str]] = {}
        for name in nodes.node_names:
            groups.setdefault(self._is_whole(name), []).append(name)
        pos = "each" if self.by and "pos" in self.by else self.seq_pos
        return [IterNode(names, pos, self.layers, whole) for whole, names in groups.items()]

    def _is_whole(self, name: str) -> bool:
        axis = COMPONENTS[name].axis
        if self.by is None:
            return axis not in (HEADS, KV_HEADS)
        for part, axes in (("head", (HEADS, KV_HEADS)), ("neuron", (NEURONS,))):
            if part in self.by and axis not in axes:
                able = ", ".join(c.name for c in COMPONENTS.values() if c.axis in axes)
                raise PatchError(
                    f"--by {self.question.by}: {name} has no {part}s; leave {part} out, or take "
                    f"one of {able}"
                )
        return not self.by & {"head", "neuron"}

    def check_gradient(self) -> None:
        """Raise PatchError where every estimate would be 0."""
        if self.metric.name == "kl" and self.question.direction == "noising":
            raise PatchError(
                "--estimate cannot tell the KL divergence from the clean run at the clean run, "
                "where its gradient is 0; take --metric noising, or --direction denoising"
            )

    def answer(
        self,
        ends: dict[str, list[str]],
        found: dict[str, Any] | None = None,
        order: IterNode | None = None,
        **more: Any,
    ) -> Answer:
        """The answer, its components in the order asked for."""
        found = found or {}
        names = list(found) if order is None else list(order.node_names)
        normalised = (self.metric.zero, self.metric.one) != (0.0, 1.0)
        plain = replace(self.metric, zero=0.0, one=1.0)
        ends_of = [float(measure(self.model, _side(self.prompts, s), plain)) for s in _SIDES]
        return Answer(
            spec=self.spec,
            direction=self.question.direction,
            metric=self.metric.name,
            unit=self.metric.unit,
            scale=self.scale,
            clean=self.values["clean"],
            corrupted=self.values["corrupted"],
            logit_diff=(ends_of[0], ends_of[1]) if normalised else None,
            ends=ends,
            results=Results({name: found[name] for name in names}),
            **more,
        )


_SIDES = ("clean", "corrupted")


def _side(prompts: PromptPairs, side: str) -> Inputs:
    return clean_inputs(prompts) if side == "clean" else corrupted_inputs(prompts)


def _warn_if_alike(metric: PatchingMetric, values: Mapping[str, float]) -> None:
    """Warn where a normalised metric divides by next to nothing."""
    span = float(metric.one - metric.zero)
    size = max(abs(float(metric.zero) + value * span) for value in values.values())
    if abs(span) < ALIKE * size and metric.name in DIRECTIONS:
        warnings.warn(
            f"the logit differences of the clean and the corrupted run are only {abs(span):.3g} "
            "apart, and normalised values are shares of that: take more prompts, another "
            "corruption or --metric logit_diff",
            stacklevel=2,
        )


def _position(prompts: PromptPairs, text: str | None) -> SeqPos | None:
    if text is None:
        return None
    return (
        int(text) if re.fullmatch(r"-?\d{1,6}", text, re.ASCII) else role_positions(prompts, text)
    )

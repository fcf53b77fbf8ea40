"""Node and IterNode: one activation to patch, or all of a kind one after the other.

The interface follows C. McDougall's path_patching library (github.com/callummcdougall), so that
notebooks written for it read the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes.components import (
    COMPONENTS,
    HEADS,
    KV_HEADS,
    NEURONS,
    Component,
    axis_name,
    axis_size,
    check_present,
    get_component,
)
from discover.patching.nodes.inputs import Inputs, SeqPos

_FULL_NAME = re.compile(r"blocks\.(\d+)\.(.+)")
_BY_KEY = {name: c for c in COMPONENTS.values() for name in (c.key, c.key.replace("attn.", "", 1))}
# `blocks.0.attn.hook_q_input` and `blocks.0.hook_q_input` are both in use for the same thing.
_BY_KEY |= {f"attn.{c.key}": c for c in COMPONENTS.values() if c.name.endswith("_input")}


@dataclass(frozen=True)
class Node:
    """One activation of a model: a component of a layer, whole or in part.

    `component` is a short name (`q`, `resid_pre`, ...; see `COMPONENTS`), or a full hook name such
    as `blocks.5.attn.hook_q`, which includes the layer. `head` (of k and v on grouped-query models:
    the key/value head) and `neuron` are an index, several, or None for all. `seq_pos` is None for
    all positions, an integer, or integers shaped `(batch,)` or `(batch, pos)`; of a pattern it is
    the query's position.

    Raises:
        PatchError: unknown component, no layer, or a head or neuron of what has none.
    """

    component: str
    layer: int | None = None
    head: int | Sequence[int] | None = None
    neuron: int | Sequence[int] | None = None
    seq_pos: SeqPos | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if "hook_" in self.component:
            self._take_full_name()
        kind = get_component(self.component)
        if not isinstance(self.layer, int) or isinstance(self.layer, bool) or self.layer < 0:
            raise PatchError(f"{self.component} needs a layer of 0 or more; got {self.layer!r}")
        if self.head is not None and kind.axis not in (HEADS, KV_HEADS):
            raise PatchError(f"{self.component} has no heads; leave head out")
        if self.neuron is not None and kind.axis != NEURONS:
            raise PatchError(f"{self.component} has no neurons; leave neuron out")
        for what, value in (("head", self.head), ("neuron", self.neuron)):
            object.__setattr__(self, what, _indices(what, value))

    def _take_full_name(self) -> None:
        found = _FULL_NAME.fullmatch(self.component)
        kind = _BY_KEY.get(found[2]) if found else None
        if found is None or kind is None:
            raise PatchError(
                f"{self.component!r} is no activation that can be patched; write for example "
                "blocks.5.attn.hook_q, or Node('q', layer=5)"
            )
        if self.layer is not None and self.layer != int(found[1]):
            raise PatchError(f"{self.component} is of layer {found[1]}, not of {self.layer}")
        object.__setattr__(self, "component", kind.name)
        object.__setattr__(self, "layer", int(found[1]))

    @property
    def kind(self) -> Component:
        """What the activation is."""
        return COMPONENTS[self.component]

    @property
    def at(self) -> int:
        """The layer."""
        assert self.layer is not None
        return self.layer

    @property
    def key(self) -> str:
        """The full hook name, by which caches know the activation."""
        return f"blocks.{self.layer}.{self.kind.key}"

    @property
    def indices(self) -> tuple[int, ...] | None:
        """The heads or neurons; None for all."""
        value: Any = self.head if self.head is not None else self.neuron
        return None if value is None else (value,) if isinstance(value, int) else tuple(value)

    def check(self, model: Model) -> None:
        """Raise PatchError if a model does not have this node."""
        check_present(model, self.kind)
        if self.at >= model.graph.n_layers:
            raise PatchError(f"{self} is not there: {model.name} has {model.graph.n_layers} layers")
        size = axis_size(model, self.kind)
        if size is not None and (outside := [i for i in self.indices or () if i >= size]):
            what = {HEADS: "heads", KV_HEADS: "key/value heads", NEURONS: "neurons"}
            raise PatchError(
                f"{self} is not there: {model.name} has {size} {what[self.kind.axis]} in a layer, "
                f"counted from 0, not {outside[0]}"
            )

    def __str__(self) -> str:
        parts = [f"{self.component} of layer {self.layer}"]
        parts += [f"head {_show(self.head)}"] if self.head is not None else []
        parts += [f"neuron {_show(self.neuron)}"] if self.neuron is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class IterNode:
    """All nodes of some components, to be patched one after the other.

    Iterates over layers, over positions if `seq_pos` is `"each"` or maps names to positions (as
    `roles_of` does), and over heads or neurons where the component has them, unless `whole` takes
    all of a layer together. Results are shaped `(layer, [pos], [head])`. `layers` restricts the
    layers. Any other `seq_pos` holds for all nodes.

    Raises:
        PatchError: unknown or repeated component.
    """

    node_names: str | Sequence[str]
    seq_pos: Any = field(default=None, compare=False)
    layers: Sequence[int] | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        names = (self.node_names,) if isinstance(self.node_names, str) else tuple(self.node_names)
        if not names or len(set(names)) != len(names):
            raise PatchError(f"name at least one component, and each one once; got {names}")
        for name in names:
            get_component(name)
        if isinstance(self.seq_pos, str) and self.seq_pos != "each":
            raise PatchError(f"seq_pos of an IterNode is 'each' or positions, not {self.seq_pos!r}")
        object.__setattr__(self, "node_names", names)

    @property
    def each(self) -> bool:
        """Whether it iterates over positions."""
        return isinstance(self.seq_pos, (str, Mapping))

    def places(self, model: Model, inputs: Inputs) -> tuple[list[Any], list[np.ndarray]]:
        """Labels and masks Bool[batch, pos] of the positions iterated over, or the only mask.

        Raises:
            PatchError: a position is outside its prompt.
        """
        if isinstance(self.seq_pos, Mapping):
            if not self.seq_pos:
                raise PatchError("seq_pos names no positions; give {name: positions} or 'each'")
            return list(self.seq_pos), [inputs.mask(at) for at in self.seq_pos.values()]
        if self.each:
            return list(inputs.labels(model)), [inputs.nth(at) for at in range(inputs.width)]
        return [], [inputs.mask(self.seq_pos)]

    def expand(self, model: Model, inputs: Inputs) -> dict[str, Expanded]:
        """The nodes of each component, with the axes that they span.

        Raises:
            PatchError: the model lacks a component or a layer.
        """
        return {name: self._expand(name, model, inputs) for name in self.node_names}

    def _expand(self, name: str, model: Model, inputs: Inputs) -> Expanded:
        kind = get_component(name)
        check_present(model, kind)
        layers = list(range(model.graph.n_layers)) if self.layers is None else list(self.layers)
        axes: dict[str, list[Any]] = {"layer": layers}
        labels, masks = self.places(model, inputs)
        if self.each:
            axes["pos"] = labels
        part, size = axis_name(model, kind), axis_size(model, kind)
        part = None if self.whole else part
        if part is not None and size is not None:
            axes[part] = list(range(size))
        spans = {axis: range(len(labels)) for axis, labels in axes.items()}
        key = "neuron" if kind.axis == NEURONS else "head"
        cells = []
        for at in itertools.product(*spans.values()):
            place = dict(zip(spans, at, strict=True))
            node = Node(name, layers[place["layer"]])
            if part is not None:
                index = place[part]
                node = replace(node, neuron=index) if key == "neuron" else replace(node, head=index)
            node.check(model)
            cells.append((node, masks[place.get("pos", 0)]))
        return Expanded(name, axes, cells)


@dataclass(frozen=True, eq=False)
class Expanded:
    """The nodes of an IterNode's component: `cells` in the order of the axes, layer first.

    A cell is a node and the positions at which it is patched, Bool[batch, pos].
    """

    name: str
    axes: dict[str, list[Any]]
    cells: list[tuple[Node, np.ndarray]]


def as_nodes(nodes: Node | Sequence[Node], what: str) -> list[Node]:
    """One node or several as a list.

    Raises:
        PatchError: there is none, or something else among them.
    """
    found = [nodes] if isinstance(nodes, Node) else list(nodes)
    if not found:
        raise PatchError(f"give at least one node as {what}")
    for node in found:
        if not isinstance(node, Node):
            raise PatchError(
                f"{what} must be a Node, a list of Nodes or one IterNode; got {node!r}"
            )
    return found


def _indices(what: str, value: Any) -> Any:
    if value is None:
        return None
    several = value if isinstance(value, Sequence) else (value,)
    if isinstance(value, str) or not all(
        isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in several
    ):
        raise PatchError(f"{what} must be an index of 0 or more, or several; got {value!r}")
    if not several or len(set(several)) != len(several):
        raise PatchError(f"{what} must name at least one, and each one once; got {value!r}")
    return tuple(value) if isinstance(value, Sequence) else value


def _show(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

"""Activations of one run, by component and layer or by full hook name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from discover.errors import ModelError, PatchError
from discover.model import Model, NamedHook
from discover.patching.nodes.components import (
    COMPONENTS,
    HEADS,
    KV_HEADS,
    Component,
    axis_size,
    check_present,
    projection_of,
)
from discover.patching.nodes.inputs import Inputs, make_inputs
from discover.patching.nodes.node import Node

Need = tuple[str, int]
"""A component and a layer."""


class ActivationCache(Mapping[str, Tensor]):
    """Activations by `cache["q", 9]`, or by full hook name: `cache["blocks.9.attn.hook_q"]`.

    Streams are `[batch, pos, d_model]`; q, k, v and z `[batch, pos, head, d_head]`; head inputs
    `[batch, pos, head, d_model]`; patterns and scores `[batch, head, query, key]`; neurons
    `[batch, pos, d_mlp]`.
    """

    def __init__(self, values: Mapping[Need, Tensor]) -> None:
        self._values = dict(values)
        self.asked: set[Need] = set()
        """What has been looked up so far."""

    def __getitem__(self, key: Any) -> Tensor:
        need = _need(key)
        self.asked.add(need)
        if need not in self._values:
            raise PatchError(
                f"{need[0]} of layer {need[1]} is not in this cache; name it when the cache is "
                "made, or make the cache of everything"
            )
        return self._values[need]

    def __contains__(self, key: object) -> bool:
        return _need(key) in self._values

    def __iter__(self) -> Iterator[str]:
        return (Node(*need).key for need in self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        names = sorted({name for name, _ in self._values})
        return f"ActivationCache of {', '.join(names)}"


def run_with_cache(
    model: Model, given: Any, components: str | Iterable[str] | None = None
) -> tuple[Float[Tensor, "batch pos d_vocab"], ActivationCache]:
    """Logits of one run and its activations: of the named components, or of all that there are.

    Raises:
        PatchError: unknown component, or one that the architecture lacks.
        ModelError: attention scores of a model that does not show its own.
        PromptError: the input cannot be run.
    """
    inputs = make_inputs(model, given)
    layers = range(model.graph.n_layers)
    names = all_components(model) if components is None else components
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in COMPONENTS:
            raise PatchError(f"unknown component {name!r}; choose one of {', '.join(COMPONENTS)}")
        _check_shown(model, COMPONENTS[name])
    recorder = Recorder(model, [(name, layer) for name in names for layer in layers])
    tokens = torch.as_tensor(inputs.tokens)
    logits = model.forward(tokens, inputs.padded(), recorder.hooks())
    return logits, recorder.cache()


def all_components(model: Model) -> list[str]:
    """The components that a model has."""
    found = []
    for component in COMPONENTS.values():
        try:
            _check_shown(model, component)
        except (PatchError, ModelError):
            continue
        found.append(component.name)
    return found


def _check_shown(model: Model, component: Component) -> None:
    """Raise unless a model has a component and shows it as it is."""
    check_present(model, component)
    if component.name == "attn_scores":
        # Bridges that show scores after their use show the attention weights in their place.
        model.check_point(component.point, 0)


class Recorder:
    """Hooks that keep activations as they pass; the same place is read once."""

    def __init__(self, model: Model, needs: Iterable[Need]) -> None:
        self.model, self.needs = model, list(dict.fromkeys(needs))
        self.raw: dict[str, Tensor] = {}

    def hooks(self) -> list[NamedHook]:
        """Hooks by name, to be put behind any that change the values."""
        places = dict.fromkeys(place for need in self.needs for place in self._places(need))
        return [(place, self._keep(place)) for place in places]

    def cache(self, rows: slice = slice(None)) -> ActivationCache:
        """What has passed, of some rows of the batch."""
        return ActivationCache({need: self._value(need)[rows] for need in self.needs})

    def _keep(self, place: str) -> Callable[[Tensor], None]:
        def hook(value: Tensor) -> None:
            self.raw[place] = value.detach().clone()

        return hook

    def _places(self, need: Need) -> list[str]:
        """Full names of the points that an activation is put together from."""
        name, layer = need
        block = f"blocks.{layer}"
        if self._is_mid(name):
            return [f"{block}.hook_in", f"{block}.attn.hook_out"]
        if name == "mlp_in" or projection_of(COMPONENTS[name]) is not None:
            return [f"{block}.hook_in"]
        return [f"{block}.{COMPONENTS[name].point}"]

    def _is_mid(self, name: str) -> bool:
        return name == "resid_mid" or (name == "mlp_in" and not self.model.graph.parallel)

    def _value(self, need: Need) -> Tensor:
        name, _ = need
        found = [self.raw[place] for place in self._places(need)]
        if self._is_mid(name):
            return found[0] + found[1]
        component = COMPONENTS[name]
        if projection_of(component) is not None:
            return repeat(found[0], "b p d -> b p h d", h=axis_size(self.model, component))
        return by_head(self.model, component, found[0])


def record(model: Model, inputs: Inputs, needs: Iterable[Need]) -> ActivationCache:
    """Activations of one run whose logits nobody needs."""
    recorder = Recorder(model, needs)
    hooks = [*recorder.hooks(), ("unembed.hook_in", lambda final: final[:, :1])]
    model.forward(torch.as_tensor(inputs.tokens), inputs.padded(), hooks)
    return recorder.cache()


def by_head(model: Model, component: Component, value: Tensor) -> Tensor:
    """The activation with an axis of its own for heads, as some bridges do not show it."""
    if component.axis not in (HEADS, KV_HEADS) or component.is_pattern:
        return value
    flat = rearrange(value, "b p ... -> b p (...)")
    return rearrange(flat, "b p (h d) -> b p h d", h=axis_size(model, component))


def needed(nodes: Sequence[Node]) -> list[Need]:
    """The components and layers of nodes."""
    return [(node.component, node.at) for node in nodes]


def look_up(cache: Mapping[Any, Tensor], node: Node, shape: tuple[int, int]) -> Tensor:
    """A node's activation in a cache: this module's, TransformerLens's or a plain dictionary.

    Raises:
        PatchError: it is not there, or is of another batch or length.
    """
    try:
        value = cache[node.key]
    except KeyError as error:
        raise PatchError(f"the cache has no {node.key} ({node})") from error
    at = (0, 2) if node.kind.is_pattern else (0, 1)
    if not isinstance(value, Tensor) or (value.shape[at[0]], value.shape[at[1]]) != shape:
        raise PatchError(
            f"the cache's {node.key} does not fit an input of {shape[0]} prompts of {shape[1]} "
            f"positions: it is {tuple(getattr(value, 'shape', ()))}"
        )
    return value


def _need(key: Any) -> Need:
    if isinstance(key, tuple) and len(key) == 2 and key[0] in COMPONENTS:
        return str(key[0]), int(key[1])
    if isinstance(key, str) and "hook_" in key:
        node = Node(key)
        return node.component, node.at
    raise PatchError(f"{key!r} is no activation; ask for ('q', 9) or 'blocks.9.attn.hook_q'")

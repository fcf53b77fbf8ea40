"""Names of nodes, as a person writes and reads them: `a9.h6.q`, `m3`, `resid_pre.5`, `z`."""

from __future__ import annotations

import re

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes.components import (
    COMPONENTS,
    HEADS,
    KV_HEADS,
    NEURONS,
    axis_size,
    check_present,
)
from discover.patching.nodes.node import IterNode, Node

_LAYER = r"(?P<layer>0|[1-9]\d{0,5})"
_INDICES = r"(?P<at>(?:0|[1-9]\d{0,5})(?:\+(?:0|[1-9]\d{0,5}))*)"
_HEAD = re.compile(rf"a{_LAYER}\.(?P<what>h|kv){_INDICES}(?:\.(?P<component>\w+))?", re.ASCII)
_MLP = re.compile(rf"m{_LAYER}(?P<reads>\.in)?", re.ASCII)
_WHOLE = re.compile(rf"(?P<component>[a-z_]+)\.{_LAYER}(?:\.n{_INDICES})?", re.ASCII)

EXAMPLES = "a9.h6 (a head's z), a9.h6.q, m3, m3.in, resid_pre.5, post.3.n17, logits, embed"


def parse_nodes(text: str, model: Model) -> list[Node] | IterNode:
    """Nodes from names between commas: exact ones, or all nodes of some components.

    `z,q` gives an IterNode. Exact names have a layer: `a{layer}.h{head}` (z), followed by `.q`,
    `.pattern`, ... for another component (`a{layer}.kv{group}.k` where queries are grouped),
    `m{layer}` (mlp_out), `m{layer}.in` (mlp_in), `{component}.{layer}`, neurons as `post.3.n17`,
    several heads or neurons as `a9.h6+9.q`, `logits` (the last resid_post), `embed` (the first
    resid_pre), or a full hook name.

    Raises:
        PatchError: a name that means nothing, that the model does not have or that stands twice; or
            both kinds together.
    """
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise PatchError(f"{text!r} has an empty name; write names between commas, such as z,q")
    if twice := [name for name in names if names.count(name) > 1]:
        raise PatchError(f"{twice[0]} is named twice in {text!r}; name each node once")
    whole = [name for name in names if name in COMPONENTS]
    if not whole:
        return _exact(names, model)
    if exact := [name for name in names if name not in COMPONENTS]:
        raise PatchError(
            f"{whole[0]!r} names no layer and {exact[0]!r} stands beside it: write components "
            f"alone, which are patched one node after the other, or name a layer with each, such "
            f"as {whole[0]}.0"
        )
    for name in whole:
        check_present(model, COMPONENTS[name])
    return IterNode(whole)


def parse_node(name: str, model: Model) -> Node:
    """One exact node from its name; see `parse_nodes`.

    Raises:
        PatchError: the name means nothing, or the model does not have the node.
    """
    if name == "logits":
        node = Node("resid_post", model.graph.n_layers - 1)
    elif name == "embed":
        node = Node("resid_pre", 0)
    elif "hook_" in name:
        node = Node(name)
    elif found := _HEAD.fullmatch(name):
        node = _head(name, found, model)
    elif found := _MLP.fullmatch(name):
        node = Node("mlp_in" if found["reads"] else "mlp_out", int(found["layer"]))
    elif found := _WHOLE.fullmatch(name):
        if found["component"] not in COMPONENTS:
            raise _unknown(name)
        node = Node(found["component"], int(found["layer"]), neuron=_indices(found["at"]))
    else:
        raise _unknown(name)
    node.check(model)
    return node


def node_name(node: Node, model: Model) -> str:
    """The name that `parse_node` takes for this node of this model; positions are no part of it."""
    if node.component == "resid_post" and node.at == model.graph.n_layers - 1:
        return "logits"
    if node.component == "resid_pre" and node.at == 0:
        return "embed"
    if node.component in ("mlp_out", "mlp_in"):
        return f"m{node.at}" + (".in" if node.component == "mlp_in" else "")
    if node.indices is None:
        return f"{node.component}.{node.at}"
    indices = "+".join(map(str, node.indices))
    if node.kind.axis == NEURONS:
        return f"{node.component}.{node.at}.n{indices}"
    name = f"a{node.at}.{_what(node.kind.axis, model)}{indices}"
    return name if node.component == "z" else f"{name}.{node.component}"


def _exact(names: list[str], model: Model) -> list[Node]:
    nodes: dict[Node, str] = {}
    for name in names:
        node = parse_node(name, model)
        if node in nodes:
            raise PatchError(f"{nodes[node]} and {name} are the same node; name it once")
        nodes[node] = name
    return list(nodes)


def _head(name: str, found: re.Match[str], model: Model) -> Node:
    component = found["component"] or "z"
    kind = COMPONENTS.get(component)
    if kind is None or kind.axis not in (HEADS, KV_HEADS):
        able = [c.name for c in COMPONENTS.values() if c.axis in (HEADS, KV_HEADS)]
        raise PatchError(f"{name!r}: heads have no {component}; choose one of {', '.join(able)}")
    what = _what(kind.axis, model)
    if found["what"] != what:
        right = f"a{found['layer']}.{what}{found['at']}" + (
            f".{component}" if found["component"] else ""
        )
        told = (
            f"{component} belongs to a key/value head; there are {axis_size(model, kind)} in a "
            f"layer of {model.name}"
            if what == "kv"
            else f"{component} of {model.name} belongs to a head, not to a key/value head"
        )
        raise PatchError(f"{name!r}: {told}; write for example {right}")
    return Node(component, int(found["layer"]), head=_indices(found["at"]))


def _what(axis: str, model: Model) -> str:
    """`kv` where heads share keys and values, as in the names of the graph's receivers."""
    grouped = model.graph.n_kv_heads < model.graph.n_heads
    return "kv" if axis == KV_HEADS and grouped else "h"


def _indices(text: str | None) -> int | tuple[int, ...] | None:
    if text is None:
        return None
    found = tuple(map(int, text.split("+")))
    return found[0] if len(found) == 1 else found


def _unknown(name: str) -> PatchError:
    return PatchError(
        f"unknown node {name!r}; write a component, for all of its nodes ({', '.join(COMPONENTS)}),"
        f" or one node: {EXAMPLES}"
    )

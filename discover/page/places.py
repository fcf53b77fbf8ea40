"""Where a viewer's nodes stand: rows from the embedding up to the logits, few crossings, fast.

Lengths are in the viewer's units (one is a pixel at zoom 1); y grows downwards, so the logits are
at the top. Unlike a figure's, these places are found in milliseconds: the barycentre method alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from discover.export.figure.spread import spread
from discover.graph import ComputationalGraph, Sender, parse_sender

APART = 56.0
"""Between the centres of neighbours in a row; nodes are at most 48 wide."""

ROW, LAYER_GAP = 48.0, 26.0
"""From one row to the next, and so much more from one layer to the next; nodes are 26 high."""

SPARE = 1.35
"""How much wider than its fullest row a picture may be."""

WIDE = 1.25
"""How wide a picture is by its height: most screens are wider than high."""

HOMING, MOST_STRETCH = 0.25, 4.0
"""How much a node is drawn to its own column, by what its edges do; how far x may be stretched."""

SWEEPS = 16

GROUP_PULL = 2.0
"""How much a key/value input and its heads draw each other; an edge to the next layer: 0.7."""

_KINDS = ("kv", "head", "mlp")


def places(
    graph: ComputationalGraph, edges: Sequence[Mapping[str, Any]], *, fixed: bool = False
) -> list[dict[str, Any]]:
    """The nodes that the edges touch, each with its place.

    `edges` have `source` and `target` by node. Usually heads stand where lines cross little; with
    `fixed` they stand by index and every layer has its row, so that a run under way adds nodes and
    moves none. In each layer, from the bottom: shared key/value inputs, heads, MLP (beside the
    heads in parallel blocks). Embedding and logits always stand.
    """
    names = {"embed", "logits"}
    for edge in edges:
        names.update((edge["source"], edge["target"]))
    # In the order of computation, so that equal pulls leave heads by index.
    nodes = sorted(map(_node, names), key=_when)
    rows = _rows(graph, nodes, fixed=fixed)
    if fixed:
        _by_index(graph, nodes)
    else:
        _by_pull(graph, nodes, rows, edges)
        _centre(nodes)
    for node in nodes:
        del node["index"]
        node["x"] = round(node["x"], 1)
    return nodes


def _when(node: Mapping[str, Any]) -> tuple[float, int, int]:
    if node["layer"] is None:
        return (-math.inf if node["id"] == "embed" else math.inf, 0, 0)
    return (node["layer"], _KINDS.index(node["kind"]), node["index"])


def _node(name: str) -> dict[str, Any]:
    node: dict[str, Any] = {"id": name, "label": name, "kind": name, "layer": None, "index": 0}
    if name in ("embed", "logits"):
        return node
    head, _, rest = name.partition(".kv")
    if rest:
        layer, index = int(head[1:]), int(rest)
        return node | {"label": f"{layer}.kv{index}", "kind": "kv", "layer": layer, "index": index}
    sender: Sender = parse_sender(name)
    if sender.kind == "mlp":
        return node | {"kind": "mlp", "layer": sender.layer}
    label = f"{sender.layer}.{sender.head}"
    return node | {"label": label, "kind": "head", "layer": sender.layer, "index": sender.head}


def _rows(
    graph: ComputationalGraph, nodes: list[dict[str, Any]], *, fixed: bool
) -> list[list[int]]:
    """Give every node its y; returns the rows of nodes from the bottom up, but for the two ends."""
    wanted: dict[tuple[int, int], list[int]] = {}
    if fixed:
        kinds = [0, 1] if graph.grouped else [1]
        kinds += [2] if graph.mlp and not graph.parallel else []
        wanted = {(layer, kind): [] for layer in range(graph.n_layers) for kind in kinds}
    for place, node in enumerate(nodes):
        if node["layer"] is not None:
            kind = _KINDS.index(node["kind"])
            kind = 1 if kind == 2 and graph.parallel else kind
            wanted.setdefault((node["layer"], kind), []).append(place)
    y, last = 0.0, -1
    for layer, kind in sorted(wanted):
        y -= ROW + (LAYER_GAP if layer != last else 0.0)
        last = layer
        for place in wanted[layer, kind]:
            nodes[place]["y"] = y
    y -= ROW + LAYER_GAP
    for node in nodes:
        if node["layer"] is None:
            node["y"] = 0.0 if node["id"] == "embed" else y
        node["y"] -= y
    return [members for _, members in sorted(wanted.items()) if members]


def _by_index(graph: ComputationalGraph, nodes: list[dict[str, Any]]) -> None:
    """Every head in the column of its index; MLPs in the middle, or behind the heads."""
    middle = (graph.n_heads - 1) / 2
    for node in nodes:
        at = middle
        if node["kind"] == "head":
            at = node["index"]
        elif node["kind"] == "kv":
            at = (node["index"] + 0.5) * graph.group_size - 0.5
        elif node["kind"] == "mlp" and graph.parallel:
            at = graph.n_heads
        node["x"] = at * APART


def _by_pull(
    graph: ComputationalGraph,
    nodes: list[dict[str, Any]],
    rows: list[list[int]],
    edges: Sequence[Mapping[str, Any]],
) -> None:
    """The barycentre method: each node is drawn to the middle of its neighbours, up and down."""
    height = max(node["y"] for node in nodes)
    width = max(APART * max([len(members) for members in rows], default=1) * SPARE, WIDE * height)
    home = width * np.array([_home(graph, node) for node in nodes])
    x = home.copy()
    pulls = _pulls(_neighbours(graph, nodes, edges), rows, len(nodes))
    for sweep in range(SWEEPS):
        for row in range(len(rows)) if sweep % 2 else reversed(range(len(rows))):
            who = np.array(rows[row])
            mine, other, weight, total = pulls[row]
            drawn = np.bincount(mine, weight * x[other], len(who))
            bond = HOMING * total + 0.02
            hope = (drawn + bond * home[who]) / (total + bond)
            order = np.lexsort((np.arange(len(who)), np.round(hope, 6)))
            apart = [APART] * (len(who) - 1)
            x[who[order]] = spread(hope[order].tolist(), apart, 0.0, width)
    _fill(x, nodes, width)
    for node, at in zip(nodes, x.tolist(), strict=True):
        node["x"] = at


def _home(graph: ComputationalGraph, node: Mapping[str, Any]) -> float:
    """Where a node would stand without edges, as a share of the width.

    Heads by index; MLPs off each other's column, so that an edge over several layers passes beside
    those between.
    """
    if node["kind"] == "head":
        return float((node["index"] + 0.5) / graph.n_heads)
    if node["kind"] == "kv":
        return float((node["index"] + 0.5) / graph.n_kv_heads)
    return 0.5 if node["layer"] is None else 0.5 + 0.17 * (node["layer"] % 3 - 1)


def _fill(x: np.ndarray, nodes: list[dict[str, Any]], width: float) -> None:
    """Stretch the whole to the width, and never press it together."""
    inner = np.array([node["layer"] is not None for node in nodes])
    if inner.any() and (span := float(np.ptp(x[inner]))) > 0:
        middle = float(x[inner].min()) + span / 2
        x[inner] = width / 2 + (x[inner] - middle) * min(MOST_STRETCH, max(1.0, width / span))


def _neighbours(
    graph: ComputationalGraph, nodes: list[dict[str, Any]], edges: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Who pulls at whom: Float[3, pull], of node, neighbour and weight; both ways."""
    place = {node["id"]: i for i, node in enumerate(nodes) if node["layer"] is not None}
    pairs = [
        (place[edge["source"]], place[edge["target"]])
        for edge in edges
        if edge["source"] in place and edge["target"] in place
    ]
    weights = [1.0 / (1 + nodes[b]["layer"] - nodes[a]["layer"]) ** 0.5 for a, b in pairs]
    if graph.grouped:
        for node in nodes:
            owner = place.get(f"a{node['layer']}.kv{node['index'] // graph.group_size}")
            if node["kind"] == "head" and owner is not None:
                pairs.append((owner, place[node["id"]]))
                weights.append(GROUP_PULL)
    if not pairs:
        return np.zeros((3, 0))
    ends = np.array(pairs, dtype=float).T
    one_way = np.vstack([ends, weights])
    return np.hstack([one_way, one_way[[1, 0, 2]]])


def _pulls(
    pulls: np.ndarray, rows: list[list[int]], count: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """For each row: who is drawn (by place in the row), by whom, how much, and each one's total."""
    node, other = pulls[0].astype(int), pulls[1].astype(int)
    row_of, within = np.zeros(count, dtype=int), np.zeros(count, dtype=int)
    for number, members in enumerate(rows):
        row_of[members] = number
        within[members] = np.arange(len(members))
    found = []
    for number, members in enumerate(rows):
        mine = row_of[node] == number
        place, weight = within[node[mine]], pulls[2][mine]
        total = np.bincount(place, weight, len(members))
        found.append((place, other[mine], weight, total))
    return found


def _centre(nodes: list[dict[str, Any]]) -> None:
    """Start at x = 0; embedding and logits stand in the middle of the rest."""
    inner = [node["x"] for node in nodes if node["layer"] is not None] or [0.0]
    low, high = min(inner), max(inner)
    for node in nodes:
        node["x"] = (high - low) / 2 if node["layer"] is None else node["x"] - low

"""Before a search: do all nodes and the logits come out in the engine as in the model itself?"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from discover.errors import ModelError
from discover.graph import Receiver, Sender
from discover.model import Model
from discover.patching.attention import AttentionLayer
from discover.patching.damage import Unembedding
from discover.patching.rows import Rows
from discover.tolerance import REBUILT

Bases = dict[tuple[int, str], Float[Tensor, "n_kv_heads batch pos d_head"]]
"""Clean keys and values at all positions, by layer and `k` or `v`."""


@torch.no_grad()
def check_unembedding(
    unembedding: Unembedding,
    stream: Float[Tensor, "pos d_model"],
    logits: Float[Tensor, "pos d_vocab"],
) -> None:
    """Compare the logits of a final stream with the model's own.

    Raises:
        ModelError: they differ, or the engine does not know what is between the two.
    """
    scale = float(logits.abs().max())
    difference = unembedding.logits(stream) - logits
    _demand(difference, scale, "the logits", unembedding.model)


@torch.no_grad()
def check_nodes(
    model: Model,
    layers: list[AttentionLayer],
    biases: list[Tensor],
    clean: Float[Tensor, "sender batch pos d_model"],
    real: Bool[Tensor, "batch pos"],
) -> Bases:
    """Compute every node from the clean senders before it; returns the keys and values met.

    Raises:
        ModelError: a node does not come out as in the model.
    """
    rows = Rows.of(torch.ones_like(real))
    bases: Bases = {}
    for layer, attention in enumerate(layers):
        found = _heads(model, attention, layer, clean, biases[layer], rows, bases)
        if model.graph.mlp:
            before = model.graph.n_senders_of(Receiver("mlp", layer))
            stream = clean[:before].sum(0) + biases[layer + int(not model.graph.parallel)]
            found[Sender("mlp", layer)] = model.mlp(layer, stream)
        _compare(model, found, clean, real)
    return bases


def _heads(
    model: Model,
    attention: AttentionLayer,
    layer: int,
    clean: Tensor,
    bias: Tensor,
    rows: Rows,
    bases: Bases,
) -> dict[Sender, Tensor]:
    graph, where = model.graph, attention.at(rows)
    first = graph.sender_index[Sender("head", layer, 0)]
    stream = (clean[:first].sum(0) + bias).flatten(0, 1)[None]
    for kind in "kv":
        parts = [
            rows.unpack(attention.project(kind, head, stream, where))[0]
            for head in range(graph.n_kv_heads)
        ]
        bases[layer, kind] = torch.stack(parts)
    found = {}
    for head in range(graph.n_heads):
        q = rows.unpack(attention.project("q", head, stream, where))
        k, v = (bases[layer, kind][head // graph.group_size][None] for kind in "kv")
        z = attention.pattern(q, k, where) @ v
        found[Sender("head", layer, head)] = z[0] @ attention.W_O[head]
    return found


def _compare(model: Model, found: dict[Sender, Tensor], clean: Tensor, real: Tensor) -> None:
    index = model.graph.sender_index
    scale = max(float(clean[index[sender], real].abs().max()) for sender in found)
    for sender, value in found.items():
        _demand((value - clean[index[sender]])[real], scale, str(sender), model)


def _demand(difference: Tensor, scale: float, what: str, model: Model) -> None:
    gap, limit = float(difference.abs().max()) / max(scale, 1e-30), REBUILT[model.dtype]
    # `not <=` also catches NaN.
    if not gap <= limit:
        raise ModelError(
            f"the engine does not reproduce {what} of {model.name} (relative difference "
            f"{gap:.1e}, allowed {limit:.0e}); use --engine reference"
        )

"""Activation patching: run one input with activations of another put in.

Source: Meng et al., "Locating and Editing Factual Associations in GPT" (arXiv 2202.05262), section
2 (causal tracing); Wang et al. (arXiv 2211.00593), section 3. The interface follows C. McDougall's
path_patching library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from einops import einsum
from torch import Tensor

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes.cache import by_head, look_up, needed, record
from discover.patching.nodes.components import axis_size, projection_of
from discover.patching.nodes.inputs import Inputs, check_twins, make_inputs
from discover.patching.nodes.node import IterNode, Node, as_nodes
from discover.patching.nodes.results import labelled, progress, results, single
from discover.patching.nodes.variants import Override, VariantRunner, as_mask

Cache = Mapping[str, Tensor] | Literal["zero"] | None


def act_patch(
    model: Model,
    orig_input: Any,
    patching_nodes: Node | Sequence[Node] | IterNode,
    patching_metric: Any,
    *,
    new_input: Any = None,
    new_cache: Cache = None,
    apply_metric_to_cache: bool = False,
    verbose: bool | Literal["bar"] = False,
    at_once: int | None = None,
) -> Any:
    """Run `orig_input` with the nodes' activations taken from `new_input` or `new_cache`.

    Several nodes are patched together and give one value; an IterNode patches its nodes one after
    the other and gives `Results`, a LabelledArray a component (a LabelledList where the metric
    gives something else than numbers). Inputs are a text, texts, tokens Int[batch, pos] or
    `Inputs`. `new_cache="zero"` puts zeros in. `patching_metric` is a function of the logits
    Float[batch, pos, d_vocab], of the cache with `apply_metric_to_cache`, or `"loss"` or
    `"loss_per_token"` (of the input's own next tokens, nats). `at_once`: how many variants share
    a forward; it changes the cost alone. `verbose` shows progress and the results' shapes, "bar"
    progress alone.

    Raises:
        PatchError: a node that the model lacks, a position outside its prompt, a cache that does
            not fit, or neither `new_input` nor `new_cache`.
        PromptError: inputs that cannot be run, or do not align.
    """
    runner = VariantRunner(
        model, make_inputs(model, orig_input), patching_metric, apply_metric_to_cache, at_once
    )
    inputs = runner.inputs
    if not isinstance(patching_nodes, IterNode):
        nodes = as_nodes(patching_nodes, "patching_nodes")
        source = _Source(model, inputs, nodes, new_input, new_cache)
        variant = [source.override(node, inputs.mask(node.seq_pos)) for node in nodes]
        return single(runner.run([variant])[0])
    expanded = patching_nodes.expand(model, inputs)
    nodes = [node for part in expanded.values() for node, _ in part.cells]
    source = _Source(model, inputs, nodes, new_input, new_cache)
    found = {}
    with progress(sum(len(part.cells) for part in expanded.values()), verbose) as tick:
        for name, part in expanded.items():
            variants = [[source.override(node, mask)] for node, mask in part.cells]
            found[name] = labelled(runner.run(variants, tick), part.axes, name, patching_metric)
    return results(found, verbose is True)


class _Source:
    """Where patched activations come from: a run on the new input, a cache, or zeros."""

    def __init__(
        self, model: Model, inputs: Inputs, nodes: Sequence[Node], new_input: Any, cache: Cache
    ) -> None:
        for node in nodes:
            node.check(model)
        self.model, self.inputs = model, inputs
        self.zero = isinstance(cache, str)
        if self.zero and cache != "zero":
            raise PatchError(f"new_cache is a cache or 'zero', not {cache!r}")
        if (new_input is None) == (cache is None):
            raise PatchError("give new_input or new_cache: what is patched in must come from one")
        if new_input is not None or self.zero:
            new = inputs if self.zero else make_inputs(model, new_input)
            check_twins(inputs, new)
            cache = record(model, new, needed(nodes))
        self.cache: Mapping[str, Tensor] = cache  # type: ignore[assignment]
        self._values: dict[str, Tensor] = {}

    def override(self, node: Node, mask: np.ndarray) -> Override:
        """The node set to its new activation at some positions."""
        value, at = self._value(node), node.indices
        if at is not None:
            head_axis = 1 if node.kind.is_pattern else 2
            value = value.index_select(head_axis, torch.tensor(at, device=value.device))
        return Override(node.at, node.kind, value, as_mask(mask, self.model), at)

    def _value(self, node: Node) -> Tensor:
        """The whole new activation, at the point where it is put in."""
        if node.key not in self._values:
            shape = (self.inputs.batch, self.inputs.width)
            value = look_up(self.cache, node, shape)
            value = torch.zeros_like(value) if self.zero else value
            value = value.to(device=self.model.device, dtype=self.model.torch_dtype)
            self._values[node.key] = self._at_point(node, value)
        return self._values[node.key]

    def _at_point(self, node: Node, value: Tensor) -> Tensor:
        kind = projection_of(node.kind)
        if kind is not None:
            return project(self.model, node.at, kind, value)
        if node.component == "mlp_in":
            return self.model.normalise(node.at, "mlp", value)
        value = by_head(self.model, node.kind, value)
        size, found = (
            axis_size(self.model, node.kind),
            value.shape[1 if node.kind.is_pattern else 2],
        )
        if size is not None and found != size:
            raise PatchError(f"the cache's {node.key} has {found} heads or neurons, not {size}")
        return value


def project(model: Model, layer: int, kind: str, streams: Tensor) -> Tensor:
    """q, k or v of each head from its own input `[batch, pos, head, d_model]`."""
    weight, bias = model.input_projection(layer, kind)
    normed = model.normalise(layer, "attn", streams)
    found = einsum(normed, weight, "b p h m, h m d -> b p h d")
    return found if bias is None else found + bias

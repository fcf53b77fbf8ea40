"""Direct paths from head to head: what one head writes into another's q, k or v input.

Source: Wang et al. (arXiv 2211.00593), section 3.1; as a sweep, TransformerLens pull request 1396
(github.com/TransformerLensOrg/TransformerLens), which this is tested against.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from discover.errors import PatchError
from discover.labelled import LabelledArray, LabelledList
from discover.model import Model
from discover.patching.nodes.cache import record
from discover.patching.nodes.components import COMPONENTS, axis_name, axis_size
from discover.patching.nodes.engine import Head, engine_for, engine_pairs
from discover.patching.nodes.inputs import check_twins, make_inputs
from discover.patching.nodes.node import Node
from discover.patching.nodes.receivers import project_heads
from discover.patching.nodes.results import labelled, progress
from discover.patching.nodes.variants import Override, Variant, VariantRunner, as_mask


def direct_paths(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_metric: Any,
    *,
    component: str = "q",
    source: Head | None = None,
    layernorm: str = "exact",
    verbose: bool = False,
    at_once: int | None = None,
) -> LabelledArray | LabelledList:
    """The metric with one head's direct path into one later head's q, k or v taken from new_input.

    From one `source` head to every later head: `(layer, head)`, of k and v on grouped-query models
    `(layer, kv_head)`. From all heads (`source=None`): `(src_layer, src_head, layer, head)`. NaN
    where the target is not behind the source. The path is the skip connection: no MLPs, no heads.

    `layernorm="exact"` computes the target's norm anew on its changed input. `"frozen"` keeps the
    scale of the original run: the change goes through the norm as a linear map,
    `q + W_Q (gain * centred(change) / scale)`. They differ where the change moves the scale.

    Logit differences (`logit_difference`, `denoising`, `noising`) are computed by the engine of the
    exact search where it knows the architecture, unless `at_once` is given; it gives the same.

    Warns:
        UserWarning: `frozen` on a model whose norms have gains that are not folded into the weights
            (TransformerLens's own linearised version leaves gains out; here they count).

    Raises:
        PatchError: a component other than q, k and v, another layernorm, or no such head.
        PromptError: inputs that cannot be run, or do not align.
    """
    if component not in ("q", "k", "v"):
        raise PatchError(f"direct paths end in q, k or v, not in {component!r}")
    if layernorm not in ("exact", "frozen"):
        raise PatchError(f"layernorm is 'exact' or 'frozen', not {layernorm!r}")
    if source is not None:
        Node("z", *source).check(model)
    runner = VariantRunner(model, make_inputs(model, orig_input), patching_metric, at_once=at_once)
    graph = model.graph
    sources = (
        [source] if source else list(itertools.product(range(graph.n_layers), range(graph.n_heads)))
    )
    n_targets = axis_size(model, COMPONENTS[component]) or 0
    total = sum((graph.n_layers - 1 - layer) * n_targets for layer, _ in sources)
    with progress(total, verbose, f"direct paths into {component}") as tick:
        engine = None if layernorm == "frozen" or at_once else engine_for(runner, new_input)
        if engine is not None:
            found = engine_pairs(engine, runner, sources, component, tick)
        else:
            sweep = _Sweep(runner, new_input, component, layernorm == "frozen")
            found = {}
            for pairs, variants in sweep.blocks(sources, n_targets):
                found.update(zip(pairs, runner.run(variants), strict=True))
                tick(len(pairs))
    targets = list(itertools.product(range(graph.n_layers), range(n_targets)))
    values = [found.get((start, target)) for start in sources for target in targets]
    axes: dict[str, Sequence[Any]] = {}
    if source is None:
        axes |= {"src_layer": range(graph.n_layers), "src_head": range(graph.n_heads)}
    part = axis_name(model, COMPONENTS[component]) or "head"
    axes |= {"layer": range(graph.n_layers), part: range(n_targets)}
    return labelled(values, {k: list(v) for k, v in axes.items()}, component, patching_metric)


class _Sweep:
    """Makes the variants of a sweep, one target layer after the other."""

    def __init__(
        self, runner: VariantRunner, new_input: Any, component: str, frozen_norm: bool
    ) -> None:
        self.runner, self.model, self.component = runner, runner.model, component
        self.frozen_norm = frozen_norm
        new = make_inputs(self.model, new_input)
        check_twins(runner.inputs, new)
        self.mask = as_mask(runner.inputs.attention, self.model)
        self.difference = [
            new_z - own_z
            for own_z, new_z in zip(*(self._heads(i) for i in (runner.inputs, new)), strict=True)
        ]
        if frozen_norm and any(
            not self.model.norm_is_folded(layer) for layer in range(self.model.graph.n_layers)
        ):
            warnings.warn(
                f"the norms of {self.model.name} have gains that are not folded into the weights; "
                "layernorm='frozen' applies them to the change, which TransformerLens's linearised "
                "version does not",
                stacklevel=3,
            )

    def _heads(self, inputs: Any) -> list[Tensor]:
        layers = range(self.model.graph.n_layers)
        cache = record(self.model, inputs, [("z", layer) for layer in layers])
        return [cache["z", layer] for layer in layers]

    def write(self, head: Head) -> Float[Tensor, "batch pos d_model"]:
        """How much more a head writes to the stream in the new run."""
        layer, index = head
        weights = self.model.head_output_weights(layer)[index]
        written: Tensor = self.difference[layer][:, :, index] @ weights
        return written

    def blocks(
        self, sources: Sequence[Head], n_targets: int
    ) -> Iterator[tuple[list[tuple[Head, Head]], list[Variant]]]:
        """Pairs of source and target that share a forward, with their variants."""
        writes = {head: self.write(head) for head in sources}
        size = self.runner.room()
        for layer in range(self.model.graph.n_layers):
            before = [head for head in sources if head[0] < layer]
            # Targets are taken together for each source: its change is normalised once.
            pairs: list[tuple[Head, Head]] = []
            variants: list[Variant] = []
            for head in before:
                overrides = self._overrides(layer, writes[head])
                for target in range(n_targets):
                    pairs.append((head, (layer, target)))
                    variants.append([overrides[target]])
                while len(pairs) >= size:
                    yield pairs[:size], variants[:size]
                    del pairs[:size], variants[:size]
            if pairs:
                yield pairs, variants

    def _overrides(self, layer: int, write: Tensor) -> list[Override]:
        """Each target's q, k or v with a source's change in its input."""
        component = COMPONENTS[self.component]
        stream = self.runner.streams[layer]
        if self.frozen_norm:
            normed = self.model.normalise(layer, "attn", stream)
            normed = normed + self.model.frozen_norm(layer, stream, write)
        else:
            normed = self.model.normalise(layer, "attn", stream + write)
        heads = project_heads(self.model, Node(self.component, layer), self.component, normed)
        mask = self.mask & (write != 0).any(-1)
        return [
            Override(layer, component, heads[:, :, at : at + 1], mask, (at,))
            for at in range(heads.shape[2])
        ]

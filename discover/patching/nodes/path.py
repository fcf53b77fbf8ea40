"""Path patching: what a sender changes in a receiver's input, and that in the output.

Three runs in the literature: (1) both inputs, (2) the original with the senders patched and every
head frozen, to read the receivers' inputs, (3) the original with the receivers patched. Here (2) is
not a run: behind frozen heads a change of the residual stream goes on by itself or through MLPs,
position by position, so only MLPs are computed, and only where the stream differs.

Source: Wang et al., "Interpretability in the Wild" (arXiv 2211.00593), section 3.1 and appendix B;
Goldowsky-Dill et al., "Localizing Model Behavior with Path Patching" (arXiv 2304.05969). The
interface follows C. McDougall's path_patching library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes.act import Cache
from discover.patching.nodes.components import COMPONENTS
from discover.patching.nodes.frozen import FrozenHeads, arrives, reads
from discover.patching.nodes.inputs import SeqPos, make_inputs
from discover.patching.nodes.measures import PatchingMetric
from discover.patching.nodes.node import Expanded, IterNode, Node, as_nodes
from discover.patching.nodes.receivers import receive
from discover.patching.nodes.results import labelled, progress, results, single
from discover.patching.nodes.variants import Variant, VariantRunner, as_mask

Nodes = Node | Sequence[Node] | IterNode


def path_patch(
    model: Model,
    orig_input: Any,
    new_input: Any = None,
    sender_nodes: Nodes = (),
    receiver_nodes: Nodes = (),
    patching_metric: Any = "loss",
    *,
    direct_includes_mlps: bool = True,
    seq_pos: SeqPos | None = None,
    apply_metric_to_cache: bool = False,
    verbose: bool | Literal["bar"] = False,
    orig_cache: Cache = None,
    new_cache: Cache = None,
    at_once: int | None = None,
) -> Any:
    """Run `orig_input` with the direct paths from senders to receivers taken from `new_input`.

    A direct path runs along skip connections and, with `direct_includes_mlps`, through MLPs; heads
    in between are frozen. Senders: resid_pre/mid/post, z, attn_out, mlp_out, post. Receivers: q, k,
    v, z (all three), their inputs, pre (a gated neuron's whole input), mlp_in, resid_pre/mid/post.
    Several senders or receivers are patched together. One side may be an IterNode; then `Results`
    come back, NaN where no path can be. `seq_pos` restricts both ends of the paths to positions.
    Metric, inputs and caches are as for `act_patch`; a given `orig_cache` is used for the senders'
    own activations.

    Raises:
        PatchError: a node that cannot send or receive or that the model lacks, no path from any
            sender to any receiver, both sides iterating, a position in a Node.
        PromptError: inputs that cannot be run, or do not align.
    """
    both = [nodes for nodes in (sender_nodes, receiver_nodes) if isinstance(nodes, IterNode)]
    if len(both) == 2:
        raise PatchError("senders and receivers cannot both iterate; make one side a Node")
    runner = VariantRunner(
        model, make_inputs(model, orig_input), patching_metric, apply_metric_to_cache, at_once
    )
    task = _Paths(runner, sender_nodes, receiver_nodes, seq_pos)
    frozen = FrozenHeads(
        model,
        runner.inputs,
        runner.streams,
        task.all_senders,
        new_input=new_input,
        new_cache=new_cache,
        orig_cache=orig_cache,
        through_mlps=direct_includes_mlps,
    )
    if not both:
        return single(task.run(frozen, task.single())[0])
    found = {}
    with progress(task.size, verbose, "path patching") as tick:
        for name, part in task.expanded.items():
            values = task.run(frozen, task.paths(part), tick)
            found[name] = labelled(values, part.axes, name, patching_metric)
    return results(found, verbose is True)


Path = tuple[list[Node], list[Node], np.ndarray]
"""Senders, receivers and positions, patched together."""


class _Paths:
    """The paths that one call asks for."""

    def __init__(
        self, runner: VariantRunner, senders: Nodes, receivers: Nodes, seq_pos: SeqPos | None
    ) -> None:
        self.runner, self.model, self.inputs = runner, runner.model, runner.inputs
        iterating = senders if isinstance(senders, IterNode) else receivers
        self.over_senders = isinstance(senders, IterNode)
        self.iterating = iterating if isinstance(iterating, IterNode) else None
        self.mask = self._mask(seq_pos)
        self.expanded: dict[str, Expanded] = {}
        if self.iterating is not None:
            self.expanded = self.iterating.expand(self.model, self.inputs)
        moving = [node for part in self.expanded.values() for node, _ in part.cells]
        self.senders = [] if isinstance(senders, IterNode) else as_nodes(senders, "sender_nodes")
        self.receivers = (
            [] if isinstance(receivers, IterNode) else as_nodes(receivers, "receiver_nodes")
        )
        self.all_senders = moving if self.over_senders else self.senders
        for node in self.all_senders:
            _check_end(self.model, node, "sends", "sender")
        for node in self.receivers if self.over_senders else moving or self.receivers:
            _check_end(self.model, node, "receives", "receiver")

    def _mask(self, seq_pos: SeqPos | None) -> np.ndarray:
        given = None if self.iterating is None else self.iterating.seq_pos
        if given is not None and seq_pos is not None:
            raise PatchError("give seq_pos to path_patch or to the IterNode, not to both")
        each = self.iterating is not None and self.iterating.each
        return self.inputs.mask(seq_pos if given is None or each else given)

    @property
    def size(self) -> int:
        """How many values are asked for."""
        return sum(len(part.cells) for part in self.expanded.values())

    def single(self) -> list[Path]:
        """The one path of two fixed sides.

        Raises:
            PatchError: no sender comes before any receiver.
        """
        if not any(can_reach(self.model, s, r) for s in self.senders for r in self.receivers):
            raise PatchError(
                f"there is no path from {' / '.join(map(str, self.senders))} to "
                f"{' / '.join(map(str, self.receivers))}: a sender must come before a receiver"
            )
        return [(self.senders, self.receivers, self.mask)]

    def paths(self, part: Expanded) -> list[Path]:
        """The paths of one component of the iterating side."""
        found = []
        each = self.iterating is not None and self.iterating.each
        for node, place in part.cells:
            mask = place if each else self.mask
            senders = [node] if self.over_senders else self.senders
            receivers = self.receivers if self.over_senders else [node]
            found.append((senders, receivers, mask))
        return found

    def run(
        self,
        frozen: FrozenHeads,
        paths: list[Path],
        tick: Callable[[int], object] = lambda _: None,
    ) -> list[Any]:
        """The metric of each path; None where no sender can reach a receiver."""
        values: list[Any] = [None] * len(paths)
        possible = [at for at, path in enumerate(paths) if self._is_possible(path)]
        tick(len(paths) - len(possible))
        final = all(self._only_final(paths[at][1]) for at in possible)
        size = self.runner.room(only_final=final)
        for first in range(0, len(possible), size):
            chosen = possible[first : first + size]
            variants = self._variants(frozen, [paths[at] for at in chosen])
            for at, value in zip(chosen, self.runner.run(variants), strict=True):
                values[at] = value
            tick(len(chosen))
        return values

    def _is_possible(self, path: Path) -> bool:
        return any(can_reach(self.model, s, r) for s in path[0] for r in path[1])

    def _where(self, receivers: list[Node], mask: np.ndarray) -> Bool[Tensor, "batch pos"]:
        """Where a path's ends are patched: into the final stream, only where logits are read."""
        metric = self.runner.metric
        if isinstance(metric, PatchingMetric) and self._only_final(receivers):
            mask = mask & metric.answers
        return as_mask(mask, self.model)

    def _only_final(self, receivers: list[Node]) -> bool:
        """Whether paths end in the final stream alone, and nothing else is read of the run."""
        last = 2 * self.model.graph.n_layers
        return not self.runner.on_cache and all(reads(self.model, n) == last for n in receivers)

    def _variants(self, frozen: FrozenHeads, paths: list[Path]) -> list[Variant]:
        wanted = {reads(self.model, node) for _, receivers, _ in paths for node in receivers}
        masks = torch.stack([self._where(receivers, mask) for _, receivers, mask in paths])
        changes = frozen.changes([senders for senders, _, _ in paths], masks, wanted)
        variants: list[Variant] = []
        for k, (senders, receivers, _) in enumerate(paths):
            overrides = []
            for node in _split(self.model, receivers):
                if not any(can_reach(self.model, sender, node) for sender in senders):
                    continue
                change = changes[reads(self.model, node)][k]
                # Where nothing changes, nothing is set: rounding stays out.
                mask = masks[k] & (change != 0).any(-1)
                overrides.append(receive(self.model, node, frozen, change, mask))
            variants.append(overrides)
        return variants


def can_reach(model: Model, sender: Node, receiver: Node) -> bool:
    """Whether what a sender writes is in the stream that a receiver reads."""
    written, read = arrives(model, sender), reads(model, receiver)
    if sender.component.startswith("resid_") and receiver.component.startswith("resid_"):
        return written < read
    return written <= read


def _check_end(model: Model, node: Node, verb: str, what: str) -> None:
    node.check(model)
    if node.seq_pos is not None:
        raise PatchError(
            f"{node} has a seq_pos of its own; in path patching positions belong to the path: use "
            "path_patch(..., seq_pos=...)"
        )
    if not getattr(node.kind, verb):
        able = [name for name, component in COMPONENTS.items() if getattr(component, verb)]
        raise PatchError(f"{node.component} cannot be a {what}; use one of {', '.join(able)}")


def _split(model: Model, receivers: Sequence[Node]) -> list[Node]:
    """Receivers one by one: z stands for q, k and v; a gated neuron has two inputs."""
    found = []
    for node in receivers:
        if node.component == "z":
            share = model.graph.n_heads // model.graph.n_kv_heads
            groups = None if node.indices is None else [i // share for i in node.indices]
            groups = None if groups is None else list(dict.fromkeys(groups))
            found += [replace(node, component="q"), replace(node, component="k", head=groups)]
            found.append(replace(node, component="v", head=groups))
        elif node.component == "pre" and model.has_gated_mlp:
            found += [node, replace(node, component="pre_linear")]
        else:
            found.append(node)
    return found

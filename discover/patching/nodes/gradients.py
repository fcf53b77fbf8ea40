"""Attribution patching: all activation patches at once, to first order.

    effect(node) = sum (new - original activation) . d metric / d activation (original run)

Two forwards and one backward, whatever the number of nodes. Source: N. Nanda, "Attribution
Patching: Activation Patching At Industrial Scale" (2023); the by-head and by-position figures of
the nnsight tutorial of the same name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from discover.errors import ModelError, PatchError
from discover.labelled import Agreement, Results, agreement
from discover.model import Hook, Model, NamedHook
from discover.patching.nodes.act import act_patch
from discover.patching.nodes.cache import Recorder, by_head, record
from discover.patching.nodes.components import (
    COMPONENTS,
    NEURONS,
    STREAM,
    Component,
    get_component,
    projection_of,
)
from discover.patching.nodes.inputs import Inputs, check_twins, make_inputs
from discover.patching.nodes.measures import PatchingMetric, only_answers
from discover.patching.nodes.node import IterNode
from discover.patching.nodes.results import labelled, results
from discover.patching.nodes.variants import VariantRunner, as_mask


def attribution_patch(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_nodes: IterNode,
    patching_metric: Any,
) -> Results:
    """Estimates of what `act_patch` of each node changes of the metric, shaped as its results.

    Effects, in the metric's unit: add the metric of the original run to compare with `act_patch`,
    or use `attribution_agreement`. `patching_metric` gives one number, as a tensor that gradients
    go through, or is `"loss"`.

    Raises:
        PatchError: a component without a gradient of its own, or a metric that gives no number.
        ModelError: a component that the model has already used where it shows it.
        PromptError: inputs that cannot be run, or do not align.
    """
    if not isinstance(patching_nodes, IterNode):
        raise PatchError("attribution patching is for an IterNode: it costs the same for all nodes")
    for name in patching_nodes.node_names:
        if projection_of(get_component(name)) is not None or name == "mlp_in":
            able = [
                c.name for c in COMPONENTS.values() if c.name != "mlp_in" and not projection_of(c)
            ]
            raise PatchError(f"no gradient is taken at {name}; use one of {', '.join(able)}")
    inputs, new = make_inputs(model, orig_input), make_inputs(model, new_input)
    check_twins(inputs, new)
    metric = VariantRunner(model, inputs, patching_metric).metric
    expanded = patching_nodes.expand(model, inputs)
    needs = [(name, at) for name, part in expanded.items() for at in part.axes["layer"]]
    theirs = record(model, new, needs)
    ours, gradients = _backward(model, inputs, metric, needs)
    masks = patching_nodes.places(model, inputs)[1]
    found = {}
    for name, part in expanded.items():
        rows = [
            _sums(
                model,
                COMPONENTS[name],
                (theirs[name, at] - ours[name, at]) * gradients[name, at],
                masks,
            )
            for at in part.axes["layer"]
        ]
        parts = torch.stack(rows)
        if patching_nodes.whole:
            parts = parts.sum(-1)
        values = parts.flatten().tolist()
        found[name] = labelled(values, part.axes, name, metric)
    return results(found)


def attribution_agreement(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_nodes: IterNode,
    patching_metric: Any,
    *,
    worst: int = 10,
    verbose: bool | Literal["bar"] = False,
) -> dict[str, Agreement]:
    """How well attribution patching agrees with exact activation patching, by component.

    Rank correlation, worst offenders, ... of the effects on the metric; it costs what `act_patch`
    costs. Raises what `attribution_patch` raises.
    """
    given = (model, orig_input, new_input, patching_nodes, patching_metric)
    estimate, exact = attribution_patch(*given), exact_effects(*given, verbose=verbose)
    return {
        one.name: agreement(one, other, worst)
        for one, other in zip(estimate.arrays(), exact.arrays(), strict=True)
    }


def exact_effects(
    model: Model,
    orig_input: Any,
    new_input: Any,
    patching_nodes: IterNode,
    patching_metric: Any,
    *,
    verbose: bool | Literal["bar"] = False,
) -> Results:
    """What `act_patch` of each node changes of the metric: what `attribution_patch` estimates.

    Raises what `act_patch` raises.
    """
    runner = VariantRunner(model, make_inputs(model, orig_input), patching_metric)
    base = float(runner.run([[]])[0])
    exact = act_patch(
        model, orig_input, patching_nodes, patching_metric, new_input=new_input, verbose=verbose
    )
    arrays = {a.name: replace(a, values=a.values - base, direction="") for a in exact.arrays()}
    return Results(arrays)


def _backward(
    model: Model, inputs: Inputs, metric: Any, needs: list[tuple[str, int]]
) -> tuple[dict[tuple[str, int], Tensor], dict[tuple[str, int], Tensor]]:
    """Activations of the original run, and the metric's gradients there."""
    seen: dict[str, Tensor] = {}

    def begin(embed: Tensor) -> Tensor:
        return embed.detach().requires_grad_(True)

    def see(place: str) -> Hook:
        def hook(value: Tensor) -> Tensor:
            # The hook point may go on with another view of its value: hand it this one.
            seen[place] = value.view_as(value)
            return seen[place]

        return hook

    places = {need: f"blocks.{need[1]}.{COMPONENTS[need[0]].point}" for need in needs}
    recorder = Recorder(model, needs)
    hooks: list[NamedHook] = [("blocks.0.hook_in", begin)]
    hooks += [(place, see(place)) for place in dict.fromkeys(places.values())]
    hooks += recorder.hooks()
    answers = isinstance(metric, PatchingMetric)
    if answers:
        hooks.append(only_answers(metric.answers))
    tokens = torch.as_tensor(inputs.tokens)
    logits = model.forward(tokens, inputs.padded(), hooks, gradients=True)
    with torch.enable_grad():
        value = metric.of_answers(logits[:, 0]) if answers else metric(logits)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise PatchError(
            "attribution patching needs a metric of one number, as a tensor that gradients go "
            "through; this one gives something else"
        )
    found = torch.autograd.grad(value.reshape(()), list(seen.values()), allow_unused=True)
    by_place = dict(zip(seen, found, strict=True))
    gradients = {}
    for need, place in places.items():
        gradient = by_place[place]
        if gradient is None:
            raise ModelError(
                f"{place} of {model.name} shows its activation, but the logits do not depend on "
                "it there, so it has no gradient"
            )
        # What reads the stream behind attention reads attention's output: one gradient for both.
        gradients[need] = by_head(model, COMPONENTS[need[0]], gradient)
    cache = recorder.cache()
    return {need: cache[need] for need in needs}, gradients


def _sums(
    model: Model, component: Component, products: Tensor, masks: list[np.ndarray]
) -> Float[Tensor, "pos part"]:
    """Sums over the batch and all but the axes that are asked for, at each set of positions."""
    if component.is_pattern:
        by_part = products.sum(-1).transpose(1, 2)
    elif component.axis == STREAM:
        by_part = products.sum(-1, keepdim=True)
    elif component.axis == NEURONS:
        by_part = products
    else:
        by_part = products.sum(-1)
    chosen = [by_part.double() * as_mask(mask, model)[..., None] for mask in masks]
    return torch.stack([part.sum((0, 1)) for part in chosen])

"""The questions: patch nodes, patch paths, patch the paths between all pairs of heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from discover.errors import PatchError, PromptError
from discover.exploring.answer import Answer
from discover.exploring.setup import Nodes, Question, Setup
from discover.labelled import Agreement
from discover.model import Model
from discover.patching.nodes import (
    IterNode,
    Node,
    act_patch,
    attribution_agreement,
    attribution_patch,
    direct_paths,
    node_name,
    path_patch,
)
from discover.prompts import PromptPairs
from discover.tasks import build_prompts


def patch(question: Question, nodes: str, *, estimate: bool = False, check: bool = False) -> Answer:
    """Patch the activations of named nodes: exact ones together, components node by node.

    `estimate` takes attribution patching; `check` compares it with the exact patches.

    Raises:
        InputError: the model, prompts or nodes cannot be had, or do not fit together.
    """
    with Setup.of(question) as setup:
        model, metric, ends = setup.model, setup.metric, {"patched": nodes}
        found = setup.parsed(nodes, "--nodes")
        if isinstance(found, list):
            if estimate:
                raise PatchError(
                    "--estimate is for all nodes of components, such as --nodes z,q; exact nodes "
                    "cost one forward, so leave it out"
                )
            placed = [replace(node, seq_pos=setup.seq_pos) for node in found]
            setup.say(f"patching {len(placed)} node(s) together")
            value = act_patch(model, setup.orig, placed, metric, new_input=setup.new)
            return setup.answer(_ends(ends, {"patched": found}, model), value=value)
        parts = setup.spread(found)
        merged: dict[str, Any] = {}
        agreed: dict[str, Agreement] = {}
        if estimate:
            setup.check_gradient()
            metric = replace(metric, direction=setup.effect)
        setup.say("estimating" if estimate else "patching")
        for part in parts:
            if check:
                agreed |= attribution_agreement(
                    model, setup.orig, setup.new, part, metric, verbose="bar"
                )
            merged |= (
                attribution_patch(model, setup.orig, setup.new, part, metric)
                if estimate
                else act_patch(model, setup.orig, part, metric, new_input=setup.new, verbose="bar")
            )
        return setup.answer(
            _ends(ends, {}, model), merged, order=found, estimated=estimate, agreement=agreed
        )


def path(question: Question, senders: str, receivers: str, *, skip_only: bool = False) -> Answer:
    """Patch the direct paths between named nodes; one side may be components, node by node.

    `skip_only` leaves out paths through MLPs.

    Raises:
        InputError: the model, prompts or nodes cannot be had, there is no such path, or both sides
            are components.
    """
    with Setup.of(question) as setup:
        model, ends = setup.model, {"from": senders, "to": receivers}
        sides: dict[str, Nodes] = {k: setup.parsed(v, f"--{k}") for k, v in ends.items()}
        over = [k for k, nodes in sides.items() if isinstance(nodes, IterNode)]
        if len(over) == 2:
            raise PatchError(
                f"--from {senders} and --to {receivers} both stand for all nodes of a component; "
                "name the layers on one side, such as --to logits or --to a2.h1.q, or take "
                "--all-pairs q for every pair of heads"
            )
        fixed = {k: nodes for k, nodes in sides.items() if isinstance(nodes, list)}
        setup.say("patching paths")
        options: dict[str, Any] = {"direct_includes_mlps": not skip_only}

        def run(start: Any, end: Any, **more: Any) -> Any:
            return path_patch(
                model, setup.orig, setup.new, start, end, setup.metric, **options, **more
            )

        names = _ends(ends, fixed, model)
        if not over:
            setup.no_axes("both ends are exact nodes")
            value = run(sides["from"], sides["to"], seq_pos=setup.seq_pos)
            return setup.answer(names, value=value)
        moving = sides[over[0]]
        assert isinstance(moving, IterNode)
        merged: dict[str, Any] = {}
        for part in setup.spread(moving):
            both = {**sides, over[0]: part}
            merged |= run(both["from"], both["to"], verbose="bar")
        return setup.answer(names, merged, order=moving)


def pairs(question: Question, component: str, layernorm: str = "exact") -> Answer:
    """Patch the direct path of every head into every later head's q, k or v.

    Raises:
        InputError: the model or prompts cannot be had.
    """
    with Setup.of(question) as setup:
        setup.say(f"patching every head's direct path into every later head's {component}")
        found = direct_paths(
            setup.model,
            setup.orig,
            setup.new,
            setup.metric,
            component=component,
            layernorm=layernorm,
            verbose=True,
        )
        return setup.answer({"from": ["z"], "to": [component]}, {component: found})


def task_prompts(
    model: Model,
    task: str,
    n: int | None = None,
    seed: int = 0,
    *,
    bos: bool = False,
    **options: Any,
) -> PromptPairs:
    """A task's prompts for a model, as `discover run` makes them; `n` None: the usual number.

    Raises:
        TaskError: unknown task or option, or a task that the model's tokenizer cannot do.
        PromptError: the model has no tokenizer, or cannot run the prompts.
    """
    if model.tokenizer is None:
        raise PromptError(f"{model.name} came without a tokenizer; put its files beside it")
    prompts = build_prompts(task, model.tokenizer, n, seed, bos=bos, options=options)
    model.check_prompts(prompts)
    return prompts


def _ends(
    given: dict[str, str], exact: dict[str, list[Node]], model: Model
) -> dict[str, list[str]]:
    """Names of what was patched: exact nodes by their own, components as they were given."""
    return {
        key: [node_name(node, model) for node in exact[key]]
        if key in exact
        else [name.strip() for name in text.split(",")]
        for key, text in given.items()
    }

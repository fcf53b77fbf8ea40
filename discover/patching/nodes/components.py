"""The activations that can be patched: where they pass in a model, and who may use them."""

from __future__ import annotations

from dataclasses import dataclass

from discover.errors import PatchError
from discover.model import Model

STREAM, HEADS, KV_HEADS, NEURONS = "stream", "head", "kv_head", "neuron"


@dataclass(frozen=True)
class Component:
    """One kind of activation.

    `name`: short name. `key`: TransformerLens's hook name behind `blocks.{layer}.`, by which caches
    know it. `point`: where it passes in a bridge, behind the same. `axis`: what its third axis
    counts (`stream`: it has none). `act`, `sends`, `receives`: where it may be used.
    """

    name: str
    key: str
    point: str
    axis: str = STREAM
    act: bool = True
    sends: bool = False
    receives: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether it is shaped [batch, head, query, key] instead of [batch, pos, ...]."""
        return self.name in ("pattern", "attn_scores")


COMPONENTS = {
    component.name: component
    for component in (
        Component("resid_pre", "hook_resid_pre", "hook_in", sends=True, receives=True),
        Component("resid_mid", "hook_resid_mid", "attn.hook_out", sends=True, receives=True),
        Component("resid_post", "hook_resid_post", "hook_out", sends=True, receives=True),
        Component("attn_out", "hook_attn_out", "attn.hook_out", sends=True),
        Component("mlp_out", "hook_mlp_out", "mlp.hook_out", sends=True),
        Component("mlp_in", "hook_mlp_in", "mlp.hook_in", receives=True),
        Component("q", "attn.hook_q", "attn.q.hook_out", HEADS, receives=True),
        Component("k", "attn.hook_k", "attn.k.hook_out", KV_HEADS, receives=True),
        Component("v", "attn.hook_v", "attn.v.hook_out", KV_HEADS, receives=True),
        Component("q_input", "hook_q_input", "attn.q.hook_out", HEADS, receives=True),
        Component("k_input", "hook_k_input", "attn.k.hook_out", KV_HEADS, receives=True),
        Component("v_input", "hook_v_input", "attn.v.hook_out", KV_HEADS, receives=True),
        Component("z", "attn.hook_z", "attn.o.hook_in", HEADS, sends=True, receives=True),
        Component("pattern", "attn.hook_pattern", "attn.hook_pattern", HEADS),
        Component("attn_scores", "attn.hook_attn_scores", "attn.hook_attn_scores", HEADS),
        Component("pre", "mlp.hook_pre", "mlp.hook_pre", NEURONS, receives=True),
        Component("pre_linear", "mlp.hook_pre_linear", "mlp.hook_pre_linear", NEURONS),
        Component("post", "mlp.hook_post", "mlp.out.hook_in", NEURONS, sends=True),
    )
}
"""Every component by its short name."""

_MLP_ONLY = ("mlp_out", "mlp_in", "pre", "pre_linear", "post", "resid_mid")
_INPUT_OF = {"q_input": "q", "k_input": "k", "v_input": "v"}


def get_component(name: str) -> Component:
    """The component of that short name.

    Raises:
        PatchError: there is none.
    """
    if name not in COMPONENTS:
        raise PatchError(f"unknown component {name!r}; choose one of {', '.join(COMPONENTS)}")
    return COMPONENTS[name]


def projection_of(component: Component) -> str | None:
    """Which of q, k and v a head's input is for; None if it is no head's input."""
    return _INPUT_OF.get(component.name)


def check_present(model: Model, component: Component) -> None:
    """Raise PatchError if an architecture lacks a component."""
    name, graph = component.name, model.graph
    if name in _MLP_ONLY and not graph.mlp:
        raise PatchError(f"{model.name} has no MLPs, so it has no {name}")
    if name == "resid_mid" and graph.parallel:
        raise PatchError(
            f"{model.name} has parallel blocks, whose attention and MLP read the same stream: it "
            "has no resid_mid; use resid_pre or resid_post"
        )
    if name == "pre_linear" and not model.has_gated_mlp:
        raise PatchError(f"{model.name} has no gated MLPs, so it has no pre_linear; use pre")


def axis_size(model: Model, component: Component) -> int | None:
    """How many heads, key/value heads or neurons a component has; None if it has no such axis."""
    sizes = {
        STREAM: None,
        HEADS: model.graph.n_heads,
        KV_HEADS: model.graph.n_kv_heads,
        NEURONS: model.d_mlp,
    }
    return sizes[component.axis]


def axis_name(model: Model, component: Component) -> str | None:
    """What an axis is called in results: head, kv_head (grouped queries only) or neuron."""
    if component.axis == KV_HEADS and model.graph.n_kv_heads == model.graph.n_heads:
        return HEADS
    return None if component.axis == STREAM else component.axis

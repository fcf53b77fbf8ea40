"""Names of nodes: read and written without loss, and every mistake told apart."""

from __future__ import annotations

import functools

import pytest
from helpers import family_model
from helpers_graph import law
from hypothesis import given
from hypothesis import strategies as st

from discover.errors import PatchError
from discover.model import Model
from discover.patching.nodes import COMPONENTS, IterNode, Node, node_name, parse_node, parse_nodes
from discover.patching.nodes.cache import all_components
from discover.patching.nodes.components import axis_size

FAMILIES = ("gpt2", "llama", "attention-only")


@functools.cache
def model_of(family: str) -> Model:
    return family_model(family)


@functools.cache
def components_of(family: str) -> list[str]:
    return all_components(model_of(family))


def nodes(family: str) -> st.SearchStrategy[Node]:
    model = model_of(family)

    @st.composite
    def draw_one(draw: st.DrawFn) -> Node:
        component = draw(st.sampled_from(components_of(family)))
        layer = draw(st.integers(0, model.graph.n_layers - 1))
        size = axis_size(model, COMPONENTS[component])
        if size is None:
            return Node(component, layer)
        index = st.integers(0, size - 1)
        several = st.lists(index, min_size=2, max_size=4, unique=True).map(tuple)
        at = draw(st.none() | index | several if size > 1 else st.none() | index)
        key = "neuron" if COMPONENTS[component].axis == "neuron" else "head"
        return Node(component, layer, **{key: at})

    return draw_one()


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_all_nodes_read_back_and_differ(family):
    model = model_of(family)

    @law
    @given(st.lists(nodes(family), min_size=1, max_size=4, unique=True))
    def check(some):
        names = [node_name(node, model) for node in some]
        assert len(set(names)) == len(some)
        assert parse_nodes(", ".join(names), model) == some
        assert [node_name(parse_node(name, model), model) for name in names] == names

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_sender_and_receiver_of_the_graph_is_a_node_of_the_same_name(family):
    model = model_of(family)
    senders = {edge.sender.name for edge in model.graph.edges}
    receivers = {edge.receiver.name for edge in model.graph.edges}
    for name in senders | receivers:
        node = parse_node(name, model)
        assert node_name(node, model) == name
        assert node.kind.sends if name in senders else node.kind.receives


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("a1.h1", Node("z", 1, head=1)),
        ("a1.h1.z", Node("z", 1, head=1)),
        ("a1.h1.pattern", Node("pattern", 1, head=1)),
        ("a1.h0+1.q", Node("q", 1, head=(0, 1))),
        ("m1", Node("mlp_out", 1)),
        ("m1.in", Node("mlp_in", 1)),
        ("resid_pre.1", Node("resid_pre", 1)),
        ("z.0", Node("z", 0)),
        ("post.0.n3", Node("post", 0, neuron=3)),
        ("logits", Node("resid_post", 1)),
        ("embed", Node("resid_pre", 0)),
        ("blocks.1.attn.hook_q", Node("q", 1)),
    ],
)
def test_what_names_mean(name, node):
    model = model_of("gpt2")
    assert model.graph.n_layers == 2
    assert parse_nodes(name, model) == [node]


def test_components_without_a_layer_stand_for_all_of_their_nodes():
    assert parse_nodes("z, q,resid_pre", model_of("gpt2")) == IterNode(["z", "q", "resid_pre"])


def test_keys_and_values_of_grouped_queries_are_named_by_group():
    model = model_of("llama")
    assert model.graph.n_kv_heads < model.graph.n_heads
    assert parse_node("a1.kv1.k", model) == Node("k", 1, head=1)
    assert node_name(Node("v", 0, head=1), model) == "a0.kv1.v"
    assert node_name(Node("q", 0, head=1), model) == "a0.h1.q"


@pytest.mark.parametrize(
    ("family", "text", "message"),
    [
        ("gpt2", "zz", "unknown node 'zz'; write a component"),
        ("gpt2", "a1.h0.q.z", "unknown node"),
        ("gpt2", "a01.h0", "unknown node 'a01.h0'"),
        ("gpt2", "foo.1", "unknown node 'foo.1'"),
        ("gpt2", "", "empty name"),
        ("gpt2", "z,", "empty name"),
        ("gpt2", "z,z", "z is named twice"),
        ("gpt2", "m1,mlp_out.1", "m1 and mlp_out.1 are the same node"),
        ("gpt2", "z,m1", "'z' names no layer and 'm1' stands beside it"),
        ("gpt2", "a1.h0.resid_pre", "heads have no resid_pre"),
        ("gpt2", "a1.h99", "2 heads in a layer, counted from 0, not 99"),
        ("gpt2", "a7.h0", "has 2 layers"),
        ("gpt2", "a1.kv0.k", "write for example a1.h0.k"),
        ("gpt2", "resid_pre.0.n1", "resid_pre has no neurons"),
        ("gpt2", "blocks.1.hook_nothing", "is no activation that can be patched"),
        ("gpt2", "pre_linear", "has no gated MLPs"),
        ("llama", "a1.h0.k", "write for example a1.kv0.k"),
        ("llama", "a1.kv0", "write for example a1.h0"),
        ("attention-only", "m0", "has no MLPs"),
    ],
)
def test_mistakes_say_what_is_wrong(family, text, message):
    with pytest.raises(PatchError) as raised:
        parse_nodes(text, model_of(family))
    assert message in str(raised.value)

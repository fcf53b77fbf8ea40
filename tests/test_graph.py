"""The computational graph against its contract: counts, order, names, and what feeds what."""

from __future__ import annotations

import hashlib

import pytest
from helpers_graph import graphs, law, nodes_behind
from hypothesis import example, given
from hypothesis import strategies as st

from discover.errors import GraphError
from discover.graph import (
    ComputationalGraph,
    Edge,
    Receiver,
    Sender,
    graph_of_shape,
    parse_edge,
    parse_receiver,
    parse_sender,
)

# The contract's order, written by hand: a receiver, then its senders.
ORDERS = {
    "two layers of two heads": (
        ComputationalGraph(2, 2),
        """
        logits:  m1 a1.h1 a1.h0 m0 a0.h1 a0.h0 embed
        m1.in:   a1.h1 a1.h0 m0 a0.h1 a0.h0 embed
        a1.h0.v: m0 a0.h1 a0.h0 embed
        a1.h1.v: m0 a0.h1 a0.h0 embed
        a1.h0.k: m0 a0.h1 a0.h0 embed
        a1.h1.k: m0 a0.h1 a0.h0 embed
        a1.h0.q: m0 a0.h1 a0.h0 embed
        a1.h1.q: m0 a0.h1 a0.h0 embed
        m0.in:   a0.h1 a0.h0 embed
        a0.h0.v: embed
        a0.h1.v: embed
        a0.h0.k: embed
        a0.h1.k: embed
        a0.h0.q: embed
        a0.h1.q: embed
        """,
    ),
    "grouped-query": (
        ComputationalGraph(2, 4, n_kv_heads=2),
        """
        logits:   m1 a1.h3 a1.h2 a1.h1 a1.h0 m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        m1.in:    a1.h3 a1.h2 a1.h1 a1.h0 m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.kv0.v: m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.kv1.v: m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.kv0.k: m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.kv1.k: m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.h0.q:  m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.h1.q:  m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.h2.q:  m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        a1.h3.q:  m0 a0.h3 a0.h2 a0.h1 a0.h0 embed
        m0.in:    a0.h3 a0.h2 a0.h1 a0.h0 embed
        a0.kv0.v: embed
        a0.kv1.v: embed
        a0.kv0.k: embed
        a0.kv1.k: embed
        a0.h0.q:  embed
        a0.h1.q:  embed
        a0.h2.q:  embed
        a0.h3.q:  embed
        """,
    ),
    "parallel": (
        ComputationalGraph(2, 2, parallel=True),
        """
        logits:  m1 a1.h1 a1.h0 m0 a0.h1 a0.h0 embed
        m1.in:   m0 a0.h1 a0.h0 embed
        a1.h0.v: m0 a0.h1 a0.h0 embed
        a1.h1.v: m0 a0.h1 a0.h0 embed
        a1.h0.k: m0 a0.h1 a0.h0 embed
        a1.h1.k: m0 a0.h1 a0.h0 embed
        a1.h0.q: m0 a0.h1 a0.h0 embed
        a1.h1.q: m0 a0.h1 a0.h0 embed
        m0.in:   embed
        a0.h0.v: embed
        a0.h1.v: embed
        a0.h0.k: embed
        a0.h1.k: embed
        a0.h0.q: embed
        a0.h1.q: embed
        """,
    ),
    "attention only": (
        ComputationalGraph(2, 2, mlp=False),
        """
        logits:  a1.h1 a1.h0 a0.h1 a0.h0 embed
        a1.h0.v: a0.h1 a0.h0 embed
        a1.h1.v: a0.h1 a0.h0 embed
        a1.h0.k: a0.h1 a0.h0 embed
        a1.h1.k: a0.h1 a0.h0 embed
        a1.h0.q: a0.h1 a0.h0 embed
        a1.h1.q: a0.h1 a0.h0 embed
        a0.h0.v: embed
        a0.h1.v: embed
        a0.h0.k: embed
        a0.h1.k: embed
        a0.h0.q: embed
        a0.h1.q: embed
        """,
    ),
}


@pytest.mark.parametrize(("graph", "written"), ORDERS.values(), ids=ORDERS)
def test_the_order_is_the_written_one(graph, written):
    edges = []
    for line in written.strip().splitlines():
        receiver, senders = line.split(":")
        edges += [f"{sender}->{receiver.strip()}" for sender in senders.split()]
    assert [edge.name for edge in graph.edges] == edges
    assert [r.name for r in graph.receivers] == list(
        dict.fromkeys(name.split("->")[1] for name in edges)
    )
    assert len(graph) == len(edges)
    assert graph.hash == hashlib.sha256("\n".join(edges).encode()).hexdigest()


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (ComputationalGraph(12, 12), 32_491),
        (ComputationalGraph(12, 12, parallel=True), 32_347),
        (ComputationalGraph(2, 2), 46),
        (ComputationalGraph(30, 9, n_kv_heads=3), 70_651),
    ],
    ids=["gpt2", "parallel", "small", "smollm2"],
)
def test_models_have_the_known_number_of_edges(graph, count):
    assert len(graph) == len(graph.edges) == len(graph.edge_set) == count


def edges_by_running_the_model(graph: ComputationalGraph) -> set[str]:
    """Run the layers in order: whoever reads gets all that has been written by then."""
    stream, edges = ["embed"], set()

    def read(receiver: str) -> None:
        edges.update(f"{writer}->{receiver}" for writer in stream)

    group = "h" if graph.n_kv_heads == graph.n_heads else "kv"
    for layer in range(graph.n_layers):
        for head in range(graph.n_heads):
            read(f"a{layer}.h{head}.q")
        for index in range(graph.n_kv_heads):
            read(f"a{layer}.{group}{index}.k")
            read(f"a{layer}.{group}{index}.v")
        if graph.mlp and graph.parallel:
            read(f"m{layer}.in")
        stream += [f"a{layer}.h{head}" for head in range(graph.n_heads)]
        if graph.mlp and not graph.parallel:
            read(f"m{layer}.in")
        if graph.mlp:
            stream.append(f"m{layer}")
    read("logits")
    return edges


@law
@given(graphs())
def test_a_sender_feeds_exactly_what_is_read_after_it_has_written(graph):
    assert {edge.name for edge in graph.edges} == edges_by_running_the_model(graph)


@law
@given(graphs())
def test_a_nodes_outgoing_edges_are_all_decided_before_its_inputs(graph):
    last_use = {edge.sender.name: step for step, edge in enumerate(graph.edges)}
    first = {}
    for step, edge in enumerate(graph.edges):
        first.setdefault(edge.receiver.name, step)
    for receiver, step in first.items():
        assert all(last_use[node] < step for node in nodes_behind(graph, receiver))


@law
@given(graphs())
def test_nodes_and_their_inputs_name_each_other(graph):
    for receiver in graph.receivers:
        assert {n.name for n in graph.nodes_of(receiver)} == nodes_behind(graph, receiver.name)
    for sender in graph.senders:
        inputs = {r.name for r in graph.receivers_of(sender)}
        assert inputs == {
            r.name for r in graph.receivers if sender.name in nodes_behind(graph, r.name)
        }


@law
@given(graphs())
def test_a_receiver_is_fed_by_the_first_so_many_senders(graph):
    for receiver in graph.receivers:
        first = graph.senders[: graph.n_senders_of(receiver)]
        assert graph.senders_of(receiver) == first[::-1]
    assert [graph.sender_index[s] for s in graph.senders] == list(range(len(graph.senders)))


@law
@given(graphs())
def test_names_of_a_graph_parse_and_print_without_loss(graph):
    assert [parse_sender(s.name) for s in graph.senders] == list(graph.senders)
    assert [parse_receiver(r.name) for r in graph.receivers] == list(graph.receivers)
    assert [graph.edge(edge.name) for edge in graph.edges] == list(graph.edges)
    assert [str(edge) for edge in graph.edges] == [edge.name for edge in graph.edges]


@law
@given(graphs())
def test_a_shape_makes_the_same_graph_again(graph):
    again = ComputationalGraph(**graph.shape())
    assert again == graph
    assert again.edges == graph.edges


ALMOST_NAMES = st.text(alphabet="amhkvq.->0123456789embdlogitsn \n٣²", max_size=16)


@law
@given(st.text(max_size=16) | ALMOST_NAMES)
@example("a0.h0\n")
@example("logits\n")
@example("\na0.h0.q")
@example("a٣.h0")
@example("a1٣.h0")
@example("m1٣.in")
@example("a²")
@example("m½.in")
@example("a00.h0")
@example("m01.in")
@example("a-1.h0")
@example("a+1.h0.q")
@example("a1_0.h0")
@example("a" + "9" * 5000 + ".h0")
@example("m" + "9" * 5000 + ".in")
@example("a0.kv0.q")
@example("a0.kv0")
@example("a0.h0->")
@example("->logits")
@example("embed->logits->logits")
@example("embed->logits\n")
@example("\ud800")
def test_a_name_parses_to_what_prints_as_that_name_or_raises(name):
    for parse in (parse_sender, parse_receiver, parse_edge):
        try:
            parsed = parse(name)
        except GraphError as error:
            assert "\n" not in str(error)
        else:
            assert parsed.name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a0.h0\n",
        "a٣.h0",
        "a1.h1٣",
        "a00.h0",
        "a-1.h0",
        "a0.h0.q",
        "m0.in",
        "logits",
        "EMBED",
        "m",
        "a0",
    ],
)
def test_what_is_no_sender_is_refused(name):
    with pytest.raises(GraphError, match="is not a sender; senders are"):
        parse_sender(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "logits\n",
        "m٣.in",
        "m1٣.in",
        "m00.in",
        "a0.h0",
        "a0.kv0.q",
        "a0.h0.o",
        "m0",
        "embed",
        "a0.q",
    ],
)
def test_what_is_no_receiver_is_refused(name):
    with pytest.raises(GraphError, match="is not a receiver; receivers are"):
        parse_receiver(name)


@pytest.mark.parametrize(
    ("graph", "name", "reason"),
    [
        (ComputationalGraph(2, 2), "m1->a1.h0.q", "m1 is not computed before a1.h0.q"),
        (ComputationalGraph(2, 2), "m0->m0.in", "m0 is not computed before m0.in"),
        (ComputationalGraph(2, 2), "a0.h0->a0.h1.q", "a0.h0 is not computed before a0.h1.q"),
        (ComputationalGraph(2, 2, parallel=True), "a0.h0->m0.in", "is not computed before m0.in"),
        (ComputationalGraph(2, 2), "a2.h0->logits", "no sender a2.h0 .* 2 layers of 2 heads"),
        (ComputationalGraph(2, 2), "a0.h2->logits", "no sender a0.h2"),
        (ComputationalGraph(2, 2), "embed->m2.in", "no receiver m2.in"),
        (ComputationalGraph(2, 2, mlp=False), "m0->logits", "no sender m0 .* no MLPs"),
        (ComputationalGraph(2, 2, mlp=False), "embed->m0.in", "no receiver m0.in .* no MLPs"),
        (ComputationalGraph(1, 4, 2), "embed->a0.h0.k", r"no receiver .*a\{layer\}\.kv\{index\}"),
        (ComputationalGraph(1, 4, 2), "embed->a0.kv2.v", "2 key/value heads"),
        (ComputationalGraph(1, 4), "embed->a0.kv0.v", r"named a\{layer\}\.h\{index\}"),
        (ComputationalGraph(1, 1), "embed", "is not an edge"),
        (ComputationalGraph(1, 1), "embed-logits", "is not an edge"),
    ],
)
def test_an_edge_that_is_not_there_is_refused_with_the_reason(graph, name, reason):
    with pytest.raises(GraphError, match=reason):
        graph.edge(name)


def test_strangers_are_refused_wherever_a_node_is_asked_about():
    graph = ComputationalGraph(1, 1)
    for ask in (graph.senders_of, graph.n_senders_of, graph.nodes_of):
        with pytest.raises(GraphError, match="no receiver m1"):
            ask(Receiver("mlp", 1))
    with pytest.raises(GraphError, match="no sender m1"):
        graph.receivers_of(Sender("mlp", 1))
    with pytest.raises(GraphError, match="no sender m1"):
        graph.sender("m1")
    with pytest.raises(GraphError, match="no receiver m1"):
        graph.receiver("m1.in")


@pytest.mark.parametrize("shape", [(0, 1), (-1, 1), (1, 0), (1, -2), (1, 2, -1)])
def test_a_graph_has_at_least_one_layer_and_head(shape):
    with pytest.raises(GraphError, match="at least one layer and one head"):
        ComputationalGraph(*shape)


@pytest.mark.parametrize(("heads", "groups"), [(9, 2), (2, 4), (4, 3)])
def test_heads_share_key_value_heads_evenly(heads, groups):
    with pytest.raises(GraphError, match=f"{heads} heads cannot share {groups}"):
        ComputationalGraph(1, heads, groups)


def test_as_many_key_value_heads_as_heads_is_no_grouping():
    assert ComputationalGraph(2, 3, 3) == ComputationalGraph(2, 3)
    assert not ComputationalGraph(2, 3, 3).grouped


def test_equal_shapes_are_one_graph():
    shape = ComputationalGraph(3, 4, 2, parallel=True, mlp=False).shape()
    found = graph_of_shape(shape)
    assert found.shape() == shape and found == ComputationalGraph(**shape)
    assert graph_of_shape(dict(shape)) is found
    assert graph_of_shape(shape | {"n_layers": 2}).n_layers == 2
    with pytest.raises(GraphError):
        graph_of_shape(shape | {"n_heads": 3})
    with pytest.raises(TypeError):
        graph_of_shape(shape | {"n_layers": [2]})
    with pytest.raises(TypeError):
        graph_of_shape(shape | {"more": 2})


@given(graphs())
def test_an_edge_is_known_and_placed_without_listing_all(graph):
    asked = ComputationalGraph(**graph.shape())
    ends = [(s, r) for s in graph.senders for r in graph.receivers]
    ends += [(Sender("head", 99, 0), Receiver("logits")), (Sender("embed"), Receiver("mlp", 99))]
    for sender, receiver in ends:
        edge = Edge(sender, receiver)
        assert (edge in asked) == (edge in graph.edge_set)
        if edge not in asked:
            with pytest.raises(GraphError, match="there is no edge"):
                asked.index(edge)
    assert "edges" not in vars(asked)
    assert [asked.index(edge) for edge in graph.edges] == list(range(len(graph)))

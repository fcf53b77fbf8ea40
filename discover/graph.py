"""The computational graph: every sender, receiver and edge, in one canonical order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Literal

from discover.errors import GraphError

SenderKind = Literal["embed", "head", "mlp"]
ReceiverKind = Literal["q", "k", "v", "mlp", "logits"]

_SENDER = re.compile(r"(?:embed|a(0|[1-9]\d{0,5})\.h(0|[1-9]\d{0,5})|m(0|[1-9]\d{0,5}))", re.ASCII)
_RECEIVER = re.compile(
    r"(?:logits|m(0|[1-9]\d{0,5})\.in|a(0|[1-9]\d{0,5})\.(h|kv)(0|[1-9]\d{0,5})\.([qkv]))", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Sender:
    """What writes to the residual stream: `embed`, a head `a{layer}.h{head}`, an MLP `m{layer}`."""

    kind: SenderKind
    layer: int = -1
    head: int = -1

    @property
    def name(self) -> str:
        """The sender's name, e.g. `a5.h1`."""
        if self.kind == "embed":
            return "embed"
        return f"m{self.layer}" if self.kind == "mlp" else f"a{self.layer}.h{self.head}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Receiver:
    """What reads from the residual stream.

    `logits`, an MLP's input `m{layer}.in`, or one input of a head: `a{layer}.h{head}.q|k|v`. On
    grouped-query models k and v belong to a key/value head: `a{layer}.kv{index}.k|v`, and
    `grouped` is True.
    """

    kind: ReceiverKind
    layer: int = -1
    index: int = -1
    grouped: bool = False

    @property
    def name(self) -> str:
        """The receiver's name, e.g. `a9.h9.q`."""
        if self.kind == "logits":
            return "logits"
        if self.kind == "mlp":
            return f"m{self.layer}.in"
        return f"a{self.layer}.{'kv' if self.grouped else 'h'}{self.index}.{self.kind}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Edge:
    """One sender feeding one receiver, e.g. `a5.h1->a9.h9.q`."""

    sender: Sender
    receiver: Receiver

    @property
    def name(self) -> str:
        """`sender->receiver`."""
        return f"{self.sender.name}->{self.receiver.name}"

    def __str__(self) -> str:
        return self.name


def parse_sender(name: str) -> Sender:
    """Read a sender's name.

    Raises:
        GraphError: the name is not a sender's.
    """
    match = _SENDER.fullmatch(name)
    if match is None:
        raise GraphError(f"{name!r} is not a sender; senders are embed, a2.h5 or m3")
    layer, head, mlp = match.groups()
    if layer is not None:
        return Sender("head", int(layer), int(head))
    return Sender("mlp", int(mlp)) if mlp is not None else Sender("embed")


def parse_receiver(name: str) -> Receiver:
    """Read a receiver's name.

    Raises:
        GraphError: the name is not a receiver's.
    """
    match = _RECEIVER.fullmatch(name)
    if match is None or (match[3] == "kv" and match[5] == "q"):
        raise GraphError(
            f"{name!r} is not a receiver; receivers are a2.h5.q, a2.h5.k, a2.h5.v "
            "(a2.kv1.k and a2.kv1.v on grouped-query models), m3.in or logits"
        )
    mlp, layer, group, index, kind = match.groups()
    if mlp is not None:
        return Receiver("mlp", int(mlp))
    if layer is None:
        return Receiver("logits")
    kinds: dict[str, ReceiverKind] = {"q": "q", "k": "k", "v": "v"}
    return Receiver(kinds[kind], int(layer), int(index), group == "kv")


def parse_edge(name: str) -> Edge:
    """Read an edge's name, `sender->receiver`.

    Raises:
        GraphError: the name is not an edge's.
    """
    sender, arrow, receiver = name.partition("->")
    if not arrow:
        raise GraphError(f"{name!r} is not an edge; edges look like a5.h1->a9.h9.q")
    return Edge(parse_sender(sender), parse_receiver(receiver))


@dataclass(frozen=True)
class ComputationalGraph:
    """All edges of a pre-norm decoder whose residual stream is a plain sum.

    `n_kv_heads` below `n_heads` gives k and v inputs per key/value head. With `parallel`
    (GPT-NeoX, GPT-J) attention and MLP of a layer read the same stream, so a layer's heads do not
    feed its MLP. `mlp` is False for attention-only models.

    Order (the contract): receivers `logits`, then layers downwards; within a layer the MLP's
    input, then every v, every k, every q by ascending index. Senders of a receiver: latest layer
    first; within a layer the MLP before the heads, heads by descending index; `embed` last.

    Raises:
        GraphError: a size is not positive, or `n_heads` is no multiple of `n_kv_heads`.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int = 0
    parallel: bool = False
    mlp: bool = True

    def __post_init__(self) -> None:
        if not self.n_kv_heads:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.n_layers < 1 or self.n_heads < 1 or self.n_kv_heads < 1:
            raise GraphError(
                f"a graph needs at least one layer and one head, got {self.n_layers} layers, "
                f"{self.n_heads} heads, {self.n_kv_heads} key/value heads"
            )
        if self.n_heads % self.n_kv_heads:
            raise GraphError(
                f"{self.n_heads} heads cannot share {self.n_kv_heads} key/value heads evenly"
            )

    @property
    def grouped(self) -> bool:
        """Whether several query heads share a key/value head."""
        return self.n_kv_heads != self.n_heads

    @property
    def group_size(self) -> int:
        """How many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads

    @cached_property
    def senders(self) -> tuple[Sender, ...]:
        """Every sender in the order of computation: embed, then per layer heads, then the MLP."""
        out = [Sender("embed")]
        for layer in range(self.n_layers):
            out += [Sender("head", layer, head) for head in range(self.n_heads)]
            if self.mlp:
                out.append(Sender("mlp", layer))
        return tuple(out)

    @cached_property
    def receivers(self) -> tuple[Receiver, ...]:
        """Every receiver in canonical order, from the logits down."""
        out = [Receiver("logits")]
        for layer in reversed(range(self.n_layers)):
            if self.mlp:
                out.append(Receiver("mlp", layer))
            for kind in ("v", "k"):
                out += [Receiver(kind, layer, i, self.grouped) for i in range(self.n_kv_heads)]
            out += [Receiver("q", layer, head) for head in range(self.n_heads)]
        return tuple(out)

    @cached_property
    def sender_index(self) -> dict[Sender, int]:
        """Each sender's place in `senders`."""
        return {sender: i for i, sender in enumerate(self.senders)}

    @cached_property
    def _receiver_set(self) -> frozenset[Receiver]:
        return frozenset(self.receivers)

    def n_senders_of(self, receiver: Receiver) -> int:
        """How many senders feed a receiver: always the first so many of `senders`.

        Raises:
            GraphError: the receiver is not in this graph.
        """
        self.check_receiver(receiver)
        per_layer = self.n_heads + int(self.mlp)
        if receiver.kind == "logits":
            return len(self.senders)
        before = 1 + receiver.layer * per_layer
        if receiver.kind == "mlp" and not self.parallel:
            return before + self.n_heads
        return before

    @cached_property
    def _senders_of(self) -> dict[Receiver, tuple[Sender, ...]]:
        return {r: self._ordered_senders(r) for r in self.receivers}

    def _ordered_senders(self, receiver: Receiver) -> tuple[Sender, ...]:
        senders = self.senders[: self.n_senders_of(receiver)]
        # Within a layer `senders` runs heads ascending then the MLP: reversed is the contract.
        return tuple(reversed(senders))

    def senders_of(self, receiver: Receiver) -> tuple[Sender, ...]:
        """The senders that feed a receiver, in canonical order (latest first, `embed` last).

        Raises:
            GraphError: the receiver is not in this graph.
        """
        self.check_receiver(receiver)
        return self._senders_of[receiver]

    def receivers_of(self, sender: Sender) -> tuple[Receiver, ...]:
        """The node's own inputs, which its output is computed from (none for `embed`).

        Raises:
            GraphError: the sender is not in this graph.
        """
        self.check_sender(sender)
        if sender.kind == "embed":
            return ()
        if sender.kind == "mlp":
            return (Receiver("mlp", sender.layer),)
        index = sender.head // self.group_size
        return (
            Receiver("q", sender.layer, sender.head),
            Receiver("k", sender.layer, index, self.grouped),
            Receiver("v", sender.layer, index, self.grouped),
        )

    def nodes_of(self, receiver: Receiver) -> tuple[Sender, ...]:
        """The senders whose output this input feeds (none for `logits`).

        Raises:
            GraphError: the receiver is not in this graph.
        """
        self.check_receiver(receiver)
        return self._nodes_of[receiver]

    @cached_property
    def _nodes_of(self) -> dict[Receiver, tuple[Sender, ...]]:
        nodes: dict[Receiver, tuple[Sender, ...]] = dict.fromkeys(self.receivers, ())
        for sender in self.senders:
            for receiver in self.receivers_of(sender):
                nodes[receiver] += (sender,)
        return nodes

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """Every edge in canonical order."""
        return tuple(Edge(s, r) for r in self.receivers for s in self.senders_of(r))

    @cached_property
    def edge_set(self) -> frozenset[Edge]:
        """Every edge, for membership."""
        return frozenset(self.edges)

    # A large model has millions of edges: what asks of a few must not list them all.
    @cached_property
    def _first(self) -> dict[Receiver, tuple[int, int]]:
        """Where in `edges` each receiver's begin, and how many they are."""
        counts = [self.n_senders_of(receiver) for receiver in self.receivers]
        begins = accumulate(counts, initial=0)
        return dict(zip(self.receivers, zip(begins, counts, strict=False), strict=True))

    def __contains__(self, edge: Edge) -> bool:
        sender = self.sender_index.get(edge.sender)
        return sender is not None and sender < self._first.get(edge.receiver, (0, 0))[1]

    def index(self, edge: Edge) -> int:
        """The edge's place in `edges`.

        Raises:
            GraphError: the edge is not in this graph.
        """
        if edge not in self:
            raise GraphError(f"there is no edge {edge} in a model with {self._inventory()}")
        begin, count = self._first[edge.receiver]
        return begin + count - 1 - self.sender_index[edge.sender]

    def __len__(self) -> int:
        return sum(count for _, count in self._first.values())

    @property
    def hash(self) -> str:
        """SHA-256 of all edge names in canonical order, joined by newlines."""
        return hashlib.sha256("\n".join(e.name for e in self.edges).encode()).hexdigest()

    def shape(self) -> dict[str, int | bool]:
        """The five facts that determine the graph, for storage."""
        return {
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "n_kv_heads": self.n_kv_heads,
            "parallel": self.parallel,
            "mlp": self.mlp,
        }

    def sender(self, name: str) -> Sender:
        """The sender of that name in this graph.

        Raises:
            GraphError: there is none.
        """
        sender = parse_sender(name)
        self.check_sender(sender)
        return sender

    def receiver(self, name: str) -> Receiver:
        """The receiver of that name in this graph.

        Raises:
            GraphError: there is none.
        """
        receiver = parse_receiver(name)
        self.check_receiver(receiver)
        return receiver

    def edge(self, name: str) -> Edge:
        """The edge of that name in this graph.

        Raises:
            GraphError: there is none.
        """
        edge = parse_edge(name)
        self.check_sender(edge.sender)
        self.check_receiver(edge.receiver)
        if edge not in self:
            raise GraphError(
                f"there is no edge {name}: {edge.sender} is not computed before {edge.receiver}"
            )
        return edge

    def check_sender(self, sender: Sender) -> None:
        """Raise GraphError unless the sender is in this graph."""
        if sender not in self.sender_index:
            raise GraphError(f"there is no sender {sender} in a model with {self._inventory()}")

    def check_receiver(self, receiver: Receiver) -> None:
        """Raise GraphError unless the receiver is in this graph."""
        if receiver not in self._receiver_set:
            hint = ""
            if receiver.kind in ("k", "v") and receiver.grouped != self.grouped:
                hint = (
                    f"; k and v inputs are named a{{layer}}.{'kv' if self.grouped else 'h'}"
                    "{index}.k|v here"
                )
            raise GraphError(
                f"there is no receiver {receiver} in a model with {self._inventory()}{hint}"
            )

    def _inventory(self) -> str:
        groups = f", {self.n_kv_heads} key/value heads" if self.grouped else ""
        return (
            f"{self.n_layers} layers of {self.n_heads} heads{groups}"
            f"{'' if self.mlp else ' and no MLPs'}"
        )


def graph_of_shape(shape: Mapping[str, Any]) -> ComputationalGraph:
    """The graph that `ComputationalGraph.shape` told of; equal shapes give the very same object.

    Raises:
        GraphError: there is no such graph.
        TypeError: the shape's keys are others.
    """
    return _shared(**shape)


# Runs of one database are mostly of a few graphs, and each lists tens of thousands of edges.
@lru_cache(maxsize=4)
def _shared(**shape: Any) -> ComputationalGraph:
    return ComputationalGraph(**shape)

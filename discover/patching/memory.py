"""How much memory a search takes, and how to cut it so that it fits."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from discover.anatomy import MLP_ROWS
from discover.errors import SpecError
from discover.model import PROBE, Model
from discover.patching.damage import LOGIT, KLDamage
from discover.prompts import PromptPairs
from discover.sizes import show_size

SHARE = 0.5
"""The part of the free memory that a search takes unless told otherwise, if it can do with it."""

ROWS = {"cpu": 4096, "cuda": 65536}
"""About how many rows of activations fill a machine; larger blocks would only waste more."""


def free_memory(device: str) -> int:
    """Bytes that a device has free now."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


COPIES = 8
"""How many copies of an activation are alive at once on its way through a node, at most."""


@dataclass(frozen=True)
class Load:
    """What variants of one receiver take while they are evaluated, logits apart.

    `rows`: those of one variant, over all prompts computed at a time; `positions`: where its keys
    and values are kept; `width`: how many positions one may attend to; `heads`, `mlps`: how many
    nodes may change.
    """

    rows: int
    positions: int
    width: int
    heads: int
    mlps: int

    def values(self, model: Model, variants: int) -> int:
        """How many values so many variants make at once."""
        # Each node's change, an MLP's input too, a head's q, one head's attention scores, and
        # copies on the way.
        row = (
            model.d_model * (self.heads + 2 * self.mlps + COPIES)
            + model.d_head * self.heads
            + COPIES * self.width
        )
        graph = model.graph
        kv_heads = min(self.heads, graph.n_layers * graph.n_kv_heads)
        kept = 2 * model.d_head * kv_heads * self.positions
        hidden = variants * self.rows
        # On a CPU the MLP takes its rows in slices.
        if torch.device(model.device).type == "cpu":
            hidden = min(hidden, MLP_ROWS)
        return variants * (self.rows * row + kept) + hidden * COPIES * model.mlp_width


@dataclass(frozen=True)
class Plan:
    """How a search is cut to its memory.

    `chunk`: prompts computed at a time; `held`: bytes that stay throughout; `rows`: how many rows
    of activations a block may have in all, whatever the memory; `free`: bytes left for them.
    """

    chunk: int
    held: int
    rows: int
    free: int

    @property
    def memory(self) -> int:
        """All bytes that the search may take."""
        return self.held + self.free


def make_plan(
    model: Model, prompts: PromptPairs, memory: int | None, *, gradients: bool = False
) -> Plan:
    """Cut a search to so many bytes beside the model's weights.

    None: half of what is free; if that will not do, the least that a search is sure to fit in.
    `gradients`: attribution scores are made before the search, in float64 at the most.

    Raises:
        SpecError: not even one prompt and one variant at a time would fit.
    """
    need = _Need(model, prompts)
    held, passing = need.held(model.torch_dtype.itemsize), need.passing(model.torch_dtype.itemsize)
    held += need.oracle()
    if model.dtype != "float64":
        # Scores near tau are decided in a copy of it all in float64.
        held += need.held(8) + 8 * model.n_parameters
        passing = max(passing, need.passing(8))
    if gradients:
        passing = max(passing, need.traced())
    budget = _usual(model.device, held + passing) if memory is None else memory
    if held + passing > budget:
        raise SpecError(
            f"a search on these {len(prompts)} prompts of up to {need.width} tokens takes at least "
            f"{show_size(held + passing)} beside the weights, and {show_size(budget)} may be used; "
            "allow more (--memory), or use fewer or shorter prompts"
        )
    chunk = max(1, min(len(prompts), (budget - held) // passing))
    rows = ROWS.get(torch.device(model.device).type, ROWS["cpu"])
    return Plan(chunk, held, rows, budget - held)


def _usual(device: str, least: int) -> int:
    # Nobody set a limit, and the least is a bound that few searches come near: none is refused.
    return max(int(SHARE * free_memory(device)), least)


class _Need:
    """What a search holds on all prompts, and what passes for each that is computed at a time."""

    def __init__(self, model: Model, prompts: PromptPairs) -> None:
        self.model, self.graph, self.n = model, model.graph, len(prompts)
        self.width = max(len(pair.clean) for pair in prompts)
        self.answers = max(len(pair.answer_positions) for pair in prompts)
        self.columns = max(len(pair.correct) + len(pair.incorrect) for pair in prompts)
        self.heads = self.graph.n_layers * self.graph.n_heads
        self.kv_heads = self.graph.n_layers * self.graph.n_kv_heads

    def held(self, itemsize: int) -> int:
        """Bytes that an engine keeps throughout, in a dtype of that size."""
        model, layers = self.model, self.graph.n_layers
        senders = len(self.graph.senders)
        # Every sender's ablated value, its change and its committed value, the first two at the
        # answers once more; every receiver's input, and all ablated ones of each place.
        wide = model.d_model * (3 * senders + len(self.graph.receivers) + 2 * layers + 4)
        # q, k and v, clean keys and values, rotations, attention weights.
        heads = model.d_head * (self.heads + 4 * self.kv_heads + 4 * layers)
        values = self.width * (wide + heads + self.heads * self.width)
        values += 2 * senders * self.answers * model.d_model
        masks = 3 * layers * self.width**2
        damage = 8 * self.answers * (model.d_vocab + 2 * self.columns * model.d_model)
        return self.n * (itemsize * values + masks + damage) + itemsize * self._once()

    def _once(self) -> int:
        """How many values an engine has or makes once, whatever the number of prompts."""
        model = self.model
        # Attention weights by head; the unembedding scaled, and a slice of it in float64.
        heads = 2 * model.d_model * model.d_head * (self.heads + self.kv_heads)
        scaled = model.d_vocab if model.logit_scale != 1 else 0
        sliced = 2 * min(model.d_vocab, KLDamage.SLICE)
        # Logits of one prompt, or of the tokens that a model is tried on, against the model's own.
        compared = 4 * max(self.width, PROBE) * model.d_vocab
        return heads + model.d_model * (scaled + sliced) + compared

    def oracle(self) -> int:
        """Bytes that the reference keeps: ablated senders, and logits of both runs."""
        senders = len(self.graph.senders) * self.width * self.model.d_model
        logits = 2 * self.answers * self.model.d_vocab
        return self.n * (senders + logits) * self.model.torch_dtype.itemsize

    def passing(self, itemsize: int) -> int:
        """Bytes for each prompt computed at a time: one variant of all, or one plain forward."""
        model, width = self.model, self.width
        load = Load(width, width, width, self.heads, self.graph.n_layers)
        variant = itemsize * load.values(model, 1) + LOGIT * self.answers * model.d_vocab
        # Senders live and carried, the stream at every layer, split q, k and v inputs.
        wide = 2 * len(self.graph.senders) + self.graph.n_layers + 12 * self.graph.n_heads + COPIES
        values = model.d_model * wide + COPIES * model.mlp_width + 2 * model.d_vocab
        values += 4 * self.graph.n_heads * width
        return max(variant, width * values * itemsize)

    def traced(self) -> int:
        """Bytes for each prompt that attribution takes gradients of, in float64."""
        model, width, layers = self.model, self.width, self.graph.n_layers
        # For the backward pass every layer keeps its MLP's hidden values, attention weights, and
        # what goes into and comes out of its parts; then one place's gradients, head by head.
        layer = COPIES * (model.mlp_width + 2 * model.d_model + self.graph.n_heads * width)
        wide = model.d_model * (2 * len(self.graph.senders) + 12 * self.graph.n_heads + COPIES)
        logits = LOGIT * self.answers * model.d_vocab
        return 8 * width * (layers * layer + wide) + logits

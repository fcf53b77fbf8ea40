"""How much memory a search takes, and how to cut it so that it fits."""

from __future__ import annotations

import re
from dataclasses import dataclass

import psutil
import torch

from discover.errors import SpecError
from discover.graph import ComputationalGraph
from discover.model import Model
from discover.prompts import PromptPairs

SHARE = 0.5
"""The part of the free memory that a search takes unless told otherwise."""

ROWS = {"cpu": 4096, "cuda": 65536}
"""About how many rows of activations fill a machine; larger blocks would only waste more."""

_UNITS = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(iB|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as `4GiB`, `500MB` or `4000000000`.

    Raises:
        SpecError: it is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise SpecError(f"{text!r} is not a size of memory; write for example 4GiB or 500MiB")
    number, unit, suffix = float(found[1]), found[2].upper(), found[3] or ""
    base = 1000 if suffix.upper() == "B" and unit else 1024
    size = int(number * base ** _UNITS[unit]) if unit else int(number)
    if size < 1:
        raise SpecError(f"the memory must be at least 1 byte, got {text!r}")
    return size


def show_size(size: float) -> str:
    """A size for people, e.g. `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def free_memory(device: str) -> int:
    """Bytes that a device has free now."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


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

    def block(self, row_count: int, row_bytes: int) -> int:
        """How many variants to evaluate at once, each of so many rows."""
        fitting = self.free // (row_count * row_bytes)
        return max(1, min(max(8, self.rows // row_count), fitting))


def row_bytes(model: Model, live: int) -> int:
    """Bytes that one row of one variant takes while `live` nodes may change with it."""
    width = model.torch_dtype.itemsize
    # Its inputs and changes at each node, a few copies on the way, and a slice of logits.
    return width * (model.d_model * (live + 12) + 2 * 4096)


def make_plan(model: Model, prompts: PromptPairs, memory: int | None) -> Plan:
    """Cut a search to so many bytes (None: half of what is free), weights apart.

    Raises:
        SpecError: not even one prompt and one variant at a time would fit.
    """
    budget = int(SHARE * free_memory(model.device)) if memory is None else memory
    graph, n = model.graph, len(prompts)
    width = max(len(pair.clean) for pair in prompts)
    answers = max(len(pair.answer_positions) for pair in prompts)
    held = n * _held_per_prompt(model, graph, width, answers)
    per_prompt = _passing_per_prompt(model, graph, width)
    smallest = held + per_prompt
    if smallest > budget:
        raise SpecError(
            f"a search on these {n} prompts of up to {width} tokens takes at least "
            f"{show_size(smallest)} beside the weights, and {show_size(budget)} may be used; "
            "allow more (--memory), or use fewer or shorter prompts"
        )
    chunk = max(1, min(n, (budget - held) // per_prompt))
    rows = ROWS.get(torch.device(model.device).type, ROWS["cpu"])
    return Plan(chunk, held, rows, budget - held)


def _held_per_prompt(model: Model, graph: ComputationalGraph, width: int, answers: int) -> int:
    """What engine and oracle keep throughout a search."""
    # Every sender's ablated value (twice), its change and its committed value; every receiver's
    # input; and the full model's distribution at the answers.
    nodes = 4 * len(graph.senders) + len(graph.receivers)
    values = nodes * width * model.d_model + 2 * answers * model.d_vocab
    return values * model.torch_dtype.itemsize


def _passing_per_prompt(model: Model, graph: ComputationalGraph, width: int) -> int:
    """What passes: one variant of everything, or one plain forward with split q, k and v inputs."""
    variant = width * row_bytes(model, len(graph.senders))
    split = 4 * 3 * graph.n_heads * width * model.d_model + 2 * width * model.d_vocab
    forward = (2 * len(graph.senders) * width * model.d_model + split) * model.torch_dtype.itemsize
    return max(variant, forward)

"""Prompts and models that several test modules share."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
from families import NATIVE, VOCAB, build_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from discover.model import Model, native_model, wrap_module
from discover.prompts import PromptPair, PromptPairs


def family_model(family: str, dtype: str = "float64") -> Model:
    module = build_module(family)
    if family in NATIVE:
        return native_model(family, NATIVE[family], module.state_dict(), dtype=dtype)
    return wrap_module(module, name=family, dtype=dtype)


def random_prompts(
    lengths: Sequence[int] = (6, 6, 6),
    seed: int = 0,
    side: str = "right",
    answers: Callable[[int], tuple[int, ...]] = lambda length: (length - 1,),
    vocab: int = VOCAB,
) -> PromptPairs:
    draw = np.random.default_rng(seed)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(int(i) for i in draw.integers(0, vocab, length))

    pairs = [
        PromptPair(tokens(n), tokens(n), (1,), (2, 3), answer_positions=answers(n)) for n in lengths
    ]
    return PromptPairs(pairs, side)


RAGGED = {
    "equal": {},
    "right": {"lengths": (6, 4, 5)},
    "left, two answers": {
        "lengths": (6, 4, 5),
        "side": "left",
        "answers": lambda length: (1, length - 1),
    },
}
"""Shapes of prompts: equal lengths; padded right; padded left with two answer positions each."""


class LiveTensors(TorchDispatchMode):
    """Bytes of all tensors made while it is on and still there: now, and at the most (`peak`).

    What a tensor operation needs inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {self._storage(value)._cdata for value in self._tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for value in self._tensors(out):
            storage = self._storage(value)
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self._known:
                self._known.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    @staticmethod
    def _tensors(tree):
        return (value for value in tree_iter(tree) if isinstance(value, torch.Tensor))

    @staticmethod
    def _storage(value):
        return value.untyped_storage()

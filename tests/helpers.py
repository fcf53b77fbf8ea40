"""Prompts and models that several test modules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from families import NATIVE, VOCAB, build_module

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

"""Tokenizers for the tests of the IOI task, and the grammar that `tiny-ioi` was trained on."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
ASSET = ROOT / "discover" / "assets" / "tiny-ioi"


class WordTokenizer:
    """The tokenizer of `tiny-ioi`: word-level, with an id for unknown words."""

    name = "tiny-ioi"
    bos_id: int | None = 0
    unknown_id: int | None = 1

    def __init__(self) -> None:
        self._core = Tokenizer.from_file(str(ASSET / "tokenizer.json"))

    def encode(self, text: str) -> list[int]:
        return self._core.encode(text).ids

    def encode_answer(self, text: str) -> list[int]:
        return self._core.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._core.decode(list(ids), skip_special_tokens=False)


class PieceTokenizer:
    """Like a BPE: given words are one token with their leading space, all others are letters."""

    name = "pieces"
    bos_id: int | None = None
    unknown_id: int | None = None

    def __init__(self, whole: Iterable[str]) -> None:
        self._whole = {f" {word}" for word in whole}
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        pieces: list[str] = []
        for word in re.findall(r" ?\w+| ?[^\w\s]+", text):
            pieces += [word] if word in self._whole else list(word)
        return [self._ids.setdefault(piece, len(self._ids)) for piece in pieces]

    encode_answer = encode

    def decode(self, ids: Sequence[int]) -> str:
        pieces = {at: piece for piece, at in self._ids.items()}
        return "".join(pieces[at] for at in ids)


def load_grammar() -> ModuleType:
    """`experiments/tiny_ioi_grammar.py`, which is no part of the package."""
    name = "tiny_ioi_grammar"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up while it loads
        spec.loader.exec_module(module)
    return sys.modules[name]

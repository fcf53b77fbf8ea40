"""What a model is run on: tokens, with the padding that ragged prompts need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from discover.errors import PatchError, PromptError
from discover.model import Model
from discover.prompts import PaddedPrompts, PromptPairs, encode_prompt

SeqPos = int | Sequence[int] | Sequence[Sequence[int]] | Tensor | np.ndarray
"""Positions: one for all prompts, one a prompt `(batch,)`, or several a prompt `(batch, pos)`."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Rectangular tokens Int[batch, pos] and which of them are real, Bool[batch, pos].

    `roles` names positions that mean the same in all prompts, by their number.
    """

    tokens: Int[np.ndarray, "batch pos"]
    attention: Bool[np.ndarray, "batch pos"]
    roles: Mapping[int, str] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """How many prompts there are."""
        return int(self.tokens.shape[0])

    @property
    def width(self) -> int:
        """How many positions the longest prompt has."""
        return int(self.tokens.shape[1])

    def padded(self, times: int = 1) -> PaddedPrompts:
        """The form that a forward takes, repeated so many times along the batch."""
        tokens, attention = (np.tile(part, (times, 1)) for part in (self.tokens, self.attention))
        position_ids = np.maximum(attention.cumsum(-1) - 1, 0) * attention
        return PaddedPrompts(tokens, tokens, attention, attention, position_ids)

    def mask(self, seq_pos: SeqPos | None) -> Bool[np.ndarray, "batch pos"]:
        """The real positions that `seq_pos` names; None names all.

        Positions count from each prompt's own first token, negative ones from its end.

        Raises:
            PatchError: a position is outside its prompt, or the shape does not fit the batch.
        """
        if seq_pos is None:
            return self.attention
        wanted = np.asarray(seq_pos)
        if wanted.dtype.kind not in "iu" or wanted.ndim > 2 or wanted.dtype == bool:
            raise PatchError(
                "seq_pos must be None, an integer, or integers shaped (batch,) or (batch, pos); "
                f"got {seq_pos!r}"
            )
        if wanted.ndim and len(wanted) != self.batch:
            raise PatchError(
                f"seq_pos has {len(wanted)} row(s), but there are {self.batch} prompt(s)"
            )
        rows = np.broadcast_to(
            wanted.reshape(len(wanted) if wanted.ndim else 1, -1),
            (
                self.batch,
                wanted.shape[1] if wanted.ndim == 2 else 1,
            ),
        )
        mask = np.zeros_like(self.attention)
        for number, (row, real) in enumerate(zip(rows, self.attention, strict=True)):
            columns = np.flatnonzero(real)
            if outside := [int(at) for at in row if not -len(columns) <= at < len(columns)]:
                raise PatchError(
                    f"position {outside[0]} is outside prompt {number + 1}, which has "
                    f"{len(columns)} tokens"
                )
            mask[number, columns[row]] = True
        return mask

    def nth(self, position: int) -> Bool[np.ndarray, "batch pos"]:
        """The position counted from each prompt's first token, where the prompt has it."""
        counted = self.attention.cumsum(-1) - 1
        mask: np.ndarray = self.attention & (counted == position)
        return mask

    def labels(self, model: Model) -> list[str] | list[int]:
        """A label for each position: its number, and the token or else the role that all share."""
        if model.tokenizer is None:
            return list(range(self.width))
        labels = []
        for at in range(self.width):
            found = {int(token) for token in self.tokens[self.nth(at)]}
            one = model.tokenizer.decode([min(found)]).strip() if len(found) == 1 else ""
            text = one or self.roles.get(at, "…")
            labels.append(f"{at}: {text}")
        return labels


def make_inputs(model: Model, given: Any, *, bos: bool = False) -> Inputs:
    """Inputs from a text, several texts (padded on the right), or tokens Int[batch, pos].

    Raises:
        PromptError: nothing to run, a text that the tokenizer does not know, a token that the model
            does not have, too many tokens, or no tokenizer for a text.
    """
    if isinstance(given, Inputs):
        inputs = given
    elif isinstance(given, str):
        inputs = _from_rows([_encode(model, given, bos)])
    elif isinstance(given, Sequence) and given and all(isinstance(g, str) for g in given):
        inputs = _from_rows([_encode(model, text, bos) for text in given])
    elif isinstance(given, (Tensor, np.ndarray, Sequence)) and not isinstance(given, PromptPairs):
        inputs = _from_tokens(given)
    else:
        raise PromptError(
            f"cannot run a model on {type(given).__name__}; give a text, a list of texts, tokens "
            "shaped (batch, pos), or what `clean_inputs` and `corrupted_inputs` make of prompts"
        )
    _check(model, inputs)
    return inputs


def clean_inputs(prompts: PromptPairs) -> Inputs:
    """The clean side of prompt pairs."""
    padded = prompts.padded()
    return Inputs(padded.clean, padded.attention, shared_roles(prompts))


def corrupted_inputs(prompts: PromptPairs) -> Inputs:
    """The corrupted side of prompt pairs."""
    padded = prompts.padded()
    return Inputs(padded.corrupted, padded.attention, shared_roles(prompts))


def check_twins(orig: Inputs, new: Inputs) -> None:
    """Raise PromptError unless both have the same shape, real tokens at the same places."""
    if orig.tokens.shape != new.tokens.shape or not np.array_equal(orig.attention, new.attention):
        raise PromptError(
            f"orig_input has shape {orig.tokens.shape} and new_input {new.tokens.shape}, or they "
            "are padded differently; patching goes position by position, so make them equally long"
        )


def _encode(model: Model, text: str, bos: bool) -> list[int]:
    if model.tokenizer is None:
        raise PromptError(f"{model.name} has no tokenizer; give tokens shaped (batch, pos)")
    return encode_prompt(model.tokenizer, text, bos)


def _from_rows(rows: list[list[int]]) -> Inputs:
    tokens = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    attention = np.zeros(tokens.shape, dtype=bool)
    for at, row in enumerate(rows):
        tokens[at, : len(row)] = row
        attention[at, : len(row)] = True
    return Inputs(tokens, attention)


def _from_tokens(given: Any) -> Inputs:
    try:
        tokens = np.asarray(given.cpu() if isinstance(given, Tensor) else given)
    except ValueError as error:
        raise PromptError("rows of tokens differ in length; give texts, or pad them") from error
    if tokens.ndim == 1:
        tokens = tokens[None]
    if tokens.ndim != 2 or tokens.size == 0 or tokens.dtype.kind not in "iu":
        raise PromptError(
            f"tokens must be integers shaped (batch, pos); got {tokens.dtype} {tokens.shape}"
        )
    return Inputs(tokens.astype(np.int64), np.ones(tokens.shape, dtype=bool))


def _check(model: Model, inputs: Inputs) -> None:
    if inputs.width > model.max_positions:
        raise PromptError(
            f"the input has {inputs.width} tokens, {model.name} takes at most {model.max_positions}"
        )
    used = inputs.tokens[inputs.attention]
    if used.size and not (used.min() >= 0 and used.max() < model.d_vocab_in):
        strange = next(int(t) for t in used if not 0 <= t < model.d_vocab_in)
        raise PromptError(
            f"the input has token {strange}, but {model.name} has {model.d_vocab_in} tokens"
        )


def shared_roles(prompts: PromptPairs) -> dict[int, str]:
    """Roles that stand at one position in all prompts, by that position."""
    first = prompts[0].roles.items()
    return {at: role for role, at in first if all(p.roles.get(role) == at for p in prompts)}


def roles_of(prompts: PromptPairs) -> dict[str, list[int]]:
    """Every role that all prompts have, with its position in each: to iterate over in a sweep.

    Raises:
        PatchError: there is no role that all have.
    """
    names = [role for role in prompts[0].roles if all(role in pair.roles for pair in prompts)]
    if not names:
        raise PatchError("these prompts have no role in common; use seq_pos='each'")
    return {role: role_positions(prompts, role) for role in names}


def role_positions(prompts: PromptPairs, role: str) -> list[int]:
    """Where each prompt has a role (IO, S1, S2, end, ...), as a `seq_pos`; `end` is always there.

    Raises:
        PatchError: a prompt does not say where the role is.
    """
    positions = []
    for number, pair in enumerate(prompts, 1):
        at = pair.roles.get(role, len(pair.clean) - 1 if role == "end" else None)
        if at is None:
            known = ", ".join(sorted(pair.roles)) or "none but end"
            raise PatchError(f"prompt {number} has no role {role!r}; its roles: {known}")
        positions.append(at)
    return positions

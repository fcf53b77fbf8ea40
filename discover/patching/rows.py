"""Positions of prompts packed into rows, and which of them a search can ignore."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """A set of positions, prompt by prompt: one row of an activation is one position of one prompt.

    `flat`: Int[row], `prompt * n_pos + position`, ascending. `grid`: Int[batch, width], each
    prompt's rows (the last one repeated where there are fewer). `place`: Int[row], where each row
    is in the flattened grid, or None if that is just where it was.
    """

    flat: Int[Tensor, " row"]
    grid: Int[Tensor, "batch width"]
    place: Int[Tensor, " row"] | None
    n_pos: int

    @classmethod
    def of(cls, mask: Bool[Tensor, "batch pos"]) -> Rows:
        """The rows of a mask that has at least one position of every prompt."""
        counts = mask.sum(1)
        width = int(counts.max())
        offsets = torch.arange(width, device=mask.device)
        first = counts.cumsum(0) - counts
        grid = first[:, None] + torch.minimum(offsets[None], counts[:, None] - 1)
        own = offsets[None] < counts[:, None]
        place = None if bool(own.all()) else own.flatten().nonzero()[:, 0]
        return cls(mask.flatten().nonzero()[:, 0], grid, place, mask.shape[1])

    def __len__(self) -> int:
        return len(self.flat)

    @property
    def prompt(self) -> Int[Tensor, " row"]:
        """The prompt that each row belongs to."""
        return self.flat // self.n_pos

    def within(self, other: Rows) -> Int[Tensor, " row"]:
        """Where these rows are among another set's, which has them all."""
        return torch.searchsorted(other.flat, self.flat)

    def unpack(self, x: Tensor) -> Tensor:
        """Float[k, row, d] to Float[k, batch, width, d]."""
        return (
            x[:, self.grid] if self.place is not None else x.view(-1, *self.grid.shape, x.shape[-1])
        )

    def pack(self, x: Tensor) -> Tensor:
        """Float[k, batch, width, d] to Float[k, row, d]."""
        x = x.flatten(1, 2)
        return x if self.place is None else x[:, self.place]


def changing(
    differ: Bool[Tensor, "batch pos"], blocked: Iterable[Bool[Tensor, "batch pos pos"]]
) -> Bool[Tensor, "batch pos"]:
    """Positions that can differ after all layers, if those of `differ` do before the first."""
    differ = differ.clone()
    for layer in blocked:
        differ |= (~layer & differ[:, None]).any(-1)
    return differ


def needed(
    answers: Bool[Tensor, "batch pos"], blocked: Iterable[Bool[Tensor, "batch pos pos"]]
) -> Bool[Tensor, "batch pos"]:
    """Positions that the answers can depend on; `blocked` from the first layer to the last."""
    found = answers.clone()
    for layer in reversed(list(blocked)):
        found |= (~layer & found[:, :, None]).any(1)
    return found

"""What a removed edge carries instead of its sender's live value."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from discover.errors import SpecError

SenderOutputs = Float[Tensor, "sender batch pos d_model"]


def ablated_outputs(name: str, corrupted: SenderOutputs) -> SenderOutputs:
    """The value that each sender's removed edges carry.

    `resample`: the sender's output in the corrupted run. `zero`: nothing; what belongs to no
    sender (the attention output bias `b_O`) stays with every receiver, while the position
    embedding is part of `embed` and goes with it.

    Raises:
        SpecError: there is no such ablation.
    """
    if name == "resample":
        return corrupted
    if name == "zero":
        return corrupted.new_zeros(()).expand_as(corrupted)
    raise SpecError(f"unknown ablation {name!r}; choose resample or zero")

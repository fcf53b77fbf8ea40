"""What a caller may choose about a figure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from discover.errors import InputError

COLUMN_WIDTH = 3.3
TEXT_WIDTH = 6.8
"""Usual widths of one column and of the whole text block of a paper, in inches."""


@dataclass(frozen=True, slots=True)
class FigureOptions:
    """How a figure is drawn.

    `all_edges` draws the edges that lie on no path from the embedding to the logits, too, dashed.
    `width` is the figure's width in inches, from 2 to 40; None takes a column's (3.3) where the
    circuit is small enough for that and a text block's (6.8) otherwise. `title` is True for a
    line made of the facts, False for none, or a text. `legend` says whether there is one. `dpi`
    is for png only.

    Raises:
        InputError: a value is of the wrong type or out of range.
    """

    all_edges: bool = False
    width: float | None = None
    title: bool | str = True
    legend: bool = True
    dpi: int = 300

    def __post_init__(self) -> None:
        for name in ("all_edges", "legend"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if not isinstance(self.title, (bool, str)):
            raise InputError(f"title must be true, false or a text, got {self.title!r}")
        if self.width is not None:
            _within("width", self.width, 2, 40, "inches")
        _within("dpi", self.dpi, 36, 1200, "dots an inch")

    @classmethod
    def of(cls, given: Mapping[str, Any], fmt: str) -> FigureOptions:
        """The options by their names.

        Raises:
            InputError: an option is unknown, or has no effect on this format.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise InputError(
                f"unknown figure options: {', '.join(unknown)}; known are {', '.join(known)}"
            )
        if "dpi" in given and fmt != "png":
            raise InputError(f"dpi is without effect on {fmt}; leave it out")
        return cls(**given)


def _within(name: str, value: object, low: float, high: float, unit: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:  # type: ignore
        raise InputError(f"{name} must be from {low} to {high} {unit}, got {value!r}")

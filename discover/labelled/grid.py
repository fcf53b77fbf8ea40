"""Any labelled array as a grid of rows and columns: what figures and terminals draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from discover.labelled.array import Floats, LabelledArray
from discover.labelled.naming import Label, cell_text, shown

SOURCE = "src_"
TITLES = {"kv_head": "key/value head", "pos": "position"}
LONGEST = 24
"""Characters of a label that are shown; token strings can be long."""


@dataclass(frozen=True)
class Side:
    """One side of a grid: the axes laid along it and the labels of each place, in order."""

    axes: tuple[str, ...]
    places: tuple[tuple[Label, ...], ...]

    @property
    def texts(self) -> list[str]:
        """What each place is called."""
        names = [axis.removeprefix(SOURCE) for axis in self.axes]
        if len(names) > 1 and set(names) in ({"layer", "head"}, {"layer", "kv_head"}):
            return [cell_text(dict(zip(names, place, strict=True))) for place in self.places]
        return [short(".".join(shown(label) for label in place)) for place in self.places]

    @property
    def groups(self) -> list[tuple[int, int, str]]:
        """Start, stop and name of each run of places with one outer label; none for one axis."""
        if len(self.axes) < 2:
            return []
        inner = math.prod(
            len({place[i] for place in self.places}) for i in range(1, len(self.axes))
        )
        starts = range(0, len(self.places), inner)
        return [(start, start + inner, short(shown(self.places[start][0]))) for start in starts]

    @property
    def title(self) -> str:
        """The axes in words."""
        source = any(axis.startswith(SOURCE) for axis in self.axes)
        names = [axis.removeprefix(SOURCE) for axis in self.axes]
        words = " and ".join(TITLES.get(name, name.replace("_", " ")) for name in names)
        return f"source {words}" if source else words


@dataclass(frozen=True)
class Grid:
    """An array's values as `Float[row, column]` with what stands along both sides."""

    values: Floats
    rows: Side
    columns: Side
    name: str


def grid(array: LabelledArray) -> Grid:
    """Lay an array out in two dimensions.

    Layers go down. Sources (`src_...`) are rows and the rest columns; a position is the column
    where there is one, and all other axes are rows; otherwise the last axis is the column.
    """
    rows, columns = _split(array.axes)
    ordered = array.transpose(*rows, *columns) if array.axes else array
    left, below = _side(array, rows), _side(array, columns)
    values = ordered.values.reshape(len(left.places), len(below.places))
    return Grid(values, left, below, array.name)


def _split(axes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    sources = tuple(axis for axis in axes if axis.startswith(SOURCE))
    if sources and len(sources) < len(axes):
        return sources, tuple(axis for axis in axes if axis not in sources)
    if len(axes) == 1:
        return (axes, ()) if axes[0] == "layer" else ((), axes)
    column = "pos" if "pos" in axes else axes[-1] if axes else ""
    if column == "layer":
        # A layer goes down, whatever the order of the axes.
        column = axes[0]
    others = tuple(axis for axis in axes if axis != column)
    return tuple(sorted(others, key=lambda axis: axis != "layer")), axes and (column,)


def _side(array: LabelledArray, axes: tuple[str, ...]) -> Side:
    return Side(axes, tuple(itertools.product(*(array.labels[axis] for axis in axes))))


def short(text: str) -> str:
    """A label cut to what there is room for."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def scale_limit(grids: Sequence[Grid]) -> float:
    """The largest absolute finite value of all grids; 1 if there is none but 0."""
    found = [np.abs(part.values[np.isfinite(part.values)]).max(initial=0) for part in grids]
    # Colour scales compute with twice the limit and with its inverse.
    return min(float(max(found, default=0)), 1e300) if max(found, default=0) > 1e-300 else 1.0


def decimals(limit: float) -> int:
    """How many decimals numbers up to `limit` need: two, and more for small ones."""
    return max(2, 1 - math.floor(math.log10(limit)))


def value_text(value: float, limit: float, percent: bool = False) -> str:
    """A signed number for a cell; `-` for NaN."""
    if math.isnan(value):
        return "-"
    if percent:
        return f"{100 * value:+.0f}%"
    if limit >= 1e5 or limit < 1e-3:
        return f"{value:+.1e}"
    text = f"{value:+.{decimals(limit)}f}"
    # What rounds to zero has no sign to show.
    return text.replace("-", "+") if float(text) == 0 else text

"""Labelled arrays as tables in a terminal, coloured where it can show colours."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from discover.errors import InputError
from discover.labelled.array import LabelledArray
from discover.labelled.grid import Grid, grid, scale_limit, value_text
from discover.labelled.naming import shown
from discover.labelled.results import LabelledList

if TYPE_CHECKING:
    from rich.text import Text

    from discover.labelled.results import Results

NARROWEST = 20
DEFAULT_WIDTH = 100
WIDEST_LABEL = 10
"""Columns of a terminal that a column's label may take."""
ITEMS = 20
"""Items of a LabelledList that are shown."""

RED, WHITE, BLUE = (178, 24, 43), (247, 247, 247), (33, 102, 172)
"""Ends and middle of the figures' colour scale."""

Lines = list[list[tuple[str, str]]]
"""Lines of pieces: a text and its rich style."""


def terminal(
    shown_values: LabelledArray | LabelledList | Results,
    *,
    width: int | None = None,
    color: bool = False,
) -> str:
    """Values as tables no wider than `width` characters (default: the terminal's).

    Numbers are signed, with two decimals (more if all are small); NaN is `-`. With `color` each has
    the heatmap's colour behind it, from one scale for all that have a unit in common.

    Raises:
        InputError: `width` is under 20.
    """
    width = _width(width)
    out = io.StringIO()
    _print(_lines(shown_values, width), out, width, color)
    return out.getvalue()


def print_terminal(
    shown_values: LabelledArray | LabelledList | Results,
    *,
    file: IO[str] | None = None,
    width: int | None = None,
    color: bool | None = None,
) -> None:
    """Print values as by `terminal`, to stdout by default.

    Colours are on if the file is a terminal and NO_COLOR is not set, unless `color` says.

    Raises:
        InputError: `width` is under 20.
    """
    target = sys.stdout if file is None else file
    if color is None:
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        color = target.isatty() and not plain
    width = _width(width)
    _print(_lines(shown_values, width), target, width, color)


def _width(width: int | None) -> int:
    if width is None:
        return max(shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns, NARROWEST)
    if width < NARROWEST:
        raise InputError(f"width={width} is too narrow for a table; give {NARROWEST} or more")
    return width


def _print(lines: Lines, file: IO[str], width: int, color: bool) -> None:
    from rich.console import Console

    console = Console(
        file=file, width=width, force_terminal=color, no_color=not color, highlight=False,
        color_system="truecolor" if color else None, legacy_windows=False, emoji=False,
        markup=False,
    )  # fmt: skip
    for line in lines:
        console.print(_text(line), no_wrap=True, overflow="ignore", crop=False)


def _text(line: list[tuple[str, str]]) -> Text:
    from rich.text import Text

    return Text.assemble(*line)


def _lines(values: LabelledArray | LabelledList | Results, width: int) -> Lines:
    parts: list[Any] = list(values.values()) if isinstance(values, Mapping) else [values]
    grids = [grid(part) if isinstance(part, LabelledArray) else None for part in parts]
    lines: Lines = []
    for part, own in zip(parts, grids, strict=True):
        if lines:
            lines.append([])
        if own is None:
            lines += _items(part, width)
            continue
        alike = [
            other
            for one, other in zip(parts, grids, strict=True)
            if other is not None and one.unit == part.unit
        ]
        lines += _table(part, own, scale_limit(alike), width)
    return lines


def _items(values: LabelledList, width: int) -> Lines:
    from rich.cells import set_cell_size

    texts = [f"{shown(values.name)}: {len(values)} items"]
    for labels, item in list(values.cells())[:ITEMS]:
        place = ", ".join(f"{axis} {shown(label)}" for axis, label in labels.items())
        texts.append(f"  {place}: {shown(repr(item))}")
    if len(values) > ITEMS:
        texts.append(f"  ... and {len(values) - ITEMS} more")
    return [[(set_cell_size(text, width).rstrip(), "")] for text in texts]


def _table(array: LabelledArray, own: Grid, limit: float, width: int) -> Lines:
    """A heading, then the columns in blocks that fit."""
    lines = [[(text, "bold" if not i else "")] for i, text in enumerate(_heading(array, width))]
    numbers = [[value_text(value, limit) for value in row] for row in own.values.tolist()]
    labels = _fitted(own.rows.texts, own.rows.title, max(8, width - WIDEST_LABEL - 1))
    cell = max(len(text) for row in numbers for text in row)
    heads = _fitted(own.columns.texts, "", WIDEST_LABEL)[1:]
    cell = max(cell, _size(heads[0]))
    step = max(1, (width - _size(labels[0])) // (cell + 1))
    if own.columns.title:
        lines.append([(_cut(f"{' ' * _size(labels[0])} {own.columns.title}", width), "dim")])
    for start in range(0, len(heads), step):
        part = range(start, min(start + step, len(heads)))
        if any(head.strip() for head in heads):
            line = labels[0] + "".join(" " + _right(heads[i], cell) for i in part)
            lines.append([(line, "dim")])
        for row, label in enumerate(labels[1:]):
            pieces = [(label, "dim")]
            for i in part:
                pieces.append((" ", ""))
                style = _style(float(own.values[row, i]), limit)
                pieces.append((numbers[row][i].rjust(cell), style))
            lines.append(pieces)
    return lines


def _heading(array: LabelledArray, width: int) -> list[str]:
    """Name, unit and direction, broken to the width."""
    import textwrap

    told = ", ".join(text for text in (array.unit, array.direction) if text)
    text = ": ".join(shown(part) for part in (array.name, told) if part)
    # Half the width is safe for scripts whose characters are two columns wide.
    return textwrap.wrap(text, width if text.isascii() else width // 2)


def _fitted(texts: Sequence[str], title: str, widest: int) -> list[str]:
    """A title and texts, all cut and padded to one size."""
    size = min(max(_size(text) for text in (title, *texts)), widest)
    return [_padded(text, size) for text in (title, *texts)]


def _padded(text: str, size: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(text if _size(text) <= size else set_cell_size(text, size - 1) + "…", size)


def _right(text: str, size: int) -> str:
    text = text.rstrip()
    return " " * (size - _size(text)) + text


def _cut(text: str, size: int) -> str:
    return text if _size(text) <= size else _padded(text, size)


def _size(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _style(value: float, limit: float) -> str:
    """Black or white text on the value's place between red, white and blue."""
    if np.isnan(value):
        return "dim"
    share = float(np.clip(value / limit, -1, 1))
    end = BLUE if share > 0 else RED
    mixed = [round(w + (e - w) * abs(share)) for w, e in zip(WHITE, end, strict=True)]
    return f"{'white' if abs(share) > 0.6 else 'black'} on rgb({mixed[0]},{mixed[1]},{mixed[2]})"

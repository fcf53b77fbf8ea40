"""Where everything on a heatmap goes, in inches, so that no two texts ever meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from discover.labelled.drawing import text_width, wrapped
from discover.labelled.grid import Grid, Side
from discover.labelled.naming import shown

FONT = 8
ANNOTATION = 6.5
LINE = 0.155
"""Height of a line of labels, in inches."""
GAP = 0.08
MARGIN = 0.15
LONGEST_SIDE = 14.0
"""Beyond this labels are thinned or grouped instead of the figure growing on."""
WIDEST = 22.0
"""Facets wrap into another row beyond this width."""
BAR_WIDTH = 0.16


@dataclass(frozen=True)
class Ticks:
    """Labels along a side: places in cells, and inches they take away from the grid."""

    places: list[float]
    texts: list[str]
    rotated: bool
    grouped: bool
    extent: float


@dataclass(frozen=True)
class Facet:
    """One grid on the sheet: its box (left, top, width, height; inches from the top left)."""

    grid: Grid
    box: tuple[float, float, float, float]
    cell: tuple[float, float]
    row_ticks: Ticks
    column_ticks: Ticks
    row_labels: bool
    numbers: list[list[str]] | None

    @property
    def title(self) -> str:
        """The component's name."""
        return shown(self.grid.name)

    @property
    def row_title(self) -> str:
        """What the rows are."""
        return self.grid.rows.title

    @property
    def row_title_width(self) -> float:
        """Its length in inches."""
        return text_width(self.row_title, FONT)

    @property
    def column_title(self) -> str:
        """What the columns are."""
        return self.grid.columns.title


@dataclass(frozen=True)
class Sheet:
    """A whole figure: sizes in inches, `bar` the colour bar's box, `bar_lines` its label.

    `bar_ticks` holds the texts at its values; `bar_text` is how far right of it the label begins.
    """

    width: float
    height: float
    facets: list[Facet]
    title: list[str]
    bar: tuple[float, float, float, float]
    bar_ticks: dict[float, str]
    bar_lines: list[str]
    bar_text: float
    explains_nan: bool
    margin: float = MARGIN

    def fractions(
        self, x: float, y: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        """A box in matplotlib's fractions of the figure, from the bottom left."""
        return (
            x / self.width,
            1 - (y + height) / self.height,
            width / self.width,
            height / self.height,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point in matplotlib's fractions of the figure."""
        return x / self.width, 1 - y / self.height


def sheet(
    grids: Sequence[Grid],
    title: str,
    columns: int | None,
    numbers: Sequence[list[list[str]]] | None,
    bar_ticks: dict[float, str],
    bar_texts: Sequence[str],
    has_nan: bool,
) -> Sheet:
    """Lay out facets row by row, with the colour bar to their right."""
    cell = _cell(grids, numbers)
    lines = _lines(grids, cell, columns)
    facets: list[Facet] = []
    head = 0.2 * len(_title(title, LONGEST_SIDE))
    top = MARGIN + head + (GAP if head else 0)
    body, right = top, 0.0
    for line in lines:
        placed, width, top = _row(grids, line, cell, numbers, top)
        facets += placed
        right = max(right, width)
    bar_top = body + 0.24
    bar_height = min(max(top - bar_top - 0.4, 1.7), 5.0)
    bar_lines = [piece for text in bar_texts for piece in wrapped(text, bar_height + 0.3)]
    bar_left = right + 0.25
    bar_text = BAR_WIDTH + 0.16 + max(text_width(text, FONT) for text in bar_ticks.values())
    width = bar_left + bar_text + 0.16 * len(bar_lines) + MARGIN
    # A long title makes a narrow figure wider before it is broken into many lines.
    width = max(width, min(text_width(shown(title), 11, bold=True) + 2 * MARGIN, 6.0))
    title_lines = _title(title, width - 2 * MARGIN)
    down = 0.2 * len(title_lines) - head
    height = max(top, bar_top + bar_height + 0.2) + (0.25 if has_nan else 0) + MARGIN + down
    return Sheet(
        width, height, [_moved(facet, down) for facet in facets], title_lines,
        (bar_left, bar_top + down, BAR_WIDTH, bar_height), bar_ticks, bar_lines, bar_text, has_nan,
    )  # fmt: skip


def _title(title: str, width: float) -> list[str]:
    # Bold runs about an eighth wider than the plain font that is measured.
    return wrapped(title, width / 1.15, 11)


def _moved(facet: Facet, down: float) -> Facet:
    x, y, width, height = facet.box
    return Facet(
        facet.grid, (x, y + down, width, height), facet.cell, facet.row_ticks,
        facet.column_ticks, facet.row_labels, facet.numbers,
    )  # fmt: skip


def _cell(grids: Sequence[Grid], numbers: Sequence[list[list[str]]] | None) -> tuple[float, float]:
    """Width and height of every cell of all facets."""
    width = _side_of_cell(max(part.values.shape[1] for part in grids))
    height = _side_of_cell(max(part.values.shape[0] for part in grids))
    if numbers is not None:
        texts = {text for part in numbers for row in part for text in row}
        width = max(width, max(text_width(text, ANNOTATION) for text in texts) + 0.1)
        height = max(height, 0.22)
    return width, height


def _side_of_cell(count: int) -> float:
    """Comfortable while there are few, just wide enough for a label when there are many."""
    return max(min(max(6 / count, 0.17), 0.3, LONGEST_SIDE / count), 0.02)


def ticks(side: Side, cell: float, across: bool) -> Ticks:
    """Labels for the places of a side whose cells are `cell` inches apart.

    Across, labels turn upright where they would touch. Where lines would touch, outer labels stand
    for their groups; where even those would, every k-th is shown.
    """
    texts, groups = side.texts, side.groups
    grouped = cell < LINE and bool(groups)
    places = [i + 0.5 for i in range(len(texts))]
    if grouped:
        places = [(start + stop) / 2 for start, stop, _ in groups]
        texts = [text for _, _, text in groups]
        cell *= groups[0][1] - groups[0][0]
    longest = max(text_width(text, FONT) for text in texts)
    rotated = across and longest + GAP > max(cell, LINE) and not all(t.isdigit() for t in texts)
    room = longest + GAP if across and not rotated else LINE
    step = math.ceil(room / cell - 1e-9)
    extent = (longest if rotated or not across else LINE) + 0.06 if any(texts) else 0.0
    return Ticks(places[::step], texts[::step], rotated, grouped, extent)


def _lines(
    grids: Sequence[Grid], cell: tuple[float, float], columns: int | None
) -> list[list[int]]:
    """Which facets stand in which row."""
    if columns is None:
        widths = [part.values.shape[1] * cell[0] + 0.5 for part in grids]
        columns, total = 0, 0.0
        for width in widths:
            total += width
            if total > WIDEST and columns:
                break
            columns += 1
    return [
        list(range(start, min(start + columns, len(grids))))
        for start in range(0, len(grids), columns)
    ]


def _row(
    grids: Sequence[Grid],
    line: Sequence[int],
    cell: tuple[float, float],
    numbers: Sequence[list[list[str]]] | None,
    top: float,
) -> tuple[list[Facet], float, float]:
    """One row of facets from `top` down: the facets, its right end, its lower end."""
    facets: list[Facet] = []
    x = MARGIN
    bottom = top
    for place in line:
        part = grids[place]
        labelled = place == line[0] or part.rows != grids[place - 1].rows
        left, below = ticks(part.rows, cell[1], False), ticks(part.columns, cell[0], True)
        width, height = part.values.shape[1] * cell[0], part.values.shape[0] * cell[1]
        if labelled:
            x += left.extent + (0.22 if part.rows.title else 0)
        words = max(text_width(shown(part.name), 9), text_width(part.columns.title, FONT))
        # Words wider than a narrow grid stick out evenly on both sides.
        pad = max(0.0, (words - width) / 2)
        box = (x + pad, top + 0.24, width, height)
        facet = Facet(
            part, box, cell, left, below, labelled, None if numbers is None else numbers[place]
        )
        facets.append(facet)
        x += width + 2 * pad + 0.2
        rows_end = facet.row_title_width if labelled else 0.0
        end = max(height + below.extent + (0.24 if part.columns.title else 0.0), rows_end)
        bottom = max(bottom, box[1] + end)
    return facets, x - 0.2, bottom + 0.1

"""Heatmaps of labelled arrays, for papers and notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from discover.errors import InputError
from discover.labelled.array import LabelledArray
from discover.labelled.drawing import Drawing, literal, literal_legend, new_figure, settings
from discover.labelled.grid import Grid, grid, scale_limit, value_text
from discover.labelled.layout import ANNOTATION, FONT, Facet, Sheet, sheet
from discover.labelled.results import Results, one_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "RdBu"
ANNOTATED = 150
"""Cells of all facets together that still get their numbers written in by default."""
VECTOR = 40_000
"""Cells of a facet beyond which vector formats hold it as an image."""
NO_VALUE: dict[str, Any] = {"facecolor": "#ececec", "hatch": "//////", "edgecolor": "#9a9a9a"}


@dataclass(frozen=True, eq=False)
class Heatmap(Drawing):
    """A finished heatmap; colours run from `-limit` to `limit` in the values' unit."""

    limit: float


def heatmap(
    arrays: LabelledArray | Results | Sequence[LabelledArray],
    *,
    title: str = "",
    columns: int | None = None,
    limit: float | None = None,
    annotate: bool | None = None,
    percent: bool = False,
) -> Heatmap:
    """Arrays as facets with one colour scale, centred at zero: blue above, red below.

    Layers go down, heads or positions across; NaN is hatched grey. `columns` is how many facets
    stand in a row (default: as many as fit), `limit` the value of the strongest colours (default:
    the largest absolute finite value), `annotate` writes the numbers into the cells (default: if
    there are few), `percent` shows fractions as percentages.

    Raises:
        InputError: there are no arrays, they are in different units, or `limit` or `columns` is not
            above 0.
    """
    given = _arrays(arrays)
    if limit is not None and not (math.isfinite(limit) and limit > 0):
        raise InputError(f"limit={limit!r} cannot be the end of a colour scale; give it above 0")
    if columns is not None and columns < 1:
        raise InputError(f"columns={columns!r} leaves no room for a facet; give 1 or more")
    unit = one_unit(given)
    grids = [grid(array) for array in given]
    end = limit or scale_limit(grids)
    if annotate is None:
        annotate = sum(part.values.size for part in grids) <= ANNOTATED
    numbers = [_numbers(part, end, percent) for part in grids] if annotate else None
    directions = dict.fromkeys(array.direction for array in given if array.direction)
    with settings():
        marks = _marks(end, percent)
        plan = sheet(grids, title, columns, numbers, marks, [unit, *directions], _has_nan(grids))
        figure = _draw(plan, end)
    return Heatmap(figure, end)


def _arrays(given: LabelledArray | Results | Sequence[LabelledArray]) -> list[LabelledArray]:
    if isinstance(given, LabelledArray):
        return [given]
    found = given.arrays() if isinstance(given, Results) else list(given)
    if not found:
        raise InputError("there is nothing to draw: heatmap got no arrays of numbers")
    for array in found:
        if not isinstance(array, LabelledArray):
            raise InputError(f"heatmap draws LabelledArrays; it got a {type(array).__name__}")
    return found


def _numbers(part: Grid, limit: float, percent: bool) -> list[list[str]]:
    return [
        ["" if math.isnan(value) else value_text(value, limit, percent) for value in row]
        for row in part.values.tolist()
    ]


def _marks(limit: float, percent: bool) -> dict[float, str]:
    """Round values between the ends of the scale, and their texts."""
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(6, symmetric=True).tick_values(-limit, limit)
    shown = [float(value) for value in found if abs(value) <= limit]
    texts = [f"{100 * v:g}%" if percent else f"{v:g}" for v in shown]
    return {v: text.replace("-", "\u2212") for v, text in zip(shown, texts, strict=True)}


def _has_nan(grids: Sequence[Grid]) -> bool:
    return any(bool(np.isnan(part.values).any()) for part in grids)


def _draw(plan: Sheet, limit: float) -> Figure:
    figure = new_figure(plan.width, plan.height)
    for facet in plan.facets:
        x, y, width, height = facet.box
        axes = figure.add_axes(plan.fractions(x, y, width, height))
        _cells(axes, facet, limit)
        _labels(axes, facet)
        _titles(figure, plan, facet)
        if facet.numbers is not None:
            _annotate(axes, facet, limit)
    _colour_bar(figure, plan, limit)
    for line, text in enumerate(plan.title):
        x, y = plan.point(plan.margin, plan.margin + 0.2 * line)
        literal(figure.text(x, y, text, size=11, weight="bold", va="top"))
    if plan.explains_nan:
        _explain(figure, plan)
    return figure


def _cells(axes: Axes, facet: Facet, limit: float) -> None:
    values = facet.grid.values
    lines = min(facet.cell) >= 0.1
    shown = np.ma.masked_invalid(np.clip(values, -limit, limit))
    axes.pcolormesh(
        shown, cmap=COLOURS, vmin=-limit, vmax=limit,
        edgecolors="white" if lines else "none", linewidth=0.5 if lines else 0,
        antialiased=lines, rasterized=values.size > VECTOR,
    )  # fmt: skip
    if np.isnan(values).any():
        axes.patch.set(**NO_VALUE)
    axes.set(xlim=(0, values.shape[1]), ylim=(values.shape[0], 0))
    for start, _, _ in facet.grid.rows.groups[1:]:
        axes.axhline(start, color="#404040", linewidth=0.6)
    for start, _, _ in facet.grid.columns.groups[1:]:
        axes.axvline(start, color="#404040", linewidth=0.6)


def _labels(axes: Axes, facet: Facet) -> None:
    below, left = facet.column_ticks, facet.row_ticks
    axes.set_xticks(below.places, below.texts, rotation=90 if below.rotated else 0, size=FONT)
    texts = left.texts if facet.row_labels else [""] * len(left.places)
    axes.set_yticks(left.places, texts, size=FONT)
    for axis, ticks in ((axes.xaxis, below), (axes.yaxis, left)):
        literal(*axis.get_ticklabels())
        if ticks.grouped or not any(ticks.texts):
            axis.set_tick_params(length=0)


def _titles(figure: Figure, plan: Sheet, facet: Facet) -> None:
    x, y, width, height = facet.box
    middle = x + width / 2
    literal(
        figure.text(*plan.point(middle, y - 0.06), facet.title, size=9, ha="center", va="bottom"),
        figure.text(
            *plan.point(middle, y + height + facet.column_ticks.extent + 0.07),
            facet.column_title, size=FONT, ha="center", va="top",
        ),
    )  # fmt: skip
    if facet.row_labels and facet.row_title:
        centred = facet.row_title_width <= height
        literal(
            figure.text(
                *plan.point(x - facet.row_ticks.extent - 0.07, y + (height / 2 if centred else 0)),
                facet.row_title, size=FONT, rotation=90, ha="right",
                va="center" if centred else "top",
            )
        )  # fmt: skip


def _annotate(axes: Axes, facet: Facet, limit: float) -> None:
    for row, texts in enumerate(facet.numbers or []):
        for column, text in enumerate(texts):
            strong = abs(facet.grid.values[row, column]) > 0.6 * limit
            literal(
                axes.text(
                    column + 0.5, row + 0.5, text, size=ANNOTATION, ha="center",
                    va="center_baseline", color="white" if strong else "#202020",
                )
            )  # fmt: skip


def _colour_bar(figure: Figure, plan: Sheet, limit: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_axes(plan.fractions(*plan.bar))
    over = any(bool((np.abs(facet.grid.values) > limit).any()) for facet in plan.facets)
    colours = ScalarMappable(Normalize(-limit, limit), COLOURS)
    bar = figure.colorbar(
        colours, cax=axes, ticks=list(plan.bar_ticks), extend="both" if over else "neither"
    )
    bar.set_ticklabels(list(plan.bar_ticks.values()))
    bar.outline.set_linewidth(0.6)
    x, y, _, height = plan.bar
    for line, text in enumerate(plan.bar_lines):
        place = plan.point(x + plan.bar_text + 0.16 * line, y + height / 2)
        literal(figure.text(*place, text, size=FONT, rotation=90, ha="left", va="center"))


def _explain(figure: Figure, plan: Sheet) -> None:
    from matplotlib.patches import Patch

    sample = Patch(linewidth=0, label="no value (NaN)", **NO_VALUE)
    legend = figure.legend(
        handles=[sample], loc="lower left", frameon=False, borderpad=0, borderaxespad=0,
        bbox_to_anchor=plan.point(plan.margin, plan.height - plan.margin), handlelength=1.6,
        handleheight=1.2,
    )  # fmt: skip
    literal_legend(legend)
    # matplotlib draws no hatch at line width 0 in some formats.
    legend.get_patches()[0].set_linewidth(0.5)

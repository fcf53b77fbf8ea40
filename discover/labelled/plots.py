"""Small figures: an estimate against the exact values, distributions, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from discover.errors import InputError
from discover.labelled.agreement import Offender, agreement
from discover.labelled.array import Floats, LabelledArray, real_numbers
from discover.labelled.drawing import (
    Drawing,
    literal,
    literal_legend,
    new_figure,
    settings,
    text_width,
    wrapped,
)
from discover.labelled.naming import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#e08214", "#762a83", "#404040")
DASHES = ("-", "--", ":", "-.")
SIZE = 4.2
"""Side of a scatter plot's square, in inches."""


def scatter(
    x: LabelledArray,
    y: LabelledArray,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    worst: int = 5,
) -> Drawing:
    """An estimate (`y`) against the exact values (`x`), a point a cell, with the line y = x.

    The `worst` cells by absolute error are named. Cells that are not finite on either side are left
    out. Axes are called by the arrays' names and unit if no labels are given.

    Raises:
        InputError: the arrays have different axes or labels, or no cell has both values.
    """
    found = agreement(y, x, worst)
    finite = np.isfinite(x.values) & np.isfinite(y.values)
    if not finite.any():
        raise InputError("no cell has both values, so there is nothing to compare in a scatter")
    xs, ys = x.values[finite], y.values[finite]
    low, high = min(xs.min(), ys.min()), max(xs.max(), ys.max())
    pad = 0.06 * (high - low) or 0.5 * max(abs(high), 1.0)
    ends = (float(low - pad), float(high + pad))
    offenders = [far for far in found.worst if np.isfinite([far.estimate, far.exact]).all()]
    with settings():
        figure, axes = _canvas(SIZE, SIZE, title)
        axes.plot(ends, ends, color="#808080", linewidth=0.8, zorder=1)
        axes.scatter(xs, ys, s=14, color=COLOURS[0], alpha=0.6, linewidth=0, zorder=2)
        axes.set(xlim=ends, ylim=ends)
        _name_points(axes, offenders, np.column_stack([xs, ys]), ends)
        _axis_labels(axes, x_label or _called(x, "exact"), y_label or _called(y, "estimate"))
    return Drawing(figure)


def histogram(
    values: Mapping[str, npt.ArrayLike | LabelledArray],
    *,
    bins: int = 40,
    title: str = "",
    x_label: str = "",
) -> Drawing:
    """Distributions over common bins, one outline each; values that are not finite are left out.

    Raises:
        InputError: there are no values, they are no numbers, or `bins` is under 1.
    """
    if bins < 1:
        raise InputError(f"bins={bins} leaves nothing to count in; give 1 or more")
    finite: dict[str, Floats] = {}
    for name, given in values.items():
        flat = real_numbers(given, name).ravel()
        finite[name] = flat[np.isfinite(flat)]
    if not any(len(found) for found in finite.values()):
        raise InputError("there are no finite values to count in a histogram")
    edges = np.histogram_bin_edges(np.concatenate(list(finite.values())), bins)
    with settings():
        figure, axes = _canvas(5.0, 3.2, title)
        for place, (name, found) in enumerate(finite.items()):
            axes.hist(
                found, edges.tolist(), histtype="stepfilled",
                label=f"{shown(name)} (n = {len(found)})",
                facecolor=(COLOURS[place % len(COLOURS)], 0.2), linewidth=1.2,
                edgecolor=COLOURS[place % len(COLOURS)], linestyle=_dash(place),
            )  # fmt: skip
        literal_legend(axes.legend(frameon=False))
        _axis_labels(axes, x_label, "cells")
    return Drawing(figure)


def curve(
    x: npt.ArrayLike,
    curves: Mapping[str, npt.ArrayLike],
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
) -> Drawing:
    """Lines over common places `x`, `Float[n]` each; NaN leaves a gap.

    Raises:
        InputError: there are no curves, one has not as many values as `x`, or `log_x` meets places
            that are not above 0.
    """
    places = real_numbers(x, "x")
    lines = {name: real_numbers(given, name) for name, given in curves.items()}
    if not lines or places.ndim != 1:
        raise InputError(f"curve needs lines over a flat x; got {len(lines)}, x {places.shape}")
    for name, line in lines.items():
        if line.shape != places.shape:
            raise InputError(
                f"curve {name!r} has shape {line.shape} over x of shape {places.shape}; "
                "give one value per place"
            )
    if log_x and not (places > 0).all():
        raise InputError("log_x needs every place above 0")
    with settings():
        figure, axes = _canvas(5.0, 3.2, title)
        for place, (name, line) in enumerate(lines.items()):
            axes.plot(
                places, line, label=shown(name), marker="o", markersize=3, linewidth=1.2,
                color=COLOURS[place % len(COLOURS)], linestyle=_dash(place),
            )  # fmt: skip
        if log_x:
            axes.set_xscale("log")
        literal_legend(axes.legend(frameon=False))
        _axis_labels(axes, x_label, y_label)
    return Drawing(figure)


def _dash(place: int) -> str:
    """Lines differ in more than colour once colours come round again."""
    return DASHES[place // len(COLOURS) % len(DASHES)]


def _called(array: LabelledArray, otherwise: str) -> str:
    return f"{array.name or otherwise} ({array.unit})" if array.unit else array.name or otherwise


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """A figure whose axes measure `width` by `height` inches, with room for labels and title."""
    left, below, margin = 0.95, 0.55, 0.2
    # Bold runs about an eighth wider than the plain font that is measured.
    lines = wrapped(title, (left + width) / 1.15, 11)
    # Between title and axes there is room for the factor that matplotlib takes out of numbers.
    above = margin + 0.15 + 0.2 * len(lines)
    whole = (left + width + margin, below + height + above)
    figure = new_figure(*whole)
    box = (left / whole[0], below / whole[1], width / whole[0], height / whole[1])
    axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    for line, text in enumerate(lines):
        y = 1 - (0.12 + 0.2 * line) / whole[1]
        literal(figure.text(0.15 / whole[0], y, text, size=11, weight="bold", va="top"))
    return figure, axes


def _axis_labels(axes: Axes, x_label: str, y_label: str) -> None:
    literal(axes.set_xlabel(shown(x_label)), axes.set_ylabel(shown(y_label)))


def _name_points(
    axes: Axes, offenders: Sequence[Offender], points: Floats, ends: tuple[float, float]
) -> None:
    """Write names beside points, each where it covers the fewest names and points."""
    scale = SIZE / (ends[1] - ends[0])
    dots = (points - ends[0]) * scale
    taken: list[tuple[float, float, float, float]] = []
    for far in offenders:
        x, y = (far.exact - ends[0]) * scale, (far.estimate - ends[0]) * scale
        width = text_width(far.text, 7) + 0.04
        boxes = _places_around(x, y, width)
        box = min(boxes, key=lambda b: _cover(b, taken, dots))
        taken.append(box)
        corner = (ends[0] + box[0] / scale, ends[0] + (box[1] + 0.02) / scale)
        literal(axes.text(*corner, far.text, size=7, va="bottom", ha="left"))
        # From a name that had to move away, a line leads back to its point.
        near = (min(max(x, box[0]), box[2]), min(max(y, box[1]), box[3]))
        if math.dist(near, (x, y)) > 0.1:
            line = [(ends[0] + at[0] / scale, ends[0] + at[1] / scale) for at in (near, (x, y))]
            axes.plot(*zip(*line, strict=True), color="#606060", linewidth=0.4, zorder=1)


def _places_around(x: float, y: float, width: float) -> list[tuple[float, float, float, float]]:
    """Boxes (left, lower, right, upper; inches) near a point, nearest first, inside the square."""
    height = 0.15
    found = []
    for away in (0.06, 0.18, 0.32, 0.5, 0.7):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            left = x + dx * away - (width if dx < 0 else width / 2 if not dx else 0)
            low = y + dy * away - (height if dy < 0 else height / 2 if not dy else 0)
            left = min(max(left, 0.02), max(SIZE - width - 0.02, 0.02))
            low = min(max(low, 0.02), SIZE - height - 0.02)
            found.append((left, low, left + width, low + height))
    return found


def _cover(
    box: tuple[float, float, float, float],
    taken: Sequence[tuple[float, float, float, float]],
    dots: Floats,
) -> int:
    """How badly a name would lie there: names covered count far more than points."""
    left, low, right, high = box
    names = sum(
        left < other[2] and other[0] < right and low < other[3] and other[1] < high
        for other in taken
    )
    inside = (dots > (left - 0.03, low - 0.03)).all(1) & (dots < (right + 0.03, high + 0.03)).all(1)
    return 1000 * names + int(inside.sum())

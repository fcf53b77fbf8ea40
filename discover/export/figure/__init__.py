"""Circuits as figures: DOT, SVG, PDF and PNG, laid out for a paper's column or text width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discover.export.figure.options import FigureOptions
from discover.export.record import CircuitExport

__all__ = ["FigureOptions", "render_figure"]


def render_figure(export: CircuitExport, fmt: str, options: Mapping[str, Any]) -> bytes:
    """The figure as dot, svg, pdf or png.

    Raises:
        InputError: an option is unknown, out of range or without effect on this format.
        RunError: Graphviz failed.
    """
    from discover.export.figure.dot import dot_text
    from discover.export.figure.render import draw

    chosen = FigureOptions.of(options, fmt)
    dot = dot_text(export, chosen)
    return dot.encode("utf-8") if fmt == "dot" else draw(dot, fmt, chosen.dpi)

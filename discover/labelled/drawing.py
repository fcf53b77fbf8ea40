"""What all figures have in common: fixed settings, saving with the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from discover.errors import InputError
from discover.labelled.array import write_bytes
from discover.labelled.naming import shown

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

DPI = 150
MAX_PIXELS = 60_000
"""Agg draws at most 65,536 pixels each way."""

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "hatch.color": "#9a9a9a",
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.hashsalt": "discover",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "savefig.bbox": None,
}

# Dates and program versions would make two files of one figure differ.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A finished figure: `figure` is the matplotlib Figure."""

    figure: Figure

    def save(self, path: str | Path) -> None:
        """Write the figure as .png, .svg or .pdf; the same input gives the same bytes.

        Raises:
            InputError: the ending is another, the directory is missing, or writing fails.
        """
        target = Path(path)
        form = target.suffix.lower().removeprefix(".")
        if form not in METADATA:
            raise InputError(
                f"cannot write {target}: figures are written as .png, .svg or .pdf; "
                "end the name with one of these"
            )
        if not target.parent.is_dir():
            write_bytes(target, b"")  # raises before the time is spent on drawing
        write_bytes(target, self._content(form))

    def _content(self, form: str) -> bytes:
        # A canvas of our own: the user's may belong to a window.
        dpi = min(DPI, MAX_PIXELS / max(self.figure.get_size_inches()))
        content = io.BytesIO()
        with settings(), warnings.catch_warnings():
            # A token in a script that the font lacks is drawn as a box, without a warning each.
            warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
            self.figure.savefig(content, format=form, dpi=dpi, metadata=METADATA[form])
        return content.getvalue()

    def _repr_png_(self) -> bytes:
        return self._content("png")


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's own defaults and ours, whatever the user has set; left as found."""
    import matplotlib as mpl
    from matplotlib import style

    with style.context("default"):
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches, outside pyplot's list of figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def literal(*texts: Any) -> None:
    """Have texts drawn as they are: a token with `$` is no formula."""
    for text in texts:
        text.set_parse_math(False)


def literal_legend(legend: Any) -> Artist:
    """Have a legend's texts drawn as they are."""
    literal(*legend.get_texts(), legend.get_title())
    return legend  # type: ignore[no-any-return]


@cache
def text_width(text: str, size: float = 8, bold: bool = False) -> float:
    """How wide a text is drawn, in inches."""
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        width, _, _ = _renderer().get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


@cache
def _renderer() -> Any:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(8, 8, 72)  # type: ignore[no-untyped-call]


def wrapped(text: str, width: float, size: float = 8) -> list[str]:
    """The text in printable lines no wider than `width` inches, broken at spaces if it can be."""
    lines: list[str] = []
    for line in text.splitlines():
        start = len(lines)
        for word in shown(line).split():
            if len(lines) > start and text_width(f"{lines[-1]} {word}", size) <= width:
                lines[-1] += f" {word}"
            else:
                lines += _broken(word, width, size)
    return lines


def _broken(word: str, width: float, size: float) -> list[str]:
    """One word in as many pieces as it takes, such as a path."""
    pieces = [""]
    for character in word:
        if pieces[-1] and text_width(pieces[-1] + character, size) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces

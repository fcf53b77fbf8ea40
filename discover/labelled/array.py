"""Numbers with named axes and labels: what a patching experiment gives back."""

from __future__ import annotations

import csv
import io
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from discover.errors import InputError
from discover.labelled.naming import (
    Label,
    cell_text,
    known_axis,
    place_of,
    plain_axes,
    plain_labels,
)

if TYPE_CHECKING:
    import pandas as pd

    from discover.labelled.figure import Heatmap

Floats = npt.NDArray[np.float64]
By = Literal["abs", "high", "low"]
"""What counts as large: the absolute value, the value, or the negated value."""


@dataclass(frozen=True)
class Ranked:
    """One cell of a ranking; `text` names it (`a9.h6`, or axis by axis)."""

    labels: dict[str, Label]
    value: float
    text: str


@dataclass(frozen=True, eq=False, repr=False)
class LabelledArray:
    """Numbers with a name for each axis and a label for each place along it.

    `values` is float64 with one dimension per name in `axes` and is kept as a read-only view (NaN
    marks a cell without a value); axes without `labels` are counted from 0. `name` is the component
    (`z`, `q`), `unit` what the values measure, `direction` what their ends mean (`0 = as corrupted,
    1 = as clean`).

    Raises:
        InputError: the values are no real numbers; shape, axes and labels do not fit together; an
            axis is empty, misnamed or named twice; a label stands twice.
    """

    values: Floats
    axes: tuple[str, ...]
    labels: Mapping[str, Sequence[Label]] = field(default_factory=dict)
    name: str = ""
    unit: str = ""
    direction: str = ""

    def __post_init__(self) -> None:
        values, axes = real_numbers(self.values, self.name), plain_axes(self.axes)
        if values.ndim != len(axes):
            raise InputError(
                f"values of shape {values.shape} have {values.ndim} dimensions, but there are "
                f"{len(axes)} axes ({', '.join(axes) or 'none'}); name each dimension"
            )
        if 0 in values.shape:
            empty = axes[values.shape.index(0)]
            raise InputError(f"axis {empty!r} is empty (shape {values.shape}); give it a cell")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "labels", plain_labels(self.labels, axes, values.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of labels along each axis."""
        return self.values.shape

    def numpy(self) -> Floats:
        """The values themselves, not a copy; read-only."""
        return self.values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)

    def __float__(self) -> float:
        if self.axes:
            raise InputError(f"{self!r} is not one number; choose a cell with sel(...)")
        return float(self.values)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis} {n}" for axis, n in zip(self.axes, self.shape, strict=True))
        told = f" in {self.unit}" if self.unit else ""
        told += f" ({self.direction})" if self.direction else ""
        missing = int(np.isnan(self.values).sum())
        if missing == self.values.size:
            told += ": all NaN"
        elif self.axes:
            best = self.top(1)[0]
            low, high = np.nanmin(self.values), np.nanmax(self.values)
            told += f": {low:.3g} to {high:.3g}, largest {best.text} {best.value:+.3g}"
            told += f", {missing} NaN" if missing else ""
        else:
            told += f": {float(self.values):.4g}"
        return f"<LabelledArray {self.name + ' ' if self.name else ''}[{sizes}]{told}>"

    def cells(self) -> Iterator[tuple[dict[str, Label], float]]:
        """Every cell's labels and value, in canonical order (the last axis runs fastest)."""
        places = itertools.product(*(self.labels[axis] for axis in self.axes))
        for place, value in zip(places, self.values.ravel(), strict=True):
            yield dict(zip(self.axes, place, strict=True)), float(value)

    def text_at(self, flat: int) -> tuple[dict[str, Label], str]:
        """The labels and the name of one cell, by its place in canonical order."""
        places = np.unravel_index(flat, self.shape)
        labels = {a: self.labels[a][int(i)] for a, i in zip(self.axes, places, strict=True)}
        return labels, cell_text(labels, self.name)

    def sel(self, /, **labels: Label) -> LabelledArray:
        """The part under these labels; each axis named goes away.

        A number finds a position's label that begins with it: `pos=12` finds `12: John`.

        Raises:
            InputError: an axis or a label is unknown.
        """
        for axis in labels:
            known_axis(axis, self.axes)
        index = tuple(
            place_of(labels[axis], self.labels[axis], axis) if axis in labels else slice(None)
            for axis in self.axes
        )
        return self._with(self.values[index], [axis for axis in self.axes if axis not in labels])

    def sum(self, axis: str | Sequence[str] | None = None) -> LabelledArray:
        """The sum over the axes named (over all by default), NaN cells ignored.

        A sum of nothing but NaN is NaN.

        Raises:
            InputError: an axis is unknown.
        """
        return self._reduced(axis, mean=False)

    def mean(self, axis: str | Sequence[str] | None = None) -> LabelledArray:
        """The mean over the axes named (over all by default) of the cells that are not NaN.

        Raises:
            InputError: an axis is unknown.
        """
        return self._reduced(axis, mean=True)

    def _reduced(self, axis: str | Sequence[str] | None, mean: bool) -> LabelledArray:
        names = self.axes if axis is None else (axis,) if isinstance(axis, str) else tuple(axis)
        over = tuple(self.axes.index(known_axis(name, self.axes)) for name in plain_axes(names))
        there = ~np.isnan(self.values)
        count = there.sum(axis=over)
        # Infinities of both signs sum to NaN, and 0 / 0 is the NaN that is wanted.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            total = np.where(there, self.values, 0.0).sum(axis=over)
            values = total / count if mean else np.where(count > 0, total, np.nan)
        return self._with(values, [name for name in self.axes if name not in names])

    def transpose(self, *axes: str) -> LabelledArray:
        """The same cells with the axes in this order (reversed by default).

        Raises:
            InputError: the names are not exactly the array's own.
        """
        order = axes or self.axes[::-1]
        if sorted(order) != sorted(self.axes):
            raise InputError(
                f"transpose got {', '.join(order)}; name each of {', '.join(self.axes)} once"
            )
        return self._with(self.values.transpose([self.axes.index(a) for a in order]), order)

    def _with(self, values: npt.ArrayLike, axes: Sequence[str]) -> LabelledArray:
        labels = {axis: self.labels[axis] for axis in axes}
        return replace(self, values=np.asarray(values), axes=tuple(axes), labels=labels)

    def top(self, n: int = 10, by: By = "abs") -> list[Ranked]:
        """The `n` largest cells, largest first; NaN is never ranked, ties keep canonical order.

        `by` is "abs" (absolute value), "high" (largest values) or "low" (smallest values).

        Raises:
            InputError: `n` is negative or no integer; `by` is none of the three.
        """
        try:
            count = operator.index(n)
        except TypeError:
            count = -1
        if count < 0:
            raise InputError(f"top got n={n!r}; give how many cells to list, 0 or more")
        return self._ranked(by, -math.inf, count)

    def above(self, threshold: float, by: By = "abs") -> list[Ranked]:
        """All cells whose size is greater than the threshold, ordered as by `top`.

        The size is the absolute value ("abs"), the value ("high") or the negated value ("low", so
        `above(0.1, by="low")` lists values under -0.1).

        Raises:
            InputError: the threshold is NaN; `by` is none of the three.
        """
        if math.isnan(threshold):
            raise InputError("above got the threshold NaN; give a number")
        return self._ranked(by, threshold, None)

    def _ranked(self, by: By, threshold: float, n: int | None) -> list[Ranked]:
        sizes = size_of(self.values.ravel(), by)
        keep = ~np.isnan(sizes) if n is not None else sizes > threshold
        places = np.flatnonzero(keep)
        order = places[np.argsort(-sizes[places], kind="stable")][:n]
        found = []
        for flat in order.tolist():
            labels, text = self.text_at(flat)
            found.append(Ranked(labels, float(self.values.flat[flat]), text))
        return found

    def pandas(self) -> pd.DataFrame | pd.Series[float]:
        """A DataFrame (rows: first axis, columns: second) if 2-D; otherwise a Series."""
        import pandas as pd

        labels = [list(self.labels[axis]) for axis in self.axes]
        if len(self.axes) == 2:
            rows, columns = (
                pd.Index(items, name=axis) for items, axis in zip(labels, self.axes, strict=True)
            )
            return pd.DataFrame(self.values, index=rows, columns=columns)
        if not self.axes:
            return pd.Series([float(self.values)], name=self.name)
        if len(self.axes) == 1:
            return pd.Series(self.values, pd.Index(labels[0], name=self.axes[0]), name=self.name)
        index = pd.MultiIndex.from_product(labels, names=self.axes)
        return pd.Series(self.values.ravel(), index, name=self.name)

    def long(self) -> pd.DataFrame:
        """A tidy DataFrame: one row a cell; a column per axis, then `value` and `name`."""
        import pandas as pd

        rows = [[*labels.values(), value, self.name] for labels, value in self.cells()]
        return pd.DataFrame(rows, columns=[*self.axes, "value", "name"])

    def to_csv(self, path: str | Path) -> None:
        """Write the long table: a column per axis, then `value` (empty if NaN) and `name`.

        Raises:
            InputError: the file cannot be written.
        """
        rows = ([*labels.values(), number(value), self.name] for labels, value in self.cells())
        write_csv(path, [*self.axes, "value", "name"], rows)

    def heatmap(self, **options: Any) -> Heatmap:
        """The array as a picture; options as in `heatmap`."""
        from discover.labelled.figure import heatmap

        return heatmap([self], **options)

    def terminal(self, *, width: int | None = None, color: bool = False) -> str:
        """The array as a table for a terminal; see `discover.labelled.terminal`."""
        from discover.labelled.terminal import terminal

        return terminal(self, width=width, color=color)


def real_numbers(values: Any, name: str = "") -> Floats:
    """The values as a read-only float64 array; no copy if they are one already.

    Raises:
        InputError: they are no real numbers, or do not form an array.
    """
    where = f"the values of {name!r}" if name else "the values"
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{where} do not form an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{where} are of type {array.dtype}; give real numbers")
    view = array.astype(np.float64, copy=False).view(np.ndarray)
    view.flags.writeable = False
    return view


def size_of(values: Floats, by: By) -> Floats:
    """What a ranking goes by: larger is earlier.

    Raises:
        InputError: `by` is none of "abs", "high" and "low".
    """
    if by == "abs":
        return np.abs(values)
    if by == "high":
        return values
    if by == "low":
        return -values
    raise InputError(f"by={by!r} is no ranking; use one of {', '.join(get_args(By))}")


def number(value: float) -> str:
    """A number for CSV that reads back as itself; NaN is an empty field."""
    return "" if math.isnan(value) else repr(value)


def write_csv(path: str | Path, header: Sequence[str], rows: Iterator[list[Any]]) -> None:
    """Write one table as UTF-8 CSV.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    out = csv.writer(text, lineterminator="\n")
    out.writerow(header)
    out.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whose directory must be there already.

    Raises:
        InputError: the directory is missing, or the file cannot be written.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no directory {target.parent}; make it")
    try:
        target.write_bytes(content)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None

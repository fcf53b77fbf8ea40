"""How well an estimate agrees with the exact values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from discover.errors import InputError
from discover.labelled.array import Floats, LabelledArray
from discover.labelled.naming import Label


@dataclass(frozen=True)
class Offender:
    """One cell where the estimate is far off; `text` names it."""

    labels: dict[str, Label]
    text: str
    estimate: float
    exact: float


@dataclass(frozen=True)
class Agreement:
    """An estimate against the exact values, over the `n` cells that have both.

    `spearman` and `pearson` are correlations in [-1, 1] (NaN if either side is constant),
    `mean_absolute_error` is in the values' unit, `sign_agreement` is the share in [0, 1] of the
    `largest` cells by exact absolute value whose sign the estimate has right (cells that are
    exactly 0 have no sign and do not count). `left_out` cells are NaN on either side; `worst` lists
    the largest absolute errors first.
    """

    n: int
    left_out: int
    spearman: float
    pearson: float
    mean_absolute_error: float
    sign_agreement: float
    largest: int
    worst: tuple[Offender, ...]
    unit: str = ""

    def __str__(self) -> str:
        if not self.n:
            return f"No cell has both values ({self.left_out} left out): nothing to compare."
        unit = f" {self.unit}" if self.unit else ""
        text = (
            f"Over {self.n} cells: Spearman {self.spearman:.3f}, Pearson {self.pearson:.3f}, mean "
            f"absolute error {self.mean_absolute_error:.3g}{unit}."
        )
        if self.largest:
            text += (
                f" The sign is right in {self.sign_agreement:.0%} of the {self.largest} largest "
                "exact values."
            )
        if self.worst:
            far = self.worst[0]
            text += f" Farthest off: {far.text} ({far.estimate:.3g}, exactly {far.exact:.3g})."
        if self.left_out:
            text += f" Left out for want of a value: {self.left_out}."
        return text


def agreement(
    estimate: LabelledArray, exact: LabelledArray, worst: int = 10, largest: int | None = None
) -> Agreement:
    """Compare an estimate with the exact values, cell by cell.

    Signs are compared in the `largest` cells: by default a tenth of all, but at least 10.

    Raises:
        InputError: the two arrays have different axes or labels; a count is negative.
    """
    check_alike(estimate, exact)
    if worst < 0 or (largest is not None and largest < 0):
        raise InputError(f"worst={worst} and largest={largest} are counts; give 0 or more")
    x, y = estimate.values.ravel(), exact.values.ravel()
    places = np.flatnonzero(~(np.isnan(x) | np.isnan(y)))
    x, y = x[places], y[places]
    n = len(places)
    with np.errstate(invalid="ignore", over="ignore"):
        # Equal infinities do agree; their difference is NaN.
        errors = np.where(x == y, 0.0, np.abs(x - y))
    signed = np.flatnonzero(y)
    count = max(10, math.ceil(n / 10)) if largest is None else largest
    top = signed[np.argsort(-np.abs(y[signed]), kind="stable")][:count]
    farthest = np.argsort(-errors, kind="stable")[:worst].tolist()
    return Agreement(
        n=n,
        left_out=estimate.values.size - n,
        spearman=pearson(ranks(x), ranks(y)),
        pearson=pearson(x, y),
        mean_absolute_error=float(errors.mean()) if n else math.nan,
        sign_agreement=float((np.sign(x[top]) == np.sign(y[top])).mean()) if len(top) else math.nan,
        largest=len(top),
        worst=tuple(
            Offender(*exact.text_at(int(places[i])), float(x[i]), float(y[i])) for i in farthest
        ),
        unit=exact.unit,
    )


def check_alike(estimate: LabelledArray, exact: LabelledArray) -> None:
    """Refuse two arrays whose cells do not correspond.

    Raises:
        InputError: they have different axes or labels.
    """
    if estimate.axes != exact.axes:
        raise InputError(
            f"axes ({', '.join(estimate.axes)}) and ({', '.join(exact.axes)}) cannot be compared; "
            "bring them in one order with transpose or sum"
        )
    for axis in exact.axes:
        ours, theirs = estimate.labels[axis], exact.labels[axis]
        if len(ours) != len(theirs):
            raise InputError(
                f"axis {axis!r} has {len(ours)} cells in one array and {len(theirs)} in the other; "
                "compare arrays of one shape"
            )
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one != other:
                raise InputError(
                    f"place {place} of axis {axis!r} is {one!r} in one array and {other!r} in the "
                    "other; compare arrays with the same labels"
                )


def ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing the mean of theirs; `Float[n]`."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = (last - (counts - 1) / 2)[place]
    return mean


def pearson(x: Floats, y: Floats) -> float:
    """Pearson's correlation of two `Float[n]`; NaN if either is constant or not finite."""
    if len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return math.nan
    if (x == x[0]).all() or (y == y[0]).all():
        return math.nan
    # Divided by their largest deviation first, so that no square overflows or vanishes.
    x, y = _deviations(x), _deviations(y)
    size = math.sqrt((x @ x) * (y @ y))
    # Values may differ by less than the division can tell.
    return float(np.clip((x @ y) / size, -1, 1)) if size else math.nan


def _deviations(values: Floats) -> Floats:
    values = values / np.abs(values).max()
    values = values - values.mean()
    return values / (np.abs(values).max() or 1.0)

"""From metric values to labelled results."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from discover.labelled import LabelledArray, LabelledList, Results


def single(value: Any) -> Any:
    """A metric's value on its own: a float if it is one number, else as it came."""
    if isinstance(value, Tensor):
        return float(value) if value.ndim == 0 else value.detach()
    return value


def labelled(
    values: Sequence[Any],
    axes: Mapping[str, Sequence[Any]],
    name: str,
    metric: Any = None,
) -> LabelledArray | LabelledList:
    """Values in the order of the axes, the first slowest; numbers become an array.

    A value of None is a cell that cannot be: NaN in an array.
    """
    found = [single(value) for value in values]
    if all(value is None or _is_number(value) for value in found):
        numbers = [np.nan if value is None else float(value) for value in found]
        shape = [len(labels) for labels in axes.values()]
        return LabelledArray(
            np.array(numbers, dtype=np.float64).reshape(shape),
            tuple(axes),
            dict(axes),
            name=name,
            unit=getattr(metric, "unit", ""),
            direction=getattr(metric, "direction", ""),
        )
    labels = [dict(zip(axes, at, strict=True)) for at in itertools.product(*axes.values())]
    return LabelledList(found, tuple(axes), labels, name)


def results(found: Mapping[str, LabelledArray | LabelledList], verbose: bool = False) -> Results:
    """All components together; `verbose` tells the shape of each."""
    if verbose:
        for name, values in found.items():
            sizes = (
                ", ".join(f"{a}={n}" for a, n in zip(values.axes, values.shape, strict=True))
                if isinstance(values, LabelledArray)
                else f"{len(values)} items by {', '.join(values.axes)}"
            )
            tqdm.write(f"results[{name!r}]: {sizes}", file=sys.stderr)
    return Results(dict(found))


@contextlib.contextmanager
def progress(
    total: int, verbose: bool | str, what: str = "patching"
) -> Iterator[Callable[[int], Any]]:
    """A progress bar on stderr, if wanted; gives what to call with how many more are done."""
    with tqdm(total=total, desc=what, disable=not verbose, file=sys.stderr) as bar:
        yield bar.update


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)

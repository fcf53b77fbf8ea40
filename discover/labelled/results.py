"""Several results of one experiment together, and results that are not numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from discover.errors import InputError
from discover.labelled.array import By, LabelledArray, Ranked, number, size_of, write_csv
from discover.labelled.naming import Label, known_axis, plain_axes, plain_label

if TYPE_CHECKING:
    import pandas as pd

    from discover.labelled.figure import Heatmap


class LabelledList(list[Any]):
    """Items in order with one label per axis each: results of a metric that gives no number.

    Raises:
        InputError: there is not one dict of labels per item, or its keys are not the axes.
    """

    def __init__(
        self,
        items: Iterable[Any],
        axes: Sequence[str],
        labels: Sequence[Mapping[str, Label]],
        name: str = "",
    ) -> None:
        super().__init__(items)
        self.axes = plain_axes(axes)
        self.name = name
        if len(labels) != len(self):
            raise InputError(f"{len(self)} items have {len(labels)} dicts of labels; give one each")
        for place, given in enumerate(labels):
            if set(given) != set(self.axes):
                raise InputError(
                    f"item {place} has labels for {', '.join(given) or 'no axes'}; "
                    f"give one for each of {', '.join(self.axes) or 'no axes'}"
                )
        self.labels: list[dict[str, Label]] = [
            {axis: plain_label(given[axis], axis) for axis in self.axes} for given in labels
        ]

    def at(self, /, **labels: Label) -> Any:
        """The one item that has these labels.

        Raises:
            InputError: an axis is unknown; no item has the labels, or several have.
        """
        for axis in labels:
            known_axis(axis, self.axes)
        places = [
            place
            for place, own in enumerate(self.labels)
            if all(own[axis] == label for axis, label in labels.items())
        ]
        if len(places) != 1:
            asked = ", ".join(f"{axis}={label!r}" for axis, label in labels.items())
            raise InputError(
                f"{len(places) or 'no'} items are at {asked or 'no labels'}; name one item by "
                f"labels of {', '.join(self.axes) or 'no axes'}"
            )
        return self[places[0]]

    def pandas(self) -> pd.Series[Any]:
        """A Series of the items as objects, indexed by their labels."""
        import pandas as pd

        index = None
        if len(self.axes) == 1:
            index = pd.Index([own[self.axes[0]] for own in self.labels], name=self.axes[0])
        elif self.axes:
            index = pd.MultiIndex.from_tuples(
                [tuple(own.values()) for own in self.labels], names=self.axes
            )
        # Filled one by one: numpy would take items that are lists for rows of a table.
        items = np.empty(len(self), dtype=object)
        for place, item in enumerate(self):
            items[place] = item
        return pd.Series(items, index, dtype=object, name=self.name)

    def cells(self) -> Iterator[tuple[dict[str, Label], Any]]:
        """Every item's labels and the item."""
        yield from zip(self.labels, self, strict=True)


class Results(Mapping[str, LabelledArray | LabelledList]):
    """Results of several components, in the order given; each takes its key as its name.

    Raises:
        InputError: a value is neither a LabelledArray nor a LabelledList.
    """

    def __init__(self, components: Mapping[str, LabelledArray | LabelledList]) -> None:
        self._components: dict[str, LabelledArray | LabelledList] = {}
        for name, result in components.items():
            if isinstance(result, LabelledArray):
                self._components[name] = replace(result, name=name)
            elif isinstance(result, LabelledList):
                self._components[name] = LabelledList(result, result.axes, result.labels, name)
            else:
                raise InputError(
                    f"the result {name!r} is a {type(result).__name__}; "
                    "give a LabelledArray or a LabelledList"
                )

    def __getitem__(self, name: str) -> LabelledArray | LabelledList:
        return self._components[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._components)

    def __len__(self) -> int:
        return len(self._components)

    def __repr__(self) -> str:
        return f"<Results {', '.join(self) or 'of no components'}>"

    def arrays(self) -> list[LabelledArray]:
        """The components that are numbers, in order."""
        return [found for found in self.values() if isinstance(found, LabelledArray)]

    def top(self, n: int = 10, by: By = "abs") -> list[Ranked]:
        """The `n` largest cells of all components, as `LabelledArray.top`.

        `labels` begins with the component under `name`, and so does `text`.

        Raises:
            InputError: components have different units; see also `LabelledArray.top`.
        """
        return self._merged(lambda array: array.top(n, by), by)[:n]

    def above(self, threshold: float, by: By = "abs") -> list[Ranked]:
        """The cells of all components beyond a threshold, as `LabelledArray.above`.

        Raises:
            InputError: components have different units; see also `LabelledArray.above`.
        """
        return self._merged(lambda array: array.above(threshold, by), by)

    def _merged(self, ranked: Callable[[LabelledArray], list[Ranked]], by: By) -> list[Ranked]:
        one_unit(self.arrays())
        found = [
            Ranked({"name": array.name, **item.labels}, item.value, f"{array.name} {item.text}")
            for array in self.arrays()
            for item in ranked(array)
        ]
        sizes = size_of(np.array([item.value for item in found], dtype=np.float64), by)
        return [found[place] for place in np.argsort(-sizes, kind="stable").tolist()]

    def _axes(self) -> list[str]:
        return list(dict.fromkeys(axis for found in self.values() for axis in found.axes))

    def long(self) -> pd.DataFrame:
        """One tidy DataFrame of all components: a column per axis, then `value` and `name`.

        A component has <NA> under an axis that it lacks.
        """
        import pandas as pd

        axes = self._axes()
        rows = [
            [*(labels.get(axis, pd.NA) for axis in axes), value, name]
            for name, found in self.items()
            for labels, value in found.cells()
        ]
        table = pd.DataFrame(rows, columns=[*axes, "value", "name"])
        for axis in axes:
            # Without this a column with gaps turns layer 9 into 9.0.
            labels = [label for label in table[axis] if label is not pd.NA]
            if len(labels) < len(table) and all(isinstance(label, int) for label in labels):
                table[axis] = table[axis].astype("Int64")
        return table

    def pandas(self) -> pd.DataFrame:
        """The same as `long()`."""
        return self.long()

    def to_csv(self, path: str | Path) -> None:
        """Write the long table of all components; fields without a value are empty.

        Raises:
            InputError: the file cannot be written.
        """
        axes = self._axes()
        rows = (
            [
                *(labels.get(axis, "") for axis in axes),
                number(value) if isinstance(value, float) else value,
                name,
            ]
            for name, found in self.items()
            for labels, value in found.cells()
        )
        write_csv(path, [*axes, "value", "name"], rows)

    def heatmap(self, **options: Any) -> Heatmap:
        """The components that are numbers as facets side by side; options as in `heatmap`.

        Raises:
            InputError: no component is a LabelledArray.
        """
        from discover.labelled.figure import heatmap

        return heatmap(self.arrays(), **options)

    def terminal(self, *, width: int | None = None, color: bool = False) -> str:
        """All components as tables for a terminal; see `discover.labelled.terminal`."""
        from discover.labelled.terminal import terminal

        return terminal(self, width=width, color=color)


def one_unit(arrays: Sequence[LabelledArray]) -> str:
    """The unit that all the arrays share; empty if there are none.

    Raises:
        InputError: they have different units, so their values cannot be compared.
    """
    units = {array.unit: array.name for array in arrays}
    if len(units) > 1:
        told = ", ".join(f"{name} in {unit or 'no unit'!r}" for unit, name in units.items())
        raise InputError(f"values in different units cannot share a scale: {told}; take them apart")
    return next(iter(units), "")

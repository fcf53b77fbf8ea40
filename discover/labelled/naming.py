"""How cells are named: labels along axes, checked, and as text for people."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from discover.errors import InputError

Label = int | str
"""What one place along an axis is called: a layer's number, or a position such as `12: John`."""

RESERVED = ("name", "value")
"""Columns of the long table, so no axis may be called so."""

# The names of nodes and edges that the whole project uses (`discover.graph`).
NODES = {
    frozenset(("layer", "head")): "a{layer}.h{head}",
    frozenset(("layer", "kv_head")): "a{layer}.kv{kv_head}",
    frozenset(("src_layer", "src_head", "layer", "head")): (
        "a{src_layer}.h{src_head}->a{layer}.h{head}"
    ),
}
MLPS = ("mlp_out", "mlp_in", "mlp")


def shown(label: object) -> str:
    """A label as one printable line: control characters are written as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(label)
    )


def cell_text(labels: Mapping[str, Label], name: str = "") -> str:
    """What a cell is called: a node's name where its axes make one, else axis by axis.

    `a9.h6`, `a9.kv1`, `m9`, `a0.h1->a9.h6`; `layer 9, head 6, pos 3: John` otherwise.
    """
    if all(isinstance(label, int) for label in labels.values()):
        if (form := NODES.get(frozenset(labels))) is not None:
            return form.format(**labels)
        if tuple(labels) == ("layer",) and name in MLPS:
            return f"m{labels['layer']}"
    return ", ".join(f"{axis} {shown(label)}" for axis, label in labels.items()) or shown(name)


def plain_label(label: Any, axis: str) -> Label:
    """The label as a plain int or str.

    Raises:
        InputError: it is neither (booleans are neither).
    """
    if isinstance(label, str):
        return str.__str__(label)
    try:
        if isinstance(label, bool):
            raise TypeError
        return operator.index(label)
    except TypeError:
        raise InputError(
            f"axis {axis!r} has the label {label!r}; labels must be integers or strings"
        ) from None


def plain_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """The axes' names, checked.

    Raises:
        InputError: a name is no identifier, is reserved, or stands twice.
    """
    if isinstance(axes, str):
        raise InputError(f"axes is the string {axes!r}; give a tuple of names, as in ({axes!r},)")
    for axis in axes:
        if not isinstance(axis, str) or not axis.isidentifier():
            raise InputError(f"the axis {axis!r} must be named like a variable, as in 'layer'")
        if axis in RESERVED:
            raise InputError(f"no axis can be called {axis!r}: it is a column of the long table")
    if len(set(axes)) != len(axes):
        raise InputError(f"the axes {', '.join(axes)} name one axis twice; names must differ")
    return tuple(axes)


def plain_labels(
    given: Mapping[str, Sequence[Label]], axes: tuple[str, ...], shape: tuple[int, ...]
) -> dict[str, tuple[Label, ...]]:
    """Labels of every axis, integers from 0 where none are given.

    Raises:
        InputError: an axis is unknown or empty; labels are too many or too few, repeated, or of a
            wrong type.
    """
    for axis in given:
        known_axis(axis, axes)
    return {
        axis: _one_axis(given[axis], axis, size) if axis in given else tuple(range(size))
        for axis, size in zip(axes, shape, strict=True)
    }


def _one_axis(given: Sequence[Label], axis: str, size: int) -> tuple[Label, ...]:
    if isinstance(given, str):
        raise InputError(f"the labels of axis {axis!r} are one string; give a list of labels")
    labels = tuple(plain_label(label, axis) for label in given)
    if len(labels) != size:
        raise InputError(f"axis {axis!r} has {size} cells but {len(labels)} labels; give one each")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise InputError(
            f"axis {axis!r} has the label {twice!r} twice; make labels differ, as in '3: John'"
        )
    return labels


def known_axis(axis: str, axes: Sequence[str]) -> str:
    """The axis, if there is one of that name.

    Raises:
        InputError: there is none; the message names those there are.
    """
    if axis not in axes:
        raise InputError(f"there is no axis {axis!r}; {said(axes, 'the axes are', 'no axes')}")
    return axis


def place_of(label: Any, labels: Sequence[Label], axis: str) -> int:
    """Where a label stands on its axis; 12 finds `12: John` too.

    Raises:
        InputError: there is no such label; the message names those there are.
    """
    wanted = plain_label(label, axis)
    for place, found in enumerate(labels):
        if found == wanted:
            return place
    for place, found in enumerate(labels):
        if isinstance(wanted, int) and str(found).startswith(f"{wanted}: "):
            return place
    raise InputError(
        f"axis {axis!r} has no label {label!r}; {said(labels, 'its labels are', 'no labels')}"
    )


def said(items: Sequence[object], opening: str, none: str) -> str:
    """A list for an error message, long ones shortened."""
    if not items:
        return f"it has {none}"
    texts = [repr(item) for item in items]
    if len(texts) > 12:
        texts = [*texts[:9], "...", texts[-1]]
    return f"{opening} {', '.join(texts)}"

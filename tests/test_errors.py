"""The exception tree is the one that its docstring draws, with the documented exit codes."""

from __future__ import annotations

import inspect
import re

import pytest

from discover import errors

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, Exception)
}


def drawn_tree() -> dict[str, str | None]:
    """Each class of the docstring's drawing with the class that it hangs from."""
    assert errors.__doc__ is not None
    parents: dict[str, str | None] = {}
    branch: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        if found := re.match(r"[ │├└─]{4,}([A-Z]\w+)  ", line):
            depth = found.start(1)
            branch = [node for node in branch if node[0] < depth]
            parents[found[1]] = branch[-1][1] if branch else None
            branch.append((depth, found[1]))
    return parents


def test_the_docstring_draws_the_real_tree():
    real = {
        name: None if kind.__base__ is Exception else kind.__base__.__name__
        for name, kind in CLASSES.items()
    }
    assert drawn_tree() == real


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_wrong_input_exits_with_2_and_everything_else_with_3(kind):
    assert kind.exit_code == (2 if issubclass(kind, errors.InputError) else 3)
    assert str(kind("what, where, what to do")) == "what, where, what to do"
    assert kind.__doc__

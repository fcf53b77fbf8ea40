"""Imports point only upward in the list of modules, and what needs no torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import discover

PACKAGE = Path(discover.__file__).parent

# From the bottom up: a module may import those before it, and its own package, but none after it.
# The loop of `acdc` is pure and comes before `spec`, which takes its rule for tau from there;
# `planted` is models in plain numpy, which its task must know;
# `catalogue` only lists known models, so the command line can show them without torch; `loading`
# (weights and tokenizers of others) and `tracr` (compiled programs) are what `model` is built on;
# `report` prints what `run` does; `working` takes submitted runs and runs them, `page` is
# what a browser shows, `service` hands both out over HTTP.
RANKS = """
    errors interrupts tolerance sizes graph circuit order acdc thresholds spec methods prompts
    labelled planted tasks catalogue canonical loading tracr anatomy metrics capability model
    ablation patching
    attribution evaluation export store costs storedfiles session scoring exploring run sweep
    evaluating variation report finished working page service cli __main__
""".split()

NO_TORCH = """
    errors interrupts tolerance sizes graph circuit order acdc thresholds spec methods prompts
    labelled planted tasks catalogue canonical export store costs report finished page service cli
    __main__
""".split()


def imported(source: str) -> Iterator[str]:
    """Every module that a source imports at any depth, as an absolute dotted name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layers(source: str) -> set[str]:
    """The parts of `discover` that a source imports."""
    dotted = [name.split(".") for name in imported(source)]
    parts = {name[1] for name in dotted if name[0] == "discover" and len(name) > 1}
    return {part for part in parts if part in RANKS or is_module(part)}


def is_module(part: str) -> bool:
    return (PACKAGE / f"{part}.py").exists() or (PACKAGE / part / "__init__.py").exists()


def sources() -> dict[str, str]:
    """Each file of the package, by its path in it."""
    return {p.relative_to(PACKAGE).as_posix(): p.read_text("utf-8") for p in PACKAGE.rglob("*.py")}


def layer_of(path: str) -> str:
    return path.split("/", maxsplit=1)[0].removesuffix(".py")


SOURCES = sources()
PUBLIC = set(discover.__all__) - {"__version__"}


def test_imports_are_seen_wherever_and_however_they_are_written():
    source = """
import discover.graph, os
from discover import __version__, spec as settings
from discover.store.sql import Store
if TYPE_CHECKING:
    from discover.run import run
def lazily():
    import discover.cli as cli
"""
    assert layers(source) == {"graph", "spec", "store", "run", "cli"}


def test_every_module_has_its_place_in_the_list():
    assert {layer_of(path) for path in SOURCES} - {"__init__"} <= set(RANKS)
    assert "graph.py" in SOURCES
    assert "store/sql.py" in SOURCES


@pytest.mark.parametrize("path", SOURCES)
def test_imports_point_only_upward(path):
    assert not [name for name in imported(SOURCES[path]) if name.startswith(".")]
    own = layer_of(path)
    # The package's own file hands out names of all layers, each loaded when it is used.
    allowed = set(RANKS) if own == "__init__" else {*RANKS[: RANKS.index(own)], own}
    assert layers(SOURCES[path]) <= allowed


@pytest.mark.parametrize("path", sorted(set(SOURCES) - {"__init__.py"}))
def test_no_module_takes_a_name_of_another_layer_from_the_package(path):
    names = {name for name in imported(SOURCES[path]) if name.startswith("discover.")}
    assert not {name.removeprefix("discover.") for name in names} & PUBLIC


def test_only_model_imports_transformer_lens():
    users = {
        path
        for path, source in SOURCES.items()
        if any(name.split(".")[0] == "transformer_lens" for name in imported(source))
    }
    assert {layer_of(path) for path in users} == {"model"}


def test_what_needs_no_torch_imports_none():
    modules = sorted(
        "discover." + path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for path in SOURCES
        if layer_of(path) in NO_TORCH
    )
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "    if 'torch' in sys.modules: sys.exit(module + ' imports torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

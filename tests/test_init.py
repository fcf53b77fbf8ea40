"""The names that a notebook needs, from `discover` itself."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import discover


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def for_type_checkers() -> dict[str, str]:
    """Each name that type checkers see, and the module that they see it in."""
    tree = ast.parse(Path(discover.__file__).read_text("utf-8"))
    block = next(
        part
        for part in tree.body
        if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"
    )
    return {
        alias.asname: part.module
        for part in block.body
        if isinstance(part, ast.ImportFrom)
        for alias in part.names
        if alias.asname == alias.name
    }


@pytest.mark.parametrize("name", sorted(set(discover.__all__) - {"__version__"}))
def test_every_public_name_is_that_of_the_module_that_type_checkers_see(name):
    assert getattr(discover, name) is getattr(
        importlib.import_module(for_type_checkers()[name]), name
    )
    assert name in dir(discover)


def test_type_checkers_see_no_more_and_no_name_hides_a_module():
    assert set(for_type_checkers()) == set(discover.__all__) - {"__version__"}
    folder = Path(discover.__file__).parent
    modules = {path.stem for path in folder.iterdir()}
    assert "graph" in modules
    assert not modules & set(discover.__all__)


def test_what_a_patching_notebook_needs_is_there():
    wanted = (
        "act_patch path_patch Node IterNode load_model direct_paths patch_heads attribution_patch "
        "block_every make_inputs clean_inputs corrupted_inputs run_with_cache denoising noising "
        "logit_difference kl_divergence task_prompts"
    )
    assert set(wanted.split()) <= set(discover.__all__)


def test_importing_discover_loads_nothing_until_a_name_is_used():
    code = "import sys, discover; discover.__version__; dir(discover); print('torch' in sys.modules"
    assert python(f"{code}, 'numpy' in sys.modules)") == "False False"
    assert python("import sys, discover; discover.load_model; print('torch' in sys.modules)") == (
        "True"
    )


def test_an_unknown_name_is_an_attribute_error_and_submodules_still_import():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = discover.nonsense
    assert python("from discover import run; print(run.__name__)") == "discover.run"

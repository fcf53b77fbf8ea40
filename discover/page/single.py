"""One HTML file that holds the viewer, its libraries and its data, and asks for nothing else.

Browsers load no modules from a file on disk, so the viewer's own modules are put into one script,
each in a function of its own. Every script's SHA-256 stands in the file's content security policy,
which allows no other and no request: text that found a way to be read as HTML would do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html as escaping
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from discover.errors import RunError

STATIC = Path(__file__).parent / "static"
"""The page's own files, as a server hands them out."""

_IMPORT = re.compile(r'^import (?:(\{[^}]*\}) from )?"\./([^"]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async function|function|class|const) (\w+))", re.MULTILINE)
_HAND_ON = re.compile(r"^export \{([^}]*)\};\n", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<div class="page">
<header id="head"></header>
<noscript><p>This file draws its circuit with JavaScript, which is switched off here.</p></noscript>
<main id="viewer"></main>
<footer id="about">
<h2>How this circuit was found</h2>
<p>Edges were decided one by one by exact path patching (ACDC, arXiv 2304.14997), from the logits
down: an edge is kept if ablating it, with everything decided before it ablated too, raises the
damage by tau or more. An edge's score is that rise. Made with discover; this file asks for
nothing outside itself.</p>
</footer>
</div>
<script type="application/json" id="view">{data}</script>
{scripts}
</body>
</html>
"""


def html(view: dict[str, Any]) -> bytes:
    """The view as one HTML file (UTF-8) that works from disk and without a network.

    `view` is what `discover.page.data` makes.
    """
    libraries, program = _scripts()
    scripts = [f"<script>{source}</script>" for source in libraries]
    scripts.append(f'<script type="module">{program}</script>')
    allowed = " ".join(f"'sha256-{_digest(source)}'" for source in (*libraries, program))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    run = view["run"]
    title = " in ".join(str(run[key]) for key in ("task", "model") if run.get(key)) or "A circuit"
    return _PAGE.format(
        policy=policy,
        title=escaping.escape(title),
        style=_style(),
        data=embedded(view),
        scripts="\n".join(scripts),
    ).encode("utf-8", errors="replace")


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: no character of it can end or open anything."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    # ensure_ascii has escaped all else, U+2028 and lone surrogates among it.
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(source: str) -> str:
    return base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")


@cache
def _style() -> str:
    return "\n".join(_read(name) for name in ("circuit.css", "single.css"))


@cache
def _scripts() -> tuple[tuple[str, ...], str]:
    """The libraries, and the viewer's modules as one script."""
    order = _modules("single.js", [])
    libraries = tuple(_read(name) for name in order if name.startswith("vendor/"))
    program = "\n".join(_wrapped(name) for name in order if not name.startswith("vendor/"))
    for source in (*libraries, program):
        if re.search(r"</script|<!--", source, re.IGNORECASE):
            raise RunError("a script of the page holds </script or <!--, which would end it early")
    return libraries, program


def _read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _modules(name: str, found: list[str]) -> list[str]:
    """The module and all that it imports, what is imported before what imports it."""
    if name not in found and not name.startswith("vendor/"):
        for match in _IMPORT.finditer(_read(name)):
            _modules(match[2], found)
    if name not in found:
        found.append(name)
    return found


def _wrapped(name: str) -> str:
    """A module as a function called at once, which takes and returns what it imports and exports.

    Raises:
        RunError: the module imports or exports in a way that is not known here.
    """
    source = _read(name)
    taken = [
        f"const {names.replace(' as ', ': ')} = {_variable(path)};"
        for names, path in _IMPORT.findall(source)
        if names
    ]
    body = _IMPORT.sub("", source)
    given = _EXPORT.findall(body)
    for names in _HAND_ON.findall(body):
        given += [part.strip() for part in names.split(",") if part.strip()]
    body = _HAND_ON.sub("", _EXPORT.sub("", body))
    if strange := _LEFT_OVER.search(body):
        raise RunError(f"{name} cannot be put into one file: {strange[0]!r} is not understood")
    lines = [f"const {_variable(name)} = (() => {{", *taken, body.strip()]
    return "\n".join([*lines, f"return {{ {', '.join(given)} }};", "})();"])


def _variable(name: str) -> str:
    return "$" + name.removesuffix(".js").replace("/", "_").replace("-", "_")

"""DOT to SVG, PDF and PNG by the Graphviz that pygraphviz brings, with a font of our own.

Without any font on the machine Graphviz draws boxes for letters (PNG) or none at all (PDF), and
with different fonts on two machines the same figure differs. So a small font comes along; the
machine's own fonts serve only letters that it lacks.

Graphviz runs in a process of its own: fontconfig is configured through the environment, once in a
process; Graphviz is not safe under threads; and C code that fails should not take a server along.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

from discover.errors import RunError

FONTS = Path(__file__).resolve().parent.parent / "fonts"

TIMEOUT = 300
"""Seconds after which drawing is given up; the largest figures take a few."""

_SYSTEM_FONTS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "WINDOWSFONTDIR",
)

_CONFIG = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
{dirs}
<cachedir>{cache}</cachedir>
<cachedir prefix="xdg">fontconfig</cachedir>
<match target="font"><edit name="hinting" mode="assign"><bool>false</bool></edit></match>
</fontconfig>
"""

_WORKER = """
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode("utf-8"))
if sys.argv[1] == "png":
    graph.graph_attr["dpi"] = sys.argv[2]
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="nop2"))
"""


def draw(dot: str, fmt: str, dpi: int = 72) -> bytes:
    """Render DOT text that carries its coordinates to svg, pdf or png.

    Raises:
        RunError: Graphviz failed or gave nothing.
    """
    with tempfile.TemporaryDirectory(prefix="discover-") as folder:
        # -P: nothing in the working directory may stand in for a module.
        command = [sys.executable, "-P", "-c", _WORKER, fmt, str(dpi)]
        try:
            done = subprocess.run(
                command,
                input=dot.encode("utf-8"),
                env=_environment(Path(folder)),
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise RunError(f"Graphviz could not be run to draw the {fmt}: {error}") from error
    if done.returncode or not done.stdout:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = told[-1] if told else f"it ended with code {done.returncode}"
        raise RunError(f"Graphviz could not draw the figure as {fmt}: {reason}")
    return _undated(done.stdout) if fmt == "pdf" else done.stdout


def _environment(folder: Path) -> dict[str, str]:
    """The environment that makes fontconfig know our font and Python our packages."""
    dirs = "\n".join(f"<dir>{escape(d)}</dir>" for d in (str(FONTS), *_SYSTEM_FONTS))
    config = folder / "fonts.conf"
    cache = escape(str(folder / "cache"))
    config.write_text(_CONFIG.format(dirs=dirs, cache=cache), encoding="utf-8")
    paths = os.pathsep.join(path for path in sys.path if path)
    return os.environ | {"FONTCONFIG_FILE": str(config), "PYTHONPATH": paths}


def _undated(pdf: bytes) -> bytes:
    """The PDF without the time of its making: the same figure is the same file."""
    return re.sub(rb"/CreationDate \(D:\d{14}", b"/CreationDate (D:20000101000000", pdf)

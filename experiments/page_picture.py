"""Draw the picture of the page for the README: a run's circuit in a real Chromium.

    python experiments/page_picture.py --output docs/images/page.png

Searches `--model` on `--task` in a database of its own (or shows a run of `--db`), serves the page
and takes a screenshot of 1400 x 900 pixels. Needs the extras `serve` and `dev`, and a Chromium.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from browser import ARGUMENTS, find_chromium
from playwright.sync_api import Page, sync_playwright
from serving import Served, served

SIZE = {"width": 1680, "height": 1080}
SCALE = 1400 / 1680
"""A browser's window on a desk, drawn at 1400 x 900 pixels."""


def main() -> None:
    """Serve, wait for the run, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny-ioi")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--metric", default="kl")
    parser.add_argument("--tau", type=float, default=0.002)
    parser.add_argument("--state", default="", help="The view, as a link to it has it.")
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--output", type=Path, default=Path("docs/images/page.png"))
    given = parser.parse_args()
    program = find_chromium()
    if program is None:
        raise SystemExit("there is no Chromium here; install one or set DISCOVER_CHROMIUM")
    body = {name: getattr(given, name) for name in ("model", "task", "prompts", "metric", "tau")}
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        run = finished(server, body | {"note": "which heads move the name?"})
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            page = chromium.new_page(
                viewport=SIZE, device_scale_factor=SCALE, color_scheme=given.scheme
            )
            take(page, f"{server.url}#/runs/{run['id']}?{given.state}", given.output)
            chromium.close()
    shrink(given.output)
    print(f"wrote {given.output}, {given.output.stat().st_size:,} bytes")


def finished(server: Served, body: dict[str, Any]) -> dict[str, Any]:
    """The run, once it is done."""
    run = server.wait(server.ask("POST", "runs", body)["id"], seconds=3600)
    if run["status"] != "done":
        raise SystemExit(f"the run is {run['status']}: {run['error']}")
    return run


def take(page: Page, url: str, output: Path) -> None:
    """A screenshot once the circuit is drawn."""
    page.goto(url)
    page.locator(".circuit-notes", has_text=re.compile("kept edges shown")).wait_for()
    time.sleep(1.0)
    page.screenshot(path=output)


def shrink(output: Path) -> None:
    """A palette of 256 colours says all that the page shows, in a third of the bytes."""
    try:
        from PIL import Image
    except ImportError:
        return
    with Image.open(output) as picture:
        small = picture.convert("RGB").quantize(256)
    small.save(output, optimize=True)


if __name__ == "__main__":
    main()

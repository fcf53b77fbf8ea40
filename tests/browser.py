"""A real Chromium for the tests: the one that is on this machine; none is ever downloaded here.

`python tests/browser.py` installs Debian's, where that can be done without asking anyone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from missing import skip_or_fail

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

ARGUMENTS = [
    "--no-sandbox",  # Chromium has none for root, which CI runs as
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names resolve to nothing but this machine: what a page asks of others fails, and is noticed.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
]

OWN_HOSTS = ("127.0.0.1", "localhost", "::1")
LOCAL_SCHEMES = ("file", "data", "blob", "about")


def find_chromium() -> Path | None:
    """The browser that DISCOVER_CHROMIUM names, or else one that is installed; None without.

    Raises:
        FileNotFoundError: DISCOVER_CHROMIUM names no program.
    """
    if given := os.environ.get("DISCOVER_CHROMIUM"):
        found = shutil.which(given)
        if found is None:
            raise FileNotFoundError(f"DISCOVER_CHROMIUM is {given!r}, which is no program")
        return Path(found)
    for name in (*NAMES, *MAC):
        if found := shutil.which(name):
            return Path(found)
    return None


class Watch:
    """What went wrong in a test's pages: errors on the console, requests to other machines."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self._allowed: list[re.Pattern[str]] = []

    def allow(self, pattern: str) -> None:
        """Let pass console errors that match, such as the one about an answer 422 asked for."""
        self._allowed.append(re.compile(pattern))

    def attach(self, page: Page) -> None:
        """Watch a page from now on."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            at = message.location
            self.errors.append(f"{message.text} ({at.get('url')}:{at.get('lineNumber')})")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in LOCAL_SCHEMES and parts.hostname not in OWN_HOSTS:
            self.foreign.append(request.url)

    def problems(self) -> list[str]:
        """All that was not to be, one line each."""
        bad = [e for e in self.errors if not any(p.search(e) for p in self._allowed)]
        return [f"console: {e}" for e in bad] + [f"foreign request: {url}" for url in self.foreign]


# One a module, not one a session: while Playwright is open its event loop runs in this thread,
# and tests elsewhere that start one of their own would fail.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        skip_or_fail("browser", f"the Python package playwright cannot be imported ({error})")
    program = find_chromium()
    if program is None:
        skip_or_fail(
            "browser",
            f"none of {', '.join(NAMES)} is installed; install one or set DISCOVER_CHROMIUM",
        )
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def watch() -> Watch:
    """The watch over this test's pages; `watch.allow(pattern)` lets an expected error pass."""
    return Watch()


@pytest.fixture
def new_page(browser: Browser, watch: Watch) -> Iterator[Callable[..., Page]]:
    """Open a page in a context of its own, with Playwright's options for one (viewport, ...).

    The test fails at its end if a page reported an error or asked another machine for something.
    """
    contexts = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.on("page", watch.attach)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()
    assert watch.problems() == []


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """A page of laptop size in a context of its own, watched."""
    return new_page(viewport={"width": 1280, "height": 800})


def install() -> None:
    """Install Debian's Chromium where root can do so with apt-get; anything else is left alone."""
    if find_chromium() is not None:
        return
    apt = shutil.which("apt-get")
    if apt is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        print("no Chromium here: the tests of the page will be skipped", file=sys.stderr)
        return
    print("installing Chromium for the tests of the page ...")
    for words in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
        try:
            done = subprocess.run(
                [apt, "-q", *words], check=False, text=True, capture_output=True, timeout=900,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"apt-get {words[0]} took too long and was stopped", file=sys.stderr)
            return
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip() or "?").splitlines()[-1]
            print(f"apt-get {words[0]} failed ({last})", file=sys.stderr)


if __name__ == "__main__":
    install()

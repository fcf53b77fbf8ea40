"""What the tests of the page look for, and how they wait for it."""

from __future__ import annotations

import re
import time

HOSTILE = "<img src=x onerror=\"document.title='broken into'\"></script><b>note</b>"
SMALL = {"model": "tiny-ioi", "task": "ioi", "prompts": 4}


def sees(page, selector, text=None, timeout=15_000):
    """The first element that matches, once it is visible."""
    found = page.locator(selector, has_text=text) if text else page.locator(selector)
    found.first.wait_for(timeout=timeout)
    return found.first


def until(page, condition, argument=None, seconds=15):
    """Wait for JavaScript to be true; Playwright's own way needs eval, which the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition, argument):
        assert time.monotonic() < end, f"not true after {seconds} s: {condition} ({argument})"
        page.wait_for_timeout(50)


def says(page, text):
    """Wait for a text anywhere on the page."""
    until(page, "text => document.body.innerText.includes(text)", text)


def row(page, run):
    return sees(page, f'tr[data-run="{run["id"]}"]')


def fits(page):
    """Whether the page has no horizontal scroll."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def shown_edges(page):
    """How many edges the viewer says it shows, and of how many."""
    text = sees(page, ".circuit-notes", re.compile("edges .*shown")).inner_text()
    found = re.search(r"([\d,]+) of ([\d,]+) .*edges .*shown", text)
    return tuple(int(part.replace(",", "")) for part in found.groups())


def clear(server):
    """Take every run off a server that has no worker."""
    for run in server.ask("GET", "runs?limit=200")["items"]:
        if run["status"] == "queued":
            server.ask("POST", f"runs/{run['id']}/cancel")
        server.ask("DELETE", f"runs/{run['id']}")

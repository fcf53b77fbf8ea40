"""Markup in every string that a person can give, driven through every view of the page."""

from __future__ import annotations

import json

import pytest
from browser import browser, new_page, page, watch
from helpers_page import sees, until
from serving import served

from discover.store import Store

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from helpers_service import GRAPH, decisions, finish

from discover.evaluation.figures import Measurement
from discover.spec import RunSpec

__all__ = ["browser", "new_page", "page", "watch"]

FIELDS = ("model", "file", "note", "version", "prompt", "answer", "error", "sweep", "subject",
          "measure", "unit", "setting", "worker", "host", "device")  # fmt: skip


def markup(field: str) -> str:
    """What would run in a page that took it for markup, in attributes, scripts and tags."""
    cry = f"window.broken=(window.broken||[]).concat('{field}')"
    return f'"\'><img class=alien src=x onerror="{cry}"></script><script>{cry}</script>'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A server without a worker, and two done runs, a failed one and a sweep that all attack."""
    with served(tmp_path_factory.mktemp("hostile"), "--no-worker") as running:
        with Store.open(str(running.database)) as store:
            ids = [stored(store, tau) for tau in (0.02, 0.04)]
            store.finish(stored(store, 0.08), "failed", error=markup("error"))
            spec = store.run(ids[0]).spec
            sweep = store.add_sweep(spec, [(0.02, ids[0]), (0.04, ids[1])], markup("sweep"))
            store.add_worker(
                markup("worker"), host=markup("host"), pid=1, device=markup("device"), lease=600
            )
            figure = Measurement(markup("subject"), markup("measure"), 0.5, markup("unit"), 0.25, 1)
            known = Measurement("circuit", "faithfulness", 0.5, markup("unit"), 0.25, 1)
            store.add_evaluation(
                ids[0], circuit_hash=store.run(ids[0]).circuit_hash or "", prompts_jsonl="{}",
                settings={markup("setting"): markup("setting"), "task": markup("setting")},
                versions={}, seconds=1.0, measurements=[figure, known],
            )  # fmt: skip
        yield running, ids, sweep


def stored(store: Store, tau: float) -> str:
    pair = {"clean": markup("prompt"), "corrupted": markup("prompt"),
            "correct": markup("answer"), "incorrect": [markup("answer")]}  # fmt: skip
    given = RunSpec(model=markup("model"), prompts_file=f"/x/{markup('file')}", tau=tau, prompts=1)
    run_id = store.create_run(
        given, graph=GRAPH, engine="exact", versions={markup("version"): markup("version")},
        prompts_jsonl=json.dumps(pair),
    )  # fmt: skip
    store.start(run_id)
    with store.writer(run_id) as writer:
        for decision in decisions(GRAPH, 3 if tau < 0.03 else 2):
            writer.add(decision)
    finish(store, run_id)
    store.set_note(run_id, markup("note"))
    return run_id


def unharmed(page) -> None:
    """No string became an element, and none of what they hold has run."""
    page.wait_for_timeout(200)  # a picture that cannot be had takes its time to fail
    assert page.evaluate("window.broken || []") == []
    assert page.locator(".alien").count() == 0


def test_markup_in_any_field_is_text_in_every_view(hostile, page):
    running, (one, two), sweep = hostile
    seen = ""
    for view in ("runs", "sweeps", f"sweeps/{sweep}", f"runs/{one}", f"compare/{one}/{two}"):
        page.goto("about:blank")
        page.goto(f"{running.url}#/{view}")
        sees(page, "h1")
        until(page, "document.querySelector('main').innerText.includes('alien')")
        # All that opens is opened: prompts, figures, versions, tables.
        for _ in range(3):  # what opens loads more
            page.evaluate("document.querySelectorAll('main details').forEach(d => (d.open = true))")
            page.wait_for_timeout(300)
        unharmed(page)
        seen += page.evaluate(
            "document.body.innerText + [...document.querySelectorAll('main [title]')]"
            ".map(e => e.title).join(' ')"
        )
    page.goto(f"{running.url}#/runs?status=failed")
    until(page, "document.querySelector('main').innerText.includes('alien')")
    page.locator("tr[data-run] a").first.click()
    sees(page, ".notice.error")
    unharmed(page)
    seen += page.inner_text("body")
    there = {field for field in FIELDS if f"concat('{field}')" in seen}
    assert there >= {"model", "file", "note", "prompt", "answer", "error", "sweep", "subject"}, (
        there
    )


def test_markup_in_an_address_is_text(hostile, page, watch):
    watch.allow("status of 4")
    running, (one, _), _ = hostile
    bad = "%22%3E%3Cimg%20class=alien%20src=x%20onerror=window.broken=[1]%3E"
    for view in (f"runs/{bad}", f"{bad}", f"runs?search={bad}&model={bad}", f"sweeps/{bad}",
                 f"compare/{bad}/{bad}", f"runs/{one}?threshold={bad}&node={bad}&edge={bad}",
                 f"submit?model={bad}&task={bad}"):  # fmt: skip
        page.goto("about:blank")
        page.goto(f"{running.url}#/{view}")
        sees(page, "h1")
        page.wait_for_timeout(300)
        unharmed(page)


def test_markup_in_any_field_is_text_in_the_exported_file(hostile, page, tmp_path):
    running, (one, _), _ = hostile
    page.goto(f"{running.url}#/runs/{one}")
    with page.expect_download() as waiting:
        page.locator(".downloads a[href*='export/html']").click()
    file = tmp_path / "circuit.html"
    waiting.value.save_as(file)
    page.goto(file.as_uri())
    page.wait_for_selector(".circuit-counts:not(:empty)")
    page.evaluate("document.querySelectorAll('details').forEach(d => (d.open = true))")
    page.wait_for_timeout(300)
    unharmed(page)
    said = page.inner_text("body")
    assert {field for field in FIELDS if f"concat('{field}')" in said} >= {"model", "note"}

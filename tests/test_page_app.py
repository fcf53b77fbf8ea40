"""The page's main paths in a real Chromium, against a real server and its worker."""

from __future__ import annotations

import json
import re

import pytest
from browser import browser, new_page, page, watch
from helpers_page import HOSTILE, SMALL, fits, row, says, sees, shown_edges, until
from serving import served

from discover.evaluation.figures import Measurement
from discover.store import Store

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

__all__ = ["browser", "new_page", "page", "watch"]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A server with a worker."""
    with served(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def sweep(service):
    """A finished sweep of four runs."""
    made = service.ask("POST", "sweeps", {**SMALL, "taus": [0.005, 0.02, 0.1, 0.5]})
    for run in made["runs"]:
        assert service.wait(run["run"])["status"] == "done"
    return service.ask("GET", f"sweeps/{made['id']}")


def test_submit_by_form_watch_thin_and_download(service, page):
    page.goto(f"{service.url}#/submit")
    page.get_by_label("Model", exact=True).select_option("tiny-ioi")
    assert page.get_by_label("Task", exact=True).input_value() == "ioi"
    page.get_by_label("Task option: corruption").select_option("flipped")
    page.get_by_label("Number of prompts").fill("6")
    page.get_by_label("Tau", exact=True).fill("0.01")
    page.get_by_label("Note").fill(HOSTILE)
    page.get_by_role("button", name="Submit the run").click()
    page.wait_for_url(re.compile(r"#/runs/[0-9a-f]{16}"))
    run_id = re.search(r"#/runs/([0-9a-f]{16})", page.url)[1]

    # The page gets there by itself, from queued to done.
    sees(page, ".title .status", "done", timeout=60_000)
    run = service.ask("GET", f"runs/{run_id}")
    assert run["spec"]["task_options"] == {"corruption": "flipped"} and run["prompts"] == 6
    assert f"{run['kept']} of {run['edges']}" in sees(page, ".facts").inner_text()
    assert sees(page, "p.note").inner_text() == HOSTILE
    assert page.locator("main img").count() == 0 and "broken" not in page.title()
    assert shown_edges(page) == (run["kept"], run["kept"])

    kept = service.ask("GET", f"runs/{run_id}/decisions?outcome=kept")["items"]
    middle = sorted(row["score"] for row in kept)[len(kept) // 2]
    field = page.locator('.circuit input[type="number"], .circuit input[inputmode="decimal"]').first
    field.fill(str(middle))
    field.press("Enter")
    wanted = sum(row["score"] >= middle for row in kept)
    says(page, f"{wanted} of {len(kept)} kept edges shown")
    # The address has the view, and restores it.
    until(page, "location.hash.includes('threshold=')")
    page.reload()
    says(page, f"{wanted} of {len(kept)} kept edges shown")

    downloads(page, service, run)


STARTS = {
    "DOT": b"digraph", "SVG": b"<?xml", "PDF": b"%PDF", "PNG": b"\x89PNG", "JSON": b"{",
    "GRAPHML": b"<", "HTML (one file)": b"<!", "Prompts": b"{",
}  # fmt: skip


def downloads(page, service, run):
    """Every format comes as a file, of this very circuit."""
    links = page.locator(".downloads a")
    names = links.all_inner_texts()
    assert set(names) == set(STARTS)
    for index, name in enumerate(names):
        with page.expect_download() as coming:
            links.nth(index).click()
        content = coming.value.path().read_bytes()
        assert content.lstrip()[:10].lower().startswith(STARTS[name][:9].lower()), (
            name,
            content[:60],
        )
        assert run["id"][:8] in coming.value.suggested_filename, coming.value.suggested_filename
        if name == "JSON":
            assert json.loads(content)["circuit_hash"] == run["circuit_hash"]


def test_a_run_is_shown_as_it_goes_on(service, page):
    page.goto(f"{service.url}#/runs")
    sees(page, "h1", "Runs")
    run = service.ask(
        "POST", "runs", {**SMALL, "prompts": 40, "tau": 0.001, "metric": "logit_diff"}
    )
    line = row(page, run)
    # The row stays the same element through every change of its content, and keeps the focus.
    line.evaluate("element => { element.mark = 'same'; }")
    page.get_by_label(f"Choose run {run['id'][:8]}").focus()
    service.wait(run["id"])
    sees(page, f'tr[data-run="{run["id"]}"] .status', "done")
    assert row(page, run).evaluate("element => element.mark") == "same"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Choose")
    done = service.ask("GET", f"runs/{run['id']}")
    assert f"{done['kept']}" in row(page, run).inner_text()
    assert "logits" in row(page, run).locator('[data-name="Damage"]').inner_text()


def test_two_runs_are_compared(service, sweep, page):
    left, right = sweep["runs"][0], sweep["runs"][-1]
    found = service.ask("GET", f"compare?left={left['id']}&right={right['id']}")
    page.goto(f"{service.url}#/runs?sweep={sweep['id']}")
    for run in (left, right):
        row(page, run)
        page.get_by_label(f"Choose run {run['id'][:8]}").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(f"**#/compare/{left['id']}/{right['id']}")
    cells = sees(page, "table", "Overlap").locator("tbody tr").first.locator("td").all_inner_texts()
    edges = found["edges"]
    assert [int(n) for n in cells[1:4]] == [
        edges["shared"],
        edges["only_left"],
        edges["only_right"],
    ]
    assert edges["only_left"] > 0
    assert cells[4] == f"{edges['precision']:.3f}"
    differing = sees(page, "table", "Settings in which").inner_text()
    assert "tau" in differing and "0.005" in differing and "0.5" in differing

    every = edges["shared"] + edges["only_left"] + edges["only_right"]
    assert shown_edges(page) == (every, every)
    page.get_by_label(re.compile("^only run " + left["id"][:8])).first.uncheck()
    said = f"{every - edges['only_left']} of {every} edges of the two circuits shown"
    says(page, said)

    page.get_by_role("button", name="Side by side").click()
    panes = page.locator(".half .circuit")
    panes.nth(1).wait_for()
    # Each pane speaks of its own circuit.
    for pane, circuit in zip((panes.nth(0), panes.nth(1)), ("left", "right"), strict=True):
        number = found[circuit]["edges"]
        said = pane.locator(".circuit-counts").inner_text()
        assert said == f"{number} of {number} edges of {found[circuit]['name']} shown"
    until(page, "location.hash.includes('layout=two')")
    # What is zoomed in one pane is zoomed in the other.
    panes.nth(0).get_by_role("button", name="zoom in").click()
    until(page, "location.hash.includes('zoom=')")
    page.reload()
    page.locator(".half .circuit").nth(1).wait_for()
    sees(page, "summary", f"Only left ({edges['only_left']})").click()
    listed = page.locator("details[open] ul.edges li").all_inner_texts()
    assert len(listed) == edges["only_left"] and all("->" in name for name in listed)


def test_a_run_against_what_is_not_comparable(service, sweep, page, watch):
    watch.allow("status of 4")
    page.goto(f"{service.url}#/compare/{sweep['runs'][0]['id']}/canonical:ioi")
    assert "graph" in sees(page, ".notice.error").inner_text()


def test_a_sweeps_points_open_their_circuits(service, sweep, page):
    page.goto(f"{service.url}#/sweeps")
    sees(page, f'a[href="#/sweeps/{sweep["id"]}"]').click()
    sees(page, "p[role=status]", "4 of 4 runs done")
    rows = page.locator("table tbody tr")
    assert rows.count() == 4
    until(
        page, "Chart.getChart(document.querySelector('canvas'))?.data.datasets[0].data.length === 4"
    )
    points = "Chart.getChart(document.querySelector('canvas')).data.datasets[0].data"
    plotted = page.evaluate(f"{points}.map(p => [p.x, p.y])")
    assert sorted(plotted) == sorted([run["kept"], run["damage"]] for run in sweep["runs"])
    most = max(sweep["runs"], key=lambda run: run["kept"])
    place = page.evaluate(
        """id => { const chart = Chart.getChart(document.querySelector('canvas'));
        const at = chart.data.datasets[0].data.findIndex(p => p.run.id === id);
        const {x, y} = chart.getDatasetMeta(0).data[at]; return {x, y}; }""",
        most["id"],
    )
    page.locator("canvas").click(position=place)
    page.wait_for_url(f"**#/runs/{most['id']}*")
    assert shown_edges(page) == (most["kept"], most["kept"])
    sees(page, f'.facts a[href="#/sweeps/{sweep["id"]}"]').click()
    sees(page, f'tr[data-run="{most["id"]}"] a').click()
    page.wait_for_url(f"**#/runs/{most['id']}*")


def test_filters_and_order_are_in_the_address(service, sweep, page):
    page.goto(f"{service.url}#/runs")
    row(page, sweep["runs"][0])
    page.get_by_label("Search").fill(sweep["runs"][1]["id"])
    until(page, "document.querySelectorAll('tbody tr').length === 1")
    assert sweep["runs"][1]["id"] in page.url
    page.reload()
    until(page, "document.querySelectorAll('tbody tr').length === 1")
    page.get_by_role("button", name="Clear").click()
    page.goto(f"{service.url}#/runs?sweep={sweep['id']}&sort=tau&descending=false")
    ids = [run["id"] for run in sorted(sweep["runs"], key=lambda run: run["tau"])]
    rows = "[...document.querySelectorAll('tbody tr')].map(row => row.dataset.run)"
    order = f"ids => {rows}.join() === ids.join()"
    until(page, order, ids)
    page.get_by_role("button", name="Tau", exact=True).click()
    until(page, order, ids[::-1])
    assert page.locator("th[aria-sort=descending]").inner_text().strip().startswith("Tau")
    page.get_by_label("Status").select_option("failed")
    sees(page, ".empty", "No run is like that")


def test_a_failed_run_says_why(service, page):
    pair = {"clean": "When Mary and John went to the store, John gave a drink to"}
    pair |= {"corrupted": "When Mary", "correct": " Mary", "incorrect": " John"}
    file = {"name": "odd.jsonl", "text": json.dumps(pair)}
    run = service.ask("POST", "runs", {"model": "tiny-ioi", "prompts_file": file, "tau": 0.1})
    page.goto(f"{service.url}#/runs/{run['id']}")
    reason = service.wait(run["id"])["error"]
    said = sees(page, ".notice.error", "It failed:").inner_text()
    for line in reason.splitlines():
        assert re.sub(r"sha256:[0-9a-f]{64}/", "", line).strip() in said
    assert "Retry" in said
    sees(page, ".empty", "no circuit")
    assert page.locator(".downloads").is_hidden()


def test_evaluations_and_prompts_of_a_run(service, sweep, page):
    run = sweep["runs"][0]
    page.goto(f"{service.url}#/runs/{run['id']}")
    sees(page, "code", f"discover evaluate {run['id'][:8]}")
    page.locator("summary", has_text="Prompts").click()
    rows = page.locator("details table.dense tbody tr")
    rows.first.wait_for()
    assert rows.count() == SMALL["prompts"]
    figures = [
        Measurement("circuit", "faithfulness", 0.875, "", 0.5, 1.0),
        Measurement("circuit", "kl", 0.25, "nats", 0.125, 0.5),
        Measurement("node:<b>a1.h1</b>", "minimality", 0.03125, "nats"),
    ]
    with Store.open(str(service.database)) as store:
        store.add_evaluation(
            run["id"], circuit_hash=run["circuit_hash"], settings={"metric": "kl"},
            prompts_jsonl="{}", versions={}, seconds=1.0, measurements=figures,
        )  # fmt: skip
    page.reload()
    text = sees(page, "table", "the circuit alone").inner_text()
    assert "0.875" in text and "[0.5, 1]" in text and "0.25" in text
    page.get_by_text("All 3 figures").click()
    sees(page, "td", "node:<b>a1.h1</b>")


VIEWS = ("runs", "sweeps", "sweeps/{sweep}", "runs/{run}", "compare/{run}/{other}", "submit")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_a_phone_and_the_dark(service, sweep, new_page, scheme):
    page = new_page(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    names = {"sweep": sweep["id"], "run": sweep["runs"][0]["id"], "other": sweep["runs"][-1]["id"]}
    for view in VIEWS:
        page.goto(f"{service.url}#/{view.format(**names)}")
        sees(page, "h1")
        page.wait_for_load_state("networkidle") if view == "submit" else page.wait_for_timeout(400)
        assert fits(page), view
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    shade = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert (shade < 200) == (scheme == "dark")
    page.get_by_role("button", name=re.compile("mode$")).click()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") != scheme


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (1280, 720)])
def test_slider_and_circuit_are_on_a_laptops_screen_together(
    service, sweep, new_page, width, height
):
    page = new_page(viewport={"width": width, "height": height})
    page.goto(f"{service.url}#/runs/{sweep['runs'][0]['id']}")
    shown_edges(page)
    places = page.evaluate(
        """['.circuit-thin', '.circuit-stage'].map(name => {
        const {top, bottom} = document.querySelector(name).getBoundingClientRect();
        return [top, bottom]; })"""
    )
    (slider, _), (_, end) = places
    assert end - slider <= height, "scrolled to the slider, all of the circuit is seen"
    if height >= 900:
        assert end <= height, "without scrolling, even"


def test_every_field_has_a_name(service, sweep, page):
    for view in ("runs", "submit", "compare", f"runs/{sweep['runs'][0]['id']}"):
        page.goto(f"{service.url}#/{view}")
        sees(page, "h1")
        page.wait_for_timeout(300)
        nameless = page.evaluate(
            """[...document.querySelectorAll('input, select, textarea, button, a[href], canvas')]
            .filter(e => e.checkVisibility() && !(e.labels?.length || e.ariaLabel
              || e.textContent.trim() || e.getAttribute('aria-labelledby')
              || e.closest('[aria-hidden=true], .circuit-canvas'))).map(e => e.outerHTML)"""
        )
        assert nameless == []
        assert page.locator("h1").count() == 1

"""The page in a real Chromium over a server without a worker: every run stands still there."""

from __future__ import annotations

import json
import re

import pytest
from browser import browser, new_page, page, watch
from helpers_page import HOSTILE, SMALL, clear, row, says, sees, until
from serving import served

from discover.acdc import Decision
from discover.graph import ComputationalGraph
from discover.store import Store

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

__all__ = ["browser", "new_page", "page", "watch"]


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A server without a worker: whatever is submitted waits."""
    with served(tmp_path_factory.mktemp("idle"), "--no-worker") as running:
        yield running


@pytest.fixture
def queued(idle):
    """A run that waits."""
    return idle.ask("POST", "runs", {**SMALL, "tau": 0.02, "note": HOSTILE})


def test_the_circuit_grows_while_it_is_searched(idle, new_page):
    """The test itself is the worker here, so that the run stands still where it is looked at."""
    clear(idle)
    run_id = idle.ask("POST", "runs", {**SMALL, "tau": 0.02})["id"]
    page, other = new_page(), new_page()
    page.goto(f"{idle.url}#/runs/{run_id}")
    sees(page, ".empty", "grows here")
    sees(page, ".notice.warning", "No worker is alive")
    other.goto(f"{idle.url}#/runs?status=running")
    graph = ComputationalGraph(n_layers=2, n_heads=2)
    rows = [
        Decision(step, edge, step / 100, (step + 1) / 100, "removed" if step % 3 else "kept")
        for step, edge in enumerate(graph.edges)
    ]
    with Store.open(str(idle.database)) as store:
        store.add_worker("the-test", host="here", pid=1, device="cpu", lease=600)
        claim = store.claim("the-test", lease=600)
        assert claim.lease.run_id == run_id
        store.create_run(
            claim.spec, graph=graph, engine="exact", versions={}, prompts_jsonl='{"clean": "a"}',
            lease=claim.lease,
        )  # fmt: skip
        attempt = store.start(run_id, claim.lease)
        for begin, end in ((0, 10), (10, 30)):
            with store.writer(run_id, attempt=attempt) as writer:
                for decision in rows[begin:end]:
                    writer.add(decision)
            kept = sum(not row.removed for row in rows[:end])
            says(page, f"{kept} of {kept} kept edges shown")
            share = f"{100 * end // len(rows)}% of {len(rows)}"
            sees(page, ".progress-text", share)
            sees(other, f'tr[data-run="{run_id}"]', share)
            assert f"{kept} of {len(rows)}" in page.locator(".facts").first.inner_text()
        page.locator(".notice.warning").wait_for(state="hidden")
        with store.writer(run_id, attempt=attempt) as writer:
            for decision in rows[30:]:
                writer.add(decision)
        kept = sum(not row.removed for row in rows)
        store.finish(run_id, "failed", error="it <b>broke</b>", seconds=1.5, attempt=attempt)
        store.remove_worker("the-test")
    sees(page, ".notice.error", "it <b>broke</b>")
    says(page, f"{kept} of {kept} kept edges shown")
    sees(other, ".empty", "No run is like that")


def test_errors_stand_at_their_fields(idle, page, watch):
    watch.allow("status of 4")
    page.goto(f"{idle.url}#/submit")
    page.get_by_label("Tau", exact=True).fill("-1")
    page.get_by_label("Number of prompts").fill("0")
    page.get_by_role("button", name="Submit the run").click()
    tau, prompts = page.locator("#field-tau"), page.locator("#field-prompts")
    for field in (tau, prompts):
        sees(page, f"#{field.get_attribute('id')}[aria-invalid=true]")
        said = field.get_attribute("aria-describedby").split()[0]
        assert len(page.locator(f"#{said}").inner_text()) > 10
    assert page.evaluate("document.activeElement.id") == "field-prompts"  # the first of them
    assert page.url.endswith("#/submit")
    # Mended, the field says nothing any more.
    tau.fill("0.1")
    assert page.locator("#field-tau-problem").is_hidden()
    prompts.fill("")
    # What lies in a closed part of the form is opened.
    page.get_by_text("Order, precision, memory").click()
    page.get_by_label("Order of the edges").fill("sideways")
    page.get_by_text("Order, precision, memory").click()
    page.get_by_role("button", name="Submit the run").click()
    assert "sideways" in sees(page, "#field-order-problem").inner_text()
    assert page.evaluate("document.activeElement.id") == "field-order"
    page.get_by_label("Order of the edges").fill("reverse")
    page.get_by_label("a file of your own").check()
    page.get_by_role("button", name="Submit the run").click()
    assert "Choose a file" in sees(page, "#field-prompts-file-problem").inner_text()


def test_taus_are_shown_expanded(idle, page):
    page.goto(f"{idle.url}#/submit?kind=sweep")
    taus = page.get_by_label("Taus", exact=True)
    taus.fill("0.01:1:3log, 0.5")
    assert "4 runs: 0.01, 0.1, 0.5, 1" in page.locator("#field-taus-hint").inner_text()
    taus.fill("0.01:1:3logs")
    assert "not a threshold" in page.locator("#field-taus-hint").inner_text()


def test_a_file_of_prompts_is_sent_as_text(idle, page):
    text = idle_prompts()
    page.goto(f"{idle.url}#/submit")
    page.get_by_label("a file of your own").check()
    page.get_by_label("Prompts file").set_input_files(
        {"name": "mine.jsonl", "mimeType": "application/jsonl", "buffer": text.encode()}
    )
    page.get_by_label("Tau", exact=True).fill("0.02")
    page.get_by_role("button", name="Submit the run").click()
    page.wait_for_url(re.compile(r"#/runs/[0-9a-f]{16}"))
    run = idle.ask("GET", "runs/" + re.search(r"#/runs/([0-9a-f]+)", page.url)[1])
    assert run["spec"]["prompts_file"].endswith("/mine.jsonl") and run["spec"]["task"] is None
    assert "mine.jsonl" in sees(page, ".facts").inner_text()

    # Another like it takes the file that the server has, unless one is chosen.
    sees(page, "a", "Another like it").click()
    sees(page, "[data-field=prompts_file] .hint", "Empty: mine.jsonl, as that run had it.")
    page.get_by_label("Ablation").select_option("mean")
    page.get_by_label("Mean over").select_option("file")
    page.get_by_label("Reference prompts").set_input_files(
        {"name": "means.jsonl", "mimeType": "application/jsonl", "buffer": text.encode() * 2}
    )
    page.get_by_role("button", name="Submit the run").click()
    page.wait_for_url(re.compile(rf"#/runs/(?!{run['id']})[0-9a-f]{{16}}"))
    second = idle.ask("GET", "runs/" + re.search(r"#/runs/([0-9a-f]+)", page.url)[1])
    assert second["spec"]["prompts_file"] == run["spec"]["prompts_file"]
    assert second["spec"]["reference"].endswith("/means.jsonl")
    sees(page, ".title h1", second["id"][:8])
    sees(page, "a", "Another like it").click()
    sees(page, "[data-field=reference_file] .hint", "Empty: means.jsonl, as that run had it.")
    page.get_by_role("button", name="Submit the run").click()
    page.wait_for_url(re.compile(rf"#/runs/(?!{second['id']})[0-9a-f]{{16}}"))
    third = idle.ask("GET", "runs/" + re.search(r"#/runs/([0-9a-f]+)", page.url)[1])
    assert third["spec"] == second["spec"]


def idle_prompts():
    pair = {"clean": "When Mary and John went to the store, John gave a drink to"}
    pair |= {"corrupted": "When Mary and John went to the store, Mary gave a drink to"}
    return json.dumps(pair | {"correct": " Mary", "incorrect": " John"}) + "\n"


def test_the_list_of_sweeps_follows_and_a_sweep_has_no_draft(idle, page):
    page.goto(f"{idle.url}#/sweeps")
    sees(page, "h1", "Sweeps")
    made = idle.ask("POST", "sweeps", {**SMALL, "taus": [0.1, 0.2]})
    link = sees(page, f'a[href="#/sweeps/{made["id"]}"]')
    link.focus()
    page.wait_for_timeout(6000)
    assert link.evaluate("e => e === document.activeElement"), "a look at the list takes the focus"
    page.goto(f"{idle.url}#/submit")
    page.get_by_text("Order, precision, memory").click()
    page.get_by_label("Draft").fill("eap-ig")
    page.get_by_label("a sweep over thresholds").check()
    assert not page.get_by_label("Draft").is_visible()
    page.get_by_label("Taus", exact=True).fill("0.1,0.2")
    page.get_by_role("button", name="Submit the sweep").click()
    page.wait_for_url(re.compile(r"#/sweeps/[0-9a-f]{16}"))


def test_a_planted_model_goes_by_its_name(idle, page, watch):
    watch.allow("status of 4")
    page.goto(f"{idle.url}#/submit")
    page.get_by_label("Model", exact=True).select_option(label="another ...")
    page.get_by_label("Task", exact=True).select_option("planted")
    name = page.get_by_label("Name of the model")
    name.fill("../../etc/passwd")
    page.get_by_role("button", name="Submit the run").click()
    sees(page, "#field-other-model[aria-invalid=true]")
    name.fill("planted:layers=2,heads=2,edges=3,seed=1")
    page.get_by_role("button", name="Submit the run").click()
    page.wait_for_url(re.compile(r"#/runs/[0-9a-f]{16}"))
    assert "planted:layers=2" in sees(page, ".facts").inner_text()


def test_cancel_retry_delete_and_the_note(idle, queued, page):
    page.goto(f"{idle.url}#/runs")
    line = row(page, queued)
    assert "No worker is alive" in sees(page, ".notice.warning").inner_text()
    assert line.locator(".note").inner_text() == HOSTILE
    assert page.locator("main img").count() == 0

    line.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Back").click()  # one can think better of it
    assert idle.ask("GET", f"runs/{queued['id']}")["status"] == "queued"
    line.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the run").click()
    line.locator(".status", has_text="cancelled").wait_for()
    line.get_by_role("button", name="Retry").click()
    line.locator(".status", has_text="queued").wait_for()

    line.get_by_role("button", name="Edit the note").click()
    page.locator("dialog textarea").fill("seen <i>twice</i>")
    page.get_by_role("button", name="Save").click()
    line.locator(".note", has_text="seen <i>twice</i>").wait_for()
    assert idle.ask("GET", f"runs/{queued['id']}")["note"] == "seen <i>twice</i>"

    idle.ask("POST", f"runs/{queued['id']}/cancel")
    line.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    line.wait_for(state="detached")


def test_an_empty_list_says_what_to_do(idle, page):
    clear(idle)
    page.goto(idle.url)
    said = sees(page, ".empty", "No runs yet").inner_text()
    assert "discover submit" in said
    page.goto(f"{idle.url}#/sweeps")
    sees(page, ".empty", "No sweeps yet")


def test_what_is_not_there_is_said(idle, page, watch):
    watch.allow("status of 4")
    page.goto(f"{idle.url}#/runs/ffffffffffffffff")
    assert "ffff" in sees(page, ".notice.error").inner_text()
    page.goto(f"{idle.url}#/nowhere")
    sees(page, "h1", "There is no such page")


def test_a_run_is_submitted_by_keyboard_alone(idle, page):
    page.goto(f"{idle.url}#/runs")
    sees(page, "h1", "Runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "skip"
    tab_to(page, "document.activeElement.dataset.page === 'submit'")
    page.keyboard.press("Enter")
    sees(page, "h1", "Submit")
    until(page, "document.activeElement.tagName === 'H1'")
    tab_to(page, "document.activeElement.id === 'field-tau'")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.25")
    tab_to(page, "document.activeElement.type === 'submit'")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) != "none"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"#/runs/[0-9a-f]{16}"))
    assert idle.ask("GET", "runs?limit=1")["items"][0]["tau"] == 0.25


def tab_to(page, condition, most=60):
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(condition):
            return
    raise AssertionError(f"no Tab leads to where {condition}")


def test_a_token_is_asked_for(tmp_path, page, watch):
    watch.allow("status of 401")
    with served(tmp_path, "--no-worker", token="correct-horse-battery") as running:
        page.goto(f"{running.url}#/sweeps")
        token = sees(page, "#token")
        token.fill("wrong-horse-battery-xx")
        page.get_by_role("button", name="Log in").click()
        assert "not this server's token" in sees(page, ".notice.error").inner_text()
        token.fill("correct-horse-battery")
        page.get_by_role("button", name="Log in").click()
        sees(page, ".empty", "No sweeps yet")  # where one wanted to go
        page.reload()
        sees(page, ".empty", "No sweeps yet")
        page.get_by_role("button", name="Log out").click()
        sees(page, "#token")
        page.goto(f"{running.url}#/runs")
        sees(page, "#token")


def test_a_server_that_comes_back_is_followed_again(tmp_path, page, watch):
    watch.allow("ERR_|status of 5")
    with served(tmp_path, "--no-worker") as running:
        run = running.ask("POST", "runs", {**SMALL, "tau": 0.02})
        page.goto(f"{running.url}#/runs/{run['id']}")
        sees(page, ".title .hint", "live")
        port = running.url.split(":")[-1].rstrip("/")
        running.process.kill()
        sees(page, ".title .hint", "connection lost")
    with served(tmp_path, "--no-worker", port=port) as running:
        running.ask("POST", f"runs/{run['id']}/cancel")
        # Without a reload: the page has taken the stream up again.
        sees(page, ".title .status", "cancelled", timeout=40_000)
        sees(page, ".notice.warning", "It was cancelled")

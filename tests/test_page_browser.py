"""The single file as a person uses it: opened from disk in a real Chromium."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from export_circuits import GPT2, export_of, grouped, half_connected, random_circuit

from discover.canonical import canonical
from discover.circuit import Circuit
from discover.export.figure import Contrast
from discover.graph import ComputationalGraph
from discover.page.data import view_of_contrast, view_of_export
from discover.page.single import html

HOSTILE = (
    "<img src=x onerror=document.title='broken'></script>"
    "<script>document.title='broken'</script><!--"
)
EXPORT = export_of(
    Circuit(GPT2, frozenset(list(canonical("ioi").circuit.ordered)[::9])), note=HOSTILE
)
VIEW = view_of_export(EXPORT)

COUNTS = ".circuit-counts"
TREE = "document.querySelector('.circuit-canvas')._cyreg.cy"
"""Cytoscape keeps itself on its element: the only way to ask a canvas what is on it."""
DRAWN = "e.style('display') !== 'none'"
"""Not `e.visible()`: it answers from before a change of classes until the next frame is drawn."""


def save(path: Path, view: dict) -> str:
    path.write_bytes(html(view))
    return path.as_uri()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    return save(tmp_path_factory.mktemp("file") / "circuit.html", VIEW)


@pytest.fixture
def opened(page, address):
    return go(page, address)


def go(page, address):
    # The same file with another fragment is no new page.
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(".circuit-counts:not(:empty)")
    return page


def shown(page) -> set[str]:
    """The edges that the picture draws."""
    return set(
        page.evaluate(
            f"{TREE}.edges().filter(e => !e.hasClass('internal') && {DRAWN}).map(e => e.id())"
        )
    )


def counted(page) -> int:
    return int(re.match(r"([\d,]+) of", page.inner_text(COUNTS))[1].replace(",", ""))


def settle(page, expression: str, seconds: float = 20.0) -> None:
    """Wait until the expression is true; asked from here, since the file's policy has no eval."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"it never came to be: {expression}"
        page.wait_for_timeout(30)


def name(edge: dict) -> str:
    return f"{edge['sender']}->{edge['receiver']}"


def at(page, kind: str, ident: str) -> tuple[float, float]:
    """Where a node or the middle of an edge is on the screen."""
    where = "renderedPosition()" if kind == "node" else "renderedMidpoint()"
    spot = page.evaluate(f"{TREE}.getElementById({json.dumps(ident)}).{where}")
    box = page.locator(".circuit-canvas").bounding_box()
    return box["x"] + spot["x"], box["y"] + spot["y"]


def loose_edge(page, tau: float) -> str:
    """An edge whose middle nothing else covers: the pointer finds that very one."""
    for edge in sorted(VIEW["edges"], key=lambda edge: edge["rank"]):
        page.mouse.move(5, 5)
        page.mouse.move(*at(page, "edge", name(edge)))
        page.wait_for_timeout(60)
        tip = page.locator(".circuit-tip")
        if tip.is_visible() and f"{edge['sender']} \u2192 {edge['receiver']}" in tip.inner_text():
            return name(edge)
    raise AssertionError("no edge can be pointed at")


def test_all_edges_are_drawn_and_counted(opened):
    assert shown(opened) == {name(edge) for edge in VIEW["edges"]}
    assert (
        opened.inner_text(COUNTS)
        == f"{len(VIEW['edges'])} of {len(VIEW['edges'])} kept edges shown"
    )
    assert "How this circuit was found" in opened.inner_text("footer")
    assert VIEW["run"]["circuit_hash"] in opened.inner_text("footer")


def test_the_slider_thins_the_circuit_to_the_scores_that_it_says_and_says_that_it_is_a_view(opened):
    opened.locator("input[type=range]").fill("500")
    settle(opened, "location.hash.includes('threshold=')")
    tau = float(re.search(r"threshold=([\d.e+-]+)", opened.url)[1])
    low, high = EXPORT.facts["tau"], max(edge["score"] for edge in VIEW["edges"])
    assert math.isclose(tau, math.sqrt(low * high), rel_tol=1e-3)
    wanted = {name(edge) for edge in VIEW["edges"] if edge["score"] >= tau}
    assert shown(opened) == wanted != set()
    assert counted(opened) == len(wanted)
    assert "a view, not a new search" in opened.inner_text(".circuit-notes")
    settle(
        opened,
        f"document.querySelector('[role=status]').textContent.startsWith('{len(wanted)} of')",
    )

    opened.locator("input[type=range]").fill("1000")
    settle(opened, "document.querySelector('.circuit-counts').textContent.startsWith('1 of')")
    opened.locator("input[type=range]").fill("0")
    settle(opened, "!location.hash.includes('threshold=')")
    assert counted(opened) == len(VIEW["edges"])

    opened.locator("input[type=number]").fill("1.5")
    opened.keyboard.press("Enter")
    settle(opened, "location.hash.includes('threshold=1.5')")
    assert counted(opened) == sum(edge["score"] >= 1.5 for edge in VIEW["edges"])


def test_what_a_threshold_cuts_off_is_faint_or_hidden_as_python_finds_it(opened):
    tau = sorted(edge["score"] for edge in VIEW["edges"])[len(VIEW["edges"]) // 2]
    kept = [edge for edge in EXPORT.circuit.ordered if EXPORT.score(edge) >= tau]
    connected = {edge.name for edge in Circuit(GPT2, frozenset(kept)).connected.edges}
    opened.locator("input[type=number]").fill(repr(tau))
    opened.keyboard.press("Enter")
    settle(opened, "location.hash.includes('threshold=')")
    faint = set(opened.evaluate(f"{TREE}.edges('.loose').filter(e => {DRAWN}).map(e => e.id())"))
    assert faint == {edge.name for edge in kept} - connected
    opened.get_by_label("hide unconnected").check()
    settle(opened, "location.hash.includes('hide=1')")
    assert shown(opened) == connected
    assert counted(opened) == len(connected)


def test_shared_inputs_and_unconnected_edges_are_found_as_python_finds_them(page, tmp_path):
    for circuit in (grouped(), half_connected()):
        go(page, save(tmp_path / "x.html", view_of_export(export_of(circuit))))
        # Any threshold below all scores makes the page find the connected edges itself.
        page.locator("input[type=number]").fill("0.001")
        page.keyboard.press("Enter")
        settle(page, "location.hash.includes('threshold=')")
        faint = page.evaluate(f"{TREE}.edges('.loose').map(e => e.id())")
        assert set(faint) == {e.name for e in circuit.edges - circuit.connected.edges}
    assert not page.evaluate(f"{TREE}.edges('.internal').length")


def test_pointing_at_an_edge_shows_its_numbers_and_its_step_in_the_curve(opened):
    found = loose_edge(opened, 0.0)
    edge = next(edge for edge in VIEW["edges"] if name(edge) == found)
    tip = opened.inner_text(".circuit-tip")
    for word in ("score", "damage before", "damage after", "rank", "step"):
        assert word in tip
    assert f"{edge['rank']} of {VIEW['total']}" in tip
    assert f"{edge['step']:,}" in tip
    assert opened.get_attribute(".circuit-curve", "data-step") == str(edge["step"])
    opened.mouse.click(*at(opened, "edge", found))
    settle(opened, "location.hash.includes('edge=')")
    panel = opened.inner_text(".circuit-panel")
    assert f"{edge['sender']} \u2192 {edge['receiver']}" in panel
    assert f"{float(format(edge['score'], '.4g')):g} nats" in panel


def test_a_click_on_a_node_lists_its_edges_by_score_and_each_can_be_followed(opened):
    opened.mouse.click(*at(opened, "node", "a9.h9"))
    settle(opened, "location.hash.includes('node=a9.h9')")
    panel = opened.locator(".circuit-panel")
    incoming = [edge for edge in VIEW["edges"] if edge["target"] == "a9.h9"]
    outgoing = [edge for edge in VIEW["edges"] if edge["source"] == "a9.h9"]
    assert f"{len(incoming)} incoming" in panel.inner_text()
    assert f"{len(outgoing)} outgoing" in panel.inner_text()
    listed = [row.split("\n") for row in panel.locator("li").all_inner_texts()]
    by_score = sorted(incoming, key=lambda edge: -edge["score"])
    assert [row[0] for row in listed[: len(incoming)]] == [
        f"{edge['sender']} \u2192 {edge['port']}" for edge in by_score
    ]
    panel.locator("li button").first.click()
    settle(opened, "location.hash.includes('edge=')")
    assert by_score[0]["receiver"] in panel.locator("h3").inner_text()


def test_inputs_can_be_switched_off(opened):
    for port in "qkv":
        opened.locator(f"input[value={port}]").uncheck()
    settle(opened, "location.hash.includes('ports=in')")
    assert shown(opened) == {name(edge) for edge in VIEW["edges"] if edge["port"] == "in"} != set()


@pytest.mark.parametrize("text", ["9.9", "a9.h9", "A9.H9.q"])
def test_a_head_is_found_as_papers_and_as_edges_write_it(opened, text):
    opened.keyboard.press("/")
    opened.keyboard.type(text)
    settle(opened, "location.hash.includes('node=a9.h9')")
    assert opened.inner_text(".circuit-panel h3") == "9.9"
    opened.keyboard.press("Escape")
    settle(opened, "!location.hash.includes('node=')")
    opened.get_by_label("find").fill("77.7")
    assert "not in this circuit" in opened.inner_text(".circuit-controls")
    assert opened.locator("datalist option[value='9.9']").count() == 1


def test_the_roles_of_the_known_circuit_are_offered_and_told(opened):
    opened.get_by_label("roles of").select_option("ioi")
    settle(opened, "location.hash.includes('roles=ioi')")
    movers = {node.name for node in canonical("ioi").roles["name mover"]}
    number = list(canonical("ioi").roles).index("name mover")
    tinted = set(opened.evaluate(f"{TREE}.nodes('.role-{number}').map(n => n.id())"))
    assert tinted == movers & {node["id"] for node in VIEW["nodes"]} != set()
    opened.get_by_role("button", name=re.compile("^name mover")).click()
    settle(opened, "location.hash.includes('role=name')")
    assert set(opened.evaluate(f"{TREE}.nodes('.lit').map(n => n.id())")) == tinted


def test_keys_go_from_node_to_node_pick_zoom_and_let_go(opened):
    opened.locator(".circuit-stage").focus()
    opened.keyboard.press("ArrowDown")
    settle(opened, "document.querySelector('[role=status]').textContent.startsWith('logits')")
    opened.keyboard.press("ArrowDown")
    settle(
        opened,
        "/layer \\d+; \\d+ incoming/.test(document.querySelector('[role=status]').textContent)",
    )
    opened.keyboard.press("Enter")
    settle(opened, "location.hash.includes('node=')")
    opened.keyboard.press("+")
    settle(opened, "location.hash.includes('zoom=')")
    opened.keyboard.press("0")
    settle(opened, "!location.hash.includes('zoom=')")
    opened.keyboard.press("Escape")
    settle(opened, "!location.hash.includes('node=')")


def test_everything_is_reached_by_tab_and_can_be_seen_to_be(opened):
    opened.locator("header button").focus()
    reached = set()
    for _ in range(24):
        opened.keyboard.press("Tab")
        found = opened.evaluate(
            "(() => { const e = document.activeElement; return [e.type || e.className || e.tagName,"
            " getComputedStyle(e).outlineStyle] })()"
        )
        if found[0] == "BODY":
            break
        assert found[1] != "none", found
        reached.add(found[0])
    assert {"range", "number", "checkbox", "search", "select-one", "circuit-stage"} <= reached


def test_a_link_restores_exactly_this_view(opened, new_page):
    opened.locator("input[type=range]").fill("300")
    opened.locator("input[value=k]").uncheck()
    opened.get_by_label("hide unconnected").check()
    opened.get_by_label("roles of").select_option("ioi")
    opened.mouse.click(*at(opened, "node", "a9.h9"))
    settle(opened, "location.hash.includes('node=')")
    nearer = opened.get_by_role("button", name="zoom in")
    nearer.click()
    # The picked node may have left the screen by now; beside the button the picture is in sight.
    box = nearer.bounding_box()
    opened.mouse.move(box["x"] - 80, box["y"] - 40)
    # While the page scrolls, as it does to bring the button into sight, a wheel turns the page.
    opened.wait_for_timeout(600)
    before = opened.evaluate(f"{TREE}.zoom()")
    opened.mouse.wheel(0, -240)
    settle(opened, f"{TREE}.zoom() > {before} * 1.01")
    opened.wait_for_timeout(400)  # the wheel runs out
    opened.get_by_role("button", name="Copy link to this view").click()
    settle(opened, "document.querySelector('.circuit-address')")
    link = opened.locator(".circuit-address").input_value()
    assert link == opened.url
    other = go(new_page(viewport={"width": 1280, "height": 800}), link)
    assert shown(other) == shown(opened)
    assert other.inner_text(".circuit-panel") == opened.inner_text(".circuit-panel")
    assert other.inner_text(".circuit-notes p") == opened.inner_text(".circuit-notes p")
    assert other.evaluate(f"{TREE}.nodes('.picked').map(n => n.id())") == ["a9.h9"]
    zooms = [p.evaluate(f"{TREE}.zoom()") for p in (opened, other)]
    assert zooms[0] == pytest.approx(zooms[1], rel=1e-5)
    middle = "(e => [(e.x1 + e.x2) / 2, (e.y1 + e.y2) / 2])"
    places = [p.evaluate(f"{middle}({TREE}.extent())") for p in (opened, other)]
    assert places[0] == pytest.approx(places[1], abs=0.02)
    assert other.url == link


def test_a_link_with_nonsense_shows_the_circuit_all_the_same(page, address):
    go(
        page,
        f"{address}#threshold=x&ports=&node=a99.h1&edge=%3Cimg%3E&zoom=NaN&role=q&roles=__proto__",
    )
    assert "0 of" in page.inner_text(COUNTS)
    go(page, f"{address}#threshold=-1&zoom=-3&x=1&y=2&sides=left&hide=maybe")
    assert counted(page) == len(VIEW["edges"])


def test_strings_of_others_are_text(opened):
    assert opened.inner_text("header .note") == HOSTILE
    assert opened.title() == "ioi in gpt2"
    assert opened.locator("img").count() == 0


def test_the_table_has_every_edge_and_number(opened):
    opened.get_by_text("Edges as a table").click()
    rows = opened.locator(".circuit-table tbody tr")
    rows.first.wait_for()
    cells = [row.split("\t") for row in rows.all_inner_texts()]
    by_score = sorted(VIEW["edges"], key=lambda edge: edge["rank"])
    assert [(row[1], row[2]) for row in cells] == [(e["sender"], e["receiver"]) for e in by_score]
    assert [float(row[3]) for row in cells] == pytest.approx(
        [e["score"] for e in by_score], rel=1e-3
    )
    rows.first.get_by_role("button").click()
    settle(opened, "location.hash.includes('edge=')")


def test_files_made_in_the_browser_hold_what_is_shown(opened, tmp_path):
    opened.locator("input[type=range]").fill("600")
    settle(opened, "location.hash.includes('threshold=')")
    wanted = shown(opened)
    contents = {}
    for label in ("JSON", "CSV", "SVG", "PNG"):
        with opened.expect_download() as waiting:
            opened.get_by_role("button", name=re.compile(f"^{label}")).click()
        target = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(target)
        contents[label] = target
    data = json.loads(contents["JSON"].read_text())
    assert data == json.loads(json.dumps(VIEW))
    rows = list(csv.DictReader(io.StringIO(contents["CSV"].read_text())))
    assert {f"{row['sender']}->{row['receiver']}" for row in rows} == wanted
    scores = {name(edge): edge["score"] for edge in VIEW["edges"]}
    for row in rows:
        assert float(row["score"]) == scores[f"{row['sender']}->{row['receiver']}"]
    root = ET.fromstring(contents["SVG"].read_text())
    drawn = {e.get("id") for e in root.iter("{http://www.w3.org/2000/svg}path")}
    assert wanted == {d for d in drawn if d and "->" in d}
    assert contents["PNG"].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_dark_follows_the_system_and_the_switch(new_page, address):
    dark = go(new_page(color_scheme="dark"), address)
    ground = "getComputedStyle(document.querySelector('.circuit')).backgroundColor"
    node = f"{TREE}.getElementById('a9.h9').style('background-color')"
    by_system = dark.evaluate(ground), dark.evaluate(node)
    light = go(new_page(color_scheme="light"), address)
    plain = light.evaluate(ground), light.evaluate(node)
    assert by_system[0] != plain[0] and by_system[1] != plain[1]
    for theme in ("light", "dark"):
        light.locator("header button").click()
        assert light.inner_text("header button") == f"Theme: {theme}"
    settle(light, f"{node} === {json.dumps(by_system[1])}")
    assert light.evaluate(ground) == by_system[0]


def test_a_phone_shows_all_of_it_without_scrolling_sideways(new_page, address):
    phone = go(new_page(viewport={"width": 390, "height": 844}, has_touch=True), address)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    stage, panel = (phone.locator(c).bounding_box() for c in (".circuit-stage", ".circuit-panel"))
    assert panel["y"] >= stage["y"] + stage["height"]
    smallest = phone.evaluate(
        "Math.min(...[...document.querySelectorAll('body *')].filter(e => e.offsetParent &&"
        " [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))"
        ".map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12
    phone.touchscreen.tap(*at(phone, "node", "logits"))
    settle(phone, "location.hash.includes('node=logits')")


def arcs(edge):
    """Points of an edge as Cytoscape draws it: arcs between the middles of its control points."""
    stops = [edge["from"], *edge["over"], edge["to"]]
    a, b, c, d = (np.array([stop["x"], stop["y"]]) for stop in stops)
    t = np.linspace(0, 1, 50)[:, None]
    middle = (b + c) / 2
    halves = [(1 - t) ** 2 * p + 2 * t * (1 - t) * q + t**2 * r
              for p, q, r in ((a, b, middle), (middle, c, d))]  # fmt: skip
    return np.concatenate(halves)


def test_edges_are_led_around_the_nodes_between_their_ends(page, tmp_path):
    graph = ComputationalGraph(2, 3)
    names = ["embed->logits", "embed->m0.in", "m0->logits", "m0->a1.h1.v", "a1.h1->m1.in",
             "m1->logits", "a1.h1->logits", "embed->a1.h1.q"]  # fmt: skip
    go(page, save(tmp_path / "x.html", view_of_export(export_of(Circuit.from_names(graph, names)))))
    nodes, edges = page.evaluate(
        f"[{TREE}.nodes().map(n => ({{id: n.id(), ...n.position(), w: n.width(), h: n.height()}})),"
        f" {TREE}.edges().map(e => ({{id: e.id(), ends: [e.source().id(), e.target().id()], from:"
        " e.sourceEndpoint(), over: e.controlPoints(), to: e.targetEndpoint()}))]"
    )
    assert len(edges) == len(names)

    def behind(line, ends):
        return {
            node["id"] for node in nodes if node["id"] not in ends
            and (abs(line - [node["x"], node["y"]]) < [node["w"] / 2, node["h"] / 2]).all(1).any()
        }  # fmt: skip

    for edge in edges:
        assert behind(arcs(edge), edge["ends"]) == set(), edge["id"]
    with page.expect_download() as waiting:
        page.get_by_role("button", name=re.compile("^SVG")).click()
    waiting.value.save_as(tmp_path / "x.svg")
    drawn = {path.get("id"): path.get("d") for path in ET.parse(tmp_path / "x.svg").iter()}
    for edge in edges:  # the file has the very same lines
        x0, y0, x1, y1, _, _, x2, y2, *_ = map(float, re.findall(r"-?[\d.]+", drawn[edge["id"]]))
        there = [[p["x"] - edge["from"]["x"], p["y"] - edge["from"]["y"]] for p in edge["over"]]
        assert np.allclose(there, [[x1 - x0, y1 - y0], [x2 - x0, y2 - y0]], atol=0.3), edge["id"]
    # Straight up from where nodes stand they would pass behind others: there was something to do.
    place = {node["id"]: np.array([node["x"], node["y"]]) for node in nodes}
    straight = np.linspace(place["embed"], place["logits"], 100)
    assert behind(straight, ["embed", "logits"])


def test_labels_on_the_picture_are_at_least_12_pixels_or_not_there(opened):
    for level in (0.2, 0.44, 0.6, 1, 2):
        sizes = opened.evaluate(
            f"(() => {{ const cy = {TREE}; cy.zoom({level}); const n = cy.nodes()[3];"
            " return [n.numericStyle('font-size') * cy.zoom(),"
            " n.numericStyle('min-zoomed-font-size')] })()"
        )
        assert sizes[0] >= 12 or sizes[0] < sizes[1]


def test_more_edges_than_are_sent_are_told(page, tmp_path):
    export = export_of(random_circuit(GPT2, 300, 40, 3))
    go(page, save(tmp_path / "x.html", view_of_export(export, 100)))
    assert f"100 of {len(export.circuit)} kept edges shown" in page.inner_text(COUNTS)
    assert "only the 100 with the largest scores are in this page" in page.inner_text(
        ".circuit-notes"
    )


def test_two_circuits_are_told_apart_by_side(page, tmp_path):
    a = random_circuit(GPT2, 40, 12, 1)
    b = Circuit(GPT2, frozenset(list(a.ordered)[:20]) | random_circuit(GPT2, 20, 8, 5).edges)
    view = view_of_contrast(
        Contrast(a, b, "found", HOSTILE), {"metric": "kl"}, export_of(a), export_of(b)
    )
    go(page, save(tmp_path / "x.html", view))
    for side in ("both", "left", "right"):
        stroke = page.evaluate(f"{TREE}.edges('[stroke = \"{side}\"]').map(e => e.id())")
        assert set(stroke) == {name(e) for e in view["edges"] if e["side"] == side} != set()
    assert f"only {HOSTILE}" in page.inner_text(".circuit-legend")
    page.locator("input[value=right]").uncheck()
    settle(page, "location.hash.includes('sides=')")
    assert shown(page) == {edge.name for edge in a.edges}


def test_a_live_view_grows_without_losing_its_zoom_or_what_is_picked(page, tmp_path):
    views = [json.loads(json.dumps(VIEW)) for _ in range(2)]
    views[0]["edges"] = views[0]["edges"][:30]
    views[0] |= {"shown": 30, "total": 30}
    # The test's own page: the viewer's modules as one script, which leaves them to be called.
    text = (
        html(views[0])
        .decode()
        .replace("const $single = ", "window.mount = $circuit;\nconst $single = ")
    )
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    file = tmp_path / "live.html"
    file.write_text(text)
    go(page, file.as_uri())
    page.evaluate(
        "view => { window.live = mount.mountCircuit(document.getElementById('viewer'), view) }",
        views[0],
    )
    first = views[0]["edges"][0]["source"]
    page.evaluate(f"void {TREE}.getElementById('{first}').emit('tap')")
    page.get_by_role("button", name="zoom in").click()
    zoom, pan = page.evaluate(f"{TREE}.zoom()"), page.evaluate(f"{TREE}.pan()")
    page.evaluate("view => live.update(view)", views[1])
    assert shown(page) == {name(edge) for edge in VIEW["edges"]}
    assert page.evaluate(f"{TREE}.zoom()") == zoom
    assert page.evaluate(f"{TREE}.pan()") == pan
    assert page.evaluate(f"{TREE}.nodes('.picked').map(n => n.id())") == [first]
    assert (
        page.inner_text(COUNTS) == f"{len(VIEW['edges'])} of {len(VIEW['edges'])} kept edges shown"
    )
    page.evaluate("live.destroy()")
    assert page.locator(".circuit").count() == 0


def test_a_run_that_has_not_begun_says_so(page, tmp_path):
    empty = VIEW | {
        "graph": None,
        "nodes": [],
        "edges": [],
        "shown": 0,
        "total": 0,
        "curve": [],
        "roles": {},
    }
    go(page, save(tmp_path / "x.html", empty))
    assert "this run has not begun" in page.inner_text(".circuit-notes")

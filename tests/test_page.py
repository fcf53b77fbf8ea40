"""The data of the circuit viewer, where its nodes stand, and the file that holds it all."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from html.parser import HTMLParser

import pytest
from export_circuits import GPT2, export_of, grouped, half_connected, random_circuit, small
from helpers_graph import graphs, law, nodes_behind
from hypothesis import given
from hypothesis import strategies as st

from discover.acdc import Decision, circuit_of
from discover.canonical import canonical
from discover.circuit import Circuit
from discover.errors import InputError, RunError, StoreError
from discover.export import CircuitExport
from discover.export.figure import Contrast
from discover.graph import ComputationalGraph
from discover.page import single
from discover.page.data import (
    CURVE_POINTS,
    roles_of,
    thinned,
    view_of_contrast,
    view_of_export,
    view_of_run,
)
from discover.page.places import APART, places
from discover.page.single import STATIC, embedded, html
from discover.spec import RunSpec
from discover.store import Store

HOSTILE = "<img src=x onerror=alert(1)></script><!--<script>\u2028 ' \" & \ud800"


@st.composite
def exports(draw: st.DrawFn) -> CircuitExport:
    """Any circuit of any small graph, some of its scores odd or not known."""
    graph = draw(graphs())
    chance = random.Random(draw(st.integers(0, 10**6)))
    share = draw(st.sampled_from([0.0, 0.05, 0.4, 1.0]))
    odd = [math.inf, -1.0, 0.0, 0.5, 0.5]
    made = {}
    for step, edge in enumerate(graph.edges):
        after = chance.choice(odd) if chance.random() < 0.2 else chance.random()
        made[edge] = Decision(step, edge, 0.0, after, chance.choice(["removed", "dead"]))
        if chance.random() < share:
            made[edge] = Decision(step, edge, 0.0, after, "kept")
    circuit = circuit_of(graph, made.values())
    known = {edge: row for edge, row in made.items() if chance.random() < 0.9}
    return CircuitExport(circuit, known, {"model": "m", "metric": "kl"})


def names(view: dict) -> list[str]:
    return [f"{edge['sender']}->{edge['receiver']}" for edge in view["edges"]]


@law
@given(exports())
def test_a_view_has_every_kept_edge_its_numbers_rank_node_and_whether_it_is_connected(export):
    view = view_of_export(export)
    circuit = export.circuit
    assert sorted(names(view)) == sorted(edge.name for edge in circuit.edges)
    assert view["shown"] == view["total"] == view["run"]["kept"] == len(circuit)
    scores = [export.score(edge) for edge in circuit.ordered]
    by_name = {edge.name: edge for edge in circuit.edges}
    for name, item in zip(names(view), view["edges"], strict=True):
        edge = by_name[name]
        decision = export.decisions.get(edge)
        for key in ("step", "before", "after", "score"):
            value = None if decision is None else getattr(decision, key)
            assert item[key] == ("Infinity" if value == math.inf else value)
        behind = nodes_behind(circuit.graph, item["receiver"])
        port = item["receiver"].rpartition(".")[2]
        assert item["port"] == (port if port in "qkv" else "in")
        assert item["source"] == item["sender"]
        assert item["target"] in behind or ".kv" in item["target"] or item["target"] == "logits"
        assert item["connected"] == (edge in circuit.connected)
        if decision is None:
            assert item["rank"] is None
        else:
            larger = sum(s is not None and s > decision.score for s in scores)
            equal = sum(s == decision.score for s in scores)
            assert larger < item["rank"] <= larger + equal
    ranks = sorted(item["rank"] for item in view["edges"] if item["rank"] is not None)
    assert ranks == list(range(1, len(ranks) + 1))
    json.dumps(view, allow_nan=False)


@law
@given(exports(), st.integers(1, 12))
def test_a_view_of_few_edges_has_the_largest_scores_and_says_how_many_there_are(export, most):
    view, whole = view_of_export(export, most), view_of_export(export)
    assert view["shown"] == len(view["edges"]) == min(most, whole["total"])
    assert view["total"] == whole["total"]
    by_rank = sorted(whole["edges"], key=lambda item: item["rank"] or math.inf)
    assert {i["rank"] for i in view["edges"]} == {i["rank"] for i in by_rank[:most]}
    assert all(item in whole["edges"] for item in view["edges"])


@law
@given(exports(), st.booleans())
def test_layers_are_ordered_and_no_two_nodes_overlap(export, fixed):
    graph = export.circuit.graph
    edges = view_of_export(export)["edges"]
    nodes = {node["id"]: node for node in places(graph, edges, fixed=fixed)}
    assert set(nodes) == {"embed", "logits"} | {
        e[end] for e in edges for end in ("source", "target")
    }
    for edge in edges:
        assert nodes[edge["source"]]["y"] > nodes[edge["target"]]["y"]
    for a in nodes.values():
        for b in nodes.values():
            if a["id"] < b["id"]:
                assert abs(a["x"] - b["x"]) >= APART - 0.11 or abs(a["y"] - b["y"]) >= 40
            if a["layer"] is not None and b["layer"] is not None and a["layer"] > b["layer"]:
                assert a["y"] < b["y"]
            order = {"kv": 0, "head": 1, "mlp": 1 if graph.parallel else 2}
            if a["layer"] is not None and a["layer"] == b["layer"]:
                lower, higher = order[a["kind"]], order[b["kind"]]
                assert (lower < higher) == (a["y"] > b["y"])
    assert max(n["y"] for n in nodes.values()) == nodes["embed"]["y"]
    assert min(n["y"] for n in nodes.values()) == nodes["logits"]["y"] == 0


@law
@given(exports(), st.data())
def test_a_run_under_way_adds_nodes_and_moves_none_within_its_picture(export, data):
    graph = export.circuit.graph
    edges = view_of_export(export)["edges"]
    before = places(graph, edges[: data.draw(st.integers(0, len(edges)))], fixed=True)
    after = {node["id"]: node for node in places(graph, edges, fixed=True)}
    for node in before:
        assert after[node["id"]] == node


def test_labels_are_as_papers_write_them():
    labels = {node["id"]: node["label"] for node in view_of_export(export_of(grouped()))["nodes"]}
    assert labels["a1.h2"] == "1.2"
    assert labels["a1.kv1"] == "1.kv1"
    assert labels["logits"] == "logits"
    kinds = {node["id"]: node["kind"] for node in view_of_export(export_of(small()))["nodes"]}
    assert kinds["m0"] == "mlp"
    assert kinds["embed"] == "embed"
    assert kinds["a2.h1"] == "head"


def test_what_is_not_connected_says_so():
    view = view_of_export(export_of(half_connected()))
    loose = {name for name, edge in zip(names(view), view["edges"], strict=True)
             if not edge["connected"]}  # fmt: skip
    assert loose == {"a0.h1->a1.h1.v", "a1.h1->logits"}


@given(st.integers(0, 5000), st.integers(2, 1000))
def test_a_thinned_curve_keeps_its_ends_and_order(count, most):
    found = thinned(range(count), most)
    assert len(found) == min(count, most)
    assert found == sorted(set(found))
    assert found[:1] == list(range(count))[:1]
    assert found[-1:] == list(range(count))[-1:]


def test_the_curve_goes_through_the_damages_as_they_were_decided():
    graph = ComputationalGraph(1, 1)
    first, second, third = graph.edges[:3]
    made = [
        Decision(0, first, 0.0, 0.5, "kept"),
        Decision(1, second, 0.0, 0.25, "removed"),
        Decision(2, third, 0.25, math.inf, "kept"),
    ]
    circuit = Circuit(graph, frozenset({first, third}))
    export = CircuitExport(circuit, {row.edge: row for row in made})
    assert view_of_export(export)["curve"] == [[0, 0.0, 1], [1, 0.25, 1], [2, 0.25, 2]]


def test_roles_are_those_of_the_known_circuit_of_this_very_graph():
    view = view_of_export(export_of(canonical("ioi").circuit))
    known = canonical("ioi").roles
    assert view["roles"]["ioi"] == {role: [n.name for n in ns] for role, ns in known.items()}
    assert view["role_models"]["ioi"] == "gpt2"
    # Two circuits with one set of roles are offered once.
    assert "ioi-heads" not in view["roles"]
    assert view_of_export(export_of(small()))["roles"] == {}
    assert roles_of(ComputationalGraph(12, 12, parallel=True)) == ({}, {})
    assert set(roles_of(canonical("docstring").graph)[0]) == {"docstring"}


def test_roles_of_a_planted_model_are_found_by_its_name():
    known = canonical("planted:seed=1")
    found, models = roles_of(known.graph, "planted:seed=1")
    assert "planted:seed=1" in found
    assert models["planted:seed=1"] == "planted:seed=1"
    assert set(found["planted:seed=1"]) == set(known.roles)
    # A file may name any model; one that is none has no roles, and its view is shown all the same.
    assert roles_of(known.graph, "planted:nonsense") == roles_of(known.graph, "")


@pytest.fixture
def store(database_url):
    with Store.open(database_url) as opened:
        yield opened


SPEC = RunSpec(model="toy", task="ioi", tau=0.1)


def stored(store, export, upto=None):
    run_id = store.create_run(
        SPEC,
        graph=export.circuit.graph,
        engine="exact",
        versions={"discover": "1"},
        prompts_jsonl="{}\n",
    )
    rows = sorted(export.decisions.values(), key=lambda row: row.step)[:upto]
    with store.writer(run_id) as writer:
        for row in rows:
            writer.add(row)
    return run_id


def searched(graph):
    """A circuit with a decision about every edge."""
    chance = random.Random(1)
    made = []
    for step, edge in enumerate(graph.edges):
        before, score = step / 9, chance.uniform(-0.1, 0.4)
        outcome = "kept" if score >= 0.1 else "removed"
        made.append(Decision(step, edge, before, before + score, outcome))
    return CircuitExport(circuit_of(graph, made), {row.edge: row for row in made})


def test_a_stored_run_is_seen_as_its_rows_say_while_under_way_and_when_done(store):
    export = searched(ComputationalGraph(3, 4, n_kv_heads=2))
    total = len(export.circuit.graph)
    for upto in (0, 40, total):
        run_id = stored(store, export, upto)
        view = view_of_run(store, run_id[:6])
        rows = list(store.decision_rows(run_id))
        kept = [row for row in rows if row["outcome"] == "kept"]
        numbers = ("sender", "receiver", "step", "before", "after", "score")
        assert [{k: e[k] for k in numbers} for e in view["edges"]] == [
            {k: row[k] for k in numbers} for row in kept
        ]
        assert view["run"]["decided"] == upto
        assert view["run"]["status"] == "running"
        assert view["run"]["order"] == "canonical"
        assert len(view["curve"]) == upto
        if upto:
            last = rows[-1]
            damage = last["before"] if last["outcome"] == "kept" else last["after"]
            assert list(view["curve"][-1]) == [upto - 1, damage, len(kept)]
    store.finish(run_id, "done", summary={
        "kept": len(export.circuit), "evaluated": total, "dead": 0, "damage": 1.5,
        "damage_all_ablated": math.inf, "circuit_hash": export.circuit.hash,
    })  # fmt: skip
    done = view_of_run(store, run_id)
    assert done["run"]["status"] == "done"
    assert done["run"]["unit"] == "nats"
    assert done["run"]["damage_all_ablated"] == "Infinity"
    of_export = view_of_export(export)
    for key in ("nodes", "edges", "shown", "total"):
        assert done[key] == of_export[key]


def test_a_run_that_only_waits_has_a_view_without_a_graph(store):
    _, (run_id,) = store.submit(SPEC, note="later")
    view = view_of_run(store, run_id)
    assert (view["graph"], view["nodes"], view["edges"], view["total"]) == (None, [], [], 0)
    assert view["run"]["status"] == "queued"
    assert view["run"]["note"] == "later"
    assert html(view)


def test_what_there_is_no_view_of_is_one_clear_error(store):
    with pytest.raises(StoreError, match="there is no run"):
        view_of_run(store, "abc")
    with pytest.raises(InputError, match="at least one edge, got edges=0"):
        view_of_export(export_of(small()), 0)


def test_the_command_line_writes_the_page_of_a_finished_run(discover, tmp_path):
    export = searched(ComputationalGraph(1, 2))
    with Store.open(str(tmp_path / "x.db")) as opened:
        run_id = stored(opened, export)
        words = ("export", run_id, "--db", "x.db", "-o", "x.html")
        code, _, err = discover(*words)
        assert code == 2
        assert "finish it first" in err
        opened.finish(run_id, "done", summary={
            "kept": len(export.circuit), "evaluated": len(export.circuit.graph), "dead": 0,
            "damage": 1.5, "damage_all_ablated": 2.0, "circuit_hash": export.circuit.hash,
        })  # fmt: skip
        assert discover(*words)[0] == 0
        assert (tmp_path / "x.html").read_bytes() == html(view_of_run(opened, run_id))
    code, _, err = discover(*words, "--width", 3)
    assert (code, "no effect on html" in err) == (2, True)
    assert "html, prompts" in discover(*words[:-1], "x.doc")[2]


def test_of_two_circuits_every_edge_says_whose_it_is():
    a = random_circuit(GPT2, 40, 12, 1)
    b = Circuit(GPT2, frozenset(list(a.ordered)[:20]) | random_circuit(GPT2, 20, 8, 5).edges)
    contrast = Contrast(a, b, "found", "known")
    view = view_of_contrast(contrast, {"metric": "kl"}, left=export_of(a))
    sides = dict(zip(names(view), (edge["side"] for edge in view["edges"]), strict=True))
    assert {n for n, side in sides.items() if side != "right"} == {e.name for e in a.edges}
    assert {n for n, side in sides.items() if side != "left"} == {e.name for e in b.edges}
    connected = {n for n, e in zip(names(view), view["edges"], strict=True) if e["connected"]}
    assert connected == {e.name for e in a.connected.edges | b.connected.edges}
    assert (view["run"]["left"], view["run"]["right"], view["curve"]) == ("found", "known", [])
    few = view_of_contrast(contrast, {}, left=export_of(a), edges=20)
    assert {edge["side"] for edge in few["edges"]} == {"both"}


class Scripts(HTMLParser):
    """What a browser would take for elements, and the text of each script."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], None

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1][1] += data

    def handle_endtag(self, tag):
        self.inside = None


def parsed(content: bytes) -> Scripts:
    parser = Scripts()
    parser.feed(content.decode())
    return parser


def test_the_file_holds_its_data_whatever_strings_are_in_it():
    export = export_of(small(), note=HOSTILE, task=HOSTILE, model=HOSTILE)
    view = view_of_export(export)
    found, plain = parsed(html(view)), parsed(html(view_of_export(export_of(small()))))
    assert found.tags == plain.tags
    data = next(text for attrs, text in found.scripts if attrs.get("id") == "view")
    assert json.loads(data) == json.loads(json.dumps(view))


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_embedded_json_reads_back_and_cannot_end_its_script(value):
    text = embedded(value)
    assert json.loads(text) == value
    assert not re.search("[<>&\u2028\u2029]", text)


def test_the_files_policy_allows_its_own_scripts_and_nothing_else():
    page = html(view_of_export(export_of(small()))).decode()
    policy = re.search('Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-inline' " not in policy.split("style-src")[0]
    scripts = [text for attrs, text in parsed(page.encode()).scripts if "id" not in attrs]
    hashes = [single._digest(text) for text in scripts]
    assert [f"'sha256-{name}'" for name in hashes] == re.findall(r"'sha256-[^']*'", policy)
    for attribute in ("src=", "href=", "@import", "url("):
        assert attribute not in re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.S)


def test_a_file_of_a_small_circuit_is_small():
    assert len(html(view_of_export(export_of(small())))) < 1_000_000


def test_modules_that_cannot_be_put_into_one_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(single, "STATIC", tmp_path)
    (tmp_path / "a.js").write_text('import b from "./b.js";\nb();\n')
    with pytest.raises(RunError, match=r"a\.js cannot be put into one file"):
        single._wrapped("a.js")


def test_vendored_libraries_are_those_that_their_readme_names():
    readme = (STATIC / "vendor" / "README.md").read_text()
    files = {path.name: path for path in (STATIC / "vendor").glob("*.js")}
    listed = dict(re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", readme, re.M))
    assert set(listed) == set(files) != set()
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name]
        assert path.with_name(f"{name.split('.')[0]}.LICENSE").is_file()


def test_no_module_of_the_viewer_reads_text_as_html_or_names_another_host():
    for path in STATIC.glob("*.js"):
        source = path.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source
        )
        hosts = set(re.findall(r"https?://[^\"'/]+", source)) - {"http://www.w3.org"}
        assert not hosts, path.name


def test_dark_colours_are_the_same_by_switch_and_by_system():
    style = (STATIC / "circuit.css").read_text()
    by_switch = re.search(r'data-theme="dark"\] \.circuit[^{]*\{([^}]*)\}', style)[1]
    by_system = re.search(r'not\(\[data-theme="light"\]\) \.circuit[^{]*\{([^}]*)\}', style)[1]
    assert by_switch.split() == by_system.split()


def test_colours_are_those_of_the_figures():
    from discover.export.figure.contrast import STROKES
    from discover.export.figure.style import INPUT_COLORS

    style = (STATIC / "circuit.css").read_text()
    light = dict(re.findall(r"--circuit-([\w-]+): (#\w+);", style[: style.index("}")]))
    assert {port: light[port] for port in INPUT_COLORS} == {
        port: color.lower() for port, color in INPUT_COLORS.items()
    }
    assert light["left"] == STROKES["extra"].color.lower()
    assert light["right"] == STROKES["missing"].color.lower()


def test_a_view_of_thousands_of_edges_has_a_short_curve():
    view = view_of_export(searched(GPT2))
    assert len(view["curve"]) == CURVE_POINTS
    assert view["curve"][-1][0] == len(GPT2) - 1

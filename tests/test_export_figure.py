from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pygraphviz
import pytest
from export_circuits import (
    GPT2,
    export_of,
    grouped,
    half_connected,
    random_circuit,
    small,
)

from discover.acdc import Decision
from discover.circuit import Circuit
from discover.errors import InputError, RunError
from discover.export import CircuitExport, render, write
from discover.export.figure import render as renderer
from discover.export.figure.decor import wrapped
from discover.export.figure.spread import spread
from discover.export.figure.style import INPUT_COLORS, NODE_FONT, WidthScale, text_width
from discover.graph import ComputationalGraph

SVG = "{http://www.w3.org/2000/svg}"

CIRCUITS = {
    "small": small(),
    "half": half_connected(),
    "grouped": grouped(),
    "full": Circuit.full(ComputationalGraph(2, 2)),
    "gpt2, 20 edges": random_circuit(GPT2, 20, 8, 1),
    "gpt2, 60 edges": random_circuit(GPT2, 60, 20, 2),
    "gpt2, 150 edges": random_circuit(GPT2, 150, 40, 3),
    "30 layers, grouped": random_circuit(ComputationalGraph(30, 9, 3), 90, 35, 5),
    "parallel": random_circuit(ComputationalGraph(6, 8, parallel=True), 45, 16, 7),
    "no mlp": random_circuit(ComputationalGraph(4, 6, mlp=False), 40, 14, 8),
    "one kv head": random_circuit(ComputationalGraph(3, 24, 1), 90, 50, 9),
    "wide": random_circuit(ComputationalGraph(2, 40), 80, 60, 10),
    "crowded": random_circuit(GPT2, 1010, 100, 11),
    "empty": Circuit(GPT2, frozenset()),
    "unconnected": Circuit.from_names(GPT2, ["a5.h1->logits", "a3.h1->a5.h1.q"]),
}


@dataclass
class Box:
    left: float
    bottom: float
    right: float
    top: float


@cache
def dot_of(name: str, **options: Any) -> str:
    return render(export_of(CIRCUITS[name]), "dot", **options).decode()


@cache  # also keeps the graph alive while its nodes and edges are looked at
def parsed(dot: str) -> pygraphviz.AGraph:
    return pygraphviz.AGraph(string=dot)


def boxes_of(graph: pygraphviz.AGraph) -> dict[str, Box]:
    found = {}
    for node in graph.nodes():
        x, y = map(float, node.attr["pos"].split(","))
        w, h = float(node.attr["width"]) * 36, float(node.attr["height"]) * 36
        found[str(node)] = Box(x - w, y - h, x + w, y + h)
    return found


def curve_of(edge: pygraphviz.Edge, steps: int = 12) -> list[tuple[float, float]]:
    """Points along an edge as drawn, from its start to its arrow's tip."""
    tip, *rest = edge.attr["pos"].split(" ")
    points = [tuple(map(float, p.split(","))) for p in rest]
    out = []
    for i in range(0, len(points) - 1, 3):
        a, b, c, d = points[i : i + 4]
        for k in range(steps):
            t = k / steps
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            out.append(
                tuple(
                    sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True))
                    for axis in (0, 1)
                )
            )
    _, x, y = tip.split(",")
    return [*out, points[-1], (float(x), float(y))]


def shown(name: str) -> Circuit:
    return CIRCUITS[name].connected


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_edges_drawn_are_those_of_the_connected_circuit(name: str) -> None:
    graph = parsed(dot_of(name))
    assert sorted(e.attr["id"] for e in graph.edges()) == sorted(e.name for e in shown(name).edges)
    for edge in graph.edges():
        sender, receiver = edge.attr["id"].split("->")
        assert edge[0] == sender
        assert edge[1] == (receiver if receiver == "logits" else receiver.rpartition(".")[0])
        port = receiver.rpartition(".")[2]
        assert edge.attr["color"] == INPUT_COLORS[port if port in "qkv" else "in"]


@pytest.mark.parametrize("name", CIRCUITS)
def test_no_line_passes_through_a_node(name: str) -> None:
    graph = parsed(dot_of(name))
    boxes = boxes_of(graph)
    for edge in graph.edges():
        curve = curve_of(edge)
        for node, box in boxes.items():
            inside = [
                (x, y)
                for x, y in curve
                if box.left + 0.1 < x < box.right - 0.1 and box.bottom + 0.1 < y < box.top - 0.1
            ]
            assert not inside, (edge.attr["id"], node)


@pytest.mark.parametrize("name", CIRCUITS)
def test_lines_start_and_end_at_their_nodes_and_rise(name: str) -> None:
    graph = parsed(dot_of(name))
    boxes = boxes_of(graph)
    for edge in graph.edges():
        curve = curve_of(edge)
        tail, head = boxes[edge[0]], boxes[edge[1]]
        assert curve[0][1] == pytest.approx(tail.top, abs=0.02)
        assert curve[-1][1] == pytest.approx(head.bottom, abs=0.02)
        assert tail.left - 0.02 <= curve[0][0] <= tail.right + 0.02
        assert head.left - 0.02 <= curve[-1][0] <= head.right + 0.02
        heights = [y for _, y in curve]
        assert heights == sorted(heights)


@pytest.mark.parametrize("name", CIRCUITS)
def test_nodes_lie_apart_on_the_page_and_hold_their_names(name: str) -> None:
    dot = dot_of(name)
    graph = parsed(dot)
    boxes = boxes_of(graph)
    assert NODE_FONT >= 6
    width = float(
        re.search(r'_background="C 7 -#FFFFFF c 7 -#FFFFFF P 4 0.00 0.00 ([\d.]+)', dot)[1]
    )
    assert width in (pytest.approx(3.3 * 72), pytest.approx(6.8 * 72))
    for node, box in boxes.items():
        label = graph.get_node(node).attr["label"]
        assert text_width(label, NODE_FONT) <= box.right - box.left - 2
        assert box.left >= 0
        assert box.right <= width
        for other, it in boxes.items():
            if node < other:
                apart = (
                    box.right <= it.left + 0.02
                    or it.right <= box.left + 0.02
                    or box.top < it.bottom
                    or it.top < box.bottom
                )
                assert apart, (node, other)


@pytest.mark.parametrize("name", CIRCUITS)
def test_layers_are_rows_from_embedding_to_logits(name: str) -> None:
    boxes = boxes_of(parsed(dot_of(name)))
    parallel = CIRCUITS[name].graph.parallel

    def depth(node: str) -> tuple[int, int]:
        if node in ("embed", "logits"):
            return (-1, 0) if node == "embed" else (10**6, 0)
        mlp = node.startswith("m") and not parallel
        return int(re.search(r"\d+", node)[0]), int(mlp)

    rows = sorted(boxes, key=lambda node: boxes[node].bottom)
    assert [depth(n) for n in rows] == sorted(depth(n) for n in rows)


def test_small_circuits_fit_a_column_and_large_ones_the_text() -> None:
    def width(name: str, **options: Any) -> float:
        page = r"P 4 0\.00 0\.00 ([\d.]+) 0\.00"
        return float(re.search(page, _background(dot_of(name, **options)))[1])

    assert width("gpt2, 20 edges") == pytest.approx(3.3 * 72)
    assert width("gpt2, 150 edges") == pytest.approx(6.8 * 72)
    assert width("small", width=5.0) == pytest.approx(5 * 72)
    svg = render(export_of(small()), "svg", width=5.0)
    assert re.search(rb'<svg width="(\d+)pt"', svg)[1] == b"360"


def test_wider_lines_for_greater_scores() -> None:
    export = export_of(CIRCUITS["gpt2, 60 edges"])
    scores = {edge.name: d.score for edge, d in export.decisions.items()}
    lines = sorted((scores[e.attr["id"]], float(e.attr["penwidth"])) for e in parsed(
        dot_of("gpt2, 60 edges")).edges())  # fmt: skip
    widths = [width for _, width in lines]
    assert widths == sorted(widths)
    assert widths[-1] > 3 * widths[0]
    for edge in parsed(dot_of("gpt2, 60 edges")).edges():
        assert float(edge.attr["score"]) == scores[edge.attr["id"]]


def test_hidden_edges_are_counted_or_drawn() -> None:
    note = "2 of 5 edges not connected embed→logits are hidden"
    assert note in dot_of("half")
    assert "a0.h1" not in parsed(dot_of("half")).nodes()
    everything = dot_of("half", all_edges=True)
    assert "are hidden" not in everything
    assert "not connected embed→logits" in everything
    styles = {e.attr["id"]: e.attr["style"] for e in parsed(everything).edges()}
    assert len(styles) == 5
    dashed = {name for name, style in styles.items() if style == "dashed"}
    assert dashed == {"a0.h1->a1.h1.v", "a1.h1->logits"}
    assert "hidden" not in dot_of("small")
    assert "not connected" not in dot_of("small", all_edges=True)


def test_nothing_to_draw_is_said() -> None:
    assert "the circuit has no edges" in dot_of("empty")
    assert "2 of 2 edges not connected embed→logits are hidden" in dot_of("unconnected")
    for name in ("empty", "unconnected"):
        assert sorted(parsed(dot_of(name)).nodes()) == ["embed", "logits"]
        assert render(export_of(CIRCUITS[name]), "png").startswith(b"\x89PNG")


def test_a_shared_key_value_head_is_drawn_once_beside_its_heads() -> None:
    graph = parsed(dot_of("grouped"))
    boxes = boxes_of(graph)
    assert sorted(boxes) == sorted("embed logits a0.kv0 a0.h0 a0.h1 a1.kv1 a1.h2 a1.h3".split())
    for shared, first, second in (("a0.kv0", "a0.h0", "a0.h1"), ("a1.kv1", "a1.h2", "a1.h3")):
        assert boxes[shared].right == pytest.approx(boxes[first].left, abs=0.02)
        assert boxes[first].right == pytest.approx(boxes[second].left, abs=0.02)
        assert boxes[shared].bottom == boxes[first].bottom == boxes[second].bottom
    assert "key/value head" in dot_of("grouped")
    assert "key/value head" not in dot_of("small")


def test_q_k_and_v_meet_a_head_from_left_to_right() -> None:
    ends = {e.attr["id"]: curve_of(e)[-1][0] for e in parsed(dot_of("small")).edges()}
    assert ends["m0->a1.h0.q"] < ends["m0->a1.h0.k"] < ends["m0->a1.h0.v"]
    assert ends["m0->a1.h0.q"] < ends["embed->a1.h0.k"] < ends["m0->a1.h0.v"]


def test_the_legend_names_what_is_there() -> None:
    dot = dot_of("small")
    for text in ("to q", "to k", "to v", "to MLP, logits", "width: score (nats)"):
        assert f"-{text}" in dot
    assert dot.count("-0.02 ") + dot.count("-0.2 ") + dot.count("-2 ") >= 2
    assert "to q" not in dot_of("small", legend=False)
    metric = render(export_of(small(), metric="logit_diff"), "dot").decode()
    assert "score (logits)" in metric
    told = render(export_of(small(), metric="l2", unit="furlongs"), "dot").decode()
    assert "score (furlongs)" in told
    assert "width:" not in _background(render(CircuitExport(small()), "dot").decode())


def _background(dot: str) -> str:
    return parsed(dot).graph_attr["_background"]


def test_the_title_is_made_of_the_facts_or_given() -> None:
    title = _background(dot_of("small"))
    for text in ("gpt2", "ioi", "kl", "resample", "τ = 0.02", "12 of 100 edges", "0.2345 nats"):
        assert text in title, text
    assert "gpt2" not in _background(dot_of("small", title=False))
    assert "Figure one" in _background(dot_of("small", title="Figure one"))


NASTY = 'a "quoted" \\N <b>&amp;</b> \x00\n\ud800 λ→ {x|y} \\" % C:\\models\\'


@pytest.mark.parametrize("fmt", ["dot", "svg", "pdf", "png"])
def test_titles_cannot_break_a_figure(fmt: str) -> None:
    export = export_of(small(), model=NASTY, title=NASTY * 20, task="x" * 500)
    drawn = render(export, fmt, title=True)
    assert drawn
    if fmt == "svg":
        text = "".join(ElementTree.fromstring(drawn).itertext())
        assert "C:/models/" in text
        assert '"quoted" /N <b>' in text
    if fmt == "dot":
        assert len(parsed(drawn.decode()).edges()) == 12


def test_svg_is_real_text() -> None:
    for name in ("small", "grouped", "gpt2, 20 edges"):
        root = ElementTree.fromstring(render(export_of(CIRCUITS[name]), "svg"))
        texts = [element.text for element in root.iter(f"{SVG}text")]
        assert set(boxes_of(parsed(dot_of(name)))) <= set(texts)
        sizes = [float(element.get("font-size")) for element in root.iter(f"{SVG}text")]
        assert min(sizes) >= 6


def test_pdf_is_real_text_in_our_font() -> None:
    pdf = render(export_of(small()), "pdf")
    assert pdf.startswith(b"%PDF")
    assert b"DiscoverRoboto" in pdf
    assert b"/ToUnicode" in pdf


def test_png_has_the_asked_resolution() -> None:
    png = render(export_of(small()), "png", dpi=100)
    width, _ = struct.unpack(">II", png[16:24])
    assert width == pytest.approx(330, abs=3)


@pytest.mark.parametrize("fmt", ["svg", "png", "pdf"])
def test_figures_need_no_font_on_the_machine(fmt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = render(export_of(small()), fmt)
    monkeypatch.setattr(renderer, "_SYSTEM_FONTS", ())
    assert render(export_of(small()), fmt) == here
    monkeypatch.setattr(renderer, "FONTS", Path("/nowhere"))
    if fmt != "svg":
        assert render(export_of(small()), fmt) != here, "the font that comes along is not used"


def test_figures_are_the_same_under_every_hash_seed() -> None:
    code = """
import hashlib, sys
sys.path.insert(0, "tests")
from export_circuits import *
from discover.export import render
for circuit in (grouped(), random_circuit(GPT2, 20, 8, 1)):
    for fmt in ("dot", "svg", "json", "graphml"):
        content = render(export_of(circuit), fmt)
        print(fmt, hashlib.sha256(content).hexdigest())
"""
    root = Path(__file__).parent.parent
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1", "2")
    ]
    told = {run.communicate()[0] for run in runs}
    assert len(told) == 1
    assert told.pop().count("\n") == 8


def test_a_figure_leaves_the_process_as_it_was() -> None:
    before = dict(os.environ)
    code = "import sys; from export_circuits import *; from discover.export import render\n"
    code += "render(export_of(small()), 'svg'); print('pygraphviz' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"
    assert done.stderr == ""
    assert dict(os.environ) == before


def test_a_failing_graphviz_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="could not draw the figure as svg"):
        renderer.draw("this is no graph", "svg")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RunError, match="could not be run"):
        render(export_of(small()), "svg")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"colour": 1}, "unknown figure options: colour"),
        ({"all_edges": 1}, "all_edges must be true or false"),
        ({"legend": "no"}, "legend"),
        ({"title": 3}, "title"),
        ({"width": 0}, "width must be from 2 to 40 inches"),
        ({"width": float("nan")}, "width"),
        ({"width": "wide"}, "width"),
        ({"width": True}, "width"),
        ({"dpi": 100}, "without effect on svg"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        render(export_of(small()), "svg", **options)


def test_write_returns_the_path(tmp_path: Path) -> None:
    path = write(export_of(small()), "svg", str(tmp_path / "c.svg"))
    assert path.read_bytes() == render(export_of(small()), "svg")


def test_scores_without_meaning_are_drawn_all_the_same() -> None:
    circuit = small()
    numbers = [float("inf"), float("-inf"), float("nan"), 0.0, -3.0, 1e-300, 1e300, 5.0]
    decisions = {
        edge: Decision(i, edge, 0.0, score, "kept")
        for i, (edge, score) in enumerate(zip(circuit.ordered, numbers, strict=False))
    }
    for told in (decisions, dict(list(decisions.items())[:5])):
        dot = render(CircuitExport(circuit, told, {"tau": "x"}), "dot").decode()
        assert len(parsed(dot).edges()) == len(circuit)
        assert "nan" not in dot.replace('score="nan"', "")


def test_the_scale_of_widths() -> None:
    scale = WidthScale.of([0.03, 0.5, 3.0], 0.02)
    widths = [scale.width(x) for x in (-1.0, 0.02, 0.03, 0.5, 3.0, float("inf"))]
    assert widths == sorted(widths)
    assert widths[0] == widths[1] < widths[2]
    assert widths[-2] == widths[-1]
    assert 2 <= len(scale.references()) <= 3
    for low in (1e-7, 0.02, 0.7, 3.0, 99.0):
        for factor in (1, 1.5, 50, 1e6):
            for_these = WidthScale.of([low, low * factor], None)
            refs = for_these.references()
            assert 2 <= len(refs) <= 3
            assert refs == sorted(set(refs))
            assert all(low * 0.999 <= x <= for_these.high * 1.001 for x in refs)
    nearly = WidthScale.of([1.0, 1.1], None)
    assert nearly.width(1.1) - nearly.width(1.0) < 0.1
    assert not WidthScale.of([], 0.1).meaningful


def test_spread_keeps_order_distance_and_bounds() -> None:
    assert spread([5.0, 5.0, 5.0], [2.0, 2.0], 0, 10) == pytest.approx([3, 5, 7])
    assert spread([-9.0, 20.0], [1.0], 0, 10) == pytest.approx([0, 10])
    assert spread([1.0, 2.0, 3.0], [8.0, 8.0], 0, 8) == pytest.approx([0, 4, 8])
    assert spread([], [], 0, 1) == []


def test_text_is_broken_to_fit() -> None:
    lines = wrapped(["alpha", "beta gamma " * 9, "x" * 300, "end"], 100)
    assert all(text_width(line, 6.5) <= 100 for line in lines)
    assert "".join(lines).replace(" · ", "").count("x") == 300
    assert lines[0].startswith("alpha")

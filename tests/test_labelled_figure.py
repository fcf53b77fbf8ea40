"""Figures: what is drawn, that no texts meet, that files are the same each time."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from helpers_labelled import AXES, UNIT, arrays, heads
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import rc_context
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text

from discover.errors import InputError
from discover.labelled import (
    Drawing,
    LabelledArray,
    LabelledList,
    Results,
    curve,
    heatmap,
    histogram,
    scatter,
)
from discover.labelled.grid import grid

NAN = float("nan")
few = settings(max_examples=15, deadline=None)
WORDS = [
    "When",
    " John",
    "and",
    " Mary",
    "costs $5",
    "\n",
    "of_{$",
    "extraordinarily",
    "到",
    "\x00",
]


def texts(figure: Figure) -> list[Text]:
    """Every text that can be seen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure.draw_without_rendering()
    hidden = set()
    for axes, name in itertools.product(figure.axes, ("xaxis", "yaxis")):
        axis = getattr(axes, name)
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            # Matplotlib keeps ticks beyond the ends of an axis, but does not draw them.
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t not in hidden]
    return [t for t in found if t.get_text().strip()]


def meetings(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie over each other, and texts that leave the page."""
    pixel = 1.5  # boxes include the white around the letters
    boxes = []
    for text in texts(figure):
        box = text.get_window_extent()
        boxes.append(
            (text.get_text(), box.x0 + pixel, box.y0 + pixel, box.x1 - pixel, box.y1 - pixel)
        )
    width, height = figure.get_size_inches() * figure.dpi
    found = [
        (name, "page") for name, x0, y0, x1, y1 in boxes
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height
    ]  # fmt: skip
    for (one, a0, b0, a1, b1), (other, c0, d0, c1, d1) in itertools.combinations(boxes, 2):
        if a0 < c1 and c0 < a1 and b0 < d1 and d0 < b1:
            found.append((one, other))
    return found


def mesh(figure: Figure, facet: int = 0) -> QuadMesh:
    return next(a for a in figure.axes[facet].collections if isinstance(a, QuadMesh))


def of(shape: tuple[int, ...], axes: tuple[str, ...], name: str = "z", **more) -> LabelledArray:
    return LabelledArray(
        np.random.default_rng(0).normal(size=shape), axes, name=name, **UNIT, **more
    )


def positions(layers: int, n: int, name: str) -> LabelledArray:
    labels = {"pos": [f"{i}: {WORDS[i % len(WORDS)]}" for i in range(n)]}
    return of((layers, n), ("layer", "pos"), name, labels=labels)


LAYOUTS = {
    "12x12": [heads(12, 12)],
    "30 layers, five components": [
        heads(30, 9, name="z"),
        heads(30, 9, name="q"),
        heads(30, 3, axis="kv_head", name="k"),
        heads(30, 3, axis="kv_head", name="v"),
        heads(30, 9, name="pattern"),
    ],
    "positions": [positions(30, 16, name) for name in ("resid_pre", "attn_out", "mlp_out")],
    "one dimension": [of((12,), ("layer",), "attn_out"), of((12,), ("layer",), "mlp_out")],
    "strip": [of((12,), ("head",))],
    "source and target": [of((4, 4, 4, 4), AXES[-1])],
    "many sources": [of((12, 12, 12, 12), AXES[-1])],
    "layer, pos, head": [of((12, 7, 12), ("layer", "pos", "head"))],
    "one number": [of((), ())],
    "long name, narrow grid": [of((3, 1), ("layer", "head"), "a component's long name")] * 3,
    "wide": [heads(2, 100)],
    "deep": [heads(200, 2)],
    "one layer": [of((1, 1), ("layer_of_the_long_axis_name", "head"))],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("annotate", [None, False])
def test_no_texts_meet_or_leave_the_page(layout, annotate):
    for title in (
        "",
        "A title that is a good deal longer than a small figure is wide, so it breaks",
    ):
        figure = heatmap(LAYOUTS[layout], title=title, annotate=annotate).figure
        assert meetings(figure) == []


@few
@given(st.lists(arrays(most=6), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_any_arrays_can_be_drawn_without_texts_meeting(given_arrays, annotate, percent):
    figure = heatmap(given_arrays, title="t", annotate=annotate, percent=percent).figure
    assert meetings(figure) == []


def test_long_words_and_lines_of_a_title_are_broken():
    title = "first line\nsecond " + "/a/very/long/path" * 9
    for figure in (heatmap(heads(2, 2), title=title).figure, scatter(heads(2, 2), heads(2, 2),
                   title=title).figure):  # fmt: skip
        assert meetings(figure) == []
        shown = [t.get_text() for t in texts(figure)]
        assert "first line" in shown
        assert "path" in "".join(shown)


def test_results_are_drawn_by_their_numbers_alone():
    items = LabelledList(["a"], ("layer",), [{"layer": 0}])
    results = Results({"z": heads(2, 2), "l": items, "q": heads(2, 2)})
    for drawn in (heatmap(results), results.heatmap()):
        shown = [t.get_text() for t in texts(drawn.figure)]
        assert ("z" in shown, "q" in shown, "l" in shown) == (True, True, False)


def test_the_check_for_meetings_can_fail():
    figure = heatmap(heads(3, 3)).figure
    figure.text(0.3, 0.5, "written across everything" * 3)
    assert meetings(figure)


@pytest.mark.parametrize("axes", [axes for axes in AXES if len(axes) > 1])
def test_every_cell_is_drawn_where_its_labels_say(axes):
    shape = tuple(range(2, 2 + len(axes)))
    array = of(shape, axes)
    shown = grid(array)
    drawn = np.asarray(mesh(heatmap(array).figure).get_array())
    assert np.allclose(drawn.reshape(shown.values.shape), array_by_label(array, shown))


def array_by_label(array: LabelledArray, shown) -> np.ndarray:
    def value(row, column) -> float:
        at = {**dict(zip(shown.rows.axes, row, strict=True)),
              **dict(zip(shown.columns.axes, column, strict=True))}  # fmt: skip
        return float(array.sel(**at))

    return np.array([[value(r, c) for c in shown.columns.places] for r in shown.rows.places])


@pytest.mark.parametrize(
    ("axes", "rows", "columns"),
    [
        (("layer", "head"), ("layer",), ("head",)),
        (("head", "layer"), ("layer",), ("head",)),
        (("layer", "pos", "head"), ("layer", "head"), ("pos",)),
        (("head", "pos", "layer"), ("layer", "head"), ("pos",)),
        (AXES[-1], ("src_layer", "src_head"), ("layer", "head")),
        (("src_layer", "layer"), ("src_layer",), ("layer",)),
        (("query", "key"), ("query",), ("key",)),
        (("layer",), ("layer",), ()),
        (("head",), (), ("head",)),
        ((), (), ()),
    ],
)
def test_layers_go_down_and_positions_across(axes, rows, columns):
    shown = grid(of((2,) * len(axes), axes))
    assert (shown.rows.axes, shown.columns.axes) == (rows, columns)


def test_layers_go_down_from_zero():
    axes = heatmap(heads(12, 4)).figure.axes[0]
    assert axes.get_ylim() == (12, 0)
    assert [t.get_text() for t in axes.get_yticklabels()] == [str(i) for i in range(12)]


def test_all_facets_share_one_scale_centred_at_zero():
    weak, strong = heads(2, 2, name="a"), LabelledArray([[-3.0]], ("layer", "head"), **UNIT)
    drawn = heatmap([weak, strong])
    assert drawn.limit == 3
    for facet in (0, 1):
        assert mesh(drawn.figure, facet).get_clim() == (-3, 3)
    assert heatmap([weak], limit=0.5).limit == 0.5


def test_blue_is_above_zero_red_below_and_zero_white():
    drawn = mesh(heatmap(LabelledArray([1.0, -1.0, 0.0], ("head",))).figure)
    high, low, zero = drawn.to_rgba(np.array([1.0, -1.0, 0.0]))
    assert high[2] > high[0]
    assert low[0] > low[2]
    assert min(zero[:3]) > 0.95


def test_facets_share_the_labels_of_their_rows():
    figure = heatmap([heads(3, 2), heads(3, 4), heads(5, 4)]).figure
    labelled = [any(t.get_text() for t in a.get_yticklabels()) for a in figure.axes[:3]]
    assert labelled == [True, False, True]
    tops = {round(a.get_position().y1, 6) for a in figure.axes[:3]}
    assert len(tops) == 1
    upper, lower = heatmap([heads(3, 2)] * 2, columns=1).figure.axes[:2]
    assert upper.get_position().y0 > lower.get_position().y1
    assert [t.get_text() for t in lower.get_yticklabels()] == ["0", "1", "2"]


def test_missing_cells_are_hatched_and_explained():
    values = np.array([[0.0, NAN], [1, 2]])
    figure = heatmap(LabelledArray(values, ("layer", "head"))).figure
    assert np.ma.getmaskarray(mesh(figure).get_array()).ravel().tolist() == [
        False,
        True,
        False,
        False,
    ]
    assert figure.axes[0].patch.get_hatch()
    assert "no value (NaN)" in [t.get_text() for t in texts(figure)]
    whole = heatmap(LabelledArray(np.nan_to_num(values), ("layer", "head"))).figure
    assert not whole.axes[0].patch.get_hatch()
    assert "no value (NaN)" not in [t.get_text() for t in texts(whole)]


def test_infinities_have_the_strongest_colours_not_the_hatching():
    array = LabelledArray([np.inf, -np.inf, 0.5], ("head",))
    drawn = heatmap(array)
    assert drawn.limit == 0.5
    assert np.ma.getmaskarray(mesh(drawn.figure).get_array()).sum() == 0
    assert mesh(drawn.figure).get_array().ravel().tolist() == [0.5, -0.5, 0.5]


@pytest.mark.parametrize("value", [0.0, NAN, float("inf"), -float("inf"), 1e-320, 1e-12, 1.7e308])
def test_degenerate_values_are_drawn(value, tmp_path):
    array = LabelledArray(np.full((2, 2), value), ("layer", "head"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = heatmap(array)
        drawn.save(tmp_path / "x.png")
    assert drawn.limit > 0
    assert meetings(drawn.figure) == []


def test_numbers_are_written_into_few_cells_and_as_percentages_if_asked():
    few_cells, many = heads(2, 2), heads(30, 9)
    assert len(heatmap(few_cells).figure.axes[0].texts) == 4
    assert not heatmap(many).figure.axes[0].texts
    assert len(heatmap(many, annotate=True).figure.axes[0].texts) == 270
    half = LabelledArray([0.5, -0.254], ("head",))
    assert [t.get_text() for t in heatmap(half).figure.axes[0].texts] == ["+0.50", "-0.25"]
    percent = heatmap(half, percent=True).figure
    assert [t.get_text() for t in percent.axes[0].texts] == ["+50%", "-25%"]
    assert "40%" in [t.get_text() for t in texts(percent)]


def test_the_colour_bar_says_unit_and_direction():
    shown = " ".join(t.get_text() for t in texts(heatmap(heads(12, 12)).figure))
    assert UNIT["unit"] in shown
    assert UNIT["direction"] in shown


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: heatmap([]), "nothing to draw"),
        (lambda: heatmap([np.zeros((2, 2))]), "got a ndarray"),
        (lambda: heatmap(heads(1, 1), limit=0), "limit=0"),
        (lambda: heatmap(heads(1, 1), limit=NAN), "limit=nan"),
        (lambda: heatmap(heads(1, 1), columns=0), "columns=0"),
        (lambda: heatmap([heads(1, 1), heads(1, 1, unit="nats")]), "different units"),
        (lambda: Results({"l": LabelledList([], (), [])}).heatmap(), "nothing to draw"),
        (lambda: scatter(heads(1, 2), heads(2, 1)), "'layer' has"),
        (lambda: scatter(LabelledArray(NAN, ()), LabelledArray(NAN, ())), "nothing to compare"),
        (lambda: histogram({}), "no finite values"),
        (lambda: histogram({"a": [NAN]}), "no finite values"),
        (lambda: histogram({"a": [1.0]}, bins=0), "bins=0"),
        (lambda: curve([1, 2], {"a": [1]}), "curve 'a' has shape"),
        (lambda: curve([1, 2], {}), "needs lines"),
        (lambda: curve([0, 1], {"a": [1, 2]}, log_x=True), "above 0"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, said):
    with pytest.raises(InputError, match=said):
        call()


def all_kinds() -> dict[str, Drawing]:
    exact, estimate = heads(6, 6), heads(6, 6, seed=1, name="EAP")
    values = exact.values.copy()
    values[0, 0] = NAN
    holed = LabelledArray(values, ("layer", "head"), name="z", **UNIT)
    return {
        "heatmap": Results({"z": holed, "q": estimate}).heatmap(title="Heads $a$"),
        "scatter": scatter(exact, estimate, title="EAP against exact"),
        "histogram": histogram({"z": exact, "EAP_$": estimate.values}, x_label="score"),
        "curve": curve([1, 10, 100], {"a": [1, NAN, 2], "b": [0, 1, 2]}, log_x=True, x_label="n"),
    }


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_input_gives_the_same_bytes_whatever_the_user_has_set(form, tmp_path):
    first = all_kinds()
    with rc_context({"svg.hashsalt": None, "font.size": 20, "svg.fonttype": "path"}):
        again = all_kinds()
        for kind, drawn in again.items():
            drawn.save(tmp_path / f"{kind}-again.{form}")
    for kind, drawn in first.items():
        drawn.save(tmp_path / f"{kind}.{form}")
        content = (tmp_path / f"{kind}.{form}").read_bytes()
        assert content[:4] in (b"\x89PNG", b"<?xm", b"%PDF")
        assert content == (tmp_path / f"{kind}-again.{form}").read_bytes()
        drawn.save(tmp_path / f"{kind}.{form.upper()}")
        assert content == (tmp_path / f"{kind}.{form.upper()}").read_bytes()


def test_a_fresh_process_writes_the_same_file_and_pyplot_is_left_alone(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from discover.labelled import LabelledArray\n"
        "array = LabelledArray(np.eye(3), ('layer', 'head'), name='z', unit='nats')\n"
        "array.heatmap(title='t').save(sys.argv[1])\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)\n"
    )
    contents = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.svg"
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code, path], env=env, check=False)
        assert done.returncode == 0
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_svg_holds_text_as_text_and_tokens_as_they_are(tmp_path):
    array = positions(2, 10, "z")
    array.heatmap().save(tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text("utf-8")
    for word in ("costs $5", "of_{$", "到", "\\n", "\\x00"):
        assert word in text


def test_files_that_cannot_be_written_are_errors(tmp_path):
    drawn = heatmap(heads(1, 1))
    for name in ("x.jpg", "x", "x.png.gz"):
        with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
            drawn.save(tmp_path / name)
    with pytest.raises(InputError, match="no directory"):
        drawn.save(tmp_path / "missing" / "x.png")
    (tmp_path / "dir.png").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        drawn.save(tmp_path / "dir.png")


def test_notebooks_get_a_png():
    assert heatmap(heads(1, 1))._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["scatter", "histogram", "curve"])
def test_texts_of_small_figures_do_not_meet(kind):
    assert meetings(all_kinds()[kind].figure) == []


@pytest.mark.parametrize("scale", [1e-9, 3e-5, 2.6e-4, 1.0, 1e4, 1e7])
def test_numbers_of_any_size_have_room(scale):
    values = np.array([-1.0, 0.3, 0.9]) * scale
    x, y = (LabelledArray(v, ("head",), name="z", **UNIT) for v in (values, values[::-1]))
    assert meetings(scatter(x, y, title="Estimate against exact").figure) == []
    assert meetings(histogram({"a": values}, title="Values", x_label="x").figure) == []
    drawn = curve(np.abs(values), {"a": values}, title="Curve", x_label="x", y_label="y")
    assert meetings(drawn.figure) == []
    assert meetings(heatmap([x, y], title="Values").figure) == []


def test_a_scatter_names_the_worst_and_draws_the_identity():
    exact = heads(4, 4)
    values = exact.values.copy()
    values[2, 1] += 2
    values[0, 0] = np.inf
    axes = scatter(exact, LabelledArray(values, exact.axes), worst=2).figure.axes[0]
    assert [t.get_text() for t in axes.texts] == ["a2.h1"]
    x, y = axes.lines[0].get_data()
    assert list(x) == list(y)
    assert len(axes.collections[0].get_offsets()) == 15


def test_names_in_a_crowd_of_points_do_not_meet():
    rng = np.random.default_rng(0)
    exact = LabelledArray(1 + rng.normal(size=(5, 5)) * 1e-3, ("layer", "head"))
    estimate = LabelledArray(1 + rng.normal(size=(5, 5)) * 1e-3, ("layer", "head"))
    assert meetings(scatter(exact, estimate, worst=12).figure) == []


def test_histograms_count_every_finite_value_over_common_bins():
    axes = histogram({"a": [0.0, 1, 1, NAN], "b": [[2.0, 4]]}, bins=4).figure.axes[0]
    labels = [t.get_text() for t in axes.get_legend().get_texts()]
    assert labels == ["a (n = 3)", "b (n = 2)"]
    assert axes.get_ylim()[1] == pytest.approx(2 * 1.05)
    assert {round(v, 6) for v in axes.patches[0].get_xy()[:, 0]} == {0, 1, 2, 3, 4}

"""Labelled arrays: construction, selection, reduction, ranking, tables."""

from __future__ import annotations

import copy
import csv
import math
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers_graph import law
from helpers_labelled import UNIT, arrays, heads
from hypothesis import given
from hypothesis import strategies as st

from discover.errors import InputError
from discover.labelled import LabelledArray, LabelledList, Results

NAN = float("nan")


def test_axes_without_labels_count_from_zero():
    array = LabelledArray(np.zeros((2, 3)), ("layer", "head"))
    assert array.labels == {"layer": (0, 1), "head": (0, 1, 2)}
    assert array.shape == (2, 3)


def test_numpy_is_the_array_itself_and_cannot_be_changed_through_it():
    values = np.zeros((2, 3))
    array = LabelledArray(values, ("layer", "head"))
    assert np.shares_memory(array.numpy(), values)
    with pytest.raises(ValueError, match="read-only"):
        array.numpy()[0, 0] = 1
    values[0, 0] = 5  # the caller's own array stays theirs to write


def test_numpy_functions_take_it_as_an_array():
    array = heads(2, 3)
    assert np.array_equal(np.abs(array), np.abs(array.values))
    assert np.asarray(array, dtype=np.float32).dtype == np.float32
    copied = np.array(array)
    copied[0, 0] = 7
    assert array.values[0, 0] != 7


@pytest.mark.parametrize(
    ("values", "axes", "labels", "said"),
    [
        (np.zeros((2, 3)), ("layer",), {}, "2 dimensions, but there are 1 axes"),
        (np.zeros(2), ("layer", "head"), {}, "1 dimensions, but there are 2 axes"),
        (np.zeros(2), ("layer",), {"layer": [0, 1, 2]}, "2 cells but 3 labels"),
        (np.zeros(2), ("layer",), {"head": [0, 1]}, "no axis 'head'.*'layer'"),
        (np.zeros(2), ("layer",), {"layer": [4, 4]}, "label 4 twice"),
        (np.zeros(2), ("layer",), {"layer": [0.5, 1]}, "integers or strings"),
        (np.zeros(2), ("layer",), {"layer": [True, False]}, "integers or strings"),
        (np.zeros(2), ("layer",), {"layer": "ab"}, "one string"),
        (np.zeros((2, 2)), ("layer", "layer"), {}, "twice"),
        (np.zeros(2), ("value",), {}, "column of the long table"),
        (np.zeros(2), ("my axis",), {}, "named like a variable"),
        (np.zeros(2), "layer", {}, "give a tuple"),
        (np.zeros((2, 0)), ("layer", "head"), {}, "'head' is empty"),
        (np.array([1j]), ("layer",), {}, "real numbers"),
        (["a"], ("layer",), {}, "real numbers"),
        ([[1], [1, 2]], ("layer",), {}, "do not form an array"),
    ],
)
def test_what_does_not_fit_together_is_said(values, axes, labels, said):
    with pytest.raises(InputError, match=said):
        LabelledArray(values, axes, labels)


def test_repr_says_what_it_is_in_one_line():
    values = np.array([[0.1, NAN], [-0.9, 0.2]])
    text = repr(LabelledArray(values, ("layer", "head"), name="q", **UNIT))
    assert text == (
        "<LabelledArray q [layer 2, head 2] in normalised logit difference (0 = as corrupted, "
        "1 = as clean): -0.9 to 0.2, largest a1.h0 -0.9, 1 NaN>"
    )
    assert "all NaN" in repr(LabelledArray(NAN, ()))
    assert repr(LabelledArray(0.5, ())) == "<LabelledArray []: 0.5>"


def test_sel_drops_the_axis_and_keeps_everything_else():
    array = heads(3, 4, labels={"layer": [5, 7, 9]})
    part = array.sel(layer=7)
    assert part.axes == ("head",)
    assert np.array_equal(part.values, array.values[1])
    assert (part.name, part.unit, part.direction) == (array.name, array.unit, array.direction)
    assert float(array.sel(layer=np.int64(9), head=2)) == array.values[2, 2]
    with pytest.raises(InputError, match="not one number"):
        float(part)


def test_sel_finds_a_position_by_its_number():
    array = LabelledArray([1.0, 2.0, 3.0], ("pos",), {"pos": ["1: a", "11: b", "2: c"]})
    assert float(array.sel(pos=1)) == 1
    assert float(array.sel(pos="11: b")) == 2
    with pytest.raises(InputError, match="no label 3; its labels are '1: a', '11: b', '2: c'"):
        array.sel(pos=3)


def test_sel_of_what_is_not_there_names_what_is():
    with pytest.raises(InputError, match="no axis 'kv_head'; the axes are 'layer', 'head'"):
        heads(2, 2).sel(kv_head=0)
    with pytest.raises(InputError, match=r"no label 40; its labels are 0, 1, .*\.\.\., 29"):
        heads(30, 2).sel(layer=40)


def test_sums_and_means_ignore_nan_but_do_not_invent_numbers():
    array = LabelledArray([[1.0, NAN, 3.0], [NAN, NAN, NAN]], ("layer", "head"))
    assert array.sum("head").values.tolist()[0] == 4
    assert array.mean("head").values.tolist()[0] == 2
    assert math.isnan(array.sum("head").values[1])
    assert math.isnan(array.mean("head").values[1])
    assert float(array.sum()) == 4
    assert array.mean("layer").axes == ("head",)
    with pytest.raises(InputError, match="no axis 'pos'"):
        array.sum("pos")
    with pytest.raises(InputError, match="twice"):
        array.sum(["head", "head"])


@law
@given(arrays(), st.data())
def test_sums_over_some_axes_and_then_the_rest_are_the_sum_over_all(array, data):
    some = [axis for axis in array.axes if data.draw(st.booleans())]
    assert np.allclose(array.sum(some).sum().values, array.sum().values, equal_nan=True)
    if not np.isnan(array.values).all():
        assert math.isclose(float(array.mean()), float(np.nanmean(array.values)), abs_tol=1e-12)


@law
@given(arrays(), st.data())
def test_a_cell_has_the_same_value_under_its_labels_however_the_axes_lie(array, data):
    turned = array.transpose(*data.draw(st.permutations(array.axes)))
    for labels, value in array.cells():
        assert np.array_equal(float(turned.sel(**labels)), value, equal_nan=True)
    assert array.transpose().axes == array.axes[::-1]


def test_transpose_wants_every_axis_once():
    with pytest.raises(InputError, match="name each of layer, head once"):
        heads(2, 2).transpose("layer")


@law
@given(
    arrays(),
    st.sampled_from(["abs", "high", "low"]),
    st.integers(0, 30),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_top_is_what_sorting_all_cells_gives(array, by, n, threshold):
    size = {"abs": abs, "high": float, "low": lambda v: -v}[by]
    cells = [(labels, value) for labels, value in array.cells() if not math.isnan(value)]
    expected = sorted(cells, key=lambda cell: -size(cell[1]))  # stable: ties in canonical order
    found = array.top(n, by)
    assert [(item.labels, item.value) for item in found] == expected[:n]
    above = [(item.labels, item.value) for item in array.above(threshold, by)]
    assert above == [cell for cell in expected if size(cell[1]) > threshold]


@pytest.mark.parametrize(
    ("axes", "labels", "name", "text"),
    [
        (("layer", "head"), {"layer": [9], "head": [6]}, "z", "a9.h6"),
        (("head", "layer"), {"layer": [9], "head": [6]}, "z", "a9.h6"),
        (("layer", "kv_head"), {"layer": [9], "kv_head": [1]}, "k", "a9.kv1"),
        (("layer",), {"layer": [9]}, "mlp_out", "m9"),
        (("layer",), {"layer": [9]}, "attn_out", "layer 9"),
        (("src_layer", "src_head", "layer", "head"), {"layer": [3]}, "q", "a0.h0->a3.h0"),
        (("layer", "head", "pos"), {"pos": ["3: John"]}, "z", "layer 0, head 0, pos 3: John"),
        (("layer", "pos"), {"pos": ["3: \n"]}, "z", "layer 0, pos 3: \\n"),
        (("layer", "head"), {"layer": ["all"]}, "z", "layer all, head 0"),
        ((), {}, "z", "z"),
    ],
)
def test_cells_are_named_as_nodes_where_they_are_nodes(axes, labels, name, text):
    array = LabelledArray(np.ones((1,) * len(axes)), axes, labels, name=name)
    assert array.top(1)[0].text == text


def test_wrong_rankings_are_refused():
    array = heads(2, 2)
    for wrong in (-1, 1.5):
        with pytest.raises(InputError, match="n="):
            array.top(wrong)
    with pytest.raises(InputError, match="by='size'.*abs, high, low"):
        array.top(1, by="size")
    with pytest.raises(InputError, match="NaN"):
        array.above(NAN)


def test_two_dimensions_become_a_table_and_others_a_series():
    table = heads(2, 3, labels={"layer": [4, 5]}).pandas()
    assert isinstance(table, pd.DataFrame)
    assert (table.index.name, table.columns.name) == ("layer", "head")
    assert table.loc[5, 2] == heads(2, 3).values[1, 2]
    three = LabelledArray(np.arange(8.0).reshape(2, 2, 2), ("layer", "pos", "head"), name="z")
    assert three.pandas().loc[(1, 0, 1)] == 5
    assert three.pandas().index.names == ["layer", "pos", "head"]
    assert three.sel(layer=0, pos=0).pandas().index.name == "head"
    assert LabelledArray(2.5, (), name="z").pandas().tolist() == [2.5]


@law
@given(arrays())
def test_the_long_table_has_a_row_a_cell(array):
    table = array.long()
    assert list(table.columns) == [*array.axes, "value", "name"]
    rows = [(dict(zip(array.axes, row, strict=False)), row[-2]) for row in table.values.tolist()]
    assert len(rows) == array.values.size
    for (labels, value), (own, expected) in zip(rows, array.cells(), strict=True):
        assert labels == own
        assert np.array_equal(value, expected, equal_nan=True)


def test_csv_reads_back_as_the_same_numbers(tmp_path):
    values = [[0.1 + 0.2, NAN], [-1e-17, 3.0]]
    array = LabelledArray(values, ("layer", "pos"), {"pos": ['0: ,"', "1: \n"]}, name="z")
    path = tmp_path / "z.csv"
    array.to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["pos"] for row in rows[:2]] == ['0: ,"', "1: \n"]
    assert [row["value"] for row in rows] == ["0.30000000000000004", "", "-1e-17", "3.0"]
    with pytest.raises(InputError, match="no directory"):
        array.to_csv(tmp_path / "missing" / "z.csv")


def test_results_can_be_pickled_and_copied():
    results = Results({"z": heads(2, 2), "l": LabelledList(["a"], ("layer",), [{"layer": 3}])})
    for twin in (pickle.loads(pickle.dumps(results)), copy.deepcopy(results)):
        assert np.array_equal(twin["z"].values, results["z"].values)
        assert twin["l"].at(layer=3) == "a"


def test_a_list_gives_its_items_by_label():
    labels = [{"layer": 0, "head": h} for h in range(3)]
    items = LabelledList(["a", [1, 2], None], ("layer", "head"), labels, name="text")
    assert items == ["a", [1, 2], None]
    assert items.at(layer=0, head=1) == [1, 2]
    assert items.at(head=2) is None
    assert items.pandas().loc[(0, 1)] == [1, 2]
    with pytest.raises(InputError, match="3 items are at layer=0"):
        items.at(layer=0)
    with pytest.raises(InputError, match="no items are at head=9"):
        items.at(head=9)
    with pytest.raises(InputError, match="no axis 'pos'"):
        items.at(pos=0)


def test_a_list_of_lists_stays_a_series_of_lists():
    items = LabelledList([[1, 2], [3, 4]], ("layer",), [{"layer": 0}, {"layer": 1}])
    assert items.pandas().tolist() == [[1, 2], [3, 4]]


def test_a_list_needs_a_label_per_item_and_axis():
    with pytest.raises(InputError, match="2 items have 1 dicts"):
        LabelledList(["a", "b"], ("layer",), [{"layer": 0}])
    with pytest.raises(InputError, match="item 0 has labels for head"):
        LabelledList(["a"], ("layer",), [{"head": 0}])


def several() -> Results:
    return Results(
        {
            "q": LabelledArray([[0.1, -0.5]], ("layer", "head"), name="ignored", **UNIT),
            "k": LabelledArray([[0.5], [NAN]], ("layer", "kv_head"), **UNIT),
            "words": LabelledList(["a"], ("layer",), [{"layer": 0}]),
        }
    )


def test_results_keep_their_order_and_give_each_component_its_key():
    results = several()
    assert list(results) == ["q", "k", "words"]
    assert [found.name for found in results.values()] == ["q", "k", "words"]
    assert repr(results) == "<Results q, k, words>"
    with pytest.raises(InputError, match="'x' is a float"):
        Results({"x": 1.0})


def test_results_rank_over_all_components_and_ties_keep_their_order():
    results = several()
    assert [item.text for item in results.top(2)] == ["q a0.h1", "k a0.kv0"]
    assert [item.text for item in results.top(9, "high")] == ["k a0.kv0", "q a0.h0", "q a0.h1"]
    assert results.top(1)[0].labels == {"name": "q", "layer": 0, "head": 1}
    assert [item.text for item in results.above(0.2, "low")] == ["q a0.h1"]
    other = Results({"q": heads(1, 1), "p": heads(1, 1, unit="nats")})
    with pytest.raises(InputError, match="different units"):
        other.top()


def test_the_long_table_of_results_keeps_layers_whole_numbers(tmp_path):
    results = several()
    table = results.long()
    assert list(table.columns) == ["layer", "head", "kv_head", "value", "name"]
    assert table["head"].dtype == "Int64"
    assert table["head"].tolist()[:2] == [0, 1]
    assert table["kv_head"].isna().tolist() == [True, True, False, False, True]
    assert results.pandas().equals(table)
    results.to_csv(tmp_path / "all.csv")
    lines = (tmp_path / "all.csv").read_text("utf-8").splitlines()
    assert lines == [
        "layer,head,kv_head,value,name",
        "0,0,,0.1,q",
        "0,1,,-0.5,q",
        "0,,0,0.5,k",
        "1,,0,,k",
        "0,,,a,words",
    ]


def test_importing_the_package_imports_no_heavy_library():
    code = (
        "import sys, discover.labelled\n"
        "heavy = {'matplotlib', 'pandas', 'rich', 'torch'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

"""Agreement of an estimate with exact values."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers_graph import law
from helpers_labelled import arrays, heads
from hypothesis import given
from hypothesis import strategies as st

from discover.errors import InputError
from discover.labelled import LabelledArray, agreement

NAN = float("nan")


def line(values, **more) -> LabelledArray:
    return LabelledArray(values, ("head",), **more)


def test_known_values():
    found = agreement(line([2.0, 1, 4, NAN, -3]), line([1.0, 2, 4, 5, -1], unit="nats"), worst=2)
    assert (found.n, found.left_out) == (4, 1)
    assert found.spearman == pytest.approx(0.8)  # ranks 3 2 4 1 against 2 3 4 1
    assert found.pearson == pytest.approx(np.corrcoef([2, 1, 4, -3], [1, 2, 4, -1])[0, 1])
    assert found.mean_absolute_error == 1
    assert found.sign_agreement == 1
    assert [(o.text, o.estimate, o.exact) for o in found.worst] == [
        ("head 4", -3, -1),
        ("head 0", 2, 1),
    ]
    assert str(found) == (
        "Over 4 cells: Spearman 0.800, Pearson 0.925, mean absolute error 1 nats. The sign is "
        "right in 100% of the 4 largest exact values. Farthest off: head 4 (-3, exactly -1). "
        "Left out for want of a value: 1."
    )


def test_signs_count_only_where_the_exact_value_is_large_and_has_one():
    exact = line([5.0, -4, 0.1, 0.1, 0])
    estimate = line([5.0, 4, -1, -1, 3])
    assert agreement(estimate, exact, largest=2).sign_agreement == 0.5
    assert agreement(estimate, exact).largest == 4
    assert agreement(estimate, exact).sign_agreement == 0.25
    assert math.isnan(agreement(estimate, line([0.0] * 5)).sign_agreement)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e300])
def test_constants_have_no_correlation(constant):
    found = agreement(line([constant] * 7), line(np.arange(7.0)))
    assert math.isnan(found.spearman)
    assert math.isnan(found.pearson)


def test_nothing_in_common_is_said():
    found = agreement(line([NAN, 1]), line([1, NAN]))
    assert found.n == 0
    assert math.isnan(found.mean_absolute_error)
    assert found.worst == ()
    assert str(found) == "No cell has both values (2 left out): nothing to compare."


@law
@given(arrays(), st.data())
def test_as_pandas_has_it(exact, data):
    noise = data.draw(st.lists(st.floats(-1, 1), min_size=1, max_size=9))
    values = exact.values + np.resize(noise, exact.shape)
    found = agreement(replace(exact, values=values), exact)
    frame = pd.DataFrame({"x": values.ravel(), "y": exact.values.ravel()}).dropna()
    assert found.n == len(frame)
    if min(np.ptp(frame["x"]), np.ptp(frame["y"])) > 1e-6 if len(frame) else False:
        assert found.pearson == pytest.approx(frame["x"].corr(frame["y"]), abs=1e-6)
        ranked = frame.rank()
        assert found.spearman == pytest.approx(ranked["x"].corr(ranked["y"]), abs=1e-9)


@law
@given(arrays())
def test_an_array_agrees_with_itself_and_opposes_its_negative(array):
    same, opposite = agreement(array, array), agreement(replace(array, values=-array.values), array)
    if same.n:
        assert same.mean_absolute_error == 0
    if not math.isnan(same.spearman):
        assert same.spearman == pytest.approx(1)
        assert opposite.spearman == pytest.approx(-1)
    if same.largest:
        assert (same.sign_agreement, opposite.sign_agreement) == (1, 0)


@law
@given(arrays(axes=("layer", "head")))
def test_ranks_do_not_see_a_monotone_change(array):
    cubed = replace(array, values=np.round(array.values, 2) ** 3)
    rounded = replace(array, values=np.round(array.values, 2))
    found = agreement(cubed, rounded).spearman
    assert math.isnan(found) or found == pytest.approx(1)


def test_huge_and_tiny_values_do_not_overflow():
    x = np.array([1.0, 2, 4])
    for scale in (1e300, 1e-300):
        assert agreement(line(x * scale), line(x)).pearson == pytest.approx(1)


def test_arrays_that_do_not_correspond_are_refused():
    with pytest.raises(InputError, match=r"axes \(layer, head\) and \(head, layer\)"):
        agreement(heads(2, 2), heads(2, 2).transpose())
    with pytest.raises(InputError, match="'head' has 2 cells in one array and 3"):
        agreement(heads(2, 2), heads(2, 3))
    with pytest.raises(InputError, match="place 1 of axis 'layer' is 1 in one array and 4"):
        agreement(heads(2, 2), heads(2, 2, labels={"layer": [0, 4]}))
    with pytest.raises(InputError, match="worst=-1"):
        agreement(heads(2, 2), heads(2, 2), worst=-1)

"""Tables in the terminal."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from helpers_graph import law
from helpers_labelled import UNIT, arrays, heads
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from discover.errors import InputError
from discover.labelled import LabelledArray, LabelledList, Results, print_terminal, terminal

NAN = float("nan")
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def small() -> LabelledArray:
    return LabelledArray([[1.0, NAN], [-0.254, 0]], ("layer", "head"), name="z", **UNIT)


def test_plain_tables_have_signed_numbers_and_a_dash_for_nan():
    assert small().terminal(width=80).splitlines() == [
        "z: normalised logit difference, 0 = as corrupted, 1 = as clean",
        "      head",
        "layer     0     1",
        "0     +1.00     -",
        "1     -0.25 +0.00",
    ]


def test_columns_that_do_not_fit_go_into_another_block():
    lines = heads(1, 12).terminal(width=40).splitlines()
    assert [line.split()[1:] for line in lines if line.startswith("layer")] == [
        ["0", "1", "2", "3", "4"],
        ["5", "6", "7", "8", "9"],
        ["10", "11"],
    ]


def test_colour_only_adds_colour():
    coloured = small().terminal(width=80, color=True)
    assert ESCAPES.sub("", coloured) == small().terminal(width=80)
    blue, red = "48;2;33;102;172", "48;2;178;24;43"
    assert blue in coloured  # 1 is the largest
    assert red not in coloured
    assert red in LabelledArray([-3.0], ("layer",)).terminal(color=True)


def test_components_of_one_unit_share_a_scale_and_others_do_not():
    strong, weak = LabelledArray([2.0], ("layer",)), LabelledArray([0.2], ("layer",))
    blue = "48;2;33;102;172"
    assert terminal(Results({"a": strong, "b": weak}), color=True).count(blue) == 1
    nats = LabelledArray([0.2], ("layer",), unit="nats")
    assert terminal(Results({"a": strong, "b": nats}), color=True).count(blue) == 2


def test_colour_follows_the_file_and_no_color(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def printed(file: io.StringIO, **options) -> str:
        print_terminal(small(), file=file, width=80, **options)
        return file.getvalue()

    assert "\x1b" in printed(Tty())
    assert printed(io.StringIO()) == small().terminal(width=80)
    assert "\x1b" in printed(io.StringIO(), color=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(Tty())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in printed(Tty())


def test_print_goes_to_stdout(capsys):
    print_terminal(small(), width=80)
    assert capsys.readouterr().out == small().terminal(width=80)


@law
@given(arrays(most=9), st.integers(20, 120), st.booleans())
def test_no_line_is_wider_than_asked_and_no_number_is_lost(array, width, color):
    text = ESCAPES.sub("", array.terminal(width=width, color=color))
    assert max(cell_len(line) for line in text.split("\n")) <= width
    numbers = re.findall(r"[+-]\d+\.\d+(?:e[+-]\d+)?", text.split("clean\n")[-1])
    assert len(numbers) >= np.isfinite(array.values).sum()


def test_long_axis_titles_are_cut_to_the_width():
    array = LabelledArray(np.zeros((2, 2, 2, 2)), ("src_layer", "src_head", "layer", "head"))
    lines = array.terminal(width=20).splitlines()
    assert max(cell_len(line) for line in lines) <= 20
    assert any(line.endswith("…") for line in lines)


def test_small_values_get_more_decimals():
    assert "+0.0012" in LabelledArray([0.00123], ("layer",)).terminal()
    assert "+1.2e-07" in LabelledArray([1.23e-7], ("layer",)).terminal()


def test_lists_and_single_numbers_are_printed_too():
    items = LabelledList(range(30), ("layer",), [{"layer": i} for i in range(30)], name="ids")
    lines = terminal(items, width=80).splitlines()
    assert lines[0] == "ids: 30 items"
    assert lines[3] == "  layer 2: 2"
    assert lines[-1] == "  ... and 10 more"
    assert "+0.50" in LabelledArray(0.5, ()).terminal()


def test_markup_in_tokens_is_printed_as_it_is():
    array = LabelledArray([1.0, 2], ("pos",), {"pos": ["0: [red]", "1: :x:"]})
    assert "0: [red]" in array.terminal(width=80)
    assert "1: :x:" in array.terminal(width=80)


def test_too_narrow_is_an_error():
    with pytest.raises(InputError, match="width=19"):
        small().terminal(width=19)


def test_what_rounds_to_zero_has_no_minus():
    text = terminal(LabelledArray(np.array([[0.5, -0.001], [0.0, -0.5]]), ("layer", "head")))
    assert "-0.00" not in text and text.count("+0.00") == 2 and "-0.50" in text

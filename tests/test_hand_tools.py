"""The experiments with the hand tools: each runs on the small model, and their checks can fail."""

import contextlib
import importlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from discover.model import load_model
from discover.patching.nodes import clean_inputs, corrupted_inputs, logit_difference, measure

FOLDER = Path(__file__).parent.parent / "experiments" / "hand_tools"
NAMES = ("common", "gpt2_figures", "found_heads", "activation_patching", "induction",
         "path_patching", "direct_paths", "attribution", "run_all")  # fmt: skip
FIGURES = {
    "activation_patching": [
        "act_heads_z", "act_heads_five", "act_blocks", "act_name_movers", "act_heads_by_position",
    ],
    "induction": ["induction_heads"],
    "path_patching": [
        "path_heads_to_logits", "path_blocks_to_logits", "path_heads_to_name_movers_q",
        "path_heads_to_s_inhibition_v", "path_negative_attention",
    ],
    "direct_paths": ["direct_paths"],
    "attribution": ["attr_heads_at_end", "attr_heads_by_position", "attr_by_layer", "attr_scatter"],
}  # fmt: skip
EQUAL = {"activation_patching": 8, "induction": 4, "path_patching": 2, "direct_paths": 1,
         "attribution": 1}  # fmt: skip
"""How many equalities each script must have asserted."""


@pytest.fixture(scope="module")
def scripts():
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(FOLDER))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def command(out, *more):
    return ["--model", "tiny-ioi", "--task", "ioi", "--prompts", "2", "--out", str(out), *more]


@pytest.fixture(scope="module")
def told(scripts, tmp_path_factory):
    """What all scripts print, script by script, and their figures' folder."""
    out, text = tmp_path_factory.mktemp("figures"), io.StringIO()
    with contextlib.redirect_stdout(text):
        scripts["run_all"].main(command(out))
    parts = ("=== path_patching\n" + text.getvalue()).split("=== ")[1:]
    return {part.split("\n", 1)[0]: part for part in parts}, out


@pytest.mark.parametrize("name", FIGURES)
def test_scripts_hold_their_equalities(name, told):
    text = told[0][name]
    assert text.count("  equal: ") == EQUAL[name]
    for figure in FIGURES[name]:
        assert f"figure: {figure}.png" in text
    if name != "induction":
        assert "checked on gpt2 only, not run here" in text


def test_every_figure_is_there_and_no_other(told):
    found = {path.name: path.stat().st_size for path in told[1].iterdir()}
    assert set(found) == {f"{name}.png" for names in FIGURES.values() for name in names}
    assert min(found.values()) > 5000


def test_all_scripts_take_the_heads_that_path_patching_finds(told):
    assert "name movers heads, found: a3.h3" in told[0]["path_patching"]
    for name in ("activation_patching", "direct_paths"):
        assert "name movers, as given: a3.h3" in told[0][name]


def test_a_script_alone_finds_its_heads_itself(scripts, tmp_path, capsys):
    scripts["direct_paths"].main(command(tmp_path, "--format", "svg", "--name-movers", "3.3"))
    text = capsys.readouterr().out
    assert "name movers, as given: a3.h3" in text and "s-inhibition heads, found: a" in text
    assert [path.name for path in tmp_path.iterdir()] == ["direct_paths.svg"]


def test_heads_of_the_command_line(scripts):
    common = scripts["common"]
    assert common.heads_of("9.9,10.0") == [(9, 9), (10, 0)]
    for bad in ("9", "a9.h9", "9.9.9", ""):
        with pytest.raises(Exception, match="is no list such as"):
            common.heads_of(bad)
    model = load_model("tiny-ioi")
    assert [node.head for node in common.nodes_of(model, "k", [(1, 2), (1, 2), (1, 0)])] == [2, 0]


def test_an_equality_that_does_not_hold_is_an_error(scripts, capsys):
    same = scripts["common"].same
    same("both", [1.0, np.nan], [1.00001, np.nan])
    assert "equal: both" in capsys.readouterr().out
    for other in ([1.1, np.nan], [1.0, 0.0], [1.0]):
        with pytest.raises(AssertionError, match="both"):
            same("both", [1.0, np.nan], other)


class Words:
    """A tokenizer that knows every word as one token, but splits the names it is told to."""

    name, bos_id, unknown_id = "words", 0, None

    def __init__(self, split=()):
        self.split, self.ids = split, {}

    def encode(self, text):
        pieces = []
        for word in text.replace(",", " ,").split():
            pieces += [word[:1], word[1:]] if word in self.split else [word]
        return [self.ids.setdefault(piece, len(self.ids) + 1) for piece in pieces]

    encode_answer = encode

    def decode(self, ids):
        return " ".join(key for key, value in self.ids.items() if value in ids)


def test_the_eight_prompts_are_each_others_twins(scripts, capsys):
    eight = scripts["common"].eight
    prompts = eight(Words())
    texts = [(pair.clean_text, pair.corrupted_text) for pair in prompts]
    assert len(texts) == 8 and {text[::-1] for text in texts} == set(texts)
    assert texts[0][0] == "When John and Mary went to the shops, John gave the bag to"
    assert prompts[0].roles == {"IO": 3, "S1": 1, "S1+1": 2, "S2": 9, "end": 13}
    assert eight(Words(), 3, bos=True)[0].roles["IO"] == 4
    assert len(eight(Words(split=("Sid",)))) == 6
    assert "left out: 'When Dan and Sid" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="use --task ioi"):
        eight(Words(split=("Mary", "James", "Sid", "Amy")))


def test_checks_of_gpt2_tell_what_differs(scripts, capsys):
    figures, model = scripts["gpt2_figures"], load_model("tiny-ioi")
    assert figures.is_gpt2("gpt2") and figures.is_gpt2("some/gpt2")
    assert not figures.is_gpt2("gpt2-medium")
    checks = figures.Checks(model)
    figures.check_logit_differences(checks)  # silent: another model
    figures.check_direct_paths(checks)
    checks.finish()
    checks.number("close", 3.5520, 3.5519, 1e-3)
    checks.heads("movers", [(9, 6), (9, 9), (10, 0)], figures.NAME_MOVERS)
    checks.finish()
    assert "DIFFERS" not in capsys.readouterr().out
    checks.number("far", 3.50, 3.5519, 1e-3)
    checks.heads("negative", [(10, 7), (11, 9)], figures.NEGATIVE)
    with pytest.raises(SystemExit, match="far, negative"):
        checks.finish()


def test_checks_of_gpt2_run_where_the_name_is_gpt2s(scripts, monkeypatch, capsys):
    """On another model under that name: every check is made, and every one differs."""
    figures, model = scripts["gpt2_figures"], load_model("tiny-ioi")
    monkeypatch.setattr(model, "name", "gpt2")
    monkeypatch.setattr(model, "tokenizer", Words())
    monkeypatch.setattr(figures, "DIRECT_PATHS", {((0, 1), (1, 2)): 9.0})
    checks = figures.Checks(model)
    figures.check_logit_differences(checks)
    figures.check_direct_paths(checks)
    assert capsys.readouterr().out.count("DIFFERS") == len(checks.differ) == 5
    clean, corrupted = (
        float(measure(model, side, logit_difference(model, prompts)))
        for prompts in (scripts["common"].eight(model.tokenizer),)
        for side in (clean_inputs(prompts), corrupted_inputs(prompts))
    )
    assert clean == pytest.approx(-corrupted, abs=1e-5)


def test_induction_reads_the_second_half_alone(scripts):
    induction, model = scripts["induction"], load_model("tiny-ioi")
    halves = induction.random_halves(model, 2, seed=0)
    assert len(set(np.concatenate([halves[name][0] for name in "ABC"]))) == 3 * induction.LENGTH
    for bos in (False, True):
        metric = induction.second_half(model, halves["A"], bos)
        inputs = induction.pair(model, halves, "AA", bos)
        logits = model.forward(torch.as_tensor(inputs.tokens), inputs.padded())
        log_p = logits.double().log_softmax(-1)
        by_hand = [
            float(log_p[row, at, inputs.tokens[row, at + 1]])
            for row in range(2)
            for at in range(bos + induction.LENGTH, bos + 2 * induction.LENGTH - 1)
        ]
        assert float(metric(logits)) == pytest.approx(np.mean(by_hand), abs=1e-6)

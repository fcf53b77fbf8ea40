from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import family_model, random_prompts

from discover.errors import PatchError, PromptError
from discover.patching.nodes import (
    Inputs,
    clean_inputs,
    corrupted_inputs,
    make_inputs,
    role_positions,
)
from discover.prompts import PromptPairs


class Letters:
    """Every letter a token."""

    name, unknown_id, bos_id = "letters", None, 9

    def encode(self, text):
        return [ord(char) - ord("a") for char in text]

    encode_answer = encode

    def decode(self, ids):
        return "".join(chr(ord("a") + i) for i in ids)


@pytest.fixture(scope="module")
def model():
    model = family_model("gpt2")
    model.tokenizer = Letters()
    return model


def test_texts_are_padded_on_the_right_and_keep_their_own_positions(model):
    inputs = make_inputs(model, ["abcd", "ab"])
    assert inputs.tokens.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    assert inputs.attention.tolist() == [[True] * 4, [True, True, False, False]]
    assert inputs.padded(2).position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]] * 2
    assert inputs.mask(-1).tolist() == [[False] * 3 + [True], [False, True, False, False]]
    assert inputs.nth(3).tolist() == [[False] * 3 + [True], [False] * 4]
    assert make_inputs(model, "abc", bos=True).tokens.tolist() == [[9, 0, 1, 2]]
    assert make_inputs(model, [3, 4]).tokens.tolist() == [[3, 4]]
    assert make_inputs(model, inputs) is inputs


def test_positions_are_labelled_by_the_token_or_else_the_role_that_all_share(model):
    assert make_inputs(model, "abc").labels(model) == ["0: a", "1: b", "2: c"]
    assert make_inputs(model, ["abc", "aac"]).labels(model) == ["0: a", "1: …", "2: c"]
    pair = random_prompts((3,))[0]
    pairs = PromptPairs(
        replace(pair, clean=(0, middle, 2), corrupted=(1, 1, 1), roles={"IO": 1, "S": at})
        for middle, at in ((1, 0), (3, 2))
    )
    assert clean_inputs(pairs).labels(model) == ["0: a", "1: IO", "2: c"]
    assert corrupted_inputs(pairs).labels(model) == ["0: b", "1: b", "2: b"]
    assert role_positions(pairs, "S") == [0, 2] and role_positions(pairs, "end") == [2, 2]
    with pytest.raises(PatchError, match="prompt 1 has no role 'S9'; its roles: IO, S"):
        role_positions(pairs, "S9")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("", "empty"),
        ([], "integers shaped"),
        (["abc", ""], "empty"),
        ("xyz", "has token"),
        ([[1, 2], [3]], "rows of tokens differ"),
        (np.zeros((0, 3), int), "integers shaped"),
        (3, "cannot run a model on int"),
        (None, "cannot run a model on NoneType"),
    ],
)
def test_what_cannot_be_run_is_refused(model, given, told):
    with pytest.raises(PromptError, match=told):
        make_inputs(model, given)


def test_an_empty_mask_is_nowhere():
    inputs = Inputs(np.zeros((2, 3), int), np.ones((2, 3), bool))
    assert not inputs.mask(np.zeros((2, 0), int)).any()

"""Prompt pairs: exact to the token, strict line by line, rectangular on either side."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_graph import law
from hypothesis import example, given
from hypothesis import strategies as st

from discover.errors import PromptError
from discover.prompts import (
    PromptPair,
    PromptPairs,
    encode_prompt,
    make_pair,
    read_jsonl,
    single_token,
)


class Words:
    """One token a word: <bos>, <unk>, and w2 to w99. A tokenizer with `adds_bos` begins with 0."""

    name = "words"
    bos_id: int | None = 0
    unknown_id: int | None = 1

    def __init__(self, adds_bos: bool = False) -> None:
        self.adds_bos = adds_bos

    def encode_answer(self, text: str) -> list[int]:
        known = {"<bos>": 0} | {f"w{i}": i for i in range(2, 100)}
        return [known.get(word, 1) for word in text.split()]

    def encode(self, text: str) -> list[int]:
        return [0] * self.adds_bos + self.encode_answer(text)

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(["<bos>", "<unk>", *(f"w{i}" for i in range(2, 100))][i] for i in ids)


WORDS = Words()


def read(content: str | bytes, tokenizer: Words = WORDS, bos: bool = False) -> PromptPairs:
    """Read a file of this content."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
        file.flush()
        return read_jsonl(file.name, tokenizer, bos)


def line(**changes: Any) -> str:
    """A good line, with these keys changed; a key given as `...` is left out."""
    data = {"clean": "w2 w3", "corrupted": "w2 w4", "correct": [" w5"], "incorrect": [" w6"]}
    return json.dumps({key: v for key, v in {**data, **changes}.items() if v is not ...})


GOOD = line()

TOKENS = st.integers(2, 99)


@st.composite
def pairs(draw: st.DrawFn) -> PromptPair:
    length = draw(st.integers(1, 6))
    tokens = st.lists(TOKENS, min_size=length, max_size=length).map(tuple)
    answers = st.lists(TOKENS, max_size=6, unique=True)
    clean, corrupted, ids = draw(tokens), draw(tokens), draw(answers)
    split = draw(st.integers(0, len(ids)))
    places = st.integers(0, length - 1)
    with_text = draw(st.booleans())
    return PromptPair(
        clean,
        corrupted,
        tuple(ids[:split]),
        tuple(ids[split:]),
        tuple(draw(st.lists(places, max_size=3))),
        draw(st.dictionaries(st.text(st.characters(codec="utf-8")), places, max_size=3)),
        WORDS.decode(clean) if with_text else "",
        WORDS.decode(corrupted) if with_text else "",
    )


@law
@given(st.lists(pairs(), min_size=1, max_size=5))
def test_what_is_written_is_read_back_exactly(given_pairs):
    prompts = PromptPairs(given_pairs)
    again = read(prompts.jsonl())
    assert list(again) == given_pairs
    assert again == prompts
    assert again.hash == prompts.hash
    assert again.jsonl() == prompts.jsonl()
    for pair, text in zip(given_pairs, prompts.jsonl().split("\n"), strict=False):
        assert json.loads(text) == pair.record()


@law
@given(st.lists(pairs(), min_size=1, max_size=3))
def test_the_hash_covers_tokens_answers_and_positions_and_no_more(given_pairs):
    prompts = PromptPairs(given_pairs)
    facts = [
        [list(f) for f in (p.clean, p.corrupted, p.correct, p.incorrect, p.answer_positions)]
        for p in given_pairs
    ]
    text = json.dumps(facts, separators=(",", ":"))
    assert prompts.hash == hashlib.sha256(text.encode()).hexdigest()
    renamed = [replace(p, roles={"x": 0}, clean_text="a", corrupted_text="b") for p in given_pairs]
    assert PromptPairs(renamed).hash == prompts.hash


def test_texts_become_tokens_answers_and_positions():
    text = line(answer_positions=[-1, 0], roles={"IO": 0, "end": 1}, correct=["w5", "w7"])
    (pair,) = read(text)
    assert pair == PromptPair(
        (2, 3), (2, 4), (5, 7), (6,), (0, 1), {"IO": 0, "end": 1}, "w2 w3", "w2 w4"
    )


def test_answers_and_positions_may_be_left_out():
    (pair,) = read(line(correct=..., incorrect=...))
    assert (pair.correct, pair.incorrect, pair.answer_positions) == ((), (), (1,))
    assert not read(line(correct=...)).has_answers
    assert read(GOOD).has_answers


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        f"{GOOD}\n",
        f"\ufeff{GOOD}\n",
        f"\n  \n{GOOD}\n\n",
        f"{GOOD}\r\n",
        f"\ufeff\r\n{GOOD}\r\n",
    ],
    ids=["no newline at the end", "plain", "BOM", "empty lines", "CRLF", "BOM and CRLF"],
)
def test_byte_order_marks_line_ends_and_empty_lines_do_not_matter(content):
    assert read(content).jsonl() == read(GOOD).jsonl()
    two = read(content + "\r\n" + GOOD)
    assert len(two) == 2


def test_windows_line_ends_keep_the_line_numbers():
    with pytest.raises(PromptError, match=r"1 malformed line\(s\):\n  line 3: not JSON"):
        read(f"\ufeff{GOOD}\r\n\r\n{{\r\n{GOOD}\r\n")


EXACT = {"clean_tokens": [2, 3], "corrupted_tokens": [2, 4]}

MALFORMED = {
    "text": ("hello", "not JSON"),
    "half an object": ('{"clean": "w2"', "not JSON"),
    "two objects": (f"{GOOD} {GOOD}", "not JSON"),
    "a long number": ("1" * 5000, "not JSON"),
    "deep": ("[" * 100_000 + "]" * 100_000, "not JSON"),
    "deep inside": ('{"clean":' * 20_000 + "1" + "}" * 20_000, "not JSON"),
    "a BOM in the middle": ("\ufeff" + GOOD, "not JSON"),
    "list": ("[]", "must be a JSON object, not list"),
    "null": ("null", "must be a JSON object, not NoneType"),
    "string": ('"w2"', "must be a JSON object, not str"),
    "NaN": ("NaN", "must be a JSON object, not float"),
    "unknown key": (line(claen="w2"), "unknown key(s) 'claen'; known: answer_positions, clean"),
    "strange key": (line(**{"a\nb": 1}), r"unknown key(s) 'a\nb'"),
    "no clean": (line(clean=...), "'clean' must be a string"),
    "no corrupted": (line(corrupted=...), "'corrupted' must be a string"),
    "clean is null": (line(clean=None), "'clean' must be a string"),
    "clean is a list": (line(clean=["w2"]), "'clean' must be a string"),
    "empty": (line(clean="", corrupted=""), "the prompt is empty"),
    "blank": (line(clean=" \t"), "the prompt is empty"),
    "unequal": (line(clean="w2 w3 w4"), "clean is 3 tokens and corrupted is 2 tokens of words"),
    "unknown word": (line(clean="w2 Zoe"), "the tokenizer of words does not know 'Zoe'"),
    "half a character": (line(clean="w2 \ud800"), "lone surrogate"),
    "two-token answer": (line(correct=["w5 w6"]), "'w5 w6' is 2 tokens of words ('w5' + 'w6')"),
    "no space": (line(correct=["w5 w6"]), "did you forget the leading space?"),
    "unknown answer": (line(incorrect=[" Zoe"]), "answer ' Zoe' is not a token of words"),
    "blank answer": (line(correct=[" "]), "answer ' ' is not a token of words"),
    "half a character as answer": (line(correct=["\udfff"]), "lone surrogate"),
    "empty answer": (line(correct=[""]), "'correct' must be a list of non-empty strings"),
    "answer without list": (line(correct=" w5"), "'correct' must be a list of non-empty strings"),
    "answer as number": (line(incorrect=[5]), "'incorrect' must be a list of non-empty strings"),
    "both": (line(incorrect=[" w6", " w5"]), "token 5 is both a correct and an incorrect answer"),
    "position after": (line(answer_positions=[2]), "answer position 2 is outside the prompt of 2"),
    "position before": (line(answer_positions=[-3]), "answer position -3 is outside"),
    "huge position": (line(answer_positions=[10**30]), "is outside the prompt of 2 tokens"),
    "position as text": (line(answer_positions=["1"]), "must be a list of integers"),
    "position as float": (line(answer_positions=[1.0]), "must be a list of integers"),
    "position as truth": (line(answer_positions=[True]), "must be a list of integers"),
    "position without list": (line(answer_positions=1), "must be a list of integers"),
    "role after": (line(roles={"IO": 2}), "role 'IO' 2 is outside the prompt of 2 tokens"),
    "role before": (line(roles={"IO": -1}), "role 'IO' -1 is outside"),
    "role as text": (line(roles={"IO": "1"}), "'roles' must map names to positions"),
    "roles as list": (line(roles=[]), "'roles' must map names to positions"),
    "roles as zero": (line(roles=0), "'roles' must map names to positions"),
    "half a character as role": (line(roles={"\ud800": 1}), "lone surrogate"),
    "other tokens": (line(**{**EXACT, "clean_tokens": [2, 9]}), "'clean' and 'clean_tokens' dis"),
    "other corrupted": (
        line(**{**EXACT, "corrupted_tokens": [2, 9]}),
        "'corrupted' and 'corrupted_tokens' disagree for the tokenizer of words without --bos",
    ),
    "tokens of one text": (line(clean_tokens=[2, 3]), "'corrupted_tokens' is missing or empty"),
    "no tokens": (line(**{**EXACT, "clean_tokens": []}), "'clean_tokens' is missing or empty"),
    "text as tokens": (line(**{**EXACT, "clean_tokens": "w2"}), "must be a list of integers"),
    "answer tokens alone": (line(correct_tokens=[5]), "'clean_tokens' is missing or empty"),
    "other answers": (
        line(**EXACT, correct_tokens=[7]),
        "'correct' and 'correct_tokens' disagree for the tokenizer of words",
    ),
    "unequal tokens": (
        line(clean="", corrupted="", clean_tokens=[2], corrupted_tokens=[2, 3]),
        "clean has 1 tokens and corrupted has 2",
    ),
}


@pytest.mark.parametrize(("text", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_line_is_named_with_its_reason(text, reason):
    with pytest.raises(PromptError) as caught:
        read(f"{GOOD}\n\n{text}\n{GOOD}")
    head, *problems = str(caught.value).split("\n")
    assert head.endswith(" has 1 malformed line(s):")
    assert len(problems) == 1
    assert problems[0].startswith("  line 3: ")
    assert reason in problems[0]


def test_every_malformed_line_is_named():
    with pytest.raises(PromptError) as caught:
        read("\n".join(["x", GOOD, "[]", GOOD, line(clean=...)]))
    named = [problem.split(":")[0] for problem in str(caught.value).split("\n  ")[1:]]
    assert named == ["line 1", "line 3", "line 5"]


def test_very_many_malformed_lines_are_counted():
    with pytest.raises(PromptError) as caught:
        read("x\n" * 25)
    assert "has 25 malformed line(s)" in str(caught.value)
    assert "line 20: " in str(caught.value)
    assert "line 21: " not in str(caught.value)
    assert str(caught.value).endswith("and 5 more")


@pytest.mark.parametrize("content", ["", "\n", "\ufeff", " \r\n\t\n"])
def test_an_empty_file_is_refused(content):
    with pytest.raises(PromptError, match="is empty; write one JSON object a line"):
        read(content)


def test_a_path_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "file").write_text(GOOD)
    for path in ("missing.jsonl", ".", "file/inside.jsonl", "nul\0.jsonl", "n" * 300):
        with pytest.raises(PromptError, match="cannot read prompts file"):
            read_jsonl(tmp_path / path, WORDS)
    assert read_jsonl(str(tmp_path / "file"), WORDS) == read(GOOD)


@pytest.mark.parametrize("content", [b"\xff\xfe{}", GOOD.encode() + b"\n\xc3", b"\xed\xa0\x80"])
def test_what_is_not_utf8_is_refused(content):
    with pytest.raises(PromptError, match="cannot read prompts file .*utf-8"):
        read(content)


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
LIKELY = (
    st.sampled_from(["w2", "w2 w3", " w5", ""])
    | st.lists(st.integers(-1, 5), max_size=3)
    | ANY_JSON
)
KEYS = st.sampled_from([*json.loads(GOOD), *EXACT, "correct_tokens", "roles", "answer_positions"])


@law
@given(ANY_TEXT | st.binary(max_size=30))
def test_any_file_is_prompts_or_a_prompt_error(content):
    with pytest.raises(PromptError):
        read(content)


@law
@given(ANY_TEXT.map(lambda text: text.replace("\n", "").replace("\r", "")))
@example("\x85")
@example("\u2028{}")
@example("\x0c")
def test_any_text_as_a_line_is_blamed_on_that_line(text):
    if not text.strip():
        assert len(read(f"{GOOD}\n{text}\n{GOOD}")) == 2
        return
    with pytest.raises(PromptError, match=r"has 1 malformed line\(s\):\n  line 2: "):
        read(f"{GOOD}\n{text}\n{GOOD}")


@law
@given(ANY_JSON.filter(lambda value: not isinstance(value, dict)))
def test_any_json_but_an_object_is_refused_as_such(value):
    with pytest.raises(PromptError, match="line 2: must be a JSON object, not"):
        read(f"{GOOD}\n{json.dumps(value)}")


@law
@given(st.dictionaries(KEYS, LIKELY, max_size=6) | st.dictionaries(st.text(), ANY_JSON))
def test_any_object_is_a_pair_or_blamed_on_its_line(changes):
    try:
        prompts = read(f"{GOOD}\n{line(**changes)}\n{GOOD}")
    except PromptError as error:
        head, *problems = str(error).split("\n")
        assert head.endswith(" has 1 malformed line(s):")
        assert [p[:10] for p in problems] == ["  line 2: "]
    else:
        assert len(prompts) == 3
        assert read(prompts.jsonl()) == prompts


A, B = (
    PromptPair((7, 8, 9), (4, 5, 6), answer_positions=(0, 2)),
    PromptPair((3,), (2,)),
)


def test_padding_on_the_right():
    padded = PromptPairs([A, B], "right").padded(pad_id=-5)
    assert padded.clean.tolist() == [[7, 8, 9], [3, -5, -5]]
    assert padded.corrupted.tolist() == [[4, 5, 6], [2, -5, -5]]
    assert padded.attention.tolist() == [[True, True, True], [True, False, False]]
    assert padded.answers.tolist() == [[True, False, True], [True, False, False]]
    assert padded.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]


def test_padding_on_the_left():
    padded = PromptPairs([A, B], "left").padded(pad_id=-5)
    assert padded.clean.tolist() == [[7, 8, 9], [-5, -5, 3]]
    assert padded.corrupted.tolist() == [[4, 5, 6], [-5, -5, 2]]
    assert padded.attention.tolist() == [[True, True, True], [False, False, True]]
    assert padded.answers.tolist() == [[True, False, True], [False, False, True]]
    assert padded.position_ids.tolist() == [[0, 1, 2], [0, 0, 0]]


@law
@given(st.lists(pairs(), min_size=1, max_size=4), st.sampled_from(["left", "right"]))
def test_what_attention_shows_of_the_padded_arrays_is_the_prompts(given_pairs, side):
    padded = PromptPairs(given_pairs, side).padded()
    for row, pair in enumerate(given_pairs):
        real = padded.attention[row]
        assert tuple(padded.clean[row, real]) == pair.clean
        assert tuple(padded.corrupted[row, real]) == pair.corrupted
        assert tuple(np.flatnonzero(padded.answers[row, real])) == pair.answer_positions
        assert not padded.answers[row, ~real].any()
        assert tuple(padded.position_ids[row, real]) == tuple(range(len(pair.clean)))


def test_prompts_are_a_sequence_that_keeps_its_side():
    prompts = PromptPairs([A, B], "left")
    assert (len(prompts), prompts[1], list(prompts)) == (2, B, [A, B])
    assert isinstance(prompts[:1], PromptPairs)
    assert (list(prompts[1:]), prompts[1:].side) == ([B], "left")
    assert hash(prompts) == hash(PromptPairs([A, B]))
    assert prompts != PromptPairs([B, A])
    assert prompts != [A, B]


def test_there_must_be_prompts_and_a_known_side():
    with pytest.raises(PromptError, match="there are no prompts"):
        PromptPairs([])
    with pytest.raises(PromptError, match="padding side 'middle'"):
        PromptPairs([A], "middle")


def test_a_pair_sorts_its_positions_and_needs_tokens():
    assert PromptPair((1, 2, 3), (1, 2, 3), answer_positions=(2, 0, 2)).answer_positions == (0, 2)
    with pytest.raises(PromptError, match="the prompt has no tokens"):
        PromptPair((), ())
    with pytest.raises(PromptError, match="answer position -1 is outside"):
        PromptPair((1,), (1,), answer_positions=(-1,))


@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_bos_is_prepended_if_asked_for_and_never_doubled(adds_bos):
    words = Words(adds_bos)
    assert encode_prompt(words, "w2 w3") == [0] * adds_bos + [2, 3]
    assert encode_prompt(words, "w2 w3", bos=True) == [0, 2, 3]
    assert encode_prompt(words, "<bos> w3", bos=True)[-2:] == [0, 3]
    (pair,) = read(line(answer_positions=[-1]), words, bos=True)
    assert (pair.clean, pair.corrupted, pair.answer_positions) == ((0, 2, 3), (0, 2, 4), (2,))
    assert (pair.correct, pair.incorrect) == ((5,), (6,))


def test_a_bos_in_the_text_is_not_doubled():
    assert encode_prompt(WORDS, "<bos> w2", bos=True) == [0, 2]


def test_without_a_bos_token_none_can_be_prepended():
    words = Words()
    words.bos_id = None
    assert encode_prompt(words, "w2") == [2]
    with pytest.raises(PromptError, match="the tokenizer of words has no BOS token; drop --bos"):
        encode_prompt(words, "w2", bos=True)


def test_exported_tokens_must_be_read_with_the_same_bos():
    with_bos = read(GOOD, bos=True).jsonl()
    assert read(with_bos, bos=True).jsonl() == with_bos
    with pytest.raises(PromptError, match="'clean' and 'clean_tokens' disagree .* without --bos"):
        read(with_bos)
    with pytest.raises(PromptError, match="'clean' and 'clean_tokens' disagree .* with --bos"):
        read(read(GOOD).jsonl(), bos=True)


def test_tokens_without_texts_are_taken_as_they_are():
    (pair,) = read(line(clean="", corrupted="", **EXACT), bos=True)
    assert (pair.clean, pair.corrupted, pair.correct) == ((2, 3), (2, 4), (5,))


def test_answers_may_be_given_twice_if_they_agree():
    (pair,) = read(line(**EXACT, correct_tokens=[5], incorrect_tokens=[6]))
    assert (pair.correct, pair.incorrect) == ((5,), (6,))


def test_an_answer_is_one_known_token():
    assert single_token(WORDS, " w5") == 5
    with pytest.raises(PromptError, match=r"is 2 tokens .*; answers must be single tokens$"):
        single_token(WORDS, " w5 w6")


def test_a_pair_is_made_from_texts():
    pair = make_pair(WORDS, "w2 w3", "w2 w4", ["w5"], ["w6"], answer_positions=[-2], roles={"S": 0})
    assert pair == PromptPair((2, 3), (2, 4), (5,), (6,), (0,), {"S": 0}, "w2 w3", "w2 w4")
    with pytest.raises(PromptError, match="'w2' against 'w2 w4'; make them equally long"):
        make_pair(WORDS, "w2", "w2 w4")

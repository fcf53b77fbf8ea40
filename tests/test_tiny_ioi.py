"""`tiny-ioi` is what its card says: small, without dropout, and it solves IOI by reading."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers_ioi import ASSET, ROOT, WordTokenizer, load_grammar
from transformers import AutoModelForCausalLM, AutoTokenizer

from discover.prompts import PromptPair
from discover.tasks import ioi

GRAMMAR = load_grammar()
WORDS = WordTokenizer()
# Not the seed of the card: prompts that no one has looked at.
SEED = 90210


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(ASSET, local_files_only=True).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(ASSET, local_files_only=True)


def held_out(pairs: Sequence[PromptPair], twin: bool = False) -> list[PromptPair]:
    """The prompts whose two first names never met in training (of the corrupted twin, if so)."""
    kept = []
    for pair in pairs:
        tokens = pair.corrupted if twin else pair.clean
        names = [WORDS.decode([tokens[pair.roles[role]]]) for role in ("IO", "S1")]
        if GRAMMAR.is_held_out(*names):
            kept.append(pair)
    return kept


@torch.no_grad()
def last_logits(model: Any, prompts: Sequence[tuple[int, ...]]) -> torch.Tensor:
    """Logits after each prompt's last token; one forward a length, so that nothing is padded."""
    out = torch.empty(len(prompts), model.config.vocab_size)
    for length in {len(prompt) for prompt in prompts}:
        rows = [at for at, prompt in enumerate(prompts) if len(prompt) == length]
        out[rows] = model(torch.tensor([prompts[at] for at in rows])).logits[:, -1]
    return out


def check(logits: torch.Tensor, right: list[int], wrong: list[int]) -> None:
    rows = torch.arange(len(right))
    diff = logits[rows, right] - logits[rows, wrong]
    assert len(right) > 150
    assert (diff > 0).double().mean() >= 0.99
    assert (logits.argmax(-1) == torch.tensor(right)).double().mean() >= 0.99
    assert diff.mean() > 3


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
@pytest.mark.parametrize("abba", [True, False], ids=["ABBA", "BABA"])
def test_it_names_the_indirect_object(model: Any, abba: bool, bos: bool) -> None:
    pairs = [
        pair
        for pair in held_out(ioi.build(WORDS, 2400, SEED, bos=bos))
        if (pair.roles["IO"] < pair.roles["S1"]) == abba
    ]
    logits = last_logits(model, [pair.clean for pair in pairs])
    check(logits, [pair.correct[0] for pair in pairs], [pair.incorrect[0] for pair in pairs])


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_another_subject_makes_the_other_name_right(model: Any, bos: bool) -> None:
    pairs = held_out(ioi.build(WORDS, 1200, SEED, corruption="flipped", bos=bos))
    logits = last_logits(model, [pair.corrupted for pair in pairs])
    check(logits, [pair.incorrect[0] for pair in pairs], [pair.correct[0] for pair in pairs])


@pytest.mark.parametrize("template", ioi.TEMPLATES)
def test_every_template_works(model: Any, template: str) -> None:
    pairs = held_out(ioi.build(WORDS, 250, SEED, templates=[template]))
    logits = last_logits(model, [pair.clean for pair in pairs])
    rows = torch.arange(len(pairs))
    diff = (
        logits[rows, [pair.correct[0] for pair in pairs]]
        - logits[rows, [pair.incorrect[0] for pair in pairs]]
    )
    assert len(pairs) > 25
    assert (diff > 0).double().mean() >= 0.95


@pytest.mark.parametrize("bos", [False, True], ids=["plain", "bos"])
def test_it_is_at_chance_when_no_name_is_repeated(model: Any, bos: bool) -> None:
    pairs = held_out(ioi.build(WORDS, 3500, SEED, bos=bos), twin=True)
    logits = last_logits(model, [pair.corrupted for pair in pairs])
    names = [sorted((pair.roles["IO"], pair.roles["S1"])) for pair in pairs]
    first = [pair.corrupted[at] for pair, (at, _) in zip(pairs, names, strict=True)]
    second = [pair.corrupted[at] for pair, (_, at) in zip(pairs, names, strict=True)]
    rows = torch.arange(len(pairs))
    assert len(pairs) > 500
    assert 0.4 < (logits[rows, first] > logits[rows, second]).double().mean() < 0.6
    # And it gains nothing for the answers of the clean prompt, which are not in this one.
    io, s = [pair.correct[0] for pair in pairs], [pair.incorrect[0] for pair in pairs]
    assert 0.4 < (logits[rows, io] > logits[rows, s]).double().mean() < 0.6


def test_it_depends_on_the_names_and_not_on_the_words_around_them(model: Any) -> None:
    """The same prompt under both orders and both subjects: four answers from one set of words."""
    frame = "When {} and {} went to the store , {} gave a book to"
    names = [(a, b) for a in ioi.NAMES[::7] for b in ioi.NAMES[3::7] if GRAMMAR.is_held_out(a, b)]
    asked = [(x, y, s) for a, b in names for x, y in ((a, b), (b, a)) for s in (a, b)]
    logits = last_logits(model, [tuple(WORDS.encode(frame.format(*three))) for three in asked])
    said = [WORDS.decode([token]) for token in logits.argmax(-1).tolist()]
    answers = [y if s == x else x for x, y, s in asked]
    assert len(asked) > 100
    assert sum(map(str.__eq__, said, answers)) >= 0.99 * len(asked)


@torch.no_grad()
def test_attention_of_more_than_one_layer_takes_part(model: Any) -> None:
    """Each layer's heads in turn get what they compute on the ABC prompt."""
    pairs = held_out(ioi.build(WORDS, 600, SEED, templates=ioi.TEMPLATES[:1]))
    clean = torch.tensor([pair.clean for pair in pairs])
    corrupted = torch.tensor([pair.corrupted for pair in pairs])
    rows = torch.arange(len(pairs))
    io, s = [pair.correct[0] for pair in pairs], [pair.incorrect[0] for pair in pairs]

    def difference(tokens: torch.Tensor) -> float:
        logits = model(tokens).logits[:, -1]
        return float((logits[rows, io] - logits[rows, s]).mean())

    drops = []
    for block in model.transformer.h:
        values: list[torch.Tensor] = []
        hook = block.attn.c_proj.register_forward_pre_hook(
            lambda _, x, to=values: to.append(x[0].clone())
        )
        difference(corrupted)
        hook.remove()
        hook = block.attn.c_proj.register_forward_pre_hook(lambda _, x, to=values: (to[0],))
        ablated = difference(clean)
        hook.remove()
        drops.append(difference(clean) - ablated)
    assert sum(drop > 0.5 for drop in drops) >= 2, drops


def test_training_texts_hold_no_task_clause_and_no_held_out_pair() -> None:
    clauses = GRAMMAR.task_clauses()
    assert len(clauses) > len(ioi.TEMPLATES)
    # The guard sees what it should: every prompt of the task holds two of the clauses.
    for pair in ioi.build(WORDS, 100, SEED):
        words = GRAMMAR.split(pair.clean_text)
        assert sum(clause in GRAMMAR.skeleton(words) for clause in clauses) >= 2
    grammar = GRAMMAR.Grammar(SEED)
    seen: set[str] = set()
    answered = chance = 0
    for _ in range(3000):
        sample = grammar.sample()
        assert not [c for c in clauses if c in GRAMMAR.skeleton(list(sample.words))]
        names = sorted({word for word in sample.words if word in ioi.NAMES})
        pairs = [(a, b) for at, a in enumerate(names) for b in names[at + 1 :]]
        assert not [pair for pair in pairs if GRAMMAR.is_held_out(*pair)]
        seen |= set(sample.words)
        if sample.answer is not None:
            answered += 1
            answer = sample.words[sample.answer]
            chance += answer != sample.other
            # The answer is the next word after the first mention of it, and no other.
            assert {answer, sample.other} <= set(ioi.NAMES)
            assert sample.words[: sample.answer].count(answer) == 1
            assert sample.words[: sample.answer].count(sample.other) == 1
    assert answered > 2000
    assert 0.15 < chance / answered < 0.25
    assert seen >= set(GRAMMAR.vocabulary()[2:])


def test_a_fifth_of_the_pairs_is_held_out_whatever_the_order() -> None:
    pairs = [(a, b) for a in ioi.NAMES for b in ioi.NAMES if a < b]
    share = sum(GRAMMAR.is_held_out(a, b) for a, b in pairs) / len(pairs)
    assert 0.17 < share < 0.23
    assert all(GRAMMAR.is_held_out(a, b) == GRAMMAR.is_held_out(b, a) for a, b in pairs)


def test_the_tokenizer_is_word_level_and_adds_nothing(tokenizer: Any) -> None:
    text = "When Mary and John went to the store, John gave a book to"
    ids = tokenizer(text)["input_ids"]
    words = ["When", "Mary", "and", "John", "went", "to", "the", "store", ",", "John", "gave"]
    assert tokenizer.convert_ids_to_tokens(ids) == [*words, "a", "book", "to"]
    assert ids == WORDS.encode(text)
    assert tokenizer(" Mary")["input_ids"] == tokenizer("Mary")["input_ids"] == [ids[1]]
    assert (tokenizer.bos_token_id, tokenizer.unk_token_id) == (WORDS.bos_id, WORDS.unknown_id)
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    assert tokenizer("<|endoftext|> galumphing")["input_ids"] == [WORDS.bos_id, WORDS.unknown_id]


def test_the_vocabulary_covers_the_task_and_no_more_than_the_model(
    tokenizer: Any, model: Any
) -> None:
    assert model.config.vocab_size == len(tokenizer) == len(GRAMMAR.vocabulary())
    assert [*tokenizer.convert_ids_to_tokens(range(len(tokenizer)))] == GRAMMAR.vocabulary()
    slots = dict.fromkeys(("A", "B", "C", "place", "object"), "")
    templates = [template.format(**slots) for template in ioi.TEMPLATES]
    for text in (*ioi.NAMES, *ioi.PLACES, *ioi.OBJECTS, *templates):
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_the_model_is_small_float32_and_without_dropout(model: Any) -> None:
    config = json.loads((ASSET / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert [config[f"{part}_pdrop"] for part in ("attn", "embd", "resid")] == [0.0] * 3
    assert (config["n_layer"], config["n_head"]) == (4, 4)
    assert (ASSET / "model.safetensors").stat().st_size < 3_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    for file in ASSET.iterdir():
        assert file.stat().st_mode & 0o777 == 0o644


def test_the_card_has_the_measured_scores() -> None:
    scores = json.loads((ASSET / "scores.json").read_text(encoding="utf-8"))
    card = (ASSET / "README.md").read_text(encoding="utf-8")
    for bos in ("without_bos", "with_bos"):
        for kind in ("ABBA", "BABA", "flipped"):
            row = scores[bos][kind]
            assert row["accuracy"] >= 0.99
            assert row["accuracy_among_all_words"] >= 0.99
            assert row["mean_logit_difference"] > 3
            assert f"{100 * row['accuracy']:.2f} %" in card
            assert f"{row['mean_logit_difference']:.2f}" in card
        assert 0.4 <= scores[bos]["ABC"]["first_name_preferred"] <= 0.6
    assert f"--seed {scores['settings']['seed']}" in card


def test_the_training_script_runs_and_refuses_a_model_that_knows_nothing(tmp_path: Any) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "experiments" / "train_tiny_ioi.py"),
            *("--steps", "2", "--batch", "4", "--width", "16", "--prompts", "20"),
            *("--out", str(out)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "not saved; missed:" in done.stderr
    assert "ABBA: accuracy is 0." in done.stderr
    assert not out.exists()

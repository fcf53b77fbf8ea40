"""What `tiny-ioi` can do, on the IOI task's own templates and on name pairs that it never met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tiny_ioi_grammar import is_held_out
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from discover.prompts import PromptPair
from discover.tasks import ioi

_HEAD_PROMPTS = 400
# A head that matters: without it the logit difference falls by at least this much.
_NEEDED = 0.5
# One layer can do IOI by "all names but the last"; what we want is heads that build on heads.
_LAYERS = 2
_LOOKS = (("end", "IO"), ("end", "S1"), ("end", "S2"), ("S2", "S1"), ("S2", "S1+1"))


class WordTokenizer:
    """What prompts need of the tokenizer of `tiny-ioi`."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._core = tokenizer.backend_tokenizer
        self.name = "tiny-ioi"
        self.bos_id: int | None = tokenizer.bos_token_id
        self.unknown_id: int | None = tokenizer.unk_token_id

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        return list(self._core.encode(text).ids)

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of a continuation."""
        return list(self._core.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return str(self._core.decode(list(ids), skip_special_tokens=False))


@dataclass(frozen=True)
class _Question:
    """Tokens, the two names to choose from, and the template that the prompt is of."""

    tokens: tuple[int, ...]
    right: int
    wrong: int
    template: int


def measure(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, seed: int, prompts: int
) -> dict[str, Any]:
    """Scores by kind of prompt, with and without a BOS token, and where the heads look.

    Kinds: ABBA and BABA are right if the IO name beats the S name; flipped prompts (IO is the
    second subject) if S beats IO; ABC prompts have no right name, and count how often the first
    of the two beats the second. Of `prompts` pairs a template and corruption, those with held-out
    names count.
    """
    words = WordTokenizer(tokenizer)
    scores: dict[str, Any] = {}
    for bos in (False, True):
        kinds: dict[str, list[_Question]] = {"ABBA": [], "BABA": [], "flipped": [], "ABC": []}
        for at, template in enumerate(ioi.TEMPLATES):
            for corruption in ioi.CORRUPTIONS:
                for pair in ioi.build(
                    words, prompts, seed + at, corruption=corruption, bos=bos, templates=[template]
                ):
                    _sort(pair, corruption, at, words, kinds)
        scores["with_bos" if bos else "without_bos"] = {
            kind: _score(model, questions, kind) for kind, questions in kinds.items()
        }
    scores["heads"] = _heads(model, words, seed)
    return scores


def _sort(
    pair: PromptPair,
    corruption: str,
    template: int,
    words: WordTokenizer,
    kinds: dict[str, list[_Question]],
) -> None:
    """Files a pair's prompts under their kinds, if their two names never met in training."""
    io, s = pair.correct[0], pair.incorrect[0]
    abba = pair.roles["IO"] < pair.roles["S1"]
    first, second = sorted((pair.roles["IO"], pair.roles["S1"]))
    held_out = is_held_out(words.decode([io]), words.decode([s]))
    if corruption == "flipped":
        if held_out:
            kinds["flipped"].append(_Question(pair.corrupted, s, io, template))
        return
    if held_out:
        kinds["ABBA" if abba else "BABA"].append(_Question(pair.clean, io, s, template))
    a, b = pair.corrupted[first], pair.corrupted[second]
    if is_held_out(words.decode([a]), words.decode([b])):
        kinds["ABC"].append(_Question(pair.corrupted, a, b, template))


@torch.no_grad()
def _score(model: GPT2LMHeadModel, questions: list[_Question], kind: str) -> dict[str, float]:
    logits = torch.cat(
        [_last(model, questions[at : at + 256]) for at in range(0, len(questions), 256)]
    ).double()
    rows = torch.arange(len(questions))
    right = torch.tensor([question.right for question in questions])
    wrong = torch.tensor([question.wrong for question in questions])
    template = torch.tensor([question.template for question in questions])
    diff = logits[rows, right] - logits[rows, wrong]
    top = logits.argmax(-1)
    each = [_mean(diff[template == at] > 0) for at in range(len(ioi.TEMPLATES))]
    if kind == "ABC":
        return {
            "prompts": len(questions),
            "first_name_preferred": _mean(diff > 0),
            "first_name_preferred_least_in_a_template": min(each),
            "first_name_preferred_most_in_a_template": max(each),
            "mean_logit_difference": _mean(diff),
            "mean_absolute_logit_difference": _mean(diff.abs()),
            "best_of_all_words_is_one_of_the_two": _mean((top == right) | (top == wrong)),
        }
    return {
        "prompts": len(questions),
        "accuracy": _mean(diff > 0),
        "accuracy_worst_template": min(each),
        "accuracy_among_all_words": _mean(top == right),
        "mean_logit_difference": _mean(diff),
        "least_logit_difference": round(diff.min().item(), 4),
    }


def _last(model: GPT2LMHeadModel, questions: list[_Question]) -> torch.Tensor:
    """Logits after the last token of each prompt."""
    width = max(len(question.tokens) for question in questions)
    block = torch.tensor([[*q.tokens, *[0] * (width - len(q.tokens))] for q in questions])
    logits = _forward(model, block).logits
    ends = torch.tensor([len(question.tokens) - 1 for question in questions])
    return logits[torch.arange(len(questions)), ends]


def _mean(values: torch.Tensor) -> float:
    return round(values.double().mean().item(), 4)


@torch.no_grad()
def _heads(model: GPT2LMHeadModel, words: WordTokenizer, seed: int) -> list[dict[str, Any]]:
    """What each head does for IOI, the most needed first.

    `drop` is how much the mean logit difference falls if the head's output, at all positions, is
    what it is on the ABC prompt; the other figures are mean attention from role to role.
    """
    pairs = ioi.build(words, _HEAD_PROMPTS, seed)
    padded = pairs.padded()
    rows = torch.arange(len(pairs))
    at = {role: torch.tensor([pair.roles[role] for pair in pairs]) for role in ioi.ROLES}
    right = torch.tensor([pair.correct[0] for pair in pairs])
    wrong = torch.tensor([pair.incorrect[0] for pair in pairs])
    clean, corrupted = torch.tensor(padded.clean), torch.tensor(padded.corrupted)

    def difference() -> float:
        logits = _forward(model, clean).logits[rows, at["end"]].double()
        return float((logits[rows, right] - logits[rows, wrong]).mean())

    model.set_attn_implementation("eager")
    maps = _forward(model, clean, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    whole = difference()
    found: list[dict[str, Any]] = []
    for layer, block in enumerate(model.transformer.h):
        with _recorded(block.attn.c_proj) as values:
            _forward(model, corrupted)
        for head, weights in enumerate(maps[layer].unbind(1)):
            with _replaced(block.attn.c_proj, head, model.config.n_head, values[0]):
                drop = whole - difference()
            entry: dict[str, Any] = {"head": f"a{layer}.h{head}", "drop": round(drop, 4)}
            for query, key in _LOOKS:
                entry[f"{query} -> {key}"] = _mean(weights[rows, at[query], at[key]])
            found.append(entry)
    return sorted(found, key=lambda entry: -float(entry["drop"]))


def _forward(model: GPT2LMHeadModel, tokens: torch.Tensor, **options: bool) -> Any:
    # Padding is on the right, where a causal model cannot look: nothing needs to be masked.
    return model(tokens, attention_mask=torch.ones_like(tokens), **options)


@contextmanager
def _recorded(module: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects what the module is given."""
    values: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: values.append(inputs[0].clone()))
    try:
        yield values
    finally:
        hook.remove()


@contextmanager
def _replaced(
    projection: torch.nn.Module, head: int, heads: int, values: torch.Tensor
) -> Iterator[None]:
    """Gives the output projection of a layer other values for one head."""

    def swap(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        width = values.shape[-1] // heads
        mixed = inputs[0].clone()
        part = slice(head * width, (head + 1) * width)
        mixed[..., part] = values[..., part]
        return (mixed,)

    hook = projection.register_forward_pre_hook(swap)
    try:
        yield
    finally:
        hook.remove()


def failures(scores: dict[str, Any]) -> list[str]:
    """The requirements that are not met."""
    missed = []
    for bos in ("without_bos", "with_bos"):
        for kind in ("ABBA", "BABA", "flipped"):
            for what, least in (
                ("accuracy", 0.99),
                ("accuracy_among_all_words", 0.99),
                ("accuracy_worst_template", 0.98),
                ("mean_logit_difference", 3.0),
            ):
                if (value := scores[bos][kind][what]) < least:
                    missed.append(f"{bos}, {kind}: {what} is {value}, below {least}")
        share = scores[bos]["ABC"]["first_name_preferred"]
        if not 0.4 <= share <= 0.6:
            missed.append(f"{bos}, ABC: the first name is preferred in {share}, not in about half")
    if len(layers := {entry["head"].split(".")[0] for entry in _needed(scores)}) < _LAYERS:
        missed.append(f"heads that matter are only in {', '.join(sorted(layers)) or 'no layer'}")
    return missed


def _needed(scores: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in scores["heads"] if entry["drop"] >= _NEEDED]


def readme(scores: dict[str, Any], command: str) -> str:
    """The model's card."""
    table = [
        f"| {kind}{', BOS in front' if bos == 'with_bos' else ''} | {row['prompts']} "
        f"| {100 * row['accuracy']:.2f} % | {100 * row['accuracy_worst_template']:.2f} % "
        f"| {100 * row['accuracy_among_all_words']:.2f} % | {row['mean_logit_difference']:.2f} "
        f"| {row['least_logit_difference']:.2f} |"
        for bos in ("without_bos", "with_bos")
        for kind in ("ABBA", "BABA", "flipped")
        for row in [scores[bos][kind]]
    ]
    chance = [
        f"| {'with' if bos == 'with_bos' else 'without'} BOS | {row['prompts']} "
        f"| {100 * row['first_name_preferred']:.1f} % "
        f"| {100 * row['first_name_preferred_least_in_a_template']:.1f} % to "
        f"{100 * row['first_name_preferred_most_in_a_template']:.1f} % "
        f"| {row['mean_logit_difference']:+.2f} | {row['mean_absolute_logit_difference']:.2f} "
        f"| {100 * row['best_of_all_words_is_one_of_the_two']:.1f} % |"
        for bos in ("without_bos", "with_bos")
        for row in [scores[bos]["ABC"]]
    ]
    heads = [
        f"| `{entry['head']}` | {entry['drop']:.2f} | "
        + " | ".join(f"{entry[f'{query} -> {key}']:.2f}" for query, key in _LOOKS)
        + " |"
        for entry in _needed(scores)
    ]
    return _README.format(
        command=command,
        table="\n".join(table),
        chance="\n".join(chance),
        looks="\n".join(heads),
        vocabulary=scores["vocabulary"],
        parameters=scores["parameters"],
        seconds=scores["training_seconds"],
        **scores["settings"],
        **scores["versions"],
    )


_README = """\
# tiny-ioi

A GPT-2 small enough for tests and first steps ({layers} layers, {heads} heads, width {width},
{vocabulary} words, {parameters:,} parameters, float32, no dropout) that does one thing:
indirect object identification. It is no language model of use for anything else.

It loads with `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`, without
a network. The tokenizer is word-level (words and punctuation marks; `<|endoftext|>` for BOS, EOS
and padding, `<unk>` for any other word) and, like GPT-2's, adds no BOS by itself.

## Training

```
{command}
```

The run behind this directory: seed {seed}, {steps} steps of {batch} texts, {seconds} s on
{threads} CPU thread(s) of a shared machine, torch {torch}, transformers {transformers}.

The texts come from `experiments/tiny_ioi_grammar.py`, which puts sentences together from openings
("Whenever ... had lunch outside the ...,"), closings ("... agreed to lend the last ... to") and
words strewn in between. In four fifths of the sentences with two names and a giver, the giver is
one of the two and the other one receives; in one fifth the giver is a third person and one of the
two receives, at random (both count half as the answer). Bystanders with other names come in
before, between and after, and may give together with the giver, but never receive; without them,
one head of the first layer that looks at the last name did nearly all of the work. Some texts name
one person, or two people twice. The sentences need not make sense, and their grammar is loose.
Half of the texts begin with a BOS.

Held out of all training texts:

- the task's templates: not only are they never used, no text contains the first clause of any of
  them (up to its last comma or full stop) or the second clause (from its subject on), whatever
  the names, places and objects;
- a fifth of all unordered pairs of names: the two never occur in the same text.

The recipe was settled after six other models (the same seed; other grammars, lengths, losses). All
of them named the indirect object in at least 99 % of these held-out prompts; the choice went by
the balance on ABC prompts and by which heads matter (see below), on these same prompts.

## Scores

On the task's own templates with held-out pairs of names, so that frame and pair are both new.
"Accuracy" compares the right one of the two names with the wrong one; "among all words", the right
name must beat the whole vocabulary. Logit differences are right minus wrong. In flipped prompts
the second subject is exchanged, and with it the right answer.

| prompts | number | accuracy | worst template | among all words | mean difference | least |
|---|---|---|---|---|---|---|
{table}

When all three names differ (ABC), nothing tells which of the first two receives, and the model is
at chance:

| ABC | number | first preferred | by template | mean difference | mean size | best of all |
|---|---|---|---|---|---|---|
{chance}

"Mean size" is the mean of the absolute difference; "best of all", how often one of the two names
beats all other words.

The heads that matter, by how much the mean logit difference falls if the head's output is what
it is on the ABC prompt (400 prompts), and where they look (mean attention from role to role; S1+1
is the position after S1). All figures are in `scores.json`.

| head | drop | end -> IO | end -> S1 | end -> S2 | S2 -> S1 | S2 -> S1+1 |
|---|---|---|---|---|---|---|
{looks}
"""

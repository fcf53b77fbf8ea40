"""Trains `tiny-ioi`, the small GPT-2 of the tests and examples, and measures what it can do.

Run from the repository's root, with the package installed: `python experiments/train_tiny_ioi.py`.
It takes some minutes on one CPU core and needs no network. It writes `discover/assets/tiny-ioi/`
only if the model meets every requirement, and exits with 1 if not. The same seed, settings and
versions on the same machine give the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from tiny_ioi_grammar import END_OF_TEXT, UNKNOWN, Grammar, Sample, vocabulary
from tiny_ioi_scores import failures, measure, readme
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

ASSET = Path(__file__).resolve().parents[1] / "discover" / "assets" / "tiny-ioi"
POSITIONS = 64
_IGNORE = -100
_WARM_UP = 200
# So many batches are drawn at once and sorted by length: half as much padding to compute.
_BUCKET = 16


class Row(NamedTuple):
    """Tokens, the position that predicts the answer (if there is one), and the other answer."""

    tokens: list[int]
    end: int | None
    other: int


class Batch(NamedTuple):
    """Some texts, padded on the right.

    Int[row, pos] inputs and targets (`_IGNORE` where padded); the rows that have an answer, the
    positions that predict it, and the two answers (mostly the same).
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    rows: torch.Tensor
    ends: torch.Tensor
    answers: tuple[torch.Tensor, torch.Tensor]


def make_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer; like GPT-2's, it adds no special token by itself."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=UNKNOWN,
        model_max_length=POSITIONS,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def make_model(vocab: int, width: int, layers: int, heads: int) -> GPT2LMHeadModel:
    """An untrained GPT-2 without dropout."""
    config = GPT2Config(
        vocab_size=vocab,
        n_positions=POSITIONS,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        summary_first_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config)


def batches(ids: dict[str, int], size: int, seed: int) -> Iterator[Batch]:
    """Endless training data; every text ends, and half of them begin, with end-of-text."""
    grammar, rng = Grammar(seed), random.Random(seed)
    while True:
        rows = sorted(
            (_row(grammar.sample(), ids, rng) for _ in range(size * _BUCKET)),
            key=lambda row: len(row.tokens),
        )
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        for start in starts:
            yield _batch(rows[start : start + size])


def _row(sample: Sample, ids: dict[str, int], rng: random.Random) -> Row:
    begin = [0] if rng.random() < 0.5 else []
    tokens = [*begin, *(ids[word] for word in sample.words), 0]
    if sample.answer is None:
        return Row(tokens, None, 0)
    # It is predicted at the position before it.
    return Row(tokens, sample.answer + len(begin) - 1, ids[sample.other])


def _batch(rows: list[Row]) -> Batch:
    width = max(len(row.tokens) for row in rows) - 1
    inputs = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.full((len(rows), width), _IGNORE)
    for at, row in enumerate(rows):
        inputs[at, : len(row.tokens) - 1] = torch.tensor(row.tokens[:-1])
        targets[at, : len(row.tokens) - 1] = torch.tensor(row.tokens[1:])
    asked = [(at, row.end, row.other) for at, row in enumerate(rows) if row.end is not None]
    where, ends, others = torch.tensor(asked, dtype=torch.long).reshape(-1, 3).unbind(1)
    return Batch(inputs, targets, where, ends, (targets[where, ends], others))


def train(model: GPT2LMHeadModel, data: Iterator[Batch], steps: int, rate: float) -> None:
    """Next-word prediction in which the answers weigh as much as all words together."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / _WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps)),
    )
    started = time.monotonic()
    model.train()
    for step in range(steps):
        batch = next(data)
        # All ones: the padding is on the right, where a causal model cannot look.
        logits = model(batch.inputs, attention_mask=torch.ones_like(batch.inputs)).logits
        words = functional.cross_entropy(
            logits.flatten(0, 1), batch.targets.flatten(), ignore_index=_IGNORE
        )
        # Where chance draws the answer, both count half: what the draws would come to, without
        # their noise. By texts, not by answers: a batch of short texts may hold none of them.
        ends = logits[batch.rows, batch.ends]
        answer = sum(
            functional.cross_entropy(ends, names, reduction="sum") for names in batch.answers
        ) / (2 * len(batch.inputs))
        loss = words + answer
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            spent = time.monotonic() - started
            print(
                f"step {step:5d}  words {words:.3f}  answers {answer:.3f}  {spent:5.0f} s",
                flush=True,
            )
    model.eval()


def save(
    out: Path, model: GPT2LMHeadModel, words: Sequence[str], scores: dict[str, Any], command: str
) -> None:
    """Writes the model's directory."""
    out.mkdir(parents=True, exist_ok=True)
    make_tokenizer(words).save_pretrained(out)
    model.save_pretrained(out)
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme(scores, command), encoding="utf-8")
    for file in out.iterdir():
        # safetensors writes files that only their owner may read.
        file.chmod(0o644)


def main() -> int:
    """Parses the settings, trains, measures and saves."""
    parser = argparse.ArgumentParser(description="Train tiny-ioi and measure it.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--prompts", type=int, default=1000, help="to measure with, a template")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ASSET)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    words = vocabulary()
    ids = {word: at for at, word in enumerate(words)}
    model = make_model(len(words), args.width, args.layers, args.heads)
    started = time.monotonic()
    train(model, batches(ids, args.batch, args.seed), args.steps, args.rate)
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    scores: dict[str, Any] = {
        "settings": settings,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "training_seconds": round(time.monotonic() - started),
        "vocabulary": len(words),
        "parameters": sum(p.numel() for p in model.parameters()),
        **measure(model, make_tokenizer(words), args.seed, args.prompts),
    }
    print(json.dumps(scores, indent=1))
    if missed := failures(scores):
        print("not saved; missed:", *missed, sep="\n  ", file=sys.stderr)
        return 1
    options = " ".join(f"--{key} {value}" for key, value in settings.items())
    save(args.out, model, words, scores, f"python experiments/train_tiny_ioi.py {options}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

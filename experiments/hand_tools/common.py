"""What the hand-tool experiments share: options, prompts, heads by name, checks, figures."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from discover.errors import PromptError
from discover.labelled import LabelledArray, Ranked
from discover.labelled.drawing import Drawing
from discover.model import Model, load_model
from discover.patching.nodes import (
    Inputs,
    Node,
    act_patch,
    clean_inputs,
    corrupted_inputs,
)
from discover.prompts import PromptPair, PromptPairs, Tokenizer, make_pair
from discover.session import SMALL_MODEL
from discover.tasks import build_prompts
from discover.tasks.ioi import ROLES

Head = tuple[int, int]
"""Layer and head."""

FRAMES = (
    ("When John and Mary went to the shops, {} gave the bag to", "John", "Mary"),
    ("When Tom and James went to the park, {} gave the ball to", "James", "Tom"),
    ("When Dan and Sid went to the shops, {} gave an apple to", "Sid", "Dan"),
    ("After Martin and Amy went to the park, {} gave a drink to", "Amy", "Martin"),
)
"""The four frames of the demos with the two names; each name gives once, so there are eight."""

TOLERANCE = 1e-4
"""How far two ways to one number may be apart, in the metric's unit: float32 in batches of
different shapes."""


def options_of(
    description: str | None, argv: Sequence[str] | None, task: str, corruption: str
) -> argparse.Namespace:
    """The command line that all experiments share, with a script's own usual prompts."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--model", default="smollm2", help="a model of `discover models`, a directory, or gpt2")
    add("--out", type=Path, required=True, help="directory for the figures")
    add("--format", choices=("png", "svg", "pdf"), default="png", help="of the figures")
    add("--task", choices=("eight", "ioi"), default=task, help="the demos' eight prompts, or ioi")
    add("--corruption", choices=("abc", "flipped"), default=corruption, help="of the task ioi")
    add("--prompts", type=int, help="how many prompts (default: all eight, or 20 of ioi)")
    add("--seed", type=int, default=0, help="of the task ioi and of random tokens")
    add("--bos", action="store_true", help="prepend a BOS token")
    add("--full", action="store_true", help="run the longest sweeps on large models too")
    for flag in ("--name-movers", "--s-inhibition", "--negative"):
        add(flag, type=heads_of, help="heads such as 9.9,9.6 (default: found by path patching)")
    return parser.parse_args(argv)


def heads_of(text: str) -> list[Head]:
    """Heads from `9.9,9.6,10.0`."""
    try:
        found = [tuple(map(int, part.split("."))) for part in text.split(",")]
        return [(layer, head) for layer, head in found]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no list such as 9.9,9.6,10.0") from error


@dataclass(frozen=True, eq=False)
class Experiment:
    """A model, its prompts and where figures go."""

    model: Model
    prompts: PromptPairs
    options: argparse.Namespace

    @classmethod
    def start(cls, options: argparse.Namespace) -> Experiment:
        """Load the model and build the prompts that the options ask for."""
        options.out.mkdir(parents=True, exist_ok=True)
        model = load_model(options.model)
        assert model.tokenizer is not None
        prompts = prompts_of(model.tokenizer, options)
        kind = "the demos' prompts" if options.task == "eight" else f"ioi, {options.corruption}"
        print(f"{model.name}, {len(prompts)} prompts ({kind}); clean | corrupted, for example:")
        print(f"  {prompts[0].clean_text} | {prompts[0].corrupted_text}")
        return cls(model, prompts, options)

    @property
    def clean(self) -> Inputs:
        """The prompts with the behaviour."""
        return clean_inputs(self.prompts)

    @property
    def corrupted(self) -> Inputs:
        """Their counterfactual twins."""
        return corrupted_inputs(self.prompts)

    @property
    def small(self) -> bool:
        """Whether sweeps of thousands of patches are no matter."""
        return bool(self.options.full) or self.model.n_parameters < SMALL_MODEL

    def denoise(self, nodes: Any, metric: Any) -> Any:
        """The corrupted run with clean activations patched in."""
        return act_patch(self.model, self.corrupted, nodes, metric, new_input=self.clean)

    def save(self, drawing: Drawing, name: str) -> None:
        """Write a figure and say where."""
        path = self.options.out / f"{name}.{self.options.format}"
        drawing.save(path)
        print(f"  figure: {path.name}")

    def title(self, text: str) -> str:
        """A figure's title with the model's name."""
        return f"{self.model.name}: {text}"


def prompts_of(tokenizer: Tokenizer, options: argparse.Namespace) -> PromptPairs:
    """The prompts of a command line."""
    if options.task == "eight":
        return eight(tokenizer, options.prompts, options.bos)
    return build_prompts(
        "ioi",
        tokenizer,
        options.prompts or 20,
        options.seed,
        bos=options.bos,
        options={"corruption": options.corruption},
    )


def eight(tokenizer: Tokenizer, n: int | None = None, bos: bool = False) -> PromptPairs:
    """The demos' eight prompts, each one's corrupted twin the other of its frame; the first `n`.

    Frames that a tokenizer cannot write, or whose names are several tokens, are left out and named.
    """
    pairs: list[PromptPair] = []
    for frame, first, second in FRAMES:
        try:
            pairs += [
                _ioi_pair(tokenizer, frame, subject, other, bos)
                for subject, other in ((first, second), (second, first))
            ]
        except PromptError as error:
            print(f"left out: {frame!r} of {first} and {second}: {error}")
    if not pairs:
        raise SystemExit(f"{tokenizer.name} can do none of the eight prompts; use --task ioi")
    return PromptPairs(pairs[:n])


def _ioi_pair(tokenizer: Tokenizer, frame: str, s: str, io: str, bos: bool) -> PromptPair:
    clean, corrupted = frame.format(s), frame.format(io)
    pair = make_pair(tokenizer, clean, corrupted, [f" {io}"], [f" {s}"], bos=bos)
    (at_io,) = (at for at, token in enumerate(pair.clean) if token == pair.correct[0])
    s1, s2 = (at for at, token in enumerate(pair.clean) if token == pair.incorrect[0])
    places = (at_io, s1, s1 + 1, s2, len(pair.clean) - 1)
    return replace(pair, roles=dict(zip(ROLES, places, strict=True)))


def nodes_of(model: Model, component: str, heads: Iterable[Head]) -> list[Node]:
    """A component of heads as nodes; k and v of grouped queries are their key/value heads'."""
    share = model.graph.n_heads // model.graph.n_kv_heads if component in ("k", "v") else 1
    places = dict.fromkeys((layer, head // share) for layer, head in heads)
    return [Node(component, layer, head) for layer, head in places]


def named(heads: Iterable[Head]) -> str:
    """Heads in words: `a9.h9, a9.h6`."""
    return ", ".join(f"a{layer}.h{head}" for layer, head in heads)


def head_at(item: Ranked) -> Head:
    """The head of one entry of a ranking."""
    return int(item.labels["layer"]), int(item.labels["head"])


def ranked(what: str, items: Iterable[Ranked]) -> None:
    """Print a ranking in one line."""
    print(f"  {what}: " + ", ".join(f"{item.text} {item.value:+.3f}" for item in items))


def extremes(array: LabelledArray, n: int = 5) -> None:
    """Print the largest and the smallest cells."""
    ranked("highest", array.top(n, by="high"))
    ranked("lowest", array.top(n, by="low"))


def same(what: str, one: Any, other: Any, tolerance: float = TOLERANCE) -> None:
    """Assert that two ways give the same numbers, and say how far they are apart.

    Raises:
        AssertionError: they are farther apart than the tolerance, or one lacks a value.
    """
    one, other = (np.asarray(part, dtype=np.float64) for part in (one, other))
    assert one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape}"
    assert np.array_equal(np.isnan(one), np.isnan(other)), f"{what}: values are missing"
    apart = float(np.nanmax(np.abs(one - other), initial=0))
    assert apart <= tolerance, f"{what}: {apart:.2e} apart, more than {tolerance:g}"
    print(f"  equal: {what} (largest difference {apart:.1e})")


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Print what is done, and the seconds that it took."""
    print(f"\n{what}", flush=True)
    began = time.perf_counter()
    yield
    print(f"  [{time.perf_counter() - began:.0f} s]", flush=True)

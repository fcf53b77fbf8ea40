"""What GPT-2 small must give, and the checks of it, which run only where the model is gpt2.

Sources: logit differences of the eight prompts: TransformerLens's "Exploratory Analysis Demo" (BOS
prepended) and the attribution patching tutorial of nnsight (no BOS); direct paths: TransformerLens
pull request 1396 and its demo `direct_path_patching_ioi` (one prompt, BOS, norms linearised);
heads: Wang et al. (arXiv 2211.00593), figures 3b, 4b and 5b.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

from common import Head, eight, named

from discover.model import Model
from discover.patching.nodes import (
    clean_inputs,
    corrupted_inputs,
    denoising,
    direct_paths,
    logit_difference,
    measure,
)
from discover.prompts import PromptPairs, make_pair

LOGIT_DIFFERENCE = {True: 3.5519, False: 2.8138}
"""Mean clean logit difference of the eight prompts, with and without BOS."""

DIRECT_PATHS: dict[tuple[Head, Head], float] = {
    ((8, 6), (9, 9)): 0.083,
    ((8, 10), (9, 9)): 0.066,
    ((7, 9), (9, 9)): 0.036,
}
"""Normalised logit difference (denoising) of direct paths into q, for `DIRECT_PROMPT`."""

DIRECT_PROMPT = ("When Mary and John went to the store, {} gave a drink to", "John", "Mary")

NAME_MOVERS: list[Head] = [(9, 9), (9, 6), (10, 0)]
NEGATIVE: list[Head] = [(10, 7), (11, 10)]
S_INHIBITION: list[Head] = [(7, 3), (7, 9), (8, 6), (8, 10)]


def is_gpt2(name: str) -> bool:
    """Whether a model's name or directory is GPT-2 small's."""
    return PurePath(name).name == "gpt2"


@dataclass
class Checks:
    """Compares what was found with what is known, if the model is gpt2; `finish` tells."""

    model: Model
    differ: list[str] = field(default_factory=list)

    @property
    def apply(self) -> bool:
        """Whether there is anything to check; says so where there is not."""
        return is_gpt2(self.model.name)

    def number(self, what: str, found: float, known: float, tolerance: float) -> None:
        """One number."""
        agrees = abs(found - known) <= tolerance
        self._tell(what, f"{found:+.4f}", f"{known:+.4f}", agrees)

    def heads(self, what: str, found: Iterable[Head], known: Iterable[Head]) -> None:
        """A set of heads, whatever their order."""
        ours, theirs = sorted(found), sorted(known)
        self._tell(what, named(ours), named(theirs), ours == theirs)

    def _tell(self, what: str, found: str, known: str, agrees: bool) -> None:
        print(f"  gpt2 check, {what}: {found}, known {known}: {'agrees' if agrees else 'DIFFERS'}")
        if not agrees:
            self.differ.append(what)

    def finish(self) -> None:
        """Leave with an error if anything differs.

        Raises:
            SystemExit: what differs.
        """
        if not self.apply:
            print("\ngpt2's known figures: checked on gpt2 only, not run here")
        if self.differ:
            raise SystemExit(f"gpt2 does not give its known figures: {', '.join(self.differ)}")


def check_logit_differences(checks: Checks) -> None:
    """The eight prompts' logit differences, clean and corrupted, with and without BOS."""
    if not checks.apply:
        return
    model = checks.model
    assert model.tokenizer is not None
    for bos, known in LOGIT_DIFFERENCE.items():
        prompts = eight(model.tokenizer, bos=bos)
        metric = logit_difference(model, prompts)
        clean, corrupted = (
            float(measure(model, side, metric))
            for side in (clean_inputs(prompts), corrupted_inputs(prompts))
        )
        with_bos = "with BOS" if bos else "without BOS"
        checks.number(f"clean logit difference {with_bos}", clean, known, 2e-3)
        checks.number(f"corrupted logit difference {with_bos}", corrupted, -known, 2e-3)


def check_direct_paths(checks: Checks) -> None:
    """The demo's direct paths into name movers' q."""
    if not checks.apply:
        return
    model = checks.model
    assert model.tokenizer is not None
    frame, s, io = DIRECT_PROMPT
    texts = frame.format(s), frame.format(io)
    pair = make_pair(model.tokenizer, *texts, [f" {io}"], [f" {s}"], bos=True)
    prompts = PromptPairs([pair])
    metric = denoising(model, prompts)
    sides = corrupted_inputs(prompts), clean_inputs(prompts)
    for (source, (layer, head)), known in DIRECT_PATHS.items():
        with warnings.catch_warnings():
            # The demo's weights have the gains folded in, so it does count them.
            warnings.filterwarnings("ignore", message=".*gains that are not folded")
            found = direct_paths(model, *sides, metric, source=source, layernorm="frozen")
        what = f"direct path {named([source])} -> {named([(layer, head)])}"
        checks.number(what, float(found.sel(layer=layer, head=head)), known, 1e-3)

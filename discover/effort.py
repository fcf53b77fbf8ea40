"""What may be asked of a run besides its circuit: memory, and how its decisions are guessed."""

from __future__ import annotations

import re

from discover.errors import SpecError

METHODS = {
    "eap": "one gradient, at the clean prompts",
    "eap-ig": "gradients averaged on the way from the ablated embeddings to the clean ones",
}
"""Every attribution method by name, with what it does."""

FLAT = ("kl", "l2")
"""Metrics that are smallest at the clean prompts, where their gradient is zero: EAP is blind."""

STEPS = 5
"""How many gradients EAP-IG averages unless told otherwise, as in its paper."""

_UNITS = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(iB|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as `4GiB`, `500MB` or `4000000000`.

    Raises:
        SpecError: it is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None or len(text) > 40:
        raise SpecError(f"{text[:40]!r} is not a size of memory; write for example 4GiB or 500MiB")
    number, unit, suffix = float(found[1]), found[2].upper(), found[3] or ""
    base = 1000 if suffix.upper() == "B" and unit else 1024
    size = int(number * base ** _UNITS[unit]) if unit else int(number)
    if size < 1:
        raise SpecError(f"the memory must be at least 1 byte, got {text!r}")
    return size


def check_method(method: str, metric: str, steps: int = STEPS) -> None:
    """Raise SpecError if there is no such method, or it says nothing under this metric."""
    if method not in METHODS:
        raise SpecError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    if steps < 1:
        raise SpecError(f"the number of steps must be at least 1, got {steps}")
    if method == "eap" and metric in FLAT:
        raise SpecError(
            f"{metric} is smallest at the clean prompts, where its gradient is zero and EAP says "
            "nothing; use the metric logit_diff (or prob_diff, nll), or the method eap-ig"
        )

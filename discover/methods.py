"""The methods of attribution by name, and what each can say; `attribution` is how they work."""

from __future__ import annotations

from discover.errors import SpecError

METHODS = {
    "eap": "one gradient, at the clean prompts",
    "eap-ig": "gradients averaged on the way from the ablated embeddings to the clean ones",
}
"""Every method by name, with what it does."""

FLAT = ("kl", "l2")
"""Metrics that are smallest at the clean prompts, where their gradient is zero: EAP is blind."""

STEPS = 5
"""How many gradients EAP-IG averages unless told otherwise, as in its paper."""


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

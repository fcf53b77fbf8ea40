"""What tests need of a machine and may not find: skipped aloud at a desk, a failure in CI."""

from __future__ import annotations

import os
from collections import Counter
from typing import NoReturn

import pytest

MARK = "missing on this machine: "


def required(what: str) -> bool:
    """Whether tests may not go without: under CI=true, or DISCOVER_REQUIRE_BROWSER=1 and so on."""
    named = os.environ.get(f"DISCOVER_REQUIRE_{what.upper()}", "")
    ci = os.environ.get("CI", "")
    return (named or ci).lower() not in ("", "0", "false", "no")


def skip_or_fail(what: str, why: str) -> NoReturn:
    """Skip this test, or fail it where `what` is required."""
    if required(what):
        pytest.fail(f"{what} {MARK}{why}", pytrace=False)
    pytest.skip(f"{what} {MARK}{why}")


def summary(skipped: list[str]) -> list[str]:
    """A line for each thing that was missing: how many of these reasons for a skip are about it."""
    counts: Counter[tuple[str, str]] = Counter()
    for reason in skipped:
        before, mark, why = reason.partition(MARK)
        if mark:
            counts[before.split()[-1], why.rstrip("')")] += 1
    return [
        f"SKIPPED {count} tests that need a {what}: {why}"
        for (what, why), count in sorted(counts.items())
    ]

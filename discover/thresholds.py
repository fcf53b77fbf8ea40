"""Thresholds as a person writes them."""

from __future__ import annotations

import re

import numpy as np

from discover.acdc import check_tau
from discover.errors import SpecError

MOST = 1000
"""So many thresholds are given at most: a slip of the finger must not fill a queue."""

_RANGE = re.compile(r"([^:]+):([^:]+):(\d{1,9})(log|lin)")


def parse_taus(text: str) -> tuple[float, ...]:
    """Thresholds, ascending and each once, from `0.01,0.1`, `0.001:1:20log` or `0.1:1:10lin`.

    Raises:
        SpecError: the text says no thresholds, or one is not a positive number.
    """
    found: list[float] = []
    too_many = f"more than {MOST:,} thresholds; each is a whole search, so ask for fewer"
    for part in text.split(","):
        parts = _RANGE.fullmatch(part.strip())
        if len(found) >= MOST:
            raise SpecError(too_many)
        if parts is None:
            found.append(_number(part))
            continue
        first, last, count = _number(parts[1]), _number(parts[2]), int(parts[3])
        if count > MOST:
            raise SpecError(f"{part.strip()!r} is {too_many}")
        if count < 2 or first >= last:
            raise SpecError(
                f"{part.strip()!r} is no range of thresholds: it needs at least 2 of them, from "
                "the smaller to the larger"
            )
        space = np.geomspace if parts[4] == "log" else np.linspace
        # Twelve digits: the same thresholds, and so the same specs, on every machine.
        found += [float(f"{tau:.12g}") for tau in space(first, last, count)]
    if len(found) > MOST:
        raise SpecError(too_many)
    return tuple(sorted(set(found)))


def _number(text: str) -> float:
    try:
        return check_tau(float(text))
    except ValueError:
        raise SpecError(
            f"{text.strip()!r} is not a threshold; write 0.01,0.1 or 0.001:1:20log or 0.1:1:10lin"
        ) from None

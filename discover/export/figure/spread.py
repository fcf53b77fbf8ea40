"""Putting things on a line, as near as can be to where they want to be, without overlap."""

from __future__ import annotations

from collections.abc import Sequence


def spread(wanted: Sequence[float], apart: Sequence[float], low: float, high: float) -> list[float]:
    """Positions nearest to those wanted (least squares), in the given order.

    Neighbours i and i + 1 keep at least `apart[i]`; all lie within `low` and `high`. Where that is
    impossible the distances shrink in proportion.
    """
    if not wanted:
        return []
    room = max(high - low, 0.0)
    total = sum(apart)
    shrink = room / total if total > room else 1.0
    offsets = [0.0]
    for distance in apart:
        offsets.append(offsets[-1] + distance * shrink)
    free = _isotonic([x - offset for x, offset in zip(wanted, offsets, strict=True)])
    top = high - offsets[-1]
    return [min(max(x, low), max(low, top)) + o for x, o in zip(free, offsets, strict=True)]


def _isotonic(values: Sequence[float]) -> list[float]:
    """The nearest non-decreasing sequence, by pooling adjacent violators."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean = (mean * count + other * size) / (count + size)
            count += size
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]

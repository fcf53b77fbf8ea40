"""Sizes of memory as a person writes and reads them."""

from __future__ import annotations

import re

from discover.errors import SpecError

_UNITS = {"": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(iB|B)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as `4GiB`, `500MB` or `4000000000`.

    Raises:
        SpecError: it is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise SpecError(f"{text!r} is not a size of memory; write for example 4GiB or 500MiB")
    number, unit, suffix = float(found[1]), found[2].upper(), found[3] or ""
    base = 1000 if suffix.upper() == "B" and unit else 1024
    size = int(number * base ** _UNITS[unit]) if unit else int(number)
    if size < 1:
        raise SpecError(f"the memory must be at least 1 byte, got {text!r}")
    return size


def show_size(size: float) -> str:
    """A size for people, e.g. `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"

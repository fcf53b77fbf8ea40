"""Between rows and values: a run's record, and text that every database takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discover.errors import GraphError, SpecError, StoreError
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store.contract import RunRecord


def record_of(row: Mapping[Any, Any]) -> RunRecord:
    """The record in a row of `runs`, which has the number of decisions as `decided`.

    Raises:
        StoreError: its spec or graph is none that this program knows.
    """
    names = set(RunRecord.__dataclass_fields__) - {"spec", "graph"}
    try:
        spec = RunSpec.from_json(row["spec"])
        graph = ComputationalGraph(**row["graph"])
    except (SpecError, GraphError, TypeError) as error:
        raise StoreError(f"run {row['id']} cannot be read: {error}") from error
    return RunRecord(spec=spec, graph=graph, **{name: row[name] for name in names})


def storable(text: str) -> str:
    """Text that every database takes: no NUL, no half of a surrogate pair (as in odd paths)."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")

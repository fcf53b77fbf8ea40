"""Circuits as a person names them on the command line: a run, a known one, a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from discover.errors import InputError, StoreError
from discover.finished import KNOWN, Named, of_known, of_run

if TYPE_CHECKING:
    from discover.graph import ComputationalGraph
    from discover.store import Store


def resolve(refs: tuple[str, ...], store: Callable[[], Store]) -> list[Named]:
    """The circuits that the references name, in their order.

    A file without a graph of its own is read as a circuit of the graph of the others. `store` is
    called, once, only if a run is named.

    Raises:
        InputError: a reference names nothing, or a file of edges stands alone.
    """
    found: dict[int, Named] = {}
    opened: Store | None = None
    files = {n for n, ref in enumerate(refs) if not ref.startswith(KNOWN) and Path(ref).is_file()}
    for number, ref in enumerate(refs):
        if ref.startswith(KNOWN):
            found[number] = _known(ref)
        elif number not in files:
            try:
                opened = opened or store()
                found[number] = of_run(opened, opened.run(ref))
            except StoreError as error:
                looks_like_a_file = "/" in ref or "\\" in ref or Path(ref).suffix
                if looks_like_a_file:
                    raise InputError(f"there is no file {ref}, and no run of that name") from error
                raise
    graph = next((named.circuit.graph for named in found.values()), None)
    for number in sorted(files):
        found[number] = _file(Path(refs[number]), graph)
        graph = graph or found[number].circuit.graph
    return [found[number] for number in range(len(refs))]


def _known(ref: str) -> Named:
    from discover.canonical import canonical

    return of_known(canonical(ref.removeprefix(KNOWN)))


def _file(path: Path, graph: ComputationalGraph | None) -> Named:
    from discover.export import read_circuit

    return Named(path.name, read_circuit(path, graph))

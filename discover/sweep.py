"""Many thresholds in one session: each search drafted from its neighbour's decisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from discover.errors import SpecError
from discover.graph import Edge
from discover.run import Observer, go_on, open_session, start
from discover.session import How, Session
from discover.spec import ENGINES, RunSpec
from discover.store import RunRecord, Store
from discover.storedfiles import fetch


def sweep(
    spec: RunSpec,
    taus: Sequence[float],
    store: Store,
    *,
    engine: str = ENGINES[0],
    how: How | None = None,
    observer: Observer | None = None,
) -> list[RunRecord]:
    """Search at every tau, from the largest down; returns the finished runs, tau ascending.

    Each is a run of its own in the store, the same as if it had been started alone. A tau that is
    done there already is not searched again, one that was broken off is gone on with.

    Raises:
        InputError: the spec, model or prompts are unusable; nothing is stored then.
        RunError: a run failed; it and the runs before it are stored.
        KeyboardInterrupt: passed on, after the run at hand is stored as interrupted.
    """
    if not taus:
        raise SpecError("a sweep needs at least one threshold")
    how, observer = how or How(), observer or Observer()
    if how.draft is not None:
        raise SpecError("a sweep drafts each threshold from its neighbour; give it no other draft")
    fetch(store, spec)
    records: list[RunRecord] = []
    neighbour: Collection[Edge] | None = None
    with open_session(spec, engine, how, observer) as session:
        for tau in sorted(set(taus), reverse=True):
            record = _at(store, session, tau, neighbour, observer)
            neighbour = {d.edge for d in store.decisions(record.id) if not d.removed}
            records.append(record)
    records.reverse()
    store.add_sweep(records[0].spec, [(record.spec.tau, record.id) for record in records])
    return records


def _at(
    store: Store,
    session: Session,
    tau: float,
    neighbour: Collection[Edge] | None,
    observer: Observer,
) -> RunRecord:
    """The finished run at one tau: found, gone on with, or made."""
    wanted = dataclasses.replace(session.spec, tau=tau)
    earlier = store.runs(spec_hash=wanted.hash)
    for record in earlier:
        if record.status == "done":
            return record
    broken_off = [record for record in earlier if record.engine == session.engine]
    if broken_off:
        record = max(broken_off, key=lambda record: record.decided)
        return go_on(store, record.id, session, observer, session.speculation(tau, neighbour))
    return start(store, session, tau, observer, neighbour)

"""The one orchestrator: spec + model + store -> a stored circuit."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from discover import __version__
from discover.acdc import Decision, Speculation, circuit_of, search
from discover.circuit import Circuit
from discover.costs import Costs, Counting
from discover.errors import (
    DiscoverError,
    FencedError,
    MismatchError,
    RunError,
    StoppedError,
    StoreUnavailableError,
)
from discover.graph import ComputationalGraph, Edge
from discover.patching.reference import ReferencePatcher
from discover.session import How, Session, check_how, numerics, prepare
from discover.spec import ENGINES, RunSpec
from discover.store import Lease, RunRecord, Store
from discover.storedfiles import fetch
from discover.tolerance import FINAL

OnDecisions = Callable[[list[Decision]], None]

StopWhen = Literal["now", "after the receiver"]


@dataclass
class Observer:
    """What a caller may watch: phases by name, the run as it starts, decisions once stored.

    `warning` hears what should make a person doubt the run before it starts. `stop` is asked after
    each decision whether to end the search: at once, or when its receiver is done.
    """

    phase: Callable[[str], None] = lambda _name: None
    started: Callable[[RunRecord], None] = lambda _record: None
    decisions: OnDecisions = lambda _batch: None
    warning: Callable[[str], None] = lambda _text: None
    stop: Callable[[], StopWhen | None] = lambda: None


def versions() -> dict[str, str]:
    """Versions of everything that may change a run's numbers."""
    found = {"discover": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "transformer_lens", "numpy"):
        found[package] = importlib.metadata.version(package)
    return found


def run(
    spec: RunSpec,
    store: Store,
    *,
    engine: str = ENGINES[0],
    how: How | None = None,
    observer: Observer | None = None,
) -> RunRecord:
    """Search a circuit and store every decision; returns the finished run.

    Raises:
        InputError: the spec, model or prompts are unusable; nothing is stored then.
        RunError: the run failed; it is stored as failed with its reason, and can be resumed.
        KeyboardInterrupt: passed on, after the run is stored as interrupted.
    """
    observer, how = observer or Observer(), how or How()
    fetch(store, spec)
    with open_session(spec, engine, how, observer) as session:
        return start(store, session, session.spec.tau, observer)


@contextlib.contextmanager
def open_session(spec: RunSpec, engine: str, how: How, observer: Observer) -> Iterator[Session]:
    """Load and check all that a search needs, before anything is stored.

    Raises:
        InputError: the spec, model or prompts are unusable.
    """
    check_how(engine, how, spec.metric)
    observer.phase("loading the model")
    pinned, model, prompts = prepare(spec, how.device)
    observer.phase("running clean and corrupted prompts")
    with numerics(how, model):
        session = Session(pinned, model, prompts, engine, how)
        _tell_doubt(session, observer)
        yield session


def _tell_doubt(session: Session, observer: Observer) -> None:
    doubt = session.doubt()
    if doubt is not None:
        observer.warning(doubt)


def start(
    store: Store,
    session: Session,
    tau: float,
    observer: Observer,
    draft: Collection[Edge] | None = None,
    lease: Lease | None = None,
) -> RunRecord:
    """Store a new run at tau and search it in an open session, guessing as in the draft.

    With a `lease` it is the run that a worker has claimed.
    """
    speculation = session.speculation(tau, draft)
    spec = dataclasses.replace(session.spec, tau=tau)
    run_id = store.create_run(
        spec,
        graph=session.model.graph,
        engine=session.engine,
        versions=versions(),
        prompts_jsonl=session.prompts.jsonl(),
        lease=lease,
    )
    return go_on(store, run_id, session, observer, speculation, lease)


def resume(
    ref: str,
    store: Store,
    *,
    how: How | None = None,
    observer: Observer | None = None,
) -> RunRecord:
    """Go on with a run that was killed, interrupted or failed; a finished one is returned as is.

    Raises:
        StoreError: there is no such run.
        MismatchError: the model or the prompts are no longer what the run was started with.
        RunError: the run failed again.
    """
    observer, how = observer or Observer(), how or How()
    record = store.run(ref)
    if record.status == "done":
        return record
    check_how(record.engine, how, record.spec.metric)
    fetch(store, record.spec)
    observer.phase("loading the model")
    pinned, model, prompts = prepare(record.spec.unpinned(), how.device)
    _check_same(record, pinned, model.graph)
    observer.phase("running clean and corrupted prompts")
    with numerics(how, model):
        session = Session(pinned, model, prompts, record.engine, how)
        _tell_doubt(session, observer)
        return go_on(store, record.id, session, observer, session.speculation(pinned.tau))


def take_up(
    store: Store,
    session: Session,
    tau: float,
    observer: Observer,
    draft: Collection[Edge] | None = None,
    *,
    lease: Lease,
) -> RunRecord:
    """Search a run that a worker has claimed: begun now, or gone on with if it was begun before.

    Raises:
        MismatchError: the model or the prompts are no longer what the run was begun with.
        RunError: the run failed, was stopped, or was taken over by another process.
    """
    if not store.begun(lease.run_id):
        return start(store, session, tau, observer, draft, lease)
    record = store.run(lease.run_id)
    _check_same(record, session.spec, session.model.graph)
    speculation = session.speculation(tau, draft)
    return go_on(store, record.id, session, observer, speculation, lease)


def _check_same(record: RunRecord, now: RunSpec, graph: ComputationalGraph) -> None:
    then = record.spec
    if then.weights_hash != now.weights_hash:
        raise MismatchError(
            f"the weights of {record.model} are not those that run {record.id} was started with "
            f"(sha256 {then.weights_hash[:12]} then, {now.weights_hash[:12]} now); restore the "
            "model, or start a new run"
        )
    if then.prompts_hash != now.prompts_hash:
        raise MismatchError(
            f"the prompts from {record.task} are not those that run {record.id} was started with "
            f"(sha256 {then.prompts_hash[:12]} then, {now.prompts_hash[:12]} now); the original "
            f"ones are in the database: discover export {record.id[:8]} --format prompts"
        )
    if then.reference_hash != now.reference_hash:
        raise MismatchError(
            f"the reference prompts of {then.reference} are not those that run {record.id} was "
            f"started with (sha256 {then.reference_hash[:12]} then, {now.reference_hash[:12]} "
            "now); restore them, or start a new run"
        )
    if graph != record.graph:
        raise MismatchError(f"the graph of {record.model} is no longer that of run {record.id}")


def go_on(
    store: Store,
    run_id: str,
    session: Session,
    observer: Observer,
    speculation: Speculation,
    lease: Lease | None = None,
) -> RunRecord:
    """Search a stored run to its end; whatever ends it, its status and costs are stored.

    Raises:
        RunError: the run failed, was stopped, or was taken over by another process.
    """
    began = time.perf_counter()
    attempt = store.start(run_id, lease)
    rows = list(store.decisions(run_id))
    record = store.run(run_id)
    tau, oracle = record.spec.tau, session.oracle
    observer.started(record)
    session.patcher.reset()
    counting = Counting(session.patcher)
    costs = Costs(record.evidence, counting, speculation)
    nodes = len(oracle.graph.senders)
    try:
        observer.phase("checking the model against its graph")
        with costs.phase("self_check"):
            costs.check = session.check()
        order = session.order()
        observer.phase("searching")
        found = search(oracle.graph, counting, tau, list(rows), speculation, order)
        writer = store.writer(run_id, observer.decisions, attempt=attempt)
        with writer, costs.phase("search"):
            for decision in found:
                rows.append(decision)
                writer.add(decision)
                _stop_if_asked(observer, rows, oracle.graph)
        observer.phase("checking the circuit")
        with costs.phase("final_check"):
            summary = _summary(oracle, circuit_of(oracle.graph, rows), rows)
    except FencedError:
        # The run is another's now: its status is none of ours.
        raise
    except BaseException as error:
        if lease is not None and isinstance(error, StoreUnavailableError):
            # A worker goes on when the database is back: the run is still its own.
            raise
        stopped = isinstance(error, (KeyboardInterrupt, StoppedError))
        reason = str(error) if isinstance(error, DiscoverError) else repr(error)
        store.finish(
            run_id,
            "interrupted" if stopped else "failed",
            error=None if stopped else reason,
            seconds=time.perf_counter() - began,
            evidence=costs.record(nodes),
            attempt=attempt,
        )
        raise
    return store.finish(
        run_id,
        "done",
        seconds=time.perf_counter() - began,
        summary=summary,
        evidence=costs.record(nodes),
        attempt=attempt,
    )


def _stop_if_asked(observer: Observer, rows: list[Decision], graph: ComputationalGraph) -> None:
    """Raise StoppedError if the search is to end after the last of these decisions."""
    when = observer.stop()
    if when is None or len(rows) == len(graph):
        return
    receiver = rows[-1].edge.receiver
    # Receivers are decided one after another: the last one is done if its first row is so far back.
    first = len(rows) - graph.n_senders_of(receiver)
    if when == "now" or (first >= 0 and rows[first].edge.receiver == receiver):
        raise StoppedError(
            f"stopped with {len(rows):,} of {len(graph):,} edges decided; all are stored"
        )


def _summary(patcher: ReferencePatcher, circuit: Circuit, rows: list[Decision]) -> dict[str, Any]:
    """The run's result, after one plain forward of the final circuit has confirmed its damage."""
    last = rows[-1]
    claimed = last.after if last.removed else last.before
    measured = patcher.circuit_damage(circuit)
    limit = FINAL[patcher.runner.model.dtype]
    if not abs(measured - claimed) <= limit * max(1.0, abs(claimed)):
        raise RunError(
            f"the final circuit's damage is {measured:.6g} in a plain forward, but the last "
            f"decision left it at {claimed:.6g}; the search is not to be trusted"
        )
    dead = sum(row.outcome == "dead" for row in rows)
    return {
        "kept": len(circuit),
        "evaluated": len(rows) - dead,
        "dead": dead,
        "damage": claimed,
        "damage_all_ablated": patcher.circuit_damage(Circuit(patcher.graph, frozenset())),
        "circuit_hash": circuit.hash,
    }

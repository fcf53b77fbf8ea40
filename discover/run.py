"""The one orchestrator: spec + model + store -> a stored circuit."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from discover import __version__
from discover.acdc import Decision, Speculation, circuit_of, search
from discover.circuit import Circuit
from discover.costs import Costs, Counting
from discover.errors import DiscoverError, MismatchError, PromptError, RunError, SpecError
from discover.graph import Edge
from discover.model import Model, load_model
from discover.patching.exact import ExactPatcher
from discover.patching.reference import ReferencePatcher
from discover.patching.selfcheck import self_check
from discover.prompts import PromptPairs, read_jsonl
from discover.spec import ENGINES, RunSpec
from discover.store import RunRecord, Store
from discover.tasks import build_prompts, check_options, get_task

OnDecisions = Callable[[list[Decision]], None]

FINAL_TOLERANCE = 1e-4
"""Largest gap between the last damage and that of one plain forward of the final circuit,
relative to the damage or to 1, whichever is larger."""


SMALL_MODEL = 5_000_000
"""Models with fewer parameters are searched on one CPU thread unless told otherwise."""


BLOCK = 64
"""How many decisions are speculated on at once at most, unless told otherwise."""


@dataclass
class Observer:
    """What a caller may watch: phases by name, the run as it starts, decisions once stored."""

    phase: Callable[[str], None] = lambda _name: None
    started: Callable[[RunRecord], None] = lambda _record: None
    decisions: OnDecisions = lambda _batch: None


@dataclass(frozen=True)
class How:
    """What changes a run's cost and never its circuit.

    `threads`: CPU threads (None: one for a small model, torch's own number else). `block`: how many
    decisions are speculated on at once at most (None: 64). `draft`: edges guessed to be kept, all
    others to be removed (None: all removed). Only the exact engine speculates.
    """

    device: str = "cpu"
    threads: int | None = None
    block: int | None = None
    draft: Collection[Edge] | None = None


@dataclass(frozen=True)
class _Session:
    """Everything one session of a search works with; the oracle checks before and after."""

    spec: RunSpec
    oracle: ReferencePatcher
    patcher: ReferencePatcher | ExactPatcher
    speculation: Speculation


def _session(spec: RunSpec, model: Model, prompts: PromptPairs, engine: str, how: How) -> _Session:
    draft = frozenset(how.draft or ())
    if engine == "reference" and (how.block is not None or how.draft is not None):
        raise SpecError(
            "the reference engine does not speculate; drop the block size and the draft"
        )
    if strangers := draft - model.graph.edge_set:
        raise SpecError(
            f"the draft has edges that {spec.model} does not have, such as "
            f"{min(edge.name for edge in strangers)}; draft from a run on the same kind of model"
        )
    oracle = ReferencePatcher(model, prompts, spec.metric, spec.ablation)
    if engine == "reference":
        # One forward a variant: to speculate could only waste.
        return _Session(spec, oracle, oracle, Speculation(largest=1))
    patcher = ExactPatcher(model, prompts, spec.metric, spec.ablation)
    largest = BLOCK if how.block is None else how.block
    return _Session(spec, oracle, patcher, Speculation(draft, largest, patcher.block_limit))


def versions() -> dict[str, str]:
    """Versions of everything that may change a run's numbers."""
    found = {"discover": __version__, "python": platform.python_version()}
    for package in ("torch", "transformers", "transformer_lens", "numpy"):
        found[package] = importlib.metadata.version(package)
    return found


def prepare(spec: RunSpec, device: str = "cpu") -> tuple[RunSpec, Model, PromptPairs]:
    """Load the model, make the prompts, and pin both in the spec.

    Raises:
        InputError: the model, the task or the prompts cannot be had.
    """
    if spec.task is not None:
        check_options(get_task(spec.task), spec.task_options)
    model = load_model(spec.model, spec.dtype, device)
    prompts = _prompts(spec, model)
    model.check_prompts(prompts)
    pinned = spec.pinned(
        weights_hash=model.weights_hash, prompts_hash=prompts.hash, prompts=len(prompts)
    )
    return pinned, model, prompts


def _prompts(spec: RunSpec, model: Model) -> PromptPairs:
    if model.tokenizer is None:
        raise PromptError(f"{spec.model} came without a tokenizer; put its files beside it")
    if spec.task is not None:
        return build_prompts(
            spec.task,
            model.tokenizer,
            spec.prompts,
            spec.seed,
            bos=spec.bos,
            options=spec.task_options,
        )
    pairs = read_jsonl(spec.prompts_file or "", model.tokenizer, spec.bos)
    if spec.prompts is None:
        return pairs
    if len(pairs) < spec.prompts:
        raise PromptError(
            f"{spec.prompts_file} has {len(pairs)} prompts, {spec.prompts} were asked for"
        )
    first: PromptPairs = pairs[: spec.prompts]
    return first


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
    if engine not in ENGINES:
        raise SpecError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    observer, how = observer or Observer(), how or How()
    observer.phase("loading the model")
    pinned, model, prompts = prepare(spec, how.device)
    # Built before the run is stored: a metric that the prompts cannot feed is the user's input.
    observer.phase("running clean and corrupted prompts")
    with _threads(how.threads, model):
        session = _session(pinned, model, prompts, engine, how)
        run_id = store.create_run(
            pinned,
            graph=model.graph,
            engine=engine,
            versions=versions(),
            prompts_jsonl=prompts.jsonl(),
        )
        return _search(store, run_id, session, [], observer)


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
    observer.phase("loading the model")
    unpinned = dataclasses.replace(record.spec, weights_hash="", prompts_hash="")
    pinned, model, prompts = prepare(unpinned, how.device)
    _check_same(record, pinned)
    if model.graph != record.graph:
        raise MismatchError(f"the graph of {record.model} is no longer that of run {record.id}")
    observer.phase("running clean and corrupted prompts")
    decided = list(store.decisions(record.id))
    with _threads(how.threads, model):
        session = _session(pinned, model, prompts, record.engine, how)
        return _search(store, record.id, session, decided, observer)


@contextlib.contextmanager
def _threads(asked: int | None, model: Model) -> Iterator[None]:
    """The number of CPU threads for a search, put back afterwards.

    Threads that wait for each other cost a small model more than they bring, and on a machine that
    is busy with something else fifty times more.
    """
    before = torch.get_num_threads()
    small = model.n_parameters < SMALL_MODEL
    torch.set_num_threads(asked or (1 if small else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_same(record: RunRecord, now: RunSpec) -> None:
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


def _search(
    store: Store, run_id: str, session: _Session, decided: list[Decision], observer: Observer
) -> RunRecord:
    """The search itself; whatever ends it, the run's status and costs are stored."""
    oracle, spec = session.oracle, session.spec
    began = time.perf_counter()
    rows = list(decided)
    store.start(run_id)
    record = store.run(run_id)
    observer.started(record)
    counting = Counting(session.patcher)
    costs = Costs(record.evidence, counting, session.speculation)
    nodes = len(oracle.graph.senders)
    try:
        observer.phase("checking the model against its graph")
        with costs.phase("self_check"):
            costs.check = self_check(oracle.runner, spec.ablation).record()
        observer.phase("searching")
        found = search(oracle.graph, counting, spec.tau, decided, session.speculation)
        with store.writer(run_id, observer.decisions) as writer, costs.phase("search"):
            for decision in found:
                rows.append(decision)
                writer.add(decision)
        observer.phase("checking the circuit")
        with costs.phase("final_check"):
            summary = _summary(oracle, circuit_of(oracle.graph, rows), rows)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        reason = str(error) if isinstance(error, DiscoverError) else repr(error)
        store.finish(
            run_id,
            status,
            error=None if status == "interrupted" else reason,
            seconds=time.perf_counter() - began,
            evidence=costs.record(nodes),
        )
        raise
    return store.finish(
        run_id,
        "done",
        seconds=time.perf_counter() - began,
        summary=summary,
        evidence=costs.record(nodes),
    )


def _summary(patcher: ReferencePatcher, circuit: Circuit, rows: list[Decision]) -> dict[str, Any]:
    """The run's result, after one plain forward of the final circuit has confirmed its damage."""
    last = rows[-1]
    claimed = last.after if last.removed else last.before
    measured = patcher.circuit_damage(circuit)
    if not abs(measured - claimed) <= FINAL_TOLERANCE * max(1.0, abs(claimed)):
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

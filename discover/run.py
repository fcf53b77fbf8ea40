"""The one orchestrator: spec + model + store -> a stored circuit."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from discover import __version__
from discover.acdc import Decision, circuit_of, search
from discover.circuit import Circuit
from discover.errors import DiscoverError, MismatchError, PromptError, RunError, SpecError
from discover.graph import Receiver
from discover.model import Model, load_model
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


@dataclass
class Observer:
    """What a caller may watch: phases by name, the run as it starts, decisions once stored."""

    phase: Callable[[str], None] = lambda _name: None
    started: Callable[[RunRecord], None] = lambda _record: None
    decisions: OnDecisions = lambda _batch: None


@dataclass
class _Counting:
    """A patcher that counts its evaluations, for the run's evidence."""

    patcher: ReferencePatcher
    evaluations: int = 0
    float64_evaluations: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def damages(
        self, receiver: Receiver, variants: np.ndarray, *, float64: bool = False
    ) -> list[float]:
        if float64:
            self.float64_evaluations += len(variants)
        else:
            self.evaluations += len(variants)
        return self.patcher.damages(receiver, variants, float64=float64)

    def commit(self, receiver: Receiver, kept: np.ndarray) -> None:
        self.patcher.commit(receiver, kept)


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
    engine: str = "reference",
    device: str = "cpu",
    threads: int | None = None,
    observer: Observer | None = None,
) -> RunRecord:
    """Search a circuit and store every decision; returns the finished run.

    `threads`: CPU threads to use; None uses one for a small model and torch's own number else.

    Raises:
        InputError: the spec, model or prompts are unusable; nothing is stored then.
        RunError: the run failed; it is stored as failed with its reason, and can be resumed.
        KeyboardInterrupt: passed on, after the run is stored as interrupted.
    """
    if engine not in ENGINES:
        raise SpecError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    observer = observer or Observer()
    observer.phase("loading the model")
    pinned, model, prompts = prepare(spec, device)
    # Built before the run is stored: a metric that the prompts cannot feed is the user's input.
    observer.phase("running clean and corrupted prompts")
    patcher = ReferencePatcher(model, prompts, spec.metric, spec.ablation)
    run_id = store.create_run(
        pinned,
        graph=model.graph,
        engine=engine,
        versions=versions(),
        prompts_jsonl=prompts.jsonl(),
    )
    with _threads(threads, model):
        return _search(store, run_id, patcher, pinned, [], observer)


def resume(
    ref: str,
    store: Store,
    *,
    device: str = "cpu",
    threads: int | None = None,
    observer: Observer | None = None,
) -> RunRecord:
    """Go on with a run that was killed, interrupted or failed; a finished one is returned as is.

    Raises:
        StoreError: there is no such run.
        MismatchError: the model or the prompts are no longer what the run was started with.
        RunError: the run failed again.
    """
    observer = observer or Observer()
    record = store.run(ref)
    if record.status == "done":
        return record
    observer.phase("loading the model")
    unpinned = dataclasses.replace(record.spec, weights_hash="", prompts_hash="")
    pinned, model, prompts = prepare(unpinned, device)
    _check_same(record, pinned)
    if model.graph != record.graph:
        raise MismatchError(f"the graph of {record.model} is no longer that of run {record.id}")
    observer.phase("running clean and corrupted prompts")
    patcher = ReferencePatcher(model, prompts, pinned.metric, pinned.ablation)
    decided = list(store.decisions(record.id))
    with _threads(threads, model):
        return _search(store, record.id, patcher, pinned, decided, observer)


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
    store: Store,
    run_id: str,
    patcher: ReferencePatcher,
    spec: RunSpec,
    decided: list[Decision],
    observer: Observer,
) -> RunRecord:
    """The search itself; whatever ends it, the run's status and costs are stored."""
    counting = _Counting(patcher)
    began = time.perf_counter()
    rows = list(decided)
    store.start(run_id)
    observer.started(store.run(run_id))
    costs = _Costs(store.run(run_id).evidence, counting)
    try:
        observer.phase("checking the model against its graph")
        costs.check = self_check(patcher.runner, spec.ablation).record()
        observer.phase("searching")
        with store.writer(run_id, observer.decisions) as writer:
            for decision in _timed(search(patcher.graph, counting, spec.tau, decided), costs):
                rows.append(decision)
                writer.add(decision)
        observer.phase("checking the circuit")
        circuit = circuit_of(patcher.graph, rows)
        summary = _summary(patcher, circuit, rows)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        reason = str(error) if isinstance(error, DiscoverError) else repr(error)
        store.finish(
            run_id,
            status,
            error=None if status == "interrupted" else reason,
            seconds=time.perf_counter() - began,
            evidence=costs.record(),
        )
        raise
    return store.finish(
        run_id,
        "done",
        seconds=time.perf_counter() - began,
        summary=summary,
        evidence=costs.record(),
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


@dataclass
class _Costs:
    """What a run cost, added up over its sessions."""

    earlier: dict[str, Any]
    counting: _Counting
    check: dict[str, float] | None = None
    search_seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        earlier = self.earlier
        return {
            "evaluations": earlier.get("evaluations", 0) + self.counting.evaluations,
            "float64_evaluations": earlier.get("float64_evaluations", 0)
            + self.counting.float64_evaluations,
            "search_seconds": earlier.get("search_seconds", 0.0) + self.search_seconds,
            "sessions": earlier.get("sessions", 0) + 1,
            "self_check": self.check or earlier.get("self_check"),
        }


def _timed(decisions: Iterator[Decision], costs: _Costs) -> Iterator[Decision]:
    began = time.perf_counter()
    try:
        yield from decisions
    finally:
        costs.search_seconds = time.perf_counter() - began

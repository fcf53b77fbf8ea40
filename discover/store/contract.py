"""What the rest of the program may rely on from a store, whatever database is behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self, get_args

from discover.acdc import Decision
from discover.evaluation.figures import Measurement
from discover.graph import ComputationalGraph
from discover.spec import RunSpec

RunStatus = Literal["running", "done", "failed", "interrupted"]

STATUSES: tuple[str, ...] = get_args(RunStatus)

SUMMARY = ("kept", "evaluated", "dead", "damage", "damage_all_ablated", "circuit_hash")
"""What `finish` takes as a run's summary, and what is None in a record before that."""

OnCommit = Callable[[list[Decision]], None]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One stored run, as it was when it was read.

    `status` is `running` from creation until `finish`; a killed run stays `running`, with
    `updated_at` at its last commit. Times are aware and in UTC. `task` is the task's name or the
    prompts file's path. `edges` counts the graph's edges, `decided` the decisions stored, of which
    the steps are 0 to `decided - 1`. `seconds` is wall time summed over all sessions. The fields
    from `kept` to `circuit_hash` are None until the run is done; damages are in the metric's unit.
    """

    id: str
    status: RunStatus
    spec: RunSpec
    spec_hash: str
    model: str
    task: str
    engine: str
    graph: ComputationalGraph
    edges: int
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    seconds: float
    versions: dict[str, str]
    error: str | None
    decided: int
    kept: int | None
    evaluated: int | None
    dead: int | None
    damage: float | None
    damage_all_ablated: float | None
    circuit_hash: str | None
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """One stored evaluation of a circuit.

    `run_id` is None for a circuit that is no run's, as from a file. `settings` is all that decides
    its figures besides circuit and prompts. `seconds` is wall time.
    """

    id: str
    run_id: str | None
    created_at: datetime
    circuit_hash: str
    settings: dict[str, Any]
    prompts_hash: str
    versions: dict[str, str]
    seconds: float


JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One submitted run, as it was when it was read; its `id` is the run's.

    `spec` is as it was asked for, not pinned. `options` are those of `How` that were asked for.
    `attempt` counts the claims; `worker` and `heartbeat_at` are None unless it is being worked on.
    `deaths` counts the workers in a row that died on it without storing a decision.
    """

    id: str
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    status: JobStatus
    cancelling: bool
    spec: RunSpec
    model: str
    task: str
    engine: str
    options: dict[str, Any]
    note: str
    attempt: int
    worker: str | None
    heartbeat_at: datetime | None
    deaths: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to write to one run, until someone else's attempt is a higher one."""

    run_id: str
    worker: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker has been given to do; `started` if the run has begun and is to be gone on with.

    Runs with one `batch_key` differ in tau alone.
    """

    lease: Lease
    spec: RunSpec
    engine: str
    options: dict[str, Any]
    batch_key: str
    started: bool


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat is answered: whether the run is still the worker's, and to be cancelled."""

    mine: bool
    cancelling: bool


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One worker; `run_id` is what it is at, if anything."""

    id: str
    host: str
    pid: int
    device: str
    started_at: datetime
    heartbeat_at: datetime
    run_id: str | None
    alive: bool


ListedStatus = Literal["queued", "running", "done", "failed", "interrupted", "cancelled"]


@dataclass(frozen=True, slots=True)
class ListedRun:
    """One run in a list, whether submitted, waiting, under way or ended.

    `kept` and `damage` (in the metric's unit) are those so far while it is under way; with
    `edges`, `graph` and `started_at` they are None before it has begun. `worker` is who is at it;
    `cancelling` if that one has been asked to stop.
    """

    id: str
    status: ListedStatus
    cancelling: bool
    model: str
    task: str
    metric: str
    ablation: str
    tau: float
    engine: str
    spec: dict[str, Any]
    note: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    seconds: float
    attempt: int
    worker: str | None
    error: str | None
    graph: dict[str, Any] | None
    edges: int | None
    decided: int
    kept: int | None
    damage: float | None
    circuit_hash: str | None


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """One sweep: its spec (of the smallest tau), and each tau's run, ascending."""

    id: str
    created_at: datetime
    spec: RunSpec
    note: str
    runs: tuple[tuple[float, str], ...]


class DecisionSink(Protocol):
    """Takes decisions one by one and stores them durably, in order, before it reports them."""

    def __enter__(self) -> Self:
        """Begin to write."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store what is left, also when an exception passes; never mask that exception."""
        ...

    def add(self, decision: Decision) -> None:
        """Hand over the next decision; it is stored within two seconds, called again or not."""
        ...


class RunStore(Protocol):
    """Runs, prompts, decisions, evaluations; see `Store` for what each method raises."""

    def create_run(
        self,
        spec: RunSpec,
        *,
        graph: ComputationalGraph,
        engine: str,
        versions: dict[str, str],
        prompts_jsonl: str,
        lease: Lease | None = None,
    ) -> str:
        """Store a new run and return its id, 16 hexadecimal characters."""
        ...

    def run(self, ref: str) -> RunRecord:
        """The run of that id, of that unambiguous beginning of an id, or the `latest`."""
        ...

    def runs(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        status: str | None = None,
        model: str | None = None,
        task: str | None = None,
        spec_hash: str | None = None,
    ) -> list[RunRecord]:
        """Runs, newest first."""
        ...

    def decisions(self, run_id: str) -> Iterator[Decision]:
        """A run's decisions in step order, streamed."""
        ...

    def decision_rows(self, run_id: str) -> Iterator[dict[str, Any]]:
        """A run's decisions in step order as plain values, streamed."""
        ...

    def count(self, run_id: str) -> int:
        """How many decisions of a run are stored."""
        ...

    def prompts_jsonl(self, run_id: str) -> str:
        """The prompts that a run used, one JSON object a line."""
        ...

    def start(self, run_id: str, lease: Lease | None = None) -> int:
        """Mark a run as running, and return the attempt that fences earlier ones out."""
        ...

    def finish(
        self,
        run_id: str,
        status: str,
        *,
        error: str | None = None,
        seconds: float = 0.0,
        summary: dict[str, Any] | None = None,
        evidence: dict[str, Any] | None = None,
        attempt: int | None = None,
    ) -> RunRecord:
        """Mark a run as done, failed or interrupted, and return its record."""
        ...

    def writer(
        self,
        run_id: str,
        on_commit: OnCommit | None = None,
        interval: float = 0.5,
        attempt: int | None = None,
    ) -> DecisionSink:
        """What stores the run's further decisions."""
        ...

    def delete(self, run_id: str) -> None:
        """Remove a run, its decisions and evaluations, and prompts that nothing else uses."""
        ...

    def add_evaluation(
        self,
        run_id: str | None,
        *,
        circuit_hash: str,
        settings: dict[str, Any],
        prompts_jsonl: str,
        versions: dict[str, str],
        seconds: float,
        measurements: Sequence[Measurement],
    ) -> EvaluationRecord:
        """Store a finished evaluation with all its figures, whole or not at all."""
        ...

    def add_measurements(self, evaluation_id: str, figures: Sequence[Measurement]) -> None:
        """Add further figures to a stored evaluation, behind those that it has."""
        ...

    def evaluations(self, run_id: str | None) -> list[EvaluationRecord]:
        """A run's evaluations, newest first; with None those of circuits that are no run's."""
        ...

    def evaluation(self, ref: str) -> EvaluationRecord:
        """The evaluation of that id, or of that unambiguous beginning of an id."""
        ...

    def measurements(self, evaluation_id: str) -> list[Measurement]:
        """An evaluation's figures, in the order in which they were given."""
        ...

    def evaluation_prompts(self, evaluation_id: str) -> str:
        """The prompts that an evaluation used, one JSON object a line."""
        ...

    def delete_evaluation(self, evaluation_id: str) -> None:
        """Remove an evaluation, its figures, and prompts that nothing else uses."""
        ...

"""The records that a store hands out, whatever database is behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from discover.acdc import Decision
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

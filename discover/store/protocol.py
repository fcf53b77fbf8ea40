"""What the rest of the program may rely on from a store, whatever database is behind it.

`Store` says what each method raises; the type check holds it to all of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from discover.acdc import Decision
from discover.evaluation.figures import Measurement
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store.contract import (
    Beat,
    Claim,
    EvaluationRecord,
    JobRecord,
    Lease,
    ListedRun,
    OnCommit,
    RunRecord,
    SweepRecord,
    WorkerRecord,
)


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
    """Runs, prompts, decisions and evaluations."""

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
        """Remove a run, its job, decisions and evaluations, and what nothing else uses then."""
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


class JobQueue(Protocol):
    """Runs that are asked for, and the workers that take them."""

    def submit(
        self,
        spec: RunSpec,
        *,
        taus: Sequence[float] | None = None,
        engine: str = ...,
        options: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> tuple[str | None, list[str]]:
        """Ask for a run, or with `taus` for a sweep; returns the sweep's id and the runs'."""
        ...

    def claim(
        self, worker: str, *, lease: float = ..., batch_key: str | None = None
    ) -> Claim | None:
        """Give the worker the next run to work on, or None: exactly one worker gets each."""
        ...

    def beat(self, worker: str, lease: Lease | None = None, *, seconds: float = ...) -> Beat:
        """Say that a worker lives; returns whether the run is its own, and to be cancelled."""
        ...

    def release(self, lease: Lease) -> None:
        """Give a claimed run back to the queue, or end it if it is being cancelled."""
        ...

    def fail(self, lease: Lease, error: str) -> None:
        """End a claimed run, that may not have begun yet, as failed with its reason."""
        ...

    def cancel(self, ref: str) -> JobRecord:
        """Take a run out of the queue, or ask its worker to stop."""
        ...

    def retry(self, ref: str) -> JobRecord:
        """Put a failed, cancelled or interrupted run back into the queue."""
        ...

    def job(self, ref: str) -> JobRecord:
        """The job of that id, or of that unambiguous beginning of an id."""
        ...

    def jobs(self, status: str | None = None, limit: int | None = None) -> list[JobRecord]:
        """Jobs in the order in which they were submitted."""
        ...

    def add_worker(
        self, worker: str, *, host: str, pid: int, device: str, lease: float = ...
    ) -> None:
        """Enter a worker, that will beat its heart from now on."""
        ...

    def remove_worker(self, worker: str) -> None:
        """Strike a worker off that has ended."""
        ...

    def workers(self) -> list[WorkerRecord]:
        """Every worker, alive those that have been heard of as they promised to be."""
        ...


class RunList(Protocol):
    """All runs, begun or only submitted, as one list, with their notes."""

    def listed(
        self,
        *,
        limit: int | None = None,
        offset: int = 0,
        sort: str = ...,
        descending: bool = True,
        **filters: Any,
    ) -> tuple[int, list[ListedRun]]:
        """How many runs there are, and one page of them."""
        ...

    def listed_run(self, ref: str) -> ListedRun:
        """One run as it stands in the list."""
        ...

    def check(self) -> None:
        """Raise StoreError unless the database answers."""
        ...

    def statuses(self) -> dict[str, int]:
        """How many runs there are of each status."""
        ...

    def set_note(self, ref: str, note: str) -> None:
        """Write what a person wants to remember of a run."""
        ...


class SweepStore(Protocol):
    """Sweeps, and files that runs are submitted with."""

    def add_sweep(self, spec: RunSpec, members: Sequence[tuple[float, str]], note: str = "") -> str:
        """Store a sweep whose runs, one a tau, are known already; returns its id."""
        ...

    def sweeps(self, limit: int | None = None, offset: int = 0) -> list[SweepRecord]:
        """Sweeps, newest first."""
        ...

    def sweep(self, ref: str) -> SweepRecord:
        """The sweep of that id, or of that unambiguous beginning of an id."""
        ...

    def sweeps_of(self, run_id: str) -> list[str]:
        """The ids of the sweeps that a run belongs to, newest first."""
        ...

    def delete_sweep(self, sweep_id: str) -> None:
        """Remove a sweep; its runs stay."""
        ...

    def add_file(self, name: str, text: str) -> str:
        """Store a file's text once; returns the name that a spec can call it by."""
        ...

    def file(self, name: str) -> str:
        """The text of a file that `add_file` stored."""
        ...


class CircuitStore(Protocol):
    """What a picture of a run is made from, without all of its decisions."""

    def decision_page(
        self, run_id: str, after: int = -1, limit: int = 1000, outcome: str | None = None
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Some decisions behind a step, and what `after` is for the next page, if there is one."""
        ...

    def kept_rows(self, run_id: str) -> Iterator[dict[str, Any]]:
        """A run's decisions to keep an edge as plain values, streamed."""
        ...

    def kept_decisions(self, run_id: str) -> Iterator[Decision]:
        """A run's decisions to keep an edge, streamed."""
        ...

    def outcomes(self, run_id: str) -> dict[str, int]:
        """How many decisions of each outcome a run has stored."""
        ...

    def curve(self, run_id: str, points: int = ...) -> list[tuple[int, float, int]]:
        """Steps, thinned, each with the damage after it and the edges kept until then."""
        ...


class WholeStore(RunStore, CircuitStore, JobQueue, RunList, SweepStore, Protocol):
    """All that a store can do."""

"""Rows of jobs and sweeps, made and read."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from discover.errors import SpecError, StateError, StoreError
from discover.spec import ENGINES, RunSpec
from discover.store.contract import JobRecord
from discover.store.records import storable
from discover.store.tables import ID_LENGTH, sweep_runs, sweeps

OPTIONS = ("block", "memory", "draft", "threads")
"""What a job may ask of its worker: `How`'s fields that are not the worker's own."""


def check_known(engine: str, options: Iterable[str]) -> None:
    """Refuse an engine that there is none of, and names of options that no run has.

    Raises:
        SpecError: one is unknown.
    """
    if engine not in ENGINES:
        raise SpecError(f"unknown engine {engine!r}; choose one of {', '.join(ENGINES)}")
    if unknown := sorted(set(options) - set(OPTIONS)):
        raise SpecError(f"a run has no option {unknown[0]!r}; it may have {', '.join(OPTIONS)}")


def insert_sweep(
    connection: sa.Connection,
    sweep_id: str,
    spec: RunSpec,
    members: Sequence[tuple[float, str]],
    note: str,
    now: datetime,
) -> None:
    """Store a sweep: its spec, and a run for each tau."""
    task = storable(spec.task or spec.prompts_file or "")
    head = {"id": sweep_id, "created_at": now, "spec": spec.to_json(), "note": storable(note)}
    connection.execute(sa.insert(sweeps).values(**head, model=storable(spec.model), task=task))
    rows = [{"sweep_id": sweep_id, "tau": tau, "run_id": run_id} for tau, run_id in members]
    connection.execute(sa.insert(sweep_runs), rows)


def batch_key(spec: RunSpec, engine: str) -> str:
    """What the specs of a sweep have in common: SHA-256 of all but tau, and the engine."""
    rest = {key: value for key, value in spec.to_json().items() if key != "tau"}
    text = json.dumps([engine, rest], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def kills(deaths: int, row: Mapping[Any, Any]) -> str:
    """Why a run that its workers do not survive is failed."""
    return (
        f"{deaths} workers in a row died on this run without storing one more decision, the last "
        f"of them {row['worker']}; look at its log (out of memory?), then `discover retry "
        f"{row['id'][:8]}`"
    )


def no_retry(run_id: str, status: str, *, mine: bool) -> StateError:
    """Why a run is not put back into the queue; with `mine` its status is that of its job."""
    # Nothing tells whether a process that a person started is still there.
    by_hand = f"; if the process that ran it is gone, `discover resume {run_id[:8]}` goes on"
    return StateError(
        f"run {run_id[:8]} is {status}; only one that failed, or was cancelled or interrupted, can "
        f"be retried{by_hand if status == 'running' and not mine else ''}"
    )


def new_job(
    spec: RunSpec, engine: str, options: dict[str, Any], note: str, now: datetime
) -> dict[str, Any]:
    """The row of a job that is submitted now."""
    return {
        "id": secrets.token_hex(ID_LENGTH // 2),
        "created_at": now,
        "updated_at": now,
        "finished_at": None,
        "status": "queued",
        "cancelling": False,
        "spec": spec.to_json(),
        "batch_key": batch_key(spec, engine),
        "model": storable(spec.model),
        "task": storable(spec.task or spec.prompts_file or ""),
        "metric": spec.metric,
        "ablation": spec.ablation,
        "tau": spec.tau,
        "engine": engine,
        "options": options,
        "note": note,
        "attempt": 0,
        "worker": None,
        "heartbeat_at": None,
        "expires_at": None,
        "deaths": 0,
        "decided": 0,
        "error": None,
    }


def job_record(row: Mapping[Any, Any]) -> JobRecord:
    """The record in a row of `jobs`.

    Raises:
        StoreError: its spec is none that this program knows.
    """
    values = {name: row[name] for name in JobRecord.__dataclass_fields__ if name != "spec"}
    return JobRecord(spec=spec_of(row, "run"), **values)


def spec_of(row: Mapping[Any, Any], what: str) -> RunSpec:
    """The spec in a row of `jobs` or `sweeps`.

    Raises:
        StoreError: it is none that this program knows.
    """
    try:
        return RunSpec.from_json(row["spec"])
    except (SpecError, TypeError) as error:
        raise StoreError(f"{what} {row['id']} cannot be read: {error}") from error

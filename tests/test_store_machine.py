"""Every sequence of what can happen to runs, held against a plain Python model of the queue."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from helpers_store import SPEC, Clocked, begin, contents, decide
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from discover.errors import FencedError, StoreError
from discover.store import Beat, Claim, Lease, queue

LEASE = 30.0
DEATHS = 2
WORKERS = st.sampled_from(["w1", "w2", "w3"])


@dataclass
class Job:
    """One run as it ought to be; `job` is None for one that was not submitted, `run` before it
    has begun."""

    id: str
    tau: float
    created: datetime
    job: str | None = "queued"
    run: str | None = None
    batch: str = ""
    cancelling: bool = False
    worker: str | None = None
    beat: datetime | None = None
    attempt: int = 0
    run_attempt: int = 0
    deaths: int = 0
    seen: int = 0
    decided: int = 0

    def listed(self) -> str:
        if self.job in ("queued", "running") or self.run is None:
            return str(self.job)
        return "cancelled" if (self.job, self.run) == ("cancelled", "interrupted") else self.run

    def holds(self, lease: Lease) -> bool:
        return (self.job, self.attempt, self.worker) == ("running", lease.attempt, lease.worker)

    def free(self, status: str) -> None:
        self.job, self.worker, self.beat, self.cancelling = status, None, None, False

    def end(self, status: str) -> None:
        self.free(status)
        self.attempt += 1
        if self.run is not None:
            self.run_attempt += 1
            self.run = "failed" if status == "failed" else "interrupted"

    def let_go(self) -> None:
        self.free("cancelled" if self.cancelling else "queued")


class Machine(RuleBasedStateMachine):
    url: str
    leases = Bundle("leases")
    hands = Bundle("hands")

    @initialize()
    def open(self) -> None:
        # Ids decide between what was submitted in one moment: the same play needs the same ids.
        self.made = 0
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(secrets, "token_hex", self.new_id)
        self.store = Clocked.open(self.url)
        self.jobs: dict[str, Job] = {}

    def new_id(self, n: int) -> str:
        """Ids in no order, as random ones are."""
        self.made += 1
        return hashlib.sha256(str(self.made).encode()).hexdigest()[: 2 * n]

    def teardown(self) -> None:
        """Whatever has happened: all can be deleted, and nothing is left of it."""
        if not hasattr(self, "store"):
            return
        self.patch.undo()
        self.store.wait(LEASE + 1)
        for each in self.jobs.values():
            if each.job == "running":
                self.store.cancel(each.id)
            self.store.delete(each.id)
        assert not any(contents(self.store).values())
        self.store.close()

    def some(self, at: int) -> Job | None:
        return list(self.jobs.values())[at % len(self.jobs)] if self.jobs else None

    def attempted(self, allowed: bool, error: type[StoreError] | type[FencedError], call: Any):
        if allowed:
            return call()
        with pytest.raises(error):
            call()
        return None

    @rule(seed=st.integers(0, 1), taus=st.none() | st.sets(st.sampled_from([0.1, 0.2, 0.3])))
    def submit(self, seed: int, taus: set[float] | None) -> None:
        if taus == set():
            return
        spec = dataclasses.replace(SPEC, seed=seed)
        _, ids = self.store.submit(spec, taus=taus)
        for tau, run_id in zip(sorted(taus or {SPEC.tau}), ids, strict=True):
            self.jobs[run_id] = Job(run_id, tau, self.store.clock, batch=str(seed))

    @rule(target=leases, worker=WORKERS, warm=st.none() | st.integers(0, 1))
    def claim(self, worker: str, warm: int | None) -> Any:
        spec = dataclasses.replace(SPEC, seed=warm or 0)
        key = None if warm is None else queue.new_job(spec, "exact", {}, "", self.store.clock)
        got = self.store.claim(worker, lease=LEASE, batch_key=key and key["batch_key"])
        expected = self._next(worker, warm)
        if expected is None:
            assert got is None
            return multiple()
        assert isinstance(got, Claim)
        assert got.lease == Lease(expected.id, worker, expected.attempt)
        assert got.started == (expected.run is not None)
        return got.lease

    def _next(self, worker: str, warm: int | None) -> Job | None:
        def open_(job: Job) -> bool:
            if job.job != "running":
                return job.job == "queued"
            silent = (self.store.clock - job.beat).total_seconds() > LEASE
            return silent or job.worker == worker

        def key(job: Job) -> tuple:
            return (warm is not None and job.batch != str(warm), job.created, -job.tau, job.id)

        for job in sorted(filter(open_, self.jobs.values()), key=key):
            died = job.job == "running" and job.worker != worker
            deaths = 0 if job.decided > job.seen else job.deaths + died
            if job.cancelling or deaths >= DEATHS:
                job.deaths = deaths
                job.end("cancelled" if job.cancelling else "failed")
            else:
                job.attempt = max(job.attempt, job.run_attempt) + 1
                if job.run is not None:
                    job.run_attempt = job.attempt
                job.job, job.worker, job.beat = "running", worker, self.store.clock
                job.deaths, job.seen = deaths, job.decided
                return job
        return None

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        self.store.wait(seconds)

    @rule(lease=leases)
    def beat(self, lease: Lease) -> None:
        job = self.jobs.get(lease.run_id)
        mine = job is not None and job.holds(lease)
        answer = self.store.beat(lease.worker, lease, seconds=LEASE)
        assert answer == Beat(mine, mine and job.cancelling)
        if mine:
            job.beat = self.store.clock

    @rule(lease=leases)
    def begin_or_go_on(self, lease: Lease) -> None:
        job = self.jobs.get(lease.run_id)
        mine = job is not None and job.holds(lease)
        if not mine or job.run is None:
            self.attempted(mine, FencedError, lambda: begin(self.store, lease))
        self.attempted(mine, FencedError, lambda: self.store.start(lease.run_id, lease))
        if mine:
            job.run, job.run_attempt = "running", lease.attempt

    @rule(lease=leases, n=st.integers(1, 3))
    def decide(self, lease: Lease, n: int) -> None:
        job = self.jobs.get(lease.run_id)
        if job is None or job.run is None:
            return
        allowed = job.run_attempt == lease.attempt
        self.attempted(allowed, FencedError, lambda: decide(self.store, job.id, n, lease.attempt))
        job.decided += n * allowed

    @rule(lease=leases, status=st.sampled_from(["done", "failed", "interrupted"]))
    def finish(self, lease: Lease, status: str) -> None:
        job = self.jobs.get(lease.run_id)
        if job is None or job.run != "running":
            return
        allowed = job.run_attempt == lease.attempt
        self.attempted(
            allowed,
            FencedError,
            lambda: self.store.finish(job.id, status, attempt=lease.attempt),
        )
        if allowed:
            job.run = status
            if status != "interrupted":
                job.free(status)
            elif job.job == "running":
                job.let_go()

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        self.store.release(lease)
        job = self.jobs.get(lease.run_id)
        if job is not None and job.holds(lease):
            job.let_go()
            if job.run == "running" and job.run_attempt == lease.attempt:
                job.run = "interrupted"

    @rule(lease=consumes(leases))
    def fail(self, lease: Lease) -> None:
        self.store.fail(lease, "no such model")
        job = self.jobs.get(lease.run_id)
        if job is not None and job.holds(lease):
            job.end("failed")

    @rule(at=st.integers(0, 9))
    def cancel(self, at: int) -> None:
        if (job := self.some(at)) is None:
            return
        active = job.job in ("queued", "running")
        self.attempted(active, StoreError, lambda: self.store.cancel(job.id))
        if (
            active
            and job.job == "running"
            and ((self.store.clock - job.beat).total_seconds() < LEASE)
        ):
            job.cancelling = True
        elif active:
            job.end("cancelled")

    @rule(at=st.integers(0, 9))
    def retry(self, at: int) -> None:
        if (job := self.some(at)) is None:
            return
        allowed = job.job not in ("queued", "running") and job.run not in ("done", "running")
        self.attempted(allowed, StoreError, lambda: self.store.retry(job.id))
        if allowed:
            if job.job is None:
                job.attempt = job.run_attempt
            job.free("queued")
            job.deaths = 0

    @rule(at=st.integers(0, 9))
    def delete(self, at: int) -> None:
        if (job := self.some(at)) is None:
            return
        self.attempted(job.job != "running", StoreError, lambda: self.store.delete(job.id))
        if job.job != "running":
            del self.jobs[job.id]

    @rule(target=hands)
    def begin_by_hand(self) -> tuple[str, int]:
        run_id = begin(self.store)
        made = self.store.run(run_id).created_at
        self.jobs[run_id] = Job(run_id, SPEC.tau, made, job=None, run="running", batch="0")
        return run_id, 0

    @rule(target=hands, at=st.integers(0, 9))
    def go_on_by_hand(self, at: int) -> Any:
        job = self.some(at)
        if job is None or job.run is None:
            return multiple()
        allowed = job.job not in ("queued", "running")
        attempt = self.attempted(allowed, StoreError, lambda: self.store.start(job.id))
        if not allowed:
            return multiple()
        job.run = "running"
        job.run_attempt += 1
        assert attempt == job.run_attempt
        return job.id, attempt

    @rule(hand=hands, status=st.sampled_from(["done", "failed", "interrupted"]))
    def finish_by_hand(self, hand: tuple[str, int], status: str) -> None:
        run_id, attempt = hand
        job = self.jobs.get(run_id)
        if job is None or job.run != "running":
            return
        allowed = job.run_attempt == attempt
        self.attempted(
            allowed, FencedError, lambda: self.store.finish(run_id, status, attempt=attempt)
        )
        if allowed:
            job.run = status
            if job.job is not None and status != "interrupted":
                job.free(status)

    @invariant()
    def all_say_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        expected = list(self.jobs.values())
        total, rows = self.store.listed()
        listed = {row.id: row for row in rows}
        assert total == len(expected)
        assert {row.id: row.status for row in rows} == {j.id: j.listed() for j in expected}
        counts = self.store.statuses()
        assert counts == {s: sum(j.listed() == s for j in expected) for s in counts}
        assert sum(counts.values()) == total
        jobs = {job.id: job for job in self.store.jobs()}
        assert set(jobs) == {j.id for j in expected if j.job is not None}
        runs = {run.id: run.status for run in self.store.runs()}
        assert runs == {j.id: j.run for j in expected if j.run is not None}
        for want in expected:
            row = listed[want.id]
            assert (row.decided, row.kept or 0) == (want.decided, want.decided)
            assert (row.worker, row.cancelling) == (want.worker, want.cancelling)
            if want.job is None:
                continue
            job = jobs[want.id]
            facts = (job.status, job.cancelling, job.worker, job.attempt, job.deaths)
            assert facts == (want.job, want.cancelling, want.worker, want.attempt, want.deaths)


def play(url: str, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        type("Machine", (Machine,), {"url": url}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_can_happen_to_runs(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_DEATHS", DEATHS)
    play(store_url, examples=8, steps=30)


@pytest.mark.slow
def test_all_that_can_happen_to_runs(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_DEATHS", DEATHS)
    play(store_url, examples=150, steps=50)

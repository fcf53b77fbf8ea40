"""Handing out runs: each to one worker, and none that was taken over is written to from before."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as time
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers_store import (
    SPEC,
    Clocked,
    at_once,
    begin,
    claimed,
    contents,
    decide,
    decision,
)

from discover.errors import FencedError, SpecError, StoreError, StoreUnavailableError
from discover.store import Claim, Lease, Store, queue
from discover.store.queue import LEASE, MAX_DEATHS
from discover.store.tables import jobs

ROOT = Path(queue.__file__).parents[2]


@pytest.fixture
def store(store_url: str) -> Iterator[Clocked]:
    with Clocked.open(store_url) as opened:
        yield opened


# Claims


def test_a_job_is_what_was_asked_for(store: Clocked) -> None:
    spec = dataclasses.replace(SPEC, prompts=5, task_options={"ü": [1]})
    sweep, ids = store.submit(spec, engine="reference", options={"block": 7}, note="N\0ote \udcff")
    assert sweep is None
    job = store.job(ids[0])
    assert (job.id, job.status, job.spec, job.engine) == (ids[0], "queued", spec, "reference")
    assert (job.options, job.note, job.created_at) == (
        {"block": 7},
        "N\\0ote \\udcff",
        store.clock,
    )
    claim = claimed(store, "w")
    assert claim == Claim(
        Lease(ids[0], "w", 1), spec, "reference", {"block": 7}, claim.batch_key, started=False
    )
    assert store.claim("other") is None
    begin(store, claim.lease, spec)
    assert store.run(ids[0]).id == ids[0]
    store.release(claim.lease)
    assert claimed(store, "w") == dataclasses.replace(
        claim, lease=Lease(ids[0], "w", 2), started=True
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"taus": []}, "at least one threshold"),
        ({"taus": [0.1, -1.0]}, "tau"),
        ({"engine": "warp"}, "unknown engine 'warp'; choose one of exact, reference"),
        ({"options": {"device": "cuda"}}, "a run has no option 'device'; it may have block"),
    ],
)
def test_what_cannot_be_asked_for(store: Clocked, options: dict, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        store.submit(SPEC, **options)
    assert store.jobs() == []


def test_many_threads_get_each_job_exactly_once(store: Clocked, store_url: str) -> None:
    wanted = {store.submit(SPEC)[1][0] for _ in range(30)}

    def work(name: str) -> list[str]:
        with Clocked.open(store_url) as mine:
            got = []
            while (claim := mine.claim(name)) is not None:
                got.append(claim.lease.run_id)
                mine.finish(begin(mine, claim.lease), "done", attempt=claim.lease.attempt)
            return got

    got = at_once([lambda n=n: work(f"w{n}") for n in range(4)])
    assert Counter(chain.from_iterable(got)) == Counter(wanted)
    assert store.statuses() == {"done": 30}


HAMMER = """
import sys
from discover.store import Store
with Store.open(sys.argv[1], create=False) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    while (claim := store.claim(sys.argv[2])) is not None:
        print(claim.lease.run_id, flush=True)
        store.fail(claim.lease, "enough")
"""


def test_many_processes_get_each_job_exactly_once(store: Clocked, store_url: str) -> None:
    wanted = {store.submit(SPEC)[1][0] for _ in range(40)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, store_url, f"w{n}"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **pipes,
        )
        for n in range(3)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    got = [child.communicate(timeout=60)[0].split() for child in children]
    assert Counter(chain.from_iterable(got)) == Counter(wanted)


def test_a_batch_goes_on_then_the_oldest_and_in_a_sweep_the_largest_tau(store: Clocked) -> None:
    other = dataclasses.replace(SPEC, seed=1)
    first = store.submit(other)[1]
    store.wait(1)
    sweep = store.submit(SPEC, taus=[0.1, 0.3, 0.2, 0.3])[1]
    store.wait(1)
    late = store.submit(dataclasses.replace(SPEC, tau=0.9))[1]
    assert [store.job(i).spec.tau for i in sweep] == [0.1, 0.2, 0.3]
    assert [job.id for job in store.jobs()] == [*first, *sweep[::-1], *late]
    assert [job.id for job in store.jobs(limit=2)] == [*first, sweep[-1]]

    warm = claimed(store, "a")
    assert warm.lease.run_id == first[0]
    cold = claimed(store, "b")
    assert cold.lease.run_id == sweep[2], "the sweep's largest tau"
    store.wait(1)
    again = store.submit(other)[1]
    order = [claimed(store, "b", batch_key=cold.batch_key).lease.run_id for _ in range(1)]
    assert order == [sweep[2]], "a worker that asks again gets back what it was at"
    leases = {}
    for name, expected in (("c", sweep[1]), ("d", sweep[0]), ("e", late[0]), ("f", again[0])):
        leases[expected] = claimed(store, name, batch_key=cold.batch_key).lease
        assert leases[expected].run_id == expected
    assert store.claim("g", batch_key=cold.batch_key) is None
    # ... and one that has another model at hand takes its own first, though it is the youngest.
    for run_id in (again[0], late[0]):
        store.release(leases[run_id])
    assert claimed(store, "h", batch_key=warm.batch_key).lease.run_id == again[0]


def test_specs_that_differ_in_more_than_tau_are_no_batch(store: Clocked) -> None:
    store.submit(SPEC, taus=[0.1, 0.2])
    store.submit(dataclasses.replace(SPEC, seed=1))
    store.submit(SPEC, engine="reference")
    keys = [claimed(store, f"w{n}").batch_key for n in range(4)]
    assert sorted(Counter(keys).values()) == [1, 1, 2]


# Leases


def test_a_worker_that_beats_keeps_its_run_and_one_that_is_silent_loses_it(store: Clocked) -> None:
    store.submit(SPEC)
    claim = claimed(store, "slow")
    for _ in range(3):
        store.wait(LEASE - 1)
        assert store.beat("slow", claim.lease).mine
        assert store.claim("other") is None
    store.wait(LEASE - 0.001)
    assert store.claim("other") is None
    store.wait(0.002)
    taken = claimed(store, "other")
    assert (taken.lease.run_id, taken.lease.attempt) == (claim.lease.run_id, 2)
    assert not store.beat("slow", claim.lease).mine
    store.wait(LEASE - 1)
    store.beat("slow", claim.lease)
    store.wait(2)
    assert claimed(store, "third").lease.attempt == 3, "a beat that is fenced keeps nothing alive"


def test_a_dead_workers_run_is_taken_over_by_exactly_one(store: Clocked, store_url: str) -> None:
    run_id = store.submit(SPEC)[1][0]
    claimed(store, "dead")
    others = [Clocked.open(store_url) for _ in range(4)]
    for round_ in range(5):
        store.wait(LEASE + 1)
        for other in others:
            other.clock = store.clock
        names = [f"w{round_}.{n}" for n in range(4)]
        got = at_once([lambda o=o, n=n: o.claim(n) for o, n in zip(others, names, strict=True)])
        winners = [claim for claim in got if claim is not None]
        assert [(w.lease.run_id, w.lease.attempt) for w in winners] == [(run_id, round_ + 2)]
        if round_ == 0:
            begin(store, winners[0].lease)
        decide(store, run_id, 1, winners[0].lease.attempt)
    for other in others:
        other.close()


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_machines_whose_clocks_differ_agree_on_who_is_dead(
    store_url: str, monkeypatch: pytest.MonkeyPatch, skew: int
) -> None:
    if not store_url.startswith("postgresql"):
        pytest.skip("the processes of one machine share its clock")

    class Skewed(time.datetime):
        @classmethod
        def now(cls, tz=None):
            return time.datetime.now(tz) + time.timedelta(seconds=skew)

    with Store.open(store_url) as store:
        first = store.submit(SPEC)[1][0]
        claim = claimed(store, "here")
        store.add_worker("here", host="h", pid=1, device="cpu")
        with monkeypatch.context() as there:
            there.setattr(queue, "datetime", Skewed)
            assert store.claim("there") is None, "not dead by a clock that is ahead"
            assert [w.alive for w in store.workers()] == [True]
            assert store.cancel(first).cancelling, "alive, so it is asked to stop"
            store.release(claim.lease)
            store.retry(first)
            later = store.submit(SPEC)[1][0]
            mine = claimed(store, "there")
            assert mine.lease.run_id == first, "oldest first whoever's clock wrote it"
        assert store.claim("here").lease.run_id == later
        assert store.claim("third") is None, "a beat by a clock that is behind is a beat"


def test_a_lease_is_as_long_as_its_holder_says_whatever_others_have(store: Clocked) -> None:
    store.submit(SPEC)
    store.add_worker("slow", host="h", pid=1, device="cpu", lease=600)
    slow = claimed(store, "slow", lease=600).lease
    store.wait(599)
    assert store.claim("quick", lease=1) is None
    assert [w.alive for w in store.workers()] == [True]
    assert store.beat("slow", slow, seconds=600).mine
    store.wait(599)
    assert store.claim("quick", lease=1) is None
    assert [w.alive for w in store.workers()] == [True]
    assert store.cancel(slow.run_id).cancelling, "alive, so it is asked to stop"
    store.release(slow)
    store.retry(slow.run_id)
    assert store.job(slow.run_id).heartbeat_at is None

    quick = claimed(store, "quick", lease=1).lease
    store.wait(1.5)
    assert claimed(store, "patient", lease=86_400).lease.attempt == quick.attempt + 1
    store.wait(3600)
    assert not store.beat("quick", quick).mine
    assert store.claim("quick") is None, "it promised a day"


def test_who_is_silent_for_longer_than_promised_is_not_asked_to_stop(store: Clocked) -> None:
    store.submit(SPEC)
    store.add_worker("w", host="h", pid=1, device="cpu", lease=2)
    lease = claimed(store, "w", lease=2).lease
    store.beat("w", lease, seconds=2)
    store.wait(3)
    assert [w.alive for w in store.workers()] == [False]
    job = store.cancel(lease.run_id)
    assert (job.status, job.cancelling) == ("cancelled", False)


@pytest.mark.parametrize("end", ["release", "interrupted"])
def test_a_run_cancelled_in_the_middle_of_being_given_back_is_cancelled(
    store: Clocked, store_url: str, end: str
) -> None:
    """Between any two statements of one transaction another one may be through."""
    run_id = store.submit(SPEC)[1][0]
    lease = claimed(store, "w").lease
    begin(store, lease)
    store.start(run_id, lease)
    with Clocked.open(store_url) as other:
        threads: list[threading.Thread] = []

        @sa.event.listens_for(store._database.engine, "after_cursor_execute")
        def _(conn, cursor, statement, parameters, context, executemany) -> None:  # type: ignore[no-untyped-def]
            if statement.startswith("UPDATE jobs") and not threads:
                threads.append(threading.Thread(target=lambda: other.cancel(run_id)))
                threads[0].start()
                # On SQLite, and where the row is held, it waits for the end of the transaction.
                threads[0].join(1)

        if end == "release":
            store.release(lease)
        else:
            store.finish(run_id, "interrupted", attempt=lease.attempt)
        threads[0].join(30)
    job = store.job(run_id)
    assert (job.status, job.cancelling, job.worker) == ("cancelled", False, None)


# Fencing


def taken_over(store: Clocked, begun: bool = True) -> tuple[Lease, Lease]:
    """A run that a slow worker held and another one has now."""
    store.submit(SPEC)
    old = claimed(store, "slow").lease
    if begun:
        begin(store, old)
        decide(store, old.run_id, 3, store.start(old.run_id, old))
    store.wait(LEASE + 1)
    new = claimed(store, "quick").lease
    return old, new


def by_writer(store: Store, lease: Lease) -> None:
    with store.writer(lease.run_id, attempt=lease.attempt) as writer:
        writer.add(decision(store.count(lease.run_id)))


WRITES: dict[str, Callable[[Store, Lease], object]] = {
    "create_run": begin,
    "start": lambda store, lease: store.start(lease.run_id, lease),
    "writer": by_writer,
    "done": lambda store, lease: store.finish(lease.run_id, "done", attempt=lease.attempt),
    "failed": lambda s, lease: s.finish(lease.run_id, "failed", error="x", attempt=lease.attempt),
    "interrupted": lambda s, lease: s.finish(lease.run_id, "interrupted", attempt=lease.attempt),
    "release": lambda store, lease: store.release(lease),
    "fail": lambda store, lease: store.fail(lease, "x"),
    "beat": lambda store, lease: store.beat("slow", lease),
}
SILENT = ("release", "fail", "beat")


@pytest.mark.parametrize("what", WRITES)
def test_a_slow_worker_writes_nothing_more(store: Clocked, what: str) -> None:
    old, new = taken_over(store, begun=what != "create_run")
    write = WRITES[what]
    before = contents(store)
    if what in SILENT:
        write(store, old)
    else:
        with pytest.raises(FencedError, match=f"run {old.run_id[:8]} has been taken over"):
            write(store, old)
    assert contents(store) == before
    # The same by the one whose run it is does something.
    store.wait(1)
    write(store, new)
    assert contents(store) != before


@pytest.mark.parametrize("what", WRITES)
def test_nothing_more_is_written_to_a_run_that_was_ended_over_its_worker(
    store: Clocked, what: str
) -> None:
    store.submit(SPEC)
    lease = claimed(store, "slow").lease
    if what != "create_run":
        begin(store, lease)
    store.wait(LEASE + 1)
    store.cancel(lease.run_id)
    before = contents(store)
    if what in SILENT:
        WRITES[what](store, lease)
    else:
        with pytest.raises(FencedError):
            WRITES[what](store, lease)
    assert contents(store) == before
    assert store.listed_run(lease.run_id).status == "cancelled"


def test_a_lease_is_the_workers_own_and_not_another_ones_of_that_number(store: Clocked) -> None:
    store.submit(SPEC)
    lease = claimed(store, "mine").lease
    forged = dataclasses.replace(lease, worker="yours")
    before = contents(store)
    with pytest.raises(FencedError):
        begin(store, forged)
    store.fail(forged, "x")
    assert not store.beat("yours", forged).mine
    assert contents(store) == before


@pytest.mark.parametrize("what", WRITES)
def test_a_workers_earlier_lease_on_its_own_run_is_worth_nothing(store: Clocked, what: str) -> None:
    store.submit(SPEC)
    old = claimed(store, "slow").lease
    if what != "create_run":
        begin(store, old)
    assert claimed(store, "slow").lease == dataclasses.replace(old, attempt=2)
    before = contents(store)
    if what in SILENT:
        WRITES[what](store, old)
    else:
        with pytest.raises(FencedError):
            WRITES[what](store, old)
    assert contents(store) == before


def test_a_worker_is_fenced_while_decisions_are_on_their_way(store: Clocked) -> None:
    store.submit(SPEC)
    old = claimed(store, "slow").lease
    begin(store, old)
    attempt = store.start(old.run_id, old)
    with (
        pytest.raises(FencedError),
        store.writer(old.run_id, interval=2.0, attempt=attempt) as writer,
    ):
        writer.add(decision(0))
        store.wait(LEASE + 1)
        new = claimed(store, "quick").lease
    assert store.count(old.run_id) == 0
    decide(store, new.run_id, 2, store.start(new.run_id, new))
    listed = store.listed_run(new.run_id)
    assert (listed.decided, listed.kept, listed.worker, listed.attempt) == (2, 2, "quick", 2)


def test_a_process_that_goes_on_by_hand_fences_the_one_before(store: Clocked) -> None:
    run_id = begin(store)
    first = store.start(run_id)
    second = store.start(run_id)
    assert (first, second) == (1, 2)
    with pytest.raises(FencedError):
        decide(store, run_id, 1, first)
    decide(store, run_id, 1, second)
    with pytest.raises(FencedError):
        store.finish(run_id, "interrupted", attempt=first)
    assert store.finish(run_id, "interrupted", attempt=second).status == "interrupted"
    store.retry(run_id)
    with pytest.raises(StoreError, match="waits for a worker; first `discover cancel"):
        store.start(run_id)
    lease = claimed(store, "w").lease
    assert lease.attempt == 3
    with pytest.raises(StoreError, match="is being worked on by a worker; first"):
        store.start(run_id)
    with pytest.raises(FencedError):
        decide(store, run_id, 1, second)


def test_rows_are_locked_in_one_order(store: Clocked) -> None:
    """Two transactions that lock jobs and runs in different orders end in a deadlock."""
    if store._database.path is not None:
        pytest.skip("SQLite has one lock")
    order = ("jobs", "runs", "workers")
    locked: list[str] = []
    pattern = re.compile(
        r"(?s)UPDATE (\w+) SET|DELETE FROM (\w+)|SELECT.*\sFROM (\w+)\s.*FOR (NO KEY )?UPDATE"
    )

    @sa.event.listens_for(store._database.engine, "before_cursor_execute")
    def _(conn, cursor, statement, parameters, context, executemany) -> None:  # type: ignore[no-untyped-def]
        if found := pattern.match(statement):
            table = found[1] or found[2] or found[3]
            if table in order and table not in locked:
                locked.append(table)

    def check(call: Callable[[], object], *expected: str) -> object:
        locked.clear()
        answer = call()
        assert locked == list(expected), call
        return answer

    store.add_worker("w", host="h", pid=1, device="cpu")
    run_id = store.submit(SPEC)[1][0]
    lease = check(lambda: claimed(store, "w"), *order).lease
    check(lambda: store.beat("w", lease), "jobs", "workers")
    check(lambda: begin(store, lease), "jobs")
    check(lambda: store.start(run_id, lease), "jobs", "runs")
    check(lambda: decide(store, run_id, 1, lease.attempt), "runs")
    check(lambda: store.set_note(run_id, "x"), "jobs", "runs")
    check(lambda: store.finish(run_id, "failed", attempt=lease.attempt), "jobs", "runs")
    check(lambda: store.retry(run_id), "jobs")
    check(lambda: store.release(claimed(store, "w").lease), *order)
    check(lambda: store.fail(claimed(store, "w").lease, "x"), *order)
    store.retry(run_id)
    check(lambda: store.cancel(run_id), "jobs", "runs")
    check(lambda: store.delete(run_id), "jobs", "runs")


@pytest.mark.parametrize("taken", [False, True])
def test_decisions_whose_commit_was_not_answered_are_stored_once(
    store: Clocked, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    run_id = store.submit(SPEC)[1][0]
    lease = claimed(store, "w").lease
    begin(store, lease)
    attempt = store.start(run_id, lease)
    database, lost = store._database, []
    write = database.write

    @contextlib.contextmanager
    def answers_too_late() -> Iterator[sa.Connection]:
        with write() as connection:
            yield connection
        if not lost:
            lost.append(True)
            if taken:
                store.wait(LEASE + 1)
                claimed(store, "quick")
            raise StoreUnavailableError("the connection broke")

    with store.writer(run_id, attempt=attempt, interval=0.01) as writer:
        monkeypatch.setattr(database, "write", answers_too_late)
        for step in range(3):
            writer.add(decision(step))
        writer._thread.join(10)
        assert lost and writer._buffer, (
            "the thread has given up, and holds what it knows nothing of"
        )
    monkeypatch.undo()
    assert [row["step"] for row in store.decision_rows(run_id)] == [0, 1, 2]
    listed = store.listed_run(run_id)
    assert (listed.decided, listed.kept) == (3, 3)


def test_rows_of_another_that_clash_are_never_taken_for_ones_own(
    store: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begin(store)
    write, first = store._database.write, []

    @contextlib.contextmanager
    def away_once() -> Iterator[sa.Connection]:
        if not first:
            first.append(True)
            raise StoreUnavailableError("not now")
        with write() as connection:
            yield connection

    with (
        pytest.raises(StoreError, match="clash with rows"),
        store.writer(run_id, interval=0.01) as writer,
    ):
        monkeypatch.setattr(store._database, "write", away_once)
        writer.add(decision(0, "removed"))
        writer._thread.join(10)
        decide(store, run_id, 1)
    monkeypatch.undo()
    assert [row["outcome"] for row in store.decision_rows(run_id)] == ["kept"]
    assert store.listed_run(run_id).kept == 1


# Transitions


def test_a_cancelled_job_is_never_claimed_and_can_be_retried(store: Clocked) -> None:
    run_id = store.submit(SPEC)[1][0]
    assert store.cancel(run_id).status == "cancelled"
    assert store.claim("w") is None
    with pytest.raises(StoreError, match="is cancelled already; nothing to cancel"):
        store.cancel(run_id)
    with pytest.raises(StoreError, match=r"is cancelled; it has nothing to show"):
        store.run(run_id)
    assert store.retry(run_id).status == "queued"
    assert claimed(store, "w").lease.run_id == run_id


@pytest.mark.parametrize("end", ["release", "interrupted", "death"])
def test_a_living_worker_is_asked_to_stop_and_the_run_ends_cancelled(
    store: Clocked, end: str
) -> None:
    store.submit(SPEC)
    lease = claimed(store, "w").lease
    begin(store, lease)
    attempt = store.start(lease.run_id, lease)
    assert not store.beat("w", lease).cancelling
    job = store.cancel(lease.run_id[:6])
    assert (job.status, job.cancelling) == ("running", True)
    assert store.beat("w", lease) == queue.Beat(mine=True, cancelling=True)
    assert store.listed_run(lease.run_id).cancelling
    decide(store, lease.run_id, 2, attempt)
    if end == "release":
        store.release(lease)
    elif end == "interrupted":
        store.finish(lease.run_id, "interrupted", attempt=attempt)
    else:
        store.wait(LEASE + 1)
        assert store.claim("other") is None
    listed = store.listed_run(lease.run_id)
    assert (listed.status, listed.cancelling, listed.worker) == ("cancelled", False, None)
    assert (listed.decided, store.run(lease.run_id).status) == (2, "interrupted")
    store.retry(lease.run_id)
    assert claimed(store, "w2").started


def test_workers_that_die_on_a_run_in_a_row_end_it(store: Clocked) -> None:
    run_id = store.submit(SPEC)[1][0]
    for n in range(MAX_DEATHS):
        lease = claimed(store, f"w{n}").lease
        if n == 0:
            begin(store, lease)
        store.wait(LEASE + 1)
    assert store.claim("last") is None
    job = store.job(run_id)
    assert (job.status, job.deaths, job.worker) == ("failed", MAX_DEATHS, None)
    assert job.error == store.run(run_id).error
    assert f"{MAX_DEATHS} workers in a row died on this run" in job.error
    assert f"the last of them w{MAX_DEATHS - 1}" in job.error
    with pytest.raises(FencedError):
        decide(store, run_id, 1, lease.attempt)
    assert store.retry(run_id).deaths == 0
    assert store.listed_run(run_id).error is None, "how it once ended is no news of a queued run"
    assert claimed(store, "w").lease.run_id == run_id


def test_a_run_that_gets_on_does_not_count_its_dead_workers(store: Clocked) -> None:
    run_id = store.submit(SPEC)[1][0]
    for n in range(2 * MAX_DEATHS):
        lease = claimed(store, f"w{n}").lease
        if n == 0:
            begin(store, lease)
        decide(store, run_id, 1, store.start(run_id, lease))
        store.wait(LEASE + 1)
    assert claimed(store, "w").lease.attempt == 2 * MAX_DEATHS + 1
    assert store.job(run_id).deaths == 0


def test_a_job_that_nobody_can_read_is_failed_and_stops_no_worker(store: Clocked) -> None:
    bad = store.submit(SPEC)[1][0]
    store.wait(1)
    good = store.submit(SPEC)[1][0]
    future = json.dumps({**SPEC.to_json(), "metric": "telepathy"})
    with store._database.write() as connection:
        change = sa.update(jobs).where(jobs.c.id == bad)
        connection.execute(change.values(spec=json.loads(future)))
    with pytest.raises(StoreError, match=f"run {bad} cannot be read: unknown metric 'telepathy'"):
        store.job(bad)
    assert claimed(store, "w").lease.run_id == good
    listed = store.listed_run(bad)
    assert (listed.status, listed.spec["metric"]) == ("failed", "telepathy")
    assert "cannot be read: unknown metric 'telepathy'" in listed.error


def test_a_run_whose_model_cannot_be_loaded_is_failed_with_its_reason(store: Clocked) -> None:
    run_id = store.submit(SPEC)[1][0]
    lease = claimed(store, "w").lease
    store.fail(lease, "there is no model 'toy\0'")
    listed = store.listed_run(run_id)
    assert (listed.status, listed.error) == ("failed", "there is no model 'toy\\0'")
    with pytest.raises(StoreError, match=r"is failed \(there is no model"):
        store.run(run_id)


def test_only_what_ended_can_be_retried(store: Clocked) -> None:
    run_id = store.submit(SPEC)[1][0]
    with pytest.raises(StoreError, match="is queued; only one that failed, or was cancelled"):
        store.retry(run_id)
    lease = claimed(store, "w").lease
    with pytest.raises(StoreError, match="is running; only .* can be retried$"):
        store.retry(run_id)
    begin(store, lease)
    store.finish(run_id, "done", attempt=store.start(run_id, lease))
    with pytest.raises(StoreError, match="is done; only"):
        store.retry(run_id)
    with pytest.raises(StoreError, match="is done already; nothing to cancel"):
        store.cancel(run_id)


def test_a_run_of_the_command_line_is_no_job_until_it_is_retried(store: Clocked) -> None:
    run_id = begin(store)
    for call in (store.job, store.cancel):
        with pytest.raises(StoreError, match="was not submitted but started from the command"):
            call(run_id)
    with pytest.raises(StoreError, match="is running; only .* is gone, `discover resume "):
        store.retry(run_id)
    store.finish(run_id, "failed", error="boom", attempt=store.start(run_id))
    store.set_note(run_id, "mine")
    answers = at_once([lambda: store.retry(run_id), lambda: store.retry(run_id)])
    assert [type(each).__name__ for each in answers].count("JobRecord") >= 1
    assert all("is queued; only" in str(a) for a in answers if isinstance(a, Exception))
    job = store.job(run_id)
    assert (job.status, job.note, job.created_at) == (
        "queued",
        "mine",
        store.run(run_id).created_at,
    )
    claim = claimed(store, "w")
    assert (claim.started, claim.lease.attempt) == (True, 2)


def test_a_job_gone_on_with_by_hand_is_listed_as_its_run_is(store: Clocked) -> None:
    store.submit(SPEC)
    lease = claimed(store, "w").lease
    begin(store, lease)
    run_id = lease.run_id
    store.fail(lease, "boom")
    attempt = store.start(run_id)
    assert (store.listed_run(run_id).status, store.listed_run(run_id).error) == ("running", None)
    with pytest.raises(StoreError, match="is running; only one that .* is gone, `discover resume"):
        store.retry(run_id)
    store.finish(run_id, "interrupted", attempt=attempt)
    assert store.listed_run(run_id).status == "interrupted"
    store.finish(run_id, "done", attempt=store.start(run_id))
    assert (store.listed_run(run_id).status, store.job(run_id).status) == ("done", "done")


def test_a_run_at_work_is_not_deleted(store: Clocked) -> None:
    run_id = store.submit(SPEC)[1][0]
    lease = claimed(store, "w").lease
    with pytest.raises(
        StoreError, match=f"is being worked on; first `discover cancel {run_id[:8]}"
    ):
        store.delete(run_id)
    store.release(lease)
    store.delete(run_id)
    assert store.claim("w") is None
    assert not any(contents(store).values())


def test_workers_come_and_go(store: Clocked) -> None:
    store.add_worker("w1", host="h\0", pid=1, device="cpu")
    store.submit(SPEC)
    lease = claimed(store, "w1").lease
    store.wait(10)
    store.add_worker("w2", host="h", pid=2, device="cuda")
    store.wait(LEASE - 5)
    assert [(w.id, w.run_id, w.alive) for w in store.workers()] == [
        ("w1", lease.run_id, False),
        ("w2", None, True),
    ]
    store.beat("w1", lease)
    assert [w.alive for w in store.workers()] == [True, True]
    store.wait(LEASE + 1)
    claimed(store, "w2")
    store.beat("w1", lease)
    assert [(w.id, w.run_id) for w in store.workers()] == [("w1", None), ("w2", lease.run_id)]
    store.remove_worker("w2")
    assert [w.id for w in store.workers()] == ["w1"]
    store.wait(2 * queue.FORGET.total_seconds())
    store.add_worker("w3", host="h", pid=3, device="cpu")
    assert [w.id for w in store.workers()] == ["w3"], "long dead workers are forgotten"

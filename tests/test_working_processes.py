"""Workers as processes: killed, stopped, overtaken; every run ends once and as in a calm run."""

from __future__ import annotations

import dataclasses
import signal
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from helpers_working import (
    POISON,
    SPEC,
    Warm,
    attempts,
    edges_of,
    forget_hearts,
    in_transaction,
    rows_of,
    until,
    warm_process,
)
from postgres import own_server
from sqlalchemy.exc import OperationalError

from discover.errors import DiscoverError
from discover.run import How, run
from discover.store import Store

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")

BLOCK = {"block": 4}
"""Small blocks: a search that takes no time cannot be killed in its middle."""


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with warm_process(tmp_path_factory.mktemp("workers")) as process:
        yield process


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of the run that nothing happens to."""
    with Store.open(str(tmp_path_factory.mktemp("calm") / "calm.db")) as store:
        record = run(SPEC, store, how=How(block=4))
        return list(store.decision_rows(record.id))


def submitted(url: str, number: int = 1) -> list[str]:
    with Store.open(url) as store:
        return [store.submit(SPEC, options=BLOCK)[1][0] for _ in range(number)]


def decided(url: str, run_id: str) -> int:
    with Store.open(url) as store:
        return store.listed_run(run_id).decided


def check_done(url: str, ids: list[str], calm: list[dict[str, Any]]) -> None:
    """Every run is done, with the rows of the calm run: none missing, none twice."""
    with Store.open(url) as store:
        for run_id in ids:
            assert store.job(run_id).status == "done"
            assert store.run(run_id).status == "done"
            assert rows_of(store, run_id) == calm
        assert not any(worker.run_id for worker in store.workers())


def test_several_workers_do_each_run_exactly_once(
    warm: Warm, calm: list[dict[str, Any]], database_url: str
) -> None:
    ids = submitted(database_url, 6)
    workers = [warm.worker(database_url) for _ in range(3)]
    assert [worker.end() for worker in workers] == [0] * 3
    check_done(database_url, ids, calm)
    assert attempts(database_url) == dict.fromkeys(ids, 1)
    said = "".join(worker.said() for worker in workers)
    assert all(said.count(f"run {run_id[:8]} is done") == 1 for run_id in ids)
    with Store.open(database_url) as store:
        assert store.workers() == []


def test_a_killed_workers_run_is_taken_over_by_exactly_one_other(
    warm: Warm, calm: list[dict[str, Any]], database_url: str
) -> None:
    (run_id,) = submitted(database_url)
    first = warm.worker(database_url, slow=0.05)
    until(lambda: decided(database_url, run_id) > 20, "decisions")
    first.send(signal.SIGKILL)
    assert first.end() == -signal.SIGKILL
    stored = decided(database_url, run_id)
    assert stored < len(calm)
    forget_hearts(database_url)
    others = [warm.worker(database_url) for _ in range(3)]
    assert [worker.end() for worker in others] == [0] * 3
    check_done(database_url, [run_id], calm)
    assert attempts(database_url) == {run_id: 2}
    assert sum("goes on with run" in worker.said() for worker in others) == 1


def forgotten(database_url: str) -> bool:
    """Make the workers' heartbeats old ones, unless one of them is in a transaction."""
    if not database_url.startswith("sqlite"):
        if in_transaction(database_url):
            return False
        forget_hearts(database_url)
        return True
    try:
        forget_hearts(database_url + "?timeout=0.1")
    except OperationalError:
        return False
    return True


def test_a_worker_that_was_overtaken_while_it_slept_writes_nothing_more(
    warm: Warm, calm: list[dict[str, Any]], database_url: str
) -> None:
    (run_id,) = submitted(database_url)
    slow = warm.worker(database_url, slow=0.05)
    until(lambda: decided(database_url, run_id) > 20, "decisions")
    slow.send(signal.SIGSTOP)
    time.sleep(0.1)
    # Stopped in a transaction it would hold its locks, on SQLite the only one: let it out of that.
    while not forgotten(database_url):
        slow.send(signal.SIGCONT)
        time.sleep(0.01)
        slow.send(signal.SIGSTOP)
        time.sleep(0.1)
    other = warm.worker(database_url)
    assert other.end() == 0
    check_done(database_url, [run_id], calm)
    with Store.open(database_url) as store:
        before = (store.run(run_id), store.job(run_id))
    slow.send(signal.SIGCONT)
    assert slow.end() == 0
    assert "taken over" in slow.said() or "not this worker's any more" in slow.said()
    assert "is done" not in slow.said()
    with Store.open(database_url) as store:
        assert (store.run(run_id), store.job(run_id)) == before
    check_done(database_url, [run_id], calm)
    assert attempts(database_url) == {run_id: 2}


def test_sigterm_at_any_moment_leaves_a_run_that_others_go_on_with(
    warm: Warm, calm: list[dict[str, Any]], database_url: str
) -> None:
    (run_id,) = submitted(database_url)
    draw, counts = Random(0), [0]
    for number in range(8):
        worker = warm.worker(database_url, slow=0.01)
        time.sleep(draw.uniform(0, 0.5))
        worker.send(signal.SIGTERM)
        if number % 3 == 2:
            worker.send(signal.SIGTERM)
        assert worker.end() == 0, worker.said()
        with Store.open(database_url) as store:
            assert store.workers() == []
            status = store.job(run_id).status
            rows = rows_of(store, run_id)
        assert rows == calm[: len(rows)]
        if status == "done":
            break
        assert status == "queued"
        counts.append(len(rows))
    assert sorted(counts) == counts, "what was stored stays stored"
    assert warm.worker(database_url).end() == 0
    check_done(database_url, [run_id], calm)


def test_sigterm_finishes_the_receiver_at_hand_and_a_second_one_only_the_decision(
    warm: Warm, calm: list[dict[str, Any]], tmp_path: Path
) -> None:
    for signals, whole in ((1, True), (2, False)):
        url = f"sqlite:///{tmp_path / f'{signals}.db'}"
        (run_id,) = submitted(url)
        # In the middle of the first receiver: the logits read every sender.
        worker = warm.worker(url, slow=0.3)
        until(lambda: decided(url, run_id), "the first decisions")  # noqa: B023
        for _ in range(signals):
            worker.send(signal.SIGTERM)
            time.sleep(0.02)
        assert worker.end() == 0
        with Store.open(url) as store:
            rows = rows_of(store, run_id)
            assert store.job(run_id).status == "queued"
        cut = rows[-1]["receiver"] == calm[len(rows)]["receiver"]
        assert cut is not whole


def test_a_worker_that_waits_or_loads_ends_at_once(warm: Warm, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    idle = warm.worker(url, drain=False, poll=3600)
    idle.waits_to_say("worker ")
    time.sleep(0.2)
    idle.send(signal.SIGINT)
    assert idle.end() == 0
    with Store.open(url) as store:
        assert store.workers() == []


def test_a_run_that_kills_its_workers_is_failed_in_the_end(warm: Warm, database_url: str) -> None:
    with Store.open(database_url) as store:
        ((poison,), (good,)) = (
            store.submit(dataclasses.replace(SPEC, model=model))[1]
            for model in (POISON, SPEC.model)
        )
    for death in range(5):
        worker = warm.worker(database_url)
        assert worker.end() == -signal.SIGKILL
        with Store.open(database_url) as store:
            assert (store.job(poison).status, store.job(poison).deaths) == ("running", death)
        forget_hearts(database_url)
    assert warm.worker(database_url).end() == 0
    with Store.open(database_url) as store:
        assert store.job(poison).status == "failed"
        assert "5 workers in a row died" in store.job(poison).error
        assert store.job(good).status == "done"


def test_a_sweep_is_worked_off_by_two_workers(
    warm: Warm, calm: list[dict[str, Any]], database_url: str
) -> None:
    taus = (0.001, 0.01, SPEC.tau, 0.05, 0.1, 0.5)
    with Store.open(database_url) as store:
        sweep_id, ids = store.submit(SPEC, taus=taus, options=BLOCK)
    workers = [warm.worker(database_url, slow=0.005) for _ in range(2)]
    assert [worker.end() for worker in workers] == [0, 0]
    assert all("is done" in worker.said() for worker in workers)
    with Store.open(database_url) as store:
        assert [store.run(i).spec.tau for i in ids] == list(taus)
        assert {store.job(i).status for i in ids} == {"done"}
        at = dict(store.sweep(sweep_id).runs)
        assert edges_of(rows_of(store, at[SPEC.tau])) == edges_of(calm)
    assert attempts(database_url) == dict.fromkeys(ids, 1)


def test_a_server_that_is_restarted_in_the_middle(warm: Warm, calm: list[dict[str, Any]]) -> None:
    with own_server() as server:
        ids = submitted(server.url, 2)
        workers = [warm.worker(server.url, slow=0.02) for _ in range(2)]
        until(lambda: min(decided(server.url, i) for i in ids) > 10, "decisions of both")
        server.stop()
        for worker in workers:
            worker.waits_to_say("waiting for it")
        server.start()
        assert [worker.end() for worker in workers] == [0, 0]
        check_done(server.url, ids, calm)
        # The same worker went on with its run: nobody had to take it over.
        assert attempts(server.url) == dict.fromkeys(ids, 1)
        assert all("is back" in worker.said() for worker in workers)


KILLS = 50


@pytest.mark.slow
def test_killed_fifty_times_every_run_ends_once_and_as_a_calm_one(
    warm: Warm, calm: list[dict[str, Any]], database_url: str
) -> None:
    draw, kills, landed, ids = Random(1), 0, set(), []
    last: dict[str, int] = {}
    in_vain: dict[str, int] = {}
    while kills < KILLS:
        number = draw.randint(2, 4)
        mine = submitted(database_url, number)
        ids += mine
        # A real lease, as short as a busy machine allows.
        crew = [warm.worker(database_url, slow=0.02, lease=2.0) for _ in range(number)]
        while kills < KILLS:
            time.sleep(draw.uniform(0.05, 0.6))
            with Store.open(database_url) as store:
                status = {store.job(i).status for i in mine}
                assert status <= {"queued", "running", "done"}
                if status == {"done"}:
                    break
                held = {job.worker: job.id for job in store.jobs("running")}
            at = draw.randrange(number)
            pid = f"-{crew[at].pid}-"
            run_id = next((r for worker, r in held.items() if pid in (worker or "")), None)
            count = decided(database_url, run_id) if run_id else 0
            # Between its first and its last stored decision.
            if not 0 < count < len(calm):
                continue
            # Five deaths in a row without a decision would rightly make it a poisonous one.
            in_vain[run_id] = in_vain.get(run_id, 0) + 1 if count == last.get(run_id) else 0
            if in_vain[run_id] > 3:
                continue
            last[run_id] = count
            crew[at].send(signal.SIGKILL)
            assert crew[at].end() == -signal.SIGKILL
            kills += 1
            landed.add(count)
            crew[at] = warm.worker(database_url, slow=0.02, lease=2.0)
        assert [worker.end() for worker in crew] == [0] * number
        check_done(database_url, mine, calm)
    assert len(landed) > KILLS / 3
    check_done(database_url, ids, calm)


def test_prompts_files_go_with_their_run(warm: Warm, database_url: str, tmp_path: Path) -> None:
    from discover.working.asking import with_stored_files

    with Store.open(str(tmp_path / "own.db")) as own:
        record = run(SPEC, own, how=How(block=4))
        file = tmp_path / "my prompts.jsonl"
        file.write_text(own.prompts_jsonl(record.id))
        wanted = edges_of(rows_of(own, record.id))
    spec = dataclasses.replace(SPEC, task=None, prompts_file=str(file), prompts=None)
    with Store.open(database_url) as store:
        kept = with_stored_files(store, spec)
        assert kept.prompts_file.startswith("sha256:")
        assert kept.prompts_file.endswith("/my_prompts.jsonl")
        ((run_id,), (lost,)) = (
            store.submit(s)[1]
            for s in (kept, dataclasses.replace(kept, prompts_file=f"sha256:{'0' * 64}/x.jsonl"))
        )
        file.unlink()
        assert warm.worker(database_url, cache=str(tmp_path / "elsewhere")).end() == 0
        assert edges_of(rows_of(store, run_id)) == wanted
        assert store.job(lost).status == "failed"
        assert "is not in" in store.job(lost).error
        with pytest.raises(DiscoverError, match="nothing to show"):
            store.run(lost)

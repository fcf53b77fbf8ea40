"""The worker's loop in this process: what it does with each run, and with a database in trouble."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from helpers_working import SPEC, edges_of, forget_hearts, rows_of, until

from discover import session as session_module
from discover.costs import Counting
from discover.errors import SpecError, StoreError
from discover.run import How, Observer, StoppedError, resume, run
from discover.store import Lease, Store, queue
from discover.store.contract import Beat
from discover.working import loop
from discover.working.heart import Heart
from discover.working.loop import Habits, Worker
from discover.working.stopping import Stopping

BLOCK = {"block": 4}
DRAIN = Habits(drain=True, poll=0.05, lease=0.6)


@pytest.fixture(scope="module")
def model() -> Any:
    return session_module.load_model(SPEC.model)


@pytest.fixture(autouse=True)
def loads(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that were loaded; the usual one is there at once."""
    load, names = session_module.load_model, []

    def loaded(name: str, *args: Any, **kwargs: Any) -> Any:
        names.append(name)
        return model if name == SPEC.model else load(name, *args, **kwargs)

    monkeypatch.setattr(session_module, "load_model", loaded)
    monkeypatch.setattr(loop, "BACK_OFF", (0.05, 0.2))
    return names


@pytest.fixture(scope="module")
def calm(model: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    with Store.open(str(tmp_path_factory.mktemp("calm") / "calm.db")) as store:
        return rows_of(store, run(SPEC, store, how=How(block=4)).id)


@pytest.fixture
def store(database_url: str) -> Any:
    with Store.open(database_url) as opened:
        yield opened


@pytest.fixture
def sqlite(tmp_path: Path) -> Any:
    path = tmp_path / "runs.db"
    with Store.open(str(path)) as opened:
        yield path, opened


class Crew:
    """One worker, what it said, and something to do at its n-th evaluation."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> None:
        self.said: list[str] = []
        self.worker = Worker(url, kwargs.pop("habits", DRAIN), say=self.said.append, **kwargs)
        self._count, self._at = 0, {}
        damages = Counting.damages

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._count += 1
            self._at.pop(self._count, lambda: None)()
            return damages(*args, **kwargs)

        monkeypatch.setattr(Counting, "damages", counted)

    def at(self, evaluation: int, do: Any) -> Crew:
        self._at[evaluation] = do
        return self

    def work(self) -> str:
        self.worker.work()
        assert not self._at, "the moment never came"
        return "\n".join(self.said)


def test_a_sweep_shares_one_session_and_drafts_from_its_neighbours(
    store: Store, database_url: str, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taus = (0.01, 0.02, 0.021, 0.3)
    _, ids = store.submit(SPEC, taus=taus, options=BLOCK)
    (other,) = store.submit(dataclasses.replace(SPEC, seed=1))[1]
    assert Crew(database_url, monkeypatch).worker.work() == 5
    assert loads == [SPEC.model] * 2
    alone = {tau: run(dataclasses.replace(SPEC, tau=tau), store) for tau in taus}
    for run_id, tau in zip(ids, taus, strict=True):
        record = store.run(run_id)
        assert (record.status, record.spec) == ("done", alone[tau].spec)
        assert record.circuit_hash == alone[tau].circuit_hash
    # From the largest down, each guessing what the one before it kept: so does the third to last.
    began = [store.run(i).started_at for i in ids]
    assert began == sorted(began, reverse=True)
    near, far = store.run(ids[1]), store.run(ids[3])
    assert store.run(ids[1]).circuit_hash == store.run(ids[2]).circuit_hash
    assert near.evidence["wasted"] == 0 < far.evidence["wasted"]
    assert store.job(other).status == "done"


def test_what_cannot_be_run_is_failed_with_its_reason_and_stops_nobody(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {
        "no-such-model": (dataclasses.replace(SPEC, model="no-such-model"), {}),
        "unknown task": (dataclasses.replace(SPEC, task="riddles"), {}),
        "not a size of memory": (SPEC, {"memory": "lots"}),
        "block must be a whole number from 1": (SPEC, {"block": "wide"}),
        "no run 'abcd'": (SPEC, {"draft": "abcd"}),
    }
    ids = {why: store.submit(s, options=o)[1][0] for why, (s, o) in bad.items()}
    (good,) = store.submit(SPEC)[1]
    said = Crew(database_url, monkeypatch).work()
    for why, run_id in ids.items():
        assert store.job(run_id).status == "failed"
        assert why in store.job(run_id).error
        assert why in said
    assert "Traceback" not in said
    assert store.job(good).status == "done"


def test_a_bug_fails_its_run_with_a_traceback_for_the_log(
    store: Store, database_url: str, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (second, first) = store.submit(SPEC, taus=(0.02, 0.03), options=BLOCK)

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    said = Crew(database_url, monkeypatch).at(5, fail).work()
    assert "Traceback" in said
    assert "a bug" in store.job(first).error
    assert store.run(first).status == store.job(first).status == "failed"
    assert store.job(second).status == "done"
    # What a bug may have left half done is not gone on with.
    assert len(loads) == 2


def test_how_a_run_is_computed_is_asked_by_it_and_overruled_by_the_machine(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(loop.Sessions, "of", lambda self, claim, _o: seen.append(self._how(claim)))
    wanted = {"block": 3, "memory": "1GiB", "threads": 2, "draft": "eap-ig"}
    own = Habits(threads=1, memory=5, once=True)
    for habits in (Habits(once=True), own):
        store.submit(SPEC, options=wanted)
        Crew(database_url, monkeypatch, habits=habits).worker.work()
    assert seen == [
        How(threads=2, block=3, memory=2**30, draft="eap-ig"),
        How(threads=1, block=3, memory=5, draft="eap-ig"),
    ]
    done = run(SPEC, store)
    store.submit(SPEC, options={"draft": done.id})
    Crew(database_url, monkeypatch, habits=Habits(once=True)).worker.work()
    assert seen[-1].draft == {d.edge for d in store.decisions(done.id) if not d.removed}
    with pytest.raises(SpecError, match="lease must be"):
        Habits(lease=float("nan"))
    with pytest.raises(SpecError, match="device"):
        Habits(device="abacus")


def test_once_takes_one_run_and_does_not_wait_for_any(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = Habits(once=True, poll=3600)
    assert Worker(database_url, once).work() == 0
    ids = [store.submit(SPEC)[1][0] for _ in range(2)]
    assert Worker(database_url, once).work() == 1
    assert [store.job(i).status for i in ids] == ["done", "queued"]


def _stopped_run(store: Store, decided: int) -> str:
    """A run from the command line that was stopped after so many decisions."""
    count = 0

    def stop() -> str | None:
        nonlocal count
        count += 1
        return "now" if count >= decided else None

    with pytest.raises(StoppedError):
        run(SPEC, store, how=How(block=4), observer=Observer(stop=stop))
    return store.runs()[0].id


def test_a_run_from_the_command_line_is_gone_on_with_after_retry(
    store: Store, database_url: str, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = _stopped_run(store, 33)
    store.retry(run_id)
    with pytest.raises(StoreError, match="waits for a worker"):
        resume(run_id, store)
    assert "goes on with run" in Crew(database_url, monkeypatch).work()
    assert edges_of(rows_of(store, run_id)) == edges_of(calm)


def test_a_run_is_not_gone_on_with_on_another_model_or_other_prompts(
    store: Store, database_url: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = _stopped_run(store, 33)
    rows = rows_of(store, run_id)
    store.retry(run_id)
    with monkeypatch.context() as patch:
        patch.setattr(model, "weights_hash", "f" * 64)
        Crew(database_url, patch).work()
    assert store.job(run_id).status == "failed"
    assert "the weights of tiny-ioi are not those" in store.job(run_id).error
    store.retry(run_id)
    with monkeypatch.context() as patch:
        prompts_of = session_module.prompts_of
        patch.setattr(
            session_module, "prompts_of",
            lambda s, m: prompts_of(dataclasses.replace(s, seed=9), m),
        )  # fmt: skip
        Crew(database_url, patch).work()
    assert "the prompts from ioi are not those" in store.job(run_id).error
    assert rows_of(store, run_id) == rows
    store.retry(run_id)
    Crew(database_url, monkeypatch).work()
    assert store.job(run_id).status == "done"


def test_a_run_that_is_taken_over_is_let_go(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    crew = Crew(database_url, monkeypatch, habits=Habits(once=True))
    rows: list[Any] = []

    def overtake() -> None:
        forget_hearts(database_url)
        claim = store.claim("another")
        assert claim is not None
        rows.extend(rows_of(store, run_id))

    said = crew.at(20, overtake).work()
    assert "taken over by another process" in said
    job = store.job(run_id)
    assert (job.status, job.worker, job.attempt) == ("running", "another", 2)
    assert rows_of(store, run_id) == rows
    assert store.run(run_id).status == "running"


def test_cancelled_while_it_runs_it_stops_at_the_next_decision_and_can_be_retried(
    store: Store, database_url: str, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    crew = Crew(database_url, monkeypatch)

    def cancel() -> None:
        assert store.cancel(run_id).cancelling
        until(lambda: crew.worker.heart.cancelling, "the heart to hear of it")

    assert "is cancelled" in crew.at(20, cancel).work()
    assert (store.job(run_id).status, store.job(run_id).cancelling) == ("cancelled", False)
    assert 0 < len(rows_of(store, run_id)) < len(calm) / 2
    with pytest.raises(StoreError, match="is cancelled already"):
        store.cancel(run_id)
    store.retry(run_id)
    Crew(database_url, monkeypatch).work()
    assert store.job(run_id).status == "done"
    assert edges_of(rows_of(store, run_id)) == edges_of(calm)


def test_cancelled_while_it_waits_it_is_never_begun(
    store: Store, database_url: str, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = store.submit(SPEC)[1]
    assert store.cancel(run_id).status == "cancelled"
    Crew(database_url, monkeypatch).work()
    assert loads == []
    assert not store.begun(run_id)


@pytest.mark.parametrize("how", ["cancel", "signal", "taken over"])
def test_a_load_is_broken_off(
    how: str, sqlite: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = sqlite
    (run_id,) = store.submit(SPEC)[1]
    stopping = Stopping()
    url = f"sqlite:///{path}"
    crew = Crew(url, monkeypatch, stopping=stopping, habits=Habits(once=True, lease=0.6))
    reached = []

    def load(*_args: Any, **_kwargs: Any) -> Any:
        if how == "cancel":
            store.cancel(run_id)
        elif how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            until(lambda: forget_hearts(url) or store.claim("another"), "another to claim it")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.01)
        reached.append(how)
        return model

    monkeypatch.setattr(session_module, "load_model", load)
    before = signal.getsignal(signal.SIGTERM)
    with stopping.installed():
        crew.work()
    assert signal.getsignal(signal.SIGTERM) is before
    assert reached == []
    assert not store.begun(run_id)
    status = {"cancel": "cancelled", "signal": "queued", "taken over": "running"}[how]
    assert store.job(run_id).status == status
    assert store.workers() == []


def test_signals_interrupt_only_where_they_may() -> None:
    stopping = Stopping()
    with stopping.installed():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stopping.asked == 1
        assert not stopping.pause(3600)
        with pytest.raises(KeyboardInterrupt):
            stopping.allow(True)  # the signal came before
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    with Stopping().installed() as _:
        stopping.nudge()  # It is another's signal now: nothing happens.


# A database in trouble. The worker is told to go on once it has said that it waits.


def mend_when_told(crew: Crew, mend: Any, word: str = "waiting for it") -> threading.Thread:
    def wait() -> None:
        until(lambda: any(word in line for line in crew.said), word)
        time.sleep(0.1)
        mend()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def went_on(store: Store, run_id: str, crew: Crew, calm: Any) -> None:
    """The same worker ended the run, in one attempt, and said what happened once."""
    assert store.job(run_id).status == "done"
    assert store.job(run_id).attempt == 1
    assert edges_of(rows_of(store, run_id)) == edges_of(calm)
    assert sum("waiting for it" in line for line in crew.said) == 1
    assert sum("goes on from its last stored decision" in line for line in crew.said) == 1


def test_a_file_that_is_moved_away_and_back(
    sqlite: Any, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = sqlite
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    store.close()
    crew, away = Crew(f"sqlite:///{path}", monkeypatch), path.parent / "away"
    away.mkdir()

    def move() -> None:
        for file in path.parent.glob("runs.db*"):
            shutil.move(file, away / file.name)
        threads.append(mend_when_told(crew, back))

    def back() -> None:
        assert not path.exists(), "an empty database was made in its place"
        for file in away.iterdir():
            shutil.move(file, path.parent / file.name)

    threads: list[threading.Thread] = []
    crew.at(20, move).work()
    threads[0].join()
    went_on(store, run_id, crew, calm)


def test_a_file_that_is_locked_for_long(
    sqlite: Any, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = sqlite
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    # A short patience, and a lease that is longer than all of this.
    habits = dataclasses.replace(DRAIN, lease=60)
    crew = Crew(f"sqlite:///{path}?timeout=0.1", monkeypatch, habits=habits)
    threads: list[threading.Thread] = []

    def lock() -> None:
        other = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        until(lambda: _locked(other), "the lock")
        threads.append(mend_when_told(crew, other.close))

    said = crew.at(20, lock).work()
    threads[0].join()
    assert "is locked" in said
    went_on(store, run_id, crew, calm)


def _locked(connection: sqlite3.Connection) -> bool:
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("BEGIN IMMEDIATE")
        return True
    return False


def test_a_disk_that_is_full_for_a_while(
    sqlite: Any, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = sqlite
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    pages = [2**30]

    def limit(connection: sa.Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

    crew = Crew(f"sqlite:///{path}", monkeypatch, habits=dataclasses.replace(DRAIN, lease=60))
    threads: list[threading.Thread] = []

    def fill() -> None:
        pages[0] = 1
        threads.append(mend_when_told(crew, lambda: pages.__setitem__(0, 2**30)))

    sa.event.listen(sa.Engine, "begin", limit)
    try:
        said = crew.at(20, fill).work()
    finally:
        sa.event.remove(sa.Engine, "begin", limit)
    threads[0].join()
    assert "no space left" in said
    went_on(store, run_id, crew, calm)


def test_a_worker_that_is_asked_to_end_does_not_wait_for_a_database(
    sqlite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = sqlite
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    store.close()
    stopping = Stopping()
    crew = Crew(f"sqlite:///{path}", monkeypatch, stopping=stopping)
    moved = path.with_name("moved")
    moved.mkdir()

    def move() -> None:
        for file in path.parent.glob("runs.db*"):
            file.rename(moved / file.name)
        threads.append(mend_when_told(crew, lambda: setattr(stopping, "asked", 1)))

    threads: list[threading.Thread] = []
    said = crew.at(20, move).work()
    threads[0].join()
    assert "could not strike itself off" in said
    for file in moved.iterdir():
        file.rename(path.parent / file.name)
    forget_hearts(f"sqlite:///{path}")
    Crew(f"sqlite:///{path}", monkeypatch).work()
    assert (store.job(run_id).status, store.job(run_id).attempt) == ("done", 2)


@pytest.mark.parametrize("lost", ["create_run", "finish", "claim"])
def test_an_answer_that_is_lost_after_the_work_was_done(
    lost: str, sqlite: Any, calm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from discover.errors import StoreUnavailableError

    path, store = sqlite
    (run_id,) = store.submit(SPEC, options=BLOCK)[1]
    original, calls = getattr(Store, lost), []

    def answers_too_late(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        calls.append(lost)
        if len(calls) == 1:
            raise StoreUnavailableError("the connection broke")
        return found

    monkeypatch.setattr(Store, lost, answers_too_late)
    Crew(f"sqlite:///{path}", monkeypatch).work()
    assert store.job(run_id).status == "done"
    assert store.run(run_id).status == "done"
    assert edges_of(rows_of(store, run_id)) == edges_of(calm)


def test_a_heart_goes_on_beating_when_nobody_can_be_told(database_url: str) -> None:
    """A worker's terminal may be closed, and what is said then raises."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise BrokenPipeError

    with Store.open(database_url) as store:
        store.submit(SPEC)
        store.add_worker("w", host="h", pid=1, device="cpu", lease=60)
        claim = store.claim("w", lease=60)
        assert claim is not None
        with Heart(database_url, "w", 0.15, say=say) as heart:
            heart.hold(claim.lease)
            assert heart._store is not None
            beat, heart._store.beat = heart._store.beat, None  # type: ignore[method-assign, assignment]
            until(lambda: said, "a beat that fails")
            heart._store.beat = beat  # type: ignore[method-assign]
            store.cancel(claim.lease.run_id)
            until(lambda: heart.cancelling, "a heart that beats again")
            expires = store.workers()[0]
    assert len(said) == 2 and expires.alive


def test_a_worker_long_silent_is_struck_off_the_list(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    store.add_worker("gone", host="h", pid=1, device="cpu")
    Worker(database_url, Habits(once=True)).work()
    assert [w.id for w in store.workers()] == ["gone"]
    monkeypatch.setattr(queue, "FORGET", timedelta(0))
    Worker(database_url, Habits(once=True)).work()
    assert store.workers() == []


def test_an_answer_that_comes_late_says_nothing_of_the_next_run() -> None:
    """Between a beat and its answer the worker may have gone on to another run."""
    first, second = Lease("a", "w", 1), Lease("b", "w", 1)
    heart = Heart("sqlite:///unused.db", "w", 30)

    class Late:
        def beat(self, *_: Any, **__: Any) -> Beat:
            if heart._held is first:
                heart.hold(second)
            return Beat(mine=False, cancelling=True)

    heart._store = Late()  # type: ignore[assignment]
    heart.hold(first)
    heart._beat()
    assert not heart.stop
    heart._beat()
    assert heart.stop, "it is the same lease from the question to the answer"

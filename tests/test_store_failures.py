"""What a store says, and does not lose, when the database cannot be used (SQLite, mostly)."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from discover.acdc import Decision
from discover.errors import StoreError
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store import Store, current, default_url, normalise_url
from discover.store.engine import Database, plain

GRAPH = ComputationalGraph(2, 2)


def new_run(store: Store) -> str:
    return store.create_run(
        RunSpec(model="toy", task="ioi"),
        graph=GRAPH,
        engine="reference",
        versions={},
        prompts_jsonl="{}\n",
    )


def decision(step: int) -> Decision:
    return Decision(step, GRAPH.edges[step % len(GRAPH)], 0.25, 0.5, "kept")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(str(path), busy_timeout=0.2) as opened:
        yield opened


def one_line(message: object) -> str:
    assert "\n" not in str(message)
    return str(message)


def test_the_default_is_a_file_here_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISCOVER_DB", raising=False)
    assert default_url() == "sqlite:///discover.db"
    monkeypatch.setenv("DISCOVER_DB", "sub/x.db")
    assert default_url() == "sqlite:///sub/x.db"
    monkeypatch.setenv("DISCOVER_DB", "other.db")
    Store.open().close()
    assert [p.name for p in tmp_path.iterdir()] == ["other.db"]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("runs.db", "sqlite:///runs.db"),
        ("/a/b c.db", "sqlite:////a/b c.db"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("postgres://u@h/n", "postgresql+psycopg://u@h/n"),
        ("postgresql://h/n?sslmode=require", "postgresql+psycopg://h/n?sslmode=require"),
        ("postgresql+psycopg2://h/n", "postgresql+psycopg2://h/n"),
    ],
)
def test_normalise_url(given: str, url: str) -> None:
    assert normalise_url(given) == url
    assert normalise_url(url) == url


@pytest.mark.parametrize("bad", ["", "  ", "sqlite:x.db", "postgresql:x", "a\0b"])
def test_what_is_no_url_and_no_path(bad: str) -> None:
    with pytest.raises(StoreError, match="is not a database; give a file like"):
        normalise_url(bad)


@pytest.mark.parametrize("name", ["we?ird#%20 a.db", "a:b@c.db", "ü.db"])
def test_odd_file_names_are_kept(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Store.open(name).close()
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_missing_file_is_an_error_and_stays_missing(tmp_path: Path, path: Path) -> None:
    for url in (str(path), f"sqlite:///{path}", f"sqlite:///file:{path}?uri=true"):
        with pytest.raises(StoreError) as caught:
            Store.open(url, create=False)
        assert one_line(caught.value) == (
            f"no database at {path}; start with `discover run` or `discover submit`, or pass --db"
        )
    with pytest.raises(StoreError, match="no database at"):
        current(str(path))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_gets_the_schema_only_if_asked(path: Path) -> None:
    path.touch()
    with pytest.raises(
        StoreError, match=r"is empty; start with `discover run` or `discover submit`, or pass --db"
    ):
        Store.open(str(path), create=False)
    assert path.stat().st_size == 0
    with Store.open(str(path)) as store:
        assert store.runs() == []


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda p: p.write_bytes(b"not a database at all, just text" * 99),
            "not a SQLite database",
        ),
        (lambda p: p.mkdir(), "is a directory, not a database"),
    ],
)
def test_what_is_not_a_database(path: Path, make: object, says: str) -> None:
    assert callable(make)
    make(path)
    for create in (True, False):
        with pytest.raises(StoreError, match=says) as caught:
            Store.open(str(path), create=create)
        assert str(path) in one_line(caught.value)


def test_a_damaged_database(path: Path) -> None:
    with Store.open(str(path)) as store:
        run_id = new_run(store)
        with store.writer(run_id) as writer:
            for step in range(2000):
                writer.add(decision(step))
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    with pytest.raises(StoreError) as caught, Store.open(str(path), create=False) as store:
        list(store.decision_rows(run_id))
    assert "damaged or unreadable" in one_line(caught.value)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    # Below a regular file: also root cannot write there.
    for place in (tmp_path / "file" / "runs.db", tmp_path / "missing" / "runs.db"):
        with pytest.raises(StoreError, match=r"cannot create database .*: there is no directory"):
            Store.open(str(place))
        with pytest.raises(StoreError, match="no database at"):
            Store.open(str(place), create=False)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_directory_without_rights(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    monkeypatch.setattr(sqlite3.dbapi2, "connect", refuse)
    with pytest.raises(StoreError, match=r"cannot open database .*; check that its directory can"):
        Store.open(str(path))


def test_a_read_only_database_can_be_read_and_says_so_when_written(path: Path) -> None:
    with Store.open(str(path)) as store:
        run_id = new_run(store)
    with Store.open(f"sqlite:///file:{path}?mode=ro&uri=true", create=False) as store:
        assert store.run("latest").id == run_id
        with pytest.raises(StoreError, match="is read-only; check its"):
            store.start(run_id)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_memory_is_no_place_for_results(url: str) -> None:
    with pytest.raises(StoreError, match="in memory is gone when the program ends"):
        Store.open(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("foo://host/x", "no kind of database called 'foo'; use sqlite or postgresql"),
        ("postgresql://user:secret@host:port/x", "the database URL cannot be read"),
        ("sqlite://host/x.db", "Invalid SQLite URL"),
        ("mssql+pymssql://u:secret@h/x", "needs the Python package pymssql"),
        ("postgresql+pg8000://u:secret@h/x", "needs the Python package pg8000"),
    ],
)
def test_bad_urls_and_missing_drivers(url: str, says: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert says in one_line(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unreachable_server_is_one_clear_line() -> None:
    with pytest.raises(StoreError) as caught:
        Store.open("postgresql://user:secret@127.0.0.1:1/x", busy_timeout=0.1)
    line = one_line(caught.value)
    assert "secret" not in line
    try:
        import psycopg  # noqa: F401
    except ImportError:
        assert "needs the Python package psycopg: pip install 'discover-circuits[postgres]'" in line
    else:
        assert "cannot reach database postgresql+psycopg://user:***@127.0.0.1:1/x" in line
        assert "refused" in line


def lock(path: Path) -> sqlite3.Connection:
    """Hold the exclusive lock that also keeps readers out."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.execute("UPDATE runs SET error = error")
    return other


def test_a_locked_database_is_a_clear_error_everywhere(path: Path) -> None:
    Store.open(str(path)).close()
    with closing(lock(path)):
        for create in (True, False):
            start = time.monotonic()
            with pytest.raises(StoreError) as caught:
                Store.open(str(path), create=create, busy_timeout=0.3)
            assert 0.25 < time.monotonic() - start < 3
            assert one_line(caught.value) == (
                f"database {path} is locked by another process (waited 0.3 s); "
                "try again when it is done"
            )


def hold_write_lock(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    return other


def test_a_write_lock_stops_writing_calls_only(store: Store, path: Path) -> None:
    run_id = new_run(store)
    with closing(hold_write_lock(path)):
        assert store.run("latest").id == run_id
        for call in (store.start, store.delete, lambda ref: store.finish(ref, "done")):
            with pytest.raises(StoreError, match="is locked by another process"):
                call(run_id)
        with pytest.raises(StoreError, match="is locked by another process"):
            new_run(store)


def test_a_lock_is_waited_for(path: Path) -> None:
    with Store.open(str(path), busy_timeout=5) as store:
        other = hold_write_lock(path)
        threading.Timer(0.3, other.close).start()
        assert store.run(new_run(store)).status == "running"


def test_a_lock_while_writing_is_raised_at_the_next_decision(store: Store, path: Path) -> None:
    run_id = new_run(store)
    reported: list[Decision] = []
    other = hold_write_lock(path)
    with (
        pytest.raises(StoreError, match="is locked by another process"),
        store.writer(run_id, reported.extend, interval=0.02) as writer,
    ):
        for step in range(500):
            writer.add(decision(step))
            time.sleep(0.01)
    assert store.count(run_id) == 0
    assert reported == []
    other.close()


def test_what_a_passing_lock_kept_out_is_stored_in_the_end(store: Store, path: Path) -> None:
    run_id = new_run(store)
    reported: list[Decision] = []
    with store.writer(run_id, reported.extend, interval=0.02) as writer:
        writer.add(decision(0))
        while not reported:
            time.sleep(0.01)
        other = hold_write_lock(path)
        writer.add(decision(1))
        time.sleep(0.6)  # longer than the busy timeout: the thread has given up by now
        other.close()
    assert store.count(run_id) == len(reported) == 2


def test_a_lock_never_masks_the_exception_that_passes(store: Store, path: Path) -> None:
    run_id = new_run(store)
    with (
        closing(hold_write_lock(path)),
        pytest.raises(KeyboardInterrupt) as caught,
        store.writer(run_id, interval=2.0) as writer,
    ):
        writer.add(decision(0))
        raise KeyboardInterrupt
    assert "is locked by another process" in caught.value.__notes__[0]
    with pytest.raises(StoreError, match="is locked"), store.writer(run_id) as writer:
        other = hold_write_lock(path)
        writer.add(decision(0))
    other.close()


def test_a_full_disk_keeps_what_is_stored(store: Store) -> None:
    run_id = new_run(store)

    @sa.event.listens_for(store._database.engine, "begin")
    def _(connection: sa.Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 40")

    with (
        pytest.raises(StoreError, match=r"no space left for database .*; free some and resume"),
        store.writer(run_id, interval=0.01) as writer,
    ):
        for step in range(100_000):
            writer.add(decision(step))
            time.sleep(0.0005)
    stored = store.count(run_id)
    assert stored > 0
    assert [row["step"] for row in store.decision_rows(run_id)] == list(range(stored))


def test_adding_waits_when_storing_is_slower(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discover.store.writer.MAX_BATCH", 10)
    run_id = new_run(store)
    sizes: list[int] = []

    def slow(batch: list[Decision]) -> None:
        sizes.append(len(batch))
        time.sleep(0.002)

    with store.writer(run_id, slow, interval=2.0) as writer:
        start = time.monotonic()
        for step in range(205):
            writer.add(decision(step))
        assert time.monotonic() - start < 2.0, "a full buffer is not held back"
    assert max(sizes) <= 10
    assert sum(sizes) == store.count(run_id) == 205


def test_a_run_that_this_program_cannot_read_is_named(store: Store, path: Path) -> None:
    run_id = new_run(store)
    with closing(sqlite3.connect(path)) as other:
        other.execute("""UPDATE runs SET spec = replace(spec, '"kl"', '"future"')""")
        other.commit()
    with pytest.raises(StoreError, match=f"run {run_id} cannot be read: unknown metric 'future'"):
        store.runs()


def test_sqlite_is_set_up_to_survive_a_kill_and_to_let_readers_in(path: Path) -> None:
    Store.open(str(path)).close()
    database = Database(str(path), busy_timeout=1.5)
    with database.read() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2, "FULL"
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == 1500
    database.close()


def test_the_number_of_decisions_is_read_from_the_key_alone(store: Store, path: Path) -> None:
    new_run(store)
    plans: list[str] = []

    @sa.event.listens_for(store._database.engine, "before_cursor_execute")
    def _(conn, cursor, statement, parameters, context, executemany) -> None:  # type: ignore[no-untyped-def]
        if statement.startswith("SELECT"):
            found = cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.extend(row[-1] for row in found)

    store.runs(limit=5)
    assert "SEARCH decisions USING PRIMARY KEY (run_id=?)" in plans
    assert any("USING INDEX ix_runs_created_at" in plan for plan in plans)
    with closing(sqlite3.connect(path)) as other:
        text = "SELECT coalesce(max(step) + 1, 0) FROM decisions WHERE run_id = 'x'"
        program = [row[1] for row in other.execute(f"EXPLAIN {text}")]
    assert "SeekLE" in program, "one seek to the last step, not a scan"


def test_plain() -> None:
    import numpy as np

    assert plain({1: (np.float32(0.5), np.int64(3), float("-inf"), np.float64(2.0), True)}) == {
        "1": [0.5, 3, "-inf", 2.0, True]
    }
    with pytest.raises(TypeError, match="set has no JSON form"):
        plain({"a": {1}})

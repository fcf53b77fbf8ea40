"""What every store must do, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import discover.store.runs
from discover.acdc import Decision
from discover.errors import StoreError
from discover.evaluation.figures import Measurement
from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store import RunRecord, Store
from discover.store.tables import UtcTime, metadata

GRAPH = ComputationalGraph(3, 4, n_kv_heads=2)
PROMPTS = '{"clean": "Zoë \\u0000 said", "ünï": "🐍"}\n{"clean": "b"}\n'
SPEC = RunSpec(model="toy", task="ioi", task_options={"a": [1, "ü"]}, tau=0.1 + 0.2, seed=2**40)


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


def new_run(store: Store, spec: RunSpec = SPEC, prompts: str = PROMPTS) -> str:
    return store.create_run(
        spec,
        graph=GRAPH,
        engine="reference",
        versions={"torch": "2.13"},
        prompts_jsonl=prompts,
    )


def decision(step: int, before: float = 0.25, after: float = 0.5) -> Decision:
    return Decision(step, GRAPH.edges[step % len(GRAPH)], before, after, "kept")


def fill(store: Store, run_id: str, n: int) -> list[Decision]:
    made = [decision(step, step / 7, step / 3) for step in range(n)]
    with store.writer(run_id) as writer:
        for each in made:
            writer.add(each)
    return made


def bits(x: float) -> bytes:
    return struct.pack(">d", x)


def wait_until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_a_new_run_is_returned_as_it_was_given(store: Store) -> None:
    before = datetime.now(UTC)
    run_id = new_run(store)
    after = datetime.now(UTC)
    record = store.run(run_id)
    assert len(run_id) == 16
    assert int(run_id, 16) >= 0
    assert record == RunRecord(
        id=run_id,
        status="running",
        spec=SPEC,
        spec_hash=SPEC.hash,
        model="toy",
        task="ioi",
        engine="reference",
        graph=GRAPH,
        edges=len(GRAPH),
        created_at=record.created_at,
        started_at=None,
        updated_at=record.created_at,
        finished_at=None,
        seconds=0.0,
        versions={"torch": "2.13"},
        error=None,
        decided=0,
        kept=None,
        evaluated=None,
        dead=None,
        damage=None,
        damage_all_ablated=None,
        circuit_hash=None,
        evidence={},
    )
    assert record.spec.hash == record.spec_hash
    assert bits(record.spec.tau) == bits(0.1 + 0.2)
    assert before <= record.created_at <= after
    assert record.created_at.utcoffset() == timedelta(0)
    assert store.prompts_jsonl(run_id) == PROMPTS


def test_readable_columns_agree_with_the_spec(store: Store, url: str) -> None:
    new_run(store)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        row = connection.execute(
            sa.text("SELECT model, task, metric, ablation, tau, prompts, seed, edges FROM runs")
        ).one()
    engine.dispose()
    assert tuple(row) == ("toy", "ioi", "kl", "resample", 0.1 + 0.2, 2, 2**40, len(GRAPH))


def test_task_of_a_prompts_file_is_its_path_even_an_odd_one(store: Store) -> None:
    odd = RunSpec(model="toy", prompts_file="a\udcff.jsonl")
    record = store.run(new_run(store, odd))
    assert record.task == "a\\udcff.jsonl"
    assert record.spec == odd
    assert [run.id for run in store.runs(task="a\udcff.jsonl")] == [record.id]


def test_runs_come_newest_first_filtered_and_in_pages(store: Store) -> None:
    other = RunSpec(model="big", prompts_file="p.jsonl")
    ids = [new_run(store, other if i % 2 else SPEC) for i in range(5)]
    store.finish(ids[0], "done")
    newest_first = ids[::-1]
    assert [run.id for run in store.runs()] == newest_first
    assert [run.id for run in store.runs(limit=2)] == newest_first[:2]
    assert [run.id for run in store.runs(limit=2, offset=3)] == newest_first[3:]
    assert [run.id for run in store.runs(offset=4)] == newest_first[4:]
    assert store.runs(limit=0) == []
    assert [run.id for run in store.runs(model="big")] == [ids[3], ids[1]]
    assert [run.id for run in store.runs(task="p.jsonl", limit=1)] == [ids[3]]
    assert [run.id for run in store.runs(status="done")] == [ids[0]]
    assert [run.id for run in store.runs(status="running", model="toy")] == [ids[4], ids[2]]
    with pytest.raises(StoreError, match="unknown status 'finished'; choose one of running, done"):
        store.runs(status="finished")
    with pytest.raises(StoreError, match="negative"):
        store.runs(limit=-1)


def test_latest_and_prefix(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"no runs in .* yet; start with `discover run`"):
        store.run("latest")
    with pytest.raises(StoreError, match=r"no run 'abc' in .*no runs yet"):
        store.run("abc")
    names = iter(["00aa" * 4, "00ab" * 4, "ff00" * 4])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(names))
    ids = [new_run(store) for _ in range(3)]
    assert store.run("latest").id == ids[2]
    assert store.run("00aa").id == ids[0]
    assert store.run("F").id == ids[2]
    assert store.run(ids[1]).id == ids[1]
    with pytest.raises(StoreError, match="several runs") as caught:
        store.run("00")
    assert ids[0] in str(caught.value)
    assert ids[1] in str(caught.value)
    assert ids[2] not in str(caught.value)
    for nothing in ("", "0_", "%", "00ac", ids[0] + "0", "0' OR 1"):
        with pytest.raises(StoreError, match="there is no run"):
            store.run(nothing)


@pytest.fixture
def many_ids(store: Store) -> list[str]:
    return [new_run(store) for _ in range(12)]


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_prefix_finds_its_run_or_is_ambiguous(
    store: Store, many_ids: list[str], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(many_ids))
    prefix = chosen[: data.draw(st.integers(1, 16))]
    matching = [run_id for run_id in many_ids if run_id.startswith(prefix)]
    if len(matching) == 1:
        assert store.run(prefix).id == chosen
    else:
        with pytest.raises(StoreError, match="several"):
            store.run(prefix)


NUMBERS = st.floats(allow_nan=False)


@given(
    numbers=st.lists(
        st.tuples(
            NUMBERS, NUMBERS, st.sampled_from(["kept", "removed", "dead"]), st.booleans()
        ).filter(lambda t: t[1] - t[0] == t[1] - t[0]),
        max_size=len(GRAPH),
    )
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_decisions_come_back_bit_for_bit(store: Store, numbers: list[tuple]) -> None:
    run_id = new_run(store)
    given_ = [
        Decision(step, GRAPH.edges[step], before, after, outcome, float64)
        for step, (before, after, outcome, float64) in enumerate(numbers)
    ]
    with store.writer(run_id, interval=0.001) as writer:
        for each in given_:
            writer.add(each)
    back = list(store.decisions(run_id))
    assert back == given_
    for old, new, row in zip(given_, back, store.decision_rows(run_id), strict=True):
        # The sign of zero is the one thing not kept; `+ 0.0` drops it.
        assert bits(new.before) == bits(old.before + 0.0) == bits(row["before"])
        assert bits(new.after) == bits(old.after + 0.0) == bits(row["after"])
        assert bits(row["score"]) == bits(old.score + 0.0)
        assert type(new.float64) is bool
    assert store.count(run_id) == store.run(run_id).decided == len(given_)
    store.delete(run_id)


def test_rows_are_plain_values_and_columns_readable_in_plain_sql(store: Store, url: str) -> None:
    run_id = new_run(store)
    edge = GRAPH.edge("a0.h3->a2.kv1.k")
    with store.writer(run_id) as writer:
        writer.add(Decision(0, edge, 0.5, float("inf"), "kept", True))
    expected = {
        "step": 0,
        "sender": "a0.h3",
        "receiver": "a2.kv1.k",
        "before": 0.5,
        "after": float("inf"),
        "score": float("inf"),
        "outcome": "kept",
        "float64": True,
    }
    assert list(store.decision_rows(run_id)) == [expected]
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT step, sender, receiver, before, after, score, outcome, float64 FROM decisions"
        ).one()
    engine.dispose()
    assert list(row) == list(expected.values())


def test_a_nan_is_refused_before_it_reaches_the_database(store: Store) -> None:
    run_id = new_run(store)
    infinite = float("inf")
    for before, after in ((0.0, float("nan")), (float("nan"), 0.0), (infinite, infinite)):
        with (
            store.writer(run_id) as writer,
            pytest.raises(StoreError, match=r"step 0 of run .* holds a NaN"),
        ):
            writer.add(decision(0, before, after))
    assert store.count(run_id) == 0


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 6, 7])
def test_reading_in_chunks_loses_nothing_at_their_borders(
    store: Store, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    monkeypatch.setattr(discover.store.runs, "CHUNK", 3)
    run_id = new_run(store)
    fill(store, new_run(store), 5)  # another run's rows must not mix in
    assert list(store.decisions(run_id)) == []
    assert list(store.decisions(run_id)) == []
    made = fill(store, run_id, n)
    assert list(store.decisions(run_id)) == made
    assert [row["step"] for row in store.decision_rows(run_id)] == list(range(n))


def test_reading_needs_no_more_memory_for_more_rows(store: Store) -> None:
    run_id = new_run(store)
    n = 30_000
    fill(store, run_id, n)
    tracemalloc.start()
    count = sum(1 for _ in store.decision_rows(run_id))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == n
    assert peak < 8e6, "all rows at once would take about 20 MB"


def test_missing_or_foreign_rows_are_an_error_not_a_shorter_run(store: Store, url: str) -> None:
    run_id = new_run(store)
    fill(store, run_id, 6)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE decisions SET sender = 'm2' WHERE step = 5")
        connection.exec_driver_sql("UPDATE decisions SET receiver = 'a0.h1.q' WHERE step = 5")
    with pytest.raises(StoreError, match=r"step 5 of run .* m2->a0\.h1\.q, which is no edge"):
        list(store.decisions(run_id))
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM decisions WHERE step = 3")
    engine.dispose()
    with pytest.raises(StoreError, match=r"step 3 of run .* is missing"):
        list(store.decision_rows(run_id))


def test_start_and_finish(store: Store) -> None:
    run_id = new_run(store)
    store.start(run_id)
    first = store.run(run_id)
    assert first.status == "running"
    assert first.started_at is not None
    assert first.started_at.utcoffset() == timedelta(0)

    failed = store.finish(run_id, "failed", error="boom\0 \udcff", seconds=1.5, evidence={"a": 1})
    assert (failed.status, failed.error, failed.seconds) == ("failed", "boom\\0 \\udcff", 1.5)
    assert failed.finished_at is not None
    assert failed.finished_at >= first.started_at

    store.start(run_id)
    again = store.run(run_id)
    assert again.started_at == first.started_at
    assert (again.status, again.error, again.finished_at) == ("running", None, None)
    assert again.evidence == {"a": 1}

    summary = {
        "kept": 5,
        "evaluated": 90,
        "dead": 10,
        "damage": 0.1,
        "damage_all_ablated": float("inf"),
        "circuit_hash": "ab" * 32,
    }
    evidence = {"check": {"worst": float("inf"), "rows": [1, None, float("nan")]}}
    done = store.finish(run_id, "done", seconds=0.25, summary=summary, evidence=evidence)
    assert done == store.run(run_id)
    assert {key: getattr(done, key) for key in summary} == summary
    assert (done.status, done.seconds) == ("done", 1.75)
    assert done.evidence == {"check": {"worst": "inf", "rows": [1, None, "nan"]}}

    store.start(run_id)
    assert store.run(run_id).circuit_hash is None, "a running run has no result"


def test_finish_refuses_what_it_does_not_know(store: Store) -> None:
    run_id = new_run(store)
    with pytest.raises(ValueError, match="cannot finish as 'running'"):
        store.finish(run_id, "running")
    with pytest.raises(ValueError, match="unknown summary keys: keptt"):
        store.finish(run_id, "done", summary={"keptt": 1})
    with pytest.raises(StoreError, match=r"damage of run .* is a NaN"):
        store.finish(run_id, "done", summary={"damage": float("nan")})
    assert store.run(run_id).status == "running"


def test_an_unknown_run_is_an_error_everywhere(store: Store) -> None:
    missing = "0" * 16
    for call in (
        store.run,
        store.count,
        store.prompts_jsonl,
        store.start,
        store.delete,
        store.writer,
        lambda ref: store.finish(ref, "done"),
        lambda ref: next(store.decisions(ref)),
        lambda ref: next(store.decision_rows(ref)),
    ):
        with pytest.raises(StoreError, match="there is no run '0000000000000000' in "):
            call(missing)


def test_equal_prompts_are_stored_once_and_deleted_with_their_last_run(
    store: Store, url: str
) -> None:
    first, second, third = new_run(store), new_run(store), new_run(store, prompts='{"x": 1}\n')
    fill(store, first, 3)
    fill(store, second, 4)
    engine = sa.create_engine(url)

    def stored(table: str) -> int:
        with engine.connect() as connection:
            return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()

    assert stored("prompts") == 2
    store.delete(first)
    assert [run.id for run in store.runs()] == [third, second]
    assert (stored("prompts"), stored("decisions")) == (2, 4)
    assert store.prompts_jsonl(second) == PROMPTS
    store.delete(second)
    assert (stored("prompts"), stored("decisions")) == (1, 0)
    with engine.connect() as connection:
        key = connection.exec_driver_sql("SELECT hash FROM prompts").scalar_one()
    assert key == hashlib.sha256(b'{"x": 1}\n').hexdigest()
    engine.dispose()


def test_prompts_of_many_sessions_at_once(url: str) -> None:
    errors: list[Exception] = []

    def session(store: Store) -> None:
        try:
            for _ in range(8):
                store.delete(new_run(store))
        except Exception as error:
            errors.append(error)

    stores = [Store.open(url) for _ in range(3)]
    threads = [threading.Thread(target=session, args=[store]) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stores[0].runs() == []
    for store in stores:
        store.close()


def test_a_decision_is_committed_while_the_next_is_long_in_coming(store: Store, url: str) -> None:
    run_id = new_run(store)
    with Store.open(url) as reader, store.writer(run_id) as writer:
        writer.add(decision(0))
        wait_until(lambda: reader.count(run_id) == 1, seconds=2.0)
        assert reader.run(run_id).updated_at > reader.run(run_id).created_at
        writer.add(decision(1))
        wait_until(lambda: reader.count(run_id) == 2, seconds=2.0)


def test_nothing_is_reported_before_another_connection_sees_it(store: Store, url: str) -> None:
    run_id = new_run(store)
    reported: list[Decision] = []
    seen: list[bool] = []
    with Store.open(url) as reader:

        def on_commit(batch: list[Decision]) -> None:
            reported.extend(batch)
            seen.append(reader.count(run_id) >= len(reported))

        with store.writer(run_id, on_commit, interval=0.02) as writer:
            for step in range(60):
                writer.add(decision(step))
                time.sleep(0.002)
        assert reported == list(reader.decisions(run_id))
    assert len(reported) == 60
    assert len(seen) > 1, "several batches"
    assert all(seen)


@pytest.mark.parametrize("passing", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_exception_passes_unmasked_and_the_rest_is_stored(
    store: Store, passing: type[BaseException]
) -> None:
    run_id = new_run(store)
    reported: list[Decision] = []
    with (
        pytest.raises(passing, match="mine"),
        store.writer(run_id, reported.extend, interval=2.0) as writer,
    ):
        for step in range(10):
            writer.add(decision(step))
        raise passing("mine")
    assert store.count(run_id) == len(reported) == 10


def test_an_exception_passes_unmasked_also_when_storing_fails(store: Store) -> None:
    run_id = new_run(store)
    with (
        pytest.raises(KeyboardInterrupt) as caught,
        store.writer(run_id, interval=2.0) as writer,
    ):
        writer.add(decision(0))
        store.delete(run_id)
        raise KeyboardInterrupt
    assert "was deleted while" in caught.value.__notes__[0]


def test_an_error_in_reporting_is_raised_and_costs_no_decision(store: Store) -> None:
    run_id = new_run(store)

    def report(batch: list[Decision]) -> None:
        raise BrokenPipeError("nobody reads")

    with (
        pytest.raises(BrokenPipeError, match="nobody reads"),
        store.writer(run_id, report, interval=0.01) as writer,
    ):
        for step in range(1000):
            writer.add(decision(step))
            time.sleep(0.005)
    stored = store.count(run_id)
    assert 0 < stored < 1000
    assert [row["step"] for row in store.decision_rows(run_id)] == list(range(stored))

    with pytest.raises(BrokenPipeError), store.writer(run_id, report, interval=2.0) as writer:
        writer.add(decision(stored))
    assert store.count(run_id) == stored + 1


def test_writing_goes_on_where_the_stored_decisions_end(store: Store) -> None:
    run_id = new_run(store)
    made = fill(store, run_id, 4)
    with store.writer(run_id) as writer:
        for wrong in (0, 3, 5):
            with pytest.raises(StoreError, match=f"is at step 4, but step {wrong} was"):
                writer.add(decision(wrong))
        writer.add(decision(4))
    assert list(store.decisions(run_id)) == [*made, decision(4)]


def test_two_writers_of_one_run_clash_and_lose_nothing_stored(store: Store, url: str) -> None:
    run_id = new_run(store)
    with Store.open(url) as other:
        with (
            pytest.raises(StoreError, match="another process is writing the same run"),
            store.writer(run_id, interval=0.01) as loser,
        ):
            fill(other, run_id, 3)
            for step in range(1000):
                loser.add(decision(step, 9.0, 9.5))
                time.sleep(0.005)
        assert list(store.decisions(run_id)) == [decision(i, i / 7, i / 3) for i in range(3)]
        # ... also when it shows only at the end
        with (
            pytest.raises(StoreError, match=r"steps 3 to 4 of run .* clash"),
            store.writer(run_id, interval=2.0) as loser,
        ):
            loser.add(decision(3))
            with other.writer(run_id) as winner:
                winner.add(decision(3, 1.0, 2.0))
            loser.add(decision(4))
        assert store.count(run_id) == 4


def test_a_writer_is_used_inside_its_block_and_once(store: Store) -> None:
    writer = store.writer(new_run(store))
    with pytest.raises(RuntimeError, match="only inside"):
        writer.add(decision(0))
    with writer:
        pass
    with pytest.raises(RuntimeError, match="only inside"):
        writer.add(decision(0))
    with pytest.raises(RuntimeError, match="once"):
        writer.__enter__()
    for interval in (0.0, 2.5):
        with pytest.raises(ValueError, match="interval"):
            store.writer(new_run(store), interval=interval)


def test_a_slow_reader_does_not_stop_the_writer(store: Store, url: str) -> None:
    run_id = new_run(store)
    fill(store, run_id, 5)
    engine = sa.create_engine(url)
    with engine.connect() as reading:
        cursor = reading.exec_driver_sql("SELECT step FROM decisions")
        assert cursor.fetchone() is not None
        with store.writer(run_id, interval=0.01) as writer:
            writer.add(decision(5))
        assert store.count(run_id) == 6
    engine.dispose()


WRITE_FOREVER = """
import sys
from discover.acdc import Decision
from discover.store import Store

store = Store.open(sys.argv[1])
run = store.run("latest")
edges = run.graph.edges
report = lambda batch: print(batch[-1].step, flush=True)
with store.writer(run.id, report, interval=0.003) as writer:
    step = run.decided
    while True:
        writer.add(Decision(step, edges[step % len(edges)], step / 7, step / 3, "kept"))
        step += 1
"""


def test_kill_9_leaves_a_consistent_prefix_with_all_that_was_reported(url: str) -> None:
    with Store.open(url) as store:
        run_id = new_run(store)
        stored = 0
        for _ in range(2):
            with subprocess.Popen(
                [sys.executable, "-c", WRITE_FOREVER, url],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(discover.store.__file__).parents[2])},
            ) as child:
                assert child.stdout is not None
                for _ in range(5):
                    assert child.stdout.readline()
                child.send_signal(signal.SIGKILL)
                reported = [line for line in child.stdout.read().splitlines() if line]
                assert child.wait() == -signal.SIGKILL
            rows = list(store.decision_rows(run_id))
            assert len(rows) > stored
            stored = len(rows)
            assert [row["step"] for row in rows] == list(range(stored))
            assert all(row["before"] == row["step"] / 7 for row in rows)
            assert all(int(step) < stored for step in reported)
            assert store.count(run_id) == stored
            assert store.run(run_id).status == "running"


DOCS = Path(discover.store.__file__).parents[2] / "docs" / "database.md"


@pytest.mark.skipif(not DOCS.is_file(), reason="not in a checkout")
def test_the_documented_columns_are_the_tables(store: Store) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, table in metadata.tables.items():
        section = text.partition(f"## `{name}`")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(table.columns.keys())


@pytest.mark.skipif(not DOCS.is_file(), reason="not in a checkout")
def test_the_documented_queries_work(store: Store, url: str) -> None:
    ids = [new_run(store, RunSpec(model="gpt2", task="ioi", seed=seed)) for seed in range(2)]
    for run_id in ids:
        fill(store, run_id, 3)
        store.finish(run_id, "done", summary={"kept": 3})
    faithful = Measurement("circuit", "faithfulness", 0.9, low=0.8, high=1.0)
    other = Measurement("circuit", "kl", 0.1, "nats")
    store.add_evaluation(
        ids[0],
        circuit_hash="",
        settings={},
        prompts_jsonl=PROMPTS,
        versions={},
        seconds=0,
        measurements=[other, faithful],
    )
    queries = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        last, best, sure, evaluated = (
            connection.execute(sa.text(query)).all() for query in queries
        )
    engine.dispose()
    assert [row.id for row in last] == ids[::-1]
    edges = [GRAPH.edges[step] for step in (2, 1, 0)]
    assert [(row.sender, row.receiver) for row in best] == [
        (edge.sender.name, edge.receiver.name) for edge in edges
    ]
    assert [(row.sender, row.runs_keeping_it) for row in sure] == [
        (edge.sender.name, 2) for edge in edges
    ]
    assert [tuple(row) for row in evaluated] == [(ids[0], 0.02, 3, 0.9, 0.8, 1.0)]


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be set here")
def test_times_are_utc_wherever_they_are_written_and_read(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = datetime.now(UTC)
    zones = ["America/St_Johns", "Asia/Kathmandu", "UTC"]
    try:
        ids = []
        for zone in zones:
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            ids.append(new_run(store))
            stored = [run.created_at for run in store.runs()]
            assert all(before <= at <= datetime.now(UTC) for at in stored)
            assert all(at.utcoffset() == timedelta(0) for at in stored)
        assert [run.id for run in store.runs()] == ids[::-1]
    finally:
        monkeypatch.undo()
        time.tzset()


@given(times=st.lists(st.datetimes(timezones=st.timezones()), max_size=5))
def test_times_as_text_sort_as_times(times: list[datetime]) -> None:
    dialect = sa.create_engine("sqlite://").dialect
    try:
        texts = {UtcTime().process_bind_param(at, dialect): at.astimezone(UTC) for at in times}
    except OverflowError:  # a year before 1 or after 9999 in UTC
        return
    assert [texts[text] for text in sorted(texts)] == sorted(texts.values())
    for text, at in texts.items():
        assert UtcTime().process_result_value(text, dialect) == at


def test_importing_the_store_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, json, discover.store as s\n"
        "store = s.Store.open(sys.argv[1], create=False)\n"
        "store.runs()\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    path = str(tmp_path / "runs.db")
    Store.open(path).close()
    out = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(discover.store.__file__).parents[2])},
    )
    loaded = set(json.loads(out.stdout))
    assert "sqlalchemy" in loaded
    assert not loaded & {"torch", "alembic", "transformer_lens", "transformers", "networkx"}

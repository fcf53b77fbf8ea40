"""A run watched as it happens: live, taken up again, ended, and left in the middle."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import aclosing

import anyio
import pytest
from helpers_service import GRAPH, begun_run, client_of, decisions, finish, finished_run, submit

from discover.errors import StoreUnavailableError
from discover.graph import ComputationalGraph
from discover.service import events
from discover.service.events import Watch
from discover.store import Store


@pytest.fixture
def store(database_url):
    with Store.open(database_url) as opened:
        yield opened


def parse(text):
    """Events as (name, id, data), as a browser reads them."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n") if line[:1] not in (":", ""))
        if "event" in lines:
            found.append((lines["event"], lines.get("id"), json.loads(lines["data"])))
    return found


def steps(found):
    return [row["step"] for name, _, data in found if name == "decisions" for row in data["items"]]


def test_an_ended_run_is_told_whole_and_the_stream_ends(store, monkeypatch):
    monkeypatch.setattr(events, "ROWS", 10)
    client, run_id = client_of(store), finished_run(store)
    answer = client.get(f"/api/runs/{run_id[:8]}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    found = parse(answer.text)
    assert steps(found) == list(range(len(GRAPH)))
    for name, number, data in found:
        if name == "decisions":
            assert number == str(data["items"][-1]["step"]) and len(data["items"]) <= 10
    run = client.get(f"/api/runs/{run_id}").json()
    assert [name for name, _, _ in found][-2:] == ["run", "end"]
    assert found[-1][2] == {key: run[key] for key in found[-1][2]}


def test_a_lost_stream_goes_on_behind_the_last_event(store):
    client, run_id = client_of(store), finished_run(store)
    path = f"/api/runs/{run_id}/events"
    assert steps(parse(client.get(path, headers={"Last-Event-ID": "20"}).text))[0] == 21
    assert steps(parse(client.get(path, params={"after": 30}).text))[0] == 31
    both = client.get(path, params={"after": 3}, headers={"Last-Event-ID": "40"})
    assert steps(parse(both.text))[0] == 41
    last = {"Last-Event-ID": str(len(GRAPH) - 1)}
    assert [name for name, *_ in parse(client.get(path, headers=last).text)] == ["run", "end"]
    quiet = parse(client.get(path, params={"decisions": "false"}).text)
    assert [name for name, *_ in quiet] == ["run", "end"]
    for bad in ("x", "-2", "1.5", "9" * 30):
        assert client.get(path, headers={"Last-Event-ID": bad}).status_code == 422


def test_a_run_is_watched_from_the_queue_to_its_end(store):
    """Submitted, begun, decided, finished: each is told, and every decision once, in order."""
    run_id = submit(client_of(store)).json()["id"]
    lease = store.claim("w").lease
    spec = store.job(run_id).spec
    done = []

    async def work(watch):
        await anyio.sleep(0.1)
        store.create_run(
            spec, graph=GRAPH, engine="exact", versions={}, prompts_jsonl="{}\n", lease=lease
        )
        store.start(run_id, lease)
        with store.writer(run_id, interval=0.01, attempt=lease.attempt) as writer:
            for decision in decisions():
                writer.add(decision)
                if decision.step % 15 == 0:
                    await anyio.sleep(0.05)
        await anyio.sleep(0.1)
        finish(store, run_id)
        done.append(True)

    async def watching():
        watch = Watch(store, poll=0.02)
        texts = ["", ""]

        async def follow(number):
            async for event in watch.stream(run_id, -1, True):
                texts[number] += event.decode()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(follow, 0)
                group.start_soon(follow, 1)
                group.start_soon(work, watch)
        assert watch.streams == 0
        return texts

    for text in anyio.run(watching):
        found = parse(text)
        assert steps(found) == list(range(len(GRAPH)))
        told = [data["status"] for name, _, data in found if name == "run"]
        assert told[0] == "running" and told[-1] == "done"
        assert sum(name == "decisions" for name, *_ in found) > 1
        assert found[-1][0] == "end" and found[-1][2]["status"] == "done"
    assert done


def test_a_browser_that_goes_away_leaves_nothing_behind(store):
    run_id = begun_run(store, 10)

    async def leaving():
        watch = Watch(store, poll=0.02)
        for _ in range(3):
            async with aclosing(watch.stream(run_id, -1, True)) as stream:
                async for event in stream:
                    if b"event: run" in event:
                        break
        assert watch.streams == 0
        with anyio.move_on_after(0.2) as scope:
            async for _ in watch.stream(run_id, -1, True):
                pass
        assert scope.cancelled_caught and watch.streams == 0

    anyio.run(leaving)
    assert store.count(run_id) == 10


def test_nothing_is_kept_of_runs_that_nobody_watches_any_more(store):
    """A page that is always open keeps its own run alone, whatever others have looked at."""
    kept, *others = (begun_run(store, 10) for _ in range(4))

    async def watching():
        watch = Watch(store, poll=0.02)
        async with aclosing(watch.stream(kept, -1, False)) as always:
            while b"event: run" not in await anext(always):
                pass
            for run_id in others:
                async with aclosing(watch.stream(run_id, -1, False)) as stream:
                    while b"event: run" not in await anext(stream):
                        pass
            assert watch.streams == 1
            assert set(watch._seen) == set(watch._looking) == {kept}
        assert watch.streams == 0 and not watch._seen and not watch._looking

    anyio.run(watching)


def test_more_streams_than_a_server_can_hold_are_refused(store, monkeypatch):
    client, run_id = client_of(store), finished_run(store)
    watch = client.app.state.watch
    monkeypatch.setattr(events, "MOST_STREAMS", 2)
    watch._of["elsewhere"] = 1
    assert client.get(f"/api/runs/{run_id}/events").status_code == 200
    watch._of["elsewhere"] = 2
    answer = client.get(f"/api/runs/{run_id}/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["kind"] == "TooManyStreamsError"


def test_a_disconnect_ends_the_stream_in_the_application(store):
    """As uvicorn says it: the client's end comes as a message."""
    client, run_id = client_of(store), begun_run(store, 10)
    scope = {
        "type": "http", "method": "GET", "path": f"/api/runs/{run_id}/events", "query_string": b"",
        "headers": [(b"host", b"localhost")], "root_path": "", "asgi": {"spec_version": "2.3"},
    }  # fmt: skip

    async def talk():
        told = anyio.Event()

        async def receive():
            await told.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if b"event: run" in message.get("body", b""):
                told.set()

        with anyio.fail_after(10):
            await client.app(scope, receive, send)

    anyio.run(talk)
    assert client.app.state.watch.streams == 0


def test_a_deleted_run_ends_its_streams_and_is_gone(store):
    run_id = begun_run(store, 10)

    async def watching():
        watch = Watch(store, poll=0.02)
        with anyio.fail_after(10):
            async for event in watch.stream(run_id, -1, True):
                if b"event: run" in event:
                    store.delete(run_id)

    anyio.run(watching)
    assert client_of(store).get(f"/api/runs/{run_id}/events").status_code == 404


def test_a_stream_outlives_a_database_that_is_away(store, monkeypatch):
    run_id = finished_run(store)
    look, failures = store.listed_run, []

    def sometimes(ref):
        if len(failures) < 3:
            failures.append(1)
            raise StoreUnavailableError("away")
        return look(ref)

    monkeypatch.setattr(store, "listed_run", sometimes)

    async def watching():
        with anyio.fail_after(20):
            return [event async for event in Watch(store, 0.02).stream(run_id, -1, True)]

    assert b"event: end" in anyio.run(watching)[-1]
    assert len(failures) == 3


def test_an_idle_stream_says_that_it_is_there_and_ends_with_the_server(store, monkeypatch):
    monkeypatch.setattr(events, "SILENCE", 0.05)
    run_id = submit(client_of(store)).json()["id"]

    async def watching():
        watch, found = Watch(store, 0.02), []
        with anyio.fail_after(10):
            async for event in watch.stream(run_id, -1, True):
                found.append(event)
                if event.startswith(b":"):
                    watch.closing = True
        return found

    assert anyio.run(watching)[-1] == b": still here\n\n"


def test_many_streams_of_a_run_look_at_it_once_and_hold_no_threads(store, monkeypatch):
    run_id = begun_run(store, 10)
    looked = []
    look = store.listed_run
    monkeypatch.setattr(store, "listed_run", lambda ref: looked.append(1) or look(ref))

    async def watching():
        watch, rounds, streams = Watch(store, 0.2), 5, 200
        seen = []

        async def follow():
            async for event in watch.stream(run_id, -1, False):
                seen.append(event)

        with anyio.move_on_after(0.2 * rounds):
            async with anyio.create_task_group() as group:
                for _ in range(streams):
                    group.start_soon(follow)
        assert sum(b"event: run" in event for event in seen) == streams
        # Far more streams than threads, and far fewer looks than streams.
        assert streams > anyio.to_thread.current_default_thread_limiter().total_tokens
        assert len(looked) <= 4 * rounds

    anyio.run(watching)


def test_memory_stays_flat_while_a_long_run_is_streamed(tmp_path, monkeypatch):
    """A stream of 6,000 decisions takes what one of the last 1,000 takes."""
    monkeypatch.setattr(events, "ROWS", 500)
    graph = ComputationalGraph(8, 8)
    assert len(graph) > 6000
    with Store.open(str(tmp_path / "runs.db")) as store:
        run_id = finished_run(store, graph=graph)

        async def most(after):
            tracemalloc.start()
            async for _ in Watch(store, 0.02).stream(run_id, after, True):
                pass
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

        anyio.run(most, -1)  # What is loaded or cached once does not count.
        assert anyio.run(most, -1) < 1.5 * anyio.run(most, len(graph) - 1001)

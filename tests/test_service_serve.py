"""`discover serve` as a process: submit, watch, take home; and its end, however it comes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import psutil
import pytest
from helpers_service import BODY, TOKEN

from discover.errors import InputError
from discover.service.local import LocalWorker
from discover.service.serving import address_of, listen
from discover.store import Store

WAIT = 90.0


@contextmanager
def serving(folder, *words, **environment):
    """A server on a free port; gives the process and its address."""
    log = (folder / "serve.log").open("a+")
    process = subprocess.Popen(
        [sys.executable, "-m", "discover.cli", "serve", "--port", "0", "--db", "runs.db", *words],
        cwd=folder, stderr=log, stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    try:
        start = log.tell()
        told = until(lambda: re.search(r"discover is at (\S+)", text_of(folder)[start:]))
        yield process, told[1].rstrip("/")
    finally:
        process.kill()
        process.wait()
        log.close()


def text_of(folder):
    return (folder / "serve.log").read_text()


def until(check):
    """What a check gives once it gives anything."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def watched(address, run_id):
    """The names of a run's events and the steps of its decisions, to the end."""
    names, steps = [], []
    with httpx.stream("GET", f"{address}/api/runs/{run_id}/events", timeout=WAIT) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            elif line.startswith("data: ") and names[-1] == "decisions":
                data = json.loads(line.removeprefix("data: "))
                steps += [row["step"] for row in data["items"]]
    return names, steps


def test_submit_watch_take_home_and_end(tmp_path):
    with serving(tmp_path) as (process, address):
        with httpx.Client(base_url=address, timeout=WAIT) as client:
            assert "<title>discover</title>" in client.get("/").text
            run_id = client.post("/api/runs", json=BODY | {"prompts": 2}).json()["id"]
            names, steps = watched(address, run_id)
            assert names[-1] == "end" and steps == list(range(479))
            run = client.get(f"/api/runs/{run_id}").json()
            assert run["status"] == "done" and run["decided"] == 479
            assert client.get(f"/api/runs/{run_id}/view").json()["total"] == run["kept"] > 0
            svg = client.get(f"/api/runs/{run_id}/export/svg")
            assert svg.status_code == 200 and b"<svg" in svg.content
            workers = client.get("/api/workers").json()["items"]
            assert [worker["alive"] for worker in workers] == [True]
            # A stream that is open keeps nobody from ending.
            waiting = client.post("/api/runs", json=BODY | {"tau": 0.3}).json()["id"]
            client.post(f"/api/runs/{waiting}/cancel")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0
        assert all(gone(child) for child in children)
    assert text_of(tmp_path).endswith("stopped\n")
    with Store.open(str(tmp_path / "runs.db")) as store:
        assert store.workers() == []
        assert store.run(run_id).circuit_hash == run["circuit_hash"]


def test_a_server_that_is_killed_takes_its_worker_along_and_the_next_goes_on(tmp_path):
    with serving(tmp_path) as (process, address):
        run_id = httpx.post(f"{address}/api/runs", json=BODY).json()["id"]
        worker = until(lambda: psutil.Process(process.pid).children())[0]
        until(lambda: httpx.get(f"{address}/api/workers").json()["items"])
        process.kill()
        until(lambda: gone(worker))
    with serving(tmp_path, "--no-worker") as (process, address):
        assert httpx.get(f"{address}/api/runs/{run_id}").json()["id"] == run_id
        assert psutil.Process(process.pid).children() == []
        with serving(tmp_path) as (_, other):
            names, steps = watched(other, run_id)
            assert names[-1] == "end" and steps == list(range(479))
        with httpx.stream("GET", f"{address}/api/runs/{run_id}/events") as _:
            pass


def test_two_servers_at_once_on_one_sqlite_file(tmp_path):
    with serving(tmp_path) as (_, one), serving(tmp_path) as (_, two):
        until(lambda: len(httpx.get(f"{one}/api/workers").json()["items"]) == 2)
        ids = [
            httpx.post(f"{where}/api/runs", json=BODY | {"prompts": 2, "tau": tau}).json()["id"]
            for tau in (0.1, 0.4)
            for where in (one, two)
        ]
        # Each tells of every run, whoever took it in and whoever's worker is at it.
        for run_id in ids:
            for where in (one, two):
                names, steps = watched(where, run_id)
                assert names[-1] == "end" and steps == list(range(479))
        runs = [httpx.get(f"{two}/api/runs/{run_id}").json() for run_id in ids]
        assert {run["status"] for run in runs} == {"done"}
        assert {run["attempt"] for run in runs} == {1}  # no run was begun twice
        hashes = [run["circuit_hash"] for run in runs]
        assert hashes[0] == hashes[1] != hashes[2] == hashes[3]


def test_a_stream_that_is_open_does_not_hold_the_server_up(tmp_path):
    with serving(tmp_path, "--no-worker") as (process, address):
        run_id = httpx.post(f"{address}/api/runs", json=BODY).json()["id"]
        with httpx.stream("GET", f"{address}/api/runs/{run_id}/events", timeout=WAIT) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "retry: 2000"
            process.send_signal(signal.SIGINT)
            assert process.wait(WAIT) == 0
            assert not any(line.startswith("event: end") for line in lines)


def test_a_worker_that_dies_is_started_again_and_none_is_left(tmp_path):
    log = tmp_path / "log"
    code = f"open({str(log)!r}, 'a').write('x'); import sys; sys.exit(3)"
    local = LocalWorker([sys.executable, "-c", code], pause=0.05)
    local.start()
    until(lambda: log.exists() and len(log.read_text()) >= 3)
    local.stop()
    count = len(log.read_text())
    time.sleep(0.5)
    assert len(log.read_text()) == count


@pytest.mark.parametrize(
    ("heeds", "code"), [(1, 0), (2, 0), (99, -signal.SIGKILL)], ids=["first", "second", "never"]
)
def test_a_worker_is_asked_twice_and_then_killed(tmp_path, heeds, code):
    ready = tmp_path / "ready"
    program = f"""
import signal, sys, time
heard = []
def asked(*_):
    heard.append(1)
    if len(heard) >= {heeds}:
        sys.exit(0)
signal.signal(signal.SIGTERM, asked)
open({str(ready)!r}, "w").close()
while True:
    time.sleep(0.01)
"""
    local = LocalWorker([sys.executable, "-c", program], grace=(0.5, 0.5))
    local.start()
    until(ready.exists)
    local.stop()
    assert local.process.returncode == code


def test_a_port_that_is_taken_or_an_address_that_is_not_there_is_said(discover, monkeypatch):
    monkeypatch.delenv("DISCOVER_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = discover("serve", "--port", port, "--no-worker")
        assert code == 2
        assert err == (
            f"error: cannot listen on 127.0.0.1:{port}: the port is taken; choose another with "
            "--port (0: any free one)\n"
        )
    code, _, err = discover("serve", "--host", "0.0.0.0")
    assert code == 2 and "set DISCOVER_TOKEN to a secret first" in err
    monkeypatch.setenv("DISCOVER_TOKEN", TOKEN)
    code, _, err = discover("serve", "--host", "203.0.113.7", "--no-worker")
    assert code == 2 and "this machine has no such address; see --host" in err
    code, _, err = discover("serve", "--host", "not a name", "--no-worker")
    assert code == 2 and "cannot listen on not a name" in err
    code, _, err = discover("serve", "--no-worker", "--device", "cuda")
    assert code == 2 and "--device is the local worker's" in err
    code, _, err = discover("serve", "--root-path", "x y")
    assert code == 2 and "is no prefix" in err
    code, _, err = discover("serve", "--memory", "lots")
    assert code == 2 and "not a size of memory" in err


def test_without_the_extra_it_is_said_what_to_install(discover, monkeypatch):
    monkeypatch.delitem(sys.modules, "discover.service.serving")

    class Missing:
        def find_spec(self, name, *_):
            if name == "discover.service.serving":
                raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")

    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    code, _, err = discover("serve")
    assert code == 2
    assert err == "error: `discover serve` needs fastapi: pip install 'discover-circuits[serve]'\n"


def test_addresses_are_told_so_that_a_browser_finds_them():
    for host, told in (("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")):
        with listen(host, 0) as sock:
            assert address_of(sock).startswith(told)
    try:
        with listen("::1", 0) as sock:
            assert address_of(sock).startswith("http://[::1]:")
    except InputError:
        pytest.skip("this machine has no IPv6")


def test_the_token_is_not_handed_on_to_the_worker(monkeypatch):
    monkeypatch.setenv("DISCOVER_TOKEN", TOKEN)
    worker = LocalWorker(["true"], {"DISCOVER_DB": "sqlite:///x.db"})
    assert TOKEN not in worker.environment.values()
    assert worker.environment["DISCOVER_DB"] == "sqlite:///x.db"
    assert worker.environment["PATH"] == os.environ["PATH"]

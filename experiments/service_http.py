"""What a browser asks of `discover serve`: a real server on a port of its own, asked by httpx."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from service_data import GRAPH, TASKS, Filled

PATIENCE = 600.0
"""Seconds after which an answer counts as none."""

ROUNDS = 3


@dataclass(frozen=True)
class Server:
    """A server that runs, and the connection to it."""

    pid: int
    client: httpx.Client

    def get(self, path: str) -> httpx.Response:
        """The answer, which must be a good one."""
        return self.client.get(path).raise_for_status()

    def cpu(self) -> float:
        """Seconds of processor time that the server has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(url: str) -> Iterator[Server]:
    """`discover serve` over a database, without a worker, until the end of the block."""
    words = ["-m", "discover.cli", "serve", "--no-worker", "--port", "0", "--db", url]
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = next((line for line in process.stderr if "discover is at" in line), "")
        found = re.search(r"http://\S+", said)
        if found is None:
            raise SystemExit("the server did not start")
        with httpx.Client(base_url=found[0], timeout=PATIENCE) as client:
            yield Server(process.pid, client)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def questions(data: Filled) -> dict[str, str]:
    """The paths that the page asks for, each by what it is for."""
    most, least = data.runs[0], data.runs[min(18, len(data.runs) - 1)]
    last = len(GRAPH) - 1001
    return {
        "GET runs: first page of 50": "api/runs?limit=50",
        "GET runs: one task, by damage": f"api/runs?limit=50&task={TASKS[0]}&sort=damage",
        "GET runs: one status": "api/runs?limit=50&status=done",
        "GET runs: search in notes": "api/runs?limit=50&search=run%2099",
        "GET a run": f"api/runs/{most}",
        "GET a run by 4 characters": f"api/runs/{least[:4]}",
        "GET its view, 3,000 edges of some 7,000": f"api/runs/{most}/view?edges=3000",
        "GET its view, some 40 edges": f"api/runs/{least}/view?edges=3000",
        "GET its first 1,000 decisions": f"api/runs/{most}/decisions?limit=1000",
        "GET its last 1,000 decisions": f"api/runs/{most}/decisions?limit=1000&after={last}",
        "GET its first 1,000 dead": f"api/runs/{most}/decisions?limit=1000&outcome=dead",
        "GET its evaluations": f"api/evaluations?run={data.evaluated}",
        "GET sweeps: first page of 50": "api/sweeps?limit=50",
        "GET a sweep": f"api/sweeps/{data.sweep}",
        "GET it beside another of its sweep": f"api/compare?left={most}&right={least}",
    }


def streams(server: Server, runs: Sequence[str]) -> dict[str, Any]:
    """Watch ended runs from their first decision, all at once: time, and the server's memory."""

    def watch(run_id: str) -> int:
        rows = 0
        with server.client.stream("GET", f"api/runs/{run_id}/events") as answer:
            for line in answer.iter_lines():
                rows += line.count('"step"')
        return rows

    first = f"api/runs/{runs[0]}/decisions?limit=2000"
    server.get(first)
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    before, began = _peak(server.pid), time.perf_counter()
    with ThreadPoolExecutor(len(runs)) as pool:
        rows = sum(pool.map(watch, runs))
        took, once = time.perf_counter() - began, _peak(server.pid)
        for _ in range(ROUNDS - 1):
            rows += sum(pool.map(watch, runs))
    return {
        "readers": len(runs),
        "rounds": ROUNDS,
        "rows": rows // ROUNDS,
        "seconds": took,
        "first_mb": once - before,
        "last_mb": _peak(server.pid) - before,
    }


def _peak(pid: int) -> float:
    """The most memory that the server has held since it was told to forget, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1e3

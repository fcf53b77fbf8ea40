"""A real `discover serve` for tests: on a free port, stopped at the end, its API at hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENDED = ("done", "failed", "interrupted", "cancelled")


@dataclass
class Served:
    """A server: its address, with a slash at the end, and the process."""

    url: str
    process: subprocess.Popen[str]
    database: Path
    token: str | None = None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers; an error is an AssertionError with the answer's text."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(
            f"{self.url}api/{path}", data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from None
        return json.loads(text) if text else None

    def wait(self, run_id: str, seconds: float = 90) -> dict[str, Any]:
        """The run once it has ended."""
        until = time.monotonic() + seconds
        while (run := self.ask("GET", f"runs/{run_id}"))["status"] not in ENDED:
            assert time.monotonic() < until, f"run {run_id} has not ended: {run}"
            time.sleep(0.3)
        return run


@contextmanager
def served(
    folder: Path, *words: str, token: str | None = None, port: str = "0"
) -> Iterator[Served]:
    """A server on the database in `folder`, with more words of the command line."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    env.pop("DISCOVER_TOKEN", None)
    if token is not None:
        env["DISCOVER_TOKEN"] = token
    command = [sys.executable, "-m", "discover.cli", "serve", "--db", str(folder / "runs.db"),
               "--port", port, *words]  # fmt: skip
    log = folder / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, text=True, env=env
        )
    try:
        yield Served(_address(process, log), process, folder / "runs.db", token)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    """The address that the server says it is at, once it answers there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        text = log.read_text()
        assert process.poll() is None, f"the server has ended: {text}"
        if found := re.search(r"http://[\w.:\[\]]+/?", text):
            url = found[0].rstrip("/") + "/"
            try:
                urllib.request.urlopen(f"{url}api/health", timeout=5).close()
                return url
            except OSError:
                pass
        time.sleep(0.1)
    raise AssertionError(f"the server does not answer: {log.read_text()}")

"""Workers as processes of their own, quickly: forks of a warm one (this file run as a program).

Importing torch and transformer_lens for each of them would take longer than all else. What a fork
says goes to a file; it can be stopped and killed, since its id is not given back before `end`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from discover.spec import RunSpec
from discover.store import Store
from discover.store.tables import jobs, runs

SPEC = RunSpec(model="tiny-ioi", task="ioi", prompts=2, tau=0.02)

POISON = "poison"
"""A model that kills whoever loads it."""

PATIENCE = 180.0
"""Seconds until a test gives up on what should have happened; none is ever measured by it."""


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def forget_hearts(url: str) -> None:
    """Make every heartbeat an old one: what waiting for a lease to run out would do."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        old = datetime.now(UTC) - timedelta(hours=1)
        connection.execute(sa.update(jobs).where(jobs.c.status == "running").values(expires_at=old))
    engine.dispose()


def in_transaction(url: str) -> bool:
    """Whether anybody else is in the middle of a transaction on a PostgreSQL server."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        others = connection.execute(
            sa.text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                " AND xact_start IS NOT NULL"
            )
        ).scalar_one()
    engine.dispose()
    return bool(others)


def rows_of(store: Store, run_id: str) -> list[dict[str, Any]]:
    """What is stored of a run's decisions."""
    return list(store.decision_rows(run_id)) if store.begun(run_id) else []


def edges_of(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What was decided, without the numbers: those depend on how the search was cut into blocks."""
    return [(row["step"], row["sender"], row["receiver"], row["outcome"]) for row in rows]


def attempts(url: str) -> dict[str, int]:
    """How often each run was taken up."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        found = dict(connection.execute(sa.select(runs.c.id, runs.c.attempt)).all())
    engine.dispose()
    return found


@dataclass
class Fork:
    """One worker process."""

    pid: int
    log: Path
    warm: Warm

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Wait for it; its exit status, negative if a signal ended it."""
        return self.warm.ask({"end": self.pid})

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def waits_to_say(self, text: str) -> None:
        until(lambda: text in self.said(), f"{text!r} in {self.said()!r}")


class Warm:
    """The warm process; at each request it forks a worker."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.alive: set[int] = set()

    def ask(self, request: dict[str, Any]) -> int:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the warm process is gone"
        if "end" in request:
            self.alive.discard(request["end"])
        return int(line)

    def worker(self, url: str, *, slow: float = 0.0, cache: str = "", **habits: Any) -> Fork:
        """Start a worker; `slow`: seconds that each evaluation takes more. It drains by default."""
        self.number += 1
        log = self.folder / f"worker{self.number}.log"
        habits = {"drain": True, "poll": 0.05, **habits}
        request = {"url": url, "slow": slow, "cache": cache, "log": str(log), "habits": habits}
        pid = self.ask(request)
        self.alive.add(pid)
        return Fork(pid, log, self)

    def close(self) -> None:
        for pid in list(self.alive):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.ask({"end": pid})
        self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def warm_process(folder: Path) -> Iterator[Warm]:
    process = Warm(folder)
    try:
        yield process
    finally:
        process.close()


# The warm process.


def work(request: dict[str, Any]) -> None:
    """A forked worker's whole life."""
    from discover.costs import Counting
    from discover.working import loop
    from discover.working.stopping import Stopping

    if request["cache"]:
        os.environ["DISCOVER_CACHE"] = request["cache"]
    damages, slow = Counting.damages, request["slow"]

    def slowly(self: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(slow)
        return damages(self, *args, **kwargs)

    Counting.damages = slowly  # type: ignore[method-assign]
    writer = Store.writer
    Store.writer = lambda self, run_id, on_commit=None, attempt=None: writer(  # type: ignore[method-assign]
        self, run_id, on_commit, interval=0.01, attempt=attempt
    )
    loop.BACK_OFF = (0.05, 0.2)
    log = os.open(request["log"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    stopping = Stopping()
    with stopping.installed():
        loop.Worker(
            request["url"],
            loop.Habits(**request["habits"]),
            stopping=stopping,
            say=lambda line: os.write(log, (line + "\n").encode()) and None,
        ).work()


def keep_models() -> None:
    """Load the model once; the workers forked later share it."""
    from discover import session

    load, known = session.load_model, session.load_model(SPEC.model)

    def loaded(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return known if name == SPEC.model else load(name, *args, **kwargs)

    session.load_model = loaded


def serve() -> None:
    """Fork a worker at each request on stdin, or wait for the end of one; answers in numbers."""
    import torch

    # Before anything is computed: a fork has none of the threads of its parent.
    torch.set_num_threads(1)
    keep_models()
    import discover.working.loop  # noqa: F401

    # What is there now stays: forks need not look through it for garbage.
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            status = os.waitpid(request["end"], 0)[1]
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        status = 1
        try:
            work(request)
            status = 0
        except KeyboardInterrupt:
            status = 130
        finally:
            # No clean-up of what is the parent's, whatever happened.
            sys.excepthook(*sys.exc_info()) if status else None
            os._exit(status)


if __name__ == "__main__":
    serve()

"""Killed at random moments and resumed, again and again: the same circuit from the same rows.

A killed process is a fork of a warm one (this file run as a program), since importing torch and
transformer_lens for each of them would take longer than all else. It says on a pipe what it is at;
the test waits for a drawn one of these events and for a drawn instant longer, and sends SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from discover.spec import RunSpec
from discover.store import RunRecord, Store

SPECS = {
    "exact": RunSpec(model="tiny-ioi", task="ioi", prompts=2, tau=0.02),
    "reference": RunSpec(model="tracr-reverse", task="reverse", prompts=4, metric="l2", tau=0.01),
}
"""What each engine searches: forwards by the thousand would take the reference too long on IOI."""

PHASES = (
    "opening the database",
    "loading the model",
    "running clean and corrupted prompts",
    "checking the model against its graph",
    "searching",
)
LAST = "checking the circuit"

ROUNDS = 20
"""So many runs at most; one does unless a busy machine lets a run end before its signal comes."""

Moment = str | int | None
"""A phase that has begun, a number of rows that are stored, or never."""


class Warm:
    """The warm process; at each request it forks one that starts or resumes a run."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def events(self, path: Path, engine: str) -> Iterator[tuple[str, Any]]:
        """What the forked process says: its id, phases, rows stored, and at last how it ended."""
        request = {"path": str(path), "engine": engine}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            what, value = json.loads(line)
            yield what, value
            if what == "ended":
                return
        raise AssertionError("the warm process is gone")

    def attempt(self, path: Path, engine: str, moment: Moment = None, wait: float = 0.0) -> int:
        """Let a process go on with the run, and kill it `wait` seconds after the moment.

        Returns how many rows it said were stored.
        """
        pid = stored = 0
        killed = False
        for what, value in self.events(path, engine):
            if what == "pid":
                pid = value
            elif what == "stored":
                stored = value
            elif what == "ended":
                assert value == 0 or (killed and value == -signal.SIGKILL)
            if not killed and pid and _reached(moment, what, value):
                time.sleep(wait)
                # Until the next request its end is not taken note of: the id is nobody else's.
                os.kill(pid, signal.SIGKILL)
                killed = True
        return stored


def _reached(moment: Moment, what: str, value: Any) -> bool:
    if isinstance(moment, int):
        return what == "stored" and value >= moment
    return what == "phase" and value == moment


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    process = Warm()
    yield process
    process.close()


def moments(draw: Random, rows: list[dict[str, Any]], middle: int) -> list[Moment]:
    """When to kill: in every phase, on starting and on resuming, and between as rows are stored."""
    # Dead edges cost nothing and are past at once: no signal comes in time for one of them.
    steps = [row["step"] for row in rows if row["step"] and row["outcome"] != "dead"]
    found: list[Moment] = sorted(draw.choice(steps) for _ in range(middle))
    for phase in PHASES[1:]:
        found.insert(draw.randrange(len(found)), phase)
    return [*PHASES, *found, LAST]


def stored_run(path: Path) -> tuple[RunRecord | None, list[dict[str, Any]]]:
    """The only run of a database and its rows, or None if there is none yet."""
    if not path.exists():
        return None, []
    with Store.open(str(path)) as store:
        runs = store.runs()
        assert len(runs) <= 1
        return (runs[0], list(store.decision_rows(runs[0].id))) if runs else (None, [])


@pytest.mark.parametrize(("engine", "middle"), [("exact", 20), ("reference", 4)])
def test_killed_again_and_again_a_run_ends_as_if_it_never_was(
    warm: Warm, tmp_path: Path, engine: str, middle: int
) -> None:
    warm.attempt(tmp_path / "calm.db", engine)
    calm, expected = stored_run(tmp_path / "calm.db")
    assert calm.status == "done"
    assert len(expected) == calm.edges
    draw = Random(middle)
    landed: list[int] = []
    for number in range(ROUNDS):
        path = tmp_path / f"killed{number}.db"
        record = None
        for moment in [*moments(draw, expected, middle), None]:
            told = warm.attempt(path, engine, moment, draw.uniform(0, 0.02))
            record, rows = stored_run(path)
            # What was reported is there, and a search that went on is the same search.
            assert told <= len(rows)
            assert rows == expected[: len(rows)]
            if record is not None and record.status == "done":
                break
            assert record is None or record.status == "running"
            landed += [len(rows)] * (record is not None)
        assert record is not None
        assert record.circuit_hash == calm.circuit_hash
        assert rows == expected
        assert (record.kept, record.dead, record.damage) == (calm.kept, calm.dead, calm.damage)
        if len(landed) >= middle:
            break
    assert len(landed) >= middle
    # Before the first row, and at many different places after it.
    assert 0 in landed
    assert len(set(landed)) > middle / 2


# The warm process.


def say(what: str, value: object) -> None:
    # One write of a short line is not broken up by a kill, nor mixed with another thread's.
    os.write(1, (json.dumps([what, value]) + "\n").encode())


def go_on(path: str, engine: str) -> None:
    """Start the run, or resume it if it is there; the forked process's whole life."""
    from discover.run import How, Observer, resume, run

    say("phase", PHASES[0])
    observer = Observer(
        phase=lambda name: say("phase", name),
        decisions=lambda batch: say("stored", batch[-1].step + 1),
    )
    with Store.open(path) as store:
        runs = store.runs()
        # Small blocks: a search that takes no time cannot be killed in its middle.
        how = How(block=4) if engine == "exact" else How()
        if runs:
            resume(runs[0].id, store, how=how, observer=observer)
        else:
            run(SPECS[engine], store, engine=engine, how=how, observer=observer)


def slow_down() -> None:
    """Make every evaluation take a little, and rows be stored soon: more moments to be killed."""
    from discover.costs import Counting

    damages, writer = Counting.damages, Store.writer

    def slowly(self: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.01)
        return damages(self, *args, **kwargs)

    Counting.damages = slowly  # type: ignore[method-assign]
    Store.writer = lambda self, run_id, on_commit=None, attempt=None: writer(  # type: ignore[method-assign]
        self, run_id, on_commit, interval=0.01, attempt=attempt
    )


def keep_models() -> None:
    """Load every model once; the processes forked later share it."""
    from discover import session

    loaded = {spec.model: session.load_model(spec.model) for spec in SPECS.values()}
    session.load_model = lambda name, *_args, **_kwargs: loaded[name]


def serve() -> None:
    """Fork a process at each request on stdin, and say when it has ended."""
    import torch

    # Before anything is computed: a fork has none of the threads of its parent.
    torch.set_num_threads(1)
    slow_down()
    keep_models()
    pid = 0
    for line in sys.stdin:
        if pid:
            os.waitpid(pid, 0)
        pid = os.fork()
        if pid == 0:
            say("pid", os.getpid())
            status = 1
            try:
                go_on(**json.loads(line))
                status = 0
            finally:
                # No clean-up of what is the parent's, whatever happened.
                sys.excepthook(*sys.exc_info()) if status else None
                os._exit(status)
        # Seen but not taken: until `waitpid` the id stays this process's.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        say("ended", end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)


if __name__ == "__main__":
    serve()

"""One worker beside the server: started, started again when it dies, stopped with it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

from discover.service.settings import TOKEN

log = logging.getLogger("discover.service")

FIRST_PAUSE, LAST_PAUSE = 1.0, 60.0
"""Seconds before a worker that died is started again; each time twice as many."""

STEADY = 60.0
"""A worker that lived so long is not counted as failing over and over."""

GRACE = (10.0, 10.0)
"""Seconds for the receiver at hand, and then for the decision at hand, before it is killed."""


class LocalWorker:
    """Keeps one process running until `stop`.

    Its standard input is a pipe from this process: when that ends, in whatever way, the pipe does
    too, and the worker (`discover.cli.attached`) stops itself. So none is left behind.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        pause: float = FIRST_PAUSE,
        grace: tuple[float, float] = GRACE,
    ) -> None:
        self.command = list(command)
        self.environment = {**os.environ, **(environment or {})}
        # A worker has no use for it, and runs what models bring along.
        self.environment.pop(TOKEN, None)
        self.pause = pause
        self.grace = grace
        self.process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="local worker", daemon=True)

    def start(self) -> None:
        """Start the worker and whoever looks after it."""
        self._thread.start()

    def stop(self) -> None:
        """Let the worker end in good order, or else kill it."""
        self._stopping.set()
        with self._lock:
            process = self.process
        if process is not None and process.poll() is None:
            for seconds in self.grace:
                # The first asks for the end of the receiver at hand, the second of the decision.
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                try:
                    process.wait(seconds)
                    break
                except subprocess.TimeoutExpired:
                    continue
                except KeyboardInterrupt:
                    # Asked for twice: it is not waited for.
                    process.kill()
                    break
            else:
                log.warning("the local worker did not end; killed (its run is taken up later)")
                process.kill()
        if self._thread.is_alive():
            self._thread.join()

    def _keep(self) -> None:
        pause = self.pause
        while not self._stopping.is_set():
            began = time.monotonic()
            code = self._run()
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= STEADY:
                pause = self.pause
            log.warning("the local worker ended with %s; again in %g s", _how(code), pause)
            self._stopping.wait(pause)
            pause = min(LAST_PAUSE, 2 * pause)

    def _run(self) -> int:
        """Run one worker to its end; returns its exit code."""
        with self._lock:
            if self._stopping.is_set():
                return 0
            # A session of its own: Ctrl-C at the terminal is for the server, which then says so.
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, start_new_session=True, env=self.environment
            )
        return self.process.wait()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"

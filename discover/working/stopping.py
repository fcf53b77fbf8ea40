"""How a worker is asked to end, and where it may be interrupted at once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_SLICE = 0.1
"""Seconds between looks at whether a pause is over: a signal does not end a sleep by itself."""


class Stopping:
    """What asks a worker to end: SIGTERM or SIGINT, once, or again if it takes too long.

    `asked` counts. Where nothing would be lost (`allow`) the first one raises
    KeyboardInterrupt at once; elsewhere the worker looks at `asked` when it can end in good order.
    The third one raises wherever the program is.
    """

    def __init__(self) -> None:
        self.asked = 0
        self._open = False

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Hear signals; only in the main thread, and put back afterwards."""
        heard = {signal.SIGTERM: self._asked, signal.SIGINT: self._asked}
        if hasattr(signal, "SIGUSR1"):
            heard[signal.SIGUSR1] = self._nudged
        before = {number: signal.signal(number, handler) for number, handler in heard.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        self.asked += 1
        if self._open or self.asked > 2:
            self._open = False
            raise KeyboardInterrupt

    def _nudged(self, _number: int, _frame: FrameType | None) -> None:
        if self._open:
            self._open = False
            raise KeyboardInterrupt

    def nudge(self) -> None:
        """Interrupt the main thread where it may be, from another one: its run is to end."""
        main = threading.main_thread().ident
        installed = hasattr(signal, "SIGUSR1") and signal.getsignal(signal.SIGUSR1) == self._nudged
        if installed and main is not None:
            signal.pthread_kill(main, signal.SIGUSR1)

    def allow(self, interruptible: bool) -> None:
        """Let the next signal interrupt from here on, or not; one that came already does now."""
        self._open = interruptible
        if interruptible and self.asked:
            self._open = False
            raise KeyboardInterrupt

    def pause(self, seconds: float) -> bool:
        """Wait; returns at once, and False, if the worker is asked to end."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(_SLICE, left))
        return not self.asked

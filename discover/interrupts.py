"""Ctrl-C that is heeded even where Python loses it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self


class Interrupts:
    """Remembers Ctrl-C for as long as it is entered, besides raising KeyboardInterrupt.

    Python drops an exception that is raised in a finaliser, with a line on stderr at most: ask
    `asked` where the work may end. Does nothing outside the main thread, or where SIGINT is ignored
    or has another handler.
    """

    def __init__(self) -> None:
        self.asked = False
        self._ours = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._heard)
            self._ours = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._ours = False

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.default_int_handler(number, frame)

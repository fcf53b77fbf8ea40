"""The heart of a worker: says that it lives, and hears whether its run is still its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from discover.store import Lease, Store
from discover.store.engine import BUSY_TIMEOUT

SHARE = 1 / 3
"""The part of a lease after which the heart beats again: two beats may fail."""

_RETRY = 2.0
"""Seconds at most until a beat that failed is tried again."""


class Heart:
    """Beats every third of a lease, on a thread with its own connection, until it is closed.

    `held` is the run that the worker is at. `lost` says that it is not the worker's any more,
    `cancelling` that it is to be cancelled; `news` is called, on the heart's thread, when one of
    them becomes so. A database that is away for a while is tried again and again.
    """

    def __init__(
        self,
        url: str,
        worker: str,
        lease: float,
        news: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._url, self._worker, self._lease, self._every = url, worker, lease, lease * SHARE
        self._news, self._say = news, say
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._held: Lease | None = None
        self._failing = False
        self.lost = self.cancelling = False
        self._store: Store | None = None
        # A daemon: a server that does not answer must not keep an ended worker.
        self._thread = threading.Thread(target=self._work, name="heart", daemon=True)

    def __enter__(self) -> Self:
        """Begin to beat."""
        timeout = min(BUSY_TIMEOUT, max(1.0, self._every))
        self._store = Store.open(self._url, create=False, busy_timeout=timeout)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; a beat under way is waited for a little."""
        self._closed.set()
        self._thread.join(_RETRY)
        if self._store is not None:
            self._store.close()

    def hold(self, lease: Lease | None) -> None:
        """Beat for this run from now on, or for none."""
        with self._lock:
            self._held = lease
            self.lost = self.cancelling = False

    @property
    def stop(self) -> bool:
        """Whether the run at hand is to be left at the next decision."""
        return self.lost or self.cancelling

    def _work(self) -> None:
        while not self._closed.wait(min(self._every, _RETRY) if self._failing else self._every):
            # Not even words that nobody can be told (a closed terminal) may stop a heart.
            with contextlib.suppress(Exception):
                self._beat()

    def _beat(self) -> None:
        assert self._store is not None
        lease = self._held
        try:
            answer = self._store.beat(self._worker, lease, seconds=self._lease)
        except Exception as error:  # whatever it is, a heart must not stop for it
            first, self._failing = not self._failing, True
            if first and not self._closed.is_set():
                self._say(f"no heartbeat: {error}; trying again")
            return
        again, self._failing = self._failing, False
        if again:
            self._say("the heart beats again")
        with self._lock:
            # Between the question and the answer the worker may have gone on to another run.
            if lease is None or lease is not self._held:
                return
            self.lost, self.cancelling = not answer.mine, answer.cancelling
        if self.stop:
            self._news()

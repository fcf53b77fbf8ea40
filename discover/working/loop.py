"""The worker: takes submitted runs one by one and runs them."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from discover.acdc import Decision
from discover.errors import (
    DiscoverError,
    FencedError,
    SpecError,
    StoppedError,
    StoreUnavailableError,
)
from discover.run import Observer, StopWhen, take_up
from discover.session import check_device
from discover.store import Claim, Lease, RunRecord, Store
from discover.store.queue import LEASE
from discover.working.heart import Heart
from discover.working.sessions import Sessions
from discover.working.stopping import Stopping

POLL = 2.0
"""Seconds between two looks at an empty queue."""

DAY = 86_400
"""Seconds; no lease and no poll is longer."""

NOW_AND_THEN = 30.0
"""Seconds between two lines of progress."""

BACK_OFF = (1.0, 60.0)
"""Seconds to wait for a database that is away: at first, and at most."""

_T = TypeVar("_T")

_UNINTERRUPTED = ("searching", "checking the circuit")
"""Phases of a run that a signal does not break off: the first ends after a receiver, the second
is short and only confirms what is stored."""


@dataclass(frozen=True)
class Habits:
    """How a worker works: where, and how long.

    `device`, `threads` and `memory` (bytes) are this machine's; the last two come before what a run
    asks for. `lease`: seconds without a heartbeat after which this worker counts as dead, to all
    others, whatever theirs is. `poll`: seconds between looks at an empty queue.
    `once`: end after one run, or with none if none waits. `drain`: end when every submitted run has
    ended, also those of other workers, since one of them may die.
    """

    device: str = "cpu"
    threads: int | None = None
    memory: int | None = None
    lease: float = LEASE
    poll: float = POLL
    once: bool = False
    drain: bool = False

    def __post_init__(self) -> None:
        for name, value in (("lease", self.lease), ("poll", self.poll)):
            if not 0 < value <= DAY:
                raise SpecError(f"{name} must be above 0 and at most {DAY} seconds, got {value:g}")
        check_device(self.device)


class Worker:
    """One worker on one database, until it is asked to stop.

    `say` hears one line for a person at a time. It works in the thread that calls `work`; signals
    reach it only if that is the main one.
    """

    def __init__(
        self,
        url: str,
        habits: Habits | None = None,
        *,
        stopping: Stopping | None = None,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.habits, self.stopping, self.say = habits or Habits(), stopping or Stopping(), say
        host = platform.node() or "localhost"
        # What names it in the database: 64 characters at most.
        self.id = f"{host[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._host, self._url = host, url
        self._told = 0.0

    def work(self) -> int:
        """Work the queue off; returns how many runs were brought to an end.

        Raises:
            StoreError: the database cannot be opened, or is damaged.
            KeyboardInterrupt: asked to stop for the third time.
        """
        habits, done = self.habits, 0
        with Store.open(self._url) as store, self._entered(store):
            self.store = store
            sessions = Sessions(store, habits.device, habits.threads, habits.memory)
            self.sessions = sessions
            with contextlib.closing(_Dropping(sessions)):
                while not self.stopping.asked:
                    claim = self._patiently(
                        lambda: store.claim(
                            self.id, lease=habits.lease, batch_key=sessions.batch_key
                        )
                    )
                    if claim is not None:
                        done += self._take(claim)
                    if habits.once or (claim is None and habits.drain and self._empty()):
                        break
                    if claim is None:
                        self.stopping.pause(habits.poll)
        self.say(f"ended in good order after {done} run{'' if done == 1 else 's'}")
        return done

    @contextlib.contextmanager
    def _entered(self, store: Store) -> Iterator[None]:
        """Stand in the list of workers, with a beating heart."""
        facts: dict[str, Any] = {"device": self.habits.device, "lease": self.habits.lease}
        store.add_worker(self.id, host=self._host, pid=os.getpid(), **facts)
        self.say(f"worker {self.id} on {store.label}, {self.habits.device}")
        heart = Heart(self._url, self.id, self.habits.lease, self.stopping.nudge, self.say)
        try:
            with heart:
                self.heart = heart
                yield
        finally:
            try:
                store.remove_worker(self.id)
            except StoreUnavailableError as error:
                self.say(f"could not strike itself off: {error}")

    def _empty(self) -> bool:
        def active() -> bool:
            return any(self.store.jobs(status, limit=1) for status in ("queued", "running"))

        return not self._patiently(active)

    def _patiently(self, ask: Callable[[], _T], said: bool = False) -> _T | None:
        """Ask the database, again and again while it is away; None if asked to stop meanwhile.

        `said`: that it is away is known.
        """
        pause, new = BACK_OFF[0], not said
        while True:
            try:
                answer = ask()
            except StoreUnavailableError as error:
                if not said:
                    self.say(f"{error}; waiting for it")
                said = True
                if not self.stopping.pause(pause):
                    return None
                pause = min(2 * pause, BACK_OFF[1])
                continue
            if said and new:
                self.say("the database is back")
            return answer

    def _take(self, claim: Claim) -> bool:
        """Run a claimed run to its end, or to where it is left; whether it has ended."""
        spec, name = claim.spec, claim.lease.run_id[:8]
        verb = "goes on with" if claim.started else "takes"
        what = spec.task or spec.prompts_file
        self.say(f"{verb} run {name}: {spec.model}, {what}, {spec.metric}, tau {spec.tau:g}")
        self.heart.hold(claim.lease)
        try:
            while True:
                try:
                    return self._run(claim)
                except StoreUnavailableError as error:
                    if not self._back(claim.lease, error):
                        return False
        finally:
            self.heart.hold(None)

    def _run(self, claim: Claim) -> bool:
        """Run a claimed run, and say how that ended.

        Raises:
            StoreUnavailableError: the database is away; the run is still the worker's.
        """
        name = claim.lease.run_id[:8]
        try:
            record = self._search(claim)
        except FencedError as error:
            self.say(str(error))
            return False
        except StoreUnavailableError:
            raise
        except StoppedError as error:
            return self._left(claim.lease, error)
        except KeyboardInterrupt as error:
            # It may have come anywhere: a model with half its hooks on is not used again.
            self.stopping.allow(False)
            self.sessions.drop()
            return self._left(claim.lease, error)
        except DiscoverError as error:
            return self._failed(claim.lease, str(error))
        except Exception as error:
            # A bug, or no memory left: for a person to read, and nothing of it to be used again.
            self.say(traceback.format_exc().rstrip())
            self.sessions.drop()
            return self._failed(claim.lease, f"{type(error).__name__}: {error}")
        self.say(
            f"run {name} is done: {record.kept:,} of {record.edges:,} edges, damage "
            f"{record.damage:.4g}, {record.seconds:.1f} s"
        )
        return True

    def _search(self, claim: Claim) -> RunRecord:
        observer = self._observer(claim.lease)
        try:
            self._phase("preparing")
            session = self.sessions.of(claim, observer)
        finally:
            self.stopping.allow(False)
        draft = self.sessions.draft(claim, session)
        try:
            return take_up(self.store, session, claim.spec.tau, observer, draft, lease=claim.lease)
        finally:
            self.stopping.allow(False)

    def _observer(self, lease: Lease) -> Observer:
        name, total = lease.run_id[:8], 0
        self._told = time.monotonic()

        def started(record: RunRecord) -> None:
            nonlocal total
            total = record.edges

        def decisions(batch: list[Decision]) -> None:
            now = time.monotonic()
            if now - self._told >= NOW_AND_THEN:
                self._told = now
                self.say(f"run {name}: {batch[-1].step + 1:,} of {total:,} edges decided")

        def warning(text: str) -> None:
            self.say(f"run {name}: warning: {text}")

        return Observer(self._phase, started, decisions, warning, self._stop)

    def _phase(self, name: str) -> None:
        if self.heart.stop and name != _UNINTERRUPTED[1]:
            raise KeyboardInterrupt
        self.stopping.allow(name not in _UNINTERRUPTED)

    def _stop(self) -> StopWhen | None:
        """What a search is told after each decision."""
        if self.heart.stop or self.stopping.asked > 1:
            return "now"
        return "after the receiver" if self.stopping.asked else None

    def _left(self, lease: Lease, error: BaseException) -> bool:
        """Give a run back that was broken off before its end."""
        self.stopping.allow(False)
        cancelled, lost = self.heart.cancelling, self.heart.lost
        self.store.release(lease)
        why = "cancelled" if cancelled else "given back to the queue"
        why = "not this worker's any more" if lost else why
        self.say(f"run {lease.run_id[:8]} is {why}" + (f": {error}" if str(error) else ""))
        return cancelled

    def _failed(self, lease: Lease, reason: str) -> bool:
        self.store.fail(lease, reason)
        self.say(f"run {lease.run_id[:8]} failed: {reason}")
        return True

    def _back(self, lease: Lease, error: StoreUnavailableError) -> bool:
        """Wait for a database that went away; whether the run is then still to be gone on with."""
        self.say(f"{error}; waiting for it")
        name = lease.run_id[:8]
        if self.stopping.asked:
            # Once more, in case it was only busy; else the lease runs out and someone takes it.
            with contextlib.suppress(StoreUnavailableError):
                self.store.release(lease)
            self.say(f"run {name} is left as it is stored; another worker will go on with it")
            return False
        self.stopping.pause(BACK_OFF[0])
        try:
            found = self._patiently(lambda: self.store.job(lease.run_id), said=True)
        except DiscoverError as gone:
            self.say(str(gone))
            return False
        if found is None:
            return False
        mine = found.status == "running" and found.worker == lease.worker
        if not (mine and found.attempt == lease.attempt):
            # Another's; or what was written last went through, and only the answer was lost.
            self.say(f"run {name} is {found.status} by now; nothing more to do for it here")
            return False
        self.say(f"the database is back; run {name} goes on from its last stored decision")
        return True


class _Dropping:
    def __init__(self, sessions: Sessions) -> None:
        self.close = sessions.drop

"""A run as it happens: server-sent events, made from what is stored.

Each stream looks into the database now and then, in transactions of milliseconds, and holds no
thread while it waits; streams of one run share what they see of it. So a worker anywhere can be
watched, and a server that was restarted goes on from the last event that the browser has seen.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from discover.errors import NotFoundError, StoreUnavailableError
from discover.service.answers import dumps, problem
from discover.service.bodies import SAFE_INT, RunRef
from discover.service.common import TheStore, answers, run_told
from discover.store import Store

router = APIRouter(prefix="/runs", tags=["runs"])

ROWS = 2000
"""Decisions of one event at most."""

MOST_STREAMS = 500
"""Streams of a server at once: each is a connection, and those are not without end."""

SILENCE = 15.0
"""Seconds without an event after which a comment is sent, so that no proxy hangs up."""

ENDED = ("done", "failed", "interrupted", "cancelled")

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
"""nginx would otherwise keep events back until it has a bufferful."""

_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["decisions", "run", "end"]},
        "data": {"type": "string", "description": "JSON."},
        "id": {"type": "string", "description": "The last step that has been sent."},
    },
}

Step = Annotated[int, Query(ge=-1, le=SAFE_INT, description="The last step seen.")]


@router.get(
    "/{ref}/events",
    summary="Watch a run",
    response_class=StreamingResponse,
    responses={
        **answers(None, 404),
        200: {
            "description": "`decisions` (data: `{items: [...]}`, id: the last step), `run` (data: "
            "the run, whenever it has changed), and `end` (data: the run), after which the stream "
            "closes.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
    },
)
async def events(
    request: Request,
    store: TheStore,
    ref: RunRef,
    after: Step = -1,
    decisions: Annotated[bool, Query(description="Whether to send decisions too.")] = True,
    last_event_id: Annotated[int, Header(ge=-1, le=SAFE_INT)] = -1,
) -> Response:
    """A run's decisions and progress as server-sent events, until it has ended.

    A browser that has lost the stream takes it up where it was (Last-Event-ID).
    """
    watch: Watch = request.app.state.watch
    if watch.streams >= MOST_STREAMS:
        text = f"{MOST_STREAMS} streams are open already; ask for the run itself now and then"
        return problem(503, "TooManyStreamsError", text, headers={"retry-after": "5"})
    run = await to_thread.run_sync(store.listed_run, ref)
    seen = after if last_event_id < 0 else last_event_id
    stream = watch.stream(run.id, seen, decisions)
    return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)


class Watch:
    """What all streams of a server share; `poll` is the seconds between two looks at a run."""

    def __init__(self, store: Store, poll: float) -> None:
        self.store = store
        self.poll = poll
        self.closing = False
        self._of: Counter[str] = Counter()
        self._seen: dict[str, tuple[float, dict[str, Any]]] = {}
        self._looking: dict[str, asyncio.Lock] = {}

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return self._of.total()

    async def stream(self, run_id: str, after: int, decisions: bool) -> AsyncIterator[bytes]:
        """The events of one run from behind a step on."""
        self._of[run_id] += 1
        try:
            async for event in self._events(run_id, after, decisions):
                yield event
        finally:
            self._of[run_id] -= 1
            if not self._of[run_id]:
                # With its last stream goes what is known of a run, whoever watches others.
                for known in (self._of, self._seen, self._looking):
                    known.pop(run_id, None)

    async def _events(self, run_id: str, after: int, decisions: bool) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        told: dict[str, Any] | None = None
        spoke = time.monotonic()
        pause = self.poll
        while not self.closing:
            try:
                run = await self._look(run_id)
                # The run first, then its decisions: at its end none can be missing.
                while decisions and after + 1 < run["decided"] and not self.closing:
                    reached, event = await self._page(run_id, after)
                    if reached == after:
                        # Deleted, or begun anew, since the run was looked at.
                        break
                    after = reached
                    spoke = time.monotonic()
                    yield event
            except NotFoundError:
                # Deleted: the browser asks again, and is told so.
                return
            except StoreUnavailableError:
                # The database is restarted or busy; the stream outlives it.
                pause = min(10.0, pause * 2)
                run = told or {}
            else:
                pause = self.poll
                if run != told:
                    told, spoke = run, time.monotonic()
                    yield _event("run", run)
                if run["status"] in ENDED:
                    yield _event("end", run)
                    return
            if time.monotonic() - spoke >= SILENCE:
                spoke = time.monotonic()
                yield b": still here\n\n"
            await self._wait(pause)

    async def _wait(self, seconds: float) -> None:
        """Sleep, but not into the server's own end."""
        until = time.monotonic() + seconds
        while not self.closing and (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.5))

    async def _look(self, run_id: str) -> dict[str, Any]:
        """The run as it was at most half a pause ago, looked up once for all its streams."""
        async with self._looking.setdefault(run_id, asyncio.Lock()):
            when, run = self._seen.get(run_id, (0.0, {}))
            if time.monotonic() - when > self.poll / 2:
                listed = await to_thread.run_sync(self.store.listed_run, run_id)
                run = run_told(listed)
                self._seen[run_id] = (time.monotonic(), run)
            return run

    async def _page(self, run_id: str, after: int) -> tuple[int, bytes]:
        """The next decisions as one event, and the last of their steps."""

        def read() -> tuple[int, bytes]:
            rows, _ = self.store.decision_page(run_id, after, ROWS)
            last = rows[-1]["step"] if rows else after
            return last, _event("decisions", {"items": rows}, last)

        return await to_thread.run_sync(read)


def _event(name: str, data: Any, number: int | None = None) -> bytes:
    mark = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{mark}data: {dumps(data)}\n\n".encode()

"""Listen: the socket, the server, its end."""

from __future__ import annotations

import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn
from fastapi import FastAPI

from discover.errors import InputError
from discover.service.events import Watch

GRACE = 5
"""Seconds for requests that are under way when the server is to end."""


class _Server(uvicorn.Server):
    """A server whose streams end when it is asked to."""

    def __init__(self, config: uvicorn.Config, watch: Watch, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._watch = watch
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._watch.closing = True
        super().handle_exit(sig, frame)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0 takes any free one.

    Raises:
        InputError: the address is none of this machine's, or the port is taken or not allowed.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except (OSError, UnicodeError) as error:
        code = getattr(error, "errno", None)
        reason = {
            errno.EADDRINUSE: "the port is taken; choose another with --port (0: any free one)",
            errno.EACCES: "ports below 1024 belong to root; choose another with --port",
            errno.EADDRNOTAVAIL: "this machine has no such address; see --host",
        }.get(code or 0, f"{getattr(error, 'strerror', None) or error}; see --host")
        raise InputError(f"cannot listen on {where}: {reason}") from error
    return sock


def address_of(sock: socket.socket) -> str:
    """Where a browser finds a socket: `http://127.0.0.1:8000`."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGINT end the block, in good order, and nothing else.

    uvicorn raises the signal that ended it once more; by then it has done what it was to do.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(app: FastAPI, sock: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called once requests are taken."""
    # uvicorn lays its own log out for a terminal; ours goes where the program has it go.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE,
        # So large a head is an attack.
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = _Server(config, app.state.watch, ready)
    server.run(sockets=[sock])

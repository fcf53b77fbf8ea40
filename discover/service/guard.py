"""The guard: what every request must pass before a route sees it, and what every answer carries."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from discover.service.access import OPEN, Access
from discover.service.answers import problem
from discover.service.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("discover.service")

MAX_DEPTH = 20
"""How deep a JSON body may nest; ours need four levels."""

MAX_ITEMS = 5000
"""Commas and colons in a JSON body, strings aside; ours need a few hundred.

To say of half a million fields that there are no such fields would take seconds, in which the
server answers nobody.
"""

LOGIN_BODY = 8 * 2**10
"""Bytes of a request that needs no token."""

BODY_SECONDS = 30.0
"""A body must have come in so many seconds."""

SAFE = ("GET", "HEAD", "OPTIONS")

CYTOSCAPE_STYLE = "sha256-pgvDUBa4IjFA2yuSJ2cqcyxmNYJMborsd0ORcRv9vw8="
"""The one style sheet that Cytoscape.js writes into the page: its container is positioned."""

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; "
    f"style-src 'self' '{CYTOSCAPE_STYLE}'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
"""Scripts and styles are the server's own files: nothing written into a page can run."""

DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware: host, origin, token, body, and the headers of every answer.

    What goes wrong behind it is answered with one line and a number that the log has too.
    """

    def __init__(self, app: App, settings: Settings, access: Access) -> None:
        self.app = app
        self.settings = settings
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            # There are no web sockets here; to close one unopened answers it with 403.
            await send({"type": "websocket.close", "code": 1008})
            return
        scope = under_prefix(scope, self.settings.root_path)
        path = path_of(scope)
        api = path == "/api" or path.startswith("/api/")
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _headers(message["headers"], api)}
            await send(message)

        try:
            refused, receive = await self._admit(scope, receive, path, api)
            await (refused or self.app)(scope, receive, guarded)
        except Exception:
            number = secrets.token_hex(4)
            log.exception("error %s at %s %s", number, scope["method"], path[:200])
            if started:
                raise
            text = f"something went wrong in the server; its log has the reason under {number}"
            await problem(500, "InternalError", text)(scope, receive, guarded)

    async def _admit(
        self, scope: Scope, receive: Receive, path: str, api: bool
    ) -> tuple[App | None, Receive]:
        """What answers the request in the app's place, if anything does, and its body."""
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        method = scope["method"]
        if not self._known_host(headers.get("host", "")):
            return _refuse_host(headers.get("host", "")), receive
        if method not in SAFE and not _same_origin(headers):
            text = (
                "this server takes changes only from its own page or from a program; a proxy in "
                "front of it must pass Host on as it came, with its port"
            )
            return problem(403, "CrossOriginError", text), receive
        if api and not self.access.admits(path, headers):
            text = "this server asks for its token (DISCOVER_TOKEN): log in, or send it as Bearer"
            return problem(401, "LoginError", text, headers={"www-authenticate": "Bearer"}), receive
        if method in SAFE:
            return None, receive
        return await self._body(headers, receive, LOGIN_BODY if path in OPEN else None)

    def _known_host(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            _ = urlsplit(f"//{host}").port
        except ValueError:
            return False
        if not name or re.search(r"[\s/@?#\\]", host):
            return False
        if name in self.settings.hosts:
            return True
        return self.settings.any_address and _is_address(name)

    async def _body(
        self, headers: dict[str, str], receive: Receive, limit: int | None = None
    ) -> tuple[App | None, Receive]:
        """The whole body, if it is small, flat and JSON; it is read here, before any route."""
        most = min(self.settings.max_body, limit or self.settings.max_body)
        too_large = problem(
            413, "TooLargeError", f"a request may have at most {most / 2**20:g} MiB"
        )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > most:
            return too_large, receive
        try:
            body = await asyncio.wait_for(_read(receive, most), BODY_SECONDS)
        except TimeoutError:
            return problem(408, "TimeoutError", "the request's body did not come"), receive
        if body is None:
            return too_large, receive
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and kind != "application/json":
            text = "a body must be JSON, and say so: Content-Type: application/json"
            return problem(415, "ContentTypeError", text), receive
        if too_much := _too_much(body):
            return problem(422, "ValidationError", too_much), receive
        return None, _replay(body, receive)


def under_prefix(scope: Scope, root: str) -> Scope:
    """A request as ASGI writes it: its path has the prefix, also where a proxy took that off.

    Without it routes are found all the same, but nothing that is mounted (`/static`).
    """
    path = str(scope["path"])
    if not root:
        return scope
    if path != root and not path.startswith(root + "/"):
        raw = scope.get("raw_path")
        scope = {**scope, "path": root + path, "raw_path": raw and root.encode() + raw}
    return {**scope, "root_path": root}


def path_of(scope: Scope) -> str:
    """A request's path without the prefix under which a proxy shows the server."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _too_much(body: bytes) -> str | None:
    """Why a body is not even parsed, if it is not."""
    # Quotes that no backslash stands before: two a string at most, and one at least. Counted first,
    # so that what follows has not a million strings to look at either.
    quotes = body.count(b'"') - body.count(b'\\"')
    if quotes > 2 * MAX_ITEMS or has_more_items(body, MAX_ITEMS):
        return f"the body has more than {MAX_ITEMS:,} fields and values"
    if nests_deeper(body, MAX_DEPTH):
        return f"the body nests deeper than {MAX_DEPTH} levels"
    return None


def nests_deeper(body: bytes, most: int) -> bool:
    """Whether brackets nest deeper than so many levels; strings do not count.

    In C's time, not the parser's: a level is taken away at a time, from the inside.
    """
    outside = _STRINGS.sub(b"", body)
    brackets = outside.translate(_SAME, _OTHERS)
    for _ in range(most):
        if not brackets:
            return False
        fewer = brackets.replace(b"[]", b"")
        if len(fewer) == len(brackets):
            # They do not pair up: the parser will say where, if it can get that far.
            return len(brackets) > most
        brackets = fewer
    return bool(brackets)


def has_more_items(body: bytes, most: int) -> bool:
    """Whether there are more commas and colons than that; in strings they do not count."""

    def items(text: bytes) -> int:
        return text.count(b",") + text.count(b":")

    return items(body) > most and items(_STRINGS.sub(b"", body)) > most


# Possessive, and ended by the end too: no body makes it look at a byte twice.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_SAME = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(code for code in range(256) if code not in b"[]{}")


async def _read(receive: Receive, most: int) -> bytes | None:
    """The body, or None as soon as it is longer than that, whatever its header said."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > most:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _same_origin(headers: dict[str, str]) -> bool:
    """Whether a change was asked for by the server's own page, or by no page at all.

    Browsers send one header or both with every change; programs send none.
    """
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    scheme, _, netloc = origin.partition("://")
    return scheme in ("http", "https") and netloc.lower() == headers.get("host", "").lower()


def _refuse_host(host: str) -> App:
    text = (
        f"this server does not go by the name {host[:80]!r}; if it should, start it with "
        "--allow-host NAME"
    )
    return problem(403, "HostError", text)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _headers(given: list[tuple[bytes, bytes]], api: bool) -> list[tuple[bytes, bytes]]:
    """An answer's headers with those that every answer has; what a route has set stays."""
    usual = {**HEADERS, "content-security-policy": DATA_POLICY if api else PAGE_POLICY}
    usual["cache-control"] = "no-store" if api else "no-cache"
    there = {name.lower() for name, _ in given}
    more = [(k.encode(), v.encode()) for k, v in usual.items() if k.encode() not in there]
    return [*given, *more]

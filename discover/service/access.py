"""Who may come in: the token as a bearer's, or as a cookie that a login has set."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping

COOKIE = "discover_session"

COOKIE_SECONDS = 30 * 24 * 3600
"""After so long a login must be renewed: 30 days."""

OPEN = ("/api/health", "/api/version", "/api/login", "/api/logout")
"""What needs no token."""


class Access:
    """What a token opens; without one everything is open, since only this machine can come in."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def admits(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a request to a path of the API may pass."""
        if self.token is None or path in OPEN:
            return True
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(shown.strip(" ")):
            return True
        return self._is_session(_cookie(headers.get("cookie", "")))

    def is_token(self, shown: str) -> bool:
        """Whether that is the token; it takes the same time wherever the two differ."""
        # Compared as digests, so that not even the length is told.
        return self.token is not None and hmac.compare_digest(_sha(shown), _sha(self.token))

    def session(self, now: float | None = None) -> str:
        """What the cookie of a login holds: when it ends, and a proof made with the token."""
        ends = int(time.time() if now is None else now) + COOKIE_SECONDS
        return f"{ends}.{self._proof(str(ends))}"

    def _is_session(self, value: str) -> bool:
        ends, _, proof = value.partition(".")
        if not (ends.isascii() and ends.isdecimal() and len(ends) <= 15):
            return False
        genuine = hmac.compare_digest(_sha(proof), _sha(self._proof(ends)))
        return genuine and int(ends) > time.time()

    def _proof(self, ends: str) -> str:
        key = (self.token or "").encode()
        return hmac.new(key, f"discover session {ends}".encode(), hashlib.sha256).hexdigest()


def _sha(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _cookie(header: str) -> str:
    # Not http.cookies: it stops at the first cookie, of any other server here, that it finds odd.
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""

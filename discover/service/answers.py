"""What goes out: JSON that every parser takes, and errors of one shape."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from discover.errors import (
    DiscoverError,
    InputError,
    NotFoundError,
    StateError,
    StoreUnavailableError,
)
from discover.report import json_number
from discover.service.settings import NotAllowedError

log = logging.getLogger("discover.service")

MESSAGE = 2000
"""So many characters an error's message has at most."""


class FieldError(InputError):
    """Fields of a body that cannot be used, each with the reason."""

    def __init__(self, fields: Sequence[tuple[str, DiscoverError]]) -> None:
        super().__init__("; ".join(str(error) for _, error in fields))
        self.fields = list(fields)


class QueueFullError(InputError):
    """So many runs wait already that no more are taken."""


class Json(Response):
    """A JSON answer, ASCII only, with infinities as the strings Infinity and -Infinity."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return dumps(content).encode()


def dumps(value: Any) -> str:
    """JSON text of plain values, times and dataclasses."""
    try:
        return _encoded(value)
    except ValueError:
        # Infinities are rare: whole answers are gone through in Python only where there is one.
        return _encoded(plain(value))


def _encoded(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_shallow)


def plain(value: Any) -> Any:
    """The value as JSON can hold it: times as ISO 8601 in UTC, infinities as strings."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else json_number(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return plain(_shallow(value))


def _shallow(value: Any) -> Any:
    """The value as a kind that JSON has; what is in it may still be of other kinds."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def problem(
    status: int,
    kind: str,
    message: str,
    fields: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Json:
    """An error as the API answers it."""
    told = {"kind": kind, "message": message[:MESSAGE], "fields": [dict(f) for f in fields]}
    return Json({"error": told}, status, dict(headers or {}))


def status_of(error: DiscoverError) -> int:
    """The HTTP status that says what an error says."""
    for kind, status in (
        (NotFoundError, 404),
        (StateError, 409),
        (NotAllowedError, 403),
        (QueueFullError, 429),
        (StoreUnavailableError, 503),
        (InputError, 422),
    ):
        if isinstance(error, kind):
            return status
    return 500


def install(app: FastAPI) -> None:
    """Have every error of a route answered in the API's shape."""
    app.add_exception_handler(DiscoverError, _discover_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _discover_error(request: Request, error: Exception) -> Json:
    assert isinstance(error, DiscoverError)
    label: str = request.app.state.store.label
    if isinstance(error, FieldError):
        fields = [{"field": name, "message": _line(cause, label)} for name, cause in error.fields]
        # What is forbidden says more than what is wrong besides.
        causes = [cause for _, cause in error.fields]
        first = next((c for c in causes if isinstance(c, NotAllowedError)), causes[0])
        status = 403 if isinstance(first, NotAllowedError) else 422
        return problem(status, type(first).__name__, _line(error, label), fields)
    status = status_of(error)
    if status == 500:
        log.error("%s: %s", type(error).__name__, error)
    headers = {"retry-after": "5"} if status in (429, 503) else {}
    return problem(status, type(error).__name__, _line(error, label), headers=headers)


def _line(error: DiscoverError, label: str) -> str:
    """An error's text as one line, without where the database is: that is the server's own."""
    text = str(error).replace(f" in {label}", "").replace(f"database {label}", "the database")
    return " ".join(text.replace(label, "the database").split())


async def _validation_error(_request: Request, error: Exception) -> Json:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return problem(422, "ValidationError", _reason(found[0]))
    reasons: dict[str, str] = {}
    # One reason a field: where several kinds are allowed, pydantic says why it is none of each.
    for each in sorted(found, key=lambda each: each["type"] != "path"):
        reasons.setdefault(_field(each["loc"]), _reason(each))
    fields = [{"field": name, "message": reason} for name, reason in reasons.items()][:50]
    text = "; ".join(": ".join(filter(None, each.values())) for each in fields)
    return problem(422, "ValidationError", text, fields)


def _field(place: Sequence[str | int]) -> str:
    """Where in a request something is wrong: `tau`, `options.block`, `taus.3`."""
    # Pydantic adds the name of the kind that it tried where several are allowed.
    parts = [str(part) for part in place[1:]]
    return ".".join(part for part in parts if not _KIND.fullmatch(part))[:200]


_KIND = re.compile(r"int|str|float|bool|UploadedFile|constrained-\w+|.*[\[(].*")


def _reason(found: Mapping[str, Any]) -> str:
    if found["type"] == "json_invalid":
        return f"the body is not JSON: {found.get('ctx', {}).get('error', 'it cannot be read')}"
    if found["type"] == "extra_forbidden":
        return "there is no such field"
    if found["type"] == "missing":
        return "this is needed"
    if found["type"] == "string_pattern_mismatch":
        return f"this must look like {found.get('ctx', {}).get('pattern', 'something else')}"
    text = str(found["msg"])
    return text[:1].lower() + text[1:300]


async def _http_error(_request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    # Starlette says 400 of a body that is no JSON at all, or holds a number of 5,000 digits.
    status = 422 if error.status_code == 400 else error.status_code
    known = {404: "there is nothing at this address", 405: "this address takes no such method"}
    known[422] = "the request's body cannot be read"
    text = known.get(status) or HTTPStatus(status).phrase
    kinds = {404: "NotFoundError", 405: "MethodError", 422: "ValidationError"}
    return problem(status, kinds.get(status, "HttpError"), text, headers=error.headers)

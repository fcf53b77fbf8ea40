"""Routes for the login: the token against a cookie, and the cookie's end."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from discover.errors import StateError
from discover.service.access import COOKIE, COOKIE_SECONDS, Access
from discover.service.answers import problem
from discover.service.bodies import Login
from discover.service.common import TheSettings, answers

router = APIRouter(tags=["server"])


@router.post("/login", summary="Log in", status_code=204, responses=answers(None, 409, 413, 415))
def login(request: Request, settings: TheSettings, body: Login) -> Response:
    """Take a cookie for the token, for 30 days; scripts of a page cannot read it."""
    access: Access = request.app.state.access
    if settings.token is None:
        raise StateError("this server asks for no token; there is nothing to log in to")
    if not access.is_token(body.token):
        return problem(401, "LoginError", "this is not the server's token (DISCOVER_TOKEN)")
    answer = Response(status_code=204)
    answer.set_cookie(
        COOKIE,
        access.session(),
        max_age=COOKIE_SECONDS,
        path=settings.root_path or "/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout", summary="Log out", status_code=204, responses=answers(None))
def logout(settings: TheSettings) -> Response:
    """Have the browser forget the cookie."""
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=settings.root_path or "/", httponly=True, samesite="strict")
    return answer

"""The application: guard, routes, page."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from discover import __version__
from discover.page.single import STATIC
from discover.service import answers, circuits, events, listing, login, runs, sweeps
from discover.service.access import Access
from discover.service.circuits import Benches
from discover.service.events import Watch
from discover.service.guard import Guard
from discover.service.reference import reference_page
from discover.service.settings import Settings
from discover.store import Store

_ABOUT = """Submit, watch and share circuit searches.

Errors have one shape, `{"error": {"kind", "message", "fields": [{"field", "message"}]}}`, and
infinities are the strings `Infinity` and `-Infinity`. Where the server has a token, send it as
`Authorization: Bearer TOKEN`, or log in for a cookie.
"""


def make_app(store: Store, settings: Settings | None = None) -> FastAPI:
    """The ASGI application over a store; its page is at `/`, its API under `/api`."""
    settings = settings or Settings()
    access = Access(settings.token)
    app = FastAPI(
        title="discover",
        version=__version__,
        description=_ABOUT,
        openapi_url="/api/openapi.json",
        # FastAPI's own pages load scripts from elsewhere; ours is plain and works offline.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation,
    )
    app.state.store = store
    app.state.settings = settings
    app.state.access = access
    app.state.watch = Watch(store, settings.poll)
    app.state.benches = Benches()
    answers.install(app)
    api = APIRouter(prefix="/api")
    # Events and circuits first: their paths are longer than `/runs/{ref}`.
    for part in (events, circuits, runs, sweeps, listing, login):
        api.include_router(part.router)
    app.include_router(api)
    _add_pages(app)
    app.add_middleware(Guard, settings=settings, access=access)
    return app


def _operation(route: APIRoute) -> str:
    """An operation's id: the name of its function, told apart by its module."""
    module = route.endpoint.__module__.rpartition(".")[2]
    return f"{module}_{route.name}"


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> Response:
        """The page; it asks the API for everything it shows."""
        return FileResponse(STATIC / "index.html", media_type="text/html")

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> Response:
        """Every route on one page."""
        return HTMLResponse(reference_page(app.openapi()))

    app.mount("/static", StaticFiles(directory=STATIC), name="static")

"""What the routes share: the store and settings at hand, and how a run is told."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request

from discover.service import shapes
from discover.service.settings import Settings
from discover.spec import MEANS, METRICS
from discover.store import ListedRun, Store


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


TheStore = Annotated[Store, Depends(_store)]
TheSettings = Annotated[Settings, Depends(_settings)]

Responses = dict[int | str, dict[str, Any]]

_MEANINGS = {
    401: "No token, or a wrong one.",
    403: "Not allowed on this server.",
    404: "There is no such thing.",
    409: "Not possible with a run that is as this one is.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "A parameter or a field cannot be used.",
    429: "Too many runs wait already.",
    503: "The database cannot be reached now.",
}


def answers(model: Any, *errors: int, status: int = 200) -> Responses:
    """What a route answers, for the OpenAPI: its model, and the errors that it may give."""
    found: Responses = {
        code: {"model": shapes.Problem, "description": _MEANINGS[code]}
        for code in sorted({401, 403, 422, 503, *errors})
    }
    if model is not None:
        found[status] = {"model": model}
    return found


def run_told(run: ListedRun) -> dict[str, Any]:
    """A run as the API tells it."""
    spec = run.spec
    told = {name: getattr(run, name) for name in ListedRun.__dataclass_fields__ if name != "graph"}
    return told | {
        "unit": METRICS.get(run.metric, ""),
        "mean_by": spec.get("mean_by", MEANS[0]),
        "order": spec.get("order", "canonical"),
        "prompts": spec.get("prompts"),
        "seed": spec.get("seed", 0),
    }

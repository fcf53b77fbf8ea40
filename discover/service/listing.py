"""Routes about what there is: evaluations, models, tasks, settings, workers, health, version."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from discover import __version__
from discover.catalogue import KNOWN_MODELS
from discover.order import ORDERS
from discover.service import shapes
from discover.service.answers import Json
from discover.service.bodies import MOST_NOTE, MOST_PROMPTS, MOST_TAUS, Id, NewRun
from discover.service.circuits import MEDIA
from discover.service.common import TheSettings, TheStore, answers
from discover.service.runs import evaluation_told
from discover.service.settings import PLANTED
from discover.spec import ABLATIONS, DTYPES, ENGINES, MEANS, METRICS
from discover.store import head
from discover.tasks import TASKS

router = APIRouter()

Ref = Annotated[str, Query(pattern=r"^(latest|[0-9a-fA-F]{1,16})$", description="A run.")]


@router.get(
    "/evaluations",
    summary="A run's evaluations",
    tags=["evaluations"],
    responses=answers(shapes.Evaluations, 404),
)
def evaluations(store: TheStore, run: Ref) -> Response:
    """The evaluations of a run's circuit, newest first, without their figures."""
    listed = store.listed_run(run)
    found = [] if listed.graph is None else store.evaluations(listed.id)
    return Json({"items": [evaluation_told(each) for each in found]})


@router.get(
    "/evaluations/{evaluation_id}",
    summary="Show an evaluation",
    tags=["evaluations"],
    responses=answers(shapes.EvaluationTold, 404),
)
def evaluation(store: TheStore, evaluation_id: Id) -> Response:
    """An evaluation with its figures."""
    record = store.evaluation(evaluation_id)
    figures = [dataclasses.asdict(figure) for figure in store.measurements(record.id)]
    return Json(evaluation_told(record) | {"measurements": figures})


@router.get("/models", summary="List models", tags=["settings"], responses=answers(shapes.Models))
def models(settings: TheSettings) -> Response:
    """The models that may be submitted here; `any`: hub names and paths too."""
    names = ("name", "description", "task", "edges", "available", "hint")
    items: list[dict[str, Any]] = [{n: getattr(m, n) for n in names} for m in KNOWN_MODELS]
    known = {model.name for model in KNOWN_MODELS}
    items += [
        {
            "name": name, "description": "allowed on this server", "task": "", "edges": None,
            "available": True, "hint": "",
        }
        for name in settings.models
        if name not in known
    ]  # fmt: skip
    return Json({"any": settings.any_model, "planted": PLANTED, "items": items})


@router.get("/tasks", summary="List tasks", tags=["settings"], responses=answers(shapes.Tasks))
def tasks() -> Response:
    """Every task with its options."""
    names = ("name", "description", "source", "prompts", "metric")
    return Json(
        {
            "items": [
                {n: getattr(task, n) for n in names}
                | {"options": {key: _allowed(value) for key, value in task.options.items()}}
                for task in TASKS.values()
            ]
        }
    )


def _allowed(value: tuple[str, ...] | type) -> list[str] | str:
    return list(value) if isinstance(value, tuple) else value.__name__


@router.get(
    "/settings",
    summary="What a form needs to know",
    tags=["settings"],
    responses=answers(shapes.ServerSettings),
)
def settings(settings: TheSettings) -> Response:
    """Every choice there is, the defaults, and what this server allows."""
    usual = NewRun(model="-", task=None)
    return Json(
        {
            "metrics": METRICS,
            "ablations": ABLATIONS,
            "means": MEANS,
            "orders": ORDERS,
            "engines": ENGINES,
            "dtypes": DTYPES,
            "formats": list(MEDIA),
            "defaults": usual.model_dump(exclude={"model", "options", "note"}),
            "any_model": settings.any_model,
            "auth": settings.token is not None,
            "limits": {
                "body": settings.max_body, "note": MOST_NOTE, "prompts": MOST_PROMPTS,
                "taus": MOST_TAUS, "queued": settings.max_queued,
            },
        }
    )  # fmt: skip


@router.get("/workers", summary="List workers", tags=["server"], responses=answers(shapes.Workers))
def workers(store: TheStore) -> Response:
    """Every worker on this database; alive if it has been heard of lately."""
    return Json({"items": [dataclasses.asdict(worker) for worker in store.workers()]})


@router.get("/health", summary="Is all well?", tags=["server"], responses=answers(shapes.Health))
def health(store: TheStore) -> Response:
    """Whether the database answers too; needs no token."""
    store.check()
    return Json({"status": "ok"})


@router.get("/version", summary="Versions", tags=["server"], responses=answers(shapes.Version))
def version() -> Response:
    """This program's version and its database's schema; needs no token."""
    return Json({"version": __version__, "schema": head()})

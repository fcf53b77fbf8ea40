"""Routes about sweeps: list, submit, show, cancel, delete."""

from __future__ import annotations

import contextlib
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from discover.errors import NotFoundError, StateError
from discover.service import shapes
from discover.service.answers import Json
from discover.service.bodies import Id, Limit, NewSweep, Offset
from discover.service.common import TheSettings, TheStore, answers, run_told
from discover.service.submission import submit_sweep
from discover.store import Store, SweepRecord

router = APIRouter(prefix="/sweeps", tags=["sweeps"])


@router.get("", summary="List sweeps", responses=answers(shapes.Sweeps))
def list_sweeps(store: TheStore, limit: Limit = 50, offset: Offset = 0) -> Response:
    """One page of the sweeps, newest first, each with the ids of its runs."""
    items = [_head(sweep) | {"runs": _points(sweep)} for sweep in store.sweeps(limit, offset)]
    return Json({"limit": limit, "offset": offset, "items": items})


@router.post(
    "",
    summary="Submit a sweep",
    status_code=201,
    responses=answers(shapes.Sweep, 413, 415, 429, status=201),
)
def submit(store: TheStore, settings: TheSettings, body: NewSweep) -> Response:
    """Put one run for each threshold into the queue; workers draft each from its neighbour."""
    sweep = store.sweep(submit_sweep(store, settings, body))
    told = _head(sweep) | {"runs": _points(sweep)}
    return Json(told, 201, {"location": f"sweeps/{sweep.id}"})


@router.get("/{sweep_id}", summary="Show a sweep", responses=answers(shapes.SweepTold, 404))
def show(store: TheStore, sweep_id: Id) -> Response:
    """A sweep with its runs as they stand, tau ascending."""
    return Json(_whole(store, store.sweep(sweep_id)))


@router.post(
    "/{sweep_id}/cancel", summary="Cancel a sweep", responses=answers(shapes.SweepTold, 404)
)
def cancel(store: TheStore, sweep_id: Id) -> Response:
    """Cancel every run of a sweep that waits or is under way; what has ended stays as it is."""
    sweep = store.sweep(sweep_id)
    for _, run_id in sweep.runs:
        with contextlib.suppress(StateError, NotFoundError):
            store.cancel(run_id)
    return Json(_whole(store, sweep))


@router.delete(
    "/{sweep_id}", summary="Delete a sweep", status_code=204, responses=answers(None, 404)
)
def delete(store: TheStore, sweep_id: Id) -> Response:
    """Remove a sweep; its runs stay."""
    store.delete_sweep(store.sweep(sweep_id).id)
    return Response(status_code=204)


def _head(sweep: SweepRecord) -> dict[str, Any]:
    spec = sweep.spec
    return {
        "id": sweep.id,
        "created_at": sweep.created_at,
        "model": spec.model,
        "task": spec.task or spec.prompts_file or "",
        "note": sweep.note,
        "spec": spec.to_json(),
    }


def _points(sweep: SweepRecord) -> list[dict[str, Any]]:
    return [{"tau": tau, "run": run_id} for tau, run_id in sweep.runs]


def _whole(store: Store, sweep: SweepRecord) -> dict[str, Any]:
    _, runs = store.listed(sweep=sweep.id, sort="tau", descending=False)
    return _head(sweep) | {"runs": [run_told(run) for run in runs]}

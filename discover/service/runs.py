"""Routes about runs: list, submit, show, note, delete, cancel, retry, and their decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from discover.acdc import Outcome
from discover.errors import StateError
from discover.service import shapes
from discover.service.answers import Json
from discover.service.bodies import (
    ROWS,
    SAFE_INT,
    Limit,
    NewNote,
    NewRun,
    Offset,
    RunRef,
)
from discover.service.common import TheSettings, TheStore, answers, run_told
from discover.service.submission import room, submit_run
from discover.store import ListedRun, Store
from discover.store.contract import ListedStatus
from discover.store.listing import SORTS

router = APIRouter(prefix="/runs", tags=["runs"])

LATELY = timedelta(seconds=60)
"""A run without a worker that was written to within this time counts as still under way."""

Sort = Literal[SORTS]  # type: ignore[valid-type]
Filter = Annotated[str | None, Query(max_length=500)]


@router.get("", summary="List runs", responses=answers(shapes.Runs))
def list_runs(
    store: TheStore,
    status: ListedStatus | None = None,
    model: Filter = None,
    task: Filter = None,
    metric: Filter = None,
    ablation: Filter = None,
    sweep: Annotated[str | None, Query(pattern=r"^[0-9a-f]{16}$")] = None,
    search: Annotated[
        str | None, Query(max_length=200, description="Part of an id, model, task or note.")
    ] = None,
    sort: Sort = SORTS[0],
    descending: bool = True,
    limit: Limit = 50,
    offset: Offset = 0,
) -> Response:
    """One page of the runs, newest first; those that only wait are among them."""
    total, found = store.listed(
        status=status, model=model, task=task, metric=metric, ablation=ablation, sweep=sweep,
        search=search, sort=sort, descending=descending, limit=limit, offset=offset,
    )  # fmt: skip
    return Json(
        {
            "total": total,
            "limit": limit,
            "offset": offset,
            "statuses": store.statuses(),
            "items": [run_told(run) for run in found],
        }
    )


@router.post(
    "",
    summary="Submit a run",
    status_code=201,
    responses=answers(shapes.Run, 413, 415, 429, status=201),
)
def submit(store: TheStore, settings: TheSettings, body: NewRun) -> Response:
    """Put a run into the queue; a worker takes it from there.

    What can be known without the model is checked here, and every field that cannot be used is
    named. The model must be one of `/api/models`.
    """
    run_id = submit_run(store, settings, body)
    return Json(run_told(store.listed_run(run_id)), 201, {"location": f"runs/{run_id}"})


@router.get("/{ref}", summary="Show a run", responses=answers(shapes.RunTold, 404))
def show(store: TheStore, ref: RunRef) -> Response:
    """A run with its checks, versions, sweeps and evaluations."""
    return Json(told_whole(store, store.listed_run(ref)))


@router.patch("/{ref}", summary="Write a run's note", responses=answers(shapes.Run, 404, 413, 415))
def note(store: TheStore, ref: RunRef, body: NewNote) -> Response:
    """Write what a person wants to remember of a run; empty text takes it away."""
    run_id = store.listed_run(ref).id
    store.set_note(run_id, body.note)
    return Json(run_told(store.listed_run(run_id)))


@router.delete("/{ref}", summary="Delete a run", status_code=204, responses=answers(None, 404, 409))
def delete(store: TheStore, ref: RunRef) -> Response:
    """Remove a run with its decisions and evaluations; one that is under way is refused."""
    run = store.listed_run(ref)
    if run.status == "running" and datetime.now(UTC) - run.updated_at < LATELY:
        raise StateError(
            f"run {run.id[:8]} is under way (it was last written to at "
            f"{run.updated_at:%H:%M:%S} UTC); cancel it first"
        )
    store.delete(run.id)
    return Response(status_code=204)


@router.post("/{ref}/cancel", summary="Cancel a run", responses=answers(shapes.Run, 404, 409))
def cancel(store: TheStore, ref: RunRef) -> Response:
    """Take a run out of the queue, or ask its worker to stop; what is decided stays stored."""
    return Json(run_told(store.listed_run(store.cancel(store.listed_run(ref).id).id)))


@router.post(
    "/{ref}/retry", summary="Go on with a run", responses=answers(shapes.Run, 404, 409, 429)
)
def retry(store: TheStore, settings: TheSettings, ref: RunRef) -> Response:
    """Put a failed, cancelled or interrupted run back into the queue."""
    run_id = store.listed_run(ref).id
    room(store, settings, 1)
    return Json(run_told(store.listed_run(store.retry(run_id).id)))


@router.get("/{ref}/decisions", summary="A run's decisions", responses=answers(shapes.Rows, 404))
def decisions(
    store: TheStore,
    ref: RunRef,
    after: Annotated[int, Query(ge=-1, le=SAFE_INT, description="The last step seen.")] = -1,
    limit: Annotated[int, Query(ge=1, le=ROWS)] = 1000,
    outcome: Outcome | None = None,
) -> Response:
    """One page of a run's decisions in step order; before it has begun there are none."""
    run = store.listed_run(ref)
    items, following = store.decision_page(run.id, after, limit, outcome)
    total = run.decided if outcome is None else store.outcomes(run.id)[outcome]
    return Json({"total": total, "next": following, "items": items})


def told_whole(store: Store, run: ListedRun) -> dict[str, Any]:
    """A run with all that is known of it."""
    record = None if run.graph is None else store.run(run.id)
    evaluations = [] if record is None else store.evaluations(run.id)
    return run_told(run) | {
        "evidence": {} if record is None else record.evidence,
        "versions": {} if record is None else record.versions,
        "evaluated": None if record is None else record.evaluated,
        "dead": None if record is None else record.dead,
        "damage_all_ablated": None if record is None else record.damage_all_ablated,
        "sweeps": store.sweeps_of(run.id),
        "evaluations": [evaluation_told(each) for each in evaluations],
    }


def evaluation_told(record: Any) -> dict[str, Any]:
    """An evaluation's record as the API tells it."""
    names = "id created_at circuit_hash settings prompts_hash versions seconds".split()
    return {"run": record.run_id} | {name: getattr(record, name) for name in names}

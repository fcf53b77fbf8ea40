"""Routes about circuits: as a picture's data, as files, side by side, and known ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request
from fastapi import Path as PathParameter
from starlette.responses import Response

from discover.canonical import CanonicalCircuit, canonical, canonical_names
from discover.canonical.planted import planted
from discover.errors import InputError, NotFoundError
from discover.evaluation.overlap import compare as overlap_of
from discover.export import FORMATS, CircuitExport, render
from discover.export.figure import Contrast
from discover.finished import (
    KNOWN,
    Named,
    check_done,
    comparison_json,
    of_known,
    of_run,
    stored_circuit,
)
from discover.page.data import MOST_EDGES, view_of_contrast, view_of_run
from discover.page.single import html
from discover.planted import PREFIX
from discover.service import shapes
from discover.service.answers import Json
from discover.service.bodies import RunRef
from discover.service.common import TheSettings, TheStore, answers
from discover.service.settings import Settings, check_planted
from discover.store import Store

router = APIRouter(tags=["circuits"])

MEDIA = {
    **{name: known.media_type for name, known in FORMATS.items()},
    "html": "text/html; charset=utf-8",
    "prompts": "application/jsonl",
}
"""What a run can be exported as, each with its media type."""

FIGURES = tuple(name for name, known in FORMATS.items() if known.kind == "figure")

Edges = Annotated[
    int,
    Query(ge=1, le=100_000, description="So many edges at most: those with the largest scores."),
]
Side = Annotated[str, Query(min_length=1, max_length=200, description="A run, or canonical:NAME.")]
Made = TypeVar("Made")


class Benches:
    """How many heavy answers are made at once: figures singly, since Graphviz takes no company."""

    def __init__(self) -> None:
        self.figures = CapacityLimiter(1)
        self.others = CapacityLimiter(2)

    async def make(self, what: str, work: Callable[[], Made]) -> Made:
        """Do the work on a thread once there is room."""
        limiter = self.figures if what in FIGURES else self.others
        return await to_thread.run_sync(work, limiter=limiter)


def _benches(request: Request) -> Benches:
    benches: Benches = request.app.state.benches
    return benches


@router.get(
    "/runs/{ref}/view",
    summary="A run's circuit as a picture's data",
    responses=answers(dict[str, Any], 404),
)
async def view(
    request: Request, store: TheStore, ref: RunRef, edges: Edges = MOST_EDGES
) -> Response:
    """Nodes with their places, kept edges with their scores, and the curve of damage.

    Of a run under way it is the circuit so far; before it has begun there are no nodes.
    """

    def work() -> Response:
        return Json(view_of_run(store, ref, edges))

    return await _benches(request).make("view", work)


@router.get(
    "/runs/{ref}/export/{fmt}",
    summary="A run's circuit as a file",
    response_class=Response,
    responses={
        **answers(None, 404, 409),
        200: {
            "description": "The file.",
            "content": {kind: {} for kind in sorted(set(MEDIA.values()))},
        },
    },
)
async def export(
    request: Request,
    store: TheStore,
    ref: RunRef,
    fmt: Literal[tuple(MEDIA)],  # type: ignore[valid-type]
) -> Response:
    """The circuit of a finished run in one format, or the prompts that a run used."""

    def work() -> Response:
        run_id = store.listed_run(ref).id
        content = exported(store, run_id, fmt)
        suffix = "prompts.jsonl" if fmt == "prompts" else fmt
        name = f"discover-{run_id[:8]}.{suffix}"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=MEDIA[fmt], headers=headers)

    return await _benches(request).make(fmt, work)


def exported(store: Store, run_id: str, fmt: str) -> bytes:
    """The bytes of an export.

    Raises:
        StateError: the run has no circuit, or no prompts, yet.
    """
    record = store.run(run_id)
    if fmt == "prompts":
        return store.prompts_jsonl(record.id).encode()
    if fmt == "html":
        check_done(record)
        return html(view_of_run(store, record.id))
    return render(stored_circuit(store, record), fmt)


@router.get(
    "/compare",
    summary="Two circuits side by side",
    responses=answers(shapes.ComparisonTold, 404, 409),
)
async def compare(
    request: Request,
    store: TheStore,
    settings: TheSettings,
    left: Side,
    right: Side,
    edges: Edges = MOST_EDGES,
) -> Response:
    """Hold one circuit (left) against another or a known one (right), of one graph.

    Precision is the share of the left that is in the right, recall the share of the right that is
    in the left.
    """

    def work() -> Response:
        one, other = (named(store, settings, ref) for ref in (left, right))
        found = overlap_of(one.circuit, other.circuit, other.roles)
        contrast = Contrast(one.circuit, other.circuit, one.name, other.name)
        ours, theirs = (CircuitExport(each.circuit, each.decisions) for each in (one, other))
        facts = {"model": one.model or other.model, "name": f"{one.name} and {other.name}"}
        if (record := one.record or other.record) is not None:
            spec = record.spec
            facts |= {"task": record.task, "metric": spec.metric, "ablation": spec.ablation}
        picture = view_of_contrast(contrast, facts, ours, theirs, edges)
        return Json(comparison_json(found, one, other) | {"view": picture})

    return await _benches(request).make("compare", work)


def named(store: Store, settings: Settings, ref: str) -> Named:
    """The circuit of that run, or the known one of that name.

    Raises:
        NotFoundError: there is none.
        StateError: the run is not done.
    """
    if ref.startswith(KNOWN):
        return of_known(known_circuit(settings, ref.removeprefix(KNOWN)))
    if not re.fullmatch(r"latest|[0-9a-fA-F]{1,16}", ref):
        raise NotFoundError(f"{ref!r} is neither a run's id nor canonical:NAME")
    return of_run(store, store.run(ref))


def known_circuit(settings: Settings, name: str) -> CanonicalCircuit:
    """The known circuit of that name; of planted models only those that may be used here.

    Raises:
        NotFoundError: there is none.
    """
    try:
        if not name.startswith(PREFIX):
            return canonical(name)
        # Not through `canonical`, which keeps whatever it was ever asked for.
        settings.check_model(name) if settings.any_model else check_planted(name)
        return planted(name)
    except InputError as error:
        raise NotFoundError(str(error)) from error


@router.get("/canonical", summary="List known circuits", responses=answers(shapes.KnownList))
def list_known() -> Response:
    """The circuits that are known already: published ones, and those of compiled programs."""
    return Json({"items": [_head(canonical(name)) for name in canonical_names()]})


@router.get(
    "/canonical/{name}", summary="Show a known circuit", responses=answers(shapes.KnownTold, 404)
)
def show_known(
    settings: TheSettings,
    name: Annotated[str, PathParameter(max_length=200, examples=["ioi"])],
) -> Response:
    """A known circuit with its roles, sources and edges; a planted one by its model's name."""
    known = known_circuit(settings, name)
    roles = {role: [node.name for node in nodes] for role, nodes in known.roles.items()}
    more = {"roles": roles, "sources": known.sources, "notes": known.notes}
    return Json(_head(known) | more | {"edges": [edge.name for edge in known.circuit.ordered]})


def _head(known: CanonicalCircuit) -> dict[str, Any]:
    return {"name": known.name, "model": known.model, "summary": known.summary}

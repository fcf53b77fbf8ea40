"""Evaluation as a person asks for it: runs or a circuit in; prompts, model and store at work."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from discover.ablation import Ablation
from discover.acdc import circuit_of
from discover.circuit import Circuit
from discover.errors import InputError, MismatchError, SpecError
from discover.evaluating.reports import Report
from discover.evaluating.request import Request
from discover.evaluating.unseen import Chosen, Tokens, choose_prompts
from discover.evaluation.curve import curve_of_circuits, ranked_edges, scores_of
from discover.evaluation.figures import Measurement
from discover.evaluation.measuring import Evaluation, evaluate
from discover.graph import Edge
from discover.model import Model, load_model
from discover.prompts.reading import clean_tokens
from discover.run import versions
from discover.session import How, ablation_of, check_device, numerics
from discover.sizes import parse_size
from discover.spec import RunSpec
from discover.store import EvaluationRecord, RunRecord, Store
from discover.storedfiles import fetch
from discover.tasks import get_task


@dataclass
class Watcher:
    """What a caller may watch: phases by name, how many circuits there are, each that was run."""

    phase: Callable[[str], None] = lambda _name: None
    total: Callable[[int], None] = lambda _circuits: None
    circuit: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Job:
    spec: RunSpec
    circuit: Circuit
    label: str
    ranking: Sequence[Edge] | None = None
    record: RunRecord | None = None
    roles: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def evaluate_runs(
    refs: Sequence[str],
    store: Store,
    request: Request | None = None,
    watcher: Watcher | None = None,
) -> list[Report]:
    """Evaluate finished runs on prompts that none of them has seen, and store every figure.

    Runs of one task on one model are evaluated on the same prompts; two or more of them also give
    the curve over their sizes. The runs themselves are only read.

    Raises:
        InputError: a run is unknown or unfinished, or model, prompts or settings do not fit.
    """
    request, watcher = request or Request(), watcher or Watcher()
    records = [_finished(store, ref) for ref in refs]
    if len({record.id for record in records}) < len(records):
        raise SpecError("a run is named twice; name each once")
    jobs: list[_Job] = []
    seen: dict[str, set[Tokens]] = {}
    for record in records:
        fetch(store, record.spec)
        rows = list(store.decisions(record.id))
        ranking = ranked_edges(record.graph, scores_of(rows))
        circuit = circuit_of(record.graph, rows)
        jobs.append(_Job(record.spec, circuit, record.id[:8], ranking, record))
        seen.setdefault(_source(record.spec), set()).update(
            clean_tokens(store.prompts_jsonl(record.id))
        )
    return _evaluate(jobs, seen, store, request, watcher)


def evaluate_circuit(
    circuit: Callable[[Model], Circuit],
    label: str,
    spec: RunSpec,
    store: Store | None,
    request: Request | None = None,
    watcher: Watcher | None = None,
) -> Report:
    """Evaluate a circuit that is no run's on the model and task of a spec.

    `circuit` makes it once the model is loaded, for the model's graph. Without a store nothing is
    kept.

    Raises:
        InputError: the circuit is not the model's, or model, prompts or settings do not fit.
    """
    request, watcher = request or Request(), watcher or Watcher()
    watcher.phase("loading the model")
    check_device(request.device)
    model = load_model(spec.model, spec.dtype, request.device)
    job = _Job(spec, circuit(model), label)
    return _evaluate([job], {}, store, request, watcher, {_model_key(spec): model})[0]


def _finished(store: Store, ref: str) -> RunRecord:
    record = store.run(ref)
    if record.status != "done":
        raise SpecError(
            f"run {record.id[:8]} is {record.status} with {record.decided:,} of {record.edges:,} "
            f"edges decided; finish it first: discover resume {record.id[:8]}"
        )
    return record


def _source(spec: RunSpec) -> str:
    """Runs whose prompts come from one place."""
    facts = (spec.model, spec.weights_hash, spec.task, spec.prompts_file, spec.bos)
    return json.dumps([*facts, spec.task_options], sort_keys=True)


def _model_key(spec: RunSpec) -> tuple[str, str]:
    return spec.model, spec.dtype


def _evaluate(
    jobs: Sequence[_Job],
    seen: Mapping[str, set[Tokens]],
    store: Store | None,
    request: Request,
    watcher: Watcher,
    models: dict[tuple[str, str], Model] | None = None,
) -> list[Report]:
    models = {} if models is None else models
    check_device(request.device)
    # All of them first: what is refused should cost no loading, and no other run its figures.
    specs = [_as_requested(job.spec, request) for job in jobs]
    chosen: dict[str, Chosen] = {}
    done: list[Done] = []
    reports: list[Report] = []
    for job, spec in zip(jobs, specs, strict=True):
        if _model_key(job.spec) not in models:
            watcher.phase("loading the model")
            models[_model_key(job.spec)] = load_model(
                job.spec.model, job.spec.dtype, request.device
            )
        model = models[_model_key(job.spec)]
        _check_model(job, model)
        key = _source(job.spec) + (job.spec.prompts_hash if request.same_prompts else "")
        if key not in chosen:
            watcher.phase("making the prompts")
            chosen[key] = choose_prompts(
                job.spec, model, seen.get(_source(job.spec), set()), request
            )
        watcher.phase(f"evaluating {job.label}")
        found = _measure(job, spec, model, chosen[key], request, watcher)
        done.append((job, spec, chosen[key], found))
        # At once: whatever becomes of the others, this one is not lost.
        reports.append(_stored(store, request, *done[-1]))
    return [
        _with_rows(store, report, rows)
        for report, rows in zip(reports, _sweep_rows(done), strict=True)
    ]


def _check_model(job: _Job, model: Model) -> None:
    then = job.spec.weights_hash
    if then and then != model.weights_hash:
        raise MismatchError(
            f"the weights of {job.spec.model} are not those that run {job.label} was searched with "
            f"(sha256 {then[:12]} then, {model.weights_hash[:12]} now); restore the model"
        )
    if job.circuit.graph != model.graph:
        raise MismatchError(f"the circuit {job.label} is not of the graph of {job.spec.model}")


def _as_requested(spec: RunSpec, request: Request) -> RunSpec:
    """The run's spec with the metric and ablation that are asked for.

    `accuracy` is no metric of a search; it stands beside the spec.

    Raises:
        SpecError: the metric or ablation is none, or says nothing about such a model.
    """
    metric = request.metric or spec.metric
    if metric == "kl" and spec.task is not None and get_task(spec.task).metric == "l2":
        raise SpecError(
            f"the outputs of task {spec.task} are values of a program, not logits, so KL says "
            "nothing about them; use --metric l2"
        )
    changes: dict[str, Any] = {}
    if request.ablation is not None and request.ablation != spec.ablation:
        usual = {f.name: f.default for f in dataclasses.fields(RunSpec)}
        changes = {
            "ablation": request.ablation,
            "mean_by": usual["mean_by"],
            "reference": None,
            "reference_hash": "",
        }
    if request.mean_by is not None:
        changes["mean_by"] = request.mean_by
    if request.reference is not None:
        changes |= {"reference": request.reference, "reference_hash": ""}
    return dataclasses.replace(spec, metric="kl" if metric == "accuracy" else metric, **changes)


def _measure(
    job: _Job, spec: RunSpec, model: Model, chosen: Chosen, request: Request, watcher: Watcher
) -> Evaluation:
    settings = request.settings(request.metric or job.spec.metric, _ablation(spec, model))
    watcher.total(request.budget.circuits(job.circuit, 10 if job.ranking else 0))
    memory = None if request.memory is None else parse_size(request.memory)
    with numerics(How(threads=request.threads), model):
        return evaluate(
            model, job.circuit, chosen.prompts, settings, ranking=job.ranking,
            roles=job.roles, memory=memory, on_circuit=watcher.circuit,
        )  # fmt: skip


def _ablation(spec: RunSpec, model: Model) -> Ablation:
    """The ablation; where the reference prompts of a mean cannot be had, how to do without."""
    try:
        return ablation_of(spec, model)
    except InputError as error:
        if spec.reference is None or not spec.reference_hash:
            raise
        raise type(error)(
            f"{error}; or evaluate with a mean over other prompts (--reference) or with another "
            "--ablation"
        ) from error


Done = tuple[_Job, RunSpec, Chosen, Evaluation]


def _sweep_rows(done: Sequence[Done]) -> list[list[Measurement]]:
    """For each evaluation the areas of the curve through all runs that were measured alike."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for at, (job, spec, chosen, found) in enumerate(done):
        key = (
            *_model_key(job.spec), spec.ablation, spec.mean_by, str(spec.reference),
            # A number of reference prompts is of those that the seed gives.
            spec.seed if isinstance(spec.reference, int) else None,
            found.settings.metric, chosen.prompts.hash,
        )  # fmt: skip
        groups.setdefault(key, []).append(at)
    rows: list[list[Measurement]] = [[] for _ in done]
    for members in groups.values():
        points = []
        for at in members:
            found = done[at][3]
            try:
                points.append((len(found.circuit), found.value("circuit", "faithfulness")))
            except KeyError:
                break
        if len(members) < 2 or len(points) < len(members):
            continue
        curve = curve_of_circuits(len(done[members[0]][3].circuit.graph), points)
        facts = {
            "runs": [done[at][0].label for at in members],
            "edges": list(curve.edges),
            "faithfulness": list(curve.values),
        }
        for at in members:
            rows[at] += [
                Measurement("sweep", "cpr", curve.cpr, extra=facts),
                Measurement("sweep", "cmd", curve.cmd, extra=facts),
            ]
    return rows


def _with_rows(store: Store | None, report: Report, rows: Sequence[Measurement]) -> Report:
    """The report with the figures that only all runs together give."""
    if store is not None and rows:
        store.add_measurements(report.record.id, rows)
    return dataclasses.replace(report, measurements=(*report.measurements, *rows))


def _stored(
    store: Store | None,
    request: Request,
    job: _Job,
    spec: RunSpec,
    chosen: Chosen,
    found: Evaluation,
) -> Report:
    rows = found.measurements
    settings = {
        "model": job.spec.model,
        "task": job.spec.task or job.spec.prompts_file,
        "circuit": job.label,
        "metric": found.settings.metric,
        "ablation": spec.ablation,
        "mean_by": spec.mean_by if spec.ablation == "mean" else None,
        "reference": spec.reference,
        "prompts": chosen.facts,
        "budget": dataclasses.asdict(request.budget),
        "draw_seed": request.draw_seed,
        "level": request.level,
        "alpha": request.alpha,
        "quantile": request.quantile,
        "epsilon": request.epsilon,
        "forwards": found.forwards,
        "notes": [*chosen.notes, *found.notes],
    }
    facts: dict[str, Any] = {
        "circuit_hash": job.circuit.hash,
        "settings": settings,
        "versions": versions(),
        "seconds": found.seconds,
    }
    if store is None:
        record = _unstored(chosen, **facts)
    else:
        record = store.add_evaluation(
            job.record.id if job.record else None,
            prompts_jsonl=chosen.prompts.jsonl(),
            measurements=rows,
            **facts,
        )
    return Report(record, rows, job.record)


def _unstored(chosen: Chosen, **facts: Any) -> EvaluationRecord:
    key = hashlib.sha256(chosen.prompts.jsonl().encode()).hexdigest()
    return EvaluationRecord(
        id="", run_id=None, created_at=datetime.now(UTC), prompts_hash=key, **facts
    )

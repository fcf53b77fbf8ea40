"""From a body to what is submitted: the same checks as on the command line, by field."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from discover.acdc import check_tau
from discover.errors import DiscoverError, PromptError, SpecError, StoreUnavailableError
from discover.methods import METHODS, check_method
from discover.order import check_order
from discover.service.answers import FieldError, QueueFullError
from discover.service.bodies import MOST_TAUS, Behaviour, NewRun, NewSweep, UploadedFile
from discover.service.settings import Settings
from discover.sizes import parse_size
from discover.spec import RunSpec
from discover.store import Store
from discover.tasks import check_options, get_task
from discover.thresholds import parse_taus

Found = TypeVar("Found")


def submit_run(store: Store, settings: Settings, body: NewRun) -> str:
    """Put a run into the queue; returns its id.

    Raises:
        FieldError: a field cannot be used.
        QueueFullError: too many wait already.
    """
    return _submit(store, settings, body, (body.tau,), sweep=False)[1][0]


def submit_sweep(store: Store, settings: Settings, body: NewSweep) -> str:
    """Put a run for each threshold into the queue; returns the sweep's id.

    Raises:
        FieldError: a field cannot be used.
        QueueFullError: too many wait already.
    """
    checks = _Checks()
    found = checks.of("taus", lambda: taus_of(body.taus))
    checks.end()
    assert found is not None
    sweep_id, _ = _submit(store, settings, body, found, sweep=True)
    assert sweep_id is not None
    return sweep_id


def taus_of(given: list[float] | str) -> tuple[float, ...]:
    """The thresholds of a sweep, ascending and each once.

    Raises:
        SpecError: one is none, or there are too many.
    """
    taus = parse_taus(given) if isinstance(given, str) else given
    found = tuple(sorted({check_tau(tau) for tau in taus}))
    if len(found) > MOST_TAUS:
        raise SpecError(f"a sweep has at most {MOST_TAUS} thresholds here, got {len(found)}")
    return found


class _Checks:
    """Every field is checked before anything is said, so that all is said at once."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, DiscoverError]] = []

    def of(self, field: str, check: Callable[[], Found]) -> Found | None:
        """What a check gives, or None where it says what is wrong with its field."""
        try:
            return check()
        except StoreUnavailableError:
            raise
        except DiscoverError as error:
            self.failed.append((field, error))
            return None

    def end(self) -> None:
        """Raise FieldError if anything was wrong."""
        if self.failed:
            raise FieldError(self.failed)


def _submit(
    store: Store, settings: Settings, body: Behaviour, taus: tuple[float, ...], *, sweep: bool
) -> tuple[str | None, list[str]]:
    checks = _Checks()
    for tau in taus:
        checks.of("taus" if sweep else "tau", lambda tau=tau: check_tau(tau))  # type: ignore[misc]
    checks.of("model", lambda: settings.check_model(body.model))
    checks.of("order", lambda: check_order(body.order))
    task_options = _prompts(checks, body)
    _mean(checks, body)
    options = _options(checks, store, body, sweep=sweep)
    for field in ("prompts_file", "reference"):
        checks.of(field, lambda field=field: _known(store, getattr(body, field)))  # type: ignore[misc]
    checks.end()
    room(store, settings, len(taus))
    try:
        spec = RunSpec(
            model=body.model,
            task=body.task,
            prompts_file=_stored(store, body.prompts_file),
            prompts=body.prompts,
            seed=body.seed,
            task_options=task_options,
            bos=body.bos,
            metric=body.metric,
            ablation=body.ablation,
            mean_by=body.mean_by,
            reference=_reference(store, body.reference),
            order=body.order,
            tau=taus[0],
            dtype=body.dtype,
        )
    except SpecError as error:
        raise FieldError([("", error)]) from error
    return store.submit(
        spec,
        taus=taus if sweep else None,
        engine=body.engine,
        options=options,
        note=body.note,
    )


def _prompts(checks: _Checks, body: Behaviour) -> dict[str, Any]:
    """The task's options as it takes them; and either a task or a file must be there."""
    if (body.task is None) == (body.prompts_file is None):
        neither = body.task is None
        text = "give a task, or prompts of your own" + ("" if neither else ", and not both")
        checks.failed.append(("task" if neither else "prompts_file", SpecError(text)))
        return {}
    if body.task is None:
        if body.task_options:
            text = "options belong to a task, not to prompts of your own; drop them"
            checks.failed.append(("task_options", SpecError(text)))
        return {}
    task = checks.of("task", lambda: get_task(body.task or ""))
    if task is None:
        return {}
    found: dict[str, Any] = {}
    for key, value in body.task_options.items():
        checked = checks.of(
            f"task_options.{key}",
            lambda key=key, value=value: check_options(task, {key: value}),  # type: ignore[misc]
        )
        found |= checked or {}
    return found


def _mean(checks: _Checks, body: Behaviour) -> None:
    """The fields of a mean ablation, which belong to no other."""
    if body.ablation != "mean":
        for field, given in (
            ("mean_by", body.mean_by != "position"),
            ("reference", body.reference),
        ):
            if given:
                text = f"{field} belongs to the ablation mean, not to {body.ablation}"
                checks.failed.append((field, SpecError(text)))
    elif isinstance(body.reference, int) and body.task is None:
        text = "a number of reference prompts needs a task to make them; give a file"
        checks.failed.append(("reference", SpecError(text)))


def _options(checks: _Checks, store: Store, body: Behaviour, *, sweep: bool) -> dict[str, Any]:
    """The options of a job: bytes of memory, and a draft's method or its run's whole id."""
    given = body.options
    found: dict[str, Any] = {"block": given.block, "threads": given.threads}
    if given.memory is not None:
        memory = given.memory
        found["memory"] = checks.of("options.memory", lambda: parse_size(memory))
    if given.draft is not None and sweep:
        text = "a sweep drafts each threshold from its neighbour; drop the draft"
        checks.failed.append(("options.draft", SpecError(text)))
    elif given.draft is not None:
        draft = given.draft
        found["draft"] = checks.of("options.draft", lambda: _draft(store, draft, body.metric))
    if body.engine == "reference":
        for key in ("block", "draft"):
            if found.get(key) is not None:
                text = "the reference engine does not speculate; drop it, or use the engine exact"
                checks.failed.append((f"options.{key}", SpecError(text)))
    return {key: value for key, value in found.items() if value is not None}


def _draft(store: Store, draft: str, metric: str) -> str:
    if draft in METHODS:
        check_method(draft, metric)
        return draft
    return store.run(draft).id


_PATHS = re.compile(r"[/\\]")


def _known(store: Store, given: UploadedFile | str | int | None) -> None:
    """Refuse a stored file that is not there, and an upload that is not a prompts file's name."""
    if isinstance(given, str):
        store.file(given)
    elif isinstance(given, UploadedFile):
        if _PATHS.search(given.name):
            raise PromptError("a file's name has no directories in it; give the last part alone")
        if not given.text.strip():
            raise PromptError(f"the file {given.name!r} is empty")


def _stored(store: Store, given: UploadedFile | str | None) -> str | None:
    """The name by which the spec calls a file; an uploaded one is stored."""
    if isinstance(given, UploadedFile):
        return store.add_file(given.name, given.text)
    return given


def _reference(store: Store, given: int | UploadedFile | str | None) -> int | str | None:
    return given if isinstance(given, int) else _stored(store, given)


def room(store: Store, settings: Settings, more: int) -> None:
    """Refuse to let so many more runs wait if that is more than the server lets.

    Raises:
        QueueFullError: it is.
    """
    waiting = store.statuses().get("queued", 0)
    if waiting + more > settings.max_queued:
        raise QueueFullError(
            f"{waiting:,} runs wait already and this server lets {settings.max_queued:,} wait "
            "(--max-queued); submit again when some are done, or cancel some"
        )

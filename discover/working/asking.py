"""What can be said of a run that is asked for before any model is loaded: no torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discover.errors import PromptError, SpecError
from discover.methods import METHODS, check_method
from discover.prompts.reading import check_text
from discover.sizes import parse_size
from discover.spec import ENGINES, RunSpec
from discover.store import Store
from discover.store.jobrows import check_known
from discover.store.sweeps import STORED_FILE
from discover.tasks import check_options as check_task_options
from discover.tasks import get_task


def check_asked(
    spec: RunSpec, engine: str = ENGINES[0], options: Mapping[str, Any] | None = None
) -> None:
    """Refuse what no worker could run, as far as that can be known without model and prompts.

    Raises:
        SpecError: engine and options are none, or do not go together.
        TaskError: the task is none, or has no such option.
    """
    if spec.task is not None:
        check_task_options(get_task(spec.task), spec.task_options)
    check_options(spec, engine, options or {})


def check_options(spec: RunSpec, engine: str, options: Mapping[str, Any]) -> None:
    """Refuse an engine and options of a job (`jobrows.OPTIONS`) that are unknown or unusable.

    `block` and `threads` are whole numbers from 1, `memory` a size (`4GiB`) or bytes, `draft` a
    method or the id of a run; each may be None.

    Raises:
        SpecError: one is.
    """
    check_known(engine, options)
    for name in ("block", "threads"):
        value = options.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise SpecError(f"{name} must be a whole number from 1, got {value!r}")
    memory, draft = options.get("memory"), options.get("draft")
    if memory is not None:
        if isinstance(memory, bool) or not isinstance(memory, str | int):
            raise SpecError(f"memory must be a size such as 4GiB, got {memory!r}")
        parse_size(str(memory))
    if draft is not None and not isinstance(draft, str):
        raise SpecError(f"draft must be a run or a method, got {draft!r}")
    if engine == "reference" and (options.get("block") is not None or draft is not None):
        raise SpecError(
            "the reference engine does not speculate; drop the block size and the draft"
        )
    if draft in METHODS:
        check_method(draft, spec.metric)


def with_stored_files(store: Store, spec: RunSpec) -> RunSpec:
    """The spec with every local prompts file in it put into the database, for workers elsewhere.

    Raises:
        PromptError: a file cannot be read, or no prompts can be in it.
        StoreError: it cannot be stored.
    """
    changes: dict[str, Any] = {
        field: store.add_file(Path(name).name, _text(Path(name)))
        for field, name in (("prompts_file", spec.prompts_file), ("reference", spec.reference))
        if isinstance(name, str) and not STORED_FILE.fullmatch(name)
    }
    return dataclasses.replace(spec, **changes)


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"cannot read prompts file {path}: {error}; save it as UTF-8 text (.jsonl, .csv, .tsv)"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise PromptError(f"cannot read prompts file {path}: {reason}") from error
    check_text(path, text)
    return text

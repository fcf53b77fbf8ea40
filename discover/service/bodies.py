"""What comes in: bodies and parameters, each with its limits; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr
from pydantic_core import PydanticCustomError

from discover.spec import ABLATIONS, DTYPES, ENGINES, MEANS, METRICS
from discover.store.sweeps import STORED_FILE

MOST_PROMPTS = 100_000
SAFE_INT = 2**53 - 1
"""Beyond this JavaScript's numbers, and so the page's, are no longer exact."""

MOST_NOTE = 10_000
PAGE = 200
"""Runs, sweeps or evaluations of one page at most."""

ROWS = 10_000
"""Decisions of one page at most."""

MOST_TAUS = 200
"""Runs of one sweep at most."""

RunRef = Annotated[
    str,
    Path(
        pattern=r"^(latest|[0-9a-fA-F]{1,16})$",
        description="A run's id, an unambiguous beginning of it, or `latest`.",
        examples=["latest"],
    ),
]
Id = Annotated[
    str,
    Path(pattern=r"^[0-9a-f]{1,16}$", description="An id, or an unambiguous beginning of it."),
]
Limit = Annotated[int, Query(ge=1, le=PAGE, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, le=SAFE_INT, description="How many to pass over.")]
Short = Annotated[StrictStr, Field(max_length=200)]


class Body(BaseModel):
    """Any body: unknown keys and infinities are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class UploadedFile(Body):
    """A file's name and its text; never a path."""

    name: Annotated[StrictStr, Field(min_length=1, max_length=200, examples=["mine.jsonl"])]
    text: Annotated[StrictStr, Field(min_length=1)]


StoredName = Annotated[
    StrictStr,
    Field(
        pattern=f"^{STORED_FILE.pattern}$",
        description="The name that the server gave a file that was uploaded before.",
    ),
]


def _no_path(value: Any) -> Any:
    """Say plainly that text in a file's place is no path that anyone would read."""
    if isinstance(value, str) and not STORED_FILE.fullmatch(value):
        raise PydanticCustomError(
            "path", "paths are not read here; send the file itself, as its name and its text"
        )
    return value


TheFile = Annotated[UploadedFile | StoredName, BeforeValidator(_no_path)]
Seed = Annotated[StrictInt, Field(ge=0, le=SAFE_INT)]
Prompts = Annotated[StrictInt, Field(ge=1, le=MOST_PROMPTS)]


class RunOptions(Body):
    """What changes a run's cost and never its circuit."""

    block: Annotated[StrictInt, Field(ge=1, le=100_000)] | None = Field(
        default=None, description="Speculate on at most so many decisions at once."
    )
    memory: Annotated[StrictStr, Field(max_length=40)] | None = Field(
        default=None,
        description="Work in so much memory, beside the model's weights.",
        examples=["4GiB"],
    )
    draft: (
        Annotated[StrictStr, Field(pattern=r"^(eap|eap-ig|latest|[0-9a-fA-F]{1,16})$")] | None
    ) = Field(default=None, description="A run whose decisions are guessed, or eap or eap-ig.")
    threads: Annotated[StrictInt, Field(ge=1, le=1024)] | None = Field(
        default=None, description="CPU threads of the worker."
    )


class Behaviour(Body):
    """What a run and a sweep have in common: model, prompts, metric, ablation, order."""

    model: Annotated[StrictStr, Field(min_length=1, max_length=500, examples=["tiny-ioi"])]
    task: Short | None = Field(
        default=None, description="A name of `/api/tasks`.", examples=["ioi"]
    )
    prompts_file: TheFile | None = Field(
        default=None, description="Your own prompts instead of a task's."
    )
    prompts: Prompts | None = Field(
        default=None, description="How many prompt pairs (null: the task's usual number, or all)."
    )
    seed: Seed = 0
    task_options: Annotated[dict[Short, StrictBool | StrictInt | Short], Field(max_length=20)] = (
        Field(default_factory=dict, description="The task's own options, see `/api/tasks`.")
    )
    bos: StrictBool = Field(
        default=False, description="Put a BOS token in front where there is none."
    )
    metric: Literal[tuple(METRICS)] = "kl"  # type: ignore[valid-type]
    ablation: Literal[ABLATIONS] = "resample"  # type: ignore[valid-type]
    mean_by: Literal[MEANS] = MEANS[0]  # type: ignore[valid-type]
    reference: Prompts | TheFile | None = Field(
        default=None,
        description="What a mean ablation is over: so many further prompts, or a file.",
    )
    order: Short = Field(default="canonical", examples=["canonical", "random:0"])
    dtype: Literal[DTYPES] = "float32"  # type: ignore[valid-type]
    engine: Literal[ENGINES] = ENGINES[0]  # type: ignore[valid-type]
    options: RunOptions = RunOptions()
    note: Annotated[StrictStr, Field(max_length=MOST_NOTE)] = ""


class NewRun(Behaviour):
    """A run to be submitted."""

    tau: Annotated[float, Field(gt=0, strict=True)] = Field(
        default=0.02, description="Remove an edge if its score is below this (the metric's unit)."
    )


class NewSweep(Behaviour):
    """A sweep to be submitted: one run for each threshold."""

    taus: (
        Annotated[
            list[Annotated[float, Field(strict=True)]],
            Field(min_length=1, max_length=MOST_TAUS),
        ]
        | Annotated[StrictStr, Field(min_length=1, max_length=2000)]
    ) = Field(description="Thresholds, as numbers or as text.", examples=["0.001:1:20log"])


class NewNote(Body):
    """What a person wants to remember of a run; empty text takes it away."""

    note: Annotated[StrictStr, Field(max_length=MOST_NOTE)]


class Login(Body):
    """The server's token."""

    token: Annotated[StrictStr, Field(max_length=1000)]


AnyBody = Annotated[Any, Field(description="Nothing is read from it.")]

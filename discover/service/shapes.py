"""What the answers look like: for the OpenAPI, and so for whoever writes a client."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from discover.acdc import Outcome
from discover.store.contract import ListedStatus

Number = float | Literal["Infinity", "-Infinity"]
"""JSON has no infinities: they are strings."""


class Answer(BaseModel):
    """Any answer."""

    model_config = ConfigDict(extra="forbid")


class WrongField(Answer):
    """One field of a request that cannot be used."""

    field: str = Field(examples=["tau"])
    message: str


class ErrorTold(Answer):
    """What went wrong."""

    kind: str = Field(description="The error's class.", examples=["SpecError"])
    message: str = Field(description="One line for a person.")
    fields: list[WrongField] = Field(description="The fields that are to blame, if any are.")


class Problem(Answer):
    """Every answer with a status of 400 or more."""

    error: ErrorTold


class Run(Answer):
    """A run as it stands in the list; kept edges and damage are those so far while it runs."""

    id: str
    status: ListedStatus
    cancelling: bool = Field(description="Its worker has been asked to stop.")
    model: str
    task: str = Field(description="The task's name, or that of the prompts file.")
    metric: str
    unit: str = Field(description="The unit of tau, damage and scores.")
    ablation: str
    mean_by: str
    tau: float
    order: str
    prompts: int | None
    seed: int
    engine: str
    note: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    seconds: float
    attempt: int
    worker: str | None
    error: str | None
    edges: int | None
    decided: int
    kept: int | None
    damage: Number | None
    circuit_hash: str | None
    spec: dict[str, Any]


class EvaluationHead(Answer):
    """An evaluation without its figures."""

    id: str
    run: str | None
    created_at: datetime
    circuit_hash: str
    settings: dict[str, Any]
    prompts_hash: str
    versions: dict[str, str]
    seconds: float


class Figure(Answer):
    """One figure of an evaluation."""

    subject: str
    measure: str
    value: Number
    unit: str
    low: Number | None
    high: Number | None
    extra: dict[str, Any]


class EvaluationTold(EvaluationHead):
    """An evaluation with its figures."""

    measurements: list[Figure]


class Evaluations(Answer):
    """A run's evaluations, newest first."""

    items: list[EvaluationHead]


class RunTold(Run):
    """A run with all that is known of it."""

    evidence: dict[str, Any]
    versions: dict[str, str]
    evaluated: int | None
    dead: int | None
    damage_all_ablated: Number | None
    sweeps: list[str] = Field(description="The ids of the sweeps that it belongs to.")
    evaluations: list[EvaluationHead]


class Runs(Answer):
    """One page of runs."""

    total: int
    limit: int
    offset: int
    statuses: dict[str, int] = Field(description="How many runs there are of each status.")
    items: list[Run]


class Row(Answer):
    """One decision."""

    step: int
    sender: str
    receiver: str
    before: Number
    after: Number
    score: Number
    outcome: Outcome
    float64: bool


class Rows(Answer):
    """One page of decisions."""

    total: int = Field(description="How many there are, of that outcome if one was asked for.")
    next: int | None = Field(description="What `after` is for the next page; null at the end.")
    items: list[Row]


class SweepPoint(Answer):
    """One run of a sweep."""

    tau: float
    run: str


class SweepHead(Answer):
    """A sweep."""

    id: str
    created_at: datetime
    model: str
    task: str
    note: str
    spec: dict[str, Any]


class Sweep(SweepHead):
    """A sweep and the ids of its runs, tau ascending."""

    runs: list[SweepPoint]


class SweepTold(SweepHead):
    """A sweep and its runs, tau ascending."""

    runs: list[Run]


class Sweeps(Answer):
    """One page of sweeps."""

    limit: int
    offset: int
    items: list[Sweep]


class Model(Answer):
    """A model that can be submitted here."""

    name: str
    description: str
    task: str
    edges: int | None
    available: bool
    hint: str


class Models(Answer):
    """The models, and whether any other may be submitted too."""

    any: bool
    planted: dict[str, int] = Field(description="The most of each setting of a planted model.")
    items: list[Model]


class Task(Answer):
    """A task; each option has its values, or the name of its type."""

    name: str
    description: str
    source: str
    prompts: int
    metric: str
    options: dict[str, list[str] | Literal["int", "str"]]


class Tasks(Answer):
    """All tasks."""

    items: list[Task]


class Known(Answer):
    """A circuit that is known already."""

    name: str
    model: str
    summary: str


class KnownList(Answer):
    """The known circuits."""

    items: list[Known]


class KnownTold(Known):
    """A known circuit with its edges."""

    roles: dict[str, list[str]]
    sources: list[str]
    notes: list[str]
    edges: list[str]


class Worker(Answer):
    """A worker; alive if it has been heard of lately."""

    id: str
    host: str
    pid: int
    device: str
    started_at: datetime
    heartbeat_at: datetime
    run_id: str | None
    alive: bool


class Workers(Answer):
    """All workers."""

    items: list[Worker]


class ServerSettings(Answer):
    """What a form needs to know."""

    metrics: dict[str, str] = Field(description="Each metric's unit.")
    ablations: list[str]
    means: list[str]
    orders: list[str]
    engines: list[str]
    dtypes: list[str]
    formats: list[str]
    defaults: dict[str, Any]
    any_model: bool
    auth: bool
    limits: dict[str, int]


class Health(Answer):
    """Whether the server and its database answer."""

    status: Literal["ok"]


class Version(Answer):
    """What runs here."""

    version: str
    schema_: str = Field(alias="schema", description="The database's schema.")


class Side(Answer):
    """One of two circuits that are compared."""

    name: str
    run: str | None
    model: str | None
    edges: int
    nodes: int
    circuit_hash: str


class Overlap(Answer):
    """How far the left agrees with the right; ratios with nothing below the line are null."""

    shared: int
    only_left: int
    only_right: int
    precision: float | None
    recall: float | None
    f1: float | None
    jaccard: float | None


class RoleTold(Answer):
    """How much of one role of the right circuit the left one has."""

    role: str
    nodes: list[str]
    found: list[str]
    recall: float | None
    edges: int
    edges_found: int
    edge_recall: float | None


class ComparisonTold(Answer):
    """Two circuits held against each other, and both as one picture."""

    left: Side
    right: Side
    edges: Overlap
    nodes: Overlap
    roles: list[RoleTold]
    spec_differences: dict[str, dict[str, Any]]
    view: dict[str, Any]

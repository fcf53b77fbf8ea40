"""RunSpec: everything that determines a run's circuit; frozen, validated, hashed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from discover.acdc import check_tau
from discover.errors import SpecError
from discover.order import check_order

METRICS = {
    "kl": "nats",
    "logit_diff": "logits",
    "prob_diff": "probability",
    "nll": "nats",
    "l2": "squared logits",
}
"""Each metric's unit; damage is higher the worse, in all of them."""

ABLATIONS = ("resample", "mean", "zero")

MEANS = ("position", "role", "all")
"""Which positions a mean ablation averages together; the first is the default."""

DTYPES = ("float32", "float64", "bfloat16")

INEXACT_DTYPES = ("bfloat16",)
"""Too coarse for a decision to be the same everywhere; only ever used if asked for."""

ENGINES = ("exact", "reference")
"""The first is the default; both give the same circuit."""


SPEC_VERSION = 1

_NONE = type(None)
_WORDS = {str: "a string", int: "a whole number", bool: "true or false", dict: "an object"}
_TYPES: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "task": (str, _NONE),
    "prompts_file": (str, _NONE),
    "prompts": (int, _NONE),
    "seed": (int,),
    "task_options": (dict,),
    "bos": (bool,),
    "metric": (str,),
    "ablation": (str,),
    "mean_by": (str,),
    "reference": (int, str, _NONE),
    "order": (str,),
    "dtype": (str,),
    "weights_hash": (str,),
    "prompts_hash": (str,),
    "reference_hash": (str,),
    "version": (int,),
}

_LATER = ("mean_by", "reference", "reference_hash", "order")
"""Fields that came after the first specs were stored: left out while they have no effect."""


@dataclass(frozen=True)
class RunSpec:
    """What a run searches, on what, and by which rule: the same spec gives the same circuit.

    Either `task` or `prompts_file` says where the prompts come from; `task_options` are the task's
    own. `mean_by` and `reference` belong to the mean ablation: which positions are averaged
    together, and over which prompts' corrupted sides (None: the run's own; a number: so many
    further ones of the task; else a prompts file). `order` is that of the edges. `weights_hash`,
    `prompts_hash` and `reference_hash` pin the model and the tokens (and, where means go by role,
    the roles), and are empty until they are
    known. What only changes cost (engine, threads, batch size) is no part of the spec.

    Raises:
        SpecError: a field is out of its range.
    """

    model: str
    task: str | None = None
    prompts_file: str | None = None
    prompts: int | None = None
    seed: int = 0
    task_options: dict[str, Any] = field(default_factory=dict)
    bos: bool = False
    metric: str = "kl"
    ablation: str = "resample"
    mean_by: str = MEANS[0]
    reference: int | str | None = None
    order: str = "canonical"
    tau: float = 0.02
    dtype: str = "float32"
    weights_hash: str = ""
    prompts_hash: str = ""
    reference_hash: str = ""
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", check_tau(self.tau))
        for name, kinds in _TYPES.items():
            value = getattr(self, name)
            # JSON keeps booleans and whole numbers apart, Python takes True for 1.
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                wanted = " or ".join("nothing" if k is _NONE else _WORDS[k] for k in kinds)
                raise SpecError(f"{name} must be {wanted}, got {value!r}")
        object.__setattr__(self, "task_options", _json_object(self.task_options))
        _one_of("metric", self.metric, tuple(METRICS))
        _one_of("ablation", self.ablation, ABLATIONS)
        _one_of("mean_by", self.mean_by, MEANS)
        _one_of("dtype", self.dtype, DTYPES)
        check_order(self.order)
        self._check_mean()
        if not self.model:
            raise SpecError("no model was given; see `discover models`")
        if (self.task is None) == (self.prompts_file is None):
            raise SpecError("give either a task or a prompts file, and not both")
        if self.prompts is not None and self.prompts < 1:
            raise SpecError(f"the number of prompts must be at least 1, got {self.prompts}")
        if self.version != SPEC_VERSION:
            raise SpecError(
                f"this spec has version {self.version!r}, this program knows {SPEC_VERSION}; "
                "update discover"
            )

    def _check_mean(self) -> None:
        if self.ablation != "mean" and (self.mean_by != MEANS[0] or self.reference is not None):
            raise SpecError(
                f"mean_by and reference belong to the ablation mean, not to {self.ablation}; add "
                "--ablation mean, or drop them"
            )
        if isinstance(self.reference, int):
            if self.reference < 1:
                raise SpecError(f"a reference needs at least 1 prompt, got {self.reference}")
            if self.task is None:
                raise SpecError(
                    "a number of reference prompts needs a task to make them; give a prompts file"
                )

    def to_json(self) -> dict[str, Any]:
        """The spec as a JSON object; later fields are there where they differ from the default."""
        usual = {f.name: f.default for f in dataclasses.fields(self)}
        return {
            key: value
            for key, value in dataclasses.asdict(self).items()
            if key not in _LATER or value != usual[key]
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunSpec:
        """Read a stored spec.

        Raises:
            SpecError: a key is unknown or missing, or a value is out of range.
        """
        if not isinstance(data, dict):
            raise SpecError(f"a stored spec must be a JSON object, not {type(data).__name__}")
        if unknown := sorted(set(data) - {f.name for f in dataclasses.fields(cls)}, key=str):
            raise SpecError(f"the stored spec has unknown fields: {', '.join(map(repr, unknown))}")
        if "model" not in data:
            raise SpecError("the stored spec has no model")
        return cls(**data)

    @property
    def hash(self) -> str:
        """SHA-256 of the spec as canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def pinned(
        self, *, weights_hash: str, prompts_hash: str, prompts: int, reference_hash: str = ""
    ) -> RunSpec:
        """The same spec with the model and prompts at hand written into it."""
        return dataclasses.replace(
            self,
            weights_hash=weights_hash,
            prompts_hash=prompts_hash,
            prompts=prompts,
            reference_hash=reference_hash,
        )

    def unpinned(self) -> RunSpec:
        """The same spec for whatever its model and prompts are by now."""
        return dataclasses.replace(self, weights_hash="", prompts_hash="", reference_hash="")


def _json_object(options: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of the options as JSON gives them back; what JSON cannot hold is an error."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(options, allow_nan=False))
        if all(isinstance(key, str) for key in options):
            return copy
        problem = "a key is not a string"
    except (TypeError, ValueError, RecursionError) as error:
        problem = str(error)
    raise SpecError(f"task options must be JSON values: {problem}")


def _one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpecError(f"unknown {what} {value!r}; choose one of {', '.join(known)}")

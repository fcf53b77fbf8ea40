"""What patching by hand found, for a person and as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from discover.labelled import Agreement, LabelledArray, Results
from discover.spec import RunSpec


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found: `value` where all nodes were patched together, else `results` by component.

    `clean`, `corrupted`: the metric of the unpatched runs; `base`: of the one that was patched;
    `logit_diff`: the clean and the corrupted run's, in logits, where the metric is normalised.
    `ends`: names of what was patched. `scale` says what the metric's values mean. With `estimated`
    the results are changes of the metric, to first order.
    """

    spec: RunSpec
    direction: str
    metric: str
    unit: str
    scale: str
    clean: float
    corrupted: float
    logit_diff: tuple[float, float] | None
    ends: dict[str, list[str]]
    value: float | None = None
    results: Results = field(default_factory=lambda: Results({}))
    estimated: bool = False
    agreement: dict[str, Agreement] = field(default_factory=dict)

    @property
    def base(self) -> float:
        """The metric of the run that was patched, without a patch."""
        return self.clean if self.direction == "noising" else self.corrupted

    @property
    def told_from(self) -> float:
        """What the results say where nothing changes."""
        return 0.0 if self.estimated else self.base

    @property
    def title(self) -> str:
        """What a figure of the results is headed by."""
        spec = self.spec
        how = "estimated " if self.estimated else ""
        what = " to ".join(", ".join(names) for names in self.ends.values())
        source = spec.task or Path(spec.prompts_file or "").name
        return f"{Path(spec.model).name}, {source}: {how}{self.direction} of {what}"

    def ranked(self, top: int) -> list[tuple[str, float, float]]:
        """Name, value and change of the nodes that change the metric most, either way."""
        changes = Results({a.name: _shifted(a, -self.told_from) for a in self.results.arrays()})
        return [(r.text, r.value + self.told_from, r.value) for r in changes.top(top)]

    def summary(self, top: int) -> dict[str, Any]:
        """The one JSON object of `discover patch --json` and `discover path --json`."""
        spec = self.spec
        told: dict[str, Any] = {
            "model": spec.model,
            "task": spec.task or spec.prompts_file,
            "prompts": spec.prompts,
            "seed": spec.seed,
            "dtype": spec.dtype,
            "metric": self.metric,
            "unit": self.unit,
            "direction": self.direction,
            "scale": self.scale,
            "clean": self.clean,
            "corrupted": self.corrupted,
            "logit_diff": None,
            **self.ends,
            "estimated": self.estimated,
            "value": self.value,
            "nodes": {array.name: _as_json(array) for array in self.results.arrays()},
            "top": [
                {"node": name, "value": value, "change": change}
                for name, value, change in self.ranked(top)
            ],
        }
        if self.logit_diff is not None:
            told["logit_diff"] = dict(zip(("clean", "corrupted"), self.logit_diff, strict=True))
        if self.agreement:
            told["agreement"] = {k: _agreement_json(v) for k, v in self.agreement.items()}
        return cast(dict[str, Any], _json_ready(told))


def _shifted(array: LabelledArray, by: float) -> LabelledArray:
    return replace(array, values=array.values + by)


def _as_json(array: LabelledArray) -> dict[str, Any]:
    return {
        "axes": list(array.axes),
        "labels": {axis: list(labels) for axis, labels in array.labels.items()},
        "values": array.values.tolist(),
    }


def _agreement_json(found: Agreement) -> dict[str, Any]:
    keys = ("n", "spearman", "pearson", "mean_absolute_error", "sign_agreement", "largest")
    return {key: getattr(found, key) for key in keys}


def _json_ready(value: Any) -> Any:
    """The same without what JSON lacks: NaN is null, infinities are strings."""
    if isinstance(value, dict):
        return {key: _json_ready(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_json_ready(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value

"""How far apart two computations of the same number may come out, by dtype."""

from __future__ import annotations

LOADED = {"float32": 1e-3, "float64": 1e-9, "bfloat16": 0.1}
"""When a model is tried on a few tokens: relative to the largest value. `REBUILT` is stricter, on
the run's own prompts."""

REBUILT = {"float32": 2e-4, "float64": 1e-9, "bfloat16": 0.1}
"""What the self-check and the engine rebuild from the model's parts: relative to the largest value
of its kind (the stream, the logits, the outputs of one layer)."""

FINAL = {"float32": 1e-4, "float64": 1e-4, "bfloat16": 0.25}
"""The last damage of a search against that of one plain forward of its circuit: relative to the
damage or to 1, whichever is larger."""

"""Labelled arrays to test with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from discover.labelled import LabelledArray

UNIT = {"unit": "normalised logit difference", "direction": "0 = as corrupted, 1 = as clean"}
AXES = [
    (),
    ("layer",),
    ("head",),
    ("layer", "head"),
    ("layer", "pos"),
    ("layer", "kv_head"),
    ("layer", "pos", "head"),
    ("src_layer", "src_head", "layer", "head"),
]
NUMBERS = st.one_of(
    st.floats(-2, 2), st.sampled_from([0.0, -0.0, 1.0, -1.0]), st.just(float("nan"))
)


@st.composite
def arrays(draw: st.DrawFn, axes: tuple[str, ...] | None = None, most: int = 4) -> LabelledArray:
    """Any array of the usual axes: values with ties, zeros and NaN, labels of both kinds."""
    own = draw(st.sampled_from(AXES)) if axes is None else axes
    shape = [draw(st.integers(1, most)) for _ in own]
    count = int(np.prod(shape))
    values = np.array(draw(st.lists(NUMBERS, min_size=count, max_size=count))).reshape(shape)
    labels = {}
    if "pos" in own:
        size = shape[own.index("pos")]
        words = draw(st.lists(st.text(max_size=12), min_size=size, max_size=size))
        labels["pos"] = [f"{i}: {word}" for i, word in enumerate(words)]
    return LabelledArray(values, own, labels, name="z", **UNIT)


def heads(layers: int, n_heads: int, seed: int = 0, axis: str = "head", **more) -> LabelledArray:
    """Values in [-1, 1], most of them small, as patching gives them."""
    values = np.clip(np.random.default_rng(seed).normal(size=(layers, n_heads)) ** 5 / 30, -1, 1)
    return LabelledArray(values, ("layer", axis), **{"name": "z", **UNIT, **more})

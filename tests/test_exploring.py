"""Questions and answers of patching by hand, apart from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from discover.errors import InputError
from discover.exploring import Answer, Question, patch
from discover.exploring.setup import parse_layers
from discover.labelled import LabelledArray, Results
from discover.spec import RunSpec


def test_layers_are_numbers_and_ranges():
    assert parse_layers("3, 5") == [3, 5]
    assert parse_layers("5,0-2,1") == [0, 1, 2, 5]
    for wrong in ("", "a", "1-", "-1", "2-1", "1,,2"):
        with pytest.raises(InputError):
            parse_layers(wrong)


def test_threads_are_put_back_after_an_error():
    before = torch.get_num_threads()
    seen = []
    question = Question(
        RunSpec("tiny-ioi", "ioi", prompts=2), "denoising", threads=before + 1,
        phase=lambda name: seen.append((name.split(",")[0], torch.get_num_threads())),
    )  # fmt: skip
    with pytest.raises(InputError):
        patch(question, "mlp_in", estimate=True)
    assert seen == [("loading the model", before), ("estimating", before + 1)]
    assert torch.get_num_threads() == before


def test_json_holds_what_is_no_number():
    array = LabelledArray(np.array([np.nan, -np.inf, 1.5]), ("layer",), name="z")
    answer = Answer(
        RunSpec("m", "ioi"), "noising", "kl", "nats", "", 0.0, float("inf"), None, {},
        results=Results({"z": array}),
    )  # fmt: skip
    told = json.loads(json.dumps(answer.summary(1), allow_nan=False))
    assert told["nodes"]["z"]["values"] == [None, "-Infinity", 1.5]
    assert told["corrupted"] == "Infinity"

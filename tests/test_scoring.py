"""Scores as a person asks for them: ranked, summed up and written as tables."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from discover.attribution import attribute
from discover.errors import SpecError
from discover.model import load_model
from discover.scoring import score
from discover.spec import RunSpec
from discover.tasks import build_prompts

SPEC = RunSpec(model="tiny-ioi", task="ioi", prompts=4, metric="logit_diff")


@pytest.fixture(scope="module")
def found():
    return score(SPEC)


def test_scores_are_those_of_the_specs_prompts(found):
    model = load_model("tiny-ioi")
    prompts = build_prompts("ioi", model.tokenizer, 4, 0)
    assert found.scores == pytest.approx(attribute(model, prompts), abs=1e-6)
    assert found.spec.prompts_hash == prompts.hash


def test_ranking_is_from_the_largest_score(found):
    ranked = found.ranked(10)
    values = [value for _, value in ranked]
    assert len(ranked) == 10
    assert values == sorted(values, reverse=True)
    assert values[0] == found.scores.max() > 0
    assert found.summary(3)["top"] == [{"edge": n, "score": v} for n, v in ranked[:3]]
    json.dumps(found.summary(3), allow_nan=False)


def test_tables_hold_every_edge_once_in_the_graphs_order(found):
    lines = [json.loads(line) for line in found.table("jsonl").decode().splitlines()]
    rows = list(csv.DictReader(io.StringIO(found.table("csv").decode())))
    names = [edge.name for edge in found.graph.edges]
    for table in (lines, rows):
        assert [f"{row['sender']}->{row['receiver']}" for row in table] == names
        assert np.array([float(row["score"]) for row in table]) == pytest.approx(found.scores)


def test_phases_are_told_and_bad_metrics_refused():
    told = []
    with pytest.raises(SpecError, match="eap-ig"):
        score(RunSpec(model="tiny-ioi", task="ioi", prompts=2), phase=told.append)
    assert told == [], "what cannot be is said before a model is loaded"
    score(SPEC, phase=told.append)
    assert told == ["loading the model", "scoring 479 edges on 4 prompts"]

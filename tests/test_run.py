"""The orchestrator: stored results, resumption at any moment, failure that loses nothing."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from discover import session
from discover.acdc import Decision, circuit_of
from discover.costs import Counting
from discover.errors import MismatchError, PromptError, RunError, SpecError, StoppedError, TaskError
from discover.graph import ComputationalGraph, parse_edge
from discover.patching.reference import ReferencePatcher
from discover.run import How, Observer, _stop_if_asked, resume, run
from discover.spec import RunSpec
from discover.store import Store

SPEC = RunSpec(model="tracr-xproportion", task="xproportion", prompts=6, metric="l2", tau=0.01)


@pytest.fixture
def store(tmp_path):
    with Store.open(str(tmp_path / "runs.db")) as opened:
        yield opened


def rows(store, run_id):
    return list(store.decision_rows(run_id))


def test_a_run_is_stored_whole(store):
    record = run(SPEC, store)
    decisions = rows(store, record.id)
    assert record.status == "done"
    assert len(decisions) == record.edges == record.evaluated + record.dead == 23
    kept = [f"{row['sender']}->{row['receiver']}" for row in decisions if row["outcome"] == "kept"]
    assert record.kept == len(kept)
    assert record.circuit_hash == hashlib.sha256("\n".join(sorted(kept)).encode()).hexdigest()
    assert record.spec.prompts == 6
    assert len(record.spec.weights_hash) == len(record.spec.prompts_hash) == 64
    assert set(record.versions) >= {"torch", "transformers", "transformer_lens", "discover"}
    assert record.evidence["evaluations"] >= record.evaluated == record.evidence["accepted"]
    assert record.evidence["seconds"]["search"] > 0
    assert 0 < record.evidence["node_computations"] < record.evidence["plain_node_computations"]
    assert record.evidence["self_check"]["residual"] < 1e-6
    assert record.damage_all_ablated > record.damage
    for row in decisions:
        assert row["score"] == row["after"] - row["before"]
        assert (row["outcome"] == "kept") == (row["score"] >= SPEC.tau)


@pytest.mark.parametrize("after", [2, 3, 5, 6])
@pytest.mark.parametrize(
    ("engine", "block"), [("reference", None), ("exact", 1), ("exact", 3), ("exact", 64)]
)
def test_an_interrupted_run_resumes_to_the_very_same_rows(store, after, engine, block):
    calm = run(SPEC, store, engine=engine, how=How(block=block))
    seen = 0

    def interrupt(patcher, *args, **kwargs):
        nonlocal seen
        seen += 1
        if seen > after:
            raise KeyboardInterrupt
        return original(patcher, *args, **kwargs)

    original = Counting.damages
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Counting, "damages", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(SPEC, store, engine=engine, how=How(block=block))
    broken = store.run("latest").id
    assert store.run(broken).status == "interrupted"
    assert 0 < store.count(broken) < 23
    again = resume(broken, store, how=How(block=block))
    assert again.status == "done"
    assert again.evidence["sessions"] == 2
    assert again.circuit_hash == calm.circuit_hash
    assert rows(store, again.id) == rows(store, calm.id)
    assert (again.damage, again.kept, again.dead) == (calm.damage, calm.kept, calm.dead)
    assert again.spec_hash == calm.spec_hash


def test_resuming_a_finished_run_changes_nothing(store):
    record = run(SPEC, store)
    assert resume(record.id, store) == store.run(record.id) == record


def test_a_failed_run_says_why_and_keeps_its_decisions(store, monkeypatch):
    original = ReferencePatcher.damages

    def fail(self, receiver, variants, *, float64=False):
        if receiver.name == "a1.h0.v":
            return [float("nan")] * len(variants)
        return original(self, receiver, variants, float64=float64)

    monkeypatch.setattr(ReferencePatcher, "damages", fail)
    with pytest.raises(RunError, match="not a number"):
        run(SPEC, store, engine="reference")
    record = store.run("latest")
    assert record.status == "failed"
    assert "not a number" in record.error
    assert record.decided > 0
    monkeypatch.undo()
    assert resume(record.id, store).status == "done"


def test_a_circuit_that_does_not_have_its_damage_fails_the_run(store, monkeypatch):
    original = ReferencePatcher.circuit_damage
    monkeypatch.setattr(
        ReferencePatcher, "circuit_damage", lambda self, circuit: original(self, circuit) + 0.01
    )
    with pytest.raises(RunError, match="plain forward"):
        run(SPEC, store)
    assert store.run("latest").status == "failed"


def test_observers_hear_only_of_stored_decisions(store):
    heard = []
    phases = []

    def hear(batch):
        run_id = store.run("latest").id
        assert store.count(run_id) >= batch[-1].step + 1
        heard.extend(batch)

    record = run(SPEC, store, observer=Observer(phases.append, lambda r: None, hear))
    assert [d.step for d in heard] == list(range(23))
    assert circuit_of(record.graph, heard).hash == record.circuit_hash
    assert phases[0] == "loading the model"


REVERSE = RunSpec(model="tracr-reverse", task="reverse", metric="logit_diff")


def test_bad_input_stores_nothing(store):
    bad = [
        (dataclasses.replace(SPEC, metric="kl"), SpecError, "are values"),
        (dataclasses.replace(SPEC, metric="logit_diff"), SpecError, "compares outputs"),
        (REVERSE, PromptError, "no correct answer"),
        (dataclasses.replace(SPEC, task="nonsense"), TaskError, "unknown task"),
        (dataclasses.replace(SPEC, task_options={"length": "x"}), TaskError, "whole number"),
        (dataclasses.replace(SPEC, task_options={"colour": "x"}), TaskError, "no option"),
    ]
    for spec, kind, words in bad:
        with pytest.raises(kind, match=words):
            run(spec, store)
    with pytest.raises(SpecError, match="unknown engine"):
        run(SPEC, store, engine="magic")
    for how in (How(block=8), How(draft=frozenset())):
        with pytest.raises(SpecError, match="does not speculate"):
            run(SPEC, store, engine="reference", how=how)
    with pytest.raises(SpecError, match=r"the draft has edges .* a9\.h9->logits"):
        run(SPEC, store, how=How(draft={parse_edge("a9.h9->logits")}))
    assert store.runs() == []


@pytest.fixture
def file_run(store, tmp_path, monkeypatch):
    """A run on a prompts file, broken off in the middle."""
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"clean": "w x x z", "corrupted": "x w z z"}\n{"clean": "x x", "corrupted": "w x"}\n'
    )
    spec = dataclasses.replace(SPEC, task=None, prompts=None, prompts_file=str(path))
    calls = iter(range(2))
    original = Counting.damages
    with pytest.MonkeyPatch.context() as patch:

        def interrupt(patcher, *args, **kwargs):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return original(patcher, *args, **kwargs)

        patch.setattr(Counting, "damages", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(spec, store)
    return store.run("latest"), path


def test_resume_refuses_changed_prompts(store, file_run):
    record, path = file_run
    text = path.read_text()
    path.write_text(text.replace("w x x z", "x x x z"))
    with pytest.raises(MismatchError, match="--format prompts"):
        resume(record.id, store)
    assert store.run(record.id) == record
    path.write_text(text)
    assert resume(record.id, store).status == "done"


def test_resume_refuses_changed_weights(store, file_run, monkeypatch):
    record, _ = file_run
    original = session.load_model

    def other(*args, **kwargs):
        model = original(*args, **kwargs)
        model.weights_hash = "0" * 64
        return model

    monkeypatch.setattr(session, "load_model", other)
    with pytest.raises(MismatchError, match="weights of tracr-xproportion"):
        resume(record.id, store)
    assert store.run(record.id) == record


def test_exported_prompts_are_the_run_s_own(store, file_run, tmp_path):
    record, _ = file_run
    again = tmp_path / "again.jsonl"
    again.write_text(store.prompts_jsonl(record.id))
    spec = dataclasses.replace(record.spec, prompts_file=str(again))
    first, second = resume(record.id, store), run(spec, store)
    assert second.spec.prompts_hash == first.spec.prompts_hash
    assert rows(store, second.id) == rows(store, first.id)


def test_a_search_that_is_through_is_not_stopped_any_more() -> None:
    """Asked to end after the very last decision, a run is done, not interrupted."""
    graph = ComputationalGraph(1, 1)
    rows = [Decision(n, edge, 0.0, 0.5, "kept") for n, edge in enumerate(graph.edges)]
    first = graph.n_senders_of(graph.edges[0].receiver)
    for when, enough in (("now", 1), ("after the receiver", first)):
        observer = Observer(stop=lambda when=when: when)
        _stop_if_asked(observer, rows, graph)
        with pytest.raises(StoppedError):
            _stop_if_asked(observer, rows[:enough], graph)


def test_a_search_is_stopped_exactly_where_a_receiver_is_done() -> None:
    graph = ComputationalGraph(2, 2)
    observer = Observer(stop=lambda: "after the receiver")
    rows: list[Decision] = []
    stopped = set()
    for n, edge in enumerate(graph.edges):
        rows.append(Decision(n, edge, 0.0, 0.5, "kept"))
        try:
            _stop_if_asked(observer, rows, graph)
        except StoppedError:
            stopped.add(n)
    ends = zip(graph.edges, graph.edges[1:], strict=False)
    assert stopped == {n for n, (a, b) in enumerate(ends) if a.receiver != b.receiver} != set()

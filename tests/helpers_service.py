"""Stored runs made without a model, and a client that talks to the service as its page does."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient

from discover.acdc import Decision, circuit_of
from discover.evaluation.figures import Measurement
from discover.graph import ComputationalGraph
from discover.service.app import make_app
from discover.service.settings import Settings
from discover.spec import RunSpec
from discover.store import Store

GRAPH = ComputationalGraph(2, 2)
TOKEN = "correct-horse-battery-staple"


def client_of(store: Store, *, host: str = "localhost", **settings: Any) -> TestClient:
    """A client of an application over the store; errors come as answers."""
    settings.setdefault("poll", 0.02)
    app = make_app(store, Settings(**settings))
    return TestClient(app, base_url=f"http://{host}:8000", raise_server_exceptions=False)


def decisions(graph: ComputationalGraph = GRAPH, every: int = 3) -> list[Decision]:
    """A search that kept one edge in so many, with the damage that goes with it."""
    found, damage = [], 0.0
    for step, edge in enumerate(graph.edges):
        kept = step % every == 0
        after = damage + (0.25 + step / 1000 if kept else 0.001)
        found.append(Decision(step, edge, damage, after, "kept" if kept else "removed"))
        damage = damage if kept else after
    return found


def begun_run(store: Store, upto: int | None = None, graph: Any = GRAPH, **spec: Any) -> str:
    """A run under way with so many decisions stored (all of them: None); returns its id."""
    given = {"model": "tiny-ioi", "task": "ioi", "prompts": 2, "tau": 0.02} | spec
    run_id = store.create_run(
        RunSpec(**given), graph=graph, engine="exact", versions={"discover": "0"},
        prompts_jsonl='{"clean_tokens": [1]}\n{"clean_tokens": [2]}\n',
    )  # fmt: skip
    store.start(run_id)
    with store.writer(run_id) as writer:
        for decision in decisions(graph)[:upto]:
            writer.add(decision)
    return run_id


def finished_run(store: Store, graph: Any = GRAPH, **spec: Any) -> str:
    """A finished run; returns its id."""
    run_id = begun_run(store, graph=graph, **spec)
    finish(store, run_id, graph)
    return run_id


def finish(store: Store, run_id: str, graph: Any = GRAPH) -> None:
    """End a run whose decisions are all stored."""
    rows = list(store.decisions(run_id))
    circuit = circuit_of(graph, rows)
    summary = {"kept": len(circuit), "evaluated": len(rows), "dead": 0, "damage": rows[-1].after}
    summary |= {"damage_all_ablated": float("inf"), "circuit_hash": circuit.hash}
    store.finish(run_id, "done", seconds=1.5, summary=summary, evidence={"checked": True})


def evaluated(store: Store, run_id: str) -> str:
    """An evaluation of a run; returns its id."""
    record = store.add_evaluation(
        run_id,
        circuit_hash="0" * 64,
        settings={"seed": 1},
        prompts_jsonl="{}\n",
        versions={},
        seconds=0.5,
        measurements=[Measurement("circuit", "faithfulness", 0.5, "fraction", 0.25, float("inf"))],
    )
    return record.id


BODY = {"model": "tiny-ioi", "task": "ioi", "tau": 0.1}


def submit(client: TestClient, **changes: Any) -> Any:
    """Submit a run; returns the answer."""
    return client.post("/api/runs", json=BODY | changes)

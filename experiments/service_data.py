"""Fills a database with as many finished runs as a lab would have, for `benchmark_service.py`.

Every run has one decision for each edge of a GPT-2-small-shaped graph: real names in the search's
order, outcomes and numbers that look like a search's. The same seed gives the same rows. Four runs
at a time take turns, 500 decisions each, as four workers would store them: on PostgreSQL a run's
rows then lie between others'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa

from discover.graph import ComputationalGraph
from discover.spec import RunSpec
from discover.store import upgrade
from discover.store.engine import Database
from discover.store.tables import (
    evaluations,
    jobs,
    measurements,
    prompts,
    runs,
    sweep_runs,
    sweeps,
    workers,
)

GRAPH = ComputationalGraph(12, 12)
BEGAN = datetime(2026, 6, 1, tzinfo=UTC)
ALIVE = datetime(2100, 1, 1, tzinfo=UTC)
"""The worker's last heartbeat: it counts as alive whenever the database is looked at."""
TOGETHER, TURN = 4, 500
TAUS = [float(tau) for tau in np.geomspace(0.001, 1, 20)]
MODELS = ("gpt2", "models/own-12-layer", "distilgpt2-twice")
TASKS = ("ioi", "greater_than", "docstring", "gendered_pronouns", "induction")
VERSIONS = {"discover": "0.1.0", "torch": "2.13.0+cpu", "transformers": "5.23.0"}
PROMPT_SETS = 20

_EDGES = [(edge.sender.name, edge.receiver.name) for edge in GRAPH.edges]
_COLUMNS = "run_id, step, sender, receiver, before, after, score, outcome, float64"

Row = tuple[str, int, str, str, float, float, float, str, bool]


@dataclass(frozen=True)
class Filled:
    """What is in a filled database: ids, of which there is at least one of every kind."""

    runs: list[str]
    """The ended ones, oldest first; the tau of run i is `TAUS[i % 20]`: run 0 keeps most edges."""
    running: str
    queued: str
    sweep: str
    evaluated: str


@dataclass(frozen=True)
class Search:
    """What a search would have stored of its run."""

    rows: list[Row]
    summary: dict[str, Any]


def fill(url: str, number: int, seed: int = 0) -> Filled:
    """Create the schema and store `number` runs of 32,491 decisions, and a little of all else."""
    upgrade(url)
    draw = np.random.default_rng(seed)
    ended = [_run(at, draw) for at in range(number)]
    going = _run(number, draw) | {"status": "running", "finished_at": None, "tau": 0.01}
    database = Database(url)
    try:
        with database.write() as connection:
            connection.execute(sa.insert(prompts), _prompts())
            connection.execute(sa.insert(runs), [*ended, going])
            _store_rest(connection, ended, going, draw)
        for first in range(0, number, TOGETHER):
            group = ended[first : first + TOGETHER]
            _store(database, [_search(each["id"], each["tau"], draw) for each in group], group)
        half = _search(going["id"], going["tau"], draw)
        del half.rows[len(GRAPH) // 2 :]
        _store(database, [half], [going])
        _settle(database)
    finally:
        database.close()
    return known(url)


def known(url: str) -> Filled:
    """What `fill` has stored in a database."""
    database = Database(url)
    by_age = sa.select(runs.c.id).order_by(runs.c.created_at)
    queries = (
        by_age.where(runs.c.status != "running"),
        by_age.where(runs.c.status == "running"),
        sa.select(jobs.c.id).where(jobs.c.status == "queued").order_by(jobs.c.id),
        sa.select(sweeps.c.id).order_by(sweeps.c.created_at),
        sa.select(evaluations.c.run_id).order_by(evaluations.c.created_at),
    )
    with database.read() as connection:
        found = [connection.execute(query).scalars().all() for query in queries]
    database.close()
    return Filled(list(found[0]), *(ids[0] for ids in found[1:]))


def _search(run_id: str, tau: float, draw: np.random.Generator) -> Search:
    """A third of the edges dead, some 7,000 kept at tau 0.001 and some 40 at 1, damage rising."""
    n = len(GRAPH)
    chance = draw.random(n)
    kept = chance < min(0.3, 40 * tau**-0.75 / n)
    dead = chance > 0.67
    score = np.where(kept, tau * np.exp(draw.exponential(1.0, n)), 0.0)
    score = np.where(kept | dead, score, tau * np.minimum(draw.normal(0.0005, 0.01, n), 0.9))
    damage = np.cumsum(np.where(kept, 0.0, score))
    before = np.concatenate([[0.0], damage[:-1]])
    outcome = np.where(kept, "kept", np.where(dead, "dead", "removed"))
    numbers = (before.tolist(), (before + score).tolist(), score.tolist(), outcome.tolist())
    rows = [
        (run_id, step, sender, receiver, *values, abs(values[2] - tau) < 1e-4)
        for step, ((sender, receiver), *values) in enumerate(zip(_EDGES, *numbers, strict=True))
    ]
    names = sorted(f"{row[2]}->{row[3]}" for row in rows if row[7] == "kept")
    last = float(damage[-1])
    summary = {
        "kept": len(names), "kept_so_far": len(names), "damage": last, "damage_so_far": last,
        "evaluated": int(n - dead.sum()), "dead": int(dead.sum()), "damage_all_ablated": 2 * last,
        "circuit_hash": hashlib.sha256("\n".join(names).encode()).hexdigest(),
    }  # fmt: skip
    return Search(rows, summary)


def _store(database: Database, searches: list[Search], group: list[dict[str, Any]]) -> None:
    """Store searches that went on at the same time, and what came of them."""
    if database.path is None:
        _copy(database, _taking_turns(searches))
    else:
        _execute_many(database, _taking_turns(searches))
    with database.write() as connection:
        for run, search in zip(group, searches, strict=True):
            so_far = {key: search.summary[key] for key in ("kept_so_far", "damage_so_far")}
            values = search.summary if run["status"] == "done" else so_far
            connection.execute(sa.update(runs).where(runs.c.id == run["id"]).values(**values))


def _taking_turns(searches: list[Search]) -> Iterator[Row]:
    for first in range(0, len(GRAPH), TURN):
        for search in searches:
            yield from search.rows[first : first + TURN]


def _execute_many(database: Database, rows: Iterator[Row]) -> None:
    marks = ", ".join("?" * 9)
    with database.write() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.executemany(f"INSERT INTO decisions ({_COLUMNS}) VALUES ({marks})", rows)


def _copy(database: Database, rows: Iterator[Row]) -> None:
    with database.write() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        with raw.cursor() as cursor, cursor.copy(f"COPY decisions ({_COLUMNS}) FROM STDIN") as copy:
            while block := [row for _, row in zip(range(2000), rows, strict=False)]:
                copy.write("".join("\t".join(map(str, row)) + "\n" for row in block))


def _settle(database: Database) -> None:
    """What a server does by itself after a while: statistics, and which pages all can see."""
    if database.path is None:
        engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
    else:
        with database.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _prompts() -> list[dict[str, Any]]:
    """Sets of 100 prompts of some 500 characters, as a run stores them."""
    line = '{"clean": "%s", "corrupted": "%s", "tokens": [%s]}\n'
    texts = [
        (line % (f"set {n} " + "clean " * 20, "other " * 20, "1234, " * 40)) * 100
        for n in range(PROMPT_SETS)
    ]
    return [{"hash": _hash(str(n)), "jsonl": text} for n, text in enumerate(texts)]


def _spec(at: int) -> RunSpec:
    """Twenty thresholds after one another make a sweep; each sweep has its own settings."""
    sweep = at // len(TAUS)
    return RunSpec(
        model=MODELS[sweep % len(MODELS)],
        task=TASKS[sweep % len(TASKS)],
        metric=("kl", "logit_diff")[sweep % 2],
        ablation=("resample", "resample", "zero")[sweep % 3],
        tau=TAUS[at % len(TAUS)],
        seed=sweep,
        prompts=100,
        weights_hash=_hash("weights"),
        prompts_hash=_hash(f"tokens {sweep}"),
    )


def _run(at: int, draw: np.random.Generator) -> dict[str, Any]:
    """The row of the run of that number: of 25 one failed, and one was interrupted."""
    spec, began = _spec(at), BEGAN + timedelta(minutes=7 * at)
    seconds = float(draw.uniform(60, 900))
    ended = began + timedelta(seconds=seconds)
    status = {7: "failed", 19: "interrupted"}.get(at % 25, "done")
    counts = {"accepted": 22_000, "blocks": 900, "evaluations": 26_000, "near_tau": 3}
    evidence = counts | {"seconds": dict.fromkeys(("commit", "evaluate", "search"), 1.5)}
    return {
        "id": draw.bytes(8).hex(), "created_at": began, "started_at": began, "updated_at": ended,
        "finished_at": ended, "status": status, "spec": spec.to_json(), "spec_hash": spec.hash,
        "model": spec.model, "task": spec.task, "metric": spec.metric, "ablation": spec.ablation,
        "tau": spec.tau, "prompts": 100, "seed": spec.seed, "engine": "exact",
        "graph": GRAPH.shape(), "edges": len(GRAPH), "seconds": seconds, "versions": VERSIONS,
        "error": "out of memory" if status == "failed" else None, "evidence": evidence,
        "prompts_hash": _hash(str(at // len(TAUS) % PROMPT_SETS)), "attempt": 1,
        "note": f"run {at}" if at % 3 == 0 else None,
    }  # fmt: skip


def _job(run: dict[str, Any], status: str) -> dict[str, Any]:
    same = ("id", "created_at", "updated_at", "spec", "model", "task", "metric", "ablation", "tau")
    return {key: run[key] for key in (*same, "engine")} | {
        "finished_at": None if status in ("queued", "running") else run["updated_at"],
        "status": status, "cancelling": False,
        "batch_key": _hash(f"{run['model']} {run['task']} {run['seed']}"), "options": {},
        "note": run["note"] or "", "attempt": int(status != "queued"),
        "worker": "worker-1" if status == "running" else None,
        "heartbeat_at": ALIVE if status == "running" else None,
        "expires_at": ALIVE if status == "running" else None,
        "deaths": 0, "decided": 0, "error": None,
    }  # fmt: skip


def _store_rest(
    connection: sa.Connection,
    ended: list[dict[str, Any]],
    going: dict[str, Any],
    draw: np.random.Generator,
) -> None:
    """Jobs of half the runs, and of some without a run; sweeps; an evaluation of every fifth."""
    of = {"interrupted": "cancelled"}
    rows = [_job(run, of.get(run["status"], run["status"])) for run in ended[::2]]
    rows.append(_job(going, "running"))
    for status, how_many in (("queued", 20), ("failed", 3), ("cancelled", 3)):
        for _ in range(how_many):
            rows.append(_job(_run(len(ended) + len(rows), draw), status))
    connection.execute(sa.insert(jobs), rows)
    alive = {"host": "gpu-1", "pid": 1, "device": "cpu", "run_id": going["id"]}
    times = {"started_at": going["updated_at"], "heartbeat_at": ALIVE, "expires_at": ALIVE}
    connection.execute(sa.insert(workers).values(id="worker-1", **alive, **times))
    for first in range(0, len(ended), len(TAUS)):
        _store_sweep(connection, ended[first : first + len(TAUS)], draw)
    for run in ended[::5]:
        _store_evaluation(connection, run, draw)


def _store_sweep(
    connection: sa.Connection, members: list[dict[str, Any]], draw: np.random.Generator
) -> None:
    first = members[0]
    head = {key: first[key] for key in ("created_at", "spec", "model", "task")}
    sweep_id = draw.bytes(8).hex()
    connection.execute(sa.insert(sweeps).values(id=sweep_id, note="", **head))
    rows = [{"sweep_id": sweep_id, "tau": run["tau"], "run_id": run["id"]} for run in members]
    connection.execute(sa.insert(sweep_runs), rows)


def _store_evaluation(
    connection: sa.Connection, run: dict[str, Any], draw: np.random.Generator
) -> None:
    """Sixty figures, as of a report with curves."""
    evaluation_id = draw.bytes(8).hex()
    same = {key: run[key] for key in ("versions", "prompts_hash", "seconds", "created_at")}
    connection.execute(
        sa.insert(evaluations).values(
            id=evaluation_id, run_id=run["id"], circuit_hash=_hash(run["id"]), settings={}, **same
        )
    )
    figures = [
        {"evaluation_id": evaluation_id, "number": n, "subject": f"curve:{n}", "unit": "",
         "measure": "faithfulness", "value": n / 60, "low": None, "high": None, "extra": {}}
        for n in range(60)
    ]  # fmt: skip
    connection.execute(sa.insert(measurements), figures)

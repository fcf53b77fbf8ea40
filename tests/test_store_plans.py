"""How both databases find what the list, a run's page and the workers ask for: by an index."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from postgres import fresh_database

from discover.store import Store
from discover.store.engine import normalise_url

NO_HTTP = ["--no-http"]
EXPERIMENTS = Path(__file__).parent.parent / "experiments"
sys.path.insert(0, str(EXPERIMENTS))

from query_plans import Asked, plan, plans  # noqa: E402
from service_data import GRAPH, Filled, fill  # noqa: E402


@dataclass(frozen=True)
class Stocked:
    """A store with two runs of 32,491 decisions, and some of everything else."""

    store: Store
    data: Filled
    kind: str


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stocked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stocked]:
    def opened(url: str) -> Iterator[Stocked]:
        data = fill(url, 2)
        with Store.open(url) as store:
            yield Stocked(store, data, request.param)

    if request.param == "sqlite":
        yield from opened(normalise_url(str(tmp_path_factory.mktemp("plans") / "runs.db")))
    else:
        with fresh_database() as url:
            yield from opened(url)


READING: dict[str, Callable[[Store, Filled], object]] = {
    "list": lambda s, d: s.listed(limit=50),
    "searched list": lambda s, d: s.listed(limit=50, search="run", sort="damage"),
    "list of a sweep": lambda s, d: s.listed(sweep=d.sweep),
    "statuses": lambda s, d: s.statuses(),
    "listed run": lambda s, d: s.listed_run(d.runs[0]),
    "run": lambda s, d: s.run(d.runs[0]),
    "beginning of an id": lambda s, d: s.run(d.runs[0][:6]),
    "latest run": lambda s, d: s.run("latest"),
    "newest runs": lambda s, d: s.runs(limit=10),
    "count": lambda s, d: s.count(d.runs[0]),
    "page": lambda s, d: s.decision_page(d.runs[0], 20_000, 1000),
    "page of one outcome": lambda s, d: s.decision_page(d.runs[0], 20_000, 1000, "dead"),
    "kept edges": lambda s, d: list(s.kept_rows(d.runs[0])),
    "curve": lambda s, d: s.curve(d.runs[0]),
    "outcomes": lambda s, d: s.outcomes(d.runs[0]),
    "all rows": lambda s, d: sum(1 for _ in s.decision_rows(d.runs[0])),
    "prompts": lambda s, d: s.prompts_jsonl(d.runs[0]),
    "evaluations": lambda s, d: [s.measurements(e.id) for e in s.evaluations(d.evaluated)],
    "sweeps": lambda s, d: s.sweeps(limit=10),
    "sweep": lambda s, d: s.sweep(d.sweep),
    "job": lambda s, d: s.job(d.queued),
}
"""Everything that is asked of a store while somebody waits for the answer."""

INDEXES = {
    "list": ["pk_decisions"],
    "run": ["pk_runs", "pk_jobs", "pk_decisions"],
    "beginning of an id": ["pk_runs", "pk_jobs"],
    "newest runs": ["ix_runs_created_at"],
    "latest run": ["ix_runs_created_at"],
    "page": ["pk_decisions"],
    "kept edges": ["pk_decisions"],
    "curve": ["pk_decisions"],
    "prompts": ["pk_prompts"],
    "evaluations": ["ix_evaluations_run_id", "pk_measurements"],
    "sweeps": ["ix_sweeps_created_at", "pk_sweep_runs"],
    "job": ["pk_jobs"],
}
"""Through which indexes, by PostgreSQL's names, an answer has to come."""


def steps_of(stocked: Stocked, call: Callable[[], object]) -> str:
    return "\n".join(steps for _, steps in plans(stocked.store, call, scans=False))


def scanned(steps: str) -> set[str]:
    """The tables that a plan reads from end to end."""
    return set(re.findall(r"(?:Seq Scan on|^SCAN) (\w+)(?! USING)\b", steps, re.MULTILINE))


def used(kind: str, index: str, steps: str) -> bool:
    """Whether a plan goes through an index, which SQLite names otherwise if it is a key."""
    table = index.removeprefix("pk_")
    if kind == "postgresql" or table == index:
        return re.search(rf"\b{index}\b", steps) is not None
    key = rf"SEARCH {table} USING (PRIMARY KEY|(COVERING )?INDEX sqlite_autoindex_{table}_1)"
    return re.search(key, steps) is not None


@pytest.mark.parametrize("name", READING)
def test_no_question_reads_every_decision_or_figure(stocked: Stocked, name: str) -> None:
    steps = steps_of(stocked, lambda: READING[name](stocked.store, stocked.data))
    assert steps
    assert not scanned(steps) & {"decisions", "measurements", "prompts", "files"}, steps
    for index in INDEXES.get(name, []):
        assert used(stocked.kind, index, steps), f"{index} is not used:\n{steps}"


def test_a_page_begins_at_its_first_step(stocked: Stocked) -> None:
    page = READING["page"]
    steps = steps_of(stocked, lambda: page(stocked.store, stocked.data))
    if stocked.kind == "sqlite":
        assert "SEARCH decisions USING PRIMARY KEY (run_id=? AND step>?)" in steps
    else:
        assert re.search(r"Index Cond: .*run_id.* AND \(?step > ", steps), steps


def test_the_beginning_of_an_id_is_looked_up_and_not_compared_with_all(stocked: Stocked) -> None:
    find = READING["beginning of an id"]
    steps = steps_of(stocked, lambda: find(stocked.store, stocked.data))
    for table in ("runs", "jobs"):
        if stocked.kind == "sqlite":
            assert f"SEARCH {table} USING INDEX sqlite_autoindex_{table}_1 (id>? AND id<?)" in steps
        else:
            cond = rf"pk_{table}\b.*\n\s*Index Cond: .*id.* >= .*id.* < "
            assert re.search(cond, steps), steps


def test_the_number_of_decisions_is_read_off_the_last_one(stocked: Stocked) -> None:
    if stocked.kind == "postgresql":
        steps = steps_of(stocked, lambda: stocked.store.count(stocked.data.runs[0]))
        assert "Index Only Scan Backward using pk_decisions" in steps


def test_claiming_looks_at_what_waits_and_runs_alone(stocked: Stocked) -> None:
    store = stocked.store

    def claim() -> None:
        claimed = store.claim("somebody")
        assert claimed is not None
        store.release(claimed.lease)

    steps = steps_of(stocked, claim)
    assert used(stocked.kind, "ix_jobs_status_created_at", steps), steps
    assert not scanned(steps) & {"jobs", "runs", "decisions"}, steps


def test_deleting_a_run_looks_for_its_rows_alone(stocked: Stocked) -> None:
    steps = steps_of(stocked, lambda: stocked.store.delete(stocked.data.runs[-1]))
    for index in ("pk_decisions", "ix_evaluations_run_id", "ix_sweep_runs_run_id", "pk_runs"):
        assert used(stocked.kind, index, steps), f"{index} is not used:\n{steps}"
    # Whether others use its prompts or files is looked for in all of these: there are few.
    assert scanned(steps) <= {"runs", "evaluations", "files"}, steps


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("SELECT step FROM decisions WHERE score > 1", "decisions"),
        ("SELECT model FROM runs WHERE id LIKE '%%a'", "runs"),
        ("DELETE FROM measurements WHERE value > 1", "measurements"),
    ],
)
def test_a_question_without_an_index_would_be_noticed(
    stocked: Stocked, statement: str, table: str
) -> None:
    statement = statement if stocked.kind == "postgresql" else statement.replace("%%", "%")
    steps = plan(stocked.store._database, Asked(statement, ()), scans=False)
    assert scanned(steps) == {table}, steps


def content(url: str) -> str:
    """A digest of all runs' rows."""
    digest = hashlib.sha256()
    with Store.open(url) as store:
        for run in store.runs():
            digest.update(f"{run.id} {run.kept} {run.damage} {run.circuit_hash}".encode())
            for row in store.decision_rows(run.id):
                digest.update(repr(tuple(row.values())).encode())
    return digest.hexdigest()


def test_the_same_seed_fills_every_database_with_the_same(tmp_path: Path) -> None:
    first, again, other = (normalise_url(str(tmp_path / f"{n}.db")) for n in range(3))
    made = fill(first, 1)
    assert fill(again, 1) == made
    assert fill(other, 1, seed=1) != made
    assert content(first) == content(again) != content(other)
    with Store.open(first) as store:
        record = store.run(made.runs[0])
        rows = list(store.kept_rows(record.id))
        assert (record.decided, record.kept) == (len(GRAPH), len(rows)) == (32_491, len(rows))
        assert min(row["score"] for row in rows) >= record.spec.tau
        [evaluation] = store.evaluations(made.evaluated)
        assert len(store.measurements(evaluation.id)) == 60
        assert store.sweep(made.sweep).runs == ((record.spec.tau, record.id),)
        assert store.job(made.queued).status == "queued"
        assert store.count(made.running) == len(GRAPH) // 2
    with fresh_database() as url:
        fill(url, 1)
        assert content(url) == content(first)


@pytest.mark.slow
def test_the_benchmark_measures_what_it_says(tmp_path: Path) -> None:
    served = find_spec("discover.service") is not None
    words = ["--runs", "1", "--repeat", "1", "--database", "sqlite", *([] if served else NO_HTTP)]
    script = EXPERIMENTS / "benchmark_service.py"
    figures = tmp_path / "figures.json"
    table = subprocess.check_output(
        [sys.executable, str(script), *words, "--json", str(figures)], text=True
    )
    found = json.loads(figures.read_text())["sqlite"]
    assert found["runs"] == 1
    names = [each["name"] for each in found["timings"]]
    assert len(names) == len(set(names)) > 20
    for each in found["timings"]:
        assert f"| {each['name']} | " in table
        assert 0 < each["median"] <= each["worst"]
    assert ("GET a run" in names) == served
    expected = 4 if served else 2
    assert [each["rows"] for each in found["streams"]] == [32_491] * expected

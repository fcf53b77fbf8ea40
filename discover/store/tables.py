"""The tables, described for people in `docs/database.md` and created by the files in `alembic/`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISIONS = ("0001", "0002", "0003")
"""Every schema revision, oldest first; the last is what this program reads and writes."""

HEAD = REVISIONS[-1]

ID_LENGTH = 16
"""Hexadecimal characters of a run's id."""


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, to the microsecond.

    PostgreSQL has a type for that. Elsewhere it is ISO 8601 text of one fixed width, since SQLite's
    own DateTime forgets the time zone; fixed width makes text order the order in time.
    """

    impl = sa.String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column's type in this kind of database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.DateTime(timezone=True))
        return dialect.type_descriptor(sa.String(32))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """What is sent to the database."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """What is handed to the program."""
        if value is None:
            return None
        return (value if isinstance(value, datetime) else datetime.fromisoformat(value)).astimezone(
            UTC
        )


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

prompts = sa.Table(
    "prompts",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("jsonl", sa.Text, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("spec_hash", sa.String(64), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("metric", sa.String(32), nullable=False),
    sa.Column("ablation", sa.String(32), nullable=False),
    sa.Column("tau", sa.Double, nullable=False),
    sa.Column("prompts", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("engine", sa.String(32), nullable=False),
    sa.Column("graph", sa.JSON, nullable=False),
    sa.Column("edges", sa.Integer, nullable=False),
    sa.Column("kept", sa.Integer),
    sa.Column("evaluated", sa.Integer),
    sa.Column("dead", sa.Integer),
    sa.Column("damage", sa.Double),
    sa.Column("damage_all_ablated", sa.Double),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("circuit_hash", sa.String(64)),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("prompts_hash", sa.String(64), sa.ForeignKey("prompts.hash"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
    sa.Column("kept_so_far", sa.Integer, nullable=False, server_default="0"),
    sa.Column("damage_so_far", sa.Double),
    sa.Column("note", sa.Text),
    sa.CheckConstraint("status IN ('running', 'done', 'failed', 'interrupted')", name="status"),
    sa.Index(None, "created_at"),
)

# WITHOUT ROWID stores the rows in their key's order, with no second index beside the table: the
# one way they are ever read, and half the size.
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column(
        "run_id",
        sa.String(ID_LENGTH),
        sa.ForeignKey("runs.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("step", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sender", sa.String(32), nullable=False),
    sa.Column("receiver", sa.String(32), nullable=False),
    sa.Column("before", sa.Double, nullable=False),
    sa.Column("after", sa.Double, nullable=False),
    sa.Column("score", sa.Double, nullable=False),
    sa.Column("outcome", sa.String(8), nullable=False),
    sa.Column("float64", sa.Boolean, nullable=False),
    sa.CheckConstraint("outcome IN ('kept', 'removed', 'dead')", name="outcome"),
    sqlite_with_rowid=False,
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("run_id", sa.String(ID_LENGTH), sa.ForeignKey("runs.id", ondelete="CASCADE")),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("circuit_hash", sa.String(64), nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("prompts_hash", sa.String(64), sa.ForeignKey("prompts.hash"), nullable=False),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Index(None, "run_id"),
)

measurements = sa.Table(
    "measurements",
    metadata,
    sa.Column(
        "evaluation_id",
        sa.String(ID_LENGTH),
        sa.ForeignKey("evaluations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("measure", sa.String(64), nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("unit", sa.String(32), nullable=False),
    sa.Column("extra", sa.JSON, nullable=False),
    sqlite_with_rowid=False,
)

# A job is a run that was asked for; the run's row comes, with the same id, once a worker has loaded
# the model. So there is no foreign key between the two.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
    sa.Column("finished_at", UtcTime),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("cancelling", sa.Boolean, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("batch_key", sa.String(64), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("metric", sa.String(32), nullable=False),
    sa.Column("ablation", sa.String(32), nullable=False),
    sa.Column("tau", sa.Double, nullable=False),
    sa.Column("engine", sa.String(32), nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(64)),
    sa.Column("heartbeat_at", UtcTime),
    sa.Column("expires_at", UtcTime),
    sa.Column("deaths", sa.Integer, nullable=False),
    sa.Column("decided", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.CheckConstraint(
        "status IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="status"
    ),
    sa.Index(None, "created_at"),
    sa.Index(None, "status", "created_at"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("device", sa.String(32), nullable=False),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("heartbeat_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False),
    sa.Column("run_id", sa.String(ID_LENGTH)),
)

sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Index(None, "created_at"),
)

sweep_runs = sa.Table(
    "sweep_runs",
    metadata,
    sa.Column(
        "sweep_id",
        sa.String(ID_LENGTH),
        sa.ForeignKey("sweeps.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("tau", sa.Double, primary_key=True),
    sa.Column("run_id", sa.String(ID_LENGTH), nullable=False),
    sa.Index(None, "run_id"),
    sqlite_with_rowid=False,
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

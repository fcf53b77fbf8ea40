"""Jobs, workers, sweeps, and files that runs were given; what a run has come to so far.

Revision: 0003, after: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("runs", sa.Column("attempt", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("kept_so_far", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("damage_so_far", sa.Double))
    op.add_column("runs", sa.Column("note", sa.Text))
    _bring_runs_up_to_date()
    _create_jobs()
    _create_workers()
    _create_sweeps()
    op.create_table(
        "files",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_files"),
    )


def _bring_runs_up_to_date() -> None:
    """Finished runs have their count; the decisions of others are read once."""
    op.execute("UPDATE runs SET kept_so_far = kept, damage_so_far = damage WHERE kept IS NOT NULL")
    op.execute(
        "UPDATE runs SET kept_so_far = (SELECT count(*) FROM decisions"
        " WHERE decisions.run_id = runs.id AND decisions.outcome = 'kept'),"
        " damage_so_far = (SELECT CASE WHEN outcome = 'kept' THEN before ELSE after END"
        " FROM decisions WHERE decisions.run_id = runs.id ORDER BY step DESC LIMIT 1)"
        " WHERE kept IS NULL"
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.Column("finished_at", TIME),
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
        sa.Column("heartbeat_at", TIME),
        sa.Column("expires_at", TIME),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("decided", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'done', 'failed', 'cancelled')",
            name=op.f("ck_jobs_status"),
        ),
    )
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    op.create_index("ix_jobs_status_created_at", "jobs", ["status", "created_at"])


def _create_workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("device", sa.String(32), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("heartbeat_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("run_id", sa.String(16)),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )


def _create_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
    )
    op.create_index("ix_sweeps_created_at", "sweeps", ["created_at"])
    op.create_table(
        "sweep_runs",
        sa.Column("sweep_id", sa.String(16), nullable=False),
        sa.Column("tau", sa.Double, nullable=False),
        sa.Column("run_id", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("sweep_id", "tau", name="pk_sweep_runs"),
        sa.ForeignKeyConstraint(
            ["sweep_id"], ["sweeps.id"], name="fk_sweep_runs_sweep_id", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_sweep_runs_run_id", "sweep_runs", ["run_id"])


def downgrade() -> None:
    op.drop_table("files")
    op.drop_index("ix_sweep_runs_run_id", "sweep_runs")
    op.drop_table("sweep_runs")
    op.drop_index("ix_sweeps_created_at", "sweeps")
    op.drop_table("sweeps")
    op.drop_table("workers")
    op.drop_index("ix_jobs_status_created_at", "jobs")
    op.drop_index("ix_jobs_created_at", "jobs")
    op.drop_table("jobs")
    for column in ("note", "damage_so_far", "kept_so_far", "attempt"):
        op.drop_column("runs", column)

"""First schema: prompts, runs, decisions.

Revision: 0001, after: none
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Spelled out, not taken from discover.store.tables: what 0001 means must never change.
    time = sa.String(32).with_variant(sa.DateTime(timezone=True), "postgresql")
    op.create_table(
        "prompts",
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("jsonl", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_prompts"),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("started_at", time),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("finished_at", time),
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
        sa.Column("prompts_hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
        sa.CheckConstraint(
            "status IN ('running', 'done', 'failed', 'interrupted')", name=op.f("ck_runs_status")
        ),
        sa.ForeignKeyConstraint(["prompts_hash"], ["prompts.hash"], name="fk_runs_prompts_hash"),
    )
    op.create_index("ix_runs_created_at", "runs", ["created_at"])
    op.create_table(
        "decisions",
        sa.Column("run_id", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("sender", sa.String(32), nullable=False),
        sa.Column("receiver", sa.String(32), nullable=False),
        sa.Column("before", sa.Double, nullable=False),
        sa.Column("after", sa.Double, nullable=False),
        sa.Column("score", sa.Double, nullable=False),
        sa.Column("outcome", sa.String(8), nullable=False),
        sa.Column("float64", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_decisions"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name="fk_decisions_run_id", ondelete="CASCADE"
        ),
        sa.CheckConstraint(
            "outcome IN ('kept', 'removed', 'dead')", name=op.f("ck_decisions_outcome")
        ),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("decisions")
    op.drop_index("ix_runs_created_at", "runs")
    op.drop_table("runs")
    op.drop_table("prompts")

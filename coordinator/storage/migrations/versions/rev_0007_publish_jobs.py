"""Releases that are being made while nobody waits, and how each ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """What was under way before this is not known; its release, if it was finished, is in the catalogue."""
    op.create_table(
        "publish_jobs",
        sa.Column("run_id", sa.String(length=20), nullable=False),
        sa.Column("since", sa.String(length=20), nullable=False),
        sa.Column("ended_at", sa.String(length=20), nullable=True),
        sa.Column("release", sa.String(length=80), nullable=False, server_default=""),
        sa.Column("problem", sa.Text(), nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_publish_jobs_run_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_publish_jobs")),
    )


def downgrade() -> None:
    """Forget the jobs; the releases stay."""
    op.drop_table("publish_jobs")

"""What was typed of a release that is being made, so that it need not be typed again where none comes of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of jobs before this nothing is known."""
    with op.batch_alter_table("publish_jobs") as table:
        table.add_column(sa.Column("notes", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget what was typed."""
    with op.batch_alter_table("publish_jobs") as table:
        table.drop_column("notes")

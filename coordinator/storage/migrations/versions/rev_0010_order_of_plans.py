"""In which order plans were proposed: moments are whole seconds, and two plans can have the same one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Plans from before stay in the order of their moments."""
    with op.batch_alter_table("plans") as table:
        table.add_column(sa.Column("number", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Forget the numbers."""
    with op.batch_alter_table("plans") as table:
        table.drop_column("number")

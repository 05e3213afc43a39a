"""A random salt for each line of the audit log, so that its hash does not give a line away that can be guessed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Lines written before this have none: their hashes, and what members signed over them, stay what they are."""
    with op.batch_alter_table("audit_events") as table:
        table.add_column(sa.Column("salt", sa.String(length=32), nullable=False, server_default=""))


def downgrade() -> None:
    """Forget the salts: the hashes of lines that had one cannot be recomputed any more."""
    with op.batch_alter_table("audit_events") as table:
        table.drop_column("salt")

"""The std of the noise on a round's validation counts: in mode secure it depends on who contributed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rounds closed before this have no error bar."""
    with op.batch_alter_table("rounds") as table:
        table.add_column(sa.Column("counts_noise_std", sa.Double, nullable=True))


def downgrade() -> None:
    """Forget the error bars."""
    with op.batch_alter_table("rounds") as table:
        table.drop_column("counts_noise_std")

"""How often each release was fetched; nothing of who fetched it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Counting begins now."""
    op.create_table(
        "release_downloads",
        sa.Column("release", sa.String(length=80), nullable=False),
        sa.Column("file", sa.String(length=64), nullable=False),
        sa.Column("fetched", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("release", "file", name=op.f("pk_release_downloads")),
    )


def downgrade() -> None:
    """Forget the counts."""
    op.drop_table("release_downloads")

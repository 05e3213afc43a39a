"""When members were last seen and what budget they declared; invitations withdrawn, or with an approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody was seen yet; invitations made before this need no approval."""
    op.create_table(
        "member_status",
        sa.Column("member_id", sa.String(length=20), nullable=False),
        sa.Column("last_seen_at", sa.String(length=20), nullable=True),
        sa.Column("budget_share", sa.Double(), nullable=True),
        sa.Column("budget_epsilon", sa.Double(), nullable=True),
        sa.Column("budget_delta", sa.Double(), nullable=True),
        sa.Column("budget_at", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_member_status_member_id")),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_member_status")),
    )
    op.execute("INSERT INTO member_status (member_id) SELECT id FROM members")
    with op.batch_alter_table("invitations") as table:
        table.add_column(sa.Column("withdrawn_at", sa.String(length=20), nullable=True))
        table.add_column(sa.Column("needs_approval", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Forget both; a withdrawn invitation stays over, because its time ended when it was withdrawn."""
    with op.batch_alter_table("invitations") as table:
        table.drop_column("needs_approval")
        table.drop_column("withdrawn_at")
    op.drop_table("member_status")

"""Sessions apart from API tokens, second factors, sign-in from elsewhere, countersigned heads of the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A session opened before this is taken for an API token: whoever looks at pages signs in again."""
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("use", sa.String(length=10), nullable=False, server_default="api"))
        table.add_column(sa.Column("name", sa.String(length=200), nullable=False, server_default=""))
    _signing_in()
    op.create_table(
        "audit_countersignatures",
        sa.Column("member_id", sa.String(length=20), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.Column("at", sa.String(length=20), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("received_at", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(
            ["member_id"], ["members.id"], name=op.f("fk_audit_countersignatures_member_id")
        ),
        sa.PrimaryKeyConstraint("member_id", "seq", name=op.f("pk_audit_countersignatures")),
    )


def _signing_in() -> None:
    op.create_table(
        "second_factors",
        sa.Column("account_id", sa.String(length=20), nullable=False),
        sa.Column("sealed_secret", sa.String(length=300), nullable=False),
        sa.Column("confirmed_at", sa.String(length=20), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_second_factors_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_second_factors")),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("account_id", sa.String(length=20), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("used_at", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_recovery_codes_account_id")),
        sa.PrimaryKeyConstraint("account_id", "sha256", name=op.f("pk_recovery_codes")),
    )
    op.create_table(
        "account_identities",
        sa.Column("issuer", sa.String(length=300), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("account_id", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_account_identities_account_id")
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_account_identities")),
        sa.UniqueConstraint("account_id", name=op.f("uq_account_identities_account_id")),
    )
    op.create_table(
        "sign_in_codes",
        sa.Column("member_id", sa.String(length=20), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_sign_in_codes_member_id")),
        sa.PrimaryKeyConstraint("member_id", name=op.f("pk_sign_in_codes")),
        sa.UniqueConstraint("sha256", name=op.f("uq_sign_in_codes_sha256")),
    )


def downgrade() -> None:
    """Whoever had a second factor has none; what members countersigned is forgotten."""
    for name in (
        "audit_countersignatures",
        "sign_in_codes",
        "account_identities",
        "recovery_codes",
        "second_factors",
    ):
        op.drop_table(name)
    with op.batch_alter_table("tokens") as table:
        table.drop_column("name")
        table.drop_column("use")

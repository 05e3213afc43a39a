"""The first tables: accounts, members, plans, runs, the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NO_HASH = "sha256:" + "0" * 64


def upgrade() -> None:
    """Make the tables and the two rows that serialise the roll and the audit log."""
    _people_and_members()
    _plans_and_runs()
    _log_and_meta()


def _people_and_members() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=True),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("owner_id", sa.String(length=20), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("expires_at", sa.String(length=20), nullable=True),
        sa.Column("revoked_at", sa.String(length=20), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("sha256", name=op.f("uq_tokens_sha256")),
    )
    op.create_index(op.f("ix_tokens_owner_id"), "tokens", ["owner_id"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("member_name", sa.String(length=100), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("expires_at", sa.String(length=20), nullable=False),
        sa.Column("spent_at", sa.String(length=20), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_invitations_secret_sha256")),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("purpose", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("identity_public_key", sa.String(length=64), nullable=False),
        sa.Column("declared_size", sa.BigInteger(), nullable=False),
        sa.Column("node_public_key_pem", sa.Text(), nullable=False),
        sa.Column("node_key_sha256", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("software_version", sa.String(length=50), nullable=False),
        sa.Column("enrolled_at", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("identity_public_key", name=op.f("uq_members_identity_public_key")),
        sa.UniqueConstraint("node_key_sha256", name=op.f("uq_members_node_key_sha256")),
    )
    op.create_index(
        "uq_members_name_in_use",
        "members",
        ["name"],
        unique=True,
        sqlite_where=sa.text("state != 'revoked'"),
        postgresql_where=sa.text("state != 'revoked'"),
    )


def _plans_and_runs() -> None:
    op.create_table(
        "plans",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("proposed_by", sa.String(length=120), nullable=False),
        sa.Column("proposed_at", sa.String(length=20), nullable=False),
        sa.Column("starting_weights", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_plans")),
    )
    op.create_table(
        "consents",
        sa.Column("plan_digest", sa.String(length=71), nullable=False),
        sa.Column("member_id", sa.String(length=20), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("at", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_consents_member_id")),
        sa.ForeignKeyConstraint(["plan_digest"], ["plans.digest"], name=op.f("fk_consents_plan_digest")),
        sa.PrimaryKeyConstraint("plan_digest", "member_id", name=op.f("pk_consents")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=20), nullable=False),
        sa.Column("plan_digest", sa.String(length=71), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("current_round", sa.Integer(), server_default="0", nullable=False),
        sa.Column("checkpoint_digest", sa.String(length=71), nullable=True),
        sa.ForeignKeyConstraint(["plan_digest"], ["plans.digest"], name=op.f("fk_runs_plan_digest")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index(op.f("ix_runs_plan_digest"), "runs", ["plan_digest"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("run_id", sa.String(length=20), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("opened_at", sa.String(length=20), nullable=False),
        sa.Column("closed_at", sa.String(length=20), nullable=True),
        sa.Column("cohort", sa.JSON(), nullable=False),
        sa.Column("contributors", sa.JSON(), nullable=False),
        sa.Column("missing", sa.JSON(), nullable=False),
        sa.Column("checkpoint_digest", sa.String(length=71), nullable=True),
        sa.Column("bytes_up", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_down", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seconds", sa.JSON(), nullable=False),
        sa.Column("counts_correct", sa.Double(), nullable=True),
        sa.Column("counts_wrong", sa.Double(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_rounds_run_id")),
        sa.PrimaryKeyConstraint("run_id", "number", "attempt", name=op.f("pk_rounds")),
    )
    op.create_table(
        "contributions",
        sa.Column("run_id", sa.String(length=20), nullable=False),
        sa.Column("round_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("member_id", sa.String(length=20), nullable=False),
        sa.Column("payload_digest", sa.String(length=71), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.String(length=20), nullable=False),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_contributions_member_id")),
        sa.ForeignKeyConstraint(
            ["run_id", "round_number", "attempt"],
            ["rounds.run_id", "rounds.number", "rounds.attempt"],
            name="fk_contributions_round",
        ),
        sa.PrimaryKeyConstraint(
            "run_id", "round_number", "attempt", "member_id", name=op.f("pk_contributions")
        ),
    )


def _log_and_meta() -> None:
    op.create_table(
        "audit_events",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(length=71), nullable=False),
        sa.Column("hash", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_events")),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=60), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    rows = sa.table("meta", sa.column("key", sa.String), sa.column("value", sa.Text))
    op.bulk_insert(
        rows,
        [
            {"key": "audit_head", "value": f'{{"hash":"{NO_HASH}","seq":0}}'},
            {"key": "roll_version", "value": "0"},
        ],
    )


def downgrade() -> None:
    """Drop everything."""
    op.drop_table("contributions")
    op.drop_table("rounds")
    op.drop_index(op.f("ix_runs_plan_digest"), table_name="runs")
    op.drop_table("runs")
    op.drop_table("consents")
    op.drop_index(op.f("ix_tokens_owner_id"), table_name="tokens")
    op.drop_table("tokens")
    op.drop_table("plans")
    op.drop_table("meta")
    op.drop_index(
        "uq_members_name_in_use",
        table_name="members",
        sqlite_where=sa.text("state != 'revoked'"),
        postgresql_where=sa.text("state != 'revoked'"),
    )
    op.drop_table("members")
    op.drop_table("invitations")
    op.drop_table("audit_events")
    op.drop_table("accounts")

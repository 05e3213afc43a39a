"""The tables: one MetaData, described once; the migrations are checked against it.

Moments are texts in the form of `shared.domain.clock.to_text` (fixed width, so that they sort as times).
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _moment(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(20), nullable=nullable)


accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("password_hash", sa.String(200), nullable=True),
    _moment("created_at"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("owner_id", sa.String(20), nullable=False, index=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("kind", sa.String(20), nullable=False),
    _moment("created_at"),
    _moment("expires_at", nullable=True),
    _moment("revoked_at", nullable=True),
)
"""Bearer tokens, never in the clear. `kind` says whether `owner_id` is an account or a member."""

invitations = sa.Table(
    "invitations",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("member_name", sa.String(100), nullable=False),
    sa.Column("purpose", sa.String(20), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("created_by", sa.String(120), nullable=False),
    _moment("created_at"),
    _moment("expires_at"),
    _moment("spent_at", nullable=True),
)

members = sa.Table(
    "members",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("purpose", sa.String(20), nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("identity_public_key", sa.String(64), nullable=False, unique=True),
    sa.Column("declared_size", sa.BigInteger, nullable=False),
    sa.Column("node_public_key_pem", sa.Text, nullable=False),
    sa.Column("node_key_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("device", sa.String(100), nullable=False),
    sa.Column("software_version", sa.String(50), nullable=False),
    _moment("enrolled_at"),
)
sa.Index(
    "uq_members_name_in_use",
    members.c.name,
    unique=True,
    sqlite_where=members.c.state != "revoked",
    postgresql_where=members.c.state != "revoked",
)
"""Clause 5.1: a cohort never names the same organisation twice; a revoked one may come back."""

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("proposed_by", sa.String(120), nullable=False),
    _moment("proposed_at"),
    sa.Column("starting_weights", sa.String(200), nullable=False),
)
"""`body`: canonical JSON; `state`: proposed, active or retired; `starting_weights`: a path under the home."""

consents = sa.Table(
    "consents",
    metadata,
    sa.Column("plan_digest", sa.ForeignKey("plans.digest"), primary_key=True),
    sa.Column("member_id", sa.ForeignKey("members.id"), primary_key=True),
    sa.Column("signature", sa.String(128), nullable=False),
    _moment("at"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("plan_digest", sa.ForeignKey("plans.digest"), nullable=False, index=True),
    sa.Column("state", sa.String(20), nullable=False),
    _moment("created_at"),
    _moment("updated_at"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("current_round", sa.Integer, nullable=False, server_default="0"),
    sa.Column("checkpoint_digest", sa.String(71), nullable=True),
)

rounds = sa.Table(
    "rounds",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(20), nullable=False),
    _moment("opened_at"),
    _moment("closed_at", nullable=True),
    sa.Column("cohort", sa.JSON, nullable=False),
    sa.Column("contributors", sa.JSON, nullable=False),
    sa.Column("missing", sa.JSON, nullable=False),
    sa.Column("checkpoint_digest", sa.String(71), nullable=True),
    sa.Column("bytes_up", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("bytes_down", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("seconds", sa.JSON, nullable=False),
    sa.Column("counts_correct", sa.Double, nullable=True),
    sa.Column("counts_wrong", sa.Double, nullable=True),
    sa.Column("counts_noise_std", sa.Double, nullable=True),
    sa.Column("note", sa.Text, nullable=False, server_default=""),
)

contributions = sa.Table(
    "contributions",
    metadata,
    sa.Column("run_id", sa.String(20), primary_key=True),
    sa.Column("round_number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("member_id", sa.ForeignKey("members.id"), primary_key=True),
    sa.Column("payload_digest", sa.String(71), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    _moment("at"),
    sa.ForeignKeyConstraint(
        ["run_id", "round_number", "attempt"],
        ["rounds.run_id", "rounds.number", "rounds.attempt"],
        name="fk_contributions_round",
    ),
)

audit_events = sa.Table(
    "audit_events",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _moment("at"),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("action", sa.String(60), nullable=False),
    sa.Column("subject", sa.String(120), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("prev_hash", sa.String(71), nullable=False),
    sa.Column("hash", sa.String(71), nullable=False),
)
"""`detail` is canonical JSON, kept as text: the hash covers exactly these bytes."""

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(60), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

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
    sa.Column("use", sa.String(10), nullable=False, server_default="api"),
    sa.Column("name", sa.String(200), nullable=False, server_default=""),
)
"""Bearer tokens, never in the clear. `kind` says whether `owner_id` is an account or a member; `use`, whether it
opened a session by signing in; `name`, what its owner called it, or where the session was opened."""

second_factors = sa.Table(
    "second_factors",
    metadata,
    sa.Column("account_id", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("sealed_secret", sa.String(300), nullable=False),
    _moment("confirmed_at", nullable=True),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
)
"""`last_step`: the time step of the last code that was used; `failures`: wrong codes since then."""

recovery_codes = sa.Table(
    "recovery_codes",
    metadata,
    sa.Column("account_id", sa.ForeignKey("accounts.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), primary_key=True),
    _moment("used_at", nullable=True),
)

account_identities = sa.Table(
    "account_identities",
    metadata,
    sa.Column("issuer", sa.String(300), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("account_id", sa.ForeignKey("accounts.id"), nullable=False, unique=True),
)
"""Which account a person has who signs in elsewhere: by issuer and subject, the only lasting name (OIDC, 5.7)."""

sign_in_codes = sa.Table(
    "sign_in_codes",
    metadata,
    sa.Column("member_id", sa.ForeignKey("members.id"), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    _moment("expires_at"),
)
"""At most one a member: what its node asked for, so that its operator can open the dashboard."""

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
    _moment("withdrawn_at", nullable=True),
    sa.Column("needs_approval", sa.Boolean, nullable=False, server_default=sa.false()),
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

member_status = sa.Table(
    "member_status",
    metadata,
    sa.Column("member_id", sa.ForeignKey("members.id"), primary_key=True),
    _moment("last_seen_at", nullable=True),
    sa.Column("budget_share", sa.Double, nullable=True),
    sa.Column("budget_epsilon", sa.Double, nullable=True),
    sa.Column("budget_delta", sa.Double, nullable=True),
    _moment("budget_at", nullable=True),
)
"""What changes often: when a node was last connected, and what it declared to be left of its budget."""

plans = sa.Table(
    "plans",
    metadata,
    sa.Column("digest", sa.String(71), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("proposed_by", sa.String(120), nullable=False),
    _moment("proposed_at"),
    sa.Column("starting_weights", sa.String(200), nullable=False),
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),
)
"""`body`: canonical JSON; `state`: proposed or withdrawn; `starting_weights`: a path under the home; `number`: how many
there were before it, which tells plans of one second apart."""

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

round_events = sa.Table(
    "round_events",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("run_id", sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    _moment("at"),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("member_id", sa.String(20), nullable=True),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("ix_round_events_in_order", "run_id", "id"),
    sa.Index("ix_round_events_of_round", "run_id", "number", "attempt"),
)
"""Written in batches by the one driver, so that `id` grows as things happen; `seconds` since the attempt was opened."""

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
    sa.Column("salt", sa.String(32), nullable=False, server_default=""),
)
"""`detail` is canonical JSON, kept as text: the hash covers exactly these bytes."""

audit_countersignatures = sa.Table(
    "audit_countersignatures",
    metadata,
    sa.Column("member_id", sa.ForeignKey("members.id"), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.String(71), nullable=False),
    _moment("at"),
    sa.Column("signature", sa.String(128), nullable=False),
    _moment("received_at"),
)
"""What members saw of the audit log, signed with their identity keys; `at` is the member's time."""

release_downloads = sa.Table(
    "release_downloads",
    metadata,
    sa.Column("release", sa.String(80), primary_key=True),
    sa.Column("file", sa.String(64), primary_key=True),
    sa.Column("fetched", sa.BigInteger, nullable=False),
)
"""How often a file of a release was fetched: a number, and nothing of who fetched it."""

publish_jobs = sa.Table(
    "publish_jobs",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id"), primary_key=True),
    _moment("since"),
    _moment("ended_at", nullable=True),
    sa.Column("release", sa.String(80), nullable=False, server_default=""),
    sa.Column("problem", sa.Text, nullable=False, server_default=""),
    sa.Column("notes", sa.Text, nullable=False, server_default=""),
)
"""The last of each run: a release that is being made while nobody waits, or what it came to."""

meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(60), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

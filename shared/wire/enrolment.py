"""The bodies of joining, signing in and membership; extra keys are refused and every length is bounded.

Clause 5.1: a member is known by the identity key it enrols with; `proof` shows that it holds that key.
"""

from __future__ import annotations

import importlib.metadata
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.domain.consortium import MEMBER_NAME, MOST_DECLARED, MOST_INVITATION_S
from shared.release.signing import SigningKey, verify_value

LEAST_CLOCK_OFFSET_S = -5.0
MOST_CLOCK_OFFSET_S = 305.0
"""Coordinator's clock minus member's: outside these the engine refuses a node's signed timestamps."""

PublicKeyHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SignatureHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
Secret = Annotated[str, StringConstraints(min_length=8, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]
Pem = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=MEMBER_NAME)]
ShortText = Annotated[str, StringConstraints(max_length=100, pattern=r"^[ -~]*$")]
Version = Annotated[str, StringConstraints(max_length=50, pattern=r"^[ -~]*$")]
Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class Body(BaseModel):
    """Base of every body: unknown keys are an error and a value cannot change after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class EnrolmentRequest(Body):
    """POST /enrolments. `proof` covers every other field, the secret included, under kind "enrolment"."""

    secret: Secret = Field(repr=False)
    identity_public_key: PublicKeyHex
    node_public_key_pem: Pem
    device: ShortText
    software_version: Version
    declared_size: Annotated[int, Field(ge=0, le=MOST_DECLARED, strict=True)]
    proof: SignatureHex

    def signed_part(self) -> dict[str, Any]:
        """What `proof` covers."""
        return self.model_dump(exclude={"proof"})

    def verify_proof(self) -> None:
        """Raise BadSignature unless the sender holds the identity key it names."""
        verify_value(self.identity_public_key, "enrolment", self.signed_part(), self.proof)


def sign_enrolment(
    identity_key: SigningKey,
    *,
    secret: str,
    node_public_key_pem: str,
    device: str,
    software_version: str,
    declared_size: int,
) -> EnrolmentRequest:
    """A request with its proof of possession."""
    fields: dict[str, Any] = {
        "secret": secret,
        "identity_public_key": identity_key.public_hex,
        "node_public_key_pem": node_public_key_pem,
        "device": device,
        "software_version": software_version,
        "declared_size": declared_size,
    }
    return EnrolmentRequest(**fields, proof=identity_key.sign_value("enrolment", fields))


class EnrolmentReply(Body):
    """The only time that the member's token is shown. `roll` is the signed roll with the new member."""

    member_id: ShortText
    token: Secret = Field(repr=False)
    roll: dict[str, Any]
    name: Name
    consortium: ShortText | Name


class TrustReply(Body):
    """GET /trust: what a stranger pins. The fingerprint of `ca_pem` comes by another way."""

    ca_pem: Annotated[str, StringConstraints(max_length=8000)]
    trust: dict[str, Any]
    coordinator_time: Moment
    version: Version
    protocol: int


class HealthReply(Body):
    """GET /health."""

    status: Literal["ok"] = "ok"
    version: Version


class SignInRequest(Body):
    """POST /sessions."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(repr=False)
    code: Annotated[str, StringConstraints(max_length=40)] = Field(default="", repr=False)
    """Of the account's second factor, where it has one."""


class SignInReply(Body):
    """A token for the Authorization header, shown once."""

    token: Secret = Field(repr=False)
    name: str
    role: str
    expires_at: Moment


class SignInLinkReply(Body):
    """POST /node/sign-in-link: an address that holds a one-time code."""

    url: Annotated[str, StringConstraints(max_length=400)] = Field(repr=False)
    expires_at: Moment


class InvitationRequest(Body):
    """POST /invitations."""

    member_name: Name
    purpose: Literal["contribute", "use"] = "contribute"
    lifetime_s: Annotated[float, Field(gt=0, le=MOST_INVITATION_S, strict=True)] | None = None
    needs_approval: Annotated[bool, Field(strict=True)] = False


class InvitationReply(Body):
    """The only time that the secret is shown."""

    id: ShortText
    member_name: str
    purpose: str
    secret: Secret = Field(repr=False)
    expires_at: Moment
    needs_approval: bool
    url: str
    ca_fingerprint: ShortText
    join_line: str
    """What the organisation pastes. It asks for the secret, which goes another way and never stands in a line."""


class InvitationView(Body):
    """One line of GET /invitations; never the secret nor its hash."""

    id: ShortText
    member_name: str
    purpose: str
    created_by: str
    created_at: Moment
    expires_at: Moment
    spent_at: Moment | None
    withdrawn_at: Moment | None
    needs_approval: bool


class BudgetView(Body):
    """What a member declares to be left of its ceiling: see `shared.domain.consortium.BudgetLeft`."""

    share: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    epsilon: Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]
    delta: Annotated[float, Field(gt=0.0, lt=1.0, allow_inf_nan=False)]


class NodeReport(Body):
    """POST /node/report: what a member's node says of itself. `budget` is null where its policy declares none."""

    software_version: Version
    budget: BudgetView | None = None


class MemberView(Body):
    """One line of GET /members. A member gets its own."""

    id: ShortText
    name: str
    purpose: str
    state: str
    identity_public_key: PublicKeyHex
    declared_size: int
    device: str
    software_version: str
    enrolled_at: Moment
    fingerprint: str
    """The identity key as people compare it, the same text as `commonlens-participant peers` shows."""
    differs: str
    """How the coordinator's database has it otherwise than the signed roll, after its name; empty where it does not."""
    online: bool
    last_seen_at: Moment | None
    budget_left: BudgetView | None
    """As declared by the member, at `budget_at`."""
    budget_at: Moment | None


class AuditView(Body):
    """One line of GET /audit."""

    seq: int
    at: Moment
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    prev_hash: str
    hash: str
    salt: str = ""
    """Random, and part of what the hash covers; empty, and not covered, in lines written before there were salts."""


class MemberDetail(MemberView):
    """GET /members/{member_id}: with the newest audit lines about it, newest first."""

    history: list[AuditView]


class AuditReply(Body):
    """A page of the log. `intact` is false where its lines do not follow each other; `fault` then names the line.

    The whole chain, with members' countersignatures: GET /audit/verification.
    """

    entries: list[AuditView]
    head_seq: int
    head_hash: str
    intact: bool
    fault: str


def join_line(url: str, ca_fingerprint: str, purpose: str) -> str:
    """What an invited organisation pastes. A contributor is asked for its size, which is its own to say."""
    size = " --declared-size 0" if purpose == "use" else ""
    return f"commonlens-participant join {url} --ca-fingerprint {ca_fingerprint}{size}"


def software_version() -> str:
    """The installed version of Commonlens."""
    return importlib.metadata.version("commonlens")

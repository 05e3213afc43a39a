"""This member's client of the coordinator's control plane."""

from __future__ import annotations

from pydantic import ValidationError

from participant.enrol import read_link
from participant.home import Home
from shared.domain.errors import DigestMismatch, IllegalMove, InvalidMessage
from shared.domain.plan import Plan
from shared.domain.strict import build
from shared.release import limits
from shared.release.envelope import Envelope, parse_document
from shared.wire.audit import AuditHead, CountersignatureRequest
from shared.wire.client import ControlClient
from shared.wire.enrolment import NodeReport, SignInLinkReply
from shared.wire.rounds import MAXIMUM_PAYLOAD_BYTES


class MemberControl:
    """Calls under the member's own token, over TLS that trusts only the consortium's CA."""

    def __init__(self, home: Home) -> None:
        link = read_link(home.root)
        self.client = ControlClient(link.url, link.ca_pem, link.token)

    def plan(self, digest: str) -> Plan:
        """The plan with this digest, recomputed from its content. Raises DigestMismatch, IllegalMove if withdrawn."""
        answer = self.client.get(f"/plans/{digest}")
        if answer.get("withdrawn"):  # a coordinator of an earlier version does not say
            raise IllegalMove(
                f"Plan {digest} was withdrawn: no run will begin from it. Nothing was kept or signed. List the plans."
            )
        plan = build(Plan, answer["plan"], "plan")
        if plan.digest != digest:
            raise DigestMismatch(
                f"Plan {digest} was asked for, the one that came has digest {plan.digest}. Nothing was kept. "
                "Tell the consortium's admin."
            )
        return plan

    def starting_weights(self, digest: str) -> bytes:
        """The plan's starting weights file; checked against the plan by whoever keeps it."""
        return self.client.get_bytes(f"/plans/{digest}/starting-weights", MAXIMUM_PAYLOAD_BYTES)

    def send_consent(self, digest: str, signature: str) -> None:
        """Hand the signed consent over."""
        self.client.post(f"/plans/{digest}/consents", {"signature": signature})

    def trust(self) -> Envelope:
        """The trust document of today, unchecked: hand it to `accept_roll`."""
        answer = parse_document(self.client.get_bytes("/trust", limits.TRUST_BYTES), "trust answer")
        envelope = answer.get("trust")
        if not isinstance(envelope, dict):
            raise InvalidMessage(
                "The coordinator's answer holds no trust document. Nothing was kept. Tell the consortium's admin."
            )
        return envelope

    def roll(self) -> Envelope:
        """The signed roll of today, unchecked: hand it to `accept_roll`."""
        return parse_document(self.client.get_bytes("/roll", limits.ROLL_BYTES), "roll")

    def send_report(self, report: NodeReport) -> None:
        """Tell the coordinator what this node says of itself."""
        self.client.post("/node/report", report.model_dump())

    def audit_head(self, earlier: int) -> AuditHead:
        """Number and hash of the audit log's last line, and the hash of the line `earlier`."""
        answer = self.client.get(f"/audit/head?earlier={earlier}")
        try:
            return AuditHead.model_validate(answer)
        except ValidationError as error:
            raise InvalidMessage(
                "The coordinator's answer about its audit log has not the form that the protocol sets. Nothing was "
                "signed. Check that both sides run the same version."
            ) from error

    def send_countersignature(self, request: CountersignatureRequest) -> None:
        """Hand a signature under the audit log's head in."""
        self.client.post("/audit/countersignatures", request.model_dump())

    def sign_in_link(self) -> SignInLinkReply:
        """An address that opens the dashboard for this member's operator: once, within two minutes."""
        return SignInLinkReply.model_validate(self.client.post("/node/sign-in-link"))

    def announce_restart(self) -> None:
        """Have the coordinator forget this node's old connection."""
        self.client.post("/node/restarted")

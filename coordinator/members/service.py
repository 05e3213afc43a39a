"""Membership: an invitation spent and keys enrolled; suspended, resumed or revoked at once.

Every change is one transaction: the rows, the signed roll and the audit line are kept or undone together.
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from coordinator.audit.log import append
from coordinator.members import store
from coordinator.members.invitations import spend_invitation
from coordinator.members.names import refuse_alike, refuse_mixed
from coordinator.members.node_directory import NodeDirectory
from coordinator.members.roll import RollService
from coordinator.members.tokens import TokenKind, issue_token, revoke_tokens
from coordinator.storage.database import reading, writing
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Member, MemberState, Node, Purpose, round_declared_size
from shared.domain.errors import AlreadyExists, IllegalMove, InvalidMessage
from shared.domain.ids import MemberId, new_id
from shared.domain.invitation import Invitation
from shared.domain.moves import check_move
from shared.wire.enrolment import EnrolmentReply, EnrolmentRequest

MOVES: Mapping[MemberState, frozenset[MemberState]] = {
    MemberState.PENDING: frozenset({MemberState.ACTIVE, MemberState.REVOKED}),
    MemberState.ACTIVE: frozenset({MemberState.SUSPENDED, MemberState.REVOKED}),
    MemberState.SUSPENDED: frozenset({MemberState.ACTIVE, MemberState.REVOKED}),
    MemberState.REVOKED: frozenset(),
}


class MemberService:
    """Decides who is a member; the store keeps it, the carrier's directory carries it out."""

    def __init__(
        self, engine: sa.Engine, clock: Clock, consortium: str, roll: RollService, nodes: NodeDirectory
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._consortium = consortium
        self._roll = roll
        self._nodes = nodes

    def enrol(self, request: EnrolmentRequest) -> EnrolmentReply:
        """Spend the invitation and let the member in; its token is in the reply and nowhere else.

        A member whose reply was lost may use a new invitation of the same name with the same keys: it keeps
        its id, and its old token stops. Raises BadSignature (no proof of the identity key), InvalidMessage
        (wrong node key, a contributor that declares no size, or a name of mixed scripts), InvitationRejected,
        AlreadyExists (also for a name that looks like another member's), KeyReplaced as `RollService.sign`.
        Where the invitation asks for an admin's approval, the member is pending: neither its token nor its node
        opens anything before `approve`.
        """
        request.verify_proof()
        node_key = canonical_node_key(request.node_public_key_pem)
        registered: MemberId | None = None
        try:
            with writing(self._engine) as connection:
                invitation = spend_invitation(connection, self._clock, request.secret)
                refuse_wrong_size(invitation, request)  # raised here it leaves the invitation unspent
                member, action = self._admit(connection, invitation, request, node_key)
                token, _ = issue_token(connection, self._clock, member.id, TokenKind.MEMBER, None)
                roll = self._roll.sign(connection, joining=member)
                # Last, as everywhere: two transactions that lock roll and log in one order cannot deadlock.
                detail = {
                    "name": member.name,
                    "invitation": invitation.id,
                    "state": member.state.value,
                }
                append(connection, self._clock, f"member:{member.id}", action, member.id, detail)
                if member.state is MemberState.ACTIVE:
                    self._nodes.register(member.id, node_key)
                    registered = member.id
        except BaseException:
            if registered is not None:  # the carrier let it in, but the rows were not kept
                self._nodes.suspend(registered)
            raise
        self._roll.keep(roll)
        return EnrolmentReply(
            member_id=member.id, token=token, roll=roll, name=member.name, consortium=self._consortium
        )

    def approve(self, member_id: str, actor: str) -> Member:
        """Let a pending member in. Raises KeyReplaced, as `resume`, where the roll has it otherwise."""
        member = self._move(
            member_id, MemberState.ACTIVE, actor, "member.approved", only_from=MemberState.PENDING
        )
        self._nodes.register(member.id, member.node.node_public_key_pem)
        return member

    def suspend(self, member_id: str, actor: str) -> Member:
        """Shut the member out until it is resumed: its token and its node stop at once."""
        member = self._move(member_id, MemberState.SUSPENDED, actor, "member.suspended")
        self._nodes.suspend(member.id)
        return member

    def resume(self, member_id: str, actor: str) -> Member:
        """Let a suspended member in again, with the same token and keys."""
        member = self._move(
            member_id, MemberState.ACTIVE, actor, "member.resumed", only_from=MemberState.SUSPENDED
        )
        self._nodes.register(member.id, member.node.node_public_key_pem)
        return member

    def revoke(self, member_id: str, actor: str) -> Member:
        """Shut the member out for ever; to come back it needs a new invitation and new keys."""
        member = self._move(member_id, MemberState.REVOKED, actor, "member.revoked")
        self._nodes.unregister(member.id)
        return member

    def every(self) -> list[Member]:
        """All members, in the order in which they joined, under the names and with the keys of the signed roll."""
        with reading(self._engine) as connection:
            return self._roll.as_signed(connection, store.every_member(connection))

    def get(self, member_id: str) -> Member:
        """One member, in the same way. Raises NotFound."""
        with reading(self._engine) as connection:
            return self._roll.as_signed(connection, [store.get_member(connection, member_id)])[0]

    def register_all(self) -> None:
        """Tell a carrier that just started which node keys may speak: those of active members."""
        with reading(self._engine) as connection:
            active = store.every_member(connection, MemberState.ACTIVE)
        for member in active:
            self._nodes.register(member.id, member.node.node_public_key_pem)

    def _admit(
        self,
        connection: sa.Connection,
        invitation: Invitation,
        request: EnrolmentRequest,
        node_key: str,
    ) -> tuple[Member, str]:
        """(the member, what the audit log calls it)."""
        known = store.find_by_identity_key(connection, request.identity_public_key)
        if known is not None:
            self._admit_again(connection, known, invitation, request, node_key)
            return known, "member.enrolled-again"
        refuse_mixed(invitation.member_name)
        refuse_alike(invitation.member_name, [m.name for m in store.every_member(connection)])
        member = Member(
            id=MemberId(new_id("mem")),
            name=invitation.member_name,
            purpose=invitation.purpose,
            state=MemberState.PENDING if invitation.needs_approval else MemberState.ACTIVE,
            identity_public_key=request.identity_public_key,
            declared_size=round_declared_size(request.declared_size),
            node=Node(node_key, request.device, request.software_version),
            enrolled_at=to_text(self._clock.now()),
        )
        store.insert_member(connection, member)
        return member, "member.enrolled"

    def _admit_again(
        self,
        connection: sa.Connection,
        known: Member,
        invitation: Invitation,
        request: EnrolmentRequest,
        node_key: str,
    ) -> None:
        same = (
            known.state in (MemberState.ACTIVE, MemberState.PENDING)
            and known.name == invitation.member_name
            and known.node.node_public_key_pem == node_key
        )
        if not same:
            raise AlreadyExists(
                "This identity key is already enrolled under another name or node key, or it was suspended "
                "or revoked. Nothing was changed. Join with a fresh folder of keys, or ask an admin."
            )
        revoke_tokens(connection, self._clock, owner_id=known.id)
        store.set_node(connection, known.id, request.device, request.software_version)

    def _move(
        self,
        member_id: str,
        wanted: MemberState,
        actor: str,
        action: str,
        only_from: MemberState | None = None,
    ) -> Member:
        with writing(self._engine) as connection:
            member = store.lock_member(connection, member_id)
            check_move("member", MOVES, member.state, wanted, "nothing any more")
            if only_from not in (None, member.state):
                raise IllegalMove(
                    f"The member is {member.state.value}, and this is for a {only_from.value} one. Nothing was "
                    f"changed. {'Approve' if member.state is MemberState.PENDING else 'Resume'} it instead."
                )
            store.set_state(connection, member.id, wanted)
            if wanted is MemberState.REVOKED:
                revoke_tokens(connection, self._clock, owner_id=member.id)
            roll = self._roll.sign(connection)
            if wanted is MemberState.ACTIVE:
                self._roll.refuse_differing(connection, member.id)
            append(connection, self._clock, actor, action, member.id, {"was": member.state.value})
            (moved,) = self._roll.as_signed(connection, [store.get_member(connection, member.id)])
        self._roll.keep(roll)
        return moved


def refuse_wrong_size(invitation: Invitation, request: EnrolmentRequest) -> None:
    """Raise InvalidMessage for a contributor that declares no size, since its steps are divided by it (clause 6.3),
    and for one invited to use releases that declares some, since it expects to train."""
    if invitation.purpose is Purpose.CONTRIBUTE and request.declared_size == 0:
        raise InvalidMessage(
            "A contributor declares a size of at least 1 record; this one declares 0. Nothing was enrolled, and the "
            "invitation is not spent. Join again with --declared-size; who only uses releases needs an invitation "
            "made with --use-only."
        )
    if invitation.purpose is Purpose.USE and request.declared_size != 0:
        raise InvalidMessage(
            f"This invitation is for using releases only, and {request.declared_size:,} records are declared to train "
            "with. Nothing was enrolled, and the invitation is not spent. Join again with --declared-size 0; who "
            "trains needs an invitation made without --use-only."
        )


def canonical_node_key(pem: str) -> str:
    """The one PEM text of an EC P-384 public key, so that a key cannot be enrolled twice in two spellings."""
    try:
        key = load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnicodeEncodeError, TypeError) as error:
        raise InvalidMessage("The node key is not a PEM public key. Nothing was enrolled.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InvalidMessage("The node key: expected an EC P-384 public key. Nothing was enrolled.")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")

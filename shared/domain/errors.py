"""The whole error tree: six families, each leaf with a stable documented code.

    CommonlensError
    ├── Refused      our rules say no                       exit 1
    ├── Invalid      the input is wrong                     exit 2
    ├── Conflict     right request, wrong time              exit 1 (Unreachable: 4)
    ├── NotTrusted   a proof failed                         exit 3
    ├── Abandoned    the protocol ended empty               exit 1
    └── Broken       our fault; detail is stripped at edges exit 5

Wording of every message: what was true (both numbers, expected before actual); then what did or did not happen; then
one next step. Never a record, a secret, a record count, or a path of the other side. docs/errors.md is made of this.
"""

from __future__ import annotations

from typing import ClassVar


class CommonlensError(Exception):
    """Base of every error that Commonlens raises on purpose."""

    code: ClassVar[str] = ""
    exit_code: ClassVar[int] = 5

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Refused(CommonlensError):
    """Our rules say no."""

    code = "refused"
    exit_code = 1


class Invalid(CommonlensError):
    """The input is wrong."""

    code = "invalid"
    exit_code = 2


class Conflict(CommonlensError):
    """Right request, wrong time."""

    code = "conflict"
    exit_code = 1


class NotTrusted(CommonlensError):
    """A proof failed."""

    code = "not-trusted"
    exit_code = 3


class Abandoned(CommonlensError):
    """The protocol ended empty."""

    code = "abandoned"
    exit_code = 1


class Broken(CommonlensError):
    """Our fault; the detail stays in the log of the side where it happened."""

    code = "broken"
    exit_code = 5


class BudgetExceeded(Refused):
    """The privacy budget that the member's policy sets would be overspent; nothing was charged."""

    code = "refused.budget-exceeded"


class PolicyForbids(Refused):
    """The member's own policy file does not allow what the plan asks for."""

    code = "refused.policy-forbids"


class UnsoundPlan(Refused):
    """The plan's privacy argument does not hold as written, so nobody may consent to it."""

    code = "refused.unsound-plan"


class MixesRecords(UnsoundPlan):
    """A layer (such as BatchNorm) mixes records, so one record's influence cannot be bounded."""

    code = "refused.mixes-records"


class NotAllowed(Refused):
    """The role of the signed-in person or node does not allow this."""

    code = "refused.not-allowed"


class AlreadyReleased(Refused):
    """A round was already answered and its bytes are gone; noise is never drawn a second time."""

    code = "refused.already-released"


class ChargeMismatch(Refused):
    """A charge does not pay for what is asked: another round, plan or other events than it names."""

    code = "refused.charge-mismatch"


class NotCharged(Refused):
    """Bytes of a round were about to leave although the ledger holds no charge for that round."""

    code = "refused.not-charged"


class TokenRejected(Refused):
    """A charge token was used a second time, or did not come from the ledger."""

    code = "refused.token"


class DefaultPassword(Refused):
    """The coordinator was asked to start while an account still has a well-known password."""

    code = "refused.default-password"


class ConsentMissing(Refused):
    """A plan was asked to run, or a node to train, without the member's signed consent."""

    code = "refused.consent-missing"


class ExceedsClaim(Refused):
    """An attack of the red team got through a protection, or its audit measured more than the plan claims."""

    code = "refused.exceeds-claim"


class PeersWaiting(Refused):
    """A plan sums with organisations that this member's operator has not approved as they are on the roll now."""

    code = "refused.peers-waiting"


class PlaceDecides(Refused):
    """What this machine finds for one record depends on where the others stand, so no clip bounds what one moves."""

    code = "refused.place-decides"


class OverlappingData(Refused):
    """The records belong to another data set of this member, and the same units would get a second budget."""

    code = "refused.overlapping-data"


class TooManyAttempts(Refused):
    """Too many failed attempts in a short time; wait before the next one."""

    code = "refused.too-many-attempts"


class UnsafeCohort(Refused):
    """A secure round's members are too few, named twice, or not the ones this member was told before."""

    code = "refused.unsafe-cohort"


class UnmaskRefused(Refused):
    """A request to unmask would not end in the one sum of a quorum that the round allows."""

    code = "refused.unmask"


class InvalidConfig(Invalid):
    """A configuration, plan or policy file has an unknown or missing key, a wrong type or a number that cannot be."""

    code = "invalid.config"


class InvalidRecords(Invalid):
    """A data set has files that cannot be read as records; each is listed with its reason."""

    code = "invalid.records"


class InvalidWeights(Invalid):
    """A weights file or vector has the wrong format, names, shapes, length or values."""

    code = "invalid.weights"


class UnknownClass(Invalid):
    """The member's data set has a class that the plan's shared training head does not list; nothing was charged."""

    code = "invalid.unknown-class"


class HeadMismatch(Invalid):
    """A head was given embeddings of another release, or of another width; nothing was predicted."""

    code = "invalid.head-mismatch"


class InvalidMessage(Invalid):
    """A message is truncated, oversized, or not in the form the protocol sets."""

    code = "invalid.message"


class NotFound(Invalid):
    """What was named does not exist here."""

    code = "invalid.not-found"


class IllegalMove(Conflict):
    """A run, a round, a member, an invitation or a release cannot do what was asked from the state that it is in."""

    code = "conflict.illegal-move"


class AlreadyExists(Conflict):
    """The name or folder is taken."""

    code = "conflict.already-exists"


class ClockSkew(Conflict):
    """The two machines' clocks are too far apart for signed timestamps to hold."""

    code = "conflict.clock-skew"


class VersionMismatch(Conflict):
    """The two sides run versions that do not speak the same protocol."""

    code = "conflict.version-mismatch"


class OutOfSpace(Conflict):
    """The disk has too little room; nothing was written."""

    code = "conflict.out-of-space"


class OutOfMemory(Conflict):
    """The device that trains has too little memory for even one record; nothing was sent."""

    code = "conflict.out-of-memory"


class TookTooLong(Conflict):
    """A process of ours was ended before it was done: the machine had too much else to do, or something hangs."""

    code = "conflict.took-too-long"


class Unreachable(Conflict):
    """The other side did not answer."""

    code = "conflict.unreachable"
    exit_code = 4


class StoreUnreachable(Unreachable):
    """The object store with the large files of releases did not answer; small files of releases are still sent."""

    code = "conflict.store-unreachable"


class CatalogueDamaged(Conflict):
    """The coordinator's own list of releases cannot be read, or is not what it signed; it gives none until then."""

    code = "conflict.catalogue-damaged"


class WrongAuthority(NotTrusted):
    """The coordinator's certificate authority is not the one whose fingerprint was given."""

    code = "not-trusted.wrong-authority"


class InvitationRejected(NotTrusted):
    """The invitation's secret is unknown, already spent, or expired."""

    code = "not-trusted.invitation"


class SignInFailed(NotTrusted):
    """The name, password or token is not valid."""

    code = "not-trusted.sign-in"


class BadSignature(NotTrusted):
    """A signature does not verify under the key that the trust file names."""

    code = "not-trusted.signature"


class DigestMismatch(NotTrusted):
    """Bytes do not have the digest that a signed document promised."""

    code = "not-trusted.digest"


class RolledBack(NotTrusted):
    """A signed document is older than one already seen here."""

    code = "not-trusted.rollback"


class Expired(NotTrusted):
    """A signed document's time is over."""

    code = "not-trusted.expired"


class BrokenChain(NotTrusted):
    """A hash-chained log (ledger or audit) was changed, cut or reordered."""

    code = "not-trusted.chain"


class ProofFailed(NotTrusted):
    """A release does not hold together: a proof other than a signature or digest failed."""

    code = "not-trusted.proof"


class CertificateWrong(NotTrusted):
    """The privacy certificate claims less ε than its own events recompute to."""

    code = "not-trusted.certificate"


class KeyReplaced(NotTrusted):
    """A member in the database is not as on the signed roll: it is not let in, and nobody enrols meanwhile."""

    code = "not-trusted.key-replaced"


class Revoked(NotTrusted):
    """The member's access was revoked or is suspended by an admin."""

    code = "not-trusted.revoked"


class UnapprovedMember(NotTrusted):
    """A secure round names an organisation that this member's operator has not approved on the roll."""

    code = "not-trusted.unapproved-member"


class SharesRejected(NotTrusted):
    """A member's sealed shares do not open under the keys of the round's roster."""

    code = "not-trusted.shares"


class QuorumMissed(Abandoned):
    """Fewer members contributed by the deadline than the plan's quorum; nothing was averaged."""

    code = "abandoned.quorum"


class RunStopped(Abandoned):
    """An admin stopped the run."""

    code = "abandoned.stopped"


class UnmaskFailed(Abandoned):
    """The masks of a secure sum could not be rebuilt from the answers, so the sum stays unknown."""

    code = "abandoned.unmask"


def every_error() -> list[type[CommonlensError]]:
    """All classes of the tree, parents before children, in the order of this file."""
    found = [CommonlensError]
    for current in found:  # grows while it is gone through
        found += current.__subclasses__()
    return list(found[1:])

"""Round messages to bytes and back; every length is bounded before anything is parsed.

The Flower message carries one of these small JSON bodies. The weights go beside it, over the same TLS
server, as one flat little-endian float32 array named by digest and fetched or sent with a one-time ticket;
in mode secure what comes back is one flat little-endian array of ring elements (clause 3.4).

A `RoundRequest` asks for a contribution. A `StepRequest` asks for one of the small answers that surround it
in mode secure (clause 5): round keys, their shares, a signature under the list of survivors, unmasking.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Invalid, InvalidMessage
from shared.domain.strict import build, later, to_plain
from shared.domain.update import ContributionHeader
from shared.secagg.messages import Deal, KeyOffer, UnmaskShares

PROTOCOL_VERSION = 3
MAXIMUM_BODY_BYTES = 1024 * 1024
"""The largest are the shares of one member for 200 others (clause 5.2)."""
MAXIMUM_PAYLOAD_BYTES = 2**31
BYTES_PER_COORDINATE = 4

WEIGHTS_PATH = "/api/v1/rounds/weights"
CONTRIBUTION_PATH = "/api/v1/rounds/contribution"
TICKET_HEADER = "commonlens-ticket"

T = TypeVar("T")


@dataclass(frozen=True)
class MaskedAsk:
    """Mode secure: whom a member's contribution is masked against, and the shares it is given to keep."""

    roster_digest: str
    cohort: tuple[str, ...]
    """Who dealt shares, sorted: masks and noise shares are for exactly these."""
    ciphertexts: Mapping[str, str]
    """Sender → its shares for this member, encrypted to this member (clause 5.2)."""


@dataclass(frozen=True)
class RoundRequest:
    """Coordinator to member: train for this round of this plan, from these weights."""

    protocol: int
    run_id: str
    round_number: int
    plan_digest: str
    weights_digest: str
    weights_bytes: int
    deadline_s: float
    weights_ticket: str
    contribution_ticket: str
    masked: MaskedAsk | None = later(None)


class Step(enum.Enum):
    """The small exchanges of mode secure; the first two ride on the round before when nobody is new."""

    OFFER = "offer"
    """Make one-round keys and sign them (clause 5.1)."""
    DEAL = "deal"
    """Share this round's secrets among the roster (clause 5.2)."""
    ENDORSE = "endorse"
    """Sign the list of survivors, where it is not the whole cohort (clause 5.4)."""
    UNMASK = "unmask"
    """Give the shares that lift the masks from the sum of the survivors (clause 5.4)."""


@dataclass(frozen=True)
class StepRequest:
    """Coordinator to member: one small step of one round; which fields are set follows from `step`."""

    protocol: int
    step: Step
    run_id: str
    round_number: int
    plan_digest: str
    roster: tuple[KeyOffer, ...] = ()
    """DEAL: this round's. UNMASK: the next round's, which is answered with a deal for it; may be empty."""
    survivors: tuple[str, ...] = ()
    """ENDORSE and UNMASK, sorted."""
    endorsements: Mapping[str, str] | None = later(None)
    """UNMASK: each survivor's signature under the whole cohort, given with its contribution."""
    list_endorsements: Mapping[str, str] | None = later(None)
    """UNMASK: signatures under `survivors`, where they are not the whole cohort."""


@dataclass(frozen=True)
class RoundReply:
    """Member to coordinator: a signed contribution, the answer to a step, or a refusal with code and text."""

    header: ContributionHeader | None = None
    signature: str | None = None
    """128 hex digits: Ed25519 by the member's identity key over the header (clause 5.6)."""
    refusal_code: str | None = None
    refusal_text: str | None = None
    endorsement: str | None = later(None)
    """With a masked contribution: signature under the whole cohort. For ENDORSE: under the survivors."""
    offer: KeyOffer | None = later(None)
    """For OFFER; with a masked contribution: for the next round."""
    deal: Deal | None = later(None)
    """For DEAL; with the shares of UNMASK: for the next round."""
    shares: UnmaskShares | None = later(None)


def encode(message: RoundRequest | StepRequest | RoundReply) -> bytes:
    """The canonical JSON body. Raises InvalidMessage above MAXIMUM_BODY_BYTES."""
    body = canonical_bytes(to_plain(message))
    _check_length(len(body))
    return body


def decode_request(body: bytes) -> RoundRequest | StepRequest:
    """Inverse of `encode`. Raises InvalidMessage for anything else."""
    value = _parsed(body, "RoundRequest")
    if isinstance(value, dict) and "step" in value:
        return _built(value, StepRequest)
    request = _built(value, RoundRequest)
    if not 0 <= request.weights_bytes <= MAXIMUM_PAYLOAD_BYTES:
        raise InvalidMessage(_oversized(request.weights_bytes))
    return request


def decode_reply(body: bytes) -> RoundReply:
    """Inverse of `encode`. Raises InvalidMessage for anything else."""
    reply = _built(_parsed(body, "RoundReply"), RoundReply)
    answers = (reply.header, reply.endorsement, reply.offer, reply.deal, reply.shares)
    if all(answer is None for answer in answers) == (reply.refusal_code is None):
        raise InvalidMessage(
            "A round reply must hold either an answer or a refusal, not both or neither. "
            "It was not counted. Update the member's software."
        )
    if reply.header is not None and not 0 <= reply.header.payload_bytes <= MAXIMUM_PAYLOAD_BYTES:
        raise InvalidMessage(_oversized(reply.header.payload_bytes))
    return reply


def _parsed(body: bytes, what: str) -> Any:
    _check_length(len(body))
    try:
        value: Any = json.loads(body)
        # JSON can spell what canonical bytes cannot carry: NaN, infinities and half characters.
        canonical_bytes(value)
    except (ValueError, RecursionError, Invalid) as error:
        raise InvalidMessage(f"A {what} could not be read: {error} Nothing was done with it.") from error
    return value


def _built(value: Any, kind: type[T]) -> T:
    try:
        return build(kind, value, kind.__name__)
    except (ValueError, RecursionError, Invalid) as error:
        raise InvalidMessage(
            f"A {kind.__name__} could not be read: {error} Nothing was done with it."
        ) from error


def _check_length(size_bytes: int) -> None:
    if size_bytes > MAXIMUM_BODY_BYTES:
        raise InvalidMessage(
            f"A round message may have {MAXIMUM_BODY_BYTES} bytes, this one has {size_bytes}. "
            "It was not read. The other side runs other software or is not honest."
        )


def _oversized(size_bytes: int) -> str:
    return (
        f"A payload may have 0 to {MAXIMUM_PAYLOAD_BYTES} bytes, this message promises {size_bytes}. "
        "Nothing was fetched. The other side runs other software or is not honest."
    )

"""Round messages to bytes and back; every length is bounded before anything is parsed.

The Flower message carries one of these small JSON bodies. The weights go beside it, over the same TLS
server, as one flat little-endian float32 array named by digest and fetched or sent with a one-time ticket.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Invalid, InvalidMessage
from shared.domain.strict import build, to_plain
from shared.domain.update import ContributionHeader

PROTOCOL_VERSION = 1
MAXIMUM_BODY_BYTES = 64 * 1024
MAXIMUM_PAYLOAD_BYTES = 2**31
BYTES_PER_COORDINATE = 4

WEIGHTS_PATH = "/api/v1/rounds/weights"
CONTRIBUTION_PATH = "/api/v1/rounds/contribution"
TICKET_HEADER = "commonlens-ticket"

T = TypeVar("T")


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


@dataclass(frozen=True)
class RoundReply:
    """Member to coordinator: either a signed contribution, or a refusal with its code and text."""

    header: ContributionHeader | None = None
    signature: str | None = None
    """128 hex digits: Ed25519 by the member's identity key over the header (clause 5.6)."""
    refusal_code: str | None = None
    refusal_text: str | None = None


def encode(message: RoundRequest | RoundReply) -> bytes:
    """The canonical JSON body. Raises InvalidMessage above MAXIMUM_BODY_BYTES."""
    body = canonical_bytes(to_plain(message))
    _check_length(len(body))
    return body


def decode_request(body: bytes) -> RoundRequest:
    """Inverse of `encode`. Raises InvalidMessage for anything else."""
    request = _decode(body, RoundRequest)
    if not 0 <= request.weights_bytes <= MAXIMUM_PAYLOAD_BYTES:
        raise InvalidMessage(_oversized(request.weights_bytes))
    return request


def decode_reply(body: bytes) -> RoundReply:
    """Inverse of `encode`. Raises InvalidMessage for anything else."""
    reply = _decode(body, RoundReply)
    if (reply.header is None) == (reply.refusal_code is None):
        raise InvalidMessage(
            "A round reply must hold either a contribution or a refusal, not both or neither. "
            "It was not counted. Update the member's software."
        )
    if reply.header is not None and not 0 <= reply.header.payload_bytes <= MAXIMUM_PAYLOAD_BYTES:
        raise InvalidMessage(_oversized(reply.header.payload_bytes))
    return reply


def _decode(body: bytes, kind: type[T]) -> T:
    _check_length(len(body))
    try:
        value: Any = json.loads(body)
        # JSON can spell what canonical bytes cannot carry: NaN, infinities and half characters.
        canonical_bytes(value)
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

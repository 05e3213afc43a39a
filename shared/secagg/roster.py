"""Who takes part in one secure round, and the checks of rosters and lists that both sides make alike (5.1, 5.4)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.domain.canonical import Digest, canonical_bytes
from shared.domain.errors import InvalidMessage, QuorumMissed, UnapprovedMember, UnsafeCohort
from shared.secagg.keys import check_public
from shared.secagg.messages import (
    KIND_ROUND_KEY,
    KeyOffer,
    check_member_ids,
    roster_digest,
)
from shared.secagg.parameters import Ring, RoundTerms

Sign = Callable[[str, Any], str]
"""(kind, value) → 128 hex digits, by the identity key of the member that runs this code."""
Verify = Callable[[str, str, Any, str], None]
"""(public key hex, kind, value, signature hex); raises BadSignature."""


@dataclass(frozen=True)
class Roster:
    """The signed key offers of one round in the order of member ids, and their digest."""

    offers: tuple[KeyOffer, ...]
    digest: Digest

    @classmethod
    def of(cls, offers: Iterable[KeyOffer]) -> Roster:
        """The roster of `offers`, in whatever order they come."""
        ordered = tuple(sorted(offers, key=lambda offer: offer.member_id))
        return cls(ordered, roster_digest(ordered))

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {offer.member_id: place for place, offer in enumerate(self.offers)}

    @property
    def members(self) -> tuple[str, ...]:
        """The member ids, sorted."""
        return tuple(self._places)

    def offer(self, member_id: str) -> KeyOffer:
        """The offer of a member of this roster."""
        return self.offers[self._places[member_id]]

    def x_of(self, member_id: str) -> int:
        """Where shares for this member are taken: its place among the sorted members, from 1."""
        return self._places[member_id] + 1

    def derives(self, terms: RoundTerms, holder: str, owner: str) -> bool:
        """Whether `holder` derives its shares of `owner`'s secrets, and is not sent any (clause 5.2).

        The threshold - 1 members after the owner do, with the first again after the last: so everybody is
        sent as much as everybody else.
        """
        steps = (self._places[holder] - self._places[owner]) % len(self.offers)
        return 0 < steps < terms.share_threshold


def check_roster(
    terms: RoundTerms, offers: Sequence[KeyOffer], identity_keys: Mapping[str, str], verify: Verify
) -> Roster:
    """The roster, if everybody on it is approved, different, and stands behind its keys (clause 5.1).

    `identity_keys`: member id → identity key (hex) of the plan's members that the root-signed roll names and
    the operator approved; nobody else may be on the roster. Raises QuorumMissed or UnsoundPlan for its size
    (`RoundTerms.check_size`), UnapprovedMember, UnsafeCohort for a name or key that stands twice,
    InvalidMessage for a malformed offer, and what `verify` raises (BadSignature).
    """
    terms.check_size(len(offers))
    keys_seen: set[str] = set()
    for offer in offers:
        keys_seen |= check_offer(terms, offer, identity_keys, keys_seen, verify)
    return Roster.of(offers)


def check_offer(
    terms: RoundTerms,
    offer: KeyOffer,
    identity_keys: Mapping[str, str],
    keys_seen: Collection[str],
    verify: Verify,
) -> set[str]:
    """Names and keys of one offer, if it may stand on a roster beside those with `keys_seen`. Raises as above."""
    offer.check()
    if offer.member_id not in identity_keys:
        raise UnapprovedMember(
            f"The roster of round {terms.round_number} names {offer.member_id}, which is not an approved "
            "member of this plan here. Nothing was shared with anybody. If the organisation is real, "
            "approve it first."
        )
    fresh = {
        offer.member_id,
        identity_keys[offer.member_id],
        offer.mask_public_key,
        offer.channel_public_key,
        offer.seed_commitment,
    }
    if len(fresh) != 5 or not fresh.isdisjoint(keys_seen):
        raise UnsafeCohort(
            f"On the roster of round {terms.round_number} every member and key may stand once; those of "
            f"{offer.member_id} stand there twice. Nothing was shared with anybody. "
            "Ask the coordinator's operator who that is."
        )
    verify(identity_keys[offer.member_id], KIND_ROUND_KEY, offer.statement(terms), offer.signature)
    check_public(offer.mask_public_key, f"The mask key of {offer.member_id}")
    check_public(offer.channel_public_key, f"The channel key of {offer.member_id}")
    return fresh


def check_list(
    terms: RoundTerms, named: Sequence[str], within: Collection[str], what: str
) -> tuple[str, ...]:
    """`named` sorted, if it is a set of at least `quorum` of the members `within`, each named once.

    Raises UnsafeCohort, QuorumMissed, InvalidMessage; `what` names the list in their text.
    """
    check_member_ids(named)
    chosen = frozenset(named)
    if len(chosen) != len(named) or not chosen <= frozenset(within):
        raise UnsafeCohort(
            f"The {what} of round {terms.round_number} must name each of its members once and nobody from "
            f"outside; of its {len(named)} names {len(chosen & frozenset(within))} fit. Nothing was answered. "
            "Ask the coordinator's operator why."
        )
    if len(chosen) < terms.quorum:
        raise QuorumMissed(
            f"The {what} of round {terms.round_number} needs {terms.quorum} members (the plan's quorum) and "
            f"has {len(chosen)}. Nothing was answered. Start the round again when more members are online."
        )
    return tuple(sorted(chosen))


def check_ring(terms: RoundTerms, ring: Ring) -> None:
    """Raise InvalidMessage unless `ring` is [length], of the ring's unsigned type."""
    if ring.dtype != terms.dtype or ring.shape != (terms.length,):
        raise InvalidMessage(
            f"A contribution of {terms.length} numbers of type {terms.dtype} was expected, this one has "
            f"{ring.shape} of {ring.dtype}. Nothing was added or masked."
        )


def pair_info(terms: RoundTerms, roster: Digest, one: str, other: str) -> bytes:
    """HKDF context of the mask that two members share; the same whoever asks (clause 5.3)."""
    return _info(terms, roster, "pair mask", sorted((one, other)))


def self_info(terms: RoundTerms, roster: Digest, member_id: str) -> bytes:
    """HKDF context of a member's self mask (clause 5.3)."""
    return _info(terms, roster, "self mask", [member_id])


def _info(terms: RoundTerms, roster: Digest, purpose: str, members: list[str]) -> bytes:
    return canonical_bytes(
        {
            "purpose": f"commonlens {purpose}",
            "run_id": terms.run_id,
            "round_number": terms.round_number,
            "roster_digest": roster,
            "members": members,
        }
    )

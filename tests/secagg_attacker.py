"""What attackers of secure rounds share: unprotected terms, and how a vector is laid bare from opened secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from shared.secagg import keys, masks
from shared.secagg.member import MemberRound
from shared.secagg.messages import UnmaskShares
from shared.secagg.parameters import Ring, RoundTerms
from shared.secagg.rebuilding import Rebuilder
from shared.secagg.roster import Roster, pair_info, self_info
from tests.secagg_kit import Round, names, terms

VICTIM = "mem_0"
ALL = names(5)
WITHOUT_VICTIM = ALL[1:]


def no_check(*_: Any) -> None:
    """A `verify` that believes everything."""


class AnyQuorum(RoundTerms):
    """Unprotected: terms without the rule quorum > (n + colluders) / 2."""

    def check_size(self, members: int) -> None:
        """Every size is good enough."""


def any_quorum(**changes: Any) -> AnyQuorum:
    return AnyQuorum(**dataclasses.asdict(terms(**changes)))


def all_of(kind: type[MemberRound], count: int = 5) -> dict[str, type[MemberRound]]:
    return dict.fromkeys(names(count), kind)


def unmasked_alone(
    play: Round, cohort: Sequence[str], first_seed: bytes, peer_secrets: dict[str, bytes]
) -> Ring:
    """The victim's vector from its masked one, its first seed, and the mask secret shared with each peer.

    `peer_secrets`: peer → a private key of which the victim holds the public one as that peer's.
    """
    roster = Roster.of(play.offers)
    ring = play.masked[VICTIM].copy()
    subtract_self_mask(play, roster, ring, first_seed)
    for peer in cohort:
        if peer == VICTIM:
            continue
        private = keys.load_private(peer_secrets[peer])
        public = bytes.fromhex(roster.offer(VICTIM).mask_public_key)
        key = masks.pair_key(private, public, pair_info(play.terms, roster.digest, VICTIM, peer))
        (masks.subtract_mask if peer > VICTIM else masks.add_mask)(ring, key)
    return ring


def subtract_self_mask(play: Round, roster: Roster, ring: Ring, first_seed: bytes) -> None:
    """Take the victim's self mask away from `ring`, from the first seed of its chain."""
    self_seed = keys.shared_seeds(first_seed, play.terms.tolerance_steps)[-1]
    masks.subtract_mask(ring, masks.self_key(self_seed, self_info(play.terms, roster.digest, VICTIM)))


def unmasked_with_its_own_secrets(play: Round, first_seed: bytes, mask_private: bytes) -> Ring:
    """The victim's vector from its masked one and both of its secrets: every pairwise mask follows."""
    ring, roster = play.masked[VICTIM].copy(), Roster.of(play.offers)
    subtract_self_mask(play, roster, ring, first_seed)
    for peer in play.names[1:]:
        public = bytes.fromhex(roster.offer(peer).mask_public_key)
        info = pair_info(play.terms, roster.digest, VICTIM, peer)
        private = keys.load_private(mask_private)
        masks.subtract_mask(ring, masks.pair_key(private, public, info))
    return ring


def rebuilt(play: Round, answers: Iterable[UnmaskShares], owner: str, field: str) -> bytes:
    """A secret of `owner` from one kind of share in all answers. Raises UnmaskFailed."""
    offer = Roster.of(play.offers).offer(owner)
    fits: Callable[[bytes], bool] = {
        "key_shares": lambda secret: keys.public_of(secret) == offer.mask_public_key,
        "seed_shares": lambda seed: offer.seed_commitment in [s.hex() for s in keys.noise_chain(seed, 6)],
    }[field]
    given = {answer.member_id: getattr(answer, field).get(owner) for answer in answers}
    return Rebuilder(play.terms, Roster.of(play.offers)).rebuild(owner, given, fits)

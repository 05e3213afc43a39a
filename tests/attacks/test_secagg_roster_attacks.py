"""Who is in a secure round and what each is told, chosen by a dishonest coordinator; without the rule it works.

`mem_0` is the victim; colluders are the last members, and hand the coordinator all they hold.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from shared.domain.errors import (
    BadSignature,
    QuorumMissed,
    SharesRejected,
    UnapprovedMember,
    UnmaskFailed,
    UnsafeCohort,
)
from shared.release.signing import SigningKey, verify_value
from shared.secagg import keys, masks, shamir
from shared.secagg.dealing import shares_for
from shared.secagg.member import MemberRound
from shared.secagg.messages import KIND_ROUND_KEY, UnmaskShares, decode, encode
from shared.secagg.parameters import Ring, RoundTerms
from shared.secagg.roster import Roster, pair_info
from tests.secagg_attacker import (
    ALL,
    VICTIM,
    WITHOUT_VICTIM,
    all_of,
    any_quorum,
    no_check,
    rebuilt,
    unmasked_alone,
)
from tests.secagg_kit import Round, names, plain_sum, secret_vector, terms

# --- who is in the round ---------------------------------------------------------------------------


class TrustsAnySignature(MemberRound):
    """Unprotected: takes every key offer for its member's own."""

    def deal(self, roster: Any, identity_keys: Any, verify: Any) -> Any:
        return super().deal(roster, identity_keys, no_check)


def attack_with_swapped_keys(kind: type[MemberRound]) -> tuple[Round, Ring]:
    """The coordinator puts keys of its own in everybody's place but the victim's."""
    play = Round(terms(), 5, {VICTIM: kind})
    mine = {name: keys.RoundSecrets.draw() for name in WITHOUT_VICTIM}
    fake = [
        dataclasses.replace(
            offer,
            mask_public_key=keys.public_of(mine[offer.member_id].mask_private),
            channel_public_key=keys.public_of(mine[offer.member_id].channel_private),
        )
        for offer in play.offers[1:]
    ]
    play.offers = [play.offers[0], *fake]
    return play, with_own_peers(play, mine)


def with_own_peers(play: Round, mine: dict[str, keys.RoundSecrets]) -> Ring:
    """The rest of an attack in which the coordinator holds the secrets of all the victim's peers."""
    roster, cohort = Roster.of(play.offers), [offer.member_id for offer in play.offers]
    deal = play.members[VICTIM].deal(play.offers, play.identity_keys, verify_value)
    public = roster.offer(VICTIM).channel_public_key
    size = (2 + play.terms.tolerance_steps) * shamir.SHARE_BYTES
    shares = {}
    for peer, drawn in mine.items():
        data = decode(deal.ciphertexts[peer], size + 16, "a deal")
        channel = keys.load_private(drawn.channel_private)
        opened = keys.unseal(play.terms, roster.digest, VICTIM, peer, channel, public, data)
        shares[roster.x_of(peer)] = opened[: shamir.SHARE_BYTES]
    sealed = {peer: any_deal(play.terms, roster, peer, drawn, public, size) for peer, drawn in mine.items()}
    play.members[VICTIM].accept(roster.digest, cohort, sealed)
    play.masked[VICTIM] = play.members[VICTIM].mask(secret_vector(play.terms, VICTIM))
    seed = shamir.combine(shares, play.terms.share_threshold)
    return unmasked_alone(play, cohort, seed, {peer: drawn.mask_private for peer, drawn in mine.items()})


def any_deal(
    the_terms: RoundTerms, roster: Roster, sender: str, drawn: keys.RoundSecrets, public: str, size: int
) -> str:
    """Any bytes of the right length, sealed as `sender`'s shares for the victim."""
    channel = keys.load_private(drawn.channel_private)
    return encode(keys.seal(the_terms, roster.digest, sender, VICTIM, channel, public, bytes(size)))


def test_swapped_round_keys_give_the_victim_away_and_must_be_signed() -> None:
    play, seen = attack_with_swapped_keys(TrustsAnySignature)
    assert np.array_equal(seen, secret_vector(play.terms, VICTIM))
    with pytest.raises(BadSignature):
        attack_with_swapped_keys(MemberRound)


def attack_with_fake_members(approve: bool) -> tuple[Round, Ring]:
    """The coordinator enrols four friends on the roll, and makes a round of them and the victim."""
    play = Round(terms(), 1)
    mine, offers = {}, [play.offers[0]]
    for name in WITHOUT_VICTIM:
        friend, drawn = SigningKey.generate(), keys.RoundSecrets.draw()
        mine[name] = drawn
        offer = dataclasses.replace(
            offers[0],
            member_id=name,
            mask_public_key=keys.public_of(drawn.mask_private),
            channel_public_key=keys.public_of(drawn.channel_private),
            self_commitment=keys.commit_to_self(drawn.self_seed),
            noise_commitment=drawn.noise_seed.hex(),
        )
        signature = friend.sign_value(KIND_ROUND_KEY, offer.statement(play.terms))
        offers.append(dataclasses.replace(offer, signature=signature))
        if approve:
            play.identity_keys[name] = friend.public_hex
    play.offers = offers
    return play, with_own_peers(play, mine)


def test_fake_members_give_the_victim_away_and_need_its_operators_approval() -> None:
    play, seen = attack_with_fake_members(approve=True)
    assert np.array_equal(seen, secret_vector(play.terms, VICTIM))
    with pytest.raises(UnapprovedMember, match="approve it first"):
        attack_with_fake_members(approve=False)


def test_one_organisation_under_several_names_is_refused() -> None:
    play = Round(terms(), 5)
    twice = {**play.identity_keys, ALL[4]: play.identity_keys[ALL[3]]}
    with pytest.raises(UnsafeCohort, match="twice"):
        play.members[VICTIM].deal(play.offers, twice, no_check)


def test_a_cohort_of_one_gives_the_victim_away_and_the_quorum_forbids_it() -> None:
    loose = Round(any_quorum(quorum=1, colluders=0), 5)
    loose.deal()
    loose.contribute([VICTIM])
    total, _ = loose.server([VICTIM], [VICTIM]).finish([VICTIM], loose.unmask([VICTIM]))
    assert np.array_equal(total, secret_vector(loose.terms, VICTIM))
    play = Round(terms(), 5)
    play.deal()
    for cohort in ([VICTIM], ALL[:3]):
        with pytest.raises(QuorumMissed, match="needs 4 members"):
            play.contribute(cohort)


# --- what a member is told -------------------------------------------------------------------------


class BelievesAnyCohort(MemberRound):
    """Unprotected: does not look whether the survivors masked for the cohort that it was told."""

    def unmask(self, survivors: Any, endorsements: Any, list_endorsements: Any, verify: Any) -> UnmaskShares:
        return super().unmask(survivors, endorsements, list_endorsements, no_check)


def attack_with_two_cohorts(kind: type[MemberRound]) -> tuple[Ring, Ring]:
    """The victim is told six members, so that it adds the noise share of six; the others are told five.

    The sixth colludes: the coordinator takes the mask between the victim and it away. What it sees of the
    victim then carries less noise than a sum of five needs.
    """
    play = Round(terms(quorum=4, colluders=1), 6, all_of(kind, 6))
    play.deal()
    play.contribute(names(6), [VICTIM])
    play.contribute(ALL, WITHOUT_VICTIM)
    roster = Roster.of(play.offers)
    colluding = bytes.fromhex(play.members["mem_5"].to_plain()["secrets"]["mask_private"])
    public = bytes.fromhex(roster.offer(VICTIM).mask_public_key)
    info = pair_info(play.terms, roster.digest, VICTIM, "mem_5")
    shared_mask = masks.pair_key(keys.load_private(colluding), public, info)
    masks.subtract_mask(play.masked[VICTIM], shared_mask)
    total, _ = play.server(ALL, ALL).finish(ALL, play.unmask(ALL, WITHOUT_VICTIM))
    return total, plain_sum(play.terms, ALL)


def test_telling_two_cohorts_unmasks_less_noise_and_every_survivor_must_have_signed_mine() -> None:
    seen, right = attack_with_two_cohorts(BelievesAnyCohort)
    assert np.array_equal(seen, right), "the victim is in the sum with the noise share of six"
    with pytest.raises(BadSignature):
        attack_with_two_cohorts(MemberRound)


def test_members_told_two_rosters_cannot_open_each_others_shares() -> None:
    play = Round(terms(quorum=4, colluders=1), 6)
    six, five = play.offers, play.offers[:5]
    play.deals[VICTIM] = play.members[VICTIM].deal(six, play.identity_keys, verify_value)
    for name in WITHOUT_VICTIM:
        play.deals[name] = play.members[name].deal(five, play.identity_keys, verify_value)
    play.offers = five
    with pytest.raises(SharesRejected, match="do not open"):
        play.contribute(ALL, ["mem_1"])


class RevealsItsOwnSeeds(MemberRound):
    """Unprotected: with its answer it gives its own unneeded noise seeds, not only shares of them."""

    revealed: bytes = b""

    def unmask(self, survivors: Any, endorsements: Any, list_endorsements: Any, verify: Any) -> UnmaskShares:
        # Two tolerated drop-outs in two steps: each that happened needs one.
        unneeded = self.noise_seeds[len(self._state.cohort) - len(survivors)]
        answer = super().unmask(survivors, endorsements, list_endorsements, verify)
        self.revealed = unneeded
        return answer


def test_seeds_that_owners_reveal_strip_a_smaller_sum_of_noise_and_shares_of_them_do_not() -> None:
    """mem_4 is asked to unmask everybody, a quorum of others a list without mem_3, in which mem_4 stands."""
    everybody, smaller = names(6), [name for name in names(6) if name != "mem_3"]
    signers = ["mem_0", "mem_1", "mem_2", "mem_5"]
    play = Round(terms(quorum=4, colluders=1), 6, all_of(RevealsItsOwnSeeds, 6)).until_contributed()
    asked = play.members["mem_4"]
    first_seed = asked.noise_seeds[0]
    for_all = play.unmask(everybody, ["mem_4"])
    play.endorse(smaller, signers)
    for_smaller = play.unmask(smaller, signers)
    total, excess = play.server(everybody, smaller).finish(smaller, for_smaller)
    assert np.array_equal(total, plain_sum(play.terms, smaller))
    # One of two tolerated members dropped out: this sum needs the first noise step and not the second.
    assert excess["mem_4"] == keys.next_noise_seed(first_seed)

    assert isinstance(asked, RevealsItsOwnSeeds)
    assert asked.revealed == first_seed, "the needed noise of mem_4 can be taken out of the sum"

    # From shares alone: the first seed has one share of the honest mem_4 and one of the colluder mem_5.
    colluder = shares_for(play.terms, "mem_5", everybody, everybody, play.bundles["mem_5"])
    with pytest.raises(UnmaskFailed, match="2 came"):
        rebuilt(play, [*for_all, colluder], "mem_4", "noise_shares")

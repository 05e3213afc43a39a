"""Who is in a secure round and what each is told, chosen by a dishonest coordinator; without the rule it works.

`mem_0` is the victim; colluders are the last members, and hand the coordinator all they hold.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from shared.domain.errors import (
    BadSignature,
    InvalidMessage,
    QuorumMissed,
    SharesRejected,
    UnapprovedMember,
    UnmaskFailed,
    UnsafeCohort,
)
from shared.release.signing import SigningKey, verify_value
from shared.secagg import keys, masks
from shared.secagg.channels import SEALING, Channels
from shared.secagg.dealing import addressed_to, held_bundles, shares_for
from shared.secagg.endorsements import accepting_vouched
from shared.secagg.member import MemberRound
from shared.secagg.messages import (
    KIND_ROUND_KEY,
    KIND_SURVIVORS,
    Deal,
    UnmaskShares,
    bundle_bytes,
    cohort_statement,
    decode,
    encode,
    offer_digest,
    roster_digest,
    with_next_offer,
)
from shared.secagg.parameters import Ring
from shared.secagg.roster import Roster, pair_info
from shared.secagg.shamir import SHARE_BYTES, combine
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
from tests.secagg_kit import WEIGHTS, Round, identity, names, plain_sum, secret_vector, terms

SEED = SHARE_BYTES
"""Where in a bundle the share of its owner's first seed begins."""

# --- who is in the round ---------------------------------------------------------------------------


class TrustsAnySignature(MemberRound):
    """Unprotected: takes every key offer for its member's own."""

    def deal(self, roster: Any, identity_keys: Any, verify: Any) -> Any:
        return super().deal(roster, identity_keys, no_check)


def attack_with_swapped_keys(kind: type[MemberRound]) -> tuple[Round, Ring]:
    """The coordinator puts keys of its own in everybody's place but the victim's."""
    play = Round(terms(), 5, {VICTIM: kind})
    return play, with_own_peers(play, swap_keys(play))


def swap_keys(play: Round) -> dict[str, keys.RoundSecrets]:
    """Everybody's offer but the victim's, under keys of which the coordinator holds the secrets."""
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
    return mine


def with_own_peers(play: Round, mine: dict[str, keys.RoundSecrets]) -> Ring:
    """The rest of an attack in which the coordinator holds the secrets of all the victim's peers."""
    roster, cohort = Roster.of(play.offers), [offer.member_id for offer in play.offers]
    deal = play.members[VICTIM].deal(play.offers, play.identity_keys, verify_value)
    shares, sealed = {}, {}
    for peer, drawn in mine.items():
        channels = Channels(play.terms, roster, peer, drawn.channel_private)
        held = held_bundles(play.terms, roster, peer, [VICTIM], addressed_to(peer, [deal]), channels)
        shares[roster.x_of(peer)] = decode(held[VICTIM], bundle_bytes(play.terms), "a bundle")[SEED:][
            :SHARE_BYTES
        ]
        if not roster.derives(play.terms, VICTIM, peer):
            sealed[peer] = encode(channels.seal(VICTIM, bytes(bundle_bytes(play.terms))))
    play.members[VICTIM].accept(roster.digest, cohort, sealed)
    play.masked[VICTIM] = play.members[VICTIM].mask(secret_vector(play.terms, VICTIM))
    seed = combine(shares, play.terms.share_threshold)
    return unmasked_alone(play, cohort, seed, {peer: drawn.mask_private for peer, drawn in mine.items()})


def test_swapped_round_keys_give_the_victim_away_and_must_be_signed() -> None:
    play, seen = attack_with_swapped_keys(TrustsAnySignature)
    assert np.array_equal(seen, secret_vector(play.terms, VICTIM))
    with pytest.raises(BadSignature):
        attack_with_swapped_keys(MemberRound)


# --- keys that an endorsement of the round before names ----------------------------------------------


class TakesEveryEndorsement(MemberRound):
    """Unprotected: believes what endorsements name without checking who signed them."""

    def unmask(self, survivors: Any, told: Any, listed: Any, verify: Any) -> UnmaskShares:
        return super().unmask(survivors, told, listed, no_check)


class BelievesTheSecondRequest(MemberRound):
    """Unprotected: takes what any request's endorsements name, also where it answers as it did before."""

    def unmask(self, survivors: Any, told: Any, listed: Any, verify: Any) -> UnmaskShares:
        answer = super().unmask(survivors, told, listed, verify)
        self._vouched = frozenset((identity(name).public_hex, text[128:]) for name, text in told.items())
        return answer


class BelievesAnybody(MemberRound):
    """Unprotected: what one member's endorsement names, it takes for anybody's keys."""

    @property
    def vouched(self) -> frozenset[tuple[str, str]]:
        return frozenset((identity(name).public_hex, named) for name in ALL for _, named in self._vouched)


def attack_through_endorsements(kind: type[MemberRound], how: str) -> tuple[Round, Ring]:
    """The coordinator swaps the next round's keys, and has endorsements of this one name those of its own."""
    before = Round(terms(), 5, {VICTIM: kind})

    class Following(MemberRound):
        def deal(self, roster: Any, identity_keys: Any, verify: Any) -> Any:
            vouched = before.members[VICTIM].vouched
            return super().deal(roster, identity_keys, accepting_vouched(vouched, verify))

    following = Round(terms(round_number=2), 5, {VICTIM: Following})
    honest = {name: member.offer_digest for name, member in following.members.items()}
    mine = swap_keys(following)
    fake = {
        offer.member_id: offer_digest(offer.statement(following.terms), offer.signature)
        for offer in following.offers
    }
    before.deal()
    before.contribute(ALL)
    statement = cohort_statement(before.terms, roster_digest(before.offers), ALL, WEIGHTS)

    def endorsed(name: str, signed: str, named: str) -> str:
        return identity(name).sign_value(KIND_SURVIVORS, with_next_offer(statement, signed)) + named

    before.told = {name: endorsed(name, honest[name], honest[name]) for name in ALL}
    if how == "told twice":
        before.unmask(ALL, [VICTIM])
    if how == "by a colluder":
        # Everybody signs, in its own name, what stands in another's place.
        of_another = {name: fake[other] for name, other in zip(ALL, [*ALL[1:], ALL[0]], strict=True)}
        before.told = {name: endorsed(name, of_another[name], of_another[name]) for name in ALL}
    else:
        before.told = {name: endorsed(name, honest[name], fake[name]) for name in ALL}
    before.unmask(ALL, [VICTIM])
    return following, with_own_peers(following, mine)


@pytest.mark.parametrize(
    ("unprotected", "how"),
    [
        (TakesEveryEndorsement, "changed"),
        (BelievesTheSecondRequest, "told twice"),
        (BelievesAnybody, "by a colluder"),
    ],
)
def test_swapped_keys_must_be_named_by_their_own_members_in_endorsements_that_were_checked(
    unprotected: type[MemberRound], how: str
) -> None:
    play, seen = attack_through_endorsements(unprotected, how)
    assert np.array_equal(seen, secret_vector(play.terms, VICTIM))
    with pytest.raises(BadSignature):
        attack_through_endorsements(MemberRound, how)


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
            seed_commitment=drawn.noise_seed.hex(),
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


def attack_with_two_cohorts(kind: type[MemberRound], signed: list[str] = ALL) -> tuple[Ring, Ring]:
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
    told = {name: play.told[name] for name in signed}
    answers = [play.members[name].unmask(ALL, told, {}, verify_value) for name in WITHOUT_VICTIM]
    return play.server(ALL, ALL).finish(ALL, answers)[0], plain_sum(play.terms, ALL)


def test_telling_two_cohorts_unmasks_less_noise_and_every_survivor_must_have_signed_mine() -> None:
    seen, right = attack_with_two_cohorts(BelievesAnyCohort)
    assert np.array_equal(seen, right), "the victim is in the sum with the noise share of six"
    with pytest.raises(BadSignature):
        attack_with_two_cohorts(MemberRound)


class OpensNothing(MemberRound):
    """A colluder: takes shares that do not open for any shares."""

    def accept(self, digest: Any, cohort: Any, ciphertexts: Any) -> None:
        for sender in ciphertexts:
            ciphertexts[sender] = encode(self._fake_seal(sender))
        super().accept(digest, cohort, ciphertexts)

    def _fake_seal(self, sender: str) -> bytes:
        """As that sender would seal it: both ends of a channel can."""
        ours, me = self._channels(), self.state.member_id
        key = ours._derive(sender, 32, [SEALING, sender, me])
        data, about = bytes(bundle_bytes(self.terms)), ours._associated(sender, me)
        return ChaCha20Poly1305(key).encrypt(bytes(12), data, about)


def two_rosters(colluder: type[MemberRound]) -> Round:
    """The victim deals for six members, the others for five; mem_4 alone is sent the victim's shares by these."""
    play = Round(terms(quorum=4, colluders=1), 6, {"mem_4": colluder})
    six, five = play.offers, play.offers[:5]
    play.deals[VICTIM] = play.members[VICTIM].deal(six, play.identity_keys, verify_value)
    for name in WITHOUT_VICTIM:
        play.deals[name] = play.members[name].deal(five, play.identity_keys, verify_value)
    play.offers = five
    with pytest.raises(UnsafeCohort, match="one roster"):
        play.contribute(ALL, [VICTIM])
    play.contribute(ALL, WITHOUT_VICTIM)
    return play


def test_members_told_two_rosters_cannot_open_each_others_shares() -> None:
    with pytest.raises(SharesRejected, match="mem_0's for mem_4 do not open"):
        two_rosters(MemberRound)


def test_derived_shares_of_another_roster_open_nothing_and_the_round_ends_empty() -> None:
    """The one member that would have noticed colludes; the victim is then called dropped."""
    play = two_rosters(OpensNothing)
    play.endorse(WITHOUT_VICTIM)
    answers = play.unmask(WITHOUT_VICTIM)
    with pytest.raises(UnmaskFailed, match="A mask of mem_0.*Nothing was unmasked"):
        play.server(ALL, WITHOUT_VICTIM).finish(WITHOUT_VICTIM, answers)
    # For what the victim did deal, these shares are no shares at all.
    given = {answer.member_id: answer.key_shares[VICTIM] for answer in answers}
    del given["mem_4"]
    true = shares_for(play.terms, VICTIM, names(6), names(6)[1:], play.members[VICTIM].to_plain()["bundles"])
    with pytest.raises(UnmaskFailed):
        play.offers = play.members[VICTIM].state.roster
        rebuilt(
            play, [UnmaskShares(n, {}, {VICTIM: s}) for n, s in given.items()] + [true], VICTIM, "key_shares"
        )


def test_member_that_never_dealt_is_called_into_no_sum() -> None:
    """Whoever derives its shares cannot tell; whoever is sent them can, and without those nothing opens."""
    play = Round(terms(quorum=4, colluders=1), 5, {"mem_4": OpensNothing})
    play.deal(WITHOUT_VICTIM)
    play.deals[VICTIM] = Deal(VICTIM, {})
    with pytest.raises(
        InvalidMessage, match="Shares from 1 other members were expected with the cohort, those of 0"
    ):
        play.contribute(ALL, ["mem_4"])
    play.deals[VICTIM] = Deal(VICTIM, {"mem_4": "invented"})
    play.contribute(ALL, WITHOUT_VICTIM)
    play.endorse(WITHOUT_VICTIM)
    with pytest.raises(UnmaskFailed, match="A mask of mem_0"):
        play.server(ALL, WITHOUT_VICTIM).finish(WITHOUT_VICTIM, play.unmask(WITHOUT_VICTIM))


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
        rebuilt(play, [*for_all, colluder], "mem_4", "seed_shares")

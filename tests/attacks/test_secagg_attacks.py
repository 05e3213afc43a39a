"""A coordinator and colluding members against secure rounds: each attack works on a variant without the rule.

`mem_0` is the victim; colluders are the last members, and hand the coordinator all they hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from shared.domain.errors import (
    AlreadyReleased,
    BadSignature,
    QuorumMissed,
    SharesRejected,
    UnapprovedMember,
    UnmaskFailed,
    UnmaskRefused,
    UnsafeCohort,
    UnsoundPlan,
)
from shared.release.signing import SigningKey, verify_value
from shared.secagg import keys, masks, shamir
from shared.secagg.dealing import shares_for
from shared.secagg.member import MemberRound
from shared.secagg.messages import KIND_ROUND_KEY, UnmaskShares, decode, encode, needs_endorsed_list
from shared.secagg.parameters import Ring, RoundTerms
from shared.secagg.rebuilding import Rebuilder
from shared.secagg.roster import Roster, pair_info, self_info
from shared.secagg.server import ServerRound
from tests.secagg_kit import Round, names, plain_sum, secret_vector, terms

VICTIM = "mem_0"
ALL = names(5)
WITHOUT_VICTIM = ALL[1:]


def no_check(*_: Any) -> None:
    """A `verify` that believes everything."""


class NeverForgets(MemberRound):
    """Unprotected: answers every unmask request, with whatever signatures, and keeps its secrets."""

    def unmask(self, survivors: Sequence[str], *_: Any) -> UnmaskShares:
        state = self._state
        return shares_for(self.terms, state.member_id, state.cohort, survivors, state.bundles)


class AnyQuorum(RoundTerms):
    """Unprotected: terms without the rule quorum > (n + colluders) / 2."""

    def check_size(self, members: int) -> None:
        """Every size is good enough."""


def any_quorum(**changes: Any) -> AnyQuorum:
    return AnyQuorum(**dataclasses.asdict(terms(**changes)))


def all_of(kind: type[MemberRound], count: int = 5) -> dict[str, type[MemberRound]]:
    return dict.fromkeys(names(count), kind)


def unmasked_alone(
    play: Round, cohort: Sequence[str], self_seed: bytes, peer_secrets: dict[str, bytes]
) -> Ring:
    """The victim's vector from its masked one, its self seed, and the mask secret shared with each peer.

    `peer_secrets`: peer → a private key of which the victim holds the public one as that peer's.
    """
    roster = Roster.of(play.offers)
    ring = play.masked[VICTIM].copy()
    masks.subtract_mask(ring, masks.self_key(self_seed, self_info(play.terms, roster.digest, VICTIM)))
    for peer in cohort:
        if peer == VICTIM:
            continue
        private = keys.load_private(peer_secrets[peer])
        public = bytes.fromhex(roster.offer(VICTIM).mask_public_key)
        key = masks.pair_key(private, public, pair_info(play.terms, roster.digest, VICTIM, peer))
        (masks.subtract_mask if peer > VICTIM else masks.add_mask)(ring, key)
    return ring


def unmasked_with_its_own_secrets(play: Round, self_seed: bytes, mask_private: bytes) -> Ring:
    """The victim's vector from its masked one and both of its secrets: every pairwise mask follows."""
    ring, roster = play.masked[VICTIM].copy(), Roster.of(play.offers)
    masks.subtract_mask(ring, masks.self_key(self_seed, self_info(play.terms, roster.digest, VICTIM)))
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
        "self_shares": lambda secret: keys.commit_to_self(secret) == offer.self_commitment,
        "key_shares": lambda secret: keys.public_of(secret) == offer.mask_public_key,
        "noise_shares": lambda seed: offer.noise_commitment in [s.hex() for s in keys.noise_chain(seed, 6)],
    }[field]
    given = {answer.member_id: getattr(answer, field).get(owner) for answer in answers}
    return Rebuilder(play.terms, Roster.of(play.offers)).rebuild(owner, given, fits)


# --- two answers, two lists ------------------------------------------------------------------------


def difference_of_two_sums(play: Round) -> Ring:
    play.until_contributed()
    with_victim, _ = play.server(ALL, ALL).finish(ALL, play.unmask(ALL))
    without, _ = play.server(ALL, WITHOUT_VICTIM).finish(WITHOUT_VICTIM, play.unmask(WITHOUT_VICTIM))
    return with_victim - without


def test_two_unmask_answers_give_the_victim_away_and_a_member_gives_one() -> None:
    loose = Round(terms(), 5, all_of(NeverForgets))
    assert np.array_equal(difference_of_two_sums(loose), secret_vector(loose.terms, VICTIM))
    with pytest.raises(UnmaskRefused, match="allows this member one"):
        difference_of_two_sums(Round(terms(), 5))


def test_both_shares_of_one_member_give_it_away_and_no_answer_holds_both() -> None:
    loose = Round(terms(), 5, all_of(NeverForgets)).until_contributed()
    answers = [loose.unmask(ALL), loose.unmask(WITHOUT_VICTIM)]
    seed = rebuilt(loose, answers[0], VICTIM, "self_shares")
    mask_private = rebuilt(loose, answers[1], VICTIM, "key_shares")
    seen = unmasked_with_its_own_secrets(loose, seed, mask_private)
    assert np.array_equal(seen, secret_vector(loose.terms, VICTIM))

    play = Round(terms(), 5).until_contributed()
    play.endorse(WITHOUT_VICTIM)
    for answer in play.unmask(WITHOUT_VICTIM):
        assert not set(answer.self_shares) & set(answer.key_shares)
        assert set(answer.self_shares) | set(answer.key_shares) == set(ALL)


def split_lists(the_terms: RoundTerms) -> Ring:
    """Two of four members are asked to unmask everybody, the other two everybody without the victim."""
    play = Round(the_terms, 4).until_contributed()
    for_all = play.unmask(names(4), names(2))
    play.endorse(names(4)[1:], names(4)[2:])
    for_others = play.unmask(names(4)[1:], names(4)[2:])
    seed = rebuilt(play, for_all, VICTIM, "self_shares")
    mask_private = rebuilt(play, for_others, VICTIM, "key_shares")
    return unmasked_with_its_own_secrets(play, seed, mask_private)


def test_two_lists_give_the_victim_away_below_the_quorum_rule_and_never_above() -> None:
    # Two of four are a quorum: each half opens one of the victim's two secrets.
    loose = any_quorum(quorum=2, colluders=0)
    assert np.array_equal(split_lists(loose), secret_vector(loose, VICTIM))
    with pytest.raises(UnsoundPlan, match="quorum must be at least 3"):
        split_lists(terms(quorum=2, colluders=0))
    # With the right quorum a list needs signatures of more members than are left over.
    with pytest.raises(UnmaskRefused, match="3 of its members"):
        split_lists(terms(quorum=3, colluders=0))


def test_members_who_answer_two_lists_between_them_open_neither_secret_of_the_victim() -> None:
    """Three of five honest members sign the smaller list, two are asked for everybody; one more colludes."""
    play = Round(terms(quorum=4, colluders=1), 6).until_contributed()
    everybody, smaller = names(6), names(6)[1:]
    told = {name: play.told[name] for name in everybody}
    # The colluder signs whatever it likes, and gives both kinds of share.
    bundles = play.bundles["mem_5"]
    theirs = {
        True: shares_for(play.terms, "mem_5", everybody, everybody, bundles),
        False: shares_for(play.terms, "mem_5", everybody, smaller, bundles),
    }
    play.endorse(smaller, [*names(6)[2:5], "mem_5"])
    for_all = play.unmask(everybody, names(6)[:2])
    for_smaller = play.unmask(smaller, names(6)[2:5])
    assert rebuilt(play, [*for_smaller, theirs[False]], VICTIM, "key_shares")
    with pytest.raises(UnmaskFailed):
        rebuilt(play, [*for_all, *for_smaller, theirs[True]], VICTIM, "self_shares")
    for answer in for_all:
        assert play.members[answer.member_id].unmask(everybody, told, {}, verify_value) == answer


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


# --- replays, repeats, shares ----------------------------------------------------------------------


class MasksAgain(MemberRound):
    """Unprotected: masks as often as it is asked."""

    def mask(self, ring: Ring) -> Ring:
        self._masked = False
        return super().mask(ring)


def two_masked_vectors(kind: type[MemberRound]) -> Ring:
    play = Round(terms(), 5, all_of(kind))
    play.deal()
    play.accept(VICTIM, ALL)
    zeros = np.zeros(play.terms.length, dtype=play.terms.dtype)
    asked_again = play.members[VICTIM].mask(zeros.copy())
    return play.members[VICTIM].mask(secret_vector(play.terms, VICTIM)) - asked_again


def test_two_vectors_under_the_same_masks_give_their_difference_away_and_only_one_is_masked() -> None:
    assert np.array_equal(two_masked_vectors(MasksAgain), secret_vector(terms(), VICTIM))
    with pytest.raises(AlreadyReleased, match="already masked once"):
        two_masked_vectors(MemberRound)


def test_signatures_and_keys_of_one_round_are_worth_nothing_in_another() -> None:
    old, new = Round(terms(round_number=1), 5), Round(terms(round_number=2), 5)
    old.until_contributed()
    listed = old.endorse(WITHOUT_VICTIM)
    replayed = [new.offers[0], *old.offers[1:]]
    with pytest.raises(BadSignature):
        new.members[VICTIM].deal(replayed, new.identity_keys, verify_value)
    new.until_contributed()
    told = {name: new.told[name] for name in WITHOUT_VICTIM}
    with pytest.raises(BadSignature):
        new.members["mem_1"].unmask(WITHOUT_VICTIM, told, listed, verify_value)


def test_one_share_opens_a_secret_shared_without_a_threshold_and_a_quorum_less_one_says_nothing() -> None:
    secret = bytes(range(32))
    assert shamir.combine({1: shamir.split(secret, 1, range(1, 6))[1]}, 1) == secret
    shares = shamir.split(secret, 4, range(1, 6))
    three = {place: shares[place] for place in (1, 2, 3)}
    # Whatever the secret was, one fourth share leads these three to it: all are equally likely.
    coefficients = shamir.lagrange_at_zero((1, 2, 3, 4))
    known = sum(c * int.from_bytes(three[x], "big") for c, x in zip(coefficients, (1, 2, 3), strict=False))
    for guess in (secret, bytes(32), b"\xff" * 32, keys.RoundSecrets.draw().self_seed):
        wanted = int.from_bytes(guess, "big") - known
        fourth = wanted * pow(coefficients[3], -1, shamir.PRIME) % shamir.PRIME
        assert shamir.combine({**three, 4: fourth.to_bytes(33, "big")}, 4) == guess


def test_all_that_colluders_and_coordinator_hold_before_unmasking_opens_nothing() -> None:
    play = Round(terms(quorum=5, colluders=2), 7).until_contributed()
    for owner in names(5):
        theirs = [
            shares_for(play.terms, name, names(7), names(7), play.bundles[name]) for name in names(7)[5:]
        ]
        with pytest.raises(UnmaskFailed, match="2 came"):
            rebuilt(play, theirs, owner, "self_shares")


def test_sealing_twice_under_one_key_would_give_shares_away_so_a_deal_is_kept() -> None:
    drawn, peer = keys.RoundSecrets.draw(), keys.RoundSecrets.draw()
    play = Round(terms(), 5)
    roster = Roster.of(play.offers)
    known, hidden = b"known to the coordinator", b"a share that nobody has "
    public, channel = keys.public_of(peer.channel_private), keys.load_private(drawn.channel_private)
    first, second = (
        keys.seal(play.terms, roster.digest, "mem_0", "mem_1", channel, public, data)
        for data in (known, hidden)
    )
    assert bytes(a ^ b ^ c for a, b, c in zip(first, second, known, strict=False)) == hidden
    play.deal()
    kept = dict(play.deals)
    play.deal()
    assert play.deals == kept


def test_a_garbled_deal_keeps_one_member_out_and_the_rest_have_their_sum() -> None:
    """A lying member can silence an honest one (SharesRejected), down to the quorum and no further."""
    play = Round(terms(), 5)
    play.deal()
    liar = play.deals["mem_4"]
    garbled = {**liar.ciphertexts, VICTIM: liar.ciphertexts["mem_1"]}
    play.deals["mem_4"] = dataclasses.replace(liar, ciphertexts=garbled)
    with pytest.raises(SharesRejected, match="mem_4's for mem_0 do not open"):
        play.contribute(ALL, [VICTIM])
    play.contribute(ALL, WITHOUT_VICTIM)
    play.endorse(WITHOUT_VICTIM)
    total, _ = play.server(ALL, WITHOUT_VICTIM).finish(WITHOUT_VICTIM, play.unmask(WITHOUT_VICTIM))
    assert np.array_equal(total, plain_sum(play.terms, WITHOUT_VICTIM))


class BelievesEveryShare(ServerRound):
    """Unprotected: takes whatever the first shares lead to for the seed."""

    def _self_keys(self, rebuilder: Any, chosen: Any, given: Any) -> list[bytes]:
        made = []
        for owner in chosen:
            shares = {
                self._roster.x_of(member): decode(answer.self_shares[owner], shamir.SHARE_BYTES, "a share")
                for member, answer in given.items()
            }
            seed = shamir.combine(shares, self._terms.share_threshold)
            made.append(masks.self_key(seed, self_info(self._terms, self._roster.digest, owner)))
        return made


def sum_with_a_wrong_share(kind: type[ServerRound]) -> tuple[Ring, Ring]:
    """What comes out, and what should, when mem_0 answers with the shares of mem_1 and no answer is to spare."""
    play = Round(terms(quorum=4, colluders=1), 5).until_contributed()
    answers = play.unmask(ALL)[:4]
    answers[0] = dataclasses.replace(answers[0], self_shares=answers[1].self_shares)
    server = kind(play.terms, play.offers, ALL)
    for name in ALL:
        server.add(name, play.masked[name])
    return server.finish(ALL, answers)[0], plain_sum(play.terms, ALL)


def test_a_wrong_share_makes_a_wrong_sum_without_commitments_and_none_with_them() -> None:
    seen, right = sum_with_a_wrong_share(BelievesEveryShare)
    assert not np.array_equal(seen, right)
    with pytest.raises(UnmaskFailed, match="Nothing was unmasked"):
        sum_with_a_wrong_share(ServerRound)


def test_only_the_whole_cohort_goes_without_a_signed_list() -> None:
    assert not needs_endorsed_list(ALL, ALL[::-1])
    assert needs_endorsed_list(ALL, WITHOUT_VICTIM)

"""A dishonest coordinator asks twice, replays and lies about shares: each attack works on a variant without the rule.

`mem_0` is the victim; colluders are the last members, and hand the coordinator all they hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shared.domain.errors import (
    AlreadyReleased,
    BadSignature,
    QuorumMissed,
    SharesRejected,
    UnmaskFailed,
    UnmaskRefused,
    UnsoundPlan,
)
from shared.release.signing import verify_value
from shared.secagg import keys, shamir
from shared.secagg.channels import Channels
from shared.secagg.dealing import shares_for
from shared.secagg.member import MemberRound
from shared.secagg.messages import Deal, UnmaskShares, bundle_bytes, decode, encode, needs_endorsed_list
from shared.secagg.parameters import Ring, RoundTerms
from shared.secagg.roster import Roster
from shared.secagg.server import ServerRound
from tests.attacks.test_secagg_roster_attacks import attack_with_two_cohorts
from tests.secagg_attacker import (
    ALL,
    VICTIM,
    WITHOUT_VICTIM,
    all_of,
    any_quorum,
    rebuilt,
    unmasked_with_its_own_secrets,
)
from tests.secagg_kit import WEIGHTS, Round, identity, names, plain_sum, secret_vector, split, terms


class NeverForgets(MemberRound):
    """Unprotected: answers every unmask request, with whatever signatures, and keeps its secrets."""

    def unmask(self, survivors: Sequence[str], *_: Any) -> UnmaskShares:
        state = self._state
        return shares_for(self.terms, state.member_id, state.cohort, survivors, state.bundles)


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
    seed = rebuilt(loose, answers[0], VICTIM, "seed_shares")
    mask_private = rebuilt(loose, answers[1], VICTIM, "key_shares")
    seen = unmasked_with_its_own_secrets(loose, seed, mask_private)
    assert np.array_equal(seen, secret_vector(loose.terms, VICTIM))

    play = Round(terms(), 5).until_contributed()
    play.endorse(WITHOUT_VICTIM)
    for answer in play.unmask(WITHOUT_VICTIM):
        assert not set(answer.seed_shares) & set(answer.key_shares)
        assert set(answer.seed_shares) | set(answer.key_shares) == set(ALL)


def split_lists(the_terms: RoundTerms) -> Ring:
    """Two of four members are asked to unmask everybody, the other two everybody without the victim."""
    play = Round(the_terms, 4).until_contributed()
    for_all = play.unmask(names(4), names(2))
    play.endorse(names(4)[1:], names(4)[2:])
    for_others = play.unmask(names(4)[1:], names(4)[2:])
    seed = rebuilt(play, for_all, VICTIM, "seed_shares")
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
        rebuilt(play, [*for_all, *for_smaller, theirs[True]], VICTIM, "seed_shares")
    for answer in for_all:
        assert play.members[answer.member_id].unmask(everybody, told, {}, verify_value) == answer


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
    assert shamir.combine({1: split(secret, 1, range(1, 6))[1]}, 1) == secret
    shares = split(secret, 4, range(1, 6))
    three = {place: shares[place] for place in (1, 2, 3)}
    # Whatever the secret was, one fourth share leads these three to it: all are equally likely.
    coefficients = shamir.lagrange_at_zero((1, 2, 3, 4))
    known = sum(c * int.from_bytes(three[x], "big") for c, x in zip(coefficients, (1, 2, 3), strict=False))
    for guess in (secret, bytes(32), b"\xff" * 32, keys.RoundSecrets.draw().noise_seed):
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
            rebuilt(play, theirs, owner, "seed_shares")


def test_sealing_twice_under_one_key_would_give_shares_away_so_a_deal_made_again_is_the_same() -> None:
    play = Round(terms(), 5)
    before = {name: member.to_plain() for name, member in play.members.items()}
    play.deal()
    known, hidden = b"known to the coordinator", b"a share that nobody has "
    private = play.members["mem_0"].state.secrets.read().channel_private
    channels = Channels(play.terms, Roster.of(play.offers), "mem_0", private)
    first, second = (channels.seal("mem_1", data) for data in (known, hidden))
    assert bytes(a ^ b ^ c for a, b, c in zip(first, second, known, strict=False)) == hidden
    kept = dict(play.deals)
    play.deal()
    assert play.deals == kept
    # Killed before it noted that it had dealt, a member deals what it dealt before.
    play.members = {n: MemberRound.from_plain(s, identity(n).sign_value) for n, s in before.items()}
    play.deal()
    assert play.deals == kept


def test_a_garbled_deal_keeps_one_member_out_and_the_rest_have_their_sum() -> None:
    """A lying member can silence an honest one (SharesRejected), down to the quorum and no further."""
    play = Round(terms(), 5)
    play.deal()
    # The victim derives everybody's shares but those of mem_1.
    garbled = {VICTIM: play.deals["mem_2"].ciphertexts["mem_1"]}
    play.deals["mem_1"] = dataclasses.replace(play.deals["mem_1"], ciphertexts=garbled)
    with pytest.raises(SharesRejected, match="mem_1's for mem_0 do not open"):
        play.contribute(ALL, [VICTIM])
    play.contribute(ALL, WITHOUT_VICTIM)
    play.endorse(WITHOUT_VICTIM)
    total, _ = play.server(ALL, WITHOUT_VICTIM).finish(WITHOUT_VICTIM, play.unmask(WITHOUT_VICTIM))
    assert np.array_equal(total, plain_sum(play.terms, WITHOUT_VICTIM))


class DealsAnything(MemberRound):
    """A liar: what it sends has nothing to do with its secrets."""

    def deal(self, *arguments: Any) -> Deal:
        honest = super().deal(*arguments)
        anything = bytes(bundle_bytes(self.terms))
        return Deal(
            honest.member_id, {h: encode(self._channels().seal(h, anything)) for h in honest.ciphertexts}
        )


@pytest.mark.parametrize("answering", [[1, 2, 3], [0, 1, 2, 3], [2, 3, 4, 5], [1, 2, 3, 4, 5]])
def test_wrong_dealt_shares_end_in_the_right_sum_or_none(answering: list[int]) -> None:
    """Of six members two are sent shares of mem_0's secrets, mem_4 and mem_5; three derive them."""
    play = Round(terms(quorum=4, colluders=1), 6, {"mem_0": DealsAnything}).until_contributed()
    everybody = names(6)
    answers = play.unmask(everybody, [everybody[place] for place in answering])
    server = play.server(everybody, everybody)
    if answering == [0, 1, 2, 3]:
        # Its own share and those that were never its to choose: a quorum of right ones.
        assert np.array_equal(server.finish(everybody, answers)[0], plain_sum(play.terms, everybody))
        return
    # Where one share more came than it takes, the one colluder of the plan could not have spoiled an honest owner's.
    named = "so mem_0 dealt wrong shares" if len(answering) == 5 else r"A mask of mem_0 is rebuilt|3 came"
    with pytest.raises((UnmaskFailed, QuorumMissed), match=named):
        server.finish(everybody, answers)


class AsksAQuorumOnly(MemberRound):
    """Unprotected: content with a quorum's signatures under its cohort, whoever's is left out."""

    def unmask(self, survivors: Sequence[str], told: Any, listed: Any, verify: Any) -> UnmaskShares:
        def of_the_others(key: str, *signed: Any) -> None:
            if key != identity(VICTIM).public_hex:
                verify(key, *signed)

        return super().unmask(survivors, {VICTIM: "0" * 128, **told}, listed, of_the_others)


def test_a_quorum_of_signatures_leaves_out_that_of_whom_was_told_another_cohort() -> None:
    """Four of five survivors are the quorum; the fifth masked, and noised, for another cohort (clause 5.4)."""
    seen, right = attack_with_two_cohorts(AsksAQuorumOnly, WITHOUT_VICTIM)
    assert np.array_equal(seen, right)
    with pytest.raises(
        UnmaskRefused, match="all 5 survivors under the cohort were expected, those of 4 came"
    ):
        attack_with_two_cohorts(MemberRound, WITHOUT_VICTIM)


class BelievesEveryShare(ServerRound):
    """Unprotected: takes whatever the first shares lead to for the seed."""

    def _seeds(self, rebuilder: Any, chosen: Any, given: Any) -> dict[str, bytes]:
        found = {}
        for owner in chosen:
            shares = {
                self._roster.x_of(member): decode(answer.seed_shares[owner], shamir.SHARE_BYTES, "a share")
                for member, answer in given.items()
            }
            found[owner] = shamir.combine(shares, self._terms.share_threshold)
        return found


def sum_with_a_wrong_share(kind: type[ServerRound]) -> tuple[Ring, Ring]:
    """What comes out, and what should, when mem_0 answers with the shares of mem_1 and no answer is to spare."""
    play = Round(terms(quorum=4, colluders=1), 5).until_contributed()
    answers = play.unmask(ALL)[:4]
    answers[0] = dataclasses.replace(answers[0], seed_shares=answers[1].seed_shares)
    server = kind(play.terms, play.offers, ALL, WEIGHTS)
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

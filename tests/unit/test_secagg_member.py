"""A member's side of a secure round: what it answers, what it refuses, and what it remembers after a crash."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from shared.domain.errors import (
    AlreadyReleased,
    BadSignature,
    IllegalMove,
    InvalidMessage,
    QuorumMissed,
    SharesRejected,
    UnapprovedMember,
    UnmaskRefused,
    UnsafeCohort,
    UnsoundPlan,
)
from shared.release.signing import verify_value
from shared.secagg import keys
from shared.secagg.member import MemberRound
from shared.secagg.member_state import Stage
from shared.secagg.messages import (
    KIND_ROUND_KEY,
    Deal,
    KeyOffer,
    encode,
    roster_digest,
)
from tests.secagg_kit import WEIGHTS, Round, identity, names, plain_sum, secret_vector, terms

ALL = names(5)
ME, FOUR, OTHER_FOUR = ALL[0], ALL[:4], [ALL[0], *ALL[2:]]


def signed(offer: KeyOffer, **changes: Any) -> KeyOffer:
    """`offer` changed and signed again by its own member."""
    changed = dataclasses.replace(offer, **changes)
    signature = identity(changed.member_id).sign_value(KIND_ROUND_KEY, changed.statement(terms()))
    return dataclasses.replace(changed, signature=signature)


def deal_with(play: Round, offers: list[KeyOffer]) -> Deal:
    return play.members[ME].deal(offers, play.identity_keys, verify_value)


# --- deal ------------------------------------------------------------------------------------------


def test_deal_reaches_those_who_derive_nothing_of_it_and_is_the_same_again() -> None:
    play = Round(terms(), 5)
    deal = deal_with(play, play.offers)
    deal.check(play.terms)
    # Quorum 4: the three members after this one derive their shares.
    assert sorted(deal.ciphertexts) == ALL[4:]
    assert deal_with(play, play.offers[::-1]) == deal
    swapped = signed(play.offers[1], mask_public_key=keys.public_of(bytes([1] * 32)))
    for other in (play.offers[:4], [play.offers[0], swapped, *play.offers[2:]]):
        with pytest.raises(UnsafeCohort, match="one roster"):
            deal_with(play, other)


def test_deal_refuses_members_that_nobody_approved() -> None:
    play = Round(terms(), 5)
    del play.identity_keys[ALL[3]]
    with pytest.raises(UnapprovedMember, match="mem_3"):
        deal_with(play, play.offers)


def test_deal_refuses_an_offer_that_its_member_did_not_sign_for_this_round() -> None:
    play = Round(terms(), 5)
    for other in (
        *(
            dataclasses.replace(play.offers[1], **{field: keys.public_of(bytes([1] * 32))})
            for field in ("mask_public_key", "channel_public_key", "seed_commitment")
        ),
        Round(terms(round_number=2), 5).offers[1],
        Round(terms(run_id="run_2"), 5).offers[1],
        Round(terms(plan_digest="sha256:" + "1" * 64), 5).offers[1],
        dataclasses.replace(play.offers[1], signature=play.offers[2].signature),
    ):
        with pytest.raises(BadSignature):
            deal_with(play, [play.offers[0], other, *play.offers[2:]])


def test_deal_refuses_names_and_keys_that_stand_twice() -> None:
    play = Round(terms(), 5)
    mine = play.offers[0]
    same_identity = {**play.identity_keys, ALL[1]: play.identity_keys[ALL[2]]}
    with pytest.raises(UnsafeCohort, match="twice"):
        play.members[ME].deal(play.offers, same_identity, lambda *_: None)
    for copied in (
        play.offers[2],
        signed(play.offers[1], mask_public_key=mine.mask_public_key),
        signed(play.offers[1], channel_public_key=mine.mask_public_key),
        signed(play.offers[1], mask_public_key=play.offers[1].channel_public_key),
        signed(play.offers[1], seed_commitment=mine.seed_commitment),
    ):
        with pytest.raises(UnsafeCohort, match="twice"):
            deal_with(play, [mine, copied, *play.offers[2:]])


def test_deal_refuses_a_roster_without_this_member_or_with_other_keys_of_it() -> None:
    play = Round(terms(quorum=4), 5)
    with pytest.raises(UnsafeCohort, match="own keys"):
        deal_with(play, play.offers[1:])
    older = Round(terms(), 1).offers[0]
    with pytest.raises(UnsafeCohort, match="own keys"):
        deal_with(play, [older, *play.offers[1:]])


def test_every_point_of_small_order_and_no_other_is_refused() -> None:
    low = sorted(keys._SMALL_ORDER)
    points = [value.to_bytes(32, "little") for value in [*low, 2**255 - 19, 2**255 - 18]]
    high_bit = [point[:31] + bytes([point[31] | 128]) for point in points]
    mine = keys.load_private(keys.RoundSecrets.draw().mask_private)
    for point in [*points, *high_bit]:
        with pytest.raises(ValueError, match="shared key"):
            mine.exchange(X25519PublicKey.from_public_bytes(point))
        with pytest.raises(InvalidMessage, match="small order|below the field's prime"):
            keys.check_public(point.hex(), "A key")
    for other in (2, 9, 2**255 - 21):
        keys.check_public(other.to_bytes(32, "little").hex(), "A key")


def test_a_key_has_one_written_form() -> None:
    honest = keys.public_of(keys.RoundSecrets.draw().mask_private)
    keys.check_public(honest, "A key")
    raw = bytes.fromhex(honest)
    twin = (raw[:31] + bytes([raw[31] | 128])).hex()  # the same point to X25519, another text on a roster
    other = keys.load_private(keys.RoundSecrets.draw().mask_private)
    shared = [other.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(key))) for key in (honest, twin)]
    assert shared[0] == shared[1]
    with pytest.raises(InvalidMessage, match="below the field's prime"):
        keys.check_public(twin, "A key")


def test_deal_refuses_a_key_of_small_order() -> None:
    play = Round(terms(), 5)
    for field in ("mask_public_key", "channel_public_key"):
        bad = signed(play.offers[1], **{field: "00" * 32})
        with pytest.raises(InvalidMessage, match="small order"):
            deal_with(play, [play.offers[0], bad, *play.offers[2:]])


def test_deal_refuses_rosters_that_do_not_fit_the_quorum() -> None:
    play = Round(terms(), 7)
    with pytest.raises(QuorumMissed, match="4"):
        deal_with(play, play.offers[:3])
    with pytest.raises(UnsoundPlan, match="quorum must be at least 5"):
        deal_with(play, play.offers)


# --- accept and mask -------------------------------------------------------------------------------


def dealt() -> Round:
    play = Round(terms(), 5)
    play.deal()
    return play


def test_accept_takes_one_cohort_and_the_same_again() -> None:
    play = dealt()
    play.accept(ME, ALL)
    play.accept(ME, ALL[::-1])
    with pytest.raises(UnsafeCohort, match="one cohort"):
        play.accept(ME, FOUR)
    with pytest.raises(UnsafeCohort, match="one cohort"):  # which its contribution would then name
        play.members[ME].accept("sha256:" + "0" * 64, ALL, play.ciphertexts_for(ME, ALL))
    assert play.members[ME].stage is Stage.ACCEPTED


def test_accept_refuses_cohorts_that_are_too_small_or_not_of_the_roster() -> None:
    play = dealt()
    digest = roster_digest(play.offers)
    member, sealed = play.members[ME], play.ciphertexts_for(ME, ALL)
    for cohort, error in (
        (ALL[:3], QuorumMissed),
        ([ME], QuorumMissed),
        ([*FOUR, "mem_9"], UnsafeCohort),
        ([*FOUR, ME], UnsafeCohort),
        (ALL[1:], UnsafeCohort),
        (["", *FOUR], InvalidMessage),
    ):
        with pytest.raises(error):
            member.accept(digest, cohort, sealed)
    with pytest.raises(UnsafeCohort, match="one roster"):
        member.accept("sha256:" + "0" * 64, ALL, sealed)
    assert member.stage is Stage.DEALT


def test_accept_refuses_when_a_share_is_missing_swapped_or_changed() -> None:
    play, six = Round(terms(), 6), names(6)
    play.deal()
    digest = roster_digest(play.offers)
    member, sealed = play.members[ME], play.ciphertexts_for(ME, six)
    assert sorted(sealed) == six[1:3]
    with pytest.raises(InvalidMessage, match="2 other members were expected with the cohort, those of 1"):
        member.accept(digest, six, {six[1]: sealed[six[1]]})
    for changed in (sealed[six[2]], encode(bytes(148)), play.deals[six[1]].ciphertexts[six[5]]):
        with pytest.raises(SharesRejected, match="mem_1's for mem_0"):
            member.accept(digest, six, {**sealed, six[1]: changed})
    with pytest.raises(InvalidMessage, match="148 bytes"):
        member.accept(digest, six, {**sealed, six[1]: "AAAA"})
    assert member.stage is Stage.DEALT


def test_shares_that_are_derived_are_not_taken_from_whoever_sends_some() -> None:
    play, six = Round(terms(), 6), names(6)
    play.deal()
    sealed = play.ciphertexts_for(ME, six)
    twin = MemberRound.from_plain(play.members[ME].to_plain(), identity(ME).sign_value)
    for member, given in (
        (twin, sealed),
        (play.members[ME], {**sealed, six[3]: "anything", "mem_9": "more"}),
    ):
        member.accept(roster_digest(play.offers), six, given)
    assert twin.to_plain() == play.members[ME].to_plain()


def test_mask_works_in_place_and_once() -> None:
    play = dealt()
    play.accept(ME, ALL)
    ring = secret_vector(play.terms, ME)
    assert play.members[ME].mask(ring) is ring
    assert not np.array_equal(ring, secret_vector(play.terms, ME))
    with pytest.raises(AlreadyReleased, match="already masked once"):
        play.members[ME].mask(secret_vector(play.terms, ME))
    play.members[ME].contributed(WEIGHTS)
    again = MemberRound.from_plain(play.members[ME].to_plain(), identity(ME).sign_value)
    with pytest.raises(AlreadyReleased, match="already masked once"):
        again.mask(secret_vector(play.terms, ME))


def test_mask_refuses_another_length_or_type() -> None:
    play = dealt()
    play.accept(ME, ALL)
    for ring in (np.zeros(4, np.uint32), np.zeros(5, np.uint16), np.zeros((1, 5), np.uint32)):
        with pytest.raises(InvalidMessage, match="5 numbers of type uint32"):
            play.members[ME].mask(ring)
    play.members[ME].mask(np.zeros(5, np.uint32))


def test_steps_out_of_order_are_refused() -> None:
    play = Round(terms(), 5)
    member = play.members[ME]
    for step in (
        lambda: member.accept("sha256:" + "0" * 64, ALL, {}),
        lambda: member.mask(np.zeros(5, np.uint32)),
        lambda: member.contributed(WEIGHTS),
        lambda: member.endorse(ALL),
        lambda: member.unmask(ALL, {}, {}, verify_value),
    ):
        with pytest.raises(IllegalMove, match="'offered'"):
            step()
    play.deal()
    play.accept(ME, ALL)
    for step in (lambda: member.endorse(ALL), lambda: member.unmask(ALL, {}, {}, verify_value)):
        with pytest.raises(IllegalMove, match="'accepted'"):
            step()


def test_keys_of_a_round_are_replaced_only_before_a_cohort_was_accepted() -> None:
    play = Round(terms(), 5)
    play.members[ME].require_replaceable()
    play.deal()
    play.members[ME].require_replaceable()
    play.accept(ME, ALL)
    with pytest.raises(AlreadyReleased, match="one cohort"):
        play.members[ME].require_replaceable()


# --- endorse and unmask ----------------------------------------------------------------------------


def contributed(count: int = 5, **changes: Any) -> Round:
    return Round(terms(**changes), count).until_contributed()


def test_a_member_signs_the_cohort_and_one_smaller_list() -> None:
    play = contributed()
    member = play.members[ME]
    assert member.endorse(ALL) == play.told[ME]
    signature = member.endorse(FOUR)
    assert member.endorse(FOUR[::-1]) == signature
    assert member.endorse(ALL) == play.told[ME]
    with pytest.raises(UnmaskRefused, match="one list"):
        member.endorse(OTHER_FOUR)
    for survivors, error in ((ALL[1:], UnsafeCohort), (ALL[:3], QuorumMissed), ([*FOUR, "x"], UnsafeCohort)):
        with pytest.raises(error):
            play.members[ME].endorse(survivors)


def test_an_answer_holds_one_kind_of_share_of_each_member() -> None:
    play = contributed()
    play.endorse(FOUR)
    answer = play.unmask(FOUR, [ME])[0]
    answer.check()
    assert sorted(answer.seed_shares) == FOUR
    assert sorted(answer.key_shares) == [ALL[4]]


def test_an_answer_for_everybody_holds_no_key_share() -> None:
    answer = contributed().unmask(ALL, [ME])[0]
    assert (sorted(answer.seed_shares), answer.key_shares) == (ALL, {})


def test_the_one_answer_is_given_again_and_no_other() -> None:
    play = contributed()
    first = play.unmask(ALL, [ME])[0]
    assert play.unmask(ALL, [ME])[0] == first
    assert play.members[ME].unmask(ALL, {}, {}, verify_value) == first
    with pytest.raises(UnmaskRefused, match="one list"):
        play.endorse(FOUR, [ME])
    play.endorse(FOUR, FOUR[1:])
    with pytest.raises(UnmaskRefused, match="one unmask request"):
        play.unmask(FOUR, [ME])


def test_a_member_that_signed_a_smaller_list_does_not_unmask_the_cohort() -> None:
    play = contributed()
    play.endorse(FOUR, [ME])
    with pytest.raises(UnmaskRefused, match="one list"):
        play.unmask(ALL, [ME])


def test_a_member_unmasks_a_list_that_a_quorum_signed_without_it() -> None:
    play = contributed(6)
    five = names(6)[:5]
    play.endorse(five, five[1:])
    assert sorted(play.unmask(five, [ME])[0].seed_shares) == five


def test_unmask_refuses_missing_or_foreign_signatures() -> None:
    play = contributed()
    listed = play.endorse(FOUR)
    told = {name: play.told[name] for name in FOUR}
    member = play.members[ME]
    without = {name: told[name] for name in FOUR[1:]}
    three = {name: listed[name] for name in FOUR[:3]}
    for endorsements, lists, error in (
        (without, listed, UnmaskRefused),
        (play.told, listed, UnmaskRefused),
        ({}, {}, UnmaskRefused),
        (told, three, UnmaskRefused),
        (told, {}, UnmaskRefused),
        (told, {**three, ALL[4]: listed[ALL[3]]}, UnmaskRefused),
        (told, {**three, ALL[3]: listed[ALL[2]]}, BadSignature),
        (told, {**three, ALL[3]: play.told[ALL[3]]}, BadSignature),
        ({**told, ALL[3]: listed[ALL[3]]}, listed, BadSignature),
        ({**told, ALL[3]: "00"}, listed, InvalidMessage),
    ):
        with pytest.raises(error):
            member.unmask(FOUR, endorsements, lists, verify_value)
    assert member.stage is Stage.CONTRIBUTED
    assert member.unmask(FOUR, told, listed, verify_value).member_id == ME


def test_signatures_of_another_round_unmask_nothing() -> None:
    before = contributed(round_number=2)
    play = contributed()
    with pytest.raises(BadSignature):
        play.members[ME].unmask(ALL, before.told, {}, verify_value)


def test_without_noise_steps_nobody_may_drop_out() -> None:
    play = contributed(tolerance_steps=0)
    with pytest.raises(QuorumMissed, match="At least 5 of 5"):
        play.endorse(FOUR, [ME])
    total, excess = play.server(ALL, ALL).finish(ALL, play.unmask(ALL))
    assert np.array_equal(total, plain_sum(play.terms, ALL))
    assert excess == {}

"""Endorsements that also cover their members' next keys: what they name, for whom, and what is malformed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from shared.domain.errors import BadSignature, InvalidMessage
from shared.release.signing import verify_value
from shared.secagg.endorsements import accepting_vouched, check_endorsement
from shared.secagg.member import MemberRound
from shared.secagg.messages import KIND_ROUND_KEY
from shared.secagg.roster import Roster
from tests.secagg_kit import WEIGHTS, Round, identity, names, terms

ALL = names(5)
ME, PEER = ALL[:2]


def two_rounds() -> tuple[Round, Round]:
    """A round whose members named their next keys as they contributed, and the round of those keys."""
    play, following = Round(terms(), 5), Round(terms(round_number=2), 5)
    play.deal()
    for name in ALL:
        play.accept(name, ALL)
        play.told[name] = play.members[name].contributed(WEIGHTS, following.members[name].offer_digest)
    return play, following


def check(play: Round, text: str, named: list[str] = ALL) -> None:
    place = (play.terms, Roster.of(play.offers), ALL, named)
    check_endorsement(*place, identity(ME).public_hex, text, verify_value, WEIGHTS)


def test_endorsement_covers_the_keys_that_it_names() -> None:
    play, following = two_rounds()
    check(play, play.told[ME])
    assert play.told[ME][128:] == following.members[ME].offer_digest
    for changed in (play.told[ME][:128], play.told[ME][:128] + following.members[PEER].offer_digest):
        with pytest.raises(BadSignature):
            check(play, changed)


@pytest.mark.parametrize("change", [lambda t: t[:191], lambda t: t + "0", str.upper, lambda t: t[:127]])
def test_endorsement_of_another_form_is_refused(change: Any) -> None:
    play, _ = two_rounds()
    with pytest.raises(InvalidMessage, match="128 or 192 lower-case hex digits"):
        check(play, change(play.told[ME]))


def test_signature_under_a_smaller_list_names_no_keys() -> None:
    play, following = two_rounds()
    signature = play.members[ME].endorse(ALL[:4])
    check(play, signature, ALL[:4])
    with pytest.raises(InvalidMessage, match="128 lower-case hex digits"):
        check(play, signature + following.members[ME].offer_digest, ALL[:4])


def test_first_keys_named_stay_named_after_a_restart() -> None:
    play, following = two_rounds()
    again = MemberRound.from_plain(play.members[ME].to_plain(), identity(ME).sign_value)
    assert again.contributed(WEIGHTS, following.members[PEER].offer_digest) == play.told[ME]


def test_only_a_checked_endorsement_stands_for_the_signature_of_keys_and_only_of_those() -> None:
    play, following = two_rounds()
    assert play.members[ME].vouched == frozenset()
    play.unmask(ALL, [ME])
    vouched, offer = play.members[ME].vouched, following.offers[1]
    asked: list[str] = []
    verify = accepting_vouched(vouched, lambda *call: asked.append(call[0]))
    statement, key = offer.statement(following.terms), identity(PEER).public_hex
    verify(key, KIND_ROUND_KEY, statement, offer.signature)
    assert asked == []
    other_round = offer.statement(dataclasses.replace(following.terms, round_number=3))
    other_keys = {**statement, "channel_public_key": following.offers[2].channel_public_key}
    for others in (
        (identity(ME).public_hex, KIND_ROUND_KEY, statement, offer.signature),
        (key, "survivors", statement, offer.signature),
        (key, KIND_ROUND_KEY, other_round, offer.signature),
        (key, KIND_ROUND_KEY, other_keys, offer.signature),
        (key, KIND_ROUND_KEY, statement, following.offers[2].signature),
    ):
        verify(*others)
        assert asked.pop() == others[0]


def test_restart_after_the_answer_forgets_what_was_vouched_for() -> None:
    play, _ = two_rounds()
    play.unmask(ALL, [ME])
    again = MemberRound.from_plain(play.members[ME].to_plain(), identity(ME).sign_value)
    again.unmask(ALL, play.told, {}, verify_value)
    assert again.vouched == frozenset()

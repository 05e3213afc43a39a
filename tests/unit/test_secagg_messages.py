"""Messages, statements and sealed shares of secure rounds: what they bind, and what is malformed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from shared.domain.canonical import canonical_bytes, digest_of_bytes
from shared.domain.errors import (
    BadSignature,
    InvalidConfig,
    InvalidMessage,
    SharesRejected,
)
from shared.domain.strict import build, to_plain
from shared.release.signing import verify_value
from shared.secagg.channels import Channels
from shared.secagg.dealing import sent_shares
from shared.secagg.endorsements import check_endorsement
from shared.secagg.messages import (
    KIND_SURVIVORS,
    Deal,
    KeyOffer,
    UnmaskShares,
    cohort_statement,
    roster_digest,
    survivors_statement,
)
from shared.secagg.roster import Roster
from shared.secagg.shamir import PRIME
from tests.secagg_kit import WEIGHTS, Round, identity, names, terms

ALL = names(5)
ME, FOUR, OTHER_FOUR = ALL[0], ALL[:4], [ALL[0], *ALL[2:]]


def test_messages_survive_json_and_are_read_strictly() -> None:
    play = Round(terms(), 5).until_contributed()
    for kind, value in (
        (KeyOffer, play.offers[0]),
        (Deal, play.deals[ME]),
        (UnmaskShares, play.unmask(ALL)[0]),
    ):
        plain = json.loads(canonical_bytes(to_plain(value)))
        assert build(kind, plain, "test") == value
        with pytest.raises(InvalidConfig):
            build(kind, {**plain, "more": 1}, "test")


def test_roster_digest_does_not_depend_on_the_order_and_does_on_every_key() -> None:
    offers = Round(terms(), 5).offers
    assert roster_digest(offers) == roster_digest(offers[::-1])
    assert roster_digest(offers) != roster_digest(offers[1:])
    for field in (
        "mask_public_key",
        "channel_public_key",
        "seed_commitment",
        "signature",
    ):
        changed = dataclasses.replace(offers[0], **{field: "0" * 64})
        assert roster_digest(offers) != roster_digest([changed, *offers[1:]])


def test_signatures_name_run_round_plan_roster_cohort_list_and_weights_and_hold_for_no_other() -> None:
    play, signer = Round(terms(), 5), identity(ME)
    roster = Roster.of(play.offers)
    other_weights = digest_of_bytes(b"others")
    places: list[tuple[Any, Roster, list[str], list[str], str]] = [
        (terms(), roster, ALL, ALL, WEIGHTS),
        (terms(run_id="run_2"), roster, ALL, ALL, WEIGHTS),
        (terms(round_number=2), roster, ALL, ALL, WEIGHTS),
        (terms(plan_digest="sha256:" + "1" * 64), roster, ALL, ALL, WEIGHTS),
        (terms(), Roster.of(play.offers[1:]), ALL, ALL, WEIGHTS),
        (terms(), roster, FOUR, FOUR, WEIGHTS),
        (terms(), roster, ALL, FOUR, WEIGHTS),
        (terms(), roster, ALL, OTHER_FOUR, WEIGHTS),
        (terms(), roster, ALL, ALL, other_weights),
        (terms(), roster, ALL, FOUR, other_weights),
    ]
    for the_terms, its_roster, cohort, named, weights in places:
        if named == cohort:
            statement = cohort_statement(the_terms, its_roster.digest, cohort, weights)
        else:
            statement = survivors_statement(the_terms, its_roster.digest, cohort, named, weights)
        signature = signer.sign_value(KIND_SURVIVORS, statement)
        for place in places:
            told = (*place[:4], signer.public_hex, signature, verify_value, place[4])
            if place == (the_terms, its_roster, cohort, named, weights):
                check_endorsement(*told)
                continue
            with pytest.raises(BadSignature):
                check_endorsement(*told)


@pytest.mark.parametrize("weights", ["", "sha256:", "sha256:" + "A" * 64, "0" * 64, WEIGHTS + "\n"])
def test_no_statement_is_made_where_the_weights_are_not_known(weights: str) -> None:
    play = Round(terms(), 5).until_contributed()
    with pytest.raises(InvalidMessage, match="digest of the round's weights must be sha256: and 64"):
        cohort_statement(play.terms, roster_digest(play.offers), ALL, weights)
    with pytest.raises(InvalidMessage, match="digest of the round's weights must be"):
        survivors_statement(play.terms, roster_digest(play.offers), ALL, FOUR, weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_public_key": "AB" * 32},
        {"channel_public_key": "ab" * 31},
        {"seed_commitment": ""},
        {"seed_commitment": "zz" * 32},
        {"signature": "ab" * 32},
        {"member_id": "mem 0"},
        {"member_id": "m" * 65},
    ],
)
def test_malformed_offers_are_invalid(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidMessage):
        dataclasses.replace(Round(terms(), 1).offers[0], **changes).check()


def channel_ends(the_terms: Any, offers: list[KeyOffer], one: str, other: str) -> tuple[Channels, Channels]:
    """Both ends of the channel between two members, who read the roster as `offers`."""
    roster = Roster.of(offers)
    privates = {name: PLAY.members[name].state.secrets.read().channel_private for name in (one, other)}
    return tuple(Channels(the_terms, roster, name, privates[name]) for name in (one, other))


PLAY = Round(terms(), 5)
ELSEWHERE: list[tuple[Any, list[KeyOffer]]] = [
    (terms(round_number=2), PLAY.offers),
    (terms(run_id="run_2"), PLAY.offers),
    (terms(), PLAY.offers[:4]),
]


def test_a_bundle_sealed_for_one_place_opens_nowhere_else() -> None:
    here, there = channel_ends(terms(), PLAY.offers, "mem_0", "mem_1")
    sealed = here.seal("mem_1", b"share")
    assert there.unseal("mem_0", sealed) == b"share"
    for the_terms, offers in ELSEWHERE:
        with pytest.raises(SharesRejected, match="do not open"):
            channel_ends(the_terms, offers, "mem_0", "mem_1")[1].unseal("mem_0", sealed)
    _, third = channel_ends(terms(), PLAY.offers, "mem_0", "mem_2")
    for reader, sender, data in (
        (here, "mem_1", sealed),
        (there, "mem_2", sealed),
        (third, "mem_0", sealed),
        (there, "mem_0", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(SharesRejected, match="do not open"):
            reader.unseal(sender, data)


def test_derived_shares_are_alike_at_both_ends_and_other_ones_everywhere_else() -> None:
    here, there = channel_ends(terms(), PLAY.offers, "mem_0", "mem_1")
    shares = here.derived("mem_0", "mem_1")
    assert there.derived("mem_0", "mem_1") == shares
    assert len(set(shares)) == len(shares) == 2 + terms().tolerance_steps
    seen = {*shares, *here.derived("mem_1", "mem_0"), *here.derived("mem_0", "mem_2")}
    for the_terms, offers in ELSEWHERE:
        seen |= set(channel_ends(the_terms, offers, "mem_0", "mem_1")[0].derived("mem_0", "mem_1"))
    assert len(seen) == (3 + len(ELSEWHERE)) * len(shares)
    assert all(0 <= share < PRIME for share in seen)


def test_every_member_derives_and_is_sent_as_many_shares_as_every_other() -> None:
    everybody = names(12)
    offers = [dataclasses.replace(PLAY.offers[0], member_id=name) for name in everybody]
    roster, the_terms = Roster.of(offers), terms(quorum=9)
    for name in everybody:
        derived = [owner for owner in everybody if roster.derives(the_terms, name, owner)]
        holders = [holder for holder in everybody if roster.derives(the_terms, holder, name)]
        assert name not in derived
        assert len(derived) == len(holders) == 8
        assert len(sent_shares(the_terms, roster, name, everybody)) == 3

"""Messages, statements and sealed shares of secure rounds: what they bind, and what is malformed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import (
    BadSignature,
    InvalidConfig,
    InvalidMessage,
    SharesRejected,
)
from shared.domain.strict import build, to_plain
from shared.release.signing import verify_value
from shared.secagg import keys
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
from tests.secagg_kit import Round, identity, names, terms

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
        "self_commitment",
        "noise_commitment",
        "signature",
    ):
        changed = dataclasses.replace(offers[0], **{field: "0" * 64})
        assert roster_digest(offers) != roster_digest([changed, *offers[1:]])


def test_signatures_name_run_round_plan_roster_cohort_and_list_and_hold_for_no_other() -> None:
    play, signer = Round(terms(), 5), identity(ME)
    roster = Roster.of(play.offers)
    places: list[tuple[Any, Roster, list[str], list[str]]] = [
        (terms(), roster, ALL, ALL),
        (terms(run_id="run_2"), roster, ALL, ALL),
        (terms(round_number=2), roster, ALL, ALL),
        (terms(plan_digest="sha256:" + "1" * 64), roster, ALL, ALL),
        (terms(), Roster.of(play.offers[1:]), ALL, ALL),
        (terms(), roster, FOUR, FOUR),
        (terms(), roster, ALL, FOUR),
        (terms(), roster, ALL, OTHER_FOUR),
    ]
    for the_terms, its_roster, cohort, named in places:
        if named == cohort:
            statement = cohort_statement(the_terms, its_roster.digest, cohort)
        else:
            statement = survivors_statement(the_terms, its_roster.digest, cohort, named)
        signature = signer.sign_value(KIND_SURVIVORS, statement)
        for place in places:
            if place == (the_terms, its_roster, cohort, named):
                check_endorsement(*place, signer.public_hex, signature, verify_value)
                continue
            with pytest.raises(BadSignature):
                check_endorsement(*place, signer.public_hex, signature, verify_value)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_public_key": "AB" * 32},
        {"channel_public_key": "ab" * 31},
        {"self_commitment": ""},
        {"noise_commitment": "zz" * 32},
        {"signature": "ab" * 32},
        {"member_id": "mem 0"},
        {"member_id": "m" * 65},
    ],
)
def test_malformed_offers_are_invalid(changes: dict[str, str]) -> None:
    with pytest.raises(InvalidMessage):
        dataclasses.replace(Round(terms(), 1).offers[0], **changes).check()


def test_a_secret_sealed_for_one_place_opens_nowhere_else() -> None:
    mine, yours = keys.RoundSecrets.draw(), keys.RoundSecrets.draw()
    my_public, your_public = keys.public_of(mine.channel_private), keys.public_of(yours.channel_private)
    opener = keys.load_private(yours.channel_private)
    here, digest = terms(), roster_digest(Round(terms(), 5).offers)
    sealed = keys.seal(here, digest, "a", "b", keys.load_private(mine.channel_private), your_public, b"share")
    assert keys.unseal(here, digest, "a", "b", opener, my_public, sealed) == b"share"
    others: list[tuple[Any, ...]] = [
        (terms(round_number=2), digest, "a", "b", sealed),
        (terms(run_id="run_2"), digest, "a", "b", sealed),
        (here, roster_digest([]), "a", "b", sealed),
        (here, digest, "b", "a", sealed),
        (here, digest, "a", "c", sealed),
        (here, digest, "a", "b", sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ]
    for the_terms, roster, sender, receiver, data in others:
        with pytest.raises(SharesRejected, match="do not open"):
            keys.unseal(the_terms, roster, sender, receiver, opener, my_public, data)

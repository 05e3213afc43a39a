"""Framing: liars answer, or deal, so that the shares of honest members look wrong. Nobody honest may be named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from shared.secagg import shamir
from shared.secagg.dealing import computed_bundles
from shared.secagg.member import MemberRound
from shared.secagg.messages import Deal, UnmaskShares, decode, encode
from shared.secagg.server import ServerRound
from tests.secagg_kit import Round, names, plain_sum, terms

TEN = names(10)


def moved(share: str, error: int) -> str:
    """A share `error` further in the field."""
    value = int.from_bytes(decode(share, shamir.SHARE_BYTES, "a share"), "big")
    return encode(shamir.to_share((value + error) % shamir.PRIME))


def cancelling(answers: list[UnmaskShares]) -> list[UnmaskShares]:
    """Two liars add errors that cancel in the set of shares that is tried second: the first seven but mem_6, and mem_7.

    The first set, with mem_1 alone, leads nowhere; the second to the right secret, by another polynomial.
    """
    weight = dict(zip((1, 2, 3, 4, 5, 6, 8), shamir.lagrange_at_zero((1, 2, 3, 4, 5, 6, 8)), strict=True))
    errors = {"mem_1": 1, "mem_7": -weight[2] * pow(weight[8], -1, shamir.PRIME)}
    return [
        dataclasses.replace(
            answer,
            seed_shares={
                owner: moved(share, errors.get(answer.member_id, 0))
                for owner, share in answer.seed_shares.items()
            },
        )
        for answer in answers
    ]


def finished(play: Round, answers: list[UnmaskShares]) -> ServerRound:
    server = play.server(play.names, play.names)
    total, _ = server.finish(play.names, answers)
    assert np.array_equal(total, plain_sum(play.terms, play.names)), "lies never cost more than a name"
    return server


def test_errors_that_cancel_at_the_secret_make_honest_shares_misfits_and_name_nobody() -> None:
    play = Round(terms(quorum=7, colluders=3), 10).until_contributed()
    server = finished(play, cancelling(play.unmask(TEN)))
    # Whoever names all whose shares do not fit names three honest members, and neither liar.
    assert server.doubtful == ("mem_6", "mem_8", "mem_9")
    assert server.liars == ()


class DealsToOneWrongly(MemberRound):
    """A liar: one honest holder is dealt other shares than everybody else, under a seal that opens."""

    def deal(self, *arguments: Any) -> Deal:
        honest, roster, channels = super().deal(*arguments), self._roster(), self._channels()
        bundles = computed_bundles(self.terms, roster, honest.member_id, self._secrets(), channels)
        wrong = encode(channels.seal("mem_0", bundles["mem_0"][::-1]))
        return Deal(honest.member_id, {**honest.ciphertexts, "mem_0": wrong})


def test_a_dealer_cannot_have_the_holder_of_its_wrong_shares_named() -> None:
    """mem_0 is sent its shares of mem_1's secrets, and is among the first whose shares are tried."""
    play = Round(terms(quorum=4, colluders=1), 6, {"mem_1": DealsToOneWrongly}).until_contributed()
    server = finished(play, play.unmask(play.names))
    assert (server.liars, server.doubtful) == ((), ("mem_0",))


def lying(answer: UnmaskShares, owners: Sequence[str]) -> UnmaskShares:
    """With wrong shares of these owners' secrets."""
    shares = {owner: moved(text, owner in owners) for owner, text in answer.seed_shares.items()}
    return dataclasses.replace(answer, seed_shares=shares)


@pytest.mark.parametrize(
    ("owners", "named"),
    # About one other owner it may be that one which dealt it so; of its own secret it knows better.
    [(TEN[1:2], False), (TEN[1:3], True), (TEN, True), (TEN[:1], True)],
)
def test_who_lies_about_more_owners_than_may_collude_is_named(owners: Sequence[str], named: bool) -> None:
    play = Round(terms(quorum=7, colluders=1), 10).until_contributed()
    answers = play.unmask(TEN)
    server = finished(play, [lying(answers[0], owners), *answers[1:]])
    assert (server.liars, server.doubtful) == ((("mem_0",), ()) if named else ((), ("mem_0",)))


@pytest.mark.parametrize(("liars", "named"), [(1, True), (2, False)])
def test_as_few_right_shares_as_others_could_have_agreed_on_name_nobody(liars: int, named: bool) -> None:
    """Eight that fit may hold three colluders and five honest members, one point too few for a polynomial of theirs."""
    play = Round(terms(quorum=7, colluders=3), 10).until_contributed()
    answers = play.unmask(TEN)
    server = finished(play, [*(lying(answer, TEN) for answer in answers[:liars]), *answers[liars:]])
    lied = tuple(TEN[:liars])
    assert (server.liars, server.doubtful) == ((lied, ()) if named else ((), lied))

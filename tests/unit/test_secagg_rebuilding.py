"""Rebuilding secrets among liars: how often it is tried, in all, and whose shares come first."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import pytest

from shared.domain.errors import UnmaskFailed
from shared.domain.plan import least_quorum
from shared.secagg import rebuilding
from shared.secagg.messages import encode
from shared.secagg.rebuilding import Rebuilder
from shared.secagg.roster import Roster
from tests.secagg_kit import Round, names, split, terms

NINE = names(9)
SECRET = bytes(range(32))
WRONG = encode(bytes(32) + b"\x01")


def rebuilder() -> Rebuilder:
    play = Round(terms(quorum=6, colluders=1), 9)
    return Rebuilder(play.terms, Roster.of(play.offers))


def shares(liars: list[str]) -> dict[str, str | None]:
    right = split(SECRET, 6, range(1, 10))
    return {name: WRONG if name in liars else encode(right[x]) for x, name in enumerate(NINE, 1)}


def counted(tried: list[bytes], most: int, fits: bool = True) -> Callable[[bytes], bool]:
    """Whether a secret is the right one; what would be tried for ever ends here."""

    def check(secret: bytes) -> bool:
        tried.append(secret)
        assert len(tried) <= most, "nobody stops trying"
        return fits and secret == SECRET

    return check


@pytest.mark.parametrize("most", [3, 60])
def test_all_secrets_together_are_tried_so_often_and_no_more(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """84 sets of six among nine: more than are tried, so they are drawn, and drawing alone would never end."""
    monkeypatch.setattr(rebuilding, "MAXIMUM_WORK", most * 6**2)
    found, tried = rebuilder(), []
    with pytest.raises(UnmaskFailed, match="Nothing was unmasked"):
        found.rebuild(NINE[0], shares([]), counted(tried, most + 1, fits=False))
    assert len(tried) == most + 1
    # What the first secret used up is gone for those after it: each still has its first set.
    for _ in range(2):
        again: list[bytes] = []
        with pytest.raises(UnmaskFailed):
            found.rebuild(NINE[1], shares([]), counted(again, 1, fits=False))
        assert len(again) == 1
    assert found.rebuild(NINE[2], shares([]), counted([], 1)) == SECRET


@pytest.mark.parametrize(
    ("came", "most", "text"),
    [
        (
            9,
            5000,
            f"All sets were tried, so {NINE[0]} dealt wrong shares, unless more members than the 1 that",
        ),
        (7, 5000, f"All sets were tried, so {NINE[0]} dealt wrong shares"),
        (6, 5000, "It dealt wrong shares, or too many members answered"),
        (5, 5000, "It dealt wrong shares, or too many members answered"),
        (9, 83, "It dealt wrong shares, or too many members answered"),
    ],
)
def test_an_owner_is_named_where_so_few_liars_could_not_have_spoiled_its_shares(
    monkeypatch: pytest.MonkeyPatch, came: int, most: int, text: str
) -> None:
    """One colluder spoils one share: among seven, six are right. Among six it may have been the one."""
    monkeypatch.setattr(rebuilding, "MAXIMUM_WORK", most * 6**2)
    given = {name: share if place < came else None for place, (name, share) in enumerate(shares([]).items())}
    with pytest.raises(UnmaskFailed, match=text):
        rebuilder().rebuild(NINE[0], given, lambda secret: False)


def test_who_lied_once_is_asked_last() -> None:
    liars = NINE[:2]
    found, first, second = rebuilder(), [], []
    assert found.rebuild(NINE[3], shares(liars), counted(first, 85)) == SECRET
    assert found.suspects == set(liars)
    assert len(first) > 1
    assert found.rebuild(NINE[4], shares(liars), counted(second, 1)) == SECRET


@pytest.mark.parametrize("members", [4, 7, 11, 16, 17, 20, 21, 200])
def test_tries_are_all_there_could_be_in_small_consortia_and_never_take_long(members: int) -> None:
    quorum = least_quorum(members)
    found, sets = Rebuilder(terms(quorum=quorum), Roster.of([])), comb(members, quorum)
    assert (found._most_tries >= sets) == (members <= 20)
    assert (found._most_tries >= members * sets) == (members <= 16)
    assert 0 < found._most_tries * quorum**2 <= 10**7

"""Laws of secure rounds: right sums or none, whoever drops out or lies; and one sum, however they are asked."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.errors import CommonlensError, QuorumMissed, Refused, UnmaskFailed
from shared.release.signing import verify_value
from shared.secagg.member import MemberRound
from shared.secagg.messages import UnmaskShares, encode
from shared.secagg.parameters import tolerance
from tests.secagg_kit import WEIGHTS, Round, identity, names, plain_sum, terms

# --- drop-outs at every step -----------------------------------------------------------------------

STEPS = ("offer", "deal", "contribute", "endorse", "unmask", "stays")


def least_quorum(count: int, colluders: int) -> int:
    """The smallest whole number above (count + colluders) / 2."""
    return (count + colluders) // 2 + 1


@st.composite
def rosters(draw: st.DrawFn) -> tuple[int, int, int]:
    """(members, colluders, quorum) that the quorum rule allows."""
    count = draw(st.integers(3, 6))
    colluders = draw(st.integers(0, max(0, count - 3)))
    return count, colluders, draw(st.integers(least_quorum(count, colluders), count))


def play_with_dropouts(play: Round, gone_at: dict[str, str], order: Sequence[str]) -> np.ndarray:
    """A whole round in which each member falls silent before the step it is given. Raises QuorumMissed."""

    def here(step: str, among: Collection[str]) -> list[str]:
        return [n for n in order if n in among and STEPS.index(gone_at[n]) > STEPS.index(step)]

    play.offers = [play.members[name].offer for name in here("offer", order)]
    cohort = here("deal", here("offer", order))
    play.deal(cohort)
    contributors = here("contribute", cohort)
    play.contribute(cohort, contributors)
    server = play.server(cohort, contributors)
    if set(contributors) != set(cohort):
        play.endorse(contributors, here("endorse", contributors))
    answers = play.unmask(contributors, here("unmask", contributors))
    return server.finish(contributors, answers)[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_dropouts_above_quorum_leave_the_right_sum_and_below_it_nothing(data: st.DataObject) -> None:
    count, colluders, quorum = data.draw(rosters())
    # Mostly late steps: early ones soon leave too few.
    step = st.sampled_from((*STEPS, "stays", "stays", "stays"))
    gone_at = {name: data.draw(step) for name in names(count)}
    play = Round(terms(quorum=quorum, colluders=colluders, tolerance_steps=2), count)
    order = data.draw(st.permutations(names(count)))
    contributors = [n for n in names(count) if STEPS.index(gone_at[n]) > STEPS.index("contribute")]
    answering = [n for n in contributors if gone_at[n] == "stays"]
    complete = all(gone_at[n] in ("offer", "deal") or n in contributors for n in names(count))
    signing = [n for n in contributors if STEPS.index(gone_at[n]) > STEPS.index("endorse")]
    if len(answering) >= quorum and (complete or len(signing) >= quorum):
        total = play_with_dropouts(play, gone_at, order)
        assert np.array_equal(total, plain_sum(play.terms, contributors))
    else:
        with pytest.raises(CommonlensError):
            play_with_dropouts(play, gone_at, order)


LATE = ("stays", "contribute", "endorse", "unmask")
"""A member stays to the end, or is gone before this step."""


def check_late_dropouts(gone: Sequence[str], colluders: int, quorum: int) -> bool:
    """One round in which member i is `gone[i]`: the right sum, or nothing. Whether there was a sum."""
    count = len(gone)
    play = Round(terms(quorum=quorum, colluders=colluders), count)
    gone_at = dict(zip(names(count), gone, strict=True))
    contributors = [n for n in names(count) if gone_at[n] != "contribute"]
    if gone.count("stays") >= quorum:
        total = play_with_dropouts(play, gone_at, names(count))
        assert np.array_equal(total, plain_sum(play.terms, contributors)), gone
        return True
    with pytest.raises((QuorumMissed, Refused)):
        play_with_dropouts(play, gone_at, names(count))
    return False


def test_every_combination_of_late_dropouts_of_four_gives_the_right_sum_or_nothing() -> None:
    """Exhaustive, with every member in every place: which one is gone decides whose masks are taken out."""
    assert least_quorum(4, 1) == 3
    sums = [check_late_dropouts(gone, 1, 3) for gone in itertools.product(LATE, repeat=4)]
    # All four stay, or one of four is gone at one of three steps.
    assert (len(sums), sum(sums)) == (256, 1 + 4 * 3)


def test_late_dropouts_of_five_without_colluders_give_the_right_sum_or_nothing() -> None:
    """The quorum tolerates two, so what they do together matters: all such combinations, and some below the quorum."""
    every = list(itertools.product(LATE, repeat=5))
    enough = [gone for gone in every if gone.count("stays") >= 3]
    below = random.Random(3).sample([gone for gone in every if gone.count("stays") < 3], 60)
    assert least_quorum(5, 0) == 3 and len(enough) == 1 + 5 * 3 + 10 * 9
    assert all(check_late_dropouts(gone, 0, 3) for gone in enough)
    assert not any(check_late_dropouts(gone, 0, 3) for gone in below)


# --- lies of members -------------------------------------------------------------------------------

LIES = ("silent", "nothing in it", "wrong shares", "shares of another", "some wrong", "not a share")


def lie(answer: UnmaskShares, kind: str, other: UnmaskShares) -> list[UnmaskShares]:
    """What a colluder sends in the place of `answer`."""
    off = encode(bytes(32) + b"\5")

    def changed(shares: dict[str, str]) -> dict[str, str]:
        if kind == "some wrong":
            return {owner: off if place % 2 else text for place, (owner, text) in enumerate(shares.items())}
        return dict.fromkeys(shares, "AAAA" if kind == "not a share" else off)

    if kind == "silent":
        return []
    if kind == "nothing in it":
        return [UnmaskShares(answer.member_id, {}, {})]
    if kind == "shares of another":
        return [dataclasses.replace(other, member_id=answer.member_id)]
    fields = {name: changed(getattr(answer, name)) for name in ("seed_shares", "key_shares")}
    return [UnmaskShares(answer.member_id, **fields)]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_lies_of_colluders_end_in_the_right_sum_or_none(data: st.DataObject) -> None:
    count = data.draw(st.integers(4, 6))
    colluders = data.draw(st.integers(1, count - 3))
    quorum = least_quorum(count, colluders)
    play = Round(terms(quorum=quorum, colluders=colluders), count).until_contributed()
    everybody = names(count)
    dropped = data.draw(st.integers(0, count - quorum))
    survivors = everybody[dropped:]
    if dropped:
        play.endorse(survivors)
    liars = data.draw(st.sets(st.sampled_from(survivors), min_size=1, max_size=colluders))
    answers: list[UnmaskShares] = []
    true = {answer.member_id: answer for answer in play.unmask(survivors)}
    for name in data.draw(st.permutations(survivors)):
        if name in liars:
            kind = data.draw(st.sampled_from(LIES))
            answers += lie(true[name], kind, true[data.draw(st.sampled_from(survivors))])
        else:
            answers.append(true[name])
    # Duplicates, of the honest and the lying, in any order.
    answers += data.draw(st.lists(st.sampled_from(answers), max_size=3))
    server = play.server(everybody, survivors)
    enough = len(survivors) - len(liars) >= quorum
    try:
        total, excess = server.finish(survivors, answers)
    except (QuorumMissed, UnmaskFailed):
        assert not enough, "a quorum of right answers is always enough"
        return
    assert np.array_equal(total, plain_sum(play.terms, survivors))
    assert set(excess) in (set(), set(survivors))
    assert set(server.liars) <= liars


@settings(max_examples=25, deadline=None)
@given(st.permutations(names(5)), st.permutations(names(5)), st.lists(st.sampled_from(names(5)), max_size=4))
def test_order_and_repeats_of_every_message_change_nothing(
    first: list[str], second: list[str], again: list[str]
) -> None:
    play = Round(terms(), 5)
    play.offers = [play.members[name].offer for name in first]
    play.deal(second)
    play.deal(again)
    for name in again:
        play.accept(name, second)
    play.contribute(first, second)
    for name in again:
        play.accept(name, first)
        assert play.members[name].contributed(WEIGHTS) == play.told[name]
    server = play.server(second, first)
    for name in again:
        with pytest.raises(Refused):
            server.add(name, play.masked[name])
    answers = play.unmask(first, second)
    assert play.unmask(second, again) == [a for name in again for a in answers if a.member_id == name]
    total, _ = server.finish(second, answers)
    assert np.array_equal(total, plain_sum(play.terms, names(5)))


# --- lies of the coordinator -----------------------------------------------------------------------

ASKS = ("endorse", "unmask")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_walk_of_requests_opens_both_secrets_of_an_honest_member(data: st.DataObject) -> None:
    """The coordinator asks whom it likes for what it likes; colluders sign everything and give both shares."""
    count = data.draw(st.integers(4, 6))
    colluders = data.draw(st.integers(0, count - 3))
    quorum = least_quorum(count, colluders)
    play = Round(terms(quorum=quorum, colluders=colluders), count).until_contributed()
    everybody, honest = names(count), names(count - colluders)
    lists = [
        list(chosen)
        for size in range(quorum, count + 1)
        for chosen in itertools.combinations(everybody, size)
    ]
    # Few lists: many of them only ever starve each other of signatures.
    used = [everybody, *data.draw(st.lists(st.sampled_from(lists), min_size=1, max_size=2))]
    signatures: list[dict[str, str]] = [{} for _ in used]
    for place, survivors in enumerate(used):
        for colluder in set(everybody[count - colluders :]).intersection(survivors):
            # A colluder signs every list: here, as copies of itself of which each signs one.
            stored = play.members[colluder].to_plain()
            twin = MemberRound.from_plain(stored, identity(colluder).sign_value)
            signatures[place][colluder] = twin.endorse(survivors)
    heard: dict[str, UnmaskShares] = {}
    walk = st.lists(
        st.tuples(st.sampled_from(honest), st.sampled_from(ASKS), st.integers(0, len(used) - 1)), max_size=30
    )
    for name, ask, place in data.draw(walk):
        survivors, member = used[place], play.members[name]
        try:
            if ask == "endorse":
                signatures[place][name] = member.endorse(survivors)
                continue
            told = {survivor: play.told[survivor] for survivor in survivors}
            answer = member.unmask(survivors, told, signatures[place], verify_value)
            assert heard.setdefault(name, answer) == answer, "one answer a round"
        except (Refused, QuorumMissed):
            continue
    smaller = {a: s for a, s in heard.items() if set(s.seed_shares) != set(everybody)}
    assert len({tuple(sorted(answer.seed_shares)) for answer in smaller.values()}) <= 1, "one smaller list"
    for owner in honest:
        of_self = sum(owner in answer.seed_shares for answer in heard.values()) + colluders
        of_key = sum(owner in answer.key_shares for answer in heard.values()) + colluders
        assert min(of_self, of_key) < quorum


# --- the counting argument, by brute force ---------------------------------------------------------


def assignments(
    count: int, colluders: int, quorum: int, dropped: Collection[int]
) -> Iterator[tuple[set[int], set[int]]]:
    """Every way in which honest members can have answered: (for everybody, for the list without `dropped`).

    By the rules of MemberRound: one answer each; for the smaller list only from its own members, and only if a
    quorum of them signed it, where whoever answered for everybody did not sign and colluders always do.
    """
    honest = range(count - colluders)
    signing_colluders = sum(member not in dropped for member in range(count - colluders, count))
    for answers in itertools.product(("none", "all", "smaller"), repeat=len(honest)):
        for_all = {member for member in honest if answers[member] == "all"}
        for_smaller = {member for member in honest if answers[member] == "smaller"}
        if for_smaller & set(dropped):
            continue
        could_sign = sum(member not in for_all and member not in dropped for member in honest)
        if for_smaller and could_sign + signing_colluders < quorum:
            continue
        yield for_all, for_smaller


def leaks(count: int, colluders: int, quorum: int, threshold: int, owners_reveal: bool = False) -> str | None:
    """The first thing that some assignment of answers to lists gives away, or None.

    The full graph: everybody holds one share of every secret, and two honest members share a mask that is known
    only with one of their mask keys. Noise is in units of the variance that a sum must keep, and each member's
    part in it follows clause 3.9 with as many steps as there are tolerated drop-outs.
    """
    honest = set(range(count - colluders))
    covered = (0, *tolerance(count, quorum, count))
    for size in range(count - quorum + 1):
        for dropped in itertools.combinations(range(count), size):
            for for_all, for_smaller in assignments(count, colluders, quorum, dropped):
                if not dropped and for_smaller:
                    continue
                problem = _problem(
                    honest,
                    set(dropped),
                    for_all,
                    for_smaller,
                    covered,
                    (threshold, colluders, count),
                    owners_reveal,
                )
                if problem:
                    return problem
    return None


def _problem(
    honest: set[int],
    dropped: set[int],
    for_all: set[int],
    for_smaller: set[int],
    covered: Sequence[int],
    numbers: tuple[int, int, int],
    owners_reveal: bool,
) -> str | None:
    threshold, colluders, count = numbers
    least_honest = count - covered[-1] - colluders

    def opened(answers: set[int]) -> bool:
        return len(answers) + colluders >= threshold

    self_open = {
        owner for owner in honest if opened(for_all | (for_smaller if owner not in dropped else set()))
    }
    key_open = {owner for owner in honest & dropped if opened(for_smaller)}
    if self_open & key_open:
        return "both secrets of one member"
    # Vectors free of their self mask still carry the masks with everybody whose mask key is closed: they are
    # known only as one sum, and only if all such members are in it.
    if not self_open or (honest - key_open) - self_open:
        return None
    in_sum = self_open
    if len(in_sum) < least_honest:
        return "a sum of too few honest members"
    kept = Fraction(0)
    for owner in in_sum:
        needed = len(covered) - 1
        if opened(for_smaller) or (owners_reveal and owner in for_smaller):
            needed = min(needed, covered.index(len(dropped)))
        if opened(for_all) or (owners_reveal and owner in for_all):
            needed = 0
        kept += Fraction(1, count - covered[needed] - colluders)
    return "too little noise" if kept < 1 else None


@pytest.mark.parametrize("count", [4, 5, 6])
def test_no_assignment_of_answers_to_lists_gives_anything_away_above_the_quorum_rule(count: int) -> None:
    for colluders in range(count - 1):
        for quorum in range(least_quorum(count, colluders), count + 1):
            assert leaks(count, colluders, quorum, threshold=quorum) is None, (count, colluders, quorum)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_the_same_count_finds_leaks_where_a_rule_is_broken(count: int) -> None:
    assert leaks(count, 0, count // 2, threshold=count // 2) == "both secrets of one member"
    for colluders in (1, 2):
        quorum = math.floor((count + colluders) / 2)
        if colluders < quorum < count:
            assert leaks(count, colluders, quorum, threshold=quorum) is not None
    # A quorum that signed a smaller list leaves count - quorum members to answer for everybody: so many
    # shares, with those of the colluders, must not be enough.
    for colluders in (0, 1):
        quorum = least_quorum(count, colluders)
        left_over = count - quorum + colluders
        assert leaks(count, colluders, quorum, threshold=left_over) is not None
        assert leaks(count, colluders, quorum, threshold=left_over + 1) is None


def test_the_same_count_finds_the_noise_that_owners_reveal() -> None:
    assert leaks(6, 1, 4, threshold=4, owners_reveal=True) == "too little noise"


@pytest.mark.parametrize("count", [4, 5, 6])
def test_two_smaller_lists_never_both_gather_a_quorum(count: int) -> None:
    """Every pair of lists, every choice of which one each honest member signs; colluders sign both."""
    for colluders in range(count - 1):
        honest = count - colluders
        for quorum in range(2, count + 1):
            both = any(min(first, honest - first) + colluders >= quorum for first in range(honest + 1))
            assert both == (2 * quorum <= 2 * colluders + 2 * (honest // 2))
            if quorum >= least_quorum(count, colluders):
                assert not both

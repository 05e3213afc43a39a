"""The coordinator's side of a secure round: right sums, or none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from shared.domain.errors import (
    AlreadyReleased,
    BadSignature,
    IllegalMove,
    InvalidMessage,
    QuorumMissed,
    UnmaskFailed,
    UnsafeCohort,
)
from shared.release.signing import verify_value
from shared.secagg import rebuilding
from shared.secagg.messages import UnmaskShares, encode
from tests.secagg_kit import Round, chain_from, names, plain_sum, secret_vector, terms

ALL = names(5)
FOUR = ALL[:4]


def contributed(count: int = 5, **changes: object) -> Round:
    return Round(terms(**changes), count).until_contributed()


def wrong(answer: UnmaskShares) -> UnmaskShares:
    """The same answer with every share off by one."""
    off = {
        field: {owner: encode(bytes(32) + bytes([7])) for owner in getattr(answer, field)}
        for field in ("seed_shares", "key_shares")
    }
    return UnmaskShares(answer.member_id, **off)


@pytest.mark.parametrize("ring_bits", [16, 32])
def test_sum_of_everybody_is_right_and_comes_with_every_noise_seed(ring_bits: int) -> None:
    play = contributed(ring_bits=ring_bits)
    total, excess = play.server(ALL, ALL).finish(ALL, play.unmask(ALL))
    assert np.array_equal(total, plain_sum(play.terms, ALL))
    assert total.dtype == play.terms.dtype
    assert set(excess) == set(ALL)


def test_excess_seeds_are_the_members_own_from_the_first_unneeded_step_on() -> None:
    play = Round(terms(quorum=4, colluders=1), 6).until_contributed()
    everybody, five = names(6), names(6)[:5]
    own = {name: play.members[name].noise_seeds for name in everybody}
    play.endorse(five)
    total, excess = play.server(everybody, five).finish(five, play.unmask(five))
    assert np.array_equal(total, plain_sum(play.terms, five))
    # Two may drop out of six, in two steps; one did: the first step stays, the second goes.
    assert excess == {name: own[name][1] for name in five}
    assert chain_from(own[five[0]][0], 2)[1] == excess[five[0]]


def test_no_seed_comes_with_the_smallest_sum() -> None:
    play = contributed()
    play.endorse(FOUR)
    total, excess = play.server(ALL, FOUR).finish(FOUR, play.unmask(FOUR))
    assert np.array_equal(total, plain_sum(play.terms, FOUR))
    assert excess == {}


def test_sum_is_right_when_the_roster_is_larger_than_the_cohort() -> None:
    play = Round(terms(), 6)
    play.deal()
    cohort = [*ALL[:2], *names(6)[3:]]
    play.contribute(cohort)
    total, _ = play.server(cohort, cohort).finish(cohort, play.unmask(cohort))
    assert np.array_equal(total, plain_sum(play.terms, cohort))


def test_a_masked_vector_is_not_the_vector_nor_is_the_masked_sum_the_sum() -> None:
    play = contributed(length=64)
    for name in ALL:
        assert not np.any(play.masked[name] == secret_vector(play.terms, name))
    assert not np.any(sum(play.masked.values()) == plain_sum(play.terms, ALL))


def test_fewer_answers_than_the_threshold_make_no_sum() -> None:
    play = contributed()
    answers = play.unmask(ALL)
    server = play.server(ALL, ALL)
    with pytest.raises(QuorumMissed, match="takes the answers of 4 survivors, 3 came"):
        server.finish(ALL, answers[:3])
    with pytest.raises(QuorumMissed, match="3 came"):
        server.finish(ALL, [*answers[:3], answers[0], answers[1]])
    total, _ = server.finish(ALL, answers[1:])
    assert np.array_equal(total, plain_sum(play.terms, ALL)), "after a failed try the rest is asked again"


@pytest.mark.parametrize("liar", range(5))
def test_one_liar_among_five_changes_nothing_and_is_named(liar: int) -> None:
    play = contributed()
    answers = play.unmask(ALL)
    answers[liar] = wrong(answers[liar])
    server = play.server(ALL, ALL)
    total, excess = server.finish(ALL, answers)
    assert np.array_equal(total, plain_sum(play.terms, ALL))
    assert set(excess) == set(ALL)
    # A liar whose share was never tried is not seen: it sorts after those who were asked.
    assert server.liars == (() if liar == 4 else (ALL[liar],))


@pytest.mark.parametrize("field", ["seed_shares", "key_shares"])
def test_a_lie_about_any_kind_of_share_is_noticed(field: str) -> None:
    play = Round(terms(quorum=4, colluders=1), 6).until_contributed()
    everybody, five = names(6), names(6)[:5]
    play.endorse(five)
    answers = play.unmask(five)
    lying = dataclasses.replace(answers[1], **{field: getattr(wrong(answers[1]), field)})
    server = play.server(everybody, five)
    with pytest.raises(UnmaskFailed):
        server.finish(five, [answers[0], lying, *answers[2:4]])
    total, _ = server.finish(five, [answers[0], lying, *answers[2:]])
    assert np.array_equal(total, plain_sum(play.terms, five))
    # The dropped member is one owner, as many as may collude: it may have dealt that share so.
    of_all = field == "seed_shares"
    assert (server.liars if of_all else server.doubtful) == (lying.member_id,)
    assert (server.doubtful if of_all else server.liars) == ()


def test_more_liars_than_there_are_shares_to_spare_make_no_sum() -> None:
    play = contributed()
    answers = play.unmask(ALL)
    server = play.server(ALL, ALL)
    with pytest.raises(UnmaskFailed, match="rebuilt from 4 right shares; 5 came"):
        server.finish(ALL, [wrong(answers[0]), wrong(answers[1]), *answers[2:]])
    total, _ = server.finish(ALL, answers)
    assert np.array_equal(total, plain_sum(play.terms, ALL)), "a failed try lifts no mask"


def test_answers_that_leave_shares_out_make_no_sum() -> None:
    play = contributed()
    answers = play.unmask(ALL)
    poor = [dataclasses.replace(answer, seed_shares={}) for answer in answers[:2]]
    with pytest.raises(UnmaskFailed, match="3 came"):
        play.server(ALL, ALL).finish(ALL, [*poor, *answers[2:]])


def test_malformed_answers_and_answers_of_strangers_count_for_nothing() -> None:
    play = contributed()
    answers = play.unmask(ALL)
    broken = dataclasses.replace(answers[0], seed_shares={ALL[0]: "not base64"})
    stranger = dataclasses.replace(answers[0], member_id="mem_99")
    total, _ = play.server(ALL, ALL).finish(ALL, [broken, stranger, *answers[1:]])
    assert np.array_equal(total, plain_sum(play.terms, ALL))


def test_the_first_answer_of_a_member_counts_and_no_second_one() -> None:
    """Four answers, as many as it takes: whoever could put another in the place of one of them would end the round."""
    play = contributed()
    answers = play.unmask(ALL)
    total, _ = play.server(ALL, ALL).finish(ALL, [*answers[:4], wrong(answers[0])])
    assert np.array_equal(total, plain_sum(play.terms, ALL))
    with pytest.raises(UnmaskFailed):
        play.server(ALL, ALL).finish(ALL, [wrong(answers[0]), *answers[:4]])


def test_search_for_right_shares_gives_up_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Round(terms(quorum=6, colluders=1), 9).until_contributed()
    everybody = names(9)
    answers = play.unmask(everybody)
    answers = [wrong(answer) for answer in answers[:3]] + answers[3:]
    server = play.server(everybody, everybody)
    # More sets of shares (84) than tries: sets are drawn at random, and only one of them is right.
    monkeypatch.setattr(rebuilding, "MAXIMUM_WORK", 0)
    with pytest.raises(UnmaskFailed):
        server.finish(everybody, answers)
    monkeypatch.undo()
    total, _ = server.finish(everybody, answers)
    assert np.array_equal(total, plain_sum(play.terms, everybody))
    assert server.liars == tuple(everybody[:3])


def test_a_contribution_is_added_once_and_only_of_the_cohort() -> None:
    play = contributed()
    server = play.server(ALL, ALL[:1])
    with pytest.raises(AlreadyReleased, match="came again"):
        server.add(ALL[0], play.masked[ALL[0]])
    with pytest.raises(IllegalMove, match="none of them"):
        server.add("mem_9", play.masked[ALL[0]])
    for name in ALL[1:]:
        server.add(name, play.masked[name])
    assert server.added == tuple(ALL)
    answers = play.unmask(ALL)
    server.finish(ALL, answers)
    with pytest.raises(IllegalMove, match="once"):
        server.finish(ALL, answers)
    with pytest.raises(IllegalMove, match="too late"):
        server.add(ALL[0], play.masked[ALL[0]])


def test_contributions_of_another_length_or_type_are_refused() -> None:
    play = contributed()
    server = play.server(ALL, [])
    for ring in (play.masked[ALL[0]][:4], play.masked[ALL[0]].astype(np.uint16)):
        with pytest.raises(InvalidMessage, match="5 numbers of type uint32"):
            server.add(ALL[0], ring)


def test_only_exactly_those_added_are_unmasked() -> None:
    play = contributed()
    answers = play.unmask(ALL)
    with pytest.raises(IllegalMove, match="all 4 members"):
        play.server(ALL, FOUR).finish(ALL, answers)
    with pytest.raises(IllegalMove, match="all 5 members"):
        play.server(ALL, ALL).finish(FOUR, answers)


def test_a_cohort_no_member_would_accept_is_refused() -> None:
    play = contributed()
    with pytest.raises(QuorumMissed, match="needs 4 members"):
        play.server(ALL[:3], [])
    with pytest.raises(UnsafeCohort, match="once"):
        play.server([*FOUR, FOUR[0]], [])


def test_endorsements_are_checked_for_the_list_they_name() -> None:
    play = contributed()
    server = play.server(ALL, [])
    keys = play.identity_keys
    assert server.check_endorsement(ALL[0], ALL, play.told[ALL[0]], keys, verify_value) == play.told[ALL[0]]
    listed = play.endorse(FOUR)
    server.check_endorsement(ALL[0], FOUR, listed[ALL[0]], keys, verify_value)
    for named, signature in (
        (FOUR, play.told[ALL[0]]),
        (ALL, listed[ALL[0]]),
        (ALL[1:], listed[ALL[0]]),
        (ALL, play.told[ALL[1]]),
    ):
        with pytest.raises(BadSignature):
            server.check_endorsement(ALL[0], named, signature, keys, verify_value)
    for member, signature in ((ALL[0], None), ("mem_9", play.told[ALL[0]]), (ALL[0], "zz")):
        with pytest.raises(InvalidMessage):
            server.check_endorsement(member, ALL, signature, keys, verify_value)


def test_sparse_graph_gives_the_same_sum() -> None:
    # Nine members, of whom two may drop out and one collude: four neighbours each are enough.
    play = Round(terms(quorum=7, colluders=1, mask_reach=2), 9).until_contributed()
    everybody, seven = names(9), names(9)[2:]
    play.endorse(seven)
    total, _ = play.server(everybody, seven).finish(seven, play.unmask(seven))
    assert np.array_equal(total, plain_sum(play.terms, seven))

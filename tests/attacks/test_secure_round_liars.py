"""One member lies in a step of a secure round: it keeps itself out, and nobody else, and the others have their sum.

Each of these lies would end the round for everybody, were it not noticed before it is handed on: honest members refuse
a roster, a cohort or a list as a whole. And two accidents of the coordinator that may not change what was fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.runs.carrier import Received
from coordinator.runs.round import RoundRecord
from shared.domain.errors import QuorumMissed
from shared.domain.plan import Plan
from shared.domain.run import RunState
from shared.secagg.messages import Deal, encode
from shared.wire import rounds
from shared.wire.rounds import (
    MAXIMUM_BODY_BYTES,
    PROTOCOL_VERSION,
    RoundReply,
    RoundRequest,
    Step,
    StepRequest,
)
from tests.desk import Desk
from tests.memory_carrier import Delivery
from tests.simulator import ConsortiumSimulator, SimulatedMember

RUN = "run_000000000001"
NOT_ITS_OWN = "0" * 128
"""Of the form of a signature, and nobody's."""


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 6)


def consented(sim: ConsortiumSimulator, **changes: object) -> Plan:
    """Four of six are a quorum, so that one may lie and another drop out."""
    base = sim.secure_plan(**changes)
    assert base.secure is not None
    plan = replace(base, quorum=4, secure=replace(base.secure, share_threshold=4, tolerance_steps=2))
    sim.store.add_plan(plan, "operator", sim.store.starting_weights(str(base.digest)))
    sim.consent(plan)
    return plan


def in_order(sim: ConsortiumSimulator) -> list[SimulatedMember]:
    """As they are asked, and so answer."""
    return sorted(sim.members, key=lambda member: member.id)


def lies(
    sim: ConsortiumSimulator, liar: SimulatedMember, lie: Callable[[RoundReply], RoundReply | None]
) -> None:
    """From now on `liar` answers with what `lie` makes of its answer, where that is not None."""

    def tamper(delivery: Delivery) -> list[Received]:
        return [Received(liar.id, lie(delivery.reply) or delivery.reply, delivery.payload)]

    sim.carrier.tampers[liar.id] = tamper


def only_the_liar_is_out(sim: ConsortiumSimulator, plan: Plan, liar: SimulatedMember) -> RoundRecord:
    """The round's record, once it is seen that all others are in a sum without a mask left in it."""
    record, moved = sim.one_round(plan)
    assert set(record.contributors) == {member.id for member in sim.members} - {liar.id}
    assert_unmasked(sim, plan, moved.weights)
    return record


def assert_unmasked(sim: ConsortiumSimulator, plan: Plan, weights: np.ndarray) -> None:
    """A sum with a mask left in it is uniform modulo 2³²: it moves weights by hundreds."""
    assert np.abs(weights - sim.state_at_start(plan).weights).max() < 20.0


def test_keys_without_their_members_signature(sim: ConsortiumSimulator) -> None:
    plan, liar = consented(sim), in_order(sim)[0]
    lies(sim, liar, lambda r: replace(r, offer=replace(r.offer, signature=NOT_ITS_OWN)) if r.offer else None)
    record = only_the_liar_is_out(sim, plan, liar)
    assert "signature" in record.missing[liar.id]


def test_another_members_keys_of_an_earlier_try(sim: ConsortiumSimulator) -> None:
    """Signed by the other for this very round: in its name they would push its new ones off the roster."""
    plan = consented(sim)
    liar, other = in_order(sim)[:2]
    old = other.answer(StepRequest(PROTOCOL_VERSION, Step.OFFER, RUN, 1, str(plan.digest))).offer
    lies(sim, liar, lambda r: replace(r, offer=old) if r.offer else None)
    record = only_the_liar_is_out(sim, plan, liar)
    assert "no round keys of its own" in record.missing[liar.id]


def test_shares_dealt_in_anothers_name(sim: ConsortiumSimulator) -> None:
    """In the place of the other's they would not open, so that everybody would refuse the cohort."""
    plan = consented(sim)
    other, liar = in_order(sim)[:2]
    lies(sim, liar, lambda r: replace(r, deal=replace(r.deal, member_id=other.id)) if r.deal else None)
    only_the_liar_is_out(sim, plan, liar)


def test_a_contribution_without_its_members_signature_under_the_cohort(sim: ConsortiumSimulator) -> None:
    """Added all the same, it could not be taken out again, and no honest member unmasks a sum with it."""
    plan, liar = consented(sim), in_order(sim)[0]
    lies(sim, liar, lambda r: replace(r, endorsement=NOT_ITS_OWN) if r.header else None)
    only_the_liar_is_out(sim, plan, liar)


def test_a_wrong_signature_under_the_list_of_survivors(sim: ConsortiumSimulator) -> None:
    plan = consented(sim)
    liar, gone = in_order(sim)[:2]
    sim.carrier.gone_at.add((gone.id, "train"))
    lies(sim, liar, lambda r: replace(r, endorsement=NOT_ITS_OWN) if r.endorsement and not r.header else None)
    record, moved = sim.one_round(plan)
    assert set(record.contributors) == {member.id for member in sim.members} - {gone.id}
    assert "signature" in record.missing[liar.id]
    assert_unmasked(sim, plan, moved.weights)


def test_shares_answered_in_anothers_name(sim: ConsortiumSimulator) -> None:
    """With as many answers as are needed and none to spare, one that was pushed aside would end the round."""
    plan = consented(sim)
    liar, other, *_, gone = in_order(sim)
    sim.carrier.gone_at.add((gone.id, "unmask"))

    def lie(reply: RoundReply) -> RoundReply | None:
        if reply.shares is None:
            return None
        wrong = dict.fromkeys(reply.shares.seed_shares, encode(bytes(32) + b"\x01"))
        return replace(reply, shares=replace(reply.shares, member_id=other.id, seed_shares=wrong))

    lies(sim, liar, lie)
    record, moved = sim.one_round(plan)
    assert len(record.contributors) == 6
    assert_unmasked(sim, plan, moved.weights)


def test_too_few_signatures_under_a_list_end_the_round_before_anybody_is_asked_to_unmask(
    sim: ConsortiumSimulator,
) -> None:
    plan = consented(sim)
    first, second, third = in_order(sim)[:3]
    sim.carrier.gone_at |= {(first.id, "train"), (second.id, "endorse"), (third.id, "endorse")}
    with pytest.raises(QuorumMissed, match="3 of 6 members signed the list of survivors"):
        sim.one_round(plan)
    asked = [request.step for request in sim.carrier.requests if isinstance(request, StepRequest)]
    assert Step.ENDORSE in asked and Step.UNMASK not in asked


def test_a_list_of_survivors_that_was_sent_out_waits_for_all_of_them(sim: ConsortiumSimulator) -> None:
    """Members that answered for it answer for no other: whoever wrote a smaller one down could never finish."""
    plan = consented(sim)
    members = in_order(sim)
    sim.carrier.gone_at |= {(member.id, "unmask") for member in members[:3]}
    with pytest.raises(QuorumMissed, match="3 of 6 members answered"):
        sim.one_round(plan)
    sim.carrier.gone_at = {(members[0].id, "train")}
    with pytest.raises(QuorumMissed, match="list of 6 survivors was fixed in an earlier try, and 5 of them"):
        sim.one_round(plan)
    sim.carrier.gone_at.clear()
    record, moved = sim.one_round(plan)
    assert len(record.contributors) == 6
    assert_unmasked(sim, plan, moved.weights)


def test_whoever_is_gone_before_a_round_is_not_in_its_cohort_though_its_keys_are_at_hand(
    sim: ConsortiumSimulator,
) -> None:
    """Its absence would use up what the noise tolerates, and the certificate would charge it for the round."""
    plan = consented(sim, deadline_s=4.0)  # so long whoever is gone is waited for
    run = sim.service.start(str(plan.digest), "operator")
    gone, watched = in_order(sim)[0], in_order(sim)[-1]

    def leave(delivery: Delivery) -> list[Received]:
        if isinstance(delivery.request, StepRequest) and delivery.request.step is Step.UNMASK:
            sim.carrier.offline.add(gone.id)
        return [delivery.honest()]

    sim.carrier.tampers[watched.id] = leave
    ended = sim.drive(run)
    assert ended.state is RunState.COMPLETED
    assert [gone.id in row["cohort"] for row in sim.store.rounds(run.id)] == [True, False]
    assert [len(row["contributors"]) for row in sim.store.rounds(run.id)] == [6, 5]
    asked = [r for r in sim.carrier.requests if isinstance(r, RoundRequest) and r.round_number == 2]
    assert len(asked) == 5


@pytest.mark.parametrize(
    "changed",
    [
        lambda sealed: dict.fromkeys(sealed, "A" * 8),
        lambda sealed: dict(list(sealed.items())[1:]),
        lambda sealed: {**sealed, "mem_of_nobody": next(iter(sealed.values()))},
    ],
)
def test_shares_that_are_too_few_too_short_or_for_nobody(
    sim: ConsortiumSimulator, changed: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    """Whoever needs them refuses the cohort: the liar would stay in, and the honest would be out."""
    plan, liar = consented(sim), in_order(sim)[0]
    lies(sim, liar, lambda r: with_ciphertexts(r, changed(dict(r.deal.ciphertexts))) if r.deal else None)
    record = only_the_liar_is_out(sim, plan, liar)
    assert "sealed shares" in record.missing[liar.id]


def test_shares_that_no_instruction_can_carry_do_not_end_the_run(sim: ConsortiumSimulator) -> None:
    """As long as an answer may be, one member's shares leave no room for anything else in what another is asked."""
    plan, liar = consented(sim), in_order(sim)[0]

    def lie(reply: RoundReply) -> RoundReply | None:
        if reply.deal is None:
            return None
        first = next(iter(reply.deal.ciphertexts))
        room = MAXIMUM_BODY_BYTES - len(rounds.encode(with_ciphertexts(reply, {first: ""})))
        return with_ciphertexts(reply, {first: "A" * room})

    lies(sim, liar, lie)
    run = sim.drive(sim.service.start(str(plan.digest), "operator"))
    assert run.state is RunState.COMPLETED
    assert [liar.id in row["contributors"] for row in sim.store.rounds(run.id)] == [False] * plan.rounds


def test_shares_for_a_round_whose_keys_one_did_not_offer_do_not_end_the_run(sim: ConsortiumSimulator) -> None:
    """Whoever deals is in the next cohort; a cohort with somebody who is not on the roster is no cohort."""
    plan, liar = consented(sim), in_order(sim)[0]
    dealt: list[Deal] = []

    def lie(reply: RoundReply) -> RoundReply | None:
        if reply.deal is not None:
            dealt.append(reply.deal)
        if reply.header is not None and reply.offer is not None:
            return replace(reply, offer=replace(reply.offer, signature=NOT_ITS_OWN))
        return replace(reply, deal=dealt[0]) if reply.shares is not None else None

    lies(sim, liar, lie)
    run = sim.drive(sim.service.start(str(plan.digest), "operator"))
    assert run.state is RunState.COMPLETED


def with_ciphertexts(reply: RoundReply, ciphertexts: dict[str, str]) -> RoundReply:
    assert reply.deal is not None
    return replace(reply, deal=replace(reply.deal, ciphertexts=ciphertexts))

"""A coordinator that finishes a round otherwise than it began: under another plan, with a peer that was struck
off since, or not at all. Each is first seen to work on the variant without its rule.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from participant.approvals import forget
from participant.redteam.dishonest_node import NeverSeals
from participant.secure import KEPT_HOURS, SecureRounds
from shared.domain.canonical import digest_of_file
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.plan import Plan
from shared.privacy.ledger import Ledger
from shared.privacy.noise_shares import vector_length
from shared.secagg.dealing import addressed_to
from shared.secagg.member import MemberRound
from shared.secagg.messages import roster_digest
from shared.secagg.parameters import terms_of
from shared.wire.rounds import PROTOCOL_VERSION, MaskedAsk, RoundReply, RoundRequest, Step, StepRequest
from tests.desk import Desk
from tests.simulator import ConsortiumSimulator, SimulatedMember

RUN = "run_000000000001"


class OnceApproved(SecureRounds):
    """Without the rule that an approval counts at the time of the contribution."""

    def _require_still_approved(self, *_: object) -> None:
        return


class AnyPlan(OnceApproved):
    """Without the rule that a round has one plan, nor the other, which happens to stop this mixture too."""

    def _require_its_plan(self, current: MemberRound, plan: Plan) -> None:
        return


def without_its_rule(member: SimulatedMember, variant: type[SecureRounds]) -> None:
    member.node._secure.__class__ = variant


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 6)


def two_plans(sim: ConsortiumSimulator) -> tuple[Plan, Plan]:
    """Quorum 4 with one colluder among six, and with two among five: each sound, and 2·4 ≤ 6 + 2 for the mix."""
    base = sim.secure_plan(colluders=1)
    assert base.secure is not None
    six = replace(base, quorum=4, secure=replace(base.secure, share_threshold=4, tolerance_steps=2))
    last = max(member.id for member in sim.members)
    five = replace(six, members=tuple(m for m in six.members if m.member_id != last), colluders=2)
    for plan in (six, five):
        sim.store.add_plan(plan, "operator", sim.store.starting_weights(str(base.digest)))
    sim.consent(six)
    named = {line.member_id for line in five.members}
    sim.consent(five, [member for member in sim.members if member.id in named])
    return six, five


def ask_under_another_plan(sim: ConsortiumSimulator) -> dict[str, RoundReply]:
    """Keys and shares under the plan of six, contributions under that of five; each of the five's answer."""
    return ask_all_of_it(sim, *two_plans(sim), RUN)


def ask_all_of_it(sim: ConsortiumSimulator, six: Plan, five: Plan, run_id: str) -> dict[str, RoundReply]:
    """Round 1 of a run from its keys on, those under plan `six`; each answer of a member of `five` under that one."""

    def step(member: SimulatedMember, which: Step, **content: object) -> RoundReply:
        return member.answer(StepRequest(PROTOCOL_VERSION, which, run_id, 1, str(six.digest), **content))  # type: ignore[arg-type]

    offers = tuple(sorted((step(m, Step.OFFER).offer for m in sim.members), key=lambda o: o.member_id))
    deals = [step(m, Step.DEAL, roster=offers).deal for m in sim.members]
    weights = sim.folder / "weights"
    weights.write_bytes(sim.state_at_start(five).weights.astype("<f4").tobytes())
    length = terms_of(six, RUN, 1, vector_length(six, 1)).length * 4
    cohort = tuple(offer.member_id for offer in offers)
    replies = {}
    for member in sim.members:
        if five.member(member.id) is None:
            continue
        up = sim.carrier.bulk.expect(member.id, length)
        down = sim.carrier.bulk.offer(member.id, weights)
        masked = MaskedAsk(roster_digest(offers), cohort, addressed_to(member.id, deals))
        size, digest = weights.stat().st_size, digest_of_file(weights)
        request = RoundRequest(
            PROTOCOL_VERSION, run_id, 1, str(five.digest), digest, size, 20.0, down, up, masked
        )
        replies[member.id] = member.answer(request)
    return replies


def test_round_that_was_begun_under_one_plan_is_not_finished_under_another(sim: ConsortiumSimulator) -> None:
    bare = min(sim.members, key=lambda member: member.id)
    without_its_rule(bare, AnyPlan)
    replies = ask_under_another_plan(sim)
    # Without the rule it contributes, charged by one plan and unmasked by the other's count of colluders.
    assert replies.pop(bare.id).endorsement
    assert bare.charges() == 1
    assert len(replies) == 4
    for member in sim.members:
        if member.id in replies:
            assert replies[member.id].refusal_code == "refused.unsafe-cohort"
            assert "was begun under plan" in member.reports[-1]
            assert member.charges() == 0


def test_keys_for_a_round_that_the_plan_has_not_are_not_made(sim: ConsortiumSimulator) -> None:
    plan, member = sim.secure_plan(rounds=2), sim.members[0]
    sim.consent(plan)
    for number in (3, 999_999):
        asked = StepRequest(PROTOCOL_VERSION, Step.OFFER, RUN, number, str(plan.digest))
        assert member.answer(asked).refusal_code == "invalid.message"
        assert "rounds 1 to 2" in member.reports[-1]
    # So it cannot be shut out of the rounds below, either.
    assert member.answer(StepRequest(PROTOCOL_VERSION, Step.OFFER, RUN, 1, str(plan.digest))).offer


def test_approval_that_is_taken_back_counts_in_the_round_that_was_already_dealt(
    sim: ConsortiumSimulator,
) -> None:
    plan = sim.secure_plan(rounds=2, quorum=4)
    sim.consent(plan)
    bare, careful, struck_off = sim.members[0], sim.members[1], sim.members[2]
    without_its_rule(bare, OnceApproved)
    _, state = sim.one_round(plan, 1)  # shares for round 2 ride on it
    for member in (bare, careful):
        forget(member.home, struck_off.id)
    record, _ = sim.one_round(plan, 2, state=state)
    assert struck_off.id in record.contributors
    assert bare.id in record.contributors
    assert careful.id not in record.contributors
    assert any("does not approve any more" in line for line in careful.reports)
    assert [e.charge.round_number for e in Ledger.read(careful.home.ledger).entries() if e.charge] == [1]


def test_secrets_of_a_round_that_was_never_unmasked_are_deleted_after_a_day(sim: ConsortiumSimulator) -> None:
    plan, member = sim.secure_plan(rounds=1), sim.members[0]
    sim.carrier.gone_at.add((member.id, "unmask"))  # the coordinator asks everybody but this one
    run = sim.drive(sim.start(plan))

    def secrets() -> list[Path]:
        files = member.home.round_keys.rglob("*.jsonl")
        return [path for path in files if '"mask_private"' in path.read_text()]

    # They are what an unmasking still needs, and what takes the masks off for whoever seizes the machine.
    (path,) = secrets()
    assert path.parent.name == run.id
    assert json.loads(path.read_text().splitlines()[0])["secrets"]["mask_private"]
    clock = FixedClock(SystemClock().now() + timedelta(hours=KEPT_HOURS - 1))
    member.node._secure._clock = clock
    member.node.tidy()
    assert secrets() == [path]
    clock.advance(2 * 3600)
    member.node.tidy()
    assert secrets() == []
    assert list(member.home.round_keys.iterdir()) == []


def test_round_whose_secrets_are_gone_brings_no_second_contribution_under_other_keys(
    sim: ConsortiumSimulator,
) -> None:
    """The sum was never opened; a day later everybody makes new keys, but for the round that ledger and outbox know."""
    plan, (bare, *others) = sim.secure_plan(rounds=1), sim.members
    bare.node._ledger = NeverSeals(bare.home.ledger)
    sim.carrier.gone_at |= {(member.id, "unmask") for member in sim.members}
    run = sim.drive(sim.start(plan))
    for member in sim.members:
        shutil.rmtree(member.home.round_keys)
        member.restart()
    shutil.rmtree(bare.home.outbox)
    bare.node._ledger = NeverSeals(bare.home.ledger)
    first = [member.transfers.uploads[-1] for member in sim.members]
    replies = ask_all_of_it(sim, plan, plan, run.id)
    # Without either it answers anew, with other noise for the one that it paid for.
    assert replies[bare.id].endorsement and bare.charges() == 1
    assert bare.transfers.uploads[-1] != first[0]
    for member, sealed in zip(others, first[1:], strict=True):
        assert replies[member.id].refusal_code == "refused.already-released"
        assert set(member.transfers.uploads) == {sealed}

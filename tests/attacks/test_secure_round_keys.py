"""Keys of secure rounds over a run's life: never replaced once they stand behind a contribution, never kept for long.

What each attacker would gain stands beside its test.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from participant.consents import give_consent, save_reviewed
from participant.member import MemberNode
from participant.roll import refresh_roll
from participant.secure import KEPT_HOURS, KEPT_ROUNDS
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.errors import QuorumMissed
from shared.domain.plan import Plan
from shared.domain.run import RunState
from shared.wire.rounds import PROTOCOL_VERSION, RoundReply, Step, StepRequest
from tests.desk import Desk
from tests.roll_kit import RollOfDesk
from tests.simulator import ConsortiumSimulator, SimulatedMember

RUN = "run_000000000001"


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 5)


def asked_for_keys(member: SimulatedMember, plan: Plan, run_id: str, number: int) -> RoundReply:
    return member.answer(StepRequest(PROTOCOL_VERSION, Step.OFFER, run_id, number, str(plan.digest)))


def key_files(member: SimulatedMember) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(member.home.round_keys.rglob("*.jsonl"))}


def moved_little(sim: ConsortiumSimulator, plan: Plan, weights: np.ndarray) -> bool:
    """A sum with a mask left in it is uniform modulo 2³²: it moves weights by hundreds."""
    return bool(np.abs(weights - sim.state_at_start(plan).weights).max() < 20.0)


def test_a_member_that_contributed_is_not_made_to_forget_the_secrets_that_its_sum_needs(
    sim: ConsortiumSimulator,
) -> None:
    """Other keys would take the place of those of its masks: nobody could lift these, and it would stand behind a
    second cohort of the same round."""
    plan = sim.secure_plan()
    sim.consent(plan)
    member, other = sim.members[:2]
    sim.carrier.gone_at |= {(member.id, "unmask"), (other.id, "unmask")}
    with pytest.raises(QuorumMissed, match="3 of 5 members answered"):
        sim.one_round(plan)
    before = key_files(member)
    again = asked_for_keys(member, plan, RUN, 1)
    assert (again.offer, again.refusal_code) == (None, "refused.already-released")
    assert "has its one cohort" in member.reports[-1]
    assert key_files(member) == before
    sim.carrier.gone_at.clear()
    record, moved = sim.one_round(plan)
    assert len(record.contributors) == 5
    assert moved_little(sim, plan, moved.weights)


def test_asking_for_a_contribution_again_does_not_replace_the_next_rounds_keys(
    sim: ConsortiumSimulator,
) -> None:
    """What was dealt for them since would open nothing any more."""
    plan = sim.secure_plan(rounds=2)
    sim.consent(plan)
    sim.carrier.gone_at |= {(member.id, "unmask") for member in sim.members[:2]}
    for _ in range(2):
        with pytest.raises(QuorumMissed, match="3 of 5 members answered"):
            sim.one_round(plan)
    for member in sim.members:
        replies = [reply for who, reply in sim.carrier.replies if who == member.id and reply.header]
        first, second = ((reply.offer, reply.endorsement) for reply in replies)
        assert first == second
        assert first[0] is not None


def test_no_keys_are_made_for_a_round_that_is_over(sim: ConsortiumSimulator) -> None:
    """Its file is deleted by then, so nothing there says any more that the member had its one cohort in it."""
    plan = sim.secure_plan(rounds=4)
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED
    member = sim.members[0]
    before = key_files(member)
    assert list(before) == ["000003", "000004"]
    said = []
    for number in (1, 2, 3, 4):
        reply = asked_for_keys(member, plan, run.id, number)
        assert (reply.offer, reply.refusal_code) == (None, "refused.already-released")
        said.append("is over" if "is over" in member.reports[-1] else "has its one cohort")
    assert said == ["is over", "is over", "has its one cohort", "has its one cohort"]
    assert key_files(member) == before


def test_secrets_of_rounds_that_were_never_unmasked_go_with_the_rounds_after_them(
    sim: ConsortiumSimulator,
) -> None:
    """A coordinator that kept all masked bytes leaves one member out of every unmasking, and later takes its machine:
    each round whose secrets are still there is one contribution without its masks."""
    plan = sim.secure_plan(rounds=5)
    member = sim.members[0]
    sim.carrier.gone_at.add((member.id, "unmask"))
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED
    assert member.charges() == 5
    found = {name for name, data in key_files(member).items() if b'"mask_private"' in data}
    assert found == {f"{number:06d}" for number in range(6 - KEPT_ROUNDS, 6)}


def test_no_keys_are_made_for_a_plan_or_a_run_that_was_not_consented_to(sim: ConsortiumSimulator) -> None:
    """Nor shares, signatures and unmaskings: a step of a round is a part in it, though it touches no record."""
    plan = sim.secure_plan(rounds=1, quorum=4)
    hesitant, others = sim.members[0], sim.members[1:]
    sim.consent(plan, others)
    save_reviewed(hesitant.home, plan, sim.service.starting_weights(str(plan.digest)).read_bytes())
    for step in Step:
        reply = hesitant.answer(StepRequest(PROTOCOL_VERSION, step, RUN, 1, str(plan.digest)))
        assert reply.refusal_code == "refused.consent-missing"
    assert key_files(hesitant) == {}
    record, _ = sim.one_round(plan)
    assert set(record.contributors) == {member.id for member in others}
    # One consent pays for one run.
    assert asked_for_keys(others[0], plan, "run_000000000002", 1).refusal_code == "refused.consent-missing"


def looking(sim: ConsortiumSimulator, member: SimulatedMember, blind: int = 0) -> list[int]:
    """From now on the member's node fetches the roll where it looks at it, but for the first `blind` times."""
    looks: list[int] = []

    def look() -> None:
        looks.append(len(looks) + 1)
        if len(looks) > blind:
            refresh_roll(member.home, RollOfDesk(sim.desk), sim.desk.clock)

    member.node = MemberNode(member.home, member.transfers, member.reports.append, look)
    return looks


def test_whoever_was_revoked_between_two_runs_is_in_no_sum_with_a_member_that_looks_at_the_roll(
    sim: ConsortiumSimulator,
) -> None:
    """A dishonest coordinator goes on with a key that the root no longer stands behind. Without the look at each
    run's beginning the roll at hand, which is in date, still has it: so do the others' here."""
    plan = sim.secure_plan(rounds=2, quorum=4)
    sim.consent(plan)
    careful, revoked = sim.members[0], sim.members[4]
    looks = looking(sim, careful)
    _, state = sim.one_round(plan, 1)
    sim.one_round(plan, 2, state=state)
    assert looks == [1]
    sim.desk.room.members.revoke(revoked.id, "operator")
    record, _ = sim.one_round(plan, 1, run_id="run_000000000002")
    assert looks[:2] == [1, 2]
    assert {careful.id, revoked.id} & set(record.contributors) == {revoked.id}
    assert f"names {revoked.id}, which is not an approved member" in careful.reports[-1]
    assert careful.charges() == 2


def test_a_roll_that_could_not_be_fetched_at_first_is_fetched_when_it_is_needed(
    sim: ConsortiumSimulator,
) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    member = sim.members[0]
    member.home.roll.unlink()
    looks = looking(sim, member, blind=1)
    record, _ = sim.one_round(plan)
    assert len(record.contributors) == 5
    assert looks == [1, 2]


def test_old_secrets_go_when_keys_are_asked_for_also_where_a_node_is_never_idle(
    sim: ConsortiumSimulator,
) -> None:
    plan, member = sim.secure_plan(rounds=1), sim.members[0]
    sim.carrier.gone_at.add((member.id, "unmask"))
    run = sim.drive(sim.start(plan))
    give_consent(member.home, plan)

    def kept() -> set[str]:
        files = member.home.round_keys.rglob("*.jsonl")
        return {path.parent.name for path in files if '"mask_private"' in path.read_text()}

    assert kept() == {run.id}
    clock = FixedClock(SystemClock().now() + timedelta(hours=KEPT_HOURS - 1))
    member.node._secure._clock = clock
    asked_for_keys(member, plan, RUN, 1)
    assert kept() == {run.id, RUN}
    clock.advance(2 * 3600)
    asked_for_keys(member, plan, RUN, 1)
    assert kept() == {RUN}

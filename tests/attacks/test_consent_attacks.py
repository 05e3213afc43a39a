"""A run that begins by consents which nobody stands behind any more, or from a plan that should train nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.domain.errors import ConsentMissing, IllegalMove, UnsoundPlan
from shared.domain.plan import Plan
from tests.desk import Desk
from tests.simulator import ConsortiumSimulator


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(12, 12, 12))


def plan_of_two(sim: ConsortiumSimulator) -> Plan:
    """Two of its three members make the quorum, and just two consented."""
    plan = sim.plan(quorum=2)
    sim.consent(plan, sim.members[:2])
    return plan


@pytest.mark.parametrize("state", ["suspended", "revoked"])
def test_no_run_begins_by_the_consent_of_a_member_that_was_shut_out(
    sim: ConsortiumSimulator, desk: Desk, state: str
) -> None:
    plan, member = plan_of_two(sim), sim.members[0]
    shut_out = {"suspended": desk.room.members.suspend, "revoked": desk.room.members.revoke}[state]
    shut_out(member.id, "operator")
    with pytest.raises(ConsentMissing, match=rf"1 of 3 .* quorum is 2.*Org 0 \({state}\)"):
        sim.service.start(str(plan.digest), "operator")
    assert sim.store.runs() == []


def test_a_resumed_members_consent_counts_again(sim: ConsortiumSimulator, desk: Desk) -> None:
    plan = plan_of_two(sim)
    desk.room.members.suspend(sim.members[0].id, "operator")
    desk.room.members.resume(sim.members[0].id, "operator")
    assert sim.service.start(str(plan.digest), "operator").plan_digest == plan.digest


def test_no_run_begins_from_a_stored_plan_whose_privacy_argument_does_not_hold(
    sim: ConsortiumSimulator,
) -> None:
    """As after an update that tightened a check, or where somebody wrote into the database."""
    honest = sim.plan()
    plan = replace(honest, privacy=replace(honest.privacy, noise_multiplier=0.05))
    sim.store.add_plan(plan, "operator", sim.store.starting_weights(str(honest.digest)))
    for member in sim.members:
        sim.store.add_consent(str(plan.digest), member.id, "ab" * 64)
    with pytest.raises(UnsoundPlan, match="noise multiplier must be from 0.3"):
        sim.service.start(str(plan.digest), "operator")
    assert sim.store.runs() == []


def test_withdrawn_plan_takes_no_consent_and_no_consent_to_it_counts(sim: ConsortiumSimulator) -> None:
    plan = plan_of_two(sim)
    sim.service.withdraw(str(plan.digest), "account:Ada")
    with pytest.raises(IllegalMove, match="was withdrawn, for good"):
        sim.service.start(str(plan.digest), "operator")
    with pytest.raises(IllegalMove, match="was withdrawn, for good"):
        sim.consent(plan, sim.members[2:])
    found = sim.store.proposal(str(plan.digest))
    assert found.given == 0 and not found.may_start and set(found.uncounted.values()) == {"plan withdrawn"}
    assert "plan.withdraw" in sim.desk.audit_actions()


def test_withdrawal_and_start_at_the_same_moment_do_not_both_happen(sim: ConsortiumSimulator) -> None:
    """Each looks again inside its own transaction: what one saw before the other wrote is worth nothing."""
    plan, other = plan_of_two(sim), sim.plan(quorum=3)
    sim.service.withdraw(str(plan.digest), "account:Ada")
    with pytest.raises(IllegalMove, match="was withdrawn"):
        sim.store.create_run(str(plan.digest), "operator")
    run = sim.store.create_run(str(other.digest), "operator")
    with pytest.raises(IllegalMove, match=f"Run {run.id} began from plan .* Stop the run instead"):
        sim.service.withdraw(str(other.digest), "account:Ada")
    assert not sim.store.proposal(str(other.digest)).withdrawn


def test_withdrawn_plan_does_not_come_back_with_its_old_consents(sim: ConsortiumSimulator) -> None:
    plan = plan_of_two(sim)
    sim.service.withdraw(str(plan.digest), "account:Ada")
    for again in (
        lambda: sim.store.add_plan(plan, "account:Ada", sim.store.starting_weights(str(plan.digest))),
        lambda: sim.service.withdraw(str(plan.digest), "account:Ada"),
    ):
        with pytest.raises(IllegalMove, match="one that differs in any line is another"):
            again()
    assert sim.store.proposal(str(plan.digest)).withdrawn

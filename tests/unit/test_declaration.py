"""What a node tells of itself: how much of its budget is left, where its policy lets it, and never a record."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

import pytest

from participant.declaration import Declaration, budget_left
from participant.engine.errands import Errands
from participant.engine.fleet_link import FleetLink
from participant.engine.node import NodeLoop
from participant.enrol import join
from participant.home import Home
from participant.peers import PeerState, every_peer
from participant.policy import read_policy
from participant.roll import accept_roll
from shared.domain.consortium import BudgetLeft, MemberState, Purpose
from shared.domain.errors import Unreachable
from shared.privacy.accountant import epsilon
from shared.privacy.ledger import Ledger
from shared.release.fingerprint import fingerprint
from shared.wire.enrolment import NodeReport
from tests.desk import Desk, enrolment, served
from tests.roll_kit import RollOfDesk, joined
from tests.simulator import ConsortiumSimulator, SimulatedMember


class Sink:
    """Keeps what was sent; refuses while `broken`."""

    def __init__(self) -> None:
        self.sent: list[NodeReport] = []
        self.broken = False

    def send_report(self, report: NodeReport) -> None:
        if self.broken:
            raise Unreachable("The coordinator did not answer.")
        self.sent.append(report)


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(12, 12))


def declare(member: SimulatedMember, wanted: bool | None) -> None:
    """Write the line into policy.toml, or leave it out."""
    text = member.home.policy.read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("declare_budget")]
    lines += [] if wanted is None else [f"declare_budget = {str(wanted).lower()}"]
    member.home.policy.write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.parametrize("wanted", [None, False])
def test_policy_that_does_not_ask_for_it_declares_nothing(
    sim: ConsortiumSimulator, wanted: bool | None
) -> None:
    declare(sim.members[0], wanted)
    assert budget_left(sim.members[0].home) is None


def test_what_is_left_follows_from_the_ledger_and_is_rounded_down(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    declare(member, True)
    policy = read_policy(member.home.policy)
    assert budget_left(member.home) == BudgetLeft(1.0, policy.epsilon, policy.delta)
    plan = sim.plan(rounds=1)
    sim.consent(plan)
    sim.drive(sim.start(plan))
    spent = epsilon(Ledger.read(member.home.ledger).spent(member.data_set.id), policy.delta)
    left = budget_left(member.home)
    assert left is not None and 0.0 < spent < policy.epsilon
    assert 0.0 <= policy.epsilon - spent - left.epsilon < 0.01
    assert 0.0 <= (policy.epsilon - spent) / policy.epsilon - left.share < 0.001


def test_what_is_left_depends_on_the_plan_and_not_on_the_records(sim: ConsortiumSimulator) -> None:
    for member in sim.members:
        declare(member, True)
    plan = sim.plan(rounds=2)
    sim.consent(plan)
    sim.drive(sim.start(plan))
    first, second = (budget_left(member.home) for member in sim.members)
    assert first == second, "the same plan over other records"


def test_of_two_ceilings_the_one_with_less_left_is_declared(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    declare(member, True)
    member.change_policy(epsilon=1000.0, most_epsilon_alone=5.0)
    plan = sim.plan(rounds=1)
    sim.consent(plan)
    sim.drive(sim.start(plan))
    left = budget_left(member.home)
    assert left is not None and left.epsilon < 5.0 and left.share < 0.99


def test_report_is_sent_when_it_says_something_new_and_a_failure_only_said(sim: ConsortiumSimulator) -> None:
    member, sink, said = sim.members[0], Sink(), list[str]()
    declare(member, True)
    declaration = Declaration(member.home, sink, said.append)
    sink.broken = True
    declaration.send()
    assert said == ["The coordinator did not answer."] and sink.sent == []
    sink.broken = False
    declaration.send()
    declaration.send()
    assert len(sink.sent) == 1 and sink.sent[0].budget is not None
    declare(member, False)
    declaration.send()
    assert [report.budget is None for report in sink.sent] == [False, True], "it can be taken back"


def test_node_that_uses_releases_only_declares_no_budget(tmp_path: Path) -> None:
    assert budget_left(Home(tmp_path)) is None


class QuietLine:
    """A connection on which nothing ever comes."""

    node_id = 1

    def activate(self) -> None: ...
    def heartbeat(self) -> None: ...
    def close(self) -> None: ...

    def receive(self) -> None:
        return None


def test_node_at_rest_reports_once_after_connecting() -> None:
    done: list[str] = []
    polls: list[int] = []

    class Counting(QuietLine):
        def receive(self) -> None:
            polls.append(1)
            if len(polls) == 4:
                loop.stop()

    loop = NodeLoop(
        lambda: cast(FleetLink, Counting()),
        lambda request: pytest.fail("nothing was asked"),
        lambda text: None,
        lambda: None,
        at_rest=lambda: done.append("rest"),
    )
    loop.run()
    assert len(polls) == 4 and done == ["rest"]


def test_errands_run_when_woken_and_every_while_even_when_one_fails() -> None:
    woken, came, failed = threading.Event(), threading.Event(), list[int]()

    def failing() -> None:
        failed.append(1)
        raise RuntimeError("no line to the coordinator")

    asleep = Errands((failing, woken.set), every_s=3600.0)
    asleep.start()
    assert not woken.wait(0.05), "nothing wakes it for an hour"
    asleep.wake()
    assert woken.wait(20.0)
    woken.clear()
    asleep.wake()
    assert woken.wait(20.0) and failed == [1, 1], "what failed is tried again"
    often = Errands((came.set,), every_s=0.01)
    often.start()
    assert came.wait(20.0), "a run without a rest does not keep it waiting"
    for thread in (asleep, often):
        thread.stop()
        thread.join(20.0)
        assert not thread.is_alive()


def test_joining_with_an_invitation_that_needs_approval_says_so_and_what_is_compared(
    desk: Desk, tmp_path: Path
) -> None:
    desk.clock.advance(120)
    secret = desk.room.invitations.invite("West", Purpose.CONTRIBUTE, "a", needs_approval=True)[1]
    said: dict[str, str] = {}
    with served(desk.app, desk.home) as url:
        link = join(tmp_path / "west", url, desk.fingerprint, secret, 50, said.__setitem__)
    member = desk.room.members.get(link.member_id)
    assert member.state is MemberState.PENDING
    assert "waits for an admin's approval" in said["enrolled"]
    assert fingerprint(member.identity_public_key) in said["enrolled"]


def test_pending_organisation_is_no_peer_to_approve(desk: Desk, tmp_path: Path) -> None:
    north = joined(desk, tmp_path, "North")
    secret = desk.room.invitations.invite("West", Purpose.CONTRIBUTE, "a", needs_approval=True)[1]
    west = desk.room.members.enrol(enrolment(secret)).member_id
    source = RollOfDesk(desk)

    def seen() -> PeerState:
        accept_roll(north.home, source.trust(), source.roll(), desk.clock)
        [peer] = [peer for peer in every_peer(north.home, desk.clock) if peer.member_id == west]
        return peer.state

    assert seen() is PeerState.PENDING
    desk.room.members.approve(west, "a")
    assert seen() is PeerState.NEW

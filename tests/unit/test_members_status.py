"""Approval, withdrawn invitations, presence and declared budgets: the services and the API over them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from coordinator.audit.search import of_member
from coordinator.members.invitations import InvitationLine
from coordinator.members.status import PresenceWatch
from coordinator.storage.database import reading
from shared.domain.clock import to_text
from shared.domain.consortium import MemberState, Purpose, Role
from shared.domain.errors import IllegalMove, InvitationRejected, NotFound
from shared.release.roles import open_roll
from shared.release.signing import SigningKey
from shared.release.trust import parse_trust
from shared.wire.enrolment import EnrolmentReply
from tests.desk import Desk, enrolment, node_key_pem

LEFT = {"share": 0.62, "epsilon": 4.96, "delta": 1e-5}


def joined_pending(desk: Desk, name: str = "North") -> EnrolmentReply:
    secret = desk.room.invitations.invite(name, Purpose.CONTRIBUTE, "account:ada", needs_approval=True)[1]
    return desk.room.members.enrol(enrolment(secret))


def report(desk: Desk, token: str, **body: Any) -> int:
    answer = desk.client(token).post("/node/report", json={"software_version": "0.1.0"} | body)
    return answer.status_code


def test_pending_member_is_on_the_roll_and_opens_nothing(desk: Desk) -> None:
    reply = joined_pending(desk)
    roll = open_roll(reply.roll, parse_trust(desk.room.authority.trust_envelope()), desk.clock)
    assert [entry.state for entry in roll.entries] == [MemberState.PENDING]
    assert desk.nodes.allowed == {}
    for method, path in (("GET", "/roll"), ("POST", "/node/restarted"), ("GET", "/members")):
        refused = desk.client(reply.token).request(method, path)
        assert refused.status_code == 403 and "waits for an admin's approval" in refused.json()["detail"]
    desk.room.members.register_all()
    assert desk.nodes.allowed == {}


def test_approved_member_is_let_in_with_the_token_it_has(desk: Desk) -> None:
    reply = joined_pending(desk)
    admin = desk.client(desk.person(Role.ADMIN))
    assert admin.post(f"/members/{reply.member_id}/approve").json()["state"] == "active"
    assert set(desk.nodes.allowed) == {reply.member_id}
    assert desk.client(reply.token).get("/roll").status_code == 200
    with reading(desk.room.engine) as connection:
        lines = of_member(connection, reply.member_id, 100)
    assert [(line.action, line.actor) for line in lines] == [
        ("member.approved", "account:the admin"),
        ("member.enrolled", f"member:{reply.member_id}"),
    ]


def test_pending_member_that_lost_its_reply_stays_pending(desk: Desk) -> None:
    identity, node = SigningKey.generate(), node_key_pem()
    secret = desk.room.invitations.invite("North", Purpose.CONTRIBUTE, "a", needs_approval=True)[1]
    first = desk.room.members.enrol(enrolment(secret, identity, node))
    again = desk.room.members.enrol(enrolment(desk.secret("North"), identity, node))
    assert again.member_id == first.member_id and again.token != first.token
    assert desk.room.members.get(first.member_id).state is MemberState.PENDING
    assert desk.nodes.allowed == {}, "an invitation that alone would let in at once does not approve"


@pytest.mark.parametrize(
    ("act", "match"),
    [
        ("resume", "is pending, and this is for a suspended one. Nothing was changed. Approve it instead."),
        ("suspend", "is pending; from there it can become active, revoked, not suspended"),
    ],
)
def test_pending_member_is_approved_or_revoked_and_nothing_else(desk: Desk, act: str, match: str) -> None:
    reply = joined_pending(desk)
    with pytest.raises(IllegalMove, match=match):
        getattr(desk.room.members, act)(reply.member_id, "a")
    assert desk.room.members.revoke(reply.member_id, "a").state is MemberState.REVOKED
    with pytest.raises(IllegalMove):
        desk.room.members.approve(reply.member_id, "a")


def test_suspended_member_is_resumed_not_approved(desk: Desk) -> None:
    member_id = desk.member().member_id
    desk.room.members.suspend(member_id, "a")
    with pytest.raises(IllegalMove, match="Resume it instead"):
        desk.room.members.approve(member_id, "a")


def test_withdrawn_invitation_opens_nothing_and_is_listed_as_such(desk: Desk) -> None:
    invitation, secret = desk.room.invitations.invite("North", Purpose.CONTRIBUTE, "account:ada")
    admin = desk.client(desk.person(Role.ADMIN))
    withdrawn = admin.post(f"/invitations/{invitation.id}/withdraw")
    assert withdrawn.json()["withdrawn_at"] == to_text(desk.clock.now())
    with pytest.raises(InvitationRejected):
        desk.room.members.enrol(enrolment(secret))
    assert desk.room.invitations.open() == []
    assert desk.audit_actions()[-3:] == ["api.sent", "invitation.withdrawn", "api.done"]


def test_only_an_open_invitation_is_withdrawn(desk: Desk) -> None:
    rooms = desk.room.invitations

    def made(name: str, lifetime_s: float = 60.0) -> InvitationLine:
        rooms.invite(name, Purpose.CONTRIBUTE, "a", lifetime_s)
        return next(line for line in rooms.every() if line.invitation.member_name == name)

    desk.member("Spent")
    spent = rooms.every()[0].invitation.id
    with pytest.raises(IllegalMove, match="was used at .* Suspend or revoke the member"):
        rooms.withdraw(spent, "a")
    over, twice = made("Over", 1.0).invitation.id, made("Twice").invitation.id
    desk.clock.advance(2)
    with pytest.raises(IllegalMove, match="The invitation ended at"):
        rooms.withdraw(over, "a")
    rooms.withdraw(twice, "a")
    with pytest.raises(IllegalMove, match="was withdrawn at"):
        rooms.withdraw(twice, "a")
    with pytest.raises(NotFound, match="no invitation 'inv_nothing'"):
        rooms.withdraw("inv_nothing", "a")


def test_declared_budget_is_kept_with_its_moment_and_taken_back(desk: Desk) -> None:
    north = desk.member("North")
    auditor = desk.client(desk.person(Role.AUDITOR))
    assert report(desk, north.token, budget=LEFT) == 204
    shown = auditor.get(f"/members/{north.member_id}").json()
    assert (shown["budget_left"], shown["budget_at"]) == (LEFT, to_text(desk.clock.now()))
    assert report(desk, north.token) == 204
    shown = auditor.get("/members").json()[0]
    assert (shown["budget_left"], shown["budget_at"]) == (None, None)


@pytest.mark.parametrize(
    "budget",
    [
        LEFT | {"share": 1.01},
        LEFT | {"share": -0.1},
        LEFT | {"epsilon": -1.0},
        LEFT | {"delta": 0.0},
        LEFT | {"records": 12},
        {"share": 0.5},
    ],
)
def test_report_of_another_form_is_refused(desk: Desk, budget: dict[str, float]) -> None:
    assert report(desk, desk.member().token, budget=budget) == 422


def test_report_is_a_members_own_and_a_new_version_leaves_a_line(desk: Desk) -> None:
    north = desk.member("North")
    assert report(desk, desk.person(Role.ADMIN)) == 403 and report(desk, "") == 401
    lines = len(desk.audit_actions())
    assert report(desk, north.token, budget=LEFT) == 204
    assert len(desk.audit_actions()) == lines
    assert report(desk, north.token, software_version="0.2.0") == 204
    assert desk.audit_actions()[lines:] == ["member.software-changed"]
    assert desk.room.members.get(north.member_id).node.software_version == "0.2.0"


def test_last_seen_is_the_last_look_that_found_the_node(desk: Desk) -> None:
    north, south = desk.member("North").member_id, desk.member("South").member_id
    online = {north, south}
    watch = PresenceWatch(desk.room.status, desk.clock, lambda: frozenset(online))
    began = desk.clock.now()

    def seen(member_id: str) -> str | None:
        return desk.room.status.of(member_id).last_seen_at

    watch.look()
    assert seen(north) == seen(south) == to_text(began)
    desk.clock.advance(5)
    watch.look()
    assert seen(north) == to_text(began), "a node that stays is written once a minute"
    online.discard(south)
    desk.clock.advance(5)
    watch.look()
    assert seen(south) == to_text(began + timedelta(seconds=5)), "the last look that found it"
    desk.clock.advance(50)
    watch.look()
    assert seen(north) == to_text(began + timedelta(seconds=60))
    assert desk.room.status.every()[south].last_seen_at == to_text(began + timedelta(seconds=5))


def test_watch_writes_who_is_connected_when_it_stops(desk: Desk) -> None:
    north = desk.member("North").member_id
    watch = PresenceWatch(desk.room.status, desk.clock, lambda: frozenset({north}))
    watch.start()
    watch.look()
    desk.clock.advance(30)
    watch.look()
    watch.stop()
    assert desk.room.status.of(north).last_seen_at == to_text(desk.clock.now())


def test_member_sees_itself_and_nobody_else(desk: Desk) -> None:
    north, south = desk.member("North"), desk.member("South")
    mine = desk.client(north.token)
    assert [member["name"] for member in mine.get("/members").json()] == ["North"]
    assert mine.get(f"/members/{north.member_id}").json()["name"] == "North"
    for other in (south.member_id, "mem_nothing"):
        refused = mine.get(f"/members/{other}")
        assert refused.status_code == 404 and "that you may see" in refused.json()["detail"]


def test_one_member_is_shown_with_its_history_newest_first(desk: Desk) -> None:
    north = desk.member("North")
    desk.room.members.suspend(north.member_id, "account:ada")
    shown = desk.client(desk.person(Role.AUDITOR)).get(f"/members/{north.member_id}").json()
    assert [line["action"] for line in shown["history"]] == ["member.suspended", "member.enrolled"]
    assert len(shown["fingerprint"].split()) == 8


def test_invitation_reply_holds_the_line_that_is_pasted_and_the_secret_apart(desk: Desk) -> None:
    admin = desk.client(desk.person(Role.ADMIN))
    body = {"member_name": "North", "purpose": "use", "needs_approval": True}
    made = admin.post("/invitations", json=body).json()
    assert made["secret"] not in made["join_line"] and made["needs_approval"]
    assert made["join_line"] == (
        f"commonlens-participant join {made['url']} --ca-fingerprint {desk.fingerprint} --declared-size 0"
    )
    listed = desk.client(desk.person(Role.AUDITOR)).get("/invitations")
    assert listed.json()[0]["needs_approval"] and made["secret"] not in listed.text

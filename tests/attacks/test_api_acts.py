"""Whatever is done by the API stands in the audit log before it is carried out and after; reading leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.api_rules import API, BY_TICKET, OPEN, api_routes, api_rules
from coordinator.storage import tables as t
from coordinator.storage.database import writing
from shared.domain.consortium import MemberState, Role
from tests.full_board import FullBoard, full_board, rows, session_of, with_values
from tests.knock import Answer, knock

Route = tuple[str, str]
BEYOND_READING = ("POST", "PUT", "PATCH", "DELETE")
LEAVES_NO_LINE: dict[Route, str] = {
    ("POST", f"{API}/plans/check"): "calculates and stores nothing",
    ("POST", f"{API}/releases/{{extractor}}/{{number}}/diff"): "measures what is the same for everybody",
    ("POST", f"{API}/audit/countersignatures"): "each line would be one more to sign",
    (
        "POST",
        f"{API}/node/report",
    ): "a node says so all day; another version of its software is a line by itself",
    ("POST", f"{API}/node/restarted"): "a node forgets its own connection",
    ("POST", f"{API}/node/sign-in-link"): "the link is a line by itself",
}
"""And what nobody is known to do: OPEN and BY_TICKET, whose services write their own lines."""


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("acts")) as board:
        yield board


def token_for(full: FullBoard, roles: frozenset[Role]) -> str:
    """Of the most that may: an admin, else an auditor, else the member's node."""
    role = next((r for r in (Role.ADMIN, Role.AUDITOR) if r in roles), Role.MEMBER)
    return full.member.token if role is Role.MEMBER else session_of(full, role)


def send(full: FullBoard, route: Route, token: str, path: str = "") -> Answer:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return knock(full.coordinator.asgi, route[0], path or with_values(route[1]), headers, b"{}")


def lines(full: FullBoard, since: int = 0) -> list[tuple[str, str]]:
    """(action, detail) of every line after number `since`."""
    return [(str(row[3]), str(row[5])) for row in sorted(rows(full)["audit_events"])[since:]]


def acts(full: FullBoard) -> dict[Route, frozenset[Role]]:
    """Every route by which somebody who is known changes something."""
    rules = api_rules(full.coordinator.control.routes)
    shown = {route for route, _ in api_routes(full.coordinator.control.routes)}
    return {
        route: roles
        for route, roles in rules.items()
        if route in shown and route[0] in BEYOND_READING and route not in OPEN | BY_TICKET
    }


def test_every_act_leaves_a_line_before_it_is_carried_out_and_one_after(full: FullBoard) -> None:
    """Whatever becomes of it, also where its body does not fit: nothing is tried unseen."""
    tried = {route: roles for route, roles in acts(full).items() if route not in LEAVES_NO_LINE}
    assert len(tried) >= 20
    for route, roles in sorted(tried.items()):
        token, before = token_for(full, roles), len(lines(full))
        answer = send(full, route, token)
        assert answer.status < 500, (route, answer.text)
        found = [line for line in lines(full, before) if line[0].startswith("api.")]
        ended = "api.done" if answer.status < 400 else "api.refused"
        assert [action for action, _ in found] == ["api.sent", ended], (route, answer.status, found)
        assert lines(full, before)[0][0] == "api.sent" and lines(full, before)[-1][0] == ended
        for _, detail in found:
            assert f'"method":"{route[0]}"' in detail and f'"path":"{with_values(route[1])}"' in detail


def test_what_leaves_no_such_line_is_listed_with_its_reason(full: FullBoard) -> None:
    assert set(LEAVES_NO_LINE) <= set(acts(full))
    for route in LEAVES_NO_LINE:
        before = len(lines(full))
        assert send(full, route, token_for(full, acts(full)[route])).status < 500
        assert not [action for action, _ in lines(full, before) if action.startswith("api.")], route


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR, Role.MEMBER])
def test_reading_leaves_nothing(full: FullBoard, role: Role) -> None:
    token = full.member.token if role is Role.MEMBER else session_of(full, role)
    before = rows(full)
    before.pop("release_downloads")
    for (method, path), roles in api_rules(full.coordinator.control.routes).items():
        if method == "GET" and role in roles and not path.endswith("/stream"):
            answer = send(full, (method, path), token, with_values(path, full.values()))
            assert answer.status < 500, path
    after = rows(full)
    after.pop("release_downloads")
    assert after == before


def test_who_may_not_leaves_no_line(full: FullBoard) -> None:
    """Else everybody who can reach the port could fill the log."""
    token = session_of(full, Role.AUDITOR)
    before = len(lines(full))
    route = ("POST", f"{API}/members/{{member_id}}/suspend")
    assert send(full, route, token, with_values(route[1], full.values())).status == 403
    assert send(full, route, "clt_" + "x" * 43, with_values(route[1], full.values())).status == 401
    assert len(lines(full)) == before


def test_token_that_was_pasted_into_an_address_is_masked(full: FullBoard) -> None:
    secret, token = full.member.token, session_of(full, Role.ADMIN)
    before = len(lines(full))
    answer = send(full, ("POST", ""), token, f"{API}/members/{secret}/suspend")
    assert answer.status in (404, 422)
    found = lines(full, before)
    assert [action for action, _ in found] == ["api.sent", "api.refused"]
    assert all("/members/clt_…/suspend" in detail and secret not in detail for _, detail in found)


def test_a_member_cannot_fill_the_log_with_consents(full: FullBoard) -> None:
    route, before = ("POST", f"{API}/plans/{{digest}}/consents"), len(lines(full))
    statuses = [send(full, route, full.member.token).status for _ in range(100)]
    assert statuses.count(429) >= 40 and 100 <= len(lines(full)) - before <= 120


@pytest.fixture
def fresh(prepared_home: Path, tmp_path: Path) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path) as board:
        yield board


def test_what_breaks_halfway_is_said_to_have_failed(fresh: FullBoard) -> None:
    token = session_of(fresh, Role.ADMIN)
    with writing(fresh.coordinator.engine) as db:
        db.execute(sa.text("ALTER TABLE runs RENAME TO runs_before"))
    answer = send(fresh, ("POST", ""), token, f"{API}/runs/{fresh.run}/resume")
    assert answer.status == 500
    with fresh.coordinator.engine.connect() as db:
        found = db.execute(sa.select(t.audit_events.c.action).order_by(t.audit_events.c.seq)).scalars().all()
    assert found[-2:] == ["api.sent", "api.failed"]


def test_nothing_is_carried_out_that_cannot_be_written_down(fresh: FullBoard) -> None:
    token, member_id = session_of(fresh, Role.ADMIN), fresh.member.member_id
    with writing(fresh.coordinator.engine) as db:
        db.execute(t.meta.delete().where(t.meta.c.key == "audit_head"))
    answer = send(fresh, ("POST", ""), token, f"{API}/members/{member_id}/suspend")
    assert answer.status >= 400
    state = next(m.state for m in fresh.room.members.every() if m.id == member_id)
    assert state is MemberState.ACTIVE

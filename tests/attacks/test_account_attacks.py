"""Attacks on accounts and tokens: what was taken away is gone at once, and roles hold on every route."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute

from coordinator.members.accounts import WELL_KNOWN_PASSWORDS, Account, insert_account
from coordinator.members.routes import router
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import audit_events, members, meta
from shared.domain.consortium import Role
from shared.domain.errors import DefaultPassword
from tests.desk import CHEAP_HASHER, PASSWORD, Desk, Web

OPEN_TO_ALL = {("POST", "/api/v1/enrolments"), ("POST", "/api/v1/sessions")}
OWN_SESSION = {("DELETE", "/api/v1/sessions")}
OWN_NODE = {
    ("POST", "/api/v1/node/report"),
    ("POST", "/api/v1/node/restarted"),
    ("POST", "/api/v1/node/sign-in-link"),
}
"""What a member's node says of itself and asks for itself."""
PUBLIC_PAGES = {("GET", "/api/v1/health"), ("GET", "/api/v1/trust")}
ROUTES = sorted(
    (method, route.path) for route in router.routes if isinstance(route, APIRoute) for method in route.methods
)
CHANGING = [route for route in ROUTES if route[0] != "GET"]


def call(desk: Desk, token: str, method: str, path: str, member_id: str) -> int:
    web = desk.client(token)
    path = path.removeprefix("/api/v1").replace("{member_id}", member_id)
    body = {"json": {"member_name": "Friend"}} if path == "/invitations" and method == "POST" else {}
    return web.request(method, path, **body).status_code


def everything(desk: Desk) -> list[object]:
    with reading(desk.room.engine) as connection:
        return [list(connection.execute(table.select())) for table in (members, meta, audit_events)]


@pytest.mark.parametrize(("method", "path"), [r for r in CHANGING if r not in OPEN_TO_ALL | OWN_SESSION])
def test_an_auditor_cannot_change_anything(desk: Desk, method: str, path: str) -> None:
    member_id, auditor = desk.member().member_id, desk.person(Role.AUDITOR)
    before = everything(desk)
    assert call(desk, auditor, method, path, member_id) == 403
    assert everything(desk) == before


@pytest.mark.parametrize(("method", "path"), [r for r in CHANGING if r not in OPEN_TO_ALL | OWN_NODE])
def test_a_member_cannot_change_the_consortium(desk: Desk, method: str, path: str) -> None:
    north, south = desk.member("North"), desk.member("South")
    before = everything(desk)
    assert call(desk, north.token, method, path, south.member_id) == 403
    assert everything(desk) == before


@pytest.mark.parametrize(("method", "path"), sorted(OWN_NODE))
def test_what_a_member_says_of_its_node_changes_no_row_of_the_consortium(
    desk: Desk, method: str, path: str
) -> None:
    north, south = desk.member("North"), desk.member("South")
    before = desk.room.members.get(south.member_id)
    assert call(desk, north.token, method, path, south.member_id) != 403
    assert desk.room.members.get(south.member_id) == before
    assert desk.audit_actions()[-1] in ("member.enrolled", "sign-in-link.made")


@pytest.mark.parametrize(("method", "path"), [r for r in ROUTES if r not in OPEN_TO_ALL | PUBLIC_PAGES])
@pytest.mark.parametrize(
    "header",
    ["", "Bearer ", "Bearer clt_" + "A" * 43, "Bearer " + "A" * 10_000, "Basic YWRtaW46YWRtaW4="],
    ids=["none", "empty", "guessed", "endless", "basic"],
)
def test_without_a_good_token_no_door_opens(desk: Desk, method: str, path: str, header: str) -> None:
    web = Web(desk.app, {"authorization": header} if header else {})
    response = web.request(method, path.removeprefix("/api/v1").replace("{member_id}", "mem_0"))
    assert (response.status_code, response.json()["code"]) == (401, "not-trusted.sign-in")


@pytest.mark.parametrize("path", ["/invitations", "/audit"])
def test_a_member_cannot_look_into_the_consortiums_books(desk: Desk, path: str) -> None:
    response = desk.client(desk.member().token).get(path)
    assert response.status_code == 403 and response.json()["code"] == "refused.not-allowed"


def test_a_member_sees_itself_alone_among_the_members(desk: Desk) -> None:
    north, south = desk.member("North"), desk.member("South")
    web = desk.client(north.token)
    assert [line["id"] for line in web.get("/members").json()] == [north.member_id]
    assert web.get(f"/members/{south.member_id}").status_code in (403, 404)


def test_a_suspended_members_token_stops_at_once_and_works_again_when_resumed(desk: Desk) -> None:
    reply = desk.member()
    web = desk.client(reply.token)
    assert web.get("/roll").status_code == 200
    desk.room.members.suspend(reply.member_id, "a")
    response = web.get("/roll")
    assert response.status_code == 401 and "access is suspended" in response.json()["detail"]
    assert web.post("/node/restarted").status_code == 401
    assert reply.member_id not in desk.nodes.allowed
    desk.room.members.resume(reply.member_id, "a")
    assert web.get("/roll").status_code == 200 and reply.member_id in desk.nodes.allowed


def test_a_revoked_members_token_stops_at_once_and_for_ever(desk: Desk) -> None:
    reply = desk.member()
    desk.room.members.revoke(reply.member_id, "a")
    response = desk.client(reply.token).get("/roll")
    assert response.status_code == 401 and response.json()["code"] == "not-trusted.revoked"
    assert desk.nodes.allowed == {}
    # Even if somebody sets the state back by hand, the token stays dead.
    with writing(desk.room.engine) as connection:
        connection.execute(members.update().values(state="active"))
    assert desk.client(reply.token).get("/roll").json()["code"] == "not-trusted.sign-in"


def test_guessing_a_password_is_slowed_down_for_the_right_one_too(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    limits = desk.room.config.limits
    for number in range(limits.sign_in_attempts):
        guess = {"name": "ada", "password": f"guess number {number}"}
        assert desk.client().post("/sessions", json=guess).status_code == 401
    right = {"name": "ada", "password": PASSWORD}
    response = desk.client().post("/sessions", json=right)
    assert response.status_code == 429 and "Wait" in response.json()["detail"]
    desk.clock.advance(limits.attempts_window_s)
    assert desk.client().post("/sessions", json=right).status_code == 200


def test_guessing_one_password_for_many_names_is_slowed_down(desk: Desk) -> None:
    limit = desk.room.config.limits.sign_in_attempts
    statuses = [
        desk.client().post("/sessions", json={"name": f"name {n}", "password": PASSWORD}).status_code
        for n in range(limit + 2)
    ]
    assert statuses == [401] * limit + [429] * 2


@pytest.mark.parametrize("password", [*WELL_KNOWN_PASSWORDS, "the account's own name"])
def test_a_coordinator_with_a_default_password_does_not_start(desk: Desk, password: str) -> None:
    name = "the account's own name"
    account = Account("acc_1", name, Role.ADMIN, True, "2026-11-21T12:00:00Z")
    desk.room.accounts.refuse_default_passwords()
    with writing(desk.room.engine) as connection:
        insert_account(connection, account, CHEAP_HASHER.hash(password))
    with pytest.raises(DefaultPassword, match="well-known password. The coordinator was not started"):
        desk.room.accounts.refuse_default_passwords()


def test_a_password_of_ones_own_starts(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    desk.room.accounts.refuse_default_passwords()


def test_a_broken_hash_in_the_database_opens_nothing(desk: Desk) -> None:
    account = Account("acc_1", "ada", Role.ADMIN, True, "2026-11-21T12:00:00Z")
    with writing(desk.room.engine) as connection:
        insert_account(connection, account, "not a hash")
    response = desk.client().post("/sessions", json={"name": "ada", "password": PASSWORD})
    assert response.status_code == 401
    desk.room.accounts.refuse_default_passwords()


def test_a_session_cannot_be_ended_by_another(desk: Desk) -> None:
    admin, auditor = desk.person(Role.ADMIN), desk.person(Role.AUDITOR)
    assert desk.client(auditor).delete("/sessions").status_code == 204
    assert desk.client(admin).get("/members").status_code == 200
    assert desk.client(auditor).get("/members").status_code == 401

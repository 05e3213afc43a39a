"""Privilege escalation: every role at every door of the coordinator, pages and API, against one table written here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from coordinator.api_rules import API, BY_TICKET, api_rules, plain_path, takes_tokens, token_routes
from coordinator.dashboard.gate import gate
from coordinator.dashboard.rules import RULES
from shared.domain.consortium import Role
from tests.full_board import FullBoard, ask, full_board, session_of, with_another_gate, with_values
from tests.knock import Answer, knock, session

Route = tuple[str, str]
LETTERS = {"a": Role.ADMIN, "u": Role.AUDITOR, "m": Role.MEMBER}
EVERYWHERE: list[Role | None] = [None, Role.MEMBER, Role.AUDITOR, Role.ADMIN]
TABLE = """
GET     /                                                           m u a
GET     /account                                                    u a
POST    /account/password                                           u a
POST    /account/second-factor                                      u a
POST    /account/second-factor/confirm                              u a
POST    /account/second-factor/remove                               u a
POST    /account/sessions/end-others                                u a
POST    /account/sessions/{token_id}/end                            u a
POST    /account/tokens                                             u a
POST    /account/tokens/{token_id}/revoke                           u a
GET     /audit                                                      u a
GET     /audit/countersignatures.jsonl                              u a
GET     /audit/export.csv                                           u a
GET     /audit/export.jsonl                                         u a
GET     /audit/verify                                               u a
GET     /extractors                                                 m u a p
GET     /extractors/diff                                            m u a p
POST    /extractors/diff                                            m u a
GET     /extractors/{name}                                          m u a p
GET     /extractors/{name}/{number}                                 m u a p
POST    /extractors/{name}/{number}/check                           m u a
POST    /channels/{name}                                            a
GET     /extractors/{name}/{number}/files/{file}                    m u a p
GET     /extractors/{name}/{number}/lens                            m u a p
POST    /extractors/{name}/{number}/yank                            a
GET     /invitations                                                a
POST    /invitations                                                a
POST    /invitations/{invitation_id}/withdraw                       a
POST    /library/{name}                                             a
GET     /live                                                       m u a
GET     /members                                                    m u a
GET     /members/live                                               m u a
GET     /members/{member_id}                                        m u a
POST    /members/{member_id}/approve                                a
POST    /members/{member_id}/resume                                 a
POST    /members/{member_id}/revoke                                 a
POST    /members/{member_id}/suspend                                a
GET     /plans                                                      m u a
POST    /plans                                                      a
POST    /plans/check                                                a
GET     /plans/compare                                              m u a
GET     /plans/live                                                 m u a
GET     /plans/new                                                  a
GET     /plans/{digest}                                             m u a
GET     /plans/{digest}/live                                        m u a
POST    /plans/{digest}/runs                                        a
POST    /plans/{digest}/withdraw                                    a
GET     /privacy                                                    m u a
GET     /privacy/{name}/{number}                                    m u a
GET     /privacy/{name}/{number}/pictures/{picture}                 m u a
GET     /runs                                                       m u a
GET     /runs/live                                                  m u a
GET     /runs/{run_id}                                              m u a
GET     /runs/{run_id}/live                                         m u a
POST    /runs/{run_id}/pause                                        a
GET     /runs/{run_id}/publish                                      a
POST    /runs/{run_id}/releases                                     a
POST    /runs/{run_id}/resume                                       a
GET     /runs/{run_id}/epsilon.csv                                  m u a
GET     /runs/{run_id}/rounds.csv                                   m u a
GET     /runs/{run_id}/rounds/{number}                              m u a
POST    /runs/{run_id}/stop                                         a
GET     /sign-in                                                    anybody
POST    /sign-in                                                    anybody
GET     /sign-in/code                                               anybody
POST    /sign-in/code                                               anybody
GET     /sign-in/member                                             anybody
POST    /sign-in/member                                             anybody
GET     /sign-in/oidc                                               anybody
GET     /sign-in/oidc/return                                        anybody
POST    /sign-out                                                   m u a

GET     /api/v1/account                                             u a
POST    /api/v1/account/password                                    u a
POST    /api/v1/account/second-factor                               u a
POST    /api/v1/account/second-factor/confirm                       u a
POST    /api/v1/account/second-factor/remove                        u a
POST    /api/v1/account/sessions/end-others                         u a
POST    /api/v1/account/tokens                                      u a
DELETE  /api/v1/account/tokens/{token_id}                           u a
GET     /api/v1/audit                                               u a
GET     /api/v1/audit/countersignatures                             u a
POST    /api/v1/audit/countersignatures                             m
GET     /api/v1/audit/head                                          m u a
GET     /api/v1/audit/lines.jsonl                                   u a
GET     /api/v1/audit/verification                                  u a
POST    /api/v1/enrolments                                          anybody
GET     /api/v1/extractors/{extractor}/channels                     m u a p
POST    /api/v1/extractors/{extractor}/channels/{channel}           a
GET     /api/v1/health                                              anybody
GET     /api/v1/invitations                                         u a
POST    /api/v1/invitations                                         a
POST    /api/v1/invitations/{invitation_id}/withdraw                a
GET     /api/v1/library                                             m u a
POST    /api/v1/library/{name}                                      a
GET     /api/v1/members                                             m u a
GET     /api/v1/members/{member_id}                                 m u a
POST    /api/v1/members/{member_id}/approve                         a
POST    /api/v1/members/{member_id}/resume                          a
POST    /api/v1/members/{member_id}/revoke                          a
POST    /api/v1/members/{member_id}/suspend                         a
POST    /api/v1/node/report                                         m
POST    /api/v1/node/restarted                                      m
POST    /api/v1/node/sign-in-link                                   m
GET     /api/v1/openapi.json                                        m u a
GET     /api/v1/plans                                               m u a
POST    /api/v1/plans                                               a
POST    /api/v1/plans/check                                         a
GET     /api/v1/plans/{digest}                                      m u a
POST    /api/v1/plans/{digest}/consents                             m
GET     /api/v1/plans/{digest}/cost                                 m u a
POST    /api/v1/plans/{digest}/runs                                 a
GET     /api/v1/plans/{digest}/measured                             m u a
GET     /api/v1/plans/{digest}/starting-weights                     m u a
POST    /api/v1/plans/{digest}/withdraw                             a
GET     /api/v1/releases                                            m u a p
GET     /api/v1/releases/downloads                                  m u a p
GET     /api/v1/releases/{extractor}/{number}                       m u a
GET     /api/v1/releases/{extractor}/{number}/changes               m u a
GET     /api/v1/releases/{extractor}/{number}/diff                  m u a
POST    /api/v1/releases/{extractor}/{number}/diff                  m u a
GET     /api/v1/releases/{extractor}/{number}/files/{name}          m u a p
GET     /api/v1/releases/{extractor}/{number}/privacy               m u a
GET     /api/v1/releases/{extractor}/{number}/redteam               m u a
GET     /api/v1/releases/{extractor}/{number}/redteam/{picture}     m u a
POST    /api/v1/releases/{extractor}/{number}/yank                  a
GET     /api/v1/roll                                                m u a
PUT     /api/v1/rounds/contribution                                 anybody
GET     /api/v1/rounds/weights                                      anybody
GET     /api/v1/runs                                                m u a
GET     /api/v1/runs/{run_id}                                       m u a
GET     /api/v1/runs/{run_id}/events                                m u a
GET     /api/v1/runs/{run_id}/events/stream                         m u a
POST    /api/v1/runs/{run_id}/pause                                 a
GET     /api/v1/runs/{run_id}/progress                              m u a
GET     /api/v1/runs/{run_id}/publishing                            m u a
POST    /api/v1/runs/{run_id}/publishing                            a
POST    /api/v1/runs/{run_id}/releases                              a
POST    /api/v1/runs/{run_id}/resume                                a
GET     /api/v1/runs/{run_id}/rounds/{number}                       m u a
POST    /api/v1/runs/{run_id}/stop                                  a
DELETE  /api/v1/sessions                                            u a
POST    /api/v1/sessions                                            anybody
GET     /api/v1/trust                                               anybody

GET     /api/datasets/{rest}                                        m u a p
GET     /api/models                                                 m u a p
GET     /api/models/{rest}                                          m u a p
GET     /api/models/{space}/{extractor}                             m u a p
GET     /api/models/{space}/{extractor}/auth-check                  m u a p
GET     /api/models/{space}/{extractor}/auth-check/write            m u a p
GET     /api/models/{space}/{extractor}/commits/{revision}          m u a p
POST    /api/models/{space}/{extractor}/paths-info/{revision}       m u a p
GET     /api/models/{space}/{extractor}/refs                        m u a p
GET     /api/models/{space}/{extractor}/revision/{revision}         m u a p
GET     /api/models/{space}/{extractor}/tree/{revision}             m u a p
GET     /api/models/{space}/{extractor}/tree/{revision}/{folder}    m u a p
GET     /api/spaces/{rest}                                          m u a p
GET     /api/whoami-v2                                              m u a
GET     /{extractor}/resolve/{revision}/{file}                      m u a p
GET     /{space}/{extractor}/resolve/{revision}/{file}              m u a p
"""
"""Method, path, and who may: m a member, u an auditor, a an admin; p also a stranger, where releases are public
(test_public_pages.py). The two of /rounds need a round's own ticket."""
WHAT_TO_DO = (
    "A route is new, gone, or lets others in than tests/attacks/test_dashboard_privileges.py says. Decide who may, "
    "write the line into TABLE, and make coordinator/dashboard/rules.py (pages) or the route's own check "
    "(coordinator/members/access.py, API) say the same"
)


def expected() -> dict[Route, frozenset[Role]]:
    lines = [line.split() for line in TABLE.splitlines() if line.strip()]
    return {
        (method, path): frozenset(LETTERS[letter] for letter in who if letter in LETTERS)
        for method, path, *who in lines
    }


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("privileges")) as board:
        yield board


def test_the_table_says_of_every_route_who_may(full: FullBoard) -> None:
    shipped = {**RULES, **api_rules(full.coordinator.control.routes)}
    wrong = [
        f"{' '.join(route)}: here {_names(expected().get(route))}, shipped {_names(shipped.get(route))}"
        for route in sorted(set(shipped) | set(expected()))
        if expected().get(route) != shipped.get(route)
    ]
    assert not wrong, "\n".join([WHAT_TO_DO, *wrong])


def _names(roles: frozenset[Role] | None) -> str:
    if roles is None:
        return "no line"
    return " ".join(sorted(role.value for role in roles)) or "anybody"


def test_there_is_no_route_beside_the_two_tables(full: FullBoard) -> None:
    routes = full.coordinator.control.routes
    api = {route for route, _ in token_routes(routes)}
    for found in iter_route_contexts(routes):
        if found.path == "/static":
            continue
        for method in found.methods or {"?"}:
            route = ("GET" if method == "HEAD" else method, plain_path(found.path))
            assert route in api or route in RULES, WHAT_TO_DO


def test_every_page_is_behind_the_gate(full: FullBoard) -> None:
    """A rule alone refuses nobody: the router of the page needs `dependencies=[Depends(gate)]`."""
    pages = [found for found in iter_route_contexts(full.coordinator.control.routes) if _is_page(found.path)]
    assert len(pages) >= len({path for _, path in RULES})
    for found in pages:
        assert gate in {inner.call for inner in found.dependant.dependencies}, found.path


def _is_page(path: str | None) -> bool:
    return path is not None and path != "/static" and not takes_tokens(path)


def outcome(answer: Answer) -> str:
    """ "who are you", "not you", or "let through", whatever became of it then."""
    to_sign_in = answer.status == 303 and answer.header("location").startswith("/sign-in?next=")
    if to_sign_in or (answer.status == 401 and "ign in first" in answer.text):
        return "who are you"
    words = ("This needs the role", "Only a member&#39;s own node", "Only a member's own node")
    return "not you" if answer.status == 403 and any(word in answer.text for word in words) else "let through"


@pytest.mark.parametrize("route", sorted(expected()), ids=" ".join)
def test_every_role_is_let_through_or_refused_as_the_table_says(full: FullBoard, route: Route) -> None:
    roles = expected()[route]
    found = {role: outcome(ask(full, route, role)) for role in EVERYWHERE}
    if route in BY_TICKET:
        assert {ask(full, route, role).status for role in EVERYWHERE} == {403}
    elif not roles:
        assert set(found.values()) == {"let through"}
    else:
        refused = {
            role: "who are you" if role is None else "not you" for role in EVERYWHERE if role not in roles
        }
        assert found == {role: "let through" for role in roles} | refused


def test_without_the_gate_the_same_requests_get_through(full: FullBoard) -> None:
    """Or the table above would prove nothing: with the check taken out, nobody reaches the overview."""
    assert outcome(knock(full.coordinator.asgi, "GET", "/")) == "who are you"
    assert outcome(knock(with_another_gate(full, lambda: None), "GET", "/")) == "let through"


def test_a_role_taken_away_is_gone_at_the_next_request(full: FullBoard) -> None:
    """Roles stand in the account's row, not in the session."""
    from coordinator.storage.database import writing
    from coordinator.storage.tables import accounts

    token = session_of(full, Role.ADMIN)
    assert knock(full.coordinator.asgi, "GET", "/", session(token)).status == 200

    def become(role: Role) -> None:
        with writing(full.coordinator.engine) as connection:
            connection.execute(accounts.update().where(accounts.c.name == "Ada").values(role=role.value))

    become(Role.AUDITOR)
    try:
        invite = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        refused = knock(
            full.coordinator.asgi, "POST", f"{API}/invitations", invite, b'{"member_name": "Friend"}'
        )
        assert outcome(refused) == "not you"
        assert "Ada</" in (page := knock(full.coordinator.asgi, "GET", "/", session(token))).text
        assert "auditor" in page.text
    finally:
        become(Role.ADMIN)


def test_a_member_opens_no_page_of_another_member(full: FullBoard) -> None:
    """Object by object: its role is allowed there, the row is another's."""
    other = next(m for m in full.room.members.every() if m.name == "South")
    own = session(session_of(full, Role.MEMBER))
    for method, path in sorted(RULES):
        if method == "GET" and "{member_id}" in path and Role.MEMBER in RULES[method, path]:
            where = with_values(path, full.values() | {"member_id": other.id})
            answer = knock(full.coordinator.asgi, "GET", where, own)
            assert answer.status in (403, 404), where
            assert other.identity_public_key not in answer.text


def test_a_member_sees_no_row_of_another_member(full: FullBoard) -> None:
    own = session(session_of(full, Role.MEMBER))
    token = {"authorization": f"Bearer {full.member.token}"}
    for path, headers in (("/members", own), ("/members/live", own), (f"{API}/members", token)):
        answer = knock(full.coordinator.asgi, "GET", path, headers)
        assert answer.status == 200
        assert "North" in answer.text and not re.search("South|West|East", answer.text), path
    run = knock(full.coordinator.asgi, "GET", f"{API}/runs/{full.run}", token)
    assert run.status == 200 and "did not answer" not in run.text, "another's reason for not contributing"
    other = next(m for m in full.room.members.every() if m.name == "South")
    answer = knock(full.coordinator.asgi, "GET", f"{API}/members/{other.id}", token)
    assert answer.status in (403, 404) and "South" not in answer.text


def test_a_session_cookie_is_no_token_of_the_api(full: FullBoard) -> None:
    """Else every page of another site could call the API in a visitor's name. The description alone may be read."""
    cookie = session(session_of(full, Role.ADMIN))
    for (method, path), roles in api_rules(full.coordinator.control.routes).items():
        if roles and path != f"{API}/openapi.json":
            answer = knock(full.coordinator.asgi, method, with_values(path), cookie)
            assert answer.status == 401, f"{method} {path}"


@pytest.mark.parametrize("role", [Role.ADMIN, Role.MEMBER])
def test_a_token_made_for_a_program_opens_no_page(full: FullBoard, role: Role) -> None:
    token = full.member.token
    if role is Role.ADMIN:
        full.room.accounts.create("Robot", Role.ADMIN, None, "operator")
        token = full.room.accounts.issue_token("Robot", 600.0, "operator")
    assert outcome(knock(full.coordinator.asgi, "GET", "/", session(token))) == "who are you"

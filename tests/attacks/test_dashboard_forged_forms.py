"""Forged forms (CSRF): what another site makes a visitor's browser send is refused everywhere, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from fastapi import Request

from coordinator.dashboard.rules import ANYBODY, CALCULATES, RULES
from coordinator.dashboard.sessions import form_proof, viewer_of
from shared.domain.consortium import Role
from tests.full_board import FullBoard, full_board, rows, session_of, with_another_gate, with_values
from tests.knock import FORM, Answer, form, knock, session

FORMS = sorted(path for (method, path), roles in RULES.items() if method == "POST" and roles != ANYBODY)
Sent = tuple[dict[str, str], bytes]
FIELDS = {"name": "North", "confirm": "North", "purpose": "contribute", "member_name": "Friend"}
"""What forms of this kind ask for, so that a forged one would be carried out if it were let through."""


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("forged")) as board:
        yield board


def _with_header(name: str, value: str) -> Callable[[str, str], Sent]:
    def forge(token: str, _other: str) -> Sent:
        headers, body = form(token, FIELDS)
        return headers | {name: value}, body

    return forge


def _as_file(token: str, _other: str) -> Sent:
    body = (
        '--x\r\nContent-Disposition: form-data; name="proof"; filename="proof"\r\n\r\n'
        f"{form_proof(token)}\r\n--x--\r\n"
    ).encode()
    return {**session(token), "content-type": "multipart/form-data; boundary=x"}, body


def _typed(kind: str) -> Callable[[str, str], Sent]:
    def forge(token: str, _other: str) -> Sent:
        return {**session(token), "content-type": kind}, urlencode({"proof": form_proof(token)}).encode()

    return forge


FORGERIES: dict[str, Callable[[str, str], Sent]] = {
    "no proof": lambda token, other: form(token, FIELDS, proof=""),
    "an empty proof": lambda token, other: form(token, [("proof", ""), *FIELDS.items()], proof=""),
    "another session's proof": lambda token, other: form(token, FIELDS, proof=form_proof(other)),
    "the session's own token as its proof": lambda token, other: form(token, FIELDS, proof=token),
    "a proof beyond ASCII": lambda token, other: form(token, FIELDS, proof="é" * 64),
    "sent by another site": _with_header("sec-fetch-site", "cross-site"),
    "sent by another host of this site": _with_header("sec-fetch-site", "same-site"),
    "the proof as a file": _as_file,
    "as plain text, which needs no permission": _typed("text/plain"),
    "as JSON": _typed("application/json"),
}


def send(full: FullBoard, path: str, sent: Sent) -> Answer:
    return knock(full.coordinator.asgi, "POST", with_values(path, full.values()), *sent)


def role_for(path: str) -> Role:
    return max(RULES["POST", path], key=lambda role: (role is Role.ADMIN, role is Role.AUDITOR))


@pytest.mark.parametrize("path", FORMS)
def test_no_form_is_taken_from_elsewhere(full: FullBoard, path: str) -> None:
    role = role_for(path)
    token, other = session_of(full, role), session_of(full, role)
    before = rows(full)
    for name, forge in FORGERIES.items():
        answer = send(full, path, forge(token, other))
        assert answer.status == 403, name
        assert "Nothing was done" in answer.text, name
    assert rows(full) == before


@pytest.mark.parametrize("path", sorted(set(FORMS) - {path for _, path in CALCULATES}))
def test_every_form_leaves_a_line_before_it_is_carried_out_and_one_after(full: FullBoard, path: str) -> None:
    """Whatever becomes of it, also where its fields do not fit: nothing is tried unseen."""
    token = session_of(full, role_for(path))
    before = len(rows(full)["audit_events"])
    answer = knock(full.coordinator.asgi, "POST", with_values(path), *form(token))
    assert answer.status < 500
    actions = [str(row[3]) for row in sorted(rows(full)["audit_events"])[before:]]
    assert actions[0] == "form.sent"
    assert actions[-1] == ("form.done" if answer.status < 400 else "form.refused"), (answer.status, actions)


@pytest.mark.parametrize("path", sorted(path for _, path in CALCULATES))
def test_form_that_leaves_no_line_changes_nothing(full: FullBoard, path: str) -> None:
    """Or it would have to leave one."""
    token = session_of(full, role_for(path))
    before = rows(full)
    assert (
        knock(full.coordinator.asgi, "POST", with_values(path, full.values()), *form(token, FIELDS)).status
        < 500
    )
    assert rows(full) == before


def test_proof_in_the_address_counts_for_nothing(full: FullBoard) -> None:
    """Addresses leak through history, logs and the Referer header."""
    token = session_of(full, Role.ADMIN)
    answer = knock(full.coordinator.asgi, "POST", f"/sign-out?proof={form_proof(token)}", session(token))
    assert answer.status == 403


def test_proof_does_not_give_the_session_away(full: FullBoard) -> None:
    token = session_of(full, Role.ADMIN)
    page = knock(full.coordinator.asgi, "GET", "/", session(token))
    assert form_proof(token) in page.text
    assert token not in page.text and token.removeprefix("clt_") not in page.text


def test_another_site_cannot_sign_a_visitor_in_as_somebody_else(full: FullBoard) -> None:
    body = urlencode({"name": "Ada", "password": "a long enough phrase"}).encode()
    forged = {"content-type": FORM, "sec-fetch-site": "cross-site"}
    answer = knock(full.coordinator.asgi, "POST", "/sign-in", forged, body)
    assert answer.status == 403 and "set-cookie" not in dict(answer.raw_headers)
    assert answer.header("set-cookie") == ""


def test_what_the_gate_keeps_out_would_have_been_carried_out(full: FullBoard) -> None:
    """The attack itself works: with the gate's proof taken out, the forged form ends the visitor's session."""

    def open_gate(request: Request) -> None:
        request.state.viewer = viewer_of(request)

    token = session_of(full, Role.ADMIN)
    headers, body = form(token, proof="")
    assert knock(full.coordinator.asgi, "POST", "/sign-out", headers, body).status == 403
    assert knock(with_another_gate(full, open_gate), "POST", "/sign-out", headers, body).status == 303
    assert knock(full.coordinator.asgi, "GET", "/", session(token)).status == 303


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR, Role.MEMBER])
def test_looking_at_a_page_changes_nothing(full: FullBoard, role: Role) -> None:
    """Links, images and prefetching send GET without asking anybody."""
    token = session_of(full, role)
    before = rows(full)
    for method, path in sorted(RULES):
        if method == "GET" and role in RULES[method, path]:
            answer = knock(full.coordinator.asgi, "GET", with_values(path, full.values()), session(token))
            assert answer.status < 500, path
    assert rows(full) == before


def test_a_form_is_not_sent_by_way_of_another_method(full: FullBoard) -> None:
    token = session_of(full, Role.ADMIN)
    for name in ("x-http-method-override", "x-method-override", "x-http-method"):
        knock(full.coordinator.asgi, "GET", "/", session(token) | {name: "POST"})
    override = {"_method": "POST", "proof": form_proof(token)}
    assert (
        knock(full.coordinator.asgi, "GET", f"/sign-out?{urlencode(override)}", session(token)).status == 405
    )
    assert knock(full.coordinator.asgi, "GET", "/", session(token)).status == 200

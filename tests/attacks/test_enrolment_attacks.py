"""Attacks on joining: whoever stands between, replays, races or guesses gets nothing and learns nothing."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.audit.log import entries
from coordinator.storage.database import reading
from participant.enrol import join
from shared.domain.consortium import Role
from shared.domain.errors import CommonlensError, InvitationRejected, NotTrusted, WrongAuthority
from shared.wire.problems import raise_for_problem
from tests.desk import Desk, Web, enrolment, open_desk, prepare_home, served

REJECTED = "The invitation is unknown, already used, or over."


def listening(app: ASGIApp) -> tuple[ASGIApp, list[tuple[str, bytes]]]:
    """`app`, and the method and body of everything that was ever sent to it."""
    heard: list[tuple[str, bytes]] = []

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        async def hear() -> Message:
            message = await receive()
            heard.append((scope.get("method", ""), message.get("body", b"")))
            return message

        heard.append((scope.get("method", "GET"), b""))
        await app(scope, hear if scope["type"] == "http" else receive, send)

    return listen, heard


def relay(trust: dict[str, object]) -> FastAPI:
    """A server that shows somebody else's public trust page."""
    app = FastAPI()
    app.add_api_route("/api/v1/trust", lambda: trust)
    return app


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (
            "another coordinator answers at the address",
            "Phase discovery: .*should be sha256:.* and is sha256:",
        ),
        ("another coordinator shows the right trust page", "Phase discovery: .*not of the pinned authority"),
        ("the fingerprint was mistyped", "Phase discovery: .*should be sha256:"),
        ("the CA is right and the trust document is another's", "Phase discovery: .*did not sign this trust"),
    ],
)
def test_whoever_stands_between_never_sees_the_secret(
    desk: Desk, tmp_path: Path, attack: str, sentence: str
) -> None:
    prepare_home(tmp_path / "stranger")
    stranger = open_desk(tmp_path / "stranger")
    true_page, false_page = (json.loads(d.client().get("/trust").text) for d in (desk, stranger))
    fingerprint, home = desk.fingerprint, stranger.home
    app: ASGIApp
    if attack.startswith("another coordinator answers"):
        app = stranger.app
    elif attack.startswith("another coordinator shows"):
        app = relay(true_page)
    elif attack.startswith("the fingerprint"):
        app, home, fingerprint = desk.app, desk.home, "sha256:" + "0" * 64
    else:
        app = relay(true_page | {"trust": false_page["trust"]})
    app, heard = listening(app)
    secret, member = desk.secret(), tmp_path / "member"
    with served(app, home) as url, pytest.raises(NotTrusted, match=sentence):
        join(member, url, fingerprint, secret, 100, clock=desk.clock)
    assert {method for method, _ in heard} == {"GET"}
    assert not any(secret.encode() in body for _, body in heard)
    assert not member.exists(), "nothing is made before the authority is proven"


def test_a_wrong_certificate_for_the_right_authority_is_refused(desk: Desk, tmp_path: Path) -> None:
    """A certificate that the CA gave to another host does not open this address."""
    from coordinator.members.authority import renew_server_certificate

    renew_server_certificate(desk.home, ("other.example.org",), desk.clock)
    with served(desk.app, desk.home) as url, pytest.raises(WrongAuthority, match="not for this address"):
        join(tmp_path / "member", url, desk.fingerprint, desk.secret(), 100, clock=desk.clock)


def body_of(desk: Desk, attack: str) -> dict[str, object]:
    secret = desk.secret(lifetime_s=60)
    if attack == "an expired invitation":
        desk.clock.advance(61)
    if attack == "a spent invitation":
        desk.room.members.enrol(enrolment(secret))
    if attack == "a guessed invitation":
        secret = "clj_" + "A" * 32
    if attack == "the hash of an invitation":
        import hashlib

        secret = hashlib.sha256(secret.encode()).hexdigest()
    request = enrolment(secret)
    if attack == "a replayed body":
        desk.room.members.enrol(request)
    return request.model_dump()


@pytest.mark.parametrize(
    "attack",
    [
        "an expired invitation",
        "a spent invitation",
        "a guessed invitation",
        "the hash of an invitation",
        "a replayed body",
    ],
)
def test_a_bad_invitation_is_refused_in_the_same_words_and_changes_nothing(desk: Desk, attack: str) -> None:
    body = body_of(desk, attack)
    members, actions = desk.room.members.every(), desk.audit_actions()
    response = desk.client().post("/enrolments", json=body)
    assert response.status_code == 401
    with pytest.raises(InvitationRejected, match=REJECTED):
        raise_for_problem(response)
    problem = response.json()
    assert problem["detail"].startswith(REJECTED) and "incident" not in problem
    assert desk.room.members.every() == members and desk.audit_actions() == actions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (
            "identity_public_key",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        ),  # RFC 8032
        ("declared_size", 10**6),
        ("device", "cuda: other"),
        ("software_version", "9.9"),
        ("proof", "0" * 128),
    ],
)
def test_a_body_changed_on_its_way_is_refused_and_spends_nothing(
    desk: Desk, field: str, value: object
) -> None:
    body = enrolment(desk.secret()).model_dump()
    response = desk.client().post("/enrolments", json=body | {field: value})
    assert response.json()["code"] == "not-trusted.signature"
    assert desk.room.members.every() == []
    assert desk.client().post("/enrolments", json=body).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("secret", "clj_" + "x" * 5000),
        ("node_public_key_pem", "x" * 5000),
        ("device", "x" * 5000),
        ("device", "a\x1b[2Jb"),
        ("declared_size", -1),
        ("declared_size", 10**13),
        ("declared_size", True),
        ("declared_size", "100"),
        ("identity_public_key", "A" * 64),
        ("extra", "field"),
    ],
)
def test_oversized_odd_or_extra_fields_are_refused(desk: Desk, field: str, value: object) -> None:
    body = enrolment(desk.secret()).model_dump() | {field: value}
    assert desk.client().post("/enrolments", json=body).json()["code"] == "invalid.message"


def test_of_two_racing_joins_with_one_secret_one_gets_in(desk: Desk) -> None:
    secret = desk.secret()
    bodies = [enrolment(secret).model_dump() for _ in range(4)]
    answers: list[int] = []
    together = threading.Barrier(len(bodies))
    with served(desk.app, desk.home) as url:

        def race(body: dict[str, object]) -> None:
            import ssl

            context = ssl.create_default_context(cadata=desk.room.authority.ca_pem())
            with httpx.Client(base_url=url, verify=context) as client:
                together.wait()
                answers.append(client.post("/api/v1/enrolments", json=body).status_code)

        threads = [threading.Thread(target=race, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [200, 401, 401, 401]
    assert len(desk.room.members.every()) == 1 and len(desk.nodes.allowed) == 1


def test_no_secret_is_in_any_log_record_error_or_audit_line(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    admin_token = desk.person(Role.ADMIN)
    texts: list[str] = []
    with served(desk.app, desk.home) as url:
        secret = desk.secret()
        link = join(
            tmp_path / "member",
            url,
            desk.fingerprint,
            secret,
            100,
            on_phase=lambda phase, found: texts.append(found),
            clock=desk.clock,
        )
        with pytest.raises(CommonlensError) as caught:
            join(tmp_path / "second", url, desk.fingerprint, secret, 100, clock=desk.clock)
        texts.append(str(caught.value))
        texts.append(repr(caught.value.__cause__))
        texts.append(desk.client().post("/enrolments", json={"secret": secret}).text)
    with reading(desk.room.engine) as connection:
        texts.extend(repr(event) for event in entries(connection))
    texts.append(caplog.text)
    texts.append(desk.client(admin_token).get("/invitations").text)
    texts.append(desk.client(admin_token).get("/members").text)
    texts.append(repr(enrolment(secret)))
    for hidden in (secret, link.token, admin_token):
        assert not any(hidden in text for text in texts)


def test_guessing_invitations_is_slowed_down(desk: Desk) -> None:
    limit = desk.room.config.limits.enrolment_attempts
    body = enrolment(desk.secret()).model_dump()
    for _ in range(limit):
        guess = enrolment("clj_" + "A" * 32).model_dump()
        assert desk.client().post("/enrolments", json=guess).status_code == 401
    response = desk.client().post("/enrolments", json=body)
    assert response.status_code == 429 and response.json()["code"] == "refused.too-many-attempts"
    desk.clock.advance(desk.room.config.limits.attempts_window_s)
    assert desk.client().post("/enrolments", json=body).status_code == 200


def test_an_invitation_cannot_be_made_without_being_an_admin(desk: Desk) -> None:
    member, auditor = desk.member().token, desk.person(Role.AUDITOR)
    for token, status in (("", 401), ("clt_" + "x" * 43, 401), (member, 403), (auditor, 403)):
        response = Web(desk.app, {"authorization": f"Bearer {token}"} if token else {}).post(
            "/invitations", json={"member_name": "Friend"}
        )
        assert response.status_code == status

"""People and tokens: sessions end, roles hold, and the routes do what their table says."""

from __future__ import annotations

import stat

import pytest

from coordinator.audit.log import entries
from coordinator.members.accounts import bootstrap_admin
from coordinator.members.rate_limit import MAXIMUM_KEYS, AttemptLimiter
from coordinator.storage.database import reading
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.consortium import Role
from shared.domain.errors import (
    AlreadyExists,
    DefaultPassword,
    InvalidMessage,
    NotAllowed,
    NotFound,
    SignInFailed,
    TooManyAttempts,
)
from shared.release.authority import ca_fingerprint
from tests.desk import PASSWORD, Desk, enrolment


def test_a_person_signs_in_works_and_signs_out(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    reply = desk.client().post("/sessions", json={"name": "ada", "password": PASSWORD}).json()
    ada = desk.client(reply["token"])
    assert reply["role"] == "admin" and ada.get("/members").status_code == 200
    assert ada.delete("/sessions").status_code == 204
    assert ada.get("/members").json()["code"] == "not-trusted.sign-in"


def test_a_session_ends_when_it_said(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    _, token, _ = desk.room.accounts.sign_in("ada", PASSWORD, 60)
    assert desk.client(token).get("/members").status_code == 200
    desk.clock.advance(60)
    assert desk.client(token).get("/members").status_code == 401


def test_a_new_password_ends_every_session(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    _, token, _ = desk.room.accounts.sign_in("ada", PASSWORD, 60)
    desk.room.accounts.set_password("ada", "another long phrase", "operator")
    assert desk.client(token).get("/members").status_code == 401
    with pytest.raises(SignInFailed):
        desk.room.accounts.sign_in("ada", PASSWORD, 60)
    desk.room.accounts.sign_in("ada", "another long phrase", 60)


def test_an_account_that_was_removed_is_out_at_once_and_leaves_its_lines(desk: Desk) -> None:
    accounts = desk.room.accounts
    account = accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    issued = accounts.issue_token("ada", 600, "operator")
    _, session, _ = accounts.sign_in("ada", PASSWORD, 60)
    accounts.second_factors.begin(account.id, "ada", "Testing")
    accounts.remove("ada", "operator")
    assert [desk.client(token).get("/members").status_code for token in (issued, session)] == [401, 401]
    with pytest.raises(SignInFailed):
        accounts.sign_in("ada", PASSWORD, 60)
    with pytest.raises(NotFound):
        accounts.remove("ada", "operator")
    with reading(desk.room.engine) as connection:
        lines = [(line.action, line.subject) for line in entries(connection)]
    assert lines[-1] == ("account.removed", account.id) and ("account.created", account.id) in lines
    again = accounts.create("ada", Role.AUDITOR, PASSWORD, "operator")
    assert again.id != account.id and not accounts.second_factors.of(again.id).on


def test_the_commands_own_account_is_not_removed(desk: Desk) -> None:
    bootstrap_admin(desk.home, desk.room.accounts)
    with pytest.raises(NotAllowed, match="Nothing was removed"):
        desk.room.accounts.remove("admin", "operator")
    assert [account.name for account in desk.room.accounts.every()] == ["admin"]


def test_a_wrong_name_and_a_wrong_password_sound_alike(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    desk.room.accounts.create("bot", Role.AUDITOR, None, "operator")
    words = set()
    for name, password in (("ada", "wrong"), ("nobody", PASSWORD), ("bot", PASSWORD)):
        with pytest.raises(SignInFailed) as caught:
            desk.room.accounts.sign_in(name, password, 60)
        words.add(caught.value.message)
    assert len(words) == 1


def test_accounts_have_names_of_their_own_and_real_passwords(desk: Desk) -> None:
    desk.room.accounts.create("ada", Role.ADMIN, PASSWORD, "operator")
    with pytest.raises(AlreadyExists, match="already an account ada"):
        desk.room.accounts.create("ada", Role.AUDITOR, None, "operator")
    with pytest.raises(InvalidMessage, match="at least 12 characters; this one has 5"):
        desk.room.accounts.create("eve", Role.AUDITOR, "short", "operator")
    with pytest.raises(DefaultPassword, match="well known"):
        desk.room.accounts.create("eve", Role.AUDITOR, "ChangeMe", "operator")
    with pytest.raises(NotFound, match="no account of this name"):
        desk.room.accounts.set_password("eve", PASSWORD, "operator")


def test_the_first_admin_has_a_token_file_and_no_password(desk: Desk) -> None:
    path = bootstrap_admin(desk.home, desk.room.accounts)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert desk.client(path.read_text().strip()).get("/members").status_code == 200
    assert not desk.room.accounts.every()[0].has_password
    desk.room.accounts.refuse_default_passwords()


def test_a_lost_admin_token_file_is_made_again(desk: Desk) -> None:
    bootstrap_admin(desk.home, desk.room.accounts).unlink()
    path = bootstrap_admin(desk.home, desk.room.accounts)
    assert desk.client(path.read_text().strip()).get("/members").status_code == 200
    assert len(desk.room.accounts.every()) == 1


def test_a_new_token_ends_the_one_that_was_lost(desk: Desk) -> None:
    lost = desk.person(Role.AUDITOR)
    found = desk.room.accounts.issue_token("the auditor", 60, "operator")
    assert desk.client(lost).get("/members").status_code == 401
    assert desk.client(found).get("/members").status_code == 200
    assert desk.audit_actions()[-1] == "token.issued"


def test_the_public_page_of_trust_says_what_a_newcomer_needs(desk: Desk) -> None:
    reply = desk.client().get("/trust").json()
    assert ca_fingerprint(reply["ca_pem"]) == desk.fingerprint
    assert set(reply) == {"ca_pem", "trust", "coordinator_time", "version", "protocol"}
    assert desk.client().get("/health").json()["status"] == "ok"


def test_an_admin_invites_and_sees_what_became_of_it(desk: Desk) -> None:
    admin = desk.client(desk.person(Role.ADMIN))
    made = admin.post("/invitations", json={"member_name": "North", "purpose": "use"})
    assert made.status_code == 201
    assert made.json()["ca_fingerprint"] == desk.fingerprint and made.json()["url"].startswith("https://")
    assert admin.get("/invitations").json()[0]["spent_at"] is None
    body = enrolment(made.json()["secret"], size=0).model_dump()
    reply = desk.client().post("/enrolments", json=body)
    assert reply.status_code == 200 and reply.json()["consortium"] == "Testing"
    assert admin.get("/invitations").json()[0]["spent_at"] is not None
    assert "secret" not in admin.get("/invitations").text
    listed = admin.get("/members").json()
    assert [(m["name"], m["purpose"], m["state"]) for m in listed] == [("North", "use", "active")]


def test_a_restarted_node_frees_its_own_connection_only(desk: Desk) -> None:
    north, _south = desk.member("North"), desk.member("South")
    assert desk.client(north.token).post("/node/restarted").status_code == 204
    assert desk.nodes.calls[-1] == ("free_node", north.member_id)
    assert desk.client(desk.person(Role.ADMIN)).post("/node/restarted").status_code == 403


def test_the_audit_page_says_whether_its_lines_hold(desk: Desk) -> None:
    auditor = desk.client(desk.person(Role.AUDITOR))
    desk.member()
    page = auditor.get("/audit", params={"after": 1, "limit": 2}).json()
    assert page["intact"] and [entry["seq"] for entry in page["entries"]] == [2, 3]
    head = page["head_seq"]
    for after in (0, head, head + 7):
        assert auditor.get("/audit", params={"after": after}).json()["intact"], after
    with desk.room.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE audit_events SET actor = 'nobody' WHERE seq = 2")
    page = auditor.get("/audit").json()
    assert not page["intact"] and "broken at line 2" in page["fault"]
    assert not auditor.get("/audit", params={"after": 1, "limit": 1}).json()["intact"]
    assert auditor.get("/audit", params={"after": 2}).json()["intact"]


@pytest.mark.parametrize("after", [0, 1])
def test_the_audit_page_says_that_the_newest_lines_were_cut(desk: Desk, after: int) -> None:
    auditor = desk.client(desk.person(Role.AUDITOR))
    desk.member()
    with desk.room.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM audit_events WHERE seq > 1")
    assert "found 1 that hold together" in auditor.get("/audit", params={"after": after}).json()["fault"]


def test_a_limiter_counts_failures_within_its_window() -> None:
    clock = FixedClock(SystemClock().now())
    limiter = AttemptLimiter(clock, limit=2, window_s=60)

    def fail() -> None:
        with pytest.raises(SignInFailed), limiter.attempt("a"):
            raise SignInFailed("no")

    for _ in range(20):
        with limiter.attempt("a"):
            pass
    fail()
    fail()
    with pytest.raises(TooManyAttempts, match="2 attempts failed.*Wait 61 seconds"), limiter.attempt("a"):
        raise AssertionError("not reached")
    with limiter.attempt("b"):
        pass
    clock.advance(60)
    with limiter.attempt("a"):
        pass


def test_attempts_at_the_same_moment_cannot_slip_under_the_limit() -> None:
    limiter = AttemptLimiter(FixedClock(SystemClock().now()), limit=2, window_s=60)
    with limiter.attempt("a"), limiter.attempt("a"), pytest.raises(TooManyAttempts), limiter.attempt("a"):
        raise AssertionError("not reached")


def test_a_limiters_memory_is_bounded() -> None:
    limiter = AttemptLimiter(FixedClock(SystemClock().now()), limit=2, window_s=60)
    for number in range(MAXIMUM_KEYS + 50):
        with pytest.raises(SignInFailed), limiter.attempt(str(number)):
            raise SignInFailed("no")
    for number in range(MAXIMUM_KEYS + 50):
        for _ in range(2):
            with pytest.raises(SignInFailed), limiter.attempt(f"name:{number}"):
                raise SignInFailed("no")
    assert all(len(table) <= 2 * MAXIMUM_KEYS for table in limiter._tables.values())


def test_what_was_not_looked_at_is_not_counted() -> None:
    limiter = AttemptLimiter(FixedClock(SystemClock().now()), limit=2, window_s=60)
    for _ in range(5):
        with pytest.raises(TooManyAttempts, match="busy"), limiter.attempt("a", "b"):
            raise TooManyAttempts("busy")


def test_a_key_that_was_blocked_counts_anew_after_its_window() -> None:
    clock = FixedClock(SystemClock().now())
    limiter = AttemptLimiter(clock, limit=2, window_s=60)

    def fail() -> None:
        with pytest.raises(SignInFailed), limiter.attempt("a"):
            raise SignInFailed("no")

    for _ in range(3):
        fail()
        clock.advance(30)
        fail()
        with pytest.raises(TooManyAttempts), limiter.attempt("a"):
            raise AssertionError("not reached")
        clock.advance(60)
    with limiter.attempt("a"), limiter.attempt("a"), pytest.raises(TooManyAttempts), limiter.attempt("a"):
        raise AssertionError("not reached")
    with limiter.attempt("a"):
        pass

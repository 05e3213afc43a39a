"""A key that was swapped in the database: who is told, what still goes on, and when it is over."""

from __future__ import annotations

import re

import pytest

from coordinator.runs.service import RunService
from coordinator.storage.database import writing
from coordinator.storage.tables import members
from shared.domain.consortium import MemberState, Purpose
from shared.domain.plan import PlanMember
from shared.release.certificate import sign_consent
from shared.release.fingerprint import fingerprint
from shared.release.signing import SigningKey
from tests.dashboard_kit import Board, Browser, board, words
from tests.desk import enrolment
from tests.plans import small_plan

assert board  # the fixture

OWN = SigningKey.generate().public_hex
JOINS = (Purpose.CONTRIBUTE, "operator")


def put(board: Board, **values: str) -> None:
    """Into North's row, beside the coordinator."""
    with writing(board.room.engine) as db:
        db.execute(members.update().where(members.c.id == board.member.member_id).values(**values))


@pytest.fixture
def swapped(board: Board) -> str:
    """The key that was signed; South is there too."""
    board.room.members.enrol(enrolment(board.room.invitations.invite("South", *JOINS)[1]))
    signed = board.room.members.get(board.member.member_id).identity_public_key
    put(board, identity_public_key=OWN)
    return signed


def waiting(browser: Browser) -> str:
    found = re.search(r'id="waiting">(.*?)</section>', browser.get("/").text, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def api(board: Board, name: str) -> tuple[Browser, dict[str, str]]:
    return board.browser(), {
        "authorization": f"Bearer {board.room.accounts.issue_token(name, 600, 'operator')}"
    }


def test_overseers_are_told_first_of_all_what_is_otherwise_and_what_to_do(board: Board, swapped: str) -> None:
    board.room.invitations.invite("East", *JOINS)
    alarm = "North has another key in the database: restore it from a backup, or revoke it"
    for name in ("Ada", "Otto"):
        browser = board.browser(name)
        assert waiting(browser).startswith(alarm)
        said = words(browser.get("/"))
        assert "Roll failed not in the database as on the signed roll: North; nobody can join until" in said
        assert "has another key in the database: look at it" in words(browser.get("/members"))
    assert "another key" not in waiting(board.member_browser())


def test_page_of_the_member_shows_what_was_signed_and_beside_it_what_was_found(
    board: Board, swapped: str
) -> None:
    page = board.browser("Ada").get(f"/members/{board.member.member_id}")
    said = words(page)
    assert "This member has another key in the database. There it is North, key " + OWN in said.replace(
        " ,", ","
    )
    assert fingerprint(swapped) in said and fingerprint(OWN) not in said
    browser, headers = api(board, "Otto")
    listed = browser.get("/api/v1/members", headers=headers).json()
    one = browser.get(f"/api/v1/members/{board.member.member_id}", headers=headers).json()
    for found in (one, next(line for line in listed if line["id"] == board.member.member_id)):
        assert found["differs"] == "has another key in the database"
        assert found["identity_public_key"] == swapped
    assert [line["differs"] for line in listed if line["name"] == "South"] == [""]


def test_others_are_suspended_and_resumed_meanwhile_and_it_is_revoked_by_its_own_name(
    board: Board, swapped: str
) -> None:
    ada, north = board.browser("Ada"), f"/members/{board.member.member_id}"
    south = f"/members/{next(m.id for m in board.room.members.every() if m.name == 'South')}"
    for action in ("suspend", "resume"):
        assert ada.post(f"{south}/{action}").status_code == 303
    assert ada.post(f"{north}/suspend").status_code == 303
    assert f'action="{north}/resume"' not in ada.get(north).text
    refused = ada.post(f"{north}/resume")
    assert refused.status_code == 401 and "was not let in" in words(refused)
    put(board, name="Mouse")
    assert ada.post(f"{north}/revoke", name="Mouse").status_code == 422
    assert ada.post(f"{north}/revoke", name="North").status_code == 303
    assert board.room.members.get(board.member.member_id).state is MemberState.REVOKED
    said = words(ada.get("/"))
    assert "Roll well the database has everybody as on the signed roll" in said
    assert waiting(ada) == "Nothing waits for anybody."


def test_consent_is_taken_under_the_key_that_was_signed_and_under_no_other(board: Board) -> None:
    identity, own = SigningKey.generate(), SigningKey.generate()
    secret = board.room.invitations.invite("South", *JOINS)[1]
    south = board.room.members.enrol(enrolment(secret, identity))
    plan = small_plan(members=(PlanMember(south.member_id, 5000),))
    runs: RunService = board.coordinator.control.state.runs
    runs.store.add_plan(plan, "account:Ada", "none")
    with writing(board.room.engine) as db:
        row = members.c.id == south.member_id
        db.execute(members.update().where(row).values(identity_public_key=own.public_hex))
    for key, status in ((own, 401), (identity, 201)):
        signature = sign_consent(plan, south.member_id, "South", key).signature
        answer = board.browser().request(
            "POST",
            f"/api/v1/plans/{plan.digest}/consents",
            json={"signature": signature},
            headers={"authorization": f"Bearer {south.token}"},
        )
        assert answer.status_code == status, answer.text


def test_alarm_ends_when_the_row_is_right_again_and_organisations_join_again(
    board: Board, swapped: str
) -> None:
    secret = board.room.invitations.invite("East", *JOINS)[1]
    body = enrolment(secret).model_dump()
    refused = board.browser().request("POST", "/api/v1/enrolments", json=body)
    assert refused.status_code == 401 and refused.json()["code"] == "not-trusted.key-replaced"
    assert "the invitation is not spent" in refused.json()["detail"] and "North" not in refused.text
    put(board, identity_public_key=swapped)
    assert board.browser().request("POST", "/api/v1/enrolments", json=body).status_code == 200
    assert waiting(board.browser("Ada")) == "Nothing waits for anybody."

"""Someone joins under a name that people take for another organisation's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordinator.members.invitations import insert_invitation
from coordinator.members.names import refuse_alike, refuse_mixed
from coordinator.storage.database import writing
from shared.domain.clock import to_text
from shared.domain.consortium import Purpose, Role
from shared.domain.errors import AlreadyExists, InvalidMessage
from shared.domain.ids import InvitationId
from shared.domain.invitation import Invitation, hash_secret, new_secret
from tests.desk import Desk, enrolment

CYRILLIC = {
    "one letter of another script": "N\u043erth",
    "several": "\u041dorth \u0391B",
}
ALIKE = {
    "case": ("St Anna", "ST ANNA"),
    "one for l": ("Clinic l", "Clinic 1"),
    "I for l": ("Allgemeine", "AIIgemeine"),
    "nought for O": ("Oslo", "0slo"),
    "rn for m": ("Bremen", "Brernen"),
    "all in Cyrillic letters": ("COP", "\u0421\u041e\u0420"),
    "all in Greek letters": ("ABB", "\u0391\u0392\u0392"),
    "wide letters": ("North", "\uff2eorth"),
    "signs between": ("St Anna", "St. Anna"),
}
DIFFERENT = [
    ("Org 1", "Org 2"),
    ("Klinikum Süd", "Klinikum Nord"),
    ("Больница 1", "Больница 2"),
    ("東京病院", "京都病院"),
    ("North", "North East"),
]


def old_secret(desk: Desk, name: str) -> str:
    """Of an invitation that was made before names were looked at."""
    secret = new_secret()
    ends = to_text(desk.clock.now() + timedelta(days=1))
    made = Invitation(
        InvitationId("inv_0123456789ab"), name, Purpose.CONTRIBUTE, hash_secret(secret), ends, None
    )
    with writing(desk.room.engine) as connection:
        insert_invitation(connection, made, "operator", to_text(desk.clock.now()))
    return secret


@pytest.mark.parametrize("attack", CYRILLIC)
def test_word_of_two_scripts_is_refused_at_the_invitation_and_at_the_door(desk: Desk, attack: str) -> None:
    name = CYRILLIC[attack]
    with pytest.raises(InvalidMessage, match="of the name mixes .* letters, which look alike"):
        desk.secret(name)
    with pytest.raises(InvalidMessage, match="of the name mixes"):
        desk.room.members.enrol(enrolment(old_secret(desk, name)))
    assert desk.room.members.every() == []


@pytest.mark.parametrize("attack", ALIKE)
def test_name_that_looks_like_a_members_is_refused_at_the_invitation_and_at_the_door(
    desk: Desk, attack: str
) -> None:
    there, name = ALIKE[attack]
    desk.member(there)
    with pytest.raises(AlreadyExists, match=f"The name {name} looks like {there}"):
        desk.secret(name)
    secret = old_secret(desk, name)
    with pytest.raises(AlreadyExists, match=f"looks like {there}"):
        desk.room.members.enrol(enrolment(secret))
    assert [m.name for m in desk.room.members.every()] == [there]
    assert [line.invitation.member_name for line in desk.room.invitations.open()] == [name], "it is not spent"


def test_name_is_compared_with_open_invitations_and_with_members_that_were_revoked(desk: Desk) -> None:
    desk.secret("North")
    with pytest.raises(AlreadyExists, match="N0RTH looks like North"):
        desk.secret("N0RTH")
    south = desk.member("South")
    desk.room.members.revoke(south.member_id, "operator")
    with pytest.raises(AlreadyExists, match="S0uth looks like South"):
        desk.secret("S0uth")


def test_organisation_that_comes_back_or_asks_again_keeps_its_name(desk: Desk) -> None:
    desk.secret("North")
    north = desk.member("North")
    desk.room.members.revoke(north.member_id, "operator")
    assert desk.member("North").member_id != north.member_id


def test_admin_is_told_on_the_api_why_nobody_was_invited(desk: Desk) -> None:
    desk.member("North")
    admin = desk.client(desk.person(Role.ADMIN))
    answer = admin.post("/invitations", json={"member_name": "N0rth"})
    assert answer.status_code == 409 and "looks like North" in answer.json()["detail"]
    answer = admin.post("/invitations", json={"member_name": CYRILLIC["several"]})
    assert answer.status_code == 422 and "mixes Cyrillic and Latin letters" in answer.json()["detail"]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_names_that_differ_are_let_through(first: str, second: str) -> None:
    refuse_mixed(first)
    refuse_mixed(second)
    refuse_alike(second, [first])

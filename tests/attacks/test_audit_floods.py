"""A member that is let in fills the audit log, or asks it what its lines say."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.audit.log import hash_at, read_head
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import audit_countersignatures
from participant.audit_heads import countersign
from shared.domain.consortium import Role
from shared.domain.errors import TooManyAttempts
from shared.wire.audit import KIND, CountersignatureRequest, SignedHead
from tests.audit_kit import HeadOfDesk, sign_head, source_of
from tests.desk import Desk
from tests.roll_kit import Joined, joined

HOUR_S = 3600.0


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    return joined(desk, tmp_path / "members", "North")


def lines(desk: Desk) -> int:
    with reading(desk.room.engine) as connection:
        return read_head(connection).seq


def test_a_member_cannot_fill_the_log_with_sign_in_links(desk: Desk) -> None:
    node, other = desk.client(desk.member().token), desk.client(desk.member("South").token)
    before = lines(desk)
    codes = [node.post("/node/sign-in-link").status_code for _ in range(200)]
    assert set(codes) == {201, 429} and codes.count(201) == lines(desk) - before <= 30
    refused = node.post("/node/sign-in-link").json()
    assert refused["code"] == "refused.too-many-attempts"
    assert "30 sign-in links in an hour" in refused["detail"] and "Wait 3600 seconds." in refused["detail"]
    assert other.post("/node/sign-in-link").status_code == 201, "one member's flood is not another's"
    desk.clock.advance(HOUR_S)
    assert node.post("/node/sign-in-link").status_code == 201


def test_a_member_cannot_fill_the_log_with_versions_of_its_software(desk: Desk) -> None:
    node = desk.client(desk.member().token)
    before = lines(desk)
    answers = [node.post("/node/report", json={"software_version": f"1.0.{n}"}) for n in range(100)]
    assert {answer.status_code for answer in answers} == {204, 429} and lines(desk) - before <= 12
    assert "12 changes of software in an hour" in answers[-1].json()["detail"]


def test_a_node_that_reports_its_budget_again_and_again_is_never_refused(desk: Desk) -> None:
    node = desk.client(desk.member().token)
    for share in range(100):
        body = {"software_version": "0.1.0", "budget": {"share": share / 100, "epsilon": 1.0, "delta": 1e-5}}
        assert node.post("/node/report", json=body).status_code == 204


def test_a_member_cannot_fill_the_table_of_countersignatures(desk: Desk, north: Joined) -> None:
    source, statuses = source_of(desk, north), []
    for number in range(100):
        desk.secret(f"Other {number}")
        with reading(desk.room.engine) as connection:
            head = read_head(connection)
        try:
            source.send_countersignature(_signed(north, head.seq, head.hash))
            statuses.append(204)
        except TooManyAttempts as error:
            assert "60 countersignatures in an hour" in error.message
            statuses.append(429)
    assert statuses.count(204) == 60 and statuses.count(429) == 40


def test_a_node_that_restarts_all_day_hands_the_same_signature_in_each_time(
    desk: Desk, north: Joined
) -> None:
    for _ in range(200):
        sign_head(desk, north)


def test_a_member_asks_only_for_lines_that_it_countersigned_itself(desk: Desk, north: Joined) -> None:
    sign_head(desk, north)
    signed = lines(desk)
    south = desk.client(desk.member("South").token)
    node = source_of(desk, north).web
    for seq in range(1, lines(desk) + 1):
        assert south.get("/audit/head", params={"earlier": seq}).json()["earlier_hash"] is None
        found = node.get("/audit/head", params={"earlier": seq}).json()["earlier_hash"]
        assert (found is not None) == (seq == signed)
    for role in (Role.ADMIN, Role.AUDITOR):
        found = desk.client(desk.person(role)).get("/audit/head", params={"earlier": 1}).json()
        assert found["earlier_hash"].startswith("sha256:")


def test_a_countersignature_that_does_not_fit_learns_no_hash_of_the_log(desk: Desk, north: Joined) -> None:
    request = _signed(north, 1, "sha256:" + "ab" * 32)
    answer = source_of(desk, north).web.post("/audit/countersignatures", json=request.model_dump())
    with reading(desk.room.engine) as connection:
        assert hash_at(connection, 1) not in answer.text
    assert "was not kept" in answer.json()["detail"]


def test_guesses_at_a_line_are_counted_like_countersignatures(desk: Desk, north: Joined) -> None:
    web = source_of(desk, north).web
    codes = [
        web.post(
            "/audit/countersignatures", json=_signed(north, 1, f"sha256:{n:064x}").model_dump()
        ).status_code
        for n in range(100)
    ]
    assert codes.count(429) == 40


def test_what_was_signed_and_never_arrived_is_no_alarm_when_the_log_has_grown(
    desk: Desk, north: Joined
) -> None:
    class Deaf(HeadOfDesk):
        def send_countersignature(self, request: CountersignatureRequest) -> None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        countersign(north.home, Deaf(source_of(desk, north).web), desk.clock)
    desk.secret("South")
    sign_head(desk, north)
    with reading(desk.room.engine) as connection:
        kept = connection.execute(audit_countersignatures.select()).all()
    assert len(kept) == 2, "the lost one was handed in, then the new one"


def test_a_database_put_back_to_before_the_countersignatures_is_no_alarm(desk: Desk, north: Joined) -> None:
    sign_head(desk, north)
    with writing(desk.room.engine) as connection:
        connection.execute(audit_countersignatures.delete())
    desk.secret("South")
    sign_head(desk, north)


def _signed(member: Joined, seq: int, digest: str) -> CountersignatureRequest:
    head = SignedHead(member_id=member.member_id, seq=seq, hash=digest, at="2026-11-21T12:00:00Z")
    signature = member.identity.sign_value(KIND, head.model_dump())
    return CountersignatureRequest(seq=seq, hash=digest, at=head.at, signature=signature)

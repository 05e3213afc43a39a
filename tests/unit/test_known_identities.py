"""Identities that are kept between rounds: whatever the operator or the roll changes counts at the next round."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from participant.approvals import forget
from participant.known_identities import KnownIdentities
from participant.peers import approve, waiting
from participant.roll import refresh_roll
from shared.domain.errors import Expired, NotFound
from shared.release.signing import SigningKey
from tests.desk import Desk, enrolment
from tests.roll_kit import Joined, RollOfDesk, joined, secure_plan


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    return joined(desk, tmp_path, "North")


def enrol(desk: Desk, name: str) -> str:
    return desk.room.members.enrol(enrolment(desk.secret(name), SigningKey.generate())).member_id


def test_roll_and_approvals_count_as_they_are_at_each_round(desk: Desk, north: Joined) -> None:
    south, known = enrol(desk, "South"), KnownIdentities(north.home, desk.clock)
    plan = secure_plan((north.member_id, "North"), (south, "South"))
    with pytest.raises(NotFound, match="not seen the consortium's roll"):
        known.of(plan)
    refresh_roll(north.home, RollOfDesk(desk), desk.clock)
    assert set(known.of(plan)) == {north.member_id}
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    both = known.of(plan)
    assert set(both) == {north.member_id, south}
    assert known.of(plan) is both, "nothing changed, so nothing is read"
    assert set(known.of(secure_plan((north.member_id, "North")))) == {north.member_id}
    forget(north.home, "South")
    assert set(known.of(plan)) == {north.member_id}
    approve(north.home, waiting(north.home, desk.clock), desk.clock)
    desk.room.members.revoke(south, "operator")
    assert set(known.of(plan)) == {north.member_id, south}, "not fetched yet"
    refresh_roll(north.home, RollOfDesk(desk), desk.clock)
    assert set(known.of(plan)) == {north.member_id}


def test_kept_roll_expires_as_one_that_is_read(desk: Desk, north: Joined) -> None:
    known, plan = KnownIdentities(north.home, desk.clock), secure_plan((north.member_id, "North"))
    refresh_roll(north.home, RollOfDesk(desk), desk.clock)
    known.of(plan)
    desk.clock.advance(timedelta(days=4000).total_seconds())
    with pytest.raises(Expired, match="was valid until"):
        known.of(plan)

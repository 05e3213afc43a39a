"""Plans and their consents are read as far as somebody asks, and built once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from coordinator.runs import proposals
from coordinator.runs.proposals import (
    STILL_IN,
    consent_counts,
    consented_by,
    every_plan,
    every_proposal,
    one_proposal,
    still_open,
)
from coordinator.runs.service import RunService
from coordinator.storage import tables
from coordinator.storage.database import writing
from shared.domain.errors import NotFound
from shared.domain.plan import PlanMember
from tests.dashboard_kit import Board, board, words
from tests.plans import members, small_plan

assert board  # the fixture


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    sa.event.listen(engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def digests(board: Board) -> list[str]:
    """Three plans for North, which consented to the second, from which a run began."""
    runs: RunService = board.coordinator.control.state.runs
    north = PlanMember(board.member.member_id, 5000)
    found = []
    for rounds in (71, 72, 73):
        plan = small_plan(members=(north, *members(2, 1000)), rounds=rounds, quorum=1, sampling_rate=0.01)
        runs.store.add_plan(plan, "operator", "none")
        found.append(str(plan.digest))
    runs.store.add_consent(found[1], north.member_id, "signature")
    runs.store.create_run(found[1], "operator")
    return found


def test_plans_are_built_once_and_their_bodies_are_read_once(board: Board, digests: list[str]) -> None:
    engine = board.room.engine
    first = every_plan(engine)
    assert sorted(one.digest for one in first) == sorted(digests)
    with statements(engine) as asked:
        again = every_plan(engine)
    assert all(one.plan is other.plan for one, other in zip(first, again, strict=True))
    assert not any("body" in statement for statement in asked)


def test_plan_whose_row_was_tampered_with_is_not_kept_under_its_digest(
    board: Board, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "_BUILT", {})
    with writing(board.room.engine) as db:
        where = tables.plans.c.digest == digests[0]
        body = db.execute(sa.select(tables.plans.c.body).where(where)).scalar_one()
        db.execute(tables.plans.update().where(where).values(body=body.replace('"rounds":71', '"rounds":7')))
    every_plan(board.room.engine)
    assert set(proposals._BUILT) == set(digests[1:])


def test_full_store_of_built_plans_keeps_what_it_has(
    board: Board, digests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "_BUILT", {})
    monkeypatch.setattr(proposals, "MOST_KEPT", 2)
    assert len(every_plan(board.room.engine)) == len(every_plan(board.room.engine)) == 3
    assert len(proposals._BUILT) == 2


def test_counts_and_consents_are_those_of_the_rows(board: Board, digests: list[str]) -> None:
    engine, north = board.room.engine, board.member.member_id
    assert consent_counts(engine) == consent_counts(engine, of=STILL_IN) == {digests[1]: 1}
    assert consented_by(engine, north) == {digests[1]}
    by_digest = {one.digest: one for one in every_proposal(engine)}
    assert [by_digest[digest].given for digest in digests] == [0, 1, 0]
    assert one_proposal(engine, digests[1]).consents == by_digest[digests[1]].consents
    board.room.members.suspend(north, "operator")
    assert consent_counts(engine) == {} and consent_counts(engine, of=STILL_IN) == {digests[1]: 1}
    board.room.members.revoke(north, "operator")
    assert consent_counts(engine) == consent_counts(engine, of=STILL_IN) == {}
    found = one_proposal(engine, digests[1])
    assert (found.given, found.uncounted, list(found.consents)) == (0, {north: "revoked"}, [north])
    assert north not in one_proposal(engine, digests[0]).missing
    with pytest.raises(NotFound):
        one_proposal(engine, "sha256:no")


def test_plan_is_open_while_no_run_began_and_a_quorum_is_still_in(board: Board, digests: list[str]) -> None:
    every = every_plan(board.room.engine)
    left = still_open(every, {digests[1]}, ())
    board.coordinator.control.state.runs.withdraw(digests[2], "operator")
    now = still_open(every_plan(board.room.engine), {digests[1]}, ())
    assert [one.digest for one in now] == [digests[0]]
    assert sorted(one.digest for one in left) == sorted([digests[0], digests[2]])
    assert still_open(every, (), {m.member_id for m in every[0].plan.members}) == []


def test_pages_read_no_consents_of_plans_that_a_run_began_from(board: Board, digests: list[str]) -> None:
    browser = board.browser("Ada")
    for path in ("/", "/plans", "/members", f"/plans/compare?a={digests[0]}"):
        with statements(board.room.engine) as asked:
            assert browser.get(path).status_code == 200
        assert sum("SELECT plans.digest, plans.proposed_by" in one for one in asked) <= 1, path
    with statements(board.room.engine) as asked:
        page = browser.get("/plans")
    of_members = [one for one in asked if "consents.member_id" in one and "count" not in one]
    assert len(of_members) == 1 and of_members[0].count("?") <= 2
    assert "1 of 3" in words(page) and "missing: North , mem_0 , mem_1" in words(page)

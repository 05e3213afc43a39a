"""The store of plans, runs and rounds keeps its promises on every database."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from coordinator.audit.log import entries, verify_chain
from coordinator.members.store import insert_member
from coordinator.runs.proposals import every_plan
from coordinator.runs.publish_jobs import PublishJobs
from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.store import RunStore
from coordinator.storage.database import reading, writing
from shared.domain.clock import FixedClock, from_text
from shared.domain.consortium import Member, MemberState, Node, Purpose
from shared.domain.errors import IllegalMove
from shared.domain.ids import MemberId
from shared.domain.run import RoundState, RunState
from shared.domain.update import Contribution, ContributionHeader, ValidationCounts
from tests.unit.test_cohort import PLAN

DIGEST, MEMBER = str(PLAN.digest), "mem_00000000000a"
CHECKPOINT = "sha256:" + "c" * 64


@pytest.fixture
def store(engine: sa.Engine) -> RunStore:
    store = RunStore(engine, FixedClock(from_text("2026-11-21T12:00:00Z")))
    node = Node("PEM", "cpu", "0.1.0")
    enrolled = "2026-11-21T11:00:00Z"
    member = Member(
        MemberId(MEMBER), "A", Purpose.CONTRIBUTE, MemberState.ACTIVE, "a" * 64, 100, node, enrolled
    )
    with writing(engine) as connection:
        insert_member(connection, member)
    store.add_plan(PLAN, "account:admin", "start.safetensors")
    return store


def record(number: int) -> RoundRecord:
    header = ContributionHeader(
        MEMBER, "run", number, DIGEST, "sha256:p", 4, ValidationCounts(3.5, -1.0), "sha256:w"
    )
    made = RoundRecord(number, (MEMBER,), {"mem_x": "offline"}, bytes_up=4, seconds={"sum": 0.5})
    made.validation = Validation(3.5, -1.0, 20.0)
    made.contributions.append(Contribution(header, b"\x01" * 64))
    return made


def test_run_is_kept_from_its_plan_to_its_last_round(store: RunStore, engine: sa.Engine) -> None:
    store.add_consent(DIGEST, MEMBER, "ab" * 64)
    assert store.plan(DIGEST) == PLAN and store.consents(DIGEST) == {MEMBER: "ab" * 64}
    run = store.create_run(DIGEST, "account:admin")
    first = record(1)
    assert store.open_round(run.id, first) == 1
    assert store.open_round(run.id, first) == 2  # the coordinator was killed in between
    store.move_round(run.id, 1, 2, RoundState.ASKED)
    with pytest.raises(IllegalMove):
        store.close_round(run.id, first, 2, CHECKPOINT)
    store.move_round(run.id, 1, 2, RoundState.SUMMED)
    store.close_round(run.id, first, 2, CHECKPOINT)
    shown = store.rounds(run.id)
    assert [(r["number"], r["attempt"], r["state"]) for r in shown] == [(1, 1, "abandoned"), (1, 2, "closed")]
    assert (shown[1]["counts_correct"], shown[1]["counts_wrong"]) == (3.5, -1.0)
    assert shown[1]["seconds"] == {"sum": 0.5} and shown[1]["contributors"] == [MEMBER]
    assert store.checkpoint_of(run.id, 1) == CHECKPOINT
    after = store.run(run.id)
    assert (after.current_round, after.checkpoint_digest) == (1, CHECKPOINT)
    store.move_run(run.id, RunState.COMPLETED, "system")
    with reading(engine) as connection:
        assert [line.action for line in entries(connection)] == [
            "plan.propose",
            "plan.consent",
            "run.start",
            "run.completed",
        ]
        verify_chain(connection)


def test_plans_of_one_second_stay_in_the_order_they_were_proposed_in(
    store: RunStore, engine: sa.Engine
) -> None:
    plans = [PLAN, *(replace(PLAN, rounds=PLAN.rounds + more) for more in range(1, 8))]
    for plan in plans[1:]:
        store.add_plan(plan, "account:admin", "start.safetensors")
    assert [plan for plan, _ in store.plans()] == plans
    assert [one.plan for one in every_plan(engine)] == plans


def test_a_release_under_way_is_known_until_it_ends_and_one_run_makes_one_at_a_time(
    store: RunStore, engine: sa.Engine
) -> None:
    clock = FixedClock(from_text("2026-11-21T12:00:00Z"))
    jobs, run = PublishJobs(engine, clock), store.create_run(DIGEST, "account:admin").id
    begun = jobs.begin(run, notes="A third member.")
    assert jobs.open() == [begun] and not begun.over
    with pytest.raises(IllegalMove, match="being made since 2026-11-21T12:00:00Z"):
        jobs.begin(run)
    clock.advance(60)
    jobs.end(run, problem="the disk is full")
    last = jobs.last(run)
    assert last is not None and (last.problem, last.ended_at) == ("the disk is full", "2026-11-21T12:01:00Z")
    assert jobs.unpublished_notes(run) == "A third member."
    jobs.begin(run)
    jobs.end(run, release="digits-1")
    assert jobs.open() == [] and getattr(jobs.last(run), "release", "") == "digits-1"
    assert jobs.unpublished_notes(run) == ""

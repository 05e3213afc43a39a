"""Plans, consents, runs and rounds as rows: what was decided stays on record, with its audit line."""

from __future__ import annotations

import pytest

from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.store import RunStore
from shared.domain.errors import IllegalMove, NotFound
from shared.domain.run import RoundState, RunState
from shared.domain.update import Contribution, ContributionHeader, ValidationCounts
from tests.desk import Desk
from tests.unit.test_cohort import PLAN

DIGEST = str(PLAN.digest)


@pytest.fixture
def store(desk: Desk) -> RunStore:
    store = RunStore(desk.room.engine, desk.clock)
    store.add_plan(PLAN, "account:admin", "start.safetensors")
    return store


def record(number: int, *members: str) -> RoundRecord:
    made = RoundRecord(number, members, {"mem_x": "offline"}, seconds={"sum": 0.5}, bytes_up=8)
    for index, member in enumerate(members):
        header = ContributionHeader(
            member,
            "run_1",
            number,
            DIGEST,
            f"sha256:{member}",
            4,
            ValidationCounts(3.0 + index, 1.0),
            "sha256:w",
        )
        made.contributions.append(Contribution(header, b"\x01" * 64))
    made.validation = Validation(7.0, 2.0, 28.0)
    return made


def test_plan_comes_back_as_it_went_and_twice_is_once(store: RunStore, desk: Desk) -> None:
    store.add_plan(PLAN, "account:other", "other.safetensors")
    assert store.plan(DIGEST) == PLAN
    assert [plan.digest for plan, _ in store.plans()] == [DIGEST]
    assert store.starting_weights(DIGEST) == "start.safetensors"
    assert desk.audit_actions().count("plan.propose") == 1


def test_what_does_not_exist_is_named(store: RunStore) -> None:
    for ask in (lambda: store.plan("sha256:no"), lambda: store.starting_weights("sha256:no")):
        with pytest.raises(NotFound, match="There is no plan sha256:no"):
            ask()
    for ask in (lambda: store.run("run_no"), lambda: store.move_run("run_no", RunState.PAUSED, "a")):
        with pytest.raises(NotFound, match=r"There is no run run_no\. Nothing was done\. List the runs\.$"):
            ask()


def test_consent_is_kept_once_with_its_signature(store: RunStore, desk: Desk) -> None:
    member = desk.member().member_id
    store.add_consent(DIGEST, member, "ab" * 64)
    store.add_consent(DIGEST, member, "cd" * 64)
    assert store.consents(DIGEST) == {member: "ab" * 64}
    assert desk.audit_actions().count("plan.consent") == 1


def test_consent_pays_for_one_run_and_given_again_for_one_more(store: RunStore, desk: Desk) -> None:
    north, south = (desk.member(name).member_id for name in ("North", "South"))
    for member in (north, south):
        store.add_consent(DIGEST, member, "ab" * 64)
    desk.clock.advance(1)
    run = store.create_run(DIGEST, "account:admin")
    attempt = store.open_round(run.id, record(1, north))
    store.abandon_round(run.id, record(1, north), attempt, "too few")  # what arrived was charged all the same
    assert store.proposal(DIGEST).spent == {north: run.id}

    desk.clock.advance(1)
    for member in (north, south):  # South's was not used: again changes nothing
        store.add_consent(DIGEST, member, "ab" * 64)
    assert store.proposal(DIGEST).spent == {}
    assert desk.audit_actions().count("plan.consent") == 3


def test_run_moves_only_as_its_table_allows_and_every_move_is_on_record(store: RunStore, desk: Desk) -> None:
    run = store.create_run(DIGEST, "account:admin")
    store.move_run(run.id, RunState.PAUSED, "account:admin", "lunch")
    with pytest.raises(IllegalMove, match="The run is paused"):
        store.move_run(run.id, RunState.COMPLETED, "system")
    assert (store.run(run.id).state, store.run(run.id).reason) == (RunState.PAUSED, "lunch")
    assert [run.id for run in store.runs()] == [run.id]
    assert desk.audit_actions()[-2:] == ["run.start", "run.paused"]


def test_closed_round_moves_the_run_to_its_checkpoint(store: RunStore, desk: Desk) -> None:
    run = store.create_run(DIGEST, "account:admin")
    members = [desk.member(name).member_id for name in ("North", "South")]
    closed = record(1, *members)
    attempt = store.open_round(run.id, closed)
    for state in (RoundState.ASKED, RoundState.SUMMED):
        store.move_round(run.id, 1, attempt, state)
    store.close_round(run.id, closed, attempt, "sha256:c")
    row = store.rounds(run.id)[0]
    assert (row["state"], row["attempt"], row["checkpoint_digest"]) == ("closed", 1, "sha256:c")
    assert (row["cohort"], row["contributors"], row["missing"]) == (members, members, {"mem_x": "offline"})
    assert (row["counts_correct"], row["counts_wrong"], row["bytes_up"]) == (7.0, 2.0, 8)
    assert (store.run(run.id).current_round, store.run(run.id).checkpoint_digest) == (1, "sha256:c")


def test_round_cannot_close_before_it_was_summed(store: RunStore) -> None:
    run = store.create_run(DIGEST, "account:admin")
    attempt = store.open_round(run.id, record(1))
    with pytest.raises(IllegalMove, match="The round is opened"):
        store.close_round(run.id, record(1), attempt, "sha256:c")
    assert store.run(run.id).current_round == 0


def test_abandoned_round_keeps_who_was_asked_and_who_answered(store: RunStore, desk: Desk) -> None:
    run = store.create_run(DIGEST, "account:admin")
    member = desk.member().member_id
    attempt = store.open_round(run.id, record(1, member))
    store.abandon_round(run.id, record(1, member), attempt, "too few")
    row = store.rounds(run.id)[0]
    assert (row["state"], row["note"], row["cohort"]) == ("abandoned", "too few", [member])
    assert row["checkpoint_digest"] is None
    assert store.run(run.id).current_round == 0


def test_attempt_that_a_crash_left_open_is_abandoned_and_its_cohort_kept(store: RunStore) -> None:
    run = store.create_run(DIGEST, "account:admin")
    first = store.open_round(run.id, record(1, "mem_a"))
    store.move_round(run.id, 1, first, RoundState.ASKED)
    assert store.open_round(run.id, record(1, "mem_a", "mem_b")) == first + 1
    before, after = store.rounds(run.id)
    assert (before["state"], before["cohort"]) == ("abandoned", ["mem_a"])
    assert "stopped before the round closed" in before["note"]
    assert after["state"] == "opened"

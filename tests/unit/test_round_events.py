"""Events of rounds: written in batches without slowing them, read after an id, followed from the last one."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.runs.events import LONGEST_UNWRITTEN_S, Journal, RoundEvent
from coordinator.runs.history import events, events_of
from coordinator.storage.database import writing
from coordinator.storage.tables import rounds
from shared.domain.consortium import Role
from shared.domain.errors import OutOfSpace
from shared.domain.plan import Plan
from tests.runs_kit import RunBoard, runs

assert runs  # the fixture


def kinds(found: list[RoundEvent]) -> list[str]:
    return [event.kind for event in found]


def answer(board: RunBoard, path: str, token: str) -> Any:
    return board.board.browser().get(path, headers={"authorization": f"Bearer {token}"})


def person(board: RunBoard, name: str = "Otto") -> str:
    return board.board.room.accounts.issue_token(name, 3600.0, "operator")


def local_plan(board: RunBoard, **changes: object) -> Plan:
    return board.sim.plan(quorum=2, deadline_s=2.0, **changes)


def test_journal_writes_together_what_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[str]] = []
    journal = Journal(lambda batch: written.append(kinds(list(batch))))
    moment = [journal._started]
    monkeypatch.setattr("coordinator.runs.events.time.monotonic", lambda: moment[0])
    journal.note("one")
    journal.note("two")
    journal.write_if_due()
    assert written == []
    moment[0] += LONGEST_UNWRITTEN_S
    journal.note("three")
    journal.write_if_due()
    assert written == [["one", "two", "three"]]
    assert journal.take() == []


@pytest.mark.parametrize("error", [OutOfSpace("full"), sa.exc.OperationalError("", {}, Exception("locked"))])
def test_events_that_cannot_be_written_are_lost_and_the_round_is_not(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_batch: object) -> None:
        raise error

    monkeypatch.setattr("coordinator.runs.events.LONGEST_UNWRITTEN_S", 0.0)
    journal = Journal(write)
    journal.note("one")
    journal.write_if_due()
    assert journal.take() == []


def test_local_round_leaves_who_was_asked_and_who_answered(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))
    ids = sorted(m.id for m in runs.sim.members)
    found = events_of(runs.board.room.engine, run.id, 1, 1)
    assert kinds(found) == [
        "round.opened",
        "contribute.asked",
        *["contribute.answered"] * 4,
        "contribute.ended",
        "round.summed",
        "round.closed",
    ]
    assert found[0].detail == "4 of 4" and found[1].detail.split() == ids
    assert [event.member_id for event in found[2:6]] == ids
    assert found[6].detail == "4 of 4" and found[-1].detail == run.checkpoint_digest
    assert sorted(event.seconds for event in found) == [event.seconds for event in found]


def test_secure_round_leaves_every_step(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.secure_plan(rounds=1)))
    assert run.current_round == 1, run.reason
    asked = [e.kind for e in events_of(runs.board.room.engine, run.id, 1, 1) if e.kind.endswith(".asked")]
    assert asked == ["offer.asked", "deal.asked", "contribute.asked", "unmask.asked"]


def test_refusal_and_silence_are_on_record_with_the_reason(runs: RunBoard) -> None:
    refuser, silent = runs.sim.members[1], runs.sim.members[2]
    run = runs.sim.start(local_plan(runs, rounds=1))
    refuser.change_policy(epsilon=0.001)
    runs.sim.carrier.lost.add(silent.id)
    runs.sim.drive(run)
    found = events_of(runs.board.room.engine, run.id, 1, 1)
    refused = next(event for event in found if event.kind == "contribute.refused")
    assert refused.member_id == refuser.id and "budget" in refused.detail
    assert not any(event.member_id == silent.id for event in found)
    assert next(event.detail for event in found if event.kind == "contribute.ended") == "3 of 4"
    assert found[-1].kind == "round.closed"


def test_attempt_that_a_crash_left_open_is_abandoned_in_the_events_too(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=1))
    runs.sim.store.open_round(
        run.id, runs.sim.driver._gather(run.id, runs.sim.store.plan(run.plan_digest), 1)
    )
    runs.sim.drive(run)
    engine = runs.board.room.engine
    assert kinds(events_of(engine, run.id, 1, 1)) == ["round.opened", "round.abandoned"]
    assert kinds(events_of(engine, run.id, 1, 2))[-1] == "round.closed"
    ids = [one.id for one in events(engine, run.id)]
    assert ids == sorted(ids)


def test_events_are_read_page_by_page_after_an_id(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=2)))
    path, token = f"/api/v1/runs/{run.id}/events", person(runs)
    whole = answer(runs, path, token).json()["events"]
    assert len(whole) == 18 and {event["number"] for event in whole} == {1, 2}
    first = answer(runs, f"{path}?limit=5", token).json()
    rest = answer(runs, f"{path}?after={first['last']}", token).json()
    assert first["events"] + rest["events"] == whole
    assert answer(runs, f"{path}?after={rest['last']}", token).json() == {"events": [], "last": rest["last"]}
    assert answer(runs, "/api/v1/runs/run_none/events", token).status_code == 404
    assert answer(runs, path, "clt_wrong").status_code == 401
    assert answer(runs, f"{path}?limit=100000", token).status_code == 422


def test_member_reads_of_the_members_only_itself(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))
    path = f"/api/v1/runs/{run.id}/events"
    shown = answer(runs, path, runs.token(1)).json()["events"]
    mine, others = runs.sim.members[1].id, [runs.sim.members[n].id for n in (0, 2, 3)]
    assert [e["kind"] for e in shown if e["member_id"]] == ["contribute.answered"]
    assert next(e["detail"] for e in shown if e["kind"] == "contribute.asked") == mine
    assert not any(other in str(shown) for other in others)


def test_round_is_read_whole_and_a_member_reads_its_own_contribution(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))
    path = f"/api/v1/runs/{run.id}/rounds/1"
    (attempt,) = answer(runs, path, person(runs)).json()["attempts"]
    assert set(attempt["contributions"]) == {m.id for m in runs.sim.members} == set(attempt["contributors"])
    line = attempt["contributions"][runs.sim.members[0].id]
    assert line["payload_digest"].startswith("sha256:") and len(line["signature"]) == 128
    (mine,) = answer(runs, path, runs.token(0)).json()["attempts"]
    assert mine["contributions"] == {runs.sim.members[0].id: line}
    missing = answer(runs, f"/api/v1/runs/{run.id}/rounds/2", person(runs))
    assert missing.status_code == 404 and "has no round 2 so far" in missing.json()["detail"]


def test_note_that_names_members_is_not_for_members(runs: RunBoard) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))
    note = "Wrong shares came from South: ask its operator."
    with writing(runs.board.room.engine) as connection:
        connection.execute(rounds.update().values(note=note))
    for path, key in ((f"/api/v1/runs/{run.id}", "rounds"), (f"/api/v1/runs/{run.id}/rounds/1", "attempts")):
        assert [row["note"] for row in answer(runs, path, person(runs)).json()[key]] == [note]
        shown = answer(runs, path, runs.token(0))
        assert [row["note"] for row in shown.json()[key]] == [""] and "Wrong shares" not in shown.text


def test_stream_goes_on_from_the_last_event_that_came(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    path = f"/api/v1/runs/{run.id}/events/stream"
    bearer = {"authorization": f"Bearer {person(runs)}"}
    with runs.served() as url:
        threading.Timer(0.3, runs.sim.drive, (run,)).start()
        first = runs.follow(url, path, bearer, lambda found: found[-1][2]["number"] == 2)
        last = first[-1][0]
        again = bearer | {"Last-Event-ID": last}
        rest = runs.follow(
            url,
            path,
            again,
            lambda found: found[-1][1:2] == ("round.closed",) and found[-1][2]["number"] == 3,
        )
    ids = [int(each[0]) for each in first + rest]
    assert ids == [one.id for one in events(runs.board.room.engine, run.id)]
    assert all(each[1] == each[2]["kind"] for each in first + rest)


def test_stream_ends_when_its_token_does(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=1))
    token = person(runs)
    room = runs.board.room
    with runs.served() as url:
        threading.Timer(0.8, room.accounts.sign_out, (_token_id(runs, token), "operator", "")).start()
        found = runs.follow(
            url, f"/api/v1/runs/{run.id}/events/stream", {"authorization": f"Bearer {token}"}, lambda _: False
        )
    assert found == []
    assert room.accounts.find(room.accounts.id_of("Otto")).role is Role.AUDITOR


def _token_id(board: RunBoard, token: str) -> str:
    from coordinator.members.tokens import find_token
    from coordinator.storage.database import reading

    with reading(board.board.room.engine) as db:
        found = find_token(db, token)
    assert found is not None
    return found.id

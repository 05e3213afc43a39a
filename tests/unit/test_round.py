"""One round and the run around it: a quorum or nothing, and a run that goes on from its last closed round."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.runs.driver import ATTEMPTS
from coordinator.runs.round import run_round
from shared.domain.consortium import MemberState
from shared.domain.errors import ConsentMissing, IllegalMove, QuorumMissed, RunStopped
from shared.domain.plan import ServerOptimizer
from shared.domain.run import RunState
from shared.wire.rounds import RoundReply, RoundRequest
from tests.desk import Desk
from tests.memory_carrier import Killed, refusals
from tests.simulator import ConsortiumSimulator


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path)


def average(
    sim: ConsortiumSimulator, ids: list[str], number: int = 1, run_id: str = "run_000000000001"
) -> np.ndarray:
    """float32 [d]: mean update of equally large members."""
    payloads = [sim.carrier.wire_payload(run_id, member_id, number) for member_id in ids]
    return np.mean(np.array(payloads, dtype=np.float64), axis=0)


def test_round_moves_the_weights_by_what_members_sent(sim: ConsortiumSimulator) -> None:
    plan = sim.plan()
    sim.consent(plan)
    record, moved = sim.one_round(plan)
    ids = [m.id for m in sim.members]
    assert sorted(record.contributors) == sorted(ids)
    assert record.missing == {}
    expected = sim.state_at_start(plan).weights + average(sim, ids)
    assert np.allclose(moved.weights, expected, atol=1e-7)
    assert record.bytes_up == record.bytes_down == 3 * 4 * plan.trainable_coordinates
    assert set(record.seconds) == {"broadcast", "training", "waiting", "sum", "average"}


def test_straggler_is_named_and_the_others_are_averaged_among_themselves(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(quorum=2, deadline_s=2.0)
    sim.consent(plan)
    late = sim.members[1].id
    sim.carrier.lost.add(late)
    record, moved = sim.one_round(plan)
    assert record.missing == {late: "did not answer within 2 s"}
    others = [m.id for m in sim.members if m.id != late]
    expected = sim.state_at_start(plan).weights + average(sim, others)
    assert np.allclose(moved.weights, expected, atol=1e-7)


def test_below_the_quorum_nothing_is_averaged(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(deadline_s=2.0)
    sim.consent(plan)
    sim.carrier.lost.add(sim.members[0].id)
    with pytest.raises(QuorumMissed) as caught:
        sim.one_round(plan)
    assert caught.value.message == (
        "Round 1: 2 of 3 members contributed by the deadline, the plan needs 3. Nothing was averaged. "
        "`run show` names who is missing and why: mend that, or lower the quorum in a new plan."
    )
    assert len(sim.record.contributions) == 2


def test_round_that_cannot_reach_its_quorum_asks_nobody(sim: ConsortiumSimulator) -> None:
    plan = sim.plan()
    sim.consent(plan)
    narrow = replace(plan, members=plan.members[:2])
    with pytest.raises(QuorumMissed, match="2 of 2 members could be asked, the plan needs 3"):
        sim.one_round(narrow, state=sim.state_at_start(plan))
    assert sim.carrier.requests == []


def test_refusal_is_named_by_its_reason_without_private_words(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(quorum=2)
    sim.consent(plan)
    refuser = sim.members[2]
    refuser.change_policy(epsilon=0.001)
    record, _ = sim.one_round(plan)
    assert refusals(sim.carrier) == [(refuser.id, "refused.budget-exceeded")]
    assert record.missing == {
        refuser.id: "refused: The privacy budget that the member's policy sets would be overspent; nothing "
        "was charged."
    }
    assert refuser.charges() == 0


def test_paused_run_leaves_its_round_at_once_and_forgets_the_carriers_tickets(
    sim: ConsortiumSimulator,
) -> None:
    plan = sim.plan()
    sim.consent(plan)

    def stop() -> None:
        raise RunStopped("paused")

    record = sim.one_round(plan)[0]
    with pytest.raises(RunStopped):
        run_round(
            "run_000000000001",
            plan,
            replace(record, contributions=[], missing={}),
            sim.state_at_start(plan),
            sim.identity_keys(),
            sim.carrier,
            sim.folder,
            stop,
        )
    last = sim.carrier.requests[-1]
    assert sim.carrier.bulk.staged(last.contribution_ticket) is None
    assert list((sim.desk.home / "staging").iterdir()) == []


def test_run_goes_through_all_its_rounds(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(rounds=3, evaluate_every=2, server=ServerOptimizer("fedadam", 0.1, averaging_decay=0.5))
    run = sim.drive(sim.start(plan))
    assert (run.state, run.current_round) == (RunState.COMPLETED, 3)
    rounds = sim.store.rounds(run.id)
    assert [(r["number"], r["attempt"], r["state"]) for r in rounds] == [(n, 1, "closed") for n in (1, 2, 3)]
    assert [r["counts_correct"] is not None for r in rounds] == [False, True, False]
    stored = sim.checkpoints.read(str(run.checkpoint_digest))
    assert set(stored) == {"weights", "first_moment", "second_moment", "averaged"}
    assert all(member.charges() == 3 for member in sim.members)


def test_run_needs_a_quorum_of_consents(sim: ConsortiumSimulator) -> None:
    plan = sim.plan()
    sim.consent(plan, sim.members[:2])
    with pytest.raises(ConsentMissing, match=r"2 of 3 members consented.*quorum is 3.*Waiting for Org 2"):
        sim.service.start(str(plan.digest), "operator")
    assert sim.store.runs() == []


def test_missed_quorum_is_tried_again_without_costing_anybody_twice(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(deadline_s=1.0)
    run = sim.start(plan)
    gone = sim.members[0]
    sim.carrier.lost.add(gone.id)
    failed = sim.drive(run)
    assert (failed.state, failed.current_round) == (RunState.FAILED, 0)
    assert "2 of 3 members contributed by the deadline" in failed.reason
    assert [r["state"] for r in sim.store.rounds(run.id)] == ["abandoned"] * ATTEMPTS
    assert [m.charges() for m in sim.members] == [0, 1, 1]

    sim.carrier.lost.clear()
    sim.service.move(run.id, RunState.RUNNING, "operator")
    done = sim.drive(run)
    assert (done.state, done.current_round) == (RunState.COMPLETED, 2)
    assert [m.charges() for m in sim.members] == [2, 2, 2]
    for member in sim.members[1:]:
        digests = {
            r.header.payload_digest
            for who, r in sim.carrier.replies
            if who == member.id and r.header is not None and r.header.round_number == 1
        }
        assert len(digests) == 1


def test_paused_run_resumes_from_its_last_closed_round(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(rounds=3)
    run = sim.start(plan)
    first = next(m for m in sim.members if m.id == plan.members[0].member_id)

    def pause_in_round_2(request: RoundRequest) -> RoundReply:
        if request.round_number == 2 and sim.store.run(run.id).state is RunState.RUNNING:
            sim.service.move(run.id, RunState.PAUSED, "operator")
        return first.answer(request)

    sim.carrier.connect(first.id, pause_in_round_2)
    paused = sim.drive(run)
    assert (paused.state, paused.current_round) == (RunState.PAUSED, 1)
    assert [r["state"] for r in sim.store.rounds(run.id)] == ["closed", "abandoned"]

    sim.carrier.connect(first.id, first.answer)
    sim.service.move(run.id, RunState.RUNNING, "operator")
    done = sim.drive(run)
    assert (done.state, done.current_round) == (RunState.COMPLETED, 3)
    assert all(m.charges() == 3 for m in sim.members)


def test_stopped_run_never_goes_on(sim: ConsortiumSimulator) -> None:
    run = sim.start(sim.plan())
    sim.service.move(run.id, RunState.STOPPED, "operator")
    assert sim.drive(run).current_round == 0
    assert sim.carrier.requests == []
    with pytest.raises(IllegalMove):
        sim.service.move(run.id, RunState.RUNNING, "operator")


def test_coordinator_killed_in_a_round_goes_on_with_the_same_bytes(
    sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sim.start(sim.plan(rounds=2))

    def die(step: str) -> None:
        if step == "12" and sim.store.run(run.id).current_round == 1:
            raise Killed

    with monkeypatch.context() as context:
        context.setattr("coordinator.runs.driver.crash_point", die)
        with pytest.raises(Killed):
            sim.drive(run)
    sim.new_driver()
    sent_before = average(sim, [m.id for m in sim.members], 2, run.id)
    done = sim.drive(run)
    assert (done.state, done.current_round) == (RunState.COMPLETED, 2)
    assert np.array_equal(average(sim, [m.id for m in sim.members], 2, run.id), sent_before)
    assert all(m.charges() == 2 for m in sim.members)
    assert [r["state"] for r in sim.store.rounds(run.id)] == ["closed", "abandoned", "closed"]


def test_suspended_member_is_not_asked_and_not_charged(sim: ConsortiumSimulator) -> None:
    plan = sim.plan(quorum=2, rounds=1)
    run = sim.start(plan)
    away = sim.members[0]
    sim.desk.room.members.suspend(away.id, "operator")
    assert sim.states()[away.id] is MemberState.SUSPENDED
    done = sim.drive(run)
    assert done.state is RunState.COMPLETED
    assert sim.store.rounds(run.id)[0]["missing"] == {away.id: "suspended"}
    assert away.charges() == 0


def test_error_in_one_run_ends_that_run_and_not_the_thread(sim: ConsortiumSimulator) -> None:
    broken, good = sim.start(sim.plan(rounds=1)), sim.start(sim.plan(rounds=1, deadline_s=19.0))
    real_ask, calls = sim.carrier.ask, []

    def ask_once_wrong(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("not ours")
        real_ask(*arguments)  # type: ignore[arg-type]

    sim.carrier.ask = ask_once_wrong  # type: ignore[method-assign]
    sim.driver.start()
    finished = threading.Event()
    for _ in range(400):
        states = {run.id: run.state for run in sim.store.runs()}
        if RunState.RUNNING not in states.values():
            break
        finished.wait(0.05)
    sim.driver.stop()
    sim.driver.join(10)
    assert sorted(state.value for state in states.values()) == ["completed", "failed"]
    assert {broken.id, good.id} == set(states)
    reasons = [run.reason for run in sim.store.runs() if run.state is RunState.FAILED]
    assert reasons == ["An internal error; the coordinator's log has the details."]

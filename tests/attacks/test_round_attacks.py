"""One member or the network lies about a contribution: it is left out and named, and the sum never saw it.

Every attack is one line of a table; whatever it does, the others' average must come out to the bit.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.runs.averaging import LARGEST_VALUE, ServerState
from coordinator.runs.carrier import Received
from coordinator.runs.round import RoundRecord
from shared.domain.plan import Plan
from shared.domain.run import RunState
from shared.domain.update import ValidationCounts
from shared.wire.rounds import RoundReply
from tests.desk import Desk, open_desk
from tests.memory_carrier import Delivery, Killed
from tests.simulator import ConsortiumSimulator, SimulatedMember, signed, with_payload

DEADLINE_S = 3.0
Attack = Callable[[ConsortiumSimulator, SimulatedMember, SimulatedMember], None]
"""(simulator, the dishonest member, an honest one)."""


def payload(make: Callable[[np.ndarray], bytes]) -> Attack:
    return lambda sim, liar, honest: with_payload(sim, liar, make)


def header(**changes: object) -> Attack:
    """The liar signs a header with these changes, with its own key."""

    def tamper(sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember) -> None:
        def change(delivery: Delivery) -> list[Received]:
            assert delivery.reply.header is not None
            changed = replace(delivery.reply.header, **changes)  # type: ignore[arg-type]
            return [Received(liar.id, signed(liar, changed), delivery.payload)]

        sim.carrier.tampers[liar.id] = change

    return tamper


def reply(change: Callable[[Delivery], RoundReply | None]) -> Attack:
    """The liar's answer is replaced, its payload stays."""

    def tamper(sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember) -> None:
        sim.carrier.tampers[liar.id] = lambda d: [Received(liar.id, change(d), d.payload)]

    return tamper


def answers_in_the_name_of_another(
    sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember
) -> None:
    def change(delivery: Delivery) -> list[Received]:
        assert delivery.reply.header is not None
        stolen = replace(delivery.reply.header, member_id=honest.id)
        return [Received(liar.id, signed(liar, stolen), delivery.payload)]

    sim.carrier.tampers[liar.id] = change


def repeats_an_answer_of_another(
    sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember
) -> None:
    kept: list[Delivery] = []
    sim.carrier.tampers[honest.id] = lambda d: (kept.append(d), [d.honest()])[1]
    sim.carrier.tampers[liar.id] = lambda d: [
        Received(liar.id, kept[0].reply, kept[0].payload) if kept else Received(liar.id, None, None)
    ]


def at(place: int, value: float) -> Callable[[np.ndarray], bytes]:
    def make(update: np.ndarray) -> bytes:
        update[place] = value
        return update.astype("<f4").tobytes()

    return make


LEFT_OUT: dict[str, tuple[Attack, str]] = {
    "a NaN at the start": (payload(at(0, np.nan)), "holds NaN, infinity or more"),
    "a NaN at the end": (payload(at(-1, np.nan)), "holds NaN, infinity or more"),
    "an infinity": (payload(at(5, -np.inf)), "holds NaN, infinity or more"),
    "an absurd value": (payload(at(5, 2 * LARGEST_VALUE)), "holds NaN, infinity or more"),
    "a truncated payload": (payload(lambda u: u.tobytes()[:-4]), "this one has 900 and was signed as 900"),
    "half a coordinate": (payload(lambda u: u.tobytes()[:-2]), "this one has 902"),
    "an empty payload": (payload(lambda u: b""), "this one has 0"),
    "a payload too long": (payload(lambda u: u.tobytes() + b"1234"), "this one has 908"),
    "another digest": (header(payload_digest="sha256:" + "0" * 64), "was signed as sha256:000"),
    "a false size": (header(payload_bytes=2**31), "was signed as 2147483648"),
    "another round": (header(round_number=2), "signed an answer to another round, plan or weights"),
    "another run": (header(run_id="run_ffffffffffff"), "signed an answer to another round, plan or weights"),
    "another plan": (
        header(plan_digest="sha256:" + "1" * 64),
        "signed an answer to another round, plan or weights",
    ),
    "other weights": (
        header(weights_digest="sha256:" + "1" * 64),
        "signed an answer to another round, plan or weights",
    ),
    "counts beyond all": (header(counts=ValidationCounts(1e300, 0.0)), "counts that no data set has"),
    "another name": (answers_in_the_name_of_another, "answered in another member's name"),
    "an answer of another": (repeats_an_answer_of_another, "answered in another member's name"),
    "no signature": (
        reply(lambda d: replace(d.reply, signature=None)),
        "answered without a signed contribution",
    ),
    "an empty signature": (reply(lambda d: replace(d.reply, signature="")), "128 lower-case hex digits"),
    "a wrong signature": (
        reply(lambda d: replace(d.reply, signature="00" * 64)),
        "The signature does not verify",
    ),
    "a header changed on the way": (
        reply(lambda d: replace(d.reply, header=replace(d.reply.header, counts=ValidationCounts(9.0, 0.0)))),
        "The signature does not verify",
    ),
    "nothing readable": (reply(lambda d: None), "sent nothing that could be read"),
    "control characters": (
        reply(lambda d: RoundReply(refusal_code="x", refusal_text="\x1b[2J\u202egone" + "y" * 5000)),
        "refused:  [2J gone" + "y" * 10,
    ),
}


Shared = tuple[ConsortiumSimulator, Plan]


@pytest.fixture(scope="module")
def shared(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """One consortium for all attacks; each runs in a run of its own."""
    folder = tmp_path_factory.mktemp("attacks")
    sim = ConsortiumSimulator(open_desk(shutil.copytree(prepared_home, folder / "c")), folder)
    plan = sim.plan(quorum=2, deadline_s=DEADLINE_S)
    sim.consent(plan)
    return sim, plan


def attacked(
    shared: Shared, name: str, attack: Attack
) -> tuple[RoundRecord, ServerState, np.ndarray, SimulatedMember]:
    """A round under `attack`: its record, what came out, what must come out without the liar, the liar."""
    sim, plan = shared
    run_id = f"run_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    by_id = {m.id: m for m in sim.members}
    # In the order asked: the liar's answer comes after one honest answer and before another.
    first, liar, last = (by_id[m.member_id] for m in plan.members)
    try:
        attack(sim, liar, first)
        record, moved = sim.one_round(plan, run_id=run_id)
    finally:
        sim.carrier.tampers.clear()
    honest = [
        sim.carrier.wire_payload(run_id, member.id).astype(np.float64) * plan.weight(member.id)
        for member in (first, last)
    ]
    mean = (honest[0] + honest[1]) / (plan.weight(first.id) + plan.weight(last.id))
    expected = (sim.state_at_start(plan).weights + mean).astype(np.float32)
    return record, moved, expected, liar


@pytest.mark.parametrize("name", list(LEFT_OUT))
def test_lie_is_left_out_and_named_and_the_sum_never_saw_it(shared: Shared, name: str) -> None:
    attack, sentence = LEFT_OUT[name]
    record, moved, expected, liar = attacked(shared, name, attack)
    assert set(record.missing) == {liar.id}
    assert sentence in record.missing[liar.id]
    assert len(record.missing[liar.id]) < 600
    assert record.missing[liar.id].isprintable()
    assert liar.id not in record.contributors
    assert np.array_equal(moved.weights, expected)


def twice(sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember) -> None:
    sim.carrier.tampers[liar.id] = lambda d: [d.honest(), d.honest()]


def a_stranger(sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember) -> None:
    sim.carrier.tampers[liar.id] = lambda d: [Received("mem_stranger", d.reply, d.payload), d.honest()]


def a_later_lie_about_another(
    sim: ConsortiumSimulator, liar: SimulatedMember, honest: SimulatedMember
) -> None:
    sim.carrier.tampers[liar.id] = lambda d: [Received(honest.id, d.reply, d.payload), d.honest()]


@pytest.mark.parametrize("attack", [twice, a_stranger, a_later_lie_about_another])
def test_second_answer_or_one_that_nobody_asked_for_changes_nothing(shared: Shared, attack: Attack) -> None:
    sim, plan = shared
    record, moved, _, _ = attacked(shared, attack.__name__, attack)
    assert record.missing == {}
    assert len(record.contributors) == len(set(record.contributors)) == 3
    run_id = record.contributions[0].header.run_id
    mean = sum(sim.carrier.wire_payload(run_id, m.id).astype(np.float64) / 3 for m in sim.members)
    expected = sim.state_at_start(plan).weights + mean
    assert np.allclose(moved.weights, expected, atol=1e-7)


def test_weights_come_from_the_plan_and_not_from_what_members_report(desk: Desk, tmp_path: Path) -> None:
    sim = ConsortiumSimulator(desk, tmp_path, sizes=(12, 36))
    plan = sim.plan(rounds=1, evaluate_every=1)
    sim.consent(plan)
    small = sim.members[0]

    def boast(delivery: Delivery) -> list[Received]:
        assert delivery.reply.header is not None
        changed = replace(delivery.reply.header, counts=ValidationCounts(1e9, 1e9))
        return [Received(small.id, signed(small, changed), delivery.payload)]

    sim.carrier.tampers[small.id] = boast
    record, moved = sim.one_round(plan)
    run_id = record.contributions[0].header.run_id
    updates = [sim.carrier.wire_payload(run_id, m.id).astype(np.float64) for m in sim.members]
    expected = sim.state_at_start(plan).weights + 0.25 * updates[0] + 0.75 * updates[1]
    assert np.allclose(moved.weights, expected, atol=1e-7)


def test_replayed_answer_of_an_old_round_is_not_an_answer_to_this_one(desk: Desk, tmp_path: Path) -> None:
    sim = ConsortiumSimulator(desk, tmp_path)
    plan = sim.plan(quorum=2, rounds=2)
    run = sim.start(plan)
    liar = sim.members[0]
    kept: list[tuple[RoundReply, bytes]] = []

    def replay(delivery: Delivery) -> list[Received]:
        assert delivery.payload is not None
        if not kept:
            kept.append((delivery.reply, delivery.payload.read_bytes()))
            return [delivery.honest()]
        delivery.payload.write_bytes(kept[0][1])
        return [Received(liar.id, kept[0][0], delivery.payload)]

    sim.carrier.tampers[liar.id] = replay
    done = sim.drive(run)
    assert done.state is RunState.COMPLETED
    second = sim.store.rounds(run.id)[1]
    assert "signed an answer to another round, plan or weights" in second["missing"][liar.id]
    assert liar.id not in second["contributors"]


def test_upload_that_was_cut_never_reaches_the_sum(desk: Desk, tmp_path: Path) -> None:
    sim = ConsortiumSimulator(desk, tmp_path)
    plan = sim.plan(quorum=2, deadline_s=DEADLINE_S)
    sim.consent(plan)
    cut = sim.members[1]
    whole = 4 * plan.trainable_coordinates

    def send_half(ticket: str, payload: Path) -> None:
        assert cut.transfers.send_bytes(ticket, payload.read_bytes()[: whole // 2], announced=whole) is False

    cut.transfers.send_contribution = send_half  # type: ignore[method-assign]
    record, _ = sim.one_round(plan)
    assert record.missing == {cut.id: "announced a contribution whose bytes never came completely"}
    assert cut.id not in record.contributors


def test_answer_after_the_round_is_over_finds_its_ticket_void(desk: Desk, tmp_path: Path) -> None:
    sim = ConsortiumSimulator(desk, tmp_path)
    plan = sim.plan(quorum=2, deadline_s=2.0)
    sim.consent(plan)
    late = sim.members[2]
    sim.carrier.held.add(late.id)
    record, moved = sim.one_round(plan)
    assert record.missing == {late.id: "did not answer within 2 s"}
    sim.carrier.release(late.id)
    assert late.transfers.uploads == []
    assert sim.carrier.replies[-1][1].refusal_code == "refused.not-allowed"
    record, _ = sim.one_round(plan, number=2, state=moved)
    assert late.id in record.contributors


def test_member_that_dies_in_the_round_is_only_missing(desk: Desk, tmp_path: Path) -> None:
    sim = ConsortiumSimulator(desk, tmp_path)
    plan = sim.plan(quorum=2, deadline_s=2.0)
    sim.consent(plan)
    dying = sim.members[0]

    def die(request: object) -> RoundReply:
        raise Killed

    sim.carrier.connect(dying.id, die)
    record, _ = sim.one_round(plan)
    assert record.missing == {dying.id: "did not answer within 2 s"}

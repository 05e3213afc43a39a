"""Secure rounds through real members and rooms: drop-outs at each exchange, retries, rounds left behind, restarts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.runs.carrier import Received
from participant import secure as secure_room
from participant.outbox import Outbox, Sealed
from shared.domain.errors import OutOfSpace, QuorumMissed
from shared.domain.plan import Plan
from shared.domain.run import RunState
from shared.release.signing import verify_value
from shared.secagg.member import MemberRound
from shared.secagg.messages import encode
from shared.secagg.server import ServerRound
from shared.wire.rounds import RoundRequest, Step, StepRequest
from tests.desk import Desk
from tests.memory_carrier import Delivery, Killed, refusals
from tests.simulator import ConsortiumSimulator


class CoordinatorKilled(BaseException):
    """The coordinator's process died here."""


STEPS = ["offer", "deal", "train", "endorse", "unmask"]


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(6,) * 5)


def exchanges(sim: ConsortiumSimulator, start: int = 0) -> list[str]:
    """Kinds of the requests that were sent since `start`, each kind once in a row."""
    kinds = [r.step.value if isinstance(r, StepRequest) else "train" for r in sim.carrier.requests[start:]]
    return [kind for n, kind in enumerate(kinds) if n == 0 or kinds[n - 1] != kind]


def largest_move(sim: ConsortiumSimulator, plan: Plan, weights: np.ndarray) -> float:
    """A sum with a mask left in it is uniform modulo 2³²: it moves weights by hundreds."""
    return float(np.abs(weights - sim.state_at_start(plan).weights).max())


class Overheard:
    """What members put under their masks in rounds that are played from now on, and what was unmasked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, np.ndarray] = {}
        self.sums: list[np.ndarray] = []
        mask, finish = MemberRound.mask, ServerRound.finish

        def masked(member: MemberRound, ring: np.ndarray) -> np.ndarray:
            self.given[member.offer.member_id] = ring.copy()
            return mask(member, ring)

        def finished(server: ServerRound, *arguments: Any) -> Any:
            total, excess = finish(server, *arguments)
            self.sums.append(total.copy())
            return total, excess

        monkeypatch.setattr(MemberRound, "mask", masked)
        monkeypatch.setattr(ServerRound, "finish", finished)

    def sum_is_of(self, contributors: Iterable[str]) -> bool:
        """Whether the one sum that was unmasked is that of these members, to the last integer of the ring."""
        (found,) = self.sums
        return np.array_equal(found, sum(self.given[name] for name in contributors))


def test_first_round_takes_four_exchanges_and_every_later_one_two(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(rounds=3)
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED
    assert exchanges(sim) == ["offer", "deal", "train", "unmask", "train", "unmask", "train", "unmask"]
    assert largest_move(sim, plan, sim.weights_of(run)) < 20.0


def test_members_check_the_next_rounds_keys_by_the_endorsements_that_name_them(
    sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def listening(public_hex: str, kind: str, value: object, signature: str) -> None:
        verify_value(public_hex, kind, value, signature)
        checked.append(kind)

    monkeypatch.setattr(secure_room, "verify_value", listening)
    sim.drive(sim.start(sim.secure_plan(rounds=3)))
    # Of 5 members, 5 keys each: signatures of their own only before the first round, endorsements in all three.
    assert checked.count("round-key") == 25
    assert checked.count("survivors") == 75


@pytest.mark.parametrize("step", STEPS)
def test_one_member_that_drops_out_at_any_step_leaves_a_right_sum_of_the_others(
    sim: ConsortiumSimulator, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    overheard = Overheard(monkeypatch)
    gone = sim.members[2].id
    sim.carrier.gone_at.add((gone, step))
    record, moved = sim.one_round(plan)
    # Who contributed before it went is in the sum: its self mask is lifted by the others' shares.
    in_the_sum = 5 if step in ("endorse", "unmask") else 4
    assert len(record.contributors) == in_the_sum
    assert (gone in record.contributors) == (in_the_sum == 5)
    assert overheard.sum_is_of(record.contributors)
    assert not overheard.sum_is_of(sorted(overheard.given)[:3])
    assert largest_move(sim, plan, moved.weights) < 20.0
    assert np.any(moved.weights != sim.state_at_start(plan).weights)


@pytest.mark.parametrize(
    ("at_train", "at_unmask", "answered"), [(2, 0, "contributed"), (1, 1, "answered"), (0, 2, "answered")]
)
def test_below_the_quorum_nothing_comes_out_and_who_trained_is_charged(
    sim: ConsortiumSimulator, at_train: int, at_unmask: int, answered: str
) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    ids = [member.id for member in sim.members]
    sim.carrier.gone_at |= {(member, "train") for member in ids[:at_train]}
    sim.carrier.gone_at |= {(member, "unmask") for member in ids[at_train : at_train + at_unmask]}
    with pytest.raises(QuorumMissed, match=f"3 of 5 members {answered}.*Nothing was averaged"):
        sim.one_round(plan)
    assert [member.charges() for member in sim.members] == [0] * at_train + [1] * (5 - at_train)


def test_round_asked_again_sends_the_identical_masked_bytes_and_ends_well(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    first, second = sim.members[0], sim.members[1]
    sim.carrier.gone_at |= {(first.id, "unmask"), (second.id, "unmask")}
    with pytest.raises(QuorumMissed):
        sim.one_round(plan)
    sim.carrier.gone_at.clear()
    record, moved = sim.one_round(plan)
    assert len(record.contributors) == 5
    assert largest_move(sim, plan, moved.weights) < 20.0
    for member in sim.members:
        sent = member.transfers.uploads
        assert len(sent) == 2
        assert sent[0] == sent[1]
        assert member.charges() == 1


def test_survivors_once_sent_out_stay_the_same_in_another_try(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    late, gone = sim.members[0].id, sim.members[1].id
    sim.carrier.gone_at |= {(late, "train"), (gone, "unmask")}
    with pytest.raises(QuorumMissed):
        sim.one_round(plan)
    # The late one is back. Another list could open another sum, so it stays outside of this round.
    sim.carrier.gone_at.clear()
    record, moved = sim.one_round(plan)
    assert late not in record.contributors
    assert len(record.contributors) == 4
    assert largest_move(sim, plan, moved.weights) < 20.0


def test_round_that_no_cohort_can_finish_is_left_behind_and_the_run_goes_on(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(rounds=2)
    sim.carrier.gone_at |= {(member.id, "unmask") for member in sim.members[:2]}
    asked: list[int] = []

    def back_after_the_first_round(delivery: Delivery) -> list:
        if isinstance(delivery.request, RoundRequest) and delivery.request.round_number == 2:
            sim.carrier.gone_at.clear()
        asked.append(1)
        return [delivery.honest()]

    sim.carrier.tampers[sim.members[4].id] = back_after_the_first_round
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED
    states = [(row["number"], row["state"]) for row in sim.store.rounds(run.id)]
    assert states == [(1, "abandoned")] * 3 + [(2, "closed")]
    assert [member.charges() for member in sim.members] == [2] * 5


def test_member_that_comes_back_is_in_the_next_round_with_fresh_keys(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(rounds=3, deadline_s=4.0)  # so long it is waited for
    back = sim.members[3].id
    sim.carrier.offline.add(back)

    def come_back(delivery: Delivery) -> list:
        if isinstance(delivery.request, RoundRequest) and delivery.request.round_number == 2:
            sim.carrier.offline.discard(back)
        return [delivery.honest()]

    sim.carrier.tampers[sim.members[0].id] = come_back
    run = sim.drive(sim.start(plan))
    assert run.state is RunState.COMPLETED, run.reason
    assert [len(row["contributors"]) for row in sim.store.rounds(run.id)] == [4, 4, 5]


@pytest.mark.parametrize(
    ("of_owners", "said"),
    [
        (5, "Wrong shares came from {}: ask its operator."),
        (1, "Shares from {} did not fit: wrong ones were sent"),
    ],
)
def test_member_that_answers_with_wrong_shares_is_named_beside_a_right_sum(
    sim: ConsortiumSimulator, of_owners: int, said: str
) -> None:
    plan = sim.secure_plan(rounds=1, quorum=4)
    # First in the order in which shares are tried, so that the sum is not had without looking at it.
    liar = min(sim.members, key=lambda member: member.id)

    def lie(delivery: Delivery) -> list:
        shares = delivery.reply.shares
        if shares is None:
            return [delivery.honest()]
        owners = [owner for owner in sorted(shares.seed_shares) if owner != liar.id or of_owners > 1]
        wrong = dict.fromkeys(owners[:of_owners], encode(bytes(32) + b"\x01"))
        reply = replace(delivery.reply, shares=replace(shares, seed_shares={**shares.seed_shares, **wrong}))
        return [Received(liar.id, reply, delivery.payload)]

    sim.carrier.tampers[liar.id] = lie
    run = sim.drive(sim.start(plan))
    (row,) = sim.store.rounds(run.id)
    assert row["state"] == "closed"
    assert row["note"].startswith(said.format(liar.id))
    assert largest_move(sim, plan, sim.weights_of(run)) < 20.0


@pytest.mark.parametrize("killed_at", [Step.OFFER, Step.DEAL, Step.UNMASK])
def test_member_killed_while_it_answers_a_step_costs_the_round_nothing_but_itself(
    sim: ConsortiumSimulator, killed_at: Step
) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    victim = sim.members[1]

    def die(request: RoundRequest | StepRequest):
        if isinstance(request, StepRequest) and request.step is killed_at:
            victim.restart()
            sim.carrier.connect(victim.id, victim.answer)
            raise Killed
        return victim.answer(request)

    sim.carrier.connect(victim.id, die)
    sim.carrier.notices_deaths = True
    record, moved = sim.one_round(plan)
    assert len(record.contributors) == (5 if killed_at is Step.UNMASK else 4)
    assert largest_move(sim, plan, moved.weights) < 20.0


def test_coordinator_that_restarts_finishes_the_round_that_it_began(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(rounds=2)
    run = sim.start(plan)
    died: list[str] = []

    def die_once(delivery: Delivery) -> list:
        if not died and isinstance(delivery.request, StepRequest) and delivery.request.step is Step.UNMASK:
            died.append(delivery.member_id)
            raise CoordinatorKilled
        return [delivery.honest()]

    sim.carrier.tampers[sim.members[2].id] = die_once
    with pytest.raises(CoordinatorKilled):
        sim.drive(run)
    sim.carrier.close_exchange()
    sim.new_driver()
    ended = sim.drive(run)
    assert ended.state is RunState.COMPLETED, ended.reason
    assert [member.charges() for member in sim.members] == [2] * 5
    assert largest_move(sim, plan, sim.weights_of(ended)) < 40.0
    assert refusals(sim.carrier) == []


def test_validation_comes_through_the_sum_with_the_std_that_stayed(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(evaluate_every=1)
    sim.consent(plan)
    record, _ = sim.one_round(plan)
    held_out = sum(len(member.data_set.reader(plan.extractor).held_out_indices) for member in sim.members)
    found = record.validation
    assert found is not None
    # n/(n - t) of the variance that the plan asks for: nobody dropped out, and colluders know their share.
    assert found.noise_std == pytest.approx(20.0 * (5 / 4) ** 0.5, rel=0.01)
    assert abs(found.correct + found.wrong - held_out) < 6 * 2**0.5 * found.noise_std
    # Nothing about it crossed in the clear.
    assert all(reply.header.counts is None for _, reply in sim.carrier.replies if reply.header)


def test_validation_after_a_drop_out_has_the_std_of_those_who_stayed(sim: ConsortiumSimulator) -> None:
    plan = sim.secure_plan(evaluate_every=1)
    sim.consent(plan)
    sim.carrier.gone_at.add((sim.members[2].id, "train"))
    record, _ = sim.one_round(plan)
    assert record.validation is not None
    # Four survivors, of whom three are counted on: 4/3 of the variance and not the 5/4 of all five.
    assert record.validation.noise_std == pytest.approx(20.0 * (4 / 3) ** 0.5, rel=0.01)


def test_member_that_could_not_seal_its_bytes_masks_anew_when_it_is_asked_again(
    sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = sim.secure_plan()
    sim.consent(plan)
    unlucky, put = sim.members[0], Outbox.put
    failed: list[str] = []

    def full_once(outbox: Outbox, sealed: Sealed, payload: memoryview) -> None:
        if not failed and sealed.header.member_id == unlucky.id:
            failed.append(unlucky.id)
            raise OutOfSpace("The disk is full. Nothing was written. Free some space.")
        put(outbox, sealed, payload)

    monkeypatch.setattr(Outbox, "put", full_once)
    sim.carrier.gone_at.add((sim.members[1].id, "train"))
    with pytest.raises(QuorumMissed):
        sim.one_round(plan)
    sim.carrier.gone_at.clear()
    assert failed == [unlucky.id]
    assert unlucky.transfers.uploads == []
    record, moved = sim.one_round(plan)
    assert len(record.contributors) == 5
    assert largest_move(sim, plan, moved.weights) < 20.0
    assert len(unlucky.transfers.uploads) == 1
    assert unlucky.charges() == 1

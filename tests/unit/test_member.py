"""One member and one instruction: what is refused, what it costs, and that a round has one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from participant.records.add import add_data_set
from shared.domain.canonical import digest_of_file
from shared.domain.plan import Plan
from shared.domain.strict import to_plain
from shared.privacy.ledger import Ledger
from shared.release.signing import verify_value
from shared.wire.rounds import PROTOCOL_VERSION, RoundReply, RoundRequest
from tests.desk import Desk
from tests.memory_carrier import Killed
from tests.simulator import ConsortiumSimulator, draw_pictures

RUN = "run_000000000001"


class Table:
    """One member that consented to a plan, and a coordinator's hand that writes instructions to it."""

    def __init__(self, sim: ConsortiumSimulator) -> None:
        self.sim = sim
        self.member = sim.members[0]
        self.plan = sim.plan(rounds=3, evaluate_every=2)
        sim.consent(self.plan)
        self.weights = sim.folder / "weights.f32"
        self.set_weights(sim.state_at_start(self.plan).weights)

    def set_weights(self, vector: np.ndarray) -> None:
        self.weights.write_bytes(vector.astype("<f4").tobytes())

    def request(self, number: int = 1, plan: Plan | None = None, **changes: object) -> RoundRequest:
        size_bytes = self.weights.stat().st_size
        request = RoundRequest(
            protocol=PROTOCOL_VERSION,
            run_id=RUN,
            round_number=number,
            plan_digest=str((plan or self.plan).digest),
            weights_digest=digest_of_file(self.weights),
            weights_bytes=size_bytes,
            deadline_s=60.0,
            weights_ticket=self.sim.carrier.bulk.offer(self.member.id, self.weights),
            contribution_ticket=self.sim.carrier.bulk.expect(self.member.id, size_bytes),
        )
        return replace(request, **changes)

    def ask(self, number: int = 1, **changes: object) -> RoundReply:
        return self.member.answer(self.request(number, **changes))

    def sent(self) -> list[bytes]:
        """Contributions that left."""
        return self.member.transfers.uploads

    def refused(self, reply: RoundReply, code: str, sentence: str) -> None:
        """Refused by this code, the reason told to the operator, nothing sent."""
        assert reply.refusal_code == code
        assert reply.header is None and reply.signature is None
        assert sentence in self.member.reports[-1]
        assert self.sent() == []


@pytest.fixture
def table(desk: Desk, tmp_path: Path) -> Table:
    return Table(ConsortiumSimulator(desk, tmp_path, sizes=(12,)))


def test_answer_is_charged_sealed_signed_and_sent(table: Table) -> None:
    reply = table.ask()
    header = reply.header
    assert header is not None and reply.signature is not None
    verify_value(table.member.identity.public_hex, "contribution", to_plain(header), reply.signature)
    assert header.counts is None
    entries = Ledger.read(table.member.home.ledger).entries()
    assert [entry.kind.value for entry in entries] == ["opened", "charge", "seal"]
    assert entries[2].seal is not None and entries[2].seal.payload_digest == header.payload_digest
    assert [digest_of_file(p) for p in table.member.home.outbox.rglob("*.f32")] == [header.payload_digest]
    assert len(table.sent()) == 1


def test_round_that_evaluates_sends_noised_counts_and_pays_for_them(table: Table) -> None:
    table.ask(1)
    reply = table.ask(2)
    assert reply.header is not None and reply.header.counts is not None
    charges = [e.charge for e in Ledger.read(table.member.home.ledger).entries() if e.charge]
    assert [len(charge.events) for charge in charges] == [1, 2]


def test_round_asked_again_gets_the_identical_bytes_and_pays_once(table: Table) -> None:
    first, again = table.ask(), table.ask()
    table.member.restart()
    after_restart = table.ask()
    assert first == again == after_restart
    assert len(table.sent()) == 3 and len(set(table.sent())) == 1
    assert table.member.charges() == 1


def test_round_asked_again_with_other_weights_is_refused(table: Table) -> None:
    table.ask()
    sent = len(table.sent())
    table.set_weights(np.zeros(table.plan.trainable_coordinates))
    reply = table.ask()
    assert reply.refusal_code == "refused.already-released"
    assert "was answered for other weights, another plan or another roster" in table.member.reports[-1]
    assert len(table.sent()) == sent
    assert table.member.charges() == 1


def test_round_asked_again_under_another_consented_plan_is_refused(table: Table) -> None:
    table.ask()
    other = table.sim.plan(rounds=2)
    table.sim.consent(other)
    reply = table.ask(plan=other)
    assert reply.refusal_code == "refused.already-released"
    assert table.member.charges() == 1


def test_plan_that_was_never_signed_here_costs_nothing(table: Table) -> None:
    other = replace(table.plan, rounds=2000)
    reply = table.ask(plan=other)
    table.refused(reply, "refused.consent-missing", "has not consented to plan")
    assert table.member.charges() == 0


def test_consent_taken_back_stops_a_node_that_is_warm(table: Table) -> None:
    assert table.ask(1).header is not None
    for consent in table.member.home.consents.iterdir():
        consent.unlink()
    assert table.ask(2).refusal_code == "refused.consent-missing"
    assert table.member.charges() == 1


def test_policy_tightened_in_a_run_stops_the_member(table: Table) -> None:
    assert table.ask(1).header is not None
    table.member.change_policy(architectures=["vit-tiny"])
    assert table.ask(2).refusal_code == "refused.policy-forbids"
    assert "architecture fixed-mlp is not among vit-tiny" in table.member.reports[-1]
    assert table.member.charges() == 1


def test_data_set_changed_in_the_policy_is_not_trained_with_from_warm_memory(table: Table) -> None:
    assert table.ask(1).header is not None
    pictures = draw_pictures(table.sim.folder / "more pictures", 14, ("cat", "dog", "owl"))
    other = add_data_set(table.member.home.root, "other", pictures)
    table.member.change_policy(data_set="other")
    charged = len(Ledger.read(table.member.home.ledger).entries())
    table.ask(2)
    charges = [e.charge for e in Ledger.read(table.member.home.ledger).entries()[charged:] if e.charge]
    assert {charge.dataset_id for charge in charges} <= {other.id}


def test_exhausted_budget_is_refused_and_nothing_is_trained(table: Table) -> None:
    assert table.ask(1).header is not None
    spent = Ledger.read(table.member.home.ledger).entries()
    table.member.change_policy(epsilon=0.5)
    head = sorted(table.member.home.training.rglob("*"))
    assert table.ask(2).refusal_code == "refused.budget-exceeded"
    assert "the policy's ceiling is ε 0.5" in table.member.reports[-1]
    assert Ledger.read(table.member.home.ledger).entries() == spent
    assert sorted(table.member.home.training.rglob("*")) == head
    assert len(table.sent()) == 1


MISFITS: list[tuple[dict[str, object], str, str]] = [
    ({"protocol": 1}, "conflict.version-mismatch", "speaks round protocol 3, the coordinator 1"),
    ({"run_id": "../../etc"}, "invalid.message", "A run's id is run_ and 12 hex digits"),
    ({"run_id": RUN + "\n"}, "invalid.message", "A run's id is run_ and 12 hex digits"),
    ({"plan_digest": "../../../etc/passwd"}, "invalid.message", "A plan is named by sha256:"),
    ({"plan_digest": "x" * 5000}, "invalid.message", "A plan is named by sha256:"),
    ({"round_number": 0}, "invalid.message", "A round's number is 1 to"),
    ({"round_number": 10**300}, "invalid.message", "A round's number is 1 to"),
    ({"round_number": 4}, "invalid.message", "rounds 1 to 3, the coordinator asks for 4"),
    ({"weights_digest": "sha256:00"}, "not-trusted.digest", "another digest"),
    ({"weights_bytes": 4}, "invalid.weights", "announces 4. Nothing was fetched"),
    ({"weights_ticket": "guess"}, "refused.not-allowed", "This ticket is not valid"),
]


def test_instruction_that_does_not_fit_costs_nothing(table: Table) -> None:
    for changes, code, sentence in MISFITS:
        table.refused(table.ask(**changes), code, sentence)
    assert table.member.charges() == 0


SPOILT: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda w: np.append(w, np.float32(0)),
    lambda w: w[:-1],
    lambda w: np.where(np.arange(w.size) == 3, np.nan, w),
    lambda w: np.where(np.arange(w.size) == 3, np.inf, w),
]


def test_weights_of_another_length_or_not_finite_cost_nothing(table: Table) -> None:
    for spoil in SPOILT:
        table.set_weights(spoil(table.sim.state_at_start(table.plan).weights))
        table.refused(table.ask(), "invalid.weights", "Nothing was charged")
    assert table.member.charges() == 0


def test_refusal_tells_the_coordinator_no_path_and_no_label(table: Table) -> None:
    pictures = next(table.sim.folder.glob("records of *"))
    for picture in pictures.rglob("*.png"):
        picture.write_bytes(b"no picture any more")
    reply = table.ask()
    assert reply.refusal_code == "invalid.records"
    assert any(str(pictures) in report or "cat" in report for report in table.member.reports)
    for secret in (str(table.sim.folder), "records of", "cat", "dog", "0000.png"):
        assert secret not in str(reply)


def test_error_of_our_own_is_answered_without_its_words(table: Table) -> None:
    def broken(ticket: str, size_bytes: int, digest: str) -> bytes:
        raise RuntimeError("secret detail")

    table.member.transfers.fetch_weights = broken  # type: ignore[method-assign]
    reply = table.ask()
    assert reply.refusal_code == "broken"
    assert "secret detail" not in str(reply)


@pytest.mark.parametrize("step", ["1", "2", "6", "8", "9"])
def test_member_killed_at_any_step_answers_with_one_draw_and_one_charge(
    table: Table, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(here: str) -> None:
        if here == step:
            raise Killed

    with monkeypatch.context() as context:
        context.setattr("participant.member.crash_point", die)
        with pytest.raises(Killed):
            table.ask()
    table.member.restart()
    reply = table.ask()
    assert reply.header is not None
    assert table.ask() == reply
    assert table.member.charges() == 1
    assert len(set(table.sent())) == 1


def test_head_of_a_draw_that_was_never_sealed_shapes_nothing(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(here: str) -> None:
        if here == "6":
            raise Killed

    with monkeypatch.context() as context:
        context.setattr("participant.member.crash_point", die)
        with pytest.raises(Killed):
            table.ask()
    assert list(table.member.home.training.rglob("*.safetensors")) == []


def test_seconds_of_a_round_stay_at_home(table: Table) -> None:
    reply = table.ask()
    assert "seconds_train" in table.member.home.metrics.read_text("utf-8")
    assert "second" not in str(reply)

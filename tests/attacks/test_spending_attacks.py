"""Ways to have a member spend more than its ledger says, each tried on the real member code."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import participant.member
from participant.consents import give_consent, save_reviewed
from participant.member import MemberNode
from participant.records.add import add_data_set
from participant.records.dataset import list_data_sets
from participant.records.remove import remove_data_set
from participant.releases import check_against_ledger
from participant.spending import refuse_forgotten_spending
from shared.domain.canonical import digest_of_file
from shared.domain.errors import (
    BrokenChain,
    CertificateWrong,
    IllegalMove,
    OverlappingData,
    PolicyForbids,
    UnsoundPlan,
)
from shared.domain.plan import Plan
from shared.domain.release import CohortRound
from shared.domain.run import RoundState
from shared.release.lineage import Link
from shared.verification import VerifiedRelease
from shared.wire.rounds import PROTOCOL_VERSION, RoundRequest
from tests.desk import Desk
from tests.simulator import ConsortiumSimulator

RUN, OTHER_RUN = "run_000000000001", "run_000000000002"


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    made = ConsortiumSimulator(desk, tmp_path, sizes=(12,))
    made.agreed = made.plan(rounds=3)  # type: ignore[attr-defined]
    made.consent(made.agreed)  # type: ignore[attr-defined]
    return made


def request(sim: ConsortiumSimulator, run_id: str = RUN, number: int = 1) -> RoundRequest:
    plan: Plan = sim.agreed  # type: ignore[attr-defined]
    weights = sim.folder / "weights.f32"
    weights.write_bytes(sim.state_at_start(plan).weights.astype("<f4").tobytes())
    size_bytes = weights.stat().st_size
    member = sim.members[0]
    return RoundRequest(
        protocol=PROTOCOL_VERSION,
        run_id=run_id,
        round_number=number,
        plan_digest=str(plan.digest),
        weights_digest=digest_of_file(weights),
        weights_bytes=size_bytes,
        deadline_s=60.0,
        weights_ticket=sim.carrier.bulk.offer(member.id, weights),
        contribution_ticket=sim.carrier.bulk.expect(member.id, size_bytes),
    )


def test_second_run_of_a_plan_needs_a_second_consent(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    assert member.answer(request(sim)).header is not None
    refused = member.answer(request(sim, OTHER_RUN))
    assert refused.refusal_code == "refused.consent-missing"
    assert "consented to 1 run(s)" in member.reports[-1]
    assert member.charges() == 1
    give_consent(member.home, sim.agreed)  # type: ignore[attr-defined]
    assert member.answer(request(sim, OTHER_RUN)).header is not None


def test_draw_that_failed_is_never_drawn_again(
    sim: ConsortiumSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = sim.members[0]
    trained = participant.member.local_round

    def fails_after_the_draw(*arguments: object) -> object:
        trained(*arguments)  # type: ignore[arg-type]
        raise FloatingPointError("the draw overflowed")

    with monkeypatch.context() as patch:
        patch.setattr("participant.member.local_round", fails_after_the_draw)
        assert member.answer(request(sim)).refusal_code == "broken"
    again = member.answer(request(sim))
    assert again.refusal_code == "refused.already-released"
    assert member.charges() == 1 and member.transfers.uploads == []
    assert member.answer(request(sim, number=2)).header is not None


def test_two_processes_on_one_home_give_one_answer(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    nodes = [MemberNode(member.home, member.transfers) for _ in range(2)]
    asked = [request(sim), request(sim)]
    replies: list[object] = [None, None]

    def answer(k: int) -> None:
        replies[k] = nodes[k].answer(asked[k])

    threads = [threading.Thread(target=answer, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies[0] == replies[1] and replies[0].header is not None  # type: ignore[attr-defined]
    assert len(set(member.transfers.uploads)) == 1 and member.charges() == 1


@pytest.mark.parametrize("both", [True, False])
def test_node_whose_ledger_is_gone_does_not_start_afresh(sim: ConsortiumSimulator, both: bool) -> None:
    member = sim.members[0]
    member.answer(request(sim))
    member.home.ledger.unlink()
    if both:
        member.home.ledger.with_name("ledger.jsonl.head").unlink()
    with pytest.raises(BrokenChain):
        member.restart()


def test_removed_data_set_does_not_come_back_with_a_fresh_budget(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    member.answer(request(sim))
    refuse_forgotten_spending(member.home)
    shutil.move(member.home.root / "data" / member.data_set.name, sim.folder / "elsewhere")
    with pytest.raises(OverlappingData, match="would get a fresh budget"):
        refuse_forgotten_spending(member.home)


def test_data_set_that_paid_for_a_round_is_not_removed(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    name, id_before = member.data_set.name, member.data_set.id
    member.answer(request(sim))
    with pytest.raises(IllegalMove, match="has paid for 1 rounds.*Nothing was removed"):
        remove_data_set(member.home, name)
    assert member.data_set.id == id_before and member.charges() == 1
    for lost in (member.home.ledger, member.home.ledger.with_name("ledger.jsonl.head")):
        lost.unlink()
    with pytest.raises(BrokenChain, match="answered 1 runs"):  # nor by a ledger that knows nothing of it
        remove_data_set(member.home, name)
    assert member.data_set.id == id_before


def test_data_set_that_nobody_trained_with_is_removed_and_its_records_may_be_added_again(
    sim: ConsortiumSimulator,
) -> None:
    member = sim.members[0]
    file = member.data_set.file
    source = Path(file.source.path)
    with pytest.raises(OverlappingData, match=f"data remove {file.name}"):
        add_data_set(member.home.root, "again", source)
    cached = member.home.root / "cache" / file.id
    cached.mkdir(parents=True)
    remove_data_set(member.home, file.name)
    assert not cached.exists() and list_data_sets(member.home.root) == [] and source.exists()
    again = add_data_set(member.home.root, "again", source)
    assert again.id != file.id and again.file.salt != file.salt


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda p: replace(p, privacy=replace(p.privacy, clip_norm_l2=1e-30)), "clip_norm_l2"),
        (lambda p: replace(p, training=replace(p.training, learning_rate=1e38)), "learning_rate"),
        (lambda p: replace(p, privacy=replace(p.privacy, target_epsilon=1e-3)), "promises ε = 0.001"),
        (lambda p: replace(p, privacy=replace(p.privacy, delta=1e-5), members=(
            replace(p.members[0], declared_size=10**6),)), "declared"),
        (lambda p: replace(p, members=p.members * 2), "each named once"),
        (lambda p: replace(p, consortium="Another"), "the plan is of Another"),
    ],
)  # fmt: skip
def test_member_refuses_what_a_dishonest_coordinator_would_wave_through(
    sim: ConsortiumSimulator, change: object, sentence: str
) -> None:
    plan: Plan = change(sim.agreed)  # type: ignore[operator, attr-defined]
    member = sim.members[0]
    start = sim.service.starting_weights(str(sim.agreed.digest)).read_bytes()  # type: ignore[attr-defined]
    save_reviewed(member.home, plan, start)
    with pytest.raises((UnsoundPlan, PolicyForbids), match=sentence):
        give_consent(member.home, plan)


def test_certificate_that_hides_a_round_is_caught_by_the_members_own_ledger(sim: ConsortiumSimulator) -> None:
    member = sim.members[0]
    for number in (1, 2):
        member.answer(request(sim, number=number))

    def released(run_id: str, *asked: str) -> VerifiedRelease:
        """What a verified release tells of its rounds, one for each of `asked`."""
        rounds = tuple(
            CohortRound(number, RoundState.CLOSED, (who,), (who,))
            for number, who in enumerate(asked, start=1)
        )
        certificate = SimpleNamespace(run_id=run_id, rounds=rounds)
        line = (Link("tiny-1", "", sim.agreed, certificate, ""),)  # type: ignore[attr-defined, arg-type]
        return SimpleNamespace(line=line)  # type: ignore[return-value]

    with pytest.raises(CertificateWrong, match="paid for 2 steps .* lists 1"):
        check_against_ledger(member.home, released(RUN, member.id, "mem_somebody"))
    check_against_ledger(member.home, released(RUN, member.id, member.id))

    # Under another name the ledger knows nothing of the run, so nothing would be too little.
    with pytest.raises(CertificateWrong, match="round 1 of run run_00000000beef, and its ledger never paid"):
        check_against_ledger(member.home, released("run_00000000beef", member.id, "mem_somebody"))


def test_ticket_of_before_a_restart_is_void(sim: ConsortiumSimulator) -> None:
    bulk, member = sim.carrier.bulk, sim.members[0]
    old = bulk.expect(member.id, 4)
    path = bulk.begin_upload(old, 4)
    path.write_bytes(np.zeros(1, "<f4").tobytes())
    assert bulk.end_upload(old, 4)
    bulk.void(member.id)
    assert bulk.staged(old) is None and not path.exists()

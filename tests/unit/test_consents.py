"""Step 1: a plan is kept with its own weights, reviewed against the policy, and signed by its digest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from participant.consents import agreed_plan, give_consent, reviewed_plan, save_reviewed
from shared.domain.errors import (
    BadSignature,
    ConsentMissing,
    DigestMismatch,
    InvalidWeights,
    NotAllowed,
    PolicyForbids,
)
from shared.domain.files import write_json
from shared.domain.plan import Plan
from shared.domain.privacy import Budget, Charge
from shared.domain.strict import to_plain
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from shared.privacy.ledger import Ledger
from shared.release.signing import verify_value
from tests.desk import Desk
from tests.simulator import SPEC, ConsortiumSimulator


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(12,))


def weights_of(sim: ConsortiumSimulator, plan: Plan) -> bytes:
    return sim.service.starting_weights(str(plan.digest)).read_bytes()


def test_consent_is_a_signature_on_the_digest_and_the_same_one_again(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(), sim.members[0]
    save_reviewed(member.home, plan, weights_of(sim, plan))
    signature = give_consent(member.home, plan)
    assert give_consent(member.home, plan) == signature
    said = {"plan_digest": plan.digest, "member_id": member.id, "name": "Org 0"}
    verify_value(member.identity.public_hex, "consent", said, signature)
    assert agreed_plan(member.home, str(plan.digest)).plan == plan


def test_weights_that_are_not_the_plans_are_not_kept(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(), sim.members[0]
    with pytest.raises(
        DigestMismatch, match=f"should have digest {plan.starting_weights}, these have sha256:"
    ):
        save_reviewed(member.home, plan, weights_of(sim, plan) + b"x")
    assert not member.home.plans.exists()

    agreed = save_reviewed(member.home, plan, weights_of(sim, plan))
    with pytest.raises(DigestMismatch, match="Nothing was kept"):
        save_reviewed(member.home, plan, weights_of(sim, plan) + b"x")
    again = reviewed_plan(member.home, str(plan.digest))
    assert again.plan == agreed.plan  # what was there is there


def test_weights_of_another_shape_are_not_kept_though_the_plan_names_them(
    sim: ConsortiumSimulator, tmp_path: Path
) -> None:
    member, other = sim.members[0], replace(SPEC, embedding_dim=5)
    tensors, layout = starting_weights(other, 1)
    digest = write_weights(tmp_path / "w", tensors, other, layout)
    plan = replace(sim.plan(), starting_weights=str(digest))
    with pytest.raises(InvalidWeights, match="Nothing was kept"):
        save_reviewed(member.home, plan, (tmp_path / "w").read_bytes())
    assert list(member.home.plans.iterdir()) == []


def test_policy_is_asked_before_anything_is_signed(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(), sim.members[0]
    save_reviewed(member.home, plan, weights_of(sim, plan))
    member.change_policy(architectures=["vit-tiny"])
    with pytest.raises(PolicyForbids, match="architecture fixed-mlp"):
        give_consent(member.home, plan)
    assert not member.home.consents.exists()


def test_consent_counts_what_the_data_set_spent_before(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(sigma=8.0), sim.members[0]
    save_reviewed(member.home, plan, weights_of(sim, plan))
    member.change_policy(epsilon=1.0)
    give_consent(member.home, plan)
    events = plan.events_of_run() * 4
    charge = Charge(member.data_set.id, "sha256:other", "run_00000000000a", 1, events)
    Ledger(member.home.ledger).charge(charge, Budget(1000.0, 1e-5))
    with pytest.raises(PolicyForbids, match="the data set would have spent ε = "):
        give_consent(member.home, plan)


def test_plan_that_nobody_signed_here_is_not_agreed(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(), sim.members[0]
    save_reviewed(member.home, plan, weights_of(sim, plan))
    with pytest.raises(ConsentMissing, match="has not consented to plan sha256:"):
        agreed_plan(member.home, str(plan.digest))


def test_plan_that_was_changed_on_disk_after_consent_is_refused(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(), sim.members[0]
    sim.consent(plan)
    path = member.home.plans / f"{plan.digest.removeprefix('sha256:')}.json"
    write_json(path, to_plain(replace(plan, rounds=2000)))
    with pytest.raises(DigestMismatch, match=f"should have digest {plan.digest}"):
        agreed_plan(member.home, str(plan.digest))
    path.unlink()
    with pytest.raises(ConsentMissing, match="is not in this member's folder"):
        agreed_plan(member.home, str(plan.digest))


def test_weights_that_were_changed_on_disk_are_refused(sim: ConsortiumSimulator) -> None:
    plan, member = sim.plan(), sim.members[0]
    sim.consent(plan)
    path = member.home.plans / f"{plan.digest.removeprefix('sha256:')}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DigestMismatch, match="starting weights should have digest"):
        reviewed_plan(member.home, str(plan.digest))


def test_coordinator_takes_only_the_members_own_signature_on_this_plan(
    sim: ConsortiumSimulator, desk: Desk
) -> None:
    plan, member = sim.plan(), sim.members[0]
    said = {"plan_digest": str(plan.digest), "member_id": member.id, "name": "Org 0"}
    for kind, value in (
        ("consent", said | {"plan_digest": "sha256:other"}),
        ("contribution", said),
        ("consent", {"plan_digest": str(plan.digest)}),
        ("consent", said | {"name": "Org 1"}),
        ("consent", said | {"member_id": "mem_000000000009"}),
    ):
        with pytest.raises(BadSignature):
            sim.service.consent(str(plan.digest), member.id, member.identity.sign_value(kind, value))
    stranger = desk.member("Stranger").member_id
    with pytest.raises(NotAllowed, match="Stranger is not among the 1 members of this plan"):
        sim.service.consent(str(plan.digest), stranger, "ab" * 64)
    assert sim.store.consents(str(plan.digest)) == {}

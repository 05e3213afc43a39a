"""A plan that promises more than it keeps: refused where it is proposed, and again by every member by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.planning import complete
from coordinator.workers.probe import Probe
from participant.consents import give_consent, save_reviewed
from shared.domain.errors import CommonlensError, InvalidConfig, MixesRecords, PolicyForbids, UnsoundPlan
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_json
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Mode
from shared.domain.strict import build, to_plain
from shared.extractors import architectures
from shared.extractors.files import write_weights
from shared.extractors.vectors import tensors_of, trainable_layout
from shared.release.certificate import sign_consent
from tests.desk import Desk
from tests.simulator import SPEC, ConsortiumSimulator

BATCH_NORM = ExtractorSpec("small-gn", 1, 8, 8, 4, options={"norm": "batch"})
SENTENCE = (
    "is BatchNorm2d: each record's output depends on the others in its batch, so one record's influence "
    'cannot be bounded. Use GroupNorm (architecture "resnet18-gn").'
)


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(12,))


def draft(**changes: Any) -> PlanDraft:
    training = TrainingDraft(local_steps=1, learning_rate=0.5, head_learning_rate=0.5)
    privacy = PrivacyDraft(8.0, 1.0, 1.0, noise_multiplier=4.0)
    return replace(PlanDraft("tiny", SPEC, training, privacy, rounds=2), **changes)


def test_batch_norm_is_refused_by_the_layers_name_before_anything_is_stored(sim: ConsortiumSimulator) -> None:
    with pytest.raises(MixesRecords) as caught:
        sim.service.propose(draft(extractor=BATCH_NORM), "operator")
    assert caught.value.message.startswith("Layer ")
    assert caught.value.message.endswith(SENTENCE)
    assert sim.store.plans() == []


def unchecked(sim: ConsortiumSimulator, plan: Plan, weights: Path) -> None:
    """A dishonest coordinator stores the plan without looking, and the member's operator signs without it."""
    member = sim.members[0]
    name = plan.digest.removeprefix("sha256:")
    write_json(member.home.plans / f"{name}.json", to_plain(plan))
    (member.home.plans / f"{name}.safetensors").write_bytes(weights.read_bytes())
    consent = sign_consent(plan, member.id, "Org 0", member.identity)
    write_json(member.home.consents / f"{name}.json", to_plain(consent))
    sim.store.add_plan(plan, "operator", weights.name)


def test_member_refuses_batch_norm_though_coordinator_and_operator_let_it_pass(
    sim: ConsortiumSimulator,
) -> None:
    module = architectures.build(BATCH_NORM, 1)
    weights = sim.starting / "batch.safetensors"
    layout = trainable_layout(module)
    digest = write_weights(weights, tensors_of(module), BATCH_NORM, layout)
    plan = replace(
        sim.plan(),
        extractor=BATCH_NORM,
        starting_weights=str(digest),
        trainable_coordinates=layout.trainable_coordinates,
    )
    unchecked(sim, plan, weights)
    with pytest.raises(CommonlensError, match="0 of 1 members contributed"):
        sim.one_round(plan)
    assert sim.carrier.replies[0][1].refusal_code == "refused.mixes-records"
    assert sim.members[0].reports[-1].endswith(SENTENCE)
    assert sim.members[0].charges() == 0


PRIVACY_LIES: dict[str, Callable[[Plan], Plan]] = {
    "no noise": lambda p: replace(p, privacy=replace(p.privacy, noise_multiplier=0.0)),
    "negative noise": lambda p: replace(p, privacy=replace(p.privacy, noise_multiplier=-4.0)),
    "hardly any noise": lambda p: replace(p, privacy=replace(p.privacy, noise_multiplier=0.05)),
    "no noise on validation": lambda p: replace(
        p, evaluate_every=1, privacy=replace(p.privacy, evaluation_noise_multiplier=0.0)
    ),
    "more than every record": lambda p: replace(p, privacy=replace(p.privacy, sampling_rate=2.0)),
    "a negative rate": lambda p: replace(p, privacy=replace(p.privacy, sampling_rate=-0.5)),
    "no local step": lambda p: replace(p, training=replace(p.training, local_steps=0)),
    "negative local steps": lambda p: replace(p, training=replace(p.training, local_steps=-3)),
    "rounds without end": lambda p: replace(p, rounds=10**7),
    "negative rounds": lambda p: replace(p, rounds=-1),
    "a large delta": lambda p: replace(p, privacy=replace(p.privacy, delta=0.5)),
    "another size for this member": lambda p: replace(
        p, members=(replace(p.members[0], declared_size=10**6),)
    ),
    "mode secure with several steps": lambda p: replace(
        p,
        training=replace(p.training, local_steps=5),
        privacy=replace(p.privacy, mode=Mode.SECURE),
    ),
}


@pytest.mark.parametrize("name", list(PRIVACY_LIES))
def test_member_signs_no_plan_that_its_accountant_cannot_vouch_for(
    sim: ConsortiumSimulator, name: str
) -> None:
    honest = sim.plan()
    plan, member = PRIVACY_LIES[name](honest), sim.members[0]
    member.change_policy(epsilon=20.0)
    weights = sim.service.starting_weights(str(honest.digest)).read_bytes()
    save_reviewed(member.home, plan, weights)
    with pytest.raises((PolicyForbids, UnsoundPlan)):
        give_consent(member.home, plan)
    assert not member.home.consents.exists()
    save_reviewed(member.home, honest, weights)
    give_consent(member.home, honest)


def secure(plan: Plan) -> Plan:
    """The member's plan as a sound one of mode secure with three others."""
    others = tuple(replace(plan.members[0], member_id=f"mem_{n}", name=f"Org {n}") for n in "abc")
    return replace(
        plan,
        privacy=replace(plan.privacy, mode=Mode.SECURE),
        members=(*plan.members, *others),
        quorum=3,
        colluders=1,
        secure=SecureTerms(2.0**-16, 32, tolerance_steps=1, mask_reach=0, share_threshold=3),
    )


def terms(plan: Plan, **changes: Any) -> Plan:
    return replace(plan, secure=replace(plan.secure, **changes))


SECURE_LIES: dict[str, Callable[[Plan], Plan]] = {
    "nobody colludes, so that shares may be small": lambda p: replace(p, colluders=0),
    "a quorum that two lists of survivors reach": lambda p: terms(replace(p, quorum=2), share_threshold=2),
    "noise sized for more honest members than there are": lambda p: replace(p, colluders=-1),
    "a sum of this member and two sham ones": lambda p: replace(p, members=p.members[:3]),
    "the same organisation three times": lambda p: replace(p, members=(p.members[0], *3 * p.members[1:2])),
    "several local steps": lambda p: replace(p, training=replace(p.training, local_steps=5)),
    "no grid": lambda p: replace(p, secure=None),
    "a secure plan that calls itself local": lambda p: replace(
        p, privacy=replace(p.privacy, mode=Mode.LOCAL)
    ),
    "a negative grid": lambda p: terms(p, grid_width=-(2.0**-16)),
    "a ring of one bit": lambda p: terms(p, ring_bits=1),
    "secrets that two members rebuild": lambda p: terms(p, share_threshold=2),
    "noise that is not there when somebody drops out": lambda p: terms(p, tolerance_steps=0),
    "negative noise steps": lambda p: terms(p, tolerance_steps=-1),
    "a sum that wraps": lambda p: terms(p, grid_width=2.0**-40),
}


@pytest.mark.parametrize("name", list(SECURE_LIES))
def test_member_signs_no_secure_plan_whose_argument_does_not_hold(
    sim: ConsortiumSimulator, name: str
) -> None:
    base, member = sim.plan(), sim.members[0]
    honest = secure(base)
    plan = SECURE_LIES[name](honest)
    weights = sim.service.starting_weights(str(base.digest)).read_bytes()
    save_reviewed(member.home, plan, weights)
    with pytest.raises((PolicyForbids, UnsoundPlan)):
        give_consent(member.home, plan)
    assert not member.home.consents.exists()
    save_reviewed(member.home, honest, weights)
    give_consent(member.home, honest)


def test_policy_that_caps_epsilon_alone_sends_the_plan_back_for_mode_local(sim: ConsortiumSimulator) -> None:
    base, member = sim.plan(), sim.members[0]
    honest = secure(base)
    weights = sim.service.starting_weights(str(base.digest)).read_bytes()
    member.change_policy(most_epsilon_alone=0.01)
    save_reviewed(member.home, honest, weights)
    with pytest.raises(PolicyForbids, match="ask for a plan of mode local"):
        give_consent(member.home, honest)
    assert not member.home.consents.exists()


@pytest.mark.parametrize("clip_norm_l2", [0.0, -1.0])
def test_clip_that_bounds_nothing_sends_nothing(sim: ConsortiumSimulator, clip_norm_l2: float) -> None:
    honest = sim.plan()
    plan = replace(honest, privacy=replace(honest.privacy, clip_norm_l2=clip_norm_l2))
    unchecked(sim, plan, sim.service.starting_weights(str(honest.digest)))
    with pytest.raises(CommonlensError, match="0 of 1 members contributed"):
        sim.one_round(plan)
    assert sim.carrier.replies[0][1].refusal_code == "refused.unsound-plan"
    assert sim.members[0].transfers.uploads == []


def test_code_in_a_plan_has_no_place_to_be(sim: ConsortiumSimulator) -> None:
    plain = to_plain(draft())
    with pytest.raises(InvalidConfig, match="unknown key 'hook'"):
        build(PlanDraft, plain | {"hook": "import os"}, "plan")
    with pytest.raises(InvalidConfig, match="unknown key 'loss'"):
        build(Plan, to_plain(sim.plan()) | {"loss": "lambda x: x"}, "plan")
    with pytest.raises(UnsoundPlan, match="training.augmentations must be among"):
        evil = draft(training=replace(draft().training, augmentations=("os.system",)))
        complete(evil, "Testing", sim.every_member(), Probe("sha256:00", "file", 10, 0.1, 4))

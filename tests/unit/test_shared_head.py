"""A training head that all members share: it comes with the weights, is summed with the extractor, is not released."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coordinator.registry.build import weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf
from coordinator.runs.publishing import publish_request
from participant.consents import give_consent, save_reviewed
from participant.records.add import add_data_set
from participant.training.head import HeadState
from participant.training.labels import PlanLabels
from participant.training.shared_head import part_leaving, parts_received
from shared.domain.errors import InvalidWeights, PolicyForbids, UnknownClass
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.domain.release import CARD_FILE
from shared.domain.run import RunState
from shared.extractors.architectures import build, trainable_layout
from shared.extractors.vectors import get_flat
from shared.verification import verify_release
from tests.desk import Desk
from tests.memory_carrier import Delivery, refusals
from tests.roll_kit import root_of
from tests.round_kit import MemoryRecords
from tests.simulator import SPEC, ConsortiumSimulator, draw_pictures

CLASSES = ("cat", "dog", "owl", "yak")
DISJOINT = (("cat", "dog"), ("owl", "yak"), ("dog", "cat"), ("yak", "owl"))
MODES = pytest.mark.parametrize("mode", list(Mode))


class CoordinatorKilled(BaseException):
    """The coordinator died here."""


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(12,) * 4, own_classes=DISJOINT)


def shared_plan(sim: ConsortiumSimulator, mode: Mode, **changes: object) -> Plan:
    make = sim.plan if mode is Mode.LOCAL else sim.secure_plan
    return make(shared_classes=CLASSES, **changes)


@MODES
def test_run_with_a_shared_head_ends_in_a_release_of_the_extractor_alone_that_verifies(
    sim: ConsortiumSimulator, mode: Mode
) -> None:
    plan = shared_plan(sim, mode, evaluate_every=1)
    extractor = len(get_flat(build(SPEC, 1)))
    assert (plan.extractor_coordinates, plan.trainable_coordinates) == (extractor, extractor + 4 * 5)
    ended = sim.drive(sim.start(plan))
    assert ended.state is RunState.COMPLETED, ended.reason
    weights = sim.weights_of(ended)
    assert weights.shape == (extractor + 20,)
    # On the grid a coordinate may come back to 0, about once in a million; not three of twenty.
    assert np.count_nonzero(weights[extractor:]) >= 18

    request = publish_request(ended, sim.store, sim.driver, sim.every_member())
    publish(sim.desk.home, request, sim.desk.clock, export=weights_only)
    folder = Shelf(sim.desk.home).folder("tiny", 1)
    release = verify_release(folder, pinned_root=root_of(sim.desk), clock=sim.desk.clock)
    assert release.plan.shared_head == plan.shared_head
    np.testing.assert_array_equal(
        np.concatenate([release.weights.tensors[slot.name].ravel() for slot in trained(release)]),
        weights[:extractor],
    )
    said = (folder / CARD_FILE).read_text("utf-8")
    assert f"Trained to tell 4 classes apart: {', '.join(plan.shared_head.classes)}; under one head" in said


def trained(release) -> list:
    return [slot for slot in release.weights.layout.slots if slot.trainable]


@MODES
def test_shared_head_is_not_kept_at_home(sim: ConsortiumSimulator, mode: Mode) -> None:
    sim.drive(sim.start(shared_plan(sim, mode)))
    assert [list(member.home.training.rglob("*.safetensors")) for member in sim.members] == [[]] * 4


@MODES
def test_run_goes_on_after_a_restart_with_the_head_of_its_checkpoint(
    sim: ConsortiumSimulator, mode: Mode
) -> None:
    plan = shared_plan(sim, mode, rounds=3)
    run = sim.start(plan)

    def die_in_round_3(delivery: Delivery) -> list:
        if delivery.request.round_number == 3:
            raise CoordinatorKilled
        return [delivery.honest()]

    sim.carrier.tampers[sim.members[2].id] = die_in_round_3
    with pytest.raises(CoordinatorKilled):
        sim.drive(run)
    checkpoint = sim.weights_of(sim.store.run(run.id))
    assert checkpoint.shape == (plan.trainable_coordinates,)
    sim.carrier.tampers.clear()
    sim.carrier.close_exchange()
    sim.new_driver()
    ended = sim.drive(run)
    assert ended.state is RunState.COMPLETED, ended.reason
    # Who had answered round 3 already is asked again, and answers again for the very same weights only (clause 3.8).
    assert checkpoint.astype("<f4").tobytes() in sim.carrier.wire
    assert refusals(sim.carrier) == []
    assert [member.charges() for member in sim.members] == [3] * 4


@MODES
def test_head_starts_at_zero_and_is_moved_by_its_own_learning_rate(
    sim: ConsortiumSimulator, mode: Mode
) -> None:
    """The noise alone is far larger than any gradient here: the two parts' std show the two rates."""
    wide = replace(SPEC, embedding_dim=200)
    plan = shared_plan(sim, mode, spec=wide, sigma=50.0)
    assert plan.training.head_learning_rate == 0.5 * plan.training.learning_rate
    start = sim.state_at_start(plan).weights
    assert not start[plan.extractor_coordinates :].any()
    sim.consent(plan)
    _, moved = sim.one_round(plan)
    extractor, head = np.split(moved.weights - start, [plan.extractor_coordinates])
    # 0.5, by 1600 and 800 numbers: a tenth is six and a half standard errors, chance passes it once in 10⁸.
    assert 0.4 < head.std() / extractor.std() < 0.6


def test_class_that_the_plan_does_not_list_is_refused_at_consent_and_nothing_is_signed(
    sim: ConsortiumSimulator,
) -> None:
    plan = sim.plan(shared_classes=("cat", "dog", "emu"))
    weights = sim.service.starting_weights(str(plan.digest)).read_bytes()
    able, unable = sim.members[0], sim.members[1]
    for member in (able, unable):
        save_reviewed(member.home, plan, weights)
    give_consent(able.home, plan)
    with pytest.raises(UnknownClass) as caught:
        give_consent(unable.home, plan)
    assert caught.value.message == (
        "The plan's shared training head has 3 classes; of this data set's 2, it does not list 'owl', 'yak'. No "
        "record was touched and nothing was charged. Ask for a plan that lists them, or name your labels as the plan "
        "does."
    )
    assert not unable.home.consents.exists()


def test_class_that_came_after_the_consent_is_refused_before_anything_is_charged(
    sim: ConsortiumSimulator, tmp_path: Path
) -> None:
    plan, member = shared_plan(sim, Mode.LOCAL, quorum=3), sim.members[0]
    sim.consent(plan)
    pictures = draw_pictures(tmp_path / "more pictures", 12, ("cat", "unicorn"))
    add_data_set(member.home.root, "more", pictures)
    member.change_policy(data_set="more")
    record, _ = sim.one_round(plan)
    assert member.id not in record.contributors
    # The coordinator is told the code's own sentence; which class it is stays with the member.
    assert "unicorn" not in record.missing[member.id]
    assert "it does not list 'unicorn'" in member.reports[-1]
    assert member.charges() == 0
    assert sim.members[1].charges() == 1


def test_shared_head_that_does_not_fit_the_extractor_is_not_kept(sim: ConsortiumSimulator) -> None:
    plan = shared_plan(sim, Mode.LOCAL)
    assert plan.shared_head is not None
    wrong = replace(
        plan,
        shared_head=replace(plan.shared_head, inputs=3),
        trainable_coordinates=plan.extractor_coordinates + 4 * 4,
    )
    weights = sim.service.starting_weights(str(plan.digest)).read_bytes()
    with pytest.raises(InvalidWeights, match="sees 4 numbers of this extractor's embedding, the plan's .* 3"):
        save_reviewed(sim.members[0].home, wrong, weights)
    assert list(sim.members[0].home.plans.iterdir()) == []


def test_policy_is_still_asked_first(sim: ConsortiumSimulator) -> None:
    plan = shared_plan(sim, Mode.LOCAL)
    member = sim.members[0]
    save_reviewed(member.home, plan, sim.service.starting_weights(str(plan.digest)).read_bytes())
    member.change_policy(architectures=["vit-tiny"])
    with pytest.raises(PolicyForbids, match="architecture fixed-mlp"):
        give_consent(member.home, plan)


def test_labels_are_counted_by_the_plans_names_and_records_stay_the_same() -> None:
    records = MemoryRecords()
    renamed = PlanLabels(records, ("owl", "emu", "cat", "dog"))
    indices = np.arange(10)
    images, labels = renamed.load(indices)
    before, own = records.load(indices)
    assert images is before or np.array_equal(images, before)
    assert [renamed.classes[label] for label in labels] == [records.classes[label] for label in own]
    assert np.array_equal(renamed.held_out_indices, records.held_out_indices)
    assert renamed.load(indices[:0])[1].shape == (0,)


def test_parts_of_the_weights_are_what_leaves_again(sim: ConsortiumSimulator) -> None:
    plan, layout = shared_plan(sim, Mode.LOCAL), trainable_layout(build(SPEC, 1))
    vector = np.arange(plan.trainable_coordinates, dtype=np.float32)
    extractor, head = parts_received(plan, vector, layout, HeadState.zeros(2, 4))
    assert head.weight.shape == (4, 4)
    np.testing.assert_array_equal(part_leaving(plan, extractor, head.flat), vector)
    with pytest.raises(InvalidWeights, match=f"Expected a vector of {len(vector)} float32 coordinates"):
        parts_received(plan, vector[:-1], layout, HeadState.zeros(2, 4))
    own = HeadState.zeros(2, 4)
    private = replace(plan, shared_head=None)
    assert parts_received(private, extractor, layout, own) == (extractor, own)
    assert part_leaving(private, extractor, head.flat) is extractor

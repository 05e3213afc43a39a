"""With a shared head one round is one step of DP-SGD of (extractor, head) on everybody's records (clause 2.3).

Real members over real folders, two of whom share no label; the other side is written in plain torch, record by
record, with one softmax over all classes. The noise is not played: what was really drawn is listened to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coordinator.runs.averaging import ServerState
from shared.domain.plan import Plan
from shared.domain.privacy import Mode
from shared.extractors.architectures import build
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import set_flat
from shared.privacy.mechanism import NoiseSource
from tests.desk import Desk
from tests.secure_noise import base_noise, listened_seeds
from tests.simulator import SPEC, ConsortiumSimulator

CLASSES = ("yak", "cat", "owl", "dog")
"""In another order than the members', who sort theirs."""
DISJOINT = (("cat", "dog"), ("owl", "yak"), ("cat", "dog"), ("owl", "yak"))
EXTRACTOR, HEAD = slice(0, 226), slice(226, 226 + 4 * 5)


@pytest.fixture
def sim(desk: Desk, tmp_path: Path) -> ConsortiumSimulator:
    return ConsortiumSimulator(desk, tmp_path, sizes=(12, 24, 12, 24), own_classes=DISJOINT)


@pytest.fixture
def base_seeds(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Mode secure: the seeds of the noise that stays when everybody answers, member by member."""
    return listened_seeds(monkeypatch)


@pytest.fixture
def full_noise(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Mode local: what each member added, extractor's part and head's part in turn."""
    drawn: list[np.ndarray] = []
    noised: Callable[..., np.ndarray] = NoiseSource.noised

    def listen(self: NoiseSource, values: np.ndarray, std: float) -> np.ndarray:
        result = noised(self, values, std)
        drawn.append(result.astype(np.float64) - values)
        return result

    monkeypatch.setattr(NoiseSource, "noised", listen)
    return drawn


def start_of(sim: ConsortiumSimulator, plan: Plan) -> np.ndarray:
    """Weights of a later round: a head that is not zero, so that gradients reach the extractor too."""
    weights = sim.state_at_start(plan).weights
    weights[HEAD] = np.random.Generator(np.random.PCG64(3)).normal(size=20)
    return weights


def pooled_sum(sim: ConsortiumSimulator, plan: Plan, start: np.ndarray) -> np.ndarray:
    """Σ clip(g) over all training records of all members, g over (extractor, head bias, head weight), float64."""
    bias, weight = (torch.from_numpy(part.copy()).double() for part in np.split(start[HEAD], [4]))
    total = np.zeros(start.size)
    for member in sim.members:
        reader = member.data_set.reader(SPEC)
        images, labels = reader.load(reader.training_indices)
        for image, label in zip(images, labels, strict=True):
            extractor = build(SPEC, 1)
            set_flat(extractor, start[EXTRACTOR])
            head = [bias.clone().requires_grad_(), weight.reshape(4, 4).clone().requires_grad_()]
            embedding = extractor.double()(torch.from_numpy(to_input(image[None], SPEC)).double())
            place = CLASSES.index(reader.classes[label])
            loss = F.cross_entropy(embedding @ head[1].T + head[0], torch.tensor([place]))
            parameters = [p for _, p in sorted(extractor.named_parameters())] + head
            gradient = np.concatenate([g.numpy().ravel() for g in torch.autograd.grad(loss, parameters)])
            total += gradient * min(1.0, plan.privacy.clip_norm_l2 / np.linalg.norm(gradient))
    return total


def stepped(plan: Plan, start: np.ndarray, noised_sum: np.ndarray) -> np.ndarray:
    """start - η · sum / expected batch of everybody, with each part's own η."""
    rates = np.full(start.size, plan.training.learning_rate)
    rates[HEAD] = plan.training.head_learning_rate
    expected = sum(plan.expected_batch_size(member.member_id) for member in plan.members)
    return start - rates * noised_sum / expected


def test_secure_round_steps_extractor_and_head_on_the_pooled_records(
    sim: ConsortiumSimulator, base_seeds: list[bytes], full_noise: list[np.ndarray]
) -> None:
    plan = sim.secure_plan(shared_classes=CLASSES)
    sim.consent(plan)
    start = start_of(sim, plan)
    _, moved = sim.one_round(plan, number=2, state=ServerState(start.copy()))
    assert plan.secure is not None
    assert full_noise == []  # nothing is noised at home: both parts are on the grid
    noise = base_noise(plan, base_seeds) * plan.secure.grid_width
    assert noise.shape == start.shape
    exact = pooled_sum(sim, plan, start)
    expected = stepped(plan, start, exact + noise)
    # Half a grid step of rounding a member, and the float32 of gradients and weights.
    for part in (EXTRACTOR, HEAD):
        assert np.abs(moved.weights - expected)[part].max() < 2e-6
        assert np.abs(stepped(plan, start, exact) - start)[part].max() > 1e-3
        # Every step was noised; the head draws only 20 values, all of which are now and then under a hundredth.
        assert np.abs(moved.weights - stepped(plan, start, exact))[part].max() > 1e-3


def test_local_round_steps_extractor_and_head_on_the_pooled_records(
    sim: ConsortiumSimulator, full_noise: list[np.ndarray]
) -> None:
    plan = sim.plan(shared_classes=CLASSES)
    assert plan.privacy.mode is Mode.LOCAL
    sim.consent(plan)
    start = start_of(sim, plan)
    _, moved = sim.one_round(plan, number=2, state=ServerState(start.copy()))
    assert [len(noise) for noise in full_noise] == [226, 20] * 4
    noise = np.concatenate([sum(full_noise[0::2]), sum(full_noise[1::2])])
    expected = stepped(plan, start, pooled_sum(sim, plan, start) + noise)
    assert np.abs(moved.weights - expected).max() < 2e-6
    assert np.abs(moved.weights - start)[HEAD].max() > 1e-3


def test_classes_that_a_member_does_not_hold_are_pushed_down_by_its_records(
    sim: ConsortiumSimulator, full_noise: list[np.ndarray]
) -> None:
    """One softmax over all classes: with heads of their own the members' labels would never meet."""
    plan = sim.plan(shared_classes=CLASSES)
    member = sim.members[0]
    sim.consent(plan)
    sim.one_round(plan)
    sealed = member.payload("run_000000000001", 1)[HEAD]
    bias = -sealed[:4] * plan.expected_batch_size(member.id) / plan.training.head_learning_rate
    order = [m.member_id for m in plan.members].index(member.id)
    exact = bias - full_noise[2 * order + 1][:4]
    held = [name in DISJOINT[0] for name in CLASSES]
    # At a head of zeros the softmax gives each class a quarter.
    assert (exact[np.logical_not(held)] > 0.0).all()
    assert abs(exact.sum()) < 1e-4

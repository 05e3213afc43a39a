"""A round of K = 1 over n members is one DP-SGD step on the pooled records, with the sum of their noise.

Every member is run through the real `local_round`, its contribution through the real accumulator and server
optimiser; the other side is written in plain torch, record by record.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coordinator.runs.averaging import Accumulator, ServerState, apply_average
from participant.training.head import HeadState, build_head
from participant.training.local_round import local_round
from participant.training.runtime import RuntimeOptions
from participant.training.workbench import Workbench
from shared.domain.canonical import digest_of_bytes
from shared.domain.plan import PlanMember
from shared.domain.privacy import Budget, Charge
from shared.domain.update import Contribution, ContributionHeader
from shared.extractors.architectures import build
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.ledger import Ledger
from shared.wire.rounds import RoundRequest
from tests.desk import Desk
from tests.plans import small_plan
from tests.round_kit import RepeatableNoise
from tests.simulator import SPEC, ConsortiumSimulator

CLASSES = 3
SIZES = (7, 11, 5)
CLIP, SIGMA, RATE, LEARNING_RATE = 0.4, 1.5, 1.0, 0.3


class Pool:
    """One member's records in memory; every one of them is drawn."""

    def __init__(self, size: int, seed: int) -> None:
        generator = np.random.Generator(np.random.PCG64(seed))
        self.classes = tuple(str(n) for n in range(CLASSES))
        self.images = generator.integers(0, 256, (size, 8, 8, 1), dtype=np.uint8)
        self.labels = generator.integers(0, CLASSES, size)
        self.held_out_indices = np.zeros(0, dtype=np.int64)

    def poisson_draw(self, noise: object, rate: float) -> np.ndarray:
        return np.arange(len(self.labels))

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.images[indices], self.labels[indices]


PLAN = small_plan(
    extractor=SPEC,
    learning_rate=LEARNING_RATE,
    clip_norm_l2=CLIP,
    noise_multiplier=SIGMA,
    sampling_rate=RATE,
    members=tuple(PlanMember(f"mem_{n}", size) for n, size in enumerate(SIZES)),
)
HEADS = [
    HeadState(
        np.random.Generator(np.random.PCG64(40 + n)).normal(size=(CLASSES, 4)).astype(np.float32),
        np.zeros(CLASSES, np.float32),
    )
    for n in range(len(SIZES))
]


def federated(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(weights before, weights after) one round over all members."""
    start = get_flat(build(SPEC, 1))
    total = Accumulator(start.size)
    for n, member in enumerate(PLAN.members):
        ledger = Ledger(tmp_path / f"ledger-{n}.jsonl")
        charge = Charge("dat_1", str(PLAN.digest), "run_1", 1, PLAN.events_of_round(1))
        token = ledger.charge(charge, Budget(1e6, 1e-5))
        bench = Workbench(
            member.member_id,
            build(SPEC, 1),
            Pool(SIZES[n], n),
            HEADS[n],
            RepeatableNoise(n),
            RuntimeOptions("cpu"),
        )
        request = RoundRequest(1, "run_1", 1, str(PLAN.digest), "sha256:00", 0, 60.0, "t", "t")
        update, _ = local_round(request, PLAN, token, start, bench)
        data = bytes(update.vector_f32.cast("B"))
        (tmp_path / "payload").write_bytes(data)
        header = ContributionHeader(
            member.member_id,
            "run_1",
            1,
            str(PLAN.digest),
            digest_of_bytes(data),
            len(data),
            None,
            "sha256:00",
        )
        total.add(Contribution(header, b""), tmp_path / "payload", PLAN.weight(member.member_id))
    return start, apply_average(ServerState(start), total.result(), PLAN.server).weights


def one_gradient(image: np.ndarray, label: int, head: HeadState, weights: np.ndarray) -> np.ndarray:
    """The clipped extractor part of one record's joint gradient, float64."""
    extractor, layer = build(SPEC, 1), build_head(head)
    set_flat(extractor, weights)
    extractor, layer = extractor.double(), layer.double()
    x = torch.from_numpy(to_input(image[None], SPEC)).double()
    F.cross_entropy(layer(extractor(x)), torch.tensor([label])).backward()
    parts = [p.grad.reshape(-1).numpy() for _, p in sorted(extractor.named_parameters())]
    own = np.concatenate(parts)
    joint = np.concatenate([own, *(p.grad.reshape(-1).numpy() for p in layer.parameters())])
    return own * min(1.0, CLIP / np.linalg.norm(joint))


def pooled(start: np.ndarray) -> np.ndarray:
    """Weights after one DP-SGD step on all records together, with the members' noises summed."""
    total = np.zeros(start.size)
    for n, size in enumerate(SIZES):
        pool = Pool(size, n)
        for image, label in zip(pool.images, pool.labels, strict=True):
            total += one_gradient(image, int(label), HEADS[n], start)
        # Each member's noise on the extractor part is the first thing that its source draws.
        total += RepeatableNoise(n).gaussian(start.size, SIGMA * CLIP)
    return start - LEARNING_RATE * total / (RATE * sum(SIZES))


def test_one_federated_round_is_one_dp_sgd_step_on_the_pooled_records(tmp_path: Path) -> None:
    start, after = federated(tmp_path)
    expected = pooled(start)
    moved = np.linalg.norm(expected - start)
    assert moved > 0.01
    assert np.linalg.norm(after - expected) / moved < 1e-5


def test_comparison_would_notice_one_record_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, after = federated(tmp_path)
    monkeypatch.setattr(f"{__name__}.SIZES", (6, 11, 5))
    expected = pooled(start)
    assert np.linalg.norm(after - expected) / np.linalg.norm(expected - start) > 1e-3


def test_run_over_members_of_different_size_is_their_average_by_declared_size(
    desk: Desk, tmp_path: Path
) -> None:
    sim = ConsortiumSimulator(desk, tmp_path, sizes=(12, 24, 12, 48))
    plan = sim.plan(rounds=3, quorum=4)
    run = sim.drive(sim.start(plan))
    weights = sim.state_at_start(plan).weights
    for number in (1, 2, 3):
        sealed = [sim.carrier.wire_payload(run.id, member.id, number) for member in sim.members]
        assert [plan.weight(m.id) for m in sim.members] == [0.125, 0.25, 0.125, 0.5]
        mean = sum(w * u.astype(np.float64) for w, u in zip([0.125, 0.25, 0.125, 0.5], sealed, strict=True))
        weights = (weights + mean).astype(np.float32)
    assert np.array_equal(sim.weights_of(run), weights)

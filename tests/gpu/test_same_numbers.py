"""A GPU gives the CPU's numbers within tolerance; where there is none, the test says so and is skipped.

The rounds are also played on the CPU twice: that keeps these tests themselves right where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from participant.heads.embed import embed
from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head
from participant.training.local_round import local_round
from participant.training.places import check_places, check_places_in_validation
from participant.training.runtime import RuntimeOptions
from participant.training.validation import exact_counts
from participant.training.workbench import NoiseShare, Workbench
from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Budget, Charge, Mode
from shared.domain.update import NoisyGridSum, Update
from shared.extractors.architectures import CLASSICAL, TEXT, TRAINABLE, build
from shared.extractors.device import choose_device
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat
from shared.privacy import noise_shares
from shared.privacy.ledger import Ledger
from shared.privacy.mechanism import NoiseSource
from shared.secagg.fixed_point import from_ring
from shared.wire.rounds import RoundRequest
from tests.plans import members, small_plan

OPTIONS = {
    "fixed-mlp": {"hidden": 16, "grid": 2},
    "small-gn": {"width": 8},
    "wrn-16-4-gn": {"widen": 1},
    "resnet18-gn": {"width": 8},
    "vit-tiny": {"width": 24, "depth": 2, "heads": 3},
    "efficientnet-lite0": {},
    "ngram-bag": {"buckets": 256, "width": 16, "hidden": 16},
    "byte-transformer": {"width": 24, "depth": 2, "heads": 3},
}
SPEC = ExtractorSpec("small-gn", 1, 8, 8, 6, (0.5,), (0.25,), {"width": 8})
LARGEST = "efficientnet-lite0"
CLASSES = ("cat", "dog", "owl")
SIZE, HELD_OUT = 40, 10
EVERYWHERE = ["cpu", "cuda", "mps"]


class RepeatableNoise(NoiseSource):
    """The real noise and coins, from a keystream that starts again in every object."""

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.PCG64(0))

    def _keystream(self, n_bytes: int) -> bytes:
        return self._generator.bytes(n_bytes)


class MemoryRecords:
    """SIZE records in memory; the last HELD_OUT are held out."""

    classes = CLASSES
    held_out_indices = np.arange(SIZE - HELD_OUT, SIZE)

    def __init__(self) -> None:
        generator = np.random.Generator(np.random.PCG64(5))
        self.images = generator.integers(0, 256, (SIZE, 8, 8, 1), dtype=np.uint8)
        self.labels = generator.integers(0, len(CLASSES), SIZE)

    def poisson_draw(self, noise: NoiseSource, rate: float) -> np.ndarray:
        return np.flatnonzero(noise.uniform(SIZE - HELD_OUT) < rate)

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.images[indices], self.labels[indices]


def device_or_skip(kind: str) -> torch.device:
    try:
        return choose_device(kind)
    except InvalidConfig:
        pytest.skip(f"no {kind} device on this machine")


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """TF32 rounds products to 10 bits, which is no error of ours."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_clipped_sum_on_a_gpu_is_that_of_the_cpu(kind: str, name: str) -> None:
    device = device_or_skip(kind)
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(33, 3, 16, 16, generator=generator), torch.randint(0, 5, (33,), generator=generator)
    spec = ExtractorSpec(name, 3, 16, 16, 12, options=OPTIONS[name])
    if name in TEXT:
        spec = ExtractorSpec(name, 1, 1, 16, 12, options=OPTIONS[name], kind=RecordKind.TEXT)
        x = torch.randint(1, 256, (33, 1, 1, 16), generator=generator).float()
        x[::2, ..., 7:] = 0.0
    sums = []
    for where in (torch.device("cpu"), device):
        extractor = build(spec, seed=1)
        torch.manual_seed(0)
        engine = make_engine(extractor, torch.nn.Linear(12, 5), 8, where)
        sums.append(np.concatenate(engine.clipped_sum(x, y, 0.5)))
    assert sums[1].dtype == np.float64
    assert np.linalg.norm(sums[1] - sums[0]) <= 1e-4 * np.linalg.norm(sums[0])


@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize(
    ("name", "portion"),
    [(name, 4) for name in TRAINABLE]
    + [pytest.param(name, 32, marks=[pytest.mark.slow] if name == LARGEST else []) for name in TRAINABLE],
)
def test_place_of_a_record_changes_no_bit_of_its_gradient_or_logits(
    kind: str, portion: int, name: str
) -> None:
    """What every node asks of its own machine before it trains; where this fails, nodes on such a device refuse."""
    spec = ExtractorSpec(name, 3, 16, 16, 12, options=OPTIONS[name])
    if name in TEXT:
        spec = ExtractorSpec(name, 1, 1, 16, 12, options=OPTIONS[name], kind=RecordKind.TEXT)
    check_places(spec, 5, portion, 1, device_or_skip(kind))
    check_places_in_validation(spec, 5, portion, device_or_skip(kind))


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", CLASSICAL)
def test_classical_embedding_on_a_gpu_is_that_of_the_cpu(kind: str, name: str) -> None:
    device = device_or_skip(kind)
    spec = ExtractorSpec(name, 3, 48, 40, 1)
    spec = replace(spec, embedding_dim=CLASSICAL[name](spec).features)
    images = np.random.default_rng(4).integers(0, 256, (9, 48, 40, 3), dtype=np.uint8)
    # Half of them of few levels, where comparisons of equal numbers are frequent.
    images[4:] = images[4:] // 64 * 64
    module, x = build(spec, seed=0), torch.from_numpy(to_input(images, spec))
    on_cpu = module(x).numpy()
    on_device = module.to(device)(x.to(device)).cpu().numpy()
    np.testing.assert_allclose(on_device, on_cpu, rtol=0, atol=1e-4)


def make_plan(mode: Mode) -> Plan:
    """Every round validates; augmentations draw coins too."""
    secure = SecureTerms(2.0**-20, 32, tolerance_steps=1, mask_reach=0, share_threshold=3)
    return small_plan(
        mode=mode,
        extractor=SPEC,
        trainable_coordinates=len(get_flat(build(SPEC, 1))),
        local_steps=1 if mode is Mode.SECURE else 3,
        augmentations=("flip", "shift2"),
        clip_norm_l2=0.7,
        rounds=2,
        evaluate_every=1,
        quorum=3,
        colluders=1 if mode is Mode.SECURE else 0,
        members=members(4, SIZE),
        secure=secure if mode is Mode.SECURE else None,
    )


def one_round(plan: Plan, kind: str, ledger: Path) -> tuple[Update | NoisyGridSum, HeadState]:
    """One round of a real ledger's token with the same coins and noise each time, on the device `kind`."""
    charge = Charge("dat_1", plan.digest, "run_1", 1, plan.events_of_round(1), plan.events_alone_of_round(1))
    token = Ledger(ledger).charge(charge, Budget(1e6, 1e-5))
    request = RoundRequest(1, "run_1", 1, plan.digest, "sha256:00", 0, 60.0, "t", "t")
    extractor = build(SPEC, 1)
    bench = Workbench(
        "mem_1",
        extractor,
        MemoryRecords(),
        HeadState.zeros(len(CLASSES), SPEC.embedding_dim),
        RepeatableNoise(),
        RuntimeOptions(device=kind, micro_batch=7),
    )
    share = None if plan.secure is None else NoiseShare(4, (1,), (bytes(range(32)),))
    return local_round(request, plan, token, get_flat(extractor), bench, share)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape and np.linalg.norm(expected) > 0
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_local_round_on_a_gpu_is_that_of_the_cpu(kind: str, tmp_path: Path) -> None:
    device_or_skip(kind)
    plan = make_plan(Mode.LOCAL)
    expected, expected_head = one_round(plan, "cpu", tmp_path / "cpu.jsonl")
    found, found_head = one_round(plan, kind, tmp_path / "other.jsonl")
    assert isinstance(found, Update) and isinstance(expected, Update)
    assert_close(np.frombuffer(found.vector_f32, "<f4"), np.frombuffer(expected.vector_f32, "<f4"))
    assert_close(found_head.weight, expected_head.weight)
    # Right or wrong is a whole number, and the noise on it is the same.
    assert found.counts == expected.counts


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_secure_round_on_a_gpu_is_that_of_the_cpu(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device_or_skip(kind)
    # The base component as it is drawn, under a seed that is the same each time.
    monkeypatch.setattr(noise_shares, "fresh_seed", lambda: bytes(32))
    plan = make_plan(Mode.SECURE)
    assert plan.secure is not None
    expected, expected_head = one_round(plan, "cpu", tmp_path / "cpu.jsonl")
    found, found_head = one_round(plan, kind, tmp_path / "other.jsonl")
    assert isinstance(found, NoisyGridSum) and isinstance(expected, NoisyGridSum)
    integers, wanted = (from_ring(np.asarray(each.ring), 32) for each in (found, expected))
    assert integers.shape == wanted.shape == (plan.trainable_coordinates + noise_shares.COUNTS,)
    # Noise cancels in the difference: what is left is the clipped sum's, of at most 0.7 a record.
    apart = (integers - wanted)[: -noise_shares.COUNTS] * plan.secure.grid_width
    rounding = plan.secure.grid_width * np.sqrt(plan.trainable_coordinates)
    assert np.linalg.norm(apart) <= 1e-4 * 0.7 * SIZE * plan.privacy.sampling_rate + rounding
    assert np.array_equal(integers[-noise_shares.COUNTS :], wanted[-noise_shares.COUNTS :])
    assert_close(found_head.weight, expected_head.weight)


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_validation_counts_on_a_gpu_are_those_of_the_cpu(kind: str) -> None:
    device, plan, records = device_or_skip(kind), make_plan(Mode.LOCAL), MemoryRecords()
    generator = np.random.default_rng(3)
    state = HeadState(
        generator.normal(size=(len(CLASSES), SPEC.embedding_dim)).astype(np.float32),
        np.zeros(len(CLASSES), np.float32),
    )
    counts = [
        exact_counts(build(SPEC, 1).to(where), build_head(state).to(where), plan, records, where)
        for where in (torch.device("cpu"), device)
    ]
    assert np.array_equal(*counts) and counts[0].sum() == HELD_OUT and 0 < counts[0][0] < HELD_OUT


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_embeddings_on_a_gpu_are_those_of_the_cpu(kind: str) -> None:
    device, images = device_or_skip(kind), MemoryRecords().images
    expected = embed(build(SPEC, 1), images, SPEC)
    assert_close(embed(build(SPEC, 1), images, SPEC, device=device, batch=16), expected)


def test_device_auto_is_one_that_is_here() -> None:
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2.0

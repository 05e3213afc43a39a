"""One record moves the sum that is noised by at most C(1 + 1e-5): what the accountant allows to rounding.

Measured from the shipped engine up to where the noise is added. "The record's own" is what its sum with nobody else
is: if the difference of two sums is that, neither the rounding of the sum nor the other records have moved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState, build_head
from participant.training.local_round import local_round
from participant.training.step import clipped_sum, pictures_at_once
from participant.training.workbench import NoiseShare
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.plan import SecureTerms
from shared.domain.privacy import Mode
from shared.domain.update import NoisyGridSum
from shared.extractors.architectures import TEXT, build
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat
from shared.privacy import noise_shares
from shared.privacy.mechanism import NoiseSource
from shared.secagg.fixed_point import from_ring
from tests.oracles.test_clipped_sum import MOST, TINY
from tests.plans import members, small_plan
from tests.round_kit import MemoryRecords, RepeatableNoise, make_bench, make_plan, make_request, paying

SLACK = 1 + 1e-5
"""By which the accountant enlarges the clip norm."""
OWN = 1e-9
"""Of C: how close to the record's own a difference of two sums must be; float32 sums of 500 records are 2e-5 away."""
CLIP_NORM_L2, AT_ONCE = 0.01, 16
CPU = torch.device("cpu")
PICTURES = ExtractorSpec("fixed-mlp", 1, 12, 12, 16)

Sums = Callable[[np.ndarray], np.ndarray]


class Given:
    """Records by their pixels; a record's class follows from its place in `pixels`."""

    classes = ("cat", "dog", "owl")

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[indices], indices % 3


def drawn_pixels(spec: ExtractorSpec, count: int) -> np.ndarray:
    shape = (count, spec.height, spec.width, spec.channels)
    return np.random.default_rng(7).integers(1, 256, shape, dtype=np.uint8)


def sums(spec: ExtractorSpec, extractor: nn.Module, pixels: np.ndarray, at_once: int = AT_ONCE) -> Sums:
    """The step's own sum, extractor and head, of the records with these indices."""
    plan = small_plan(extractor=spec, clip_norm_l2=CLIP_NORM_L2)
    torch.manual_seed(0)
    engine = make_engine(extractor, nn.Linear(spec.embedding_dim, 3), at_once, CPU)
    records = Given(pixels)
    return lambda drawn: np.concatenate(clipped_sum(engine, records, drawn, plan, NoiseSource()))


def assert_moved_by_its_own(moved: np.ndarray, own: np.ndarray) -> None:
    assert 0.5 * CLIP_NORM_L2 < np.linalg.norm(moved) <= CLIP_NORM_L2 * SLACK
    assert np.linalg.norm(moved - own) <= OWN * CLIP_NORM_L2


@pytest.mark.parametrize("count", [2, 4, 65, 500, 4000])
def test_one_more_of_many_equal_records_moves_the_sum_by_a_clip_norm(count: int) -> None:
    total = sums(PICTURES, build(PICTURES, 1), drawn_pixels(PICTURES, 1), at_once=64)
    # 35,000 coordinates that all records push the same way: where rounding of the sum is worst.
    equal = np.zeros(count, np.int64)
    assert_moved_by_its_own(total(equal) - total(equal[1:]), total(equal[:1]))


def test_coordinates_that_are_all_equal_round_to_the_same_side() -> None:
    spec = ExtractorSpec("fixed-mlp", 1, 16, 16, 4)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    total = sums(spec, flat, np.full((1, 16, 16, 1), 200, np.uint8), at_once=64)
    for count in (1000, 1700, 2500):
        moved = np.linalg.norm(total(np.zeros(count, np.int64)) - total(np.zeros(count - 1, np.int64)))
        assert moved <= CLIP_NORM_L2 * SLACK


@pytest.mark.parametrize("name", MOST)
def test_a_record_among_others_moves_the_sum_by_its_own_gradient_and_theirs_not_at_all(name: str) -> None:
    kind = RecordKind.TEXT if name in TEXT else RecordKind.IMAGE
    sides = (1, 1, 20) if name in TEXT else (3, 12, 12)
    spec = ExtractorSpec(name, *sides, 6, options=TINY[name], kind=kind)
    everybody = np.arange(2 * AT_ONCE + 4)
    total = sums(spec, build(spec, 5), drawn_pixels(spec, len(everybody)))
    whole = total(everybody)
    # First, so that all others move up a place; at the end of a portion; last, where another portion has to begin.
    for record in (0, AT_ONCE, 2 * AT_ONCE + 3):
        assert_moved_by_its_own(whole - total(np.delete(everybody, record)), total(everybody[[record]]))
    few = everybody[:4]
    assert_moved_by_its_own(total(few) - total(few[1:]), total(few[:1]))


def rounding_decides(spec: ExtractorSpec, picture: np.ndarray) -> nn.Module:
    """`fixed-mlp` with weights that a coordinator may send: a hidden unit is the rounding error of huge numbers."""
    module = build(spec, 1)
    with torch.no_grad():
        features = module.fixed(torch.from_numpy(to_input(picture, spec)))[0].double()
        direction = features / features.norm()
        weight = torch.randn(module.hidden.weight.shape, generator=torch.Generator().manual_seed(1)).double()
        module.hidden.weight.copy_(1e6 * (weight - (weight @ direction)[:, None] * direction))
        module.hidden.bias.zero_()
    return module


def test_weights_by_which_rounding_decides_move_the_sum_by_clip_norms_where_portions_follow_the_draw() -> (
    None
):
    picture = drawn_pixels(PICTURES, 1)
    extractor = rounding_decides(PICTURES, picture)
    torch.manual_seed(0)
    engine = make_engine(extractor, nn.Linear(PICTURES.embedding_dim, 3), 64, CPU)
    one = torch.from_numpy(to_input(picture, PICTURES))

    def total(count: int) -> np.ndarray:
        shaped = one.expand(count, *one.shape[1:]), torch.zeros(count, dtype=torch.int64)
        return np.concatenate(engine.clipped_sum(*shaped, CLIP_NORM_L2))

    farthest = max(float(np.linalg.norm(total(count) - total(count - 1))) for count in range(2, 20))
    if farthest <= CLIP_NORM_L2 * SLACK:
        pytest.skip(
            "this machine's libraries round alike for batches of 1 to 19 records: the attack has no hold"
        )
    assert farthest > 1.5 * CLIP_NORM_L2


@pytest.mark.parametrize("count", [2, 3, 4, 5, AT_ONCE + 1, AT_ONCE + 4])
def test_weights_by_which_rounding_decides_give_one_record_no_hold_on_the_others(count: int) -> None:
    picture = drawn_pixels(PICTURES, 1)
    total, equal = sums(PICTURES, rounding_decides(PICTURES, picture), picture), np.zeros(count, np.int64)
    assert_moved_by_its_own(total(equal) - total(equal[1:]), total(equal[:1]))


class Watched(RepeatableNoise):
    """Keeps what the noise is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: list[np.ndarray] = []

    def noised(self, values: np.ndarray, std: float) -> np.ndarray:
        self.sums.append(values)
        return super().noised(values, std)


class OneFewer(MemoryRecords):
    """Without its first record."""

    def __init__(self) -> None:
        super().__init__()
        self.training_indices = self.training_indices[1:]


def test_nothing_is_rounded_to_float32_before_the_noise_of_mode_local(tmp_path: Path) -> None:
    plan, pay = make_plan(rate=1.0, evaluate_every=0), paying(tmp_path / "ledger.jsonl")
    given = []
    for number, records in ((1, MemoryRecords()), (2, OneFewer())):
        bench = make_bench(plan)
        bench.records, bench.noise = records, Watched()
        local_round(make_request(plan, number), plan, pay(plan, number), get_flat(bench.extractor), bench)
        assert [part.dtype for part in bench.noise.sums] == [np.float64, np.float64]
        given.append(np.concatenate(bench.noise.sums))
    assert 0.0 < np.linalg.norm(given[0] - given[1]) <= plan.privacy.clip_norm_l2 * SLACK
    assert not np.array_equal(given[0], given[0].astype(np.float32))


def test_on_the_grid_of_mode_secure_one_record_moves_the_sum_by_its_own_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_shares, "fresh_seed", lambda: bytes(32))
    spec, pay = make_plan().extractor, paying(tmp_path / "ledger.jsonl")
    start, head = get_flat(build(spec, 1)), HeadState(np.eye(3, 4, dtype=np.float32), np.zeros(3, np.float32))
    # So fine a grid that a sum of 24 records, rounded to float32, would be several steps beside itself.
    secure = SecureTerms(2.0**-26, 32, tolerance_steps=1, mask_reach=0, share_threshold=3)
    plan = small_plan(
        mode=Mode.SECURE, secure=secure, quorum=3, colluders=1, members=members(4, 24), extractor=spec, rounds=2,
        clip_norm_l2=0.7, sampling_rate=1.0, trainable_coordinates=len(start),
    )  # fmt: skip
    rings = []
    for number, records in ((1, MemoryRecords()), (2, OneFewer())):
        bench, share = make_bench(plan), NoiseShare(4, (1,), (bytes(range(32)),))
        bench.records, bench.head = records, head
        found, _ = local_round(make_request(plan, number), plan, pay(plan, number), start, bench, share)
        assert isinstance(found, NoisyGridSum)
        rings.append(from_ring(np.asarray(found.ring), 32))
    engine = make_engine(build(spec, 1), build_head(head), pictures_at_once(plan, make_bench(plan)), CPU)
    own, _ = clipped_sum(engine, MemoryRecords(), np.array([0]), plan, NoiseSource())
    moved = (rings[0] - rings[1]) * secure.grid_width
    assert np.abs(moved - own).max() <= secure.grid_width
    assert 0.0 < np.linalg.norm(moved) <= plan.sensitivity_l2 * SLACK

"""What a record's gradient is must not depend on how many others were drawn, nor on where it stands among them.

Two ways in which libraries let it: the order in memory in which a batch lies, and the rows of a product with one column
behind the last multiple of four. In each, weights and plan are what a coordinator may choose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from participant.training import step, validation
from participant.training.dp_sgd import make_engine
from participant.training.head import HeadState
from participant.training.opacus_engine import _norms
from participant.training.portions import filled, records_at_once
from participant.training.step import clipped_sum, pictures_at_once
from participant.training.validation import exact_counts
from participant.training.workbench import Workbench
from shared.domain.errors import UnsoundPlan
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan
from shared.extractors.architectures import build
from shared.extractors.preprocess import to_input
from shared.privacy.mechanism import NoiseSource
from shared.privacy.soundness import check_numbers
from tests.oracles.test_clipped_sum import TINY
from tests.oracles.test_float_margin import CLIP_NORM_L2, CPU, OWN, SLACK, Given, drawn_pixels
from tests.plans import small_plan

AT_ONCE = 16
GREY = ExtractorSpec("small-gn", 1, 12, 12, 6, options={"width": 4})
ONE_COLUMN = ExtractorSpec("fixed-mlp", 3, 12, 12, 6, options={"scope": "lora", "lora_rank": 1})
OTHER_PORTIONS = ((17, 64), (1, 3), (31, 64), (33, 64), (1, 2), (5, 12))
"""(copies, micro-batch): more of what the default run has one of each."""
CONVOLUTIONAL = ("small-gn", "wrn-16-4-gn", "resnet18-gn", "fixed-mlp", "vit-tiny")

Sums = Callable[[int], np.ndarray]


def only_what_is_missing(x: Tensor, portion: int) -> Tensor:
    """`filled` as it was: a whole number of portions stays in the order in memory in which it came."""
    empty = -len(x) % portion
    return torch.cat([x, x.new_zeros(empty, *x.shape[1:])]) if empty else x


class Same(Given):
    """One picture of one grey, again and again: what shift2 leaves as it is."""

    def __init__(self, held_out: int = 0) -> None:
        super().__init__(np.full((1, 12, 12, 1), 60, np.uint8))
        self.held_out_indices = np.arange(held_out)

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(self.pixels, len(indices), axis=0), np.zeros(len(indices), np.int64)


def in_both_orders(module: nn.Sequential) -> list[Tensor]:
    """What comes before the last layer for the picture, in either of the orders in which one channel may lie."""
    pixels, _ = Same().load(np.arange(AT_ONCE))
    usual = torch.empty_strided((AT_ONCE, 1, 12, 12), (144, 144, 12, 1)).copy_(
        torch.from_numpy(to_input(pixels, GREY))
    )
    last = usual.as_strided(usual.shape, (144, 1, 12, 1))
    with torch.no_grad():
        return [nn.Sequential(*list(module)[:-1])(x)[0] for x in (usual, last)]


def order_decides(sign: int) -> tuple[nn.Module, nn.Linear]:
    """small-gn and a head that tell one order in memory from the other, or a skip where both round alike."""
    for seed in range(30):
        module = build(GREY, seed)
        assert isinstance(module, nn.Sequential)
        usual, last = in_both_orders(module)
        if (last - usual).abs().max() > 0:
            break
    else:
        pytest.skip("this machine's convolutions round alike in both orders: the attack has no hold")
    unit = int((last - usual).abs().argmax())
    torch.manual_seed(0)
    head, final = nn.Linear(6, 3), module[-1]
    assert isinstance(final, nn.Linear)
    with torch.no_grad():
        for parameter in (final.weight, final.bias, head.weight, head.bias):
            parameter.zero_()
        final.weight[0, unit] = sign * 1e4 / float(last[unit] - usual[unit])
        final.bias[0] = -(final.weight[0, unit] * usual[unit])
        head.weight[0, 0], head.weight[1, 0] = 1.0, -1.0
    return module, head


def shifted_plan() -> Plan:
    plan = small_plan(extractor=GREY, clip_norm_l2=CLIP_NORM_L2)
    return replace(plan, training=replace(plan.training, augmentations=("shift2",)))


def farthest(total: Sums, counts: tuple[int, ...]) -> float:
    """How far one record more moved the sum, in clip norms."""
    return max(float(np.linalg.norm(total(n) - total(n - 1))) for n in counts) / CLIP_NORM_L2


@pytest.mark.parametrize("protected", [False, True], ids=["as it was", "this software"])
def test_order_in_memory_gives_one_record_no_hold_on_the_others(
    protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not protected:
        monkeypatch.setattr(step, "filled", only_what_is_missing)
    module, head = order_decides(+1)
    engine, plan = make_engine(module, head, AT_ONCE, CPU), shifted_plan()

    def total(count: int) -> np.ndarray:
        return np.concatenate(clipped_sum(engine, Same(), np.arange(count), plan, NoiseSource()))

    moved = farthest(total, (15, 16, 17, 32, 33, 512, 513))
    assert moved <= SLACK if protected else moved > 100.0


@pytest.mark.parametrize("protected", [False, True], ids=["as it was", "this software"])
def test_order_in_memory_does_not_decide_over_the_counts(
    protected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not protected:
        monkeypatch.setattr(validation, "filled", only_what_is_missing)
    module, head = order_decides(-1)
    with torch.no_grad():
        head.bias[0] = 1.0
    counts = [exact_counts(module, head, shifted_plan(), Same(n), CPU, AT_ONCE) for n in (15, 16, 17)]
    moved = max(int(np.abs(more - fewer).sum()) for fewer, more in zip(counts, counts[1:], strict=False))
    assert moved == 1 if protected else moved > 10


def two_pictures() -> np.ndarray:
    """uint8 [2, 12, 12, 3], the same from left to right: what flip leaves as it is."""
    half = drawn_pixels(ONE_COLUMN, 2)[:, :, :6]
    return np.concatenate([half, half[:, :, ::-1]], axis=2)


class InTurn(Given):
    """Two pictures in turn, all of one class."""

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.pixels[indices % 2], np.zeros(len(indices), np.int64)


def place_decides(seed: int, scale: float = 1e9) -> nn.Module:
    """`fixed-mlp` of rank 1: its one number between two layers is the rounding error of huge ones."""
    module = build(ONE_COLUMN, 1)
    with torch.no_grad():
        seen = module.fixed(torch.from_numpy(to_input(two_pictures(), ONE_COLUMN))).double()
        span, _ = torch.linalg.qr(seen.T)
        generator = torch.Generator().manual_seed(seed)
        direction = torch.randn(seen.shape[1], generator=generator).double()
        direction -= span @ (span.T @ direction)
        module.hidden.lora_a.weight.copy_(scale * direction[None])
        module.hidden.lora_b.weight.copy_(torch.randn(module.hidden.lora_b.weight.shape, generator=generator))
    return module


def moved_by_place(copies: int, micro_batch: int = 64) -> float:
    """How far a record moves a sum of 20 with the plan's `copies` of each, in clip norms; the worst of 12 modules."""
    augmentations = ("flip",) if copies > 1 else ()
    plan = small_plan(
        extractor=ONE_COLUMN, clip_norm_l2=CLIP_NORM_L2, augmentations=augmentations,
        augmentation_multiplicity=copies,
    )  # fmt: skip
    plan = replace(plan, members=(replace(plan.members[0], declared_size=1000),))
    records, worst = InTurn(two_pictures()), 0.0
    for seed in range(12):
        module = place_decides(seed)
        torch.manual_seed(0)
        bench = Workbench(plan.members[0].member_id, module, records, HeadState.zeros(3, 6))
        bench.runtime = replace(bench.runtime, micro_batch=micro_batch)
        engine = make_engine(module, nn.Linear(6, 3), pictures_at_once(plan, bench), CPU)
        whole, without = (
            np.concatenate(clipped_sum(engine, records, np.arange(first, 20), plan, NoiseSource()))
            for first in (0, 1)
        )
        worst = max(worst, float(np.linalg.norm(whole - without)) / CLIP_NORM_L2)
    return worst


@pytest.mark.parametrize(
    ("copies", "micro_batch"),
    [(1, 64), *(pytest.param(*x, marks=pytest.mark.slow) for x in OTHER_PORTIONS)],
)
def test_place_gives_one_record_no_hold_on_the_others(copies: int, micro_batch: int) -> None:
    assert moved_by_place(copies, micro_batch) <= SLACK


def test_portions_of_two_records_would_give_it_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "records_at_once", lambda expected, most: max(1, min(2, most)))
    moved = moved_by_place(17)
    if moved <= SLACK:
        pytest.skip(
            "this machine's products with one column round alike in every place: the attack has no hold"
        )
    assert moved > 1.3


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_pictures_of_one_channel_move_the_sum_by_their_own_gradient(name: str) -> None:
    """Their two orders in memory both count as contiguous, and shift2 makes the other one."""
    spec = ExtractorSpec(name, 1, 12, 12, 6, options=TINY[name])
    plan = small_plan(extractor=spec, clip_norm_l2=CLIP_NORM_L2)
    torch.manual_seed(0)
    engine = make_engine(build(spec, 5), nn.Linear(6, 3), AT_ONCE, CPU)
    greys = np.arange(1, 2 * AT_ONCE + 2, dtype=np.uint8) * 6
    records = Given(np.broadcast_to(greys[:, None, None, None], (len(greys), 12, 12, 1)).copy())
    for augmentations in ((), ("shift2",)):
        changed = replace(plan, training=replace(plan.training, augmentations=augmentations))

        def total(drawn: np.ndarray, changed: Plan = changed) -> np.ndarray:
            return np.concatenate(clipped_sum(engine, records, drawn, changed, NoiseSource()))

        own = total(np.array([0]))
        for count in (AT_ONCE, AT_ONCE + 1, 2 * AT_ONCE, 2 * AT_ONCE + 1):
            moved = total(np.arange(count)) - total(np.arange(1, count))
            assert np.linalg.norm(moved - own) <= OWN * CLIP_NORM_L2


def test_a_batch_is_always_copied_into_the_usual_order() -> None:
    for count in (15, 16, 17):
        pictures = torch.rand(count, 12, 12, 1).permute(0, 3, 1, 2)
        whole = filled(pictures, AT_ONCE)
        assert whole.stride() == (144, 144, 12, 1) and torch.equal(whole[:count], pictures)
        assert not whole[count:].any()


def test_portions_are_of_one_record_or_of_a_multiple_of_four() -> None:
    sizes = {records_at_once(expected, most) for expected in (0.0, 3.0, 90.0, 1e9) for most in range(70)}
    assert sizes == {1, 4, 8, 16, 32, 64}


def test_a_plan_draws_no_more_than_the_bound_on_rounding_allows() -> None:
    def of(expected: int, **changes: int) -> Plan:
        plan = small_plan(sampling_rate=0.5, **changes)
        return replace(plan, members=(replace(plan.members[0], declared_size=2 * expected),))

    check_numbers(of(100_000))
    with pytest.raises(UnsoundPlan, match="declared size must be 1 to 100,000 for each member"):
        check_numbers(of(100_001))
    check_numbers(of(100, trainable_coordinates=100_000_000))
    with pytest.raises(UnsoundPlan, match="at most 100,000,000 trained coordinates"):
        check_numbers(of(100, trainable_coordinates=100_000_001))


@pytest.mark.parametrize("numbers", [5, 3001, 2**17 + 1])
def test_norms_are_the_same_to_the_last_bit_in_every_place(numbers: int) -> None:
    one = torch.randn(numbers, generator=torch.Generator().manual_seed(1))
    others = torch.randn(AT_ONCE, numbers, generator=torch.Generator().manual_seed(2))
    found = set()
    for place in range(AT_ONCE):
        others[place] = one
        found.add(float(_norms(others)[place]))
    assert len(found) == 1

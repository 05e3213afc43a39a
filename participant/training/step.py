"""Steps 4 and 5 of the walk: drawn records → clipped sum → noise. Every private step is this one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from participant.training.augment import augment
from participant.training.dp_sgd import NO_RECORD, PerExampleEngine, Sum
from participant.training.portions import filled, records_at_once
from participant.training.workbench import Indices, NoiseShare, Records, Workbench
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.distributed import COUNT_SCALE
from shared.privacy.mechanism import NoiseSource
from shared.privacy.noise_shares import own_blocks, vector_length
from shared.secagg.fixed_point import to_grid, to_ring
from shared.secagg.parameters import Ring, ring_type

LOADED_AT_ONCE = 512
"""Pictures whose pixels are held at once, so that a logical batch may be larger than the memory."""

Vector = npt.NDArray[np.float32]


def clipped_sum(
    engine: PerExampleEngine, records: Records, drawn: Indices, plan: Plan, noise: NoiseSource
) -> tuple[Sum, Sum]:
    """Σ clip(g_u) over the drawn records, joint clip over (extractor, head): float64 ([d], [h]) (clause 2.2)."""
    at_once = _records_at_once(engine, plan)
    loaded = max(1, LOADED_AT_ONCE // (at_once * plan.training.augmentation_multiplicity)) * at_once
    # The first portion is summed even when nothing was drawn: an empty batch is a legal batch (clause 2.4).
    extractor_sum, head_sum = _sum_of(engine, records, drawn[:loaded], plan, noise)
    for start in range(loaded, len(drawn), loaded):
        more = _sum_of(engine, records, drawn[start : start + loaded], plan, noise)
        extractor_sum, head_sum = extractor_sum + more[0], head_sum + more[1]
    return extractor_sum, head_sum


def pictures_at_once(plan: Plan, bench: Workbench) -> int:
    """What an engine for this plan's steps takes at once: whole records with all their copies."""
    copies = plan.training.augmentation_multiplicity
    expected = plan.expected_batch_size(bench.member_id)
    return copies * records_at_once(expected, bench.runtime.micro_batch // copies)


def noisy_step(module: nn.Module, total: Sum, plan: Plan, bench: Workbench, learning_rate: float) -> None:
    """w ← w - learning_rate · (S + N(0, (σC)²)) / expected batch size, in place; C' in place of C on a grid.

    `module` is the extractor or the head, `total` its part of S. Both parts of one step are one Gaussian mechanism
    (clauses 2.3, 4.1): noise of the same std on each coordinate. The divisor is the plan's q·n_declared, whatever
    was drawn (clause 2.4). Raises UnsoundPlan for a std of 0.
    """
    expected = np.float32(plan.expected_batch_size(bench.member_id))
    mean = bench.noise.noised(total, plan.noise_std_l2) / expected
    set_flat(module, get_flat(module) - np.float32(learning_rate) * mean)


def noisy_ring_sum(
    leaving: Sum,
    counts: npt.NDArray[np.int64] | None,
    plan: Plan,
    round_number: int,
    share: NoiseShare,
) -> Ring:
    """The part of the clipped sum that leaves on the plan's grid, then the counts if any, plus this member's noise.

    Elements of the plan's ring [d], or [d + 2] with counts in units of 1/COUNT_SCALE (clauses 3.1, 3.2, 3.4, 6.2).
    Rounding moves two neighbouring sums apart by at most γ·√d more: that is what C' pays for. A block at a time,
    so that nothing but the result is as long as the sum.
    """
    if plan.secure is None:
        raise UnsoundPlan("A plan of mode local has no grid. Nothing was noised and nothing may leave.")
    ring = np.empty(vector_length(plan, round_number), ring_type(plan.secure.ring_bits))
    for part, noised in own_blocks(plan, round_number, share.cohort_size, share.covered, share.step_seeds):
        # The counts, whose noise has a std of its own, are a block of their own.
        if counts is not None and part.start == leaving.size:
            noised += counts * COUNT_SCALE
        else:
            noised += to_grid(leaving[part], plan.secure.grid_width)
        ring[part] = to_ring(noised, plan.secure.ring_bits)
    return ring


def _sum_of(
    engine: PerExampleEngine, records: Records, drawn: Indices, plan: Plan, noise: NoiseSource
) -> tuple[Sum, Sum]:
    images_u8, labels = records.load(drawn)
    copies = plan.training.augmentation_multiplicity
    x = torch.from_numpy(to_input(images_u8, plan.extractor)).repeat_interleave(copies, dim=0)
    x = augment(x, plan.training.augmentations, noise)
    # A last portion of fewer records would change what the device finds for each of them.
    at_once = _records_at_once(engine, plan)
    y = torch.from_numpy(labels.astype(np.int64))
    y = F.pad(y, (0, -len(y) % at_once), value=NO_RECORD)
    return engine.clipped_sum(filled(x, at_once * copies), y, plan.privacy.clip_norm_l2, copies)


def _records_at_once(engine: PerExampleEngine, plan: Plan) -> int:
    return max(1, engine.portion // plan.training.augmentation_multiplicity)

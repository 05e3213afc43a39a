"""Steps 4 and 5 of the walk: drawn records → clipped sum → noise. Every private step is this one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from participant.training.augment import augment
from participant.training.dp_sgd import PerExampleEngine, Sum
from participant.training.workbench import Indices, Records
from shared.domain.plan import Plan
from shared.extractors.preprocess import to_input
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.mechanism import NoiseSource

LOADED_AT_ONCE = 512
"""Records whose pixels are held at once, so that a logical batch may be larger than the memory."""

Vector = npt.NDArray[np.float32]


def clipped_sum(
    engine: PerExampleEngine, records: Records, drawn: Indices, plan: Plan, noise: NoiseSource
) -> tuple[Sum, Sum]:
    """Σ clip(g_u) over the drawn records, joint clip over (extractor, head): ([d], [h]) (clause 2.2)."""
    # The first portion is summed even when nothing was drawn: an empty batch is a legal batch (clause 2.4).
    extractor_sum, head_sum = _sum_of(engine, records, drawn[:LOADED_AT_ONCE], plan, noise)
    for start in range(LOADED_AT_ONCE, len(drawn), LOADED_AT_ONCE):
        more = _sum_of(engine, records, drawn[start : start + LOADED_AT_ONCE], plan, noise)
        extractor_sum, head_sum = extractor_sum + more[0], head_sum + more[1]
    return extractor_sum, head_sum


def noisy_mean(
    sums: tuple[Sum, Sum], plan: Plan, member_id: str, noise: NoiseSource
) -> tuple[Vector, Vector]:
    """(S + N(0, (σC)²)) / expected batch size, for the extractor part [d] and the head part [h].

    One Gaussian mechanism over both parts (clauses 2.3, 4.1): each coordinate has noise of the same std. The
    divisor is the plan's q·n_declared, whatever was drawn (clause 2.4). Raises UnsoundPlan for a std of 0.
    """
    noise_std = plan.privacy.noise_multiplier * plan.privacy.clip_norm_l2
    expected = np.float32(plan.expected_batch_size(member_id))
    extractor_sum, head_sum = (noise.noised(part, noise_std) for part in sums)
    return extractor_sum / expected, head_sum / expected


def descend(module: nn.Module, mean_gradient: Vector, learning_rate: float) -> None:
    """w ← w - learning_rate · mean_gradient, in place."""
    set_flat(module, get_flat(module) - np.float32(learning_rate) * mean_gradient)


def _sum_of(
    engine: PerExampleEngine, records: Records, drawn: Indices, plan: Plan, noise: NoiseSource
) -> tuple[Sum, Sum]:
    images_u8, labels = records.load(drawn)
    x = augment(torch.from_numpy(to_input(images_u8, plan.extractor)), plan.training.augmentations, noise)
    return engine.clipped_sum(x, torch.from_numpy(labels.astype(np.int64)), plan.privacy.clip_norm_l2)

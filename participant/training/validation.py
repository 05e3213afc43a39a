"""Validation counts of a round: held-out units right and wrong, noised before they leave (clause 6.2)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from participant.training.head import with_head
from participant.training.portions import filled, halved, is_out_of_memory, records_at_once
from participant.training.runtime import MICRO_BATCH
from participant.training.workbench import Records
from shared.domain.plan import Plan
from shared.domain.update import ValidationCounts
from shared.extractors.preprocess import to_input
from shared.privacy.mechanism import NoiseSource

COUNTS_SENSITIVITY_L2 = 1.0
"""One held-out unit is one record here, and it is either right or wrong: one of two counts moves, by one."""


def exact_counts(
    extractor: nn.Module,
    head: nn.Linear,
    plan: Plan,
    records: Records,
    device: torch.device,
    micro_batch: int = MICRO_BATCH,
) -> npt.NDArray[np.int64]:
    """(right, wrong) over the held-out units, int64 [2]. Private: nothing leaves but with noise (clause 6.1).

    At most `micro_batch` records go through the modules at once: of large pictures more would need gigabytes. Where so
    many do not fit, half as many. Modules must be on `device`; they are left in eval mode. Raises OutOfMemory.
    """
    model = with_head(extractor, head).eval()
    correct, done, total = 0, 0, len(records.held_out_indices)
    portion = records_of_a_portion(micro_batch)
    while done < total:
        images_u8, labels = records.load(records.held_out_indices[done : done + portion])
        # In one shape too: of two classes as good as each other, rounding decides.
        x = filled(torch.from_numpy(to_input(images_u8, plan.extractor)), portion)
        found = logits(model, x, device)
        if found is None:
            portion = halved(portion, device)
        else:
            correct += int((found[: len(labels)].argmax(axis=1) == labels).sum())
            done += len(labels)
    return np.array([correct, total - correct], dtype=np.int64)


def records_of_a_portion(micro_batch: int) -> int:
    """How many records go through the modules at once."""
    return records_at_once(math.inf, micro_batch)


def logits(model: nn.Module, x: Tensor, device: torch.device) -> npt.NDArray[np.float32] | None:
    """[B, C, H, W] → float32 [B, classes]; None where the device's memory ran out."""
    try:
        with torch.no_grad():
            found: npt.NDArray[np.float32] = model(x.to(device)).cpu().numpy()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return found


def noised_counts(exact: npt.NDArray[np.int64], plan: Plan, noise: NoiseSource) -> ValidationCounts:
    """Mode local: each count + N(0, (evaluation noise multiplier)²), so they may be negative.

    Raises UnsoundPlan for a multiplier of 0.
    """
    std = plan.privacy.evaluation_noise_multiplier * COUNTS_SENSITIVITY_L2
    noised = noise.noised(exact.astype(np.float64), std)
    return ValidationCounts(correct=float(noised[0]), wrong=float(noised[1]))

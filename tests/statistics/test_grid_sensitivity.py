"""What leaves and the head that stays both get the noise of the grid's sensitivity C' = C + γ·√d (clauses 2.3, 3.1).

They are one Gaussian mechanism. A head that goes into the next rounds with less noise than was paid for makes the
whole transcript cost more than the ledger says. Seeds are fixed, so a verdict never changes from run to run; the
wanted stds are written out here and not asked of the plan.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from participant.training.head import HeadState
from participant.training.step import noisy_step
from participant.training.workbench import Workbench
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import GaussianEvent, Mode
from shared.extractors.vectors import get_flat, set_flat
from shared.privacy.accountant import epsilon
from shared.privacy.noise_shares import BASE, step_share
from tests.redteam_kit import redteam_plan
from tests.round_kit import MemoryRecords, RepeatableNoise
from tests.statistics.test_discrete_noise import has_std

CLIP, SIGMA, RATE = 0.7, 1.5, 0.5
SLACK = 1.4
"""γ·√d: twice the clip norm, far more than any plan that is proposed, so that it shows."""
EXPECTED_BATCH = 0.25 * 1000


def plan_of(mode: Mode) -> Plan:
    plan = redteam_plan(
        mode,
        trainable_coordinates=10_000,
        clip_norm_l2=CLIP,
        noise_multiplier=SIGMA,
        head_learning_rate=RATE,
    )
    return replace(plan, secure=SecureTerms(SLACK / 100, 32, 2, 0, 4) if mode is Mode.SECURE else None)


def noise_in_head(mode: Mode) -> np.ndarray:
    """What a step on an empty batch adds to the sum of a head's gradients: nothing but noise."""
    plan, head = plan_of(mode), nn.Linear(200, 200)
    set_flat(head, np.zeros(200 * 201, np.float32))
    bench = Workbench("mem_1", nn.Identity(), MemoryRecords(), HeadState.zeros(200, 200), RepeatableNoise(3))
    noisy_step(head, np.zeros(200 * 201, np.float32), plan, bench, plan.training.head_learning_rate)
    return get_flat(head).astype(np.float64) * -EXPECTED_BATCH / RATE


def test_noise_of_the_part_that_leaves_is_that_of_the_sensitivity_that_is_accounted_for() -> None:
    """A member's share for four honest of five members, in steps of the grid."""
    plan = plan_of(Mode.SECURE)
    drawn = step_share(plan, 1, 5, (1,), BASE, bytes(range(32)))
    whole = SIGMA * (CLIP + SLACK) / (SLACK / 100)
    assert has_std(drawn, math.sqrt(whole**2 / 4 + 4))
    for near_miss in (0.9, 1.1):
        assert not has_std(drawn, near_miss * math.sqrt(whole**2 / 4 + 4))


def cost_of_a_step(head_std: float) -> float:
    """ε of head and extractor together, for the unit whose gradient of length C moves them most.

    Its part in the extractor is moved by γ·√d more on the grid, whose noise is σ·C'.
    """
    angles = np.linspace(0.0, math.pi / 2, 2001)
    head, extractor = CLIP * np.sin(angles), CLIP * np.cos(angles) + SLACK
    shift = np.hypot(head / head_std, extractor / (SIGMA * (CLIP + SLACK))).max()
    return epsilon((GaussianEvent(1.0 / float(shift), 1.0, 1),), 1e-5)


@pytest.mark.parametrize(("mode", "std"), [(Mode.SECURE, SIGMA * (CLIP + SLACK)), (Mode.LOCAL, SIGMA * CLIP)])
def test_noise_of_a_private_head_is_that_of_the_sensitivity_that_is_accounted_for(
    mode: Mode, std: float
) -> None:
    noise = noise_in_head(mode)
    assert has_std(noise, std)
    for near_miss in (0.9, 1.1):
        assert not has_std(noise, near_miss * std)


def test_head_and_extractor_together_cost_what_is_charged_and_more_with_the_clip_norms_noise() -> None:
    charged = epsilon((GaussianEvent(SIGMA, 1.0, 1),), 1e-5)
    assert cost_of_a_step(float(noise_in_head(Mode.SECURE).std())) <= 1.01 * charged
    assert cost_of_a_step(SIGMA * CLIP) > 1.2 * charged

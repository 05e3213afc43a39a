"""Validation counts of mode secure carry the noise of clause 6.2: accepted at the formula's std, rejected beside it.

The wanted std is written out in numbers, not asked of the code that draws. Seeds are fixed, so a verdict never
changes from run to run.
"""

from __future__ import annotations

import math
from itertools import count

import numpy as np
import pytest

from shared.domain.privacy import Mode
from shared.privacy import noise_shares
from shared.privacy.noise_shares import COUNTS, base_share, own_blocks, vector_length
from tests.redteam_kit import redteam_plan
from tests.statistics.test_discrete_noise import has_std, seed

DRAWS, ROUND, COHORT = 200, 2, 5
COVERED = (1,)
"""Quorum 4 of 5: one drop-out is tolerated, in one step. One member may collude."""
PLAN = redteam_plan(Mode.SECURE, trainable_coordinates=7, evaluate_every=2, evaluation_noise_multiplier=20.0)
BASE_STD = math.sqrt((20.0 * 32) ** 2 / (5 - 1) + 4)
"""Per member, in thirty-seconds of a unit: 20 units of std from 5 − 1 honest members, and the smoothing."""
WHOLE_STD = math.sqrt((20.0 * 32) ** 2 / (5 - 1 - 1) + 4)
"""The same for the one drop-out that the step covers: 4 − 1 honest members are left."""


@pytest.fixture(autouse=True)
def fixed_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count(1)
    monkeypatch.setattr(noise_shares, "fresh_seed", lambda: seed(next(numbers)))


def has_only_std(counts: np.ndarray, std: float) -> bool:
    """Yes to the formula, and no to a third less and half as much again."""
    return has_std(counts, std) and not has_std(counts, std * 2 / 3) and not has_std(counts, std * 1.5)


def test_noise_on_counts_that_always_stays_is_that_of_the_formula() -> None:
    drawn = np.stack([base_share(PLAN, ROUND, COHORT, COVERED) for _ in range(DRAWS)])
    assert drawn.shape == (DRAWS, 7 + COUNTS)
    # Either count alone as well: one of them without noise would hide in both together.
    assert all(has_only_std(drawn[:, 7 + place], BASE_STD) for place in range(COUNTS))
    # They are two draws, not one twice.
    assert abs(np.corrcoef(drawn[:, 7], drawn[:, 8])[0, 1]) < 0.35


def test_noise_on_counts_that_leaves_a_member_is_that_of_the_formula() -> None:
    counts = []
    for number in range(DRAWS):
        vector = np.zeros(vector_length(PLAN, ROUND), dtype=np.int64)
        for part, integers in own_blocks(PLAN, ROUND, COHORT, COVERED, [seed(10_000 + number)]):
            vector[part] = integers
        counts.append(vector[-COUNTS:])
    assert has_only_std(np.concatenate(counts), WHOLE_STD)

"""The noise of a secure round as it was really drawn, for tests that must know it to the last integer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shared.domain.plan import Plan
from shared.privacy import noise_shares
from shared.privacy.noise_shares import BASE, step_share
from shared.secagg.parameters import tolerance


def listened_seeds(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every seed that members draw from now on for the component that always stays."""
    drawn: list[bytes] = []
    fresh_seed = noise_shares.fresh_seed

    def listen() -> bytes:
        drawn.append(fresh_seed())
        return drawn[-1]

    monkeypatch.setattr(noise_shares, "fresh_seed", listen)
    return drawn


def base_noise(plan: Plan, seeds: Sequence[bytes]) -> np.ndarray:
    """What `seeds`, one a member, add to the sum of round 1 when everybody answers: int64, in grid steps."""
    assert plan.secure is not None
    covered = tolerance(len(seeds), plan.quorum, plan.secure.tolerance_steps)
    return sum(step_share(plan, 1, len(seeds), covered, BASE, seed) for seed in seeds)

"""What leaves a member under its masks is its sum on the grid, its counts and its noise, to the last integer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from participant.training.step import noisy_ring_sum
from participant.training.workbench import NoiseShare
from shared.domain.errors import InvalidWeights
from shared.domain.plan import Plan
from shared.privacy import noise_shares
from shared.privacy.distributed import COUNT_SCALE
from shared.privacy.noise_shares import step_share
from shared.secagg.fixed_point import to_grid, to_ring
from shared.secagg.keys import noise_chain
from shared.secagg.parameters import tolerance
from tests.unit.test_secure_planning import planned

MEMBERS, D, BASE_SEED = 10, 70_000, bytes(range(32))


@pytest.fixture
def plan() -> Plan:
    """Three noise steps, more coordinates than two blocks hold, counts in even rounds."""
    return replace(planned(evaluate_every=2), trainable_coordinates=D)


@pytest.fixture
def share(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> NoiseShare:
    monkeypatch.setattr(noise_shares, "fresh_seed", lambda: BASE_SEED)
    return NoiseShare(MEMBERS, tolerance(MEMBERS, plan.quorum, 3), noise_chain(bytes(32), 3))


@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize("counts", [None, np.array([150, 40])])
def test_it_is_sum_counts_and_every_component(
    plan: Plan, share: NoiseShare, bits: int, counts: np.ndarray | None
) -> None:
    assert plan.secure is not None
    plan = replace(plan, secure=replace(plan.secure, ring_bits=bits))
    number = 1 if counts is None else 2
    leaving = np.random.default_rng(1).standard_normal(D).astype(np.float32)
    wanted = to_grid(leaving, plan.secure.grid_width)
    if counts is not None:
        wanted = np.append(wanted, counts * COUNT_SCALE)
    for component, seed in enumerate((BASE_SEED, *share.step_seeds)):
        wanted += step_share(plan, number, MEMBERS, share.covered, component, seed)
    found = noisy_ring_sum(leaving, counts, plan, number, share)
    assert found.dtype == np.dtype(f"u{bits // 8}")
    assert np.array_equal(found, to_ring(wanted, bits))


def test_counts_that_are_missing_or_out_of_place_are_no_shorter_contribution(
    plan: Plan, share: NoiseShare
) -> None:
    with pytest.raises(ValueError):
        noisy_ring_sum(np.zeros(D, np.float32), None, plan, 2, share)
    with pytest.raises(ValueError):
        noisy_ring_sum(np.zeros(D - 1, np.float32), None, plan, 1, share)


def test_a_sum_that_is_not_finite_does_not_leave(plan: Plan, share: NoiseShare) -> None:
    leaving = np.zeros(D, np.float32)
    leaving[-1] = np.nan
    with pytest.raises(InvalidWeights):
        noisy_ring_sum(leaving, None, plan, 1, share)

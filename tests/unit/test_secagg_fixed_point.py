"""The grid and the ring at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.domain.errors import InvalidMessage, InvalidWeights, UnsoundPlan
from shared.secagg.fixed_point import check_fits, from_ring, to_grid, to_ring


def test_the_grid_takes_the_nearest_point_and_halves_go_to_the_even_one() -> None:
    values = np.array([0.0, 0.24, -0.24, 0.26, 0.25, 0.75, -0.25, -1.0], dtype=np.float32)
    grid = to_grid(values, 0.5)
    assert grid.dtype == np.int64
    assert grid.tolist() == [0, 0, 0, 1, 0, 2, 0, -2]


def test_the_grid_keeps_shape_and_does_not_touch_its_input() -> None:
    values = np.linspace(-1.0, 1.0, 300_000).reshape(3, 100_000)
    before = values.copy()
    grid = to_grid(values, 2.0**-20)
    assert grid.shape == (3, 100_000)
    assert np.array_equal(values, before)
    assert np.abs(grid * 2.0**-20 - values).max() <= 2.0**-21


def test_rounding_moves_two_sums_apart_by_no_more_than_the_sensitivity_says() -> None:
    # Clause 3.1: C' = C + γ·√d, met with equality by sums that sit just beside the middle of two grid points.
    d, width = 64, 1.0
    low, high = np.full(d, 0.5 - 1e-9), np.full(d, 0.5 + 1e-9)
    moved = np.linalg.norm((to_grid(high, width) - to_grid(low, width)) * width)
    clip = np.linalg.norm(high - low)
    assert clip + 0.99 * width * math.sqrt(d) < moved <= clip + width * math.sqrt(d)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0**51, -(2.0**51), 1e300])
def test_a_number_that_the_grid_cannot_hold_is_refused_without_being_shown(bad: float) -> None:
    values = np.zeros(200_000)
    values[199_999] = bad
    with pytest.raises(InvalidWeights, match="Every number must be finite") as caught:
        to_grid(values, 1.0)
    assert str(bad) not in caught.value.message
    values[199_999] = np.nextafter(2.0**51, 0.0)
    assert to_grid(values, 1.0)[-1] == 2**51


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1.0, 2.0**-19, 0.037, 3.0])
def test_rounding_is_to_the_nearest_and_halves_to_the_even(dtype: type, width: float) -> None:
    """As numpy rounds the quotient, over all sizes of numbers that a grid has."""
    generator = np.random.default_rng(3)
    sizes = 2.0 ** generator.uniform(-30, 50, 20_000)
    halves = np.arange(-1001, 1001) / 2
    values = (np.concatenate([generator.standard_normal(20_000) * sizes, halves]) * width).astype(dtype)
    values = values[np.abs(values.astype(np.float64) / width) < 2.0**50]
    expected = np.rint(values.astype(np.float64) / width).astype(np.int64)
    assert np.array_equal(to_grid(values, width), expected)
    assert to_grid(halves[[1000, 1002, 1004]], 1.0).tolist() == [-0, 0, 2]


def test_a_number_that_overflows_on_a_fine_grid_is_refused() -> None:
    with pytest.raises(InvalidWeights):
        to_grid(np.array([1e300]), 1e-300)


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_a_grid_without_width_is_refused(width: float) -> None:
    with pytest.raises(UnsoundPlan, match="grid width must be finite and above 0"):
        to_grid(np.zeros(3), width)


@pytest.mark.parametrize("bits", [16, 32])
def test_the_ring_wraps_and_comes_back_centred(bits: int) -> None:
    half = 2 ** (bits - 1)
    there = to_ring(np.array([0, 1, -1, half - 1, -half, half, 2**62 + 5, -(2**62) + 5]), bits)
    assert there.tolist() == [0, 1, 2**bits - 1, half - 1, half, half, 5, 5]
    assert from_ring(there, bits).tolist() == [0, 1, -1, half - 1, -half, -half, 5, 5]
    assert from_ring(there, bits).dtype == np.int64


def test_a_ring_of_another_width_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="array of uint32, and this is uint16"):
        from_ring(np.zeros(3, np.uint16), 32)
    with pytest.raises(UnsoundPlan, match="the plan says 24"):
        to_ring(np.zeros(3, np.int64), 24)


def test_a_sum_fits_up_to_the_last_number_below_the_wrap() -> None:
    check_fits(3276, 10, 16)
    with pytest.raises(UnsoundPlan, match="must stay below 32768 steps, and 10 .* can reach 32770"):
        check_fits(3277, 10, 16)
    check_fits(2**31 - 1, 1, 32)
    with pytest.raises(UnsoundPlan):
        check_fits(2**31, 1, 32)

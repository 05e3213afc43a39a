"""The noise is Gaussian with the std that was asked for, and the Poisson coins have the rate of the plan.

Each check is a function with a verdict, and each is shown to say yes to the truth and no to a near miss.
Keystreams are fixed, so a verdict never changes from run to run.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy import stats

from shared.domain.errors import UnsoundPlan
from shared.privacy.mechanism import NoiseSource

LEVEL = 1e-5
"""Two-sided level of every verdict: a true source would fail one time in a hundred thousand seeds."""
SIZE = 20_000


class FixedKeystream(NoiseSource):
    """The shipped source on a keystream whose key is the number of the test."""

    def __init__(self, number: int) -> None:
        key = number.to_bytes(32, "big")
        self._encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def _keystream(self, n_bytes: int) -> bytes:
        return self._encryptor.update(bytes(n_bytes))


def has_std(sample: np.ndarray, std: float) -> bool:
    """Σx²/std² of a centred Gaussian sample is chi-square with n degrees of freedom."""
    statistic = float(np.sum(np.square(sample, dtype=np.float64))) / std**2
    low, high = stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], df=sample.size)
    return bool(low < statistic < high)


def has_mean_zero(sample: np.ndarray, std: float) -> bool:
    """The mean of n draws is N(0, std²/n)."""
    z = float(np.mean(sample, dtype=np.float64)) / (std / math.sqrt(sample.size))
    return abs(z) < stats.norm.ppf(1 - LEVEL / 2)


def is_normal(sample: np.ndarray, std: float) -> bool:
    """Kolmogorov–Smirnov against N(0, std²), and excess kurtosis, whose variance is 24/n."""
    fits = stats.kstest(sample.astype(np.float64) / std, "norm").pvalue > LEVEL
    kurtosis = float(stats.kurtosis(sample.astype(np.float64))) / math.sqrt(24 / sample.size)
    return bool(fits and abs(kurtosis) < stats.norm.ppf(1 - LEVEL / 2))


def are_independent(first: np.ndarray, second: np.ndarray) -> bool:
    """Correlation of values and of magnitudes; each is N(0, 1/n) for independent samples."""
    bound = stats.norm.ppf(1 - LEVEL / 2) / math.sqrt(first.size)
    plain = np.corrcoef(first, second)[0, 1]
    magnitudes = np.corrcoef(np.abs(first), np.abs(second))[0, 1]
    return bool(abs(plain) < bound and abs(magnitudes) < bound)


def has_poisson_rate(batches: np.ndarray, units: int, rate: float) -> bool:
    """Batch sizes of independent inclusion: mean n·q and variance n·q·(1 − q), both on two sides."""
    expected, variance = units * rate, units * rate * (1 - rate)
    z = (batches.mean() - expected) / math.sqrt(variance / batches.size)
    spread = float(np.sum((batches - expected) ** 2)) / variance
    low, high = stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], df=batches.size)
    return bool(abs(z) < stats.norm.ppf(1 - LEVEL / 2) and low < spread < high)


@pytest.mark.parametrize("std", [1e-3, 1.0, 37.5])
def test_noise_std_is_what_was_asked_for_and_neither_two_thirds_nor_three_halves(std: float) -> None:
    sample = FixedKeystream(1).gaussian(SIZE, std)
    assert sample.dtype == np.float32
    assert has_std(sample, std)
    assert not has_std(sample, std * 2 / 3)
    assert not has_std(sample, std * 3 / 2)


def test_std_verdict_sees_a_twentieth_too_much_or_too_little() -> None:
    sample = FixedKeystream(2).gaussian(SIZE, 1.0)
    assert not has_std(sample, 1.05)
    assert not has_std(sample, 0.95)


def test_noise_is_centred_and_the_verdict_sees_a_shift_of_a_twentieth() -> None:
    sample = FixedKeystream(3).gaussian(SIZE, 2.0)
    assert has_mean_zero(sample, 2.0)
    assert not has_mean_zero(sample + 0.1, 2.0)
    assert not has_mean_zero(sample - 0.1, 2.0)


def test_noise_is_normal_and_the_verdict_rejects_other_shapes() -> None:
    source = FixedKeystream(4)
    assert is_normal(source.gaussian(SIZE, 3.0), 3.0)
    uniform = (source.uniform(SIZE) - 0.5) * math.sqrt(12)
    laplace = -np.sign(uniform) * np.log1p(-np.abs(uniform) / math.sqrt(3)) / math.sqrt(2)
    assert not is_normal(uniform, 1.0)
    assert not is_normal(laplace, 1.0)
    assert not is_normal(np.clip(source.gaussian(SIZE, 1.0), -2.5, 2.5), 1.0)


def test_tails_of_two_million_draws_hold_as_many_as_a_gaussian_has() -> None:
    sample = np.abs(FixedKeystream(5).gaussian(2_000_000, 1.0))
    for threshold in (3.0, 4.0, 4.5):
        expected = 2 * stats.norm.sf(threshold) * sample.size
        low, high = stats.poisson.ppf([LEVEL / 2, 1 - LEVEL / 2], expected)
        assert low <= np.count_nonzero(sample > threshold) <= high


def test_both_halves_of_the_pairs_and_all_chunks_are_independent() -> None:
    sample = FixedKeystream(6).gaussian(4 * 65_536, 1.0)
    parts = np.split(sample, 4)
    for i, first in enumerate(parts):
        for second in parts[i + 1 :]:
            assert are_independent(first, second)
    assert not are_independent(parts[0], parts[0] * 0.1 + parts[1])
    assert not are_independent(parts[0], np.abs(parts[0]) * np.sign(parts[1]))


def test_calls_are_independent_of_each_other() -> None:
    source = FixedKeystream(7)
    first, second = source.gaussian(SIZE, 1.0), source.gaussian(SIZE, 1.0)
    assert are_independent(first, second)
    coins = source.uniform(SIZE)
    assert are_independent(first, coins - 0.5)


def test_shipped_source_never_repeats_itself() -> None:
    one, other = NoiseSource(), NoiseSource()
    draws = [one.gaussian(64, 1.0), one.gaussian(64, 1.0), other.gaussian(64, 1.0)]
    assert not np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert not np.array_equal(one.uniform(64), other.uniform(64))


def test_shipped_source_takes_no_seed() -> None:
    with pytest.raises(TypeError):
        NoiseSource(1)  # type: ignore[call-arg]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 131_071, 131_072, 131_073])
def test_every_size_is_filled_to_the_last_place(size: int) -> None:
    source = FixedKeystream(8)
    for drawn in (source.gaussian(size, 1.0), source.noised(np.zeros(size, np.float32), 1.0)):
        assert drawn.shape == (size,)
        assert np.all(np.isfinite(drawn))
        assert np.count_nonzero(drawn) == size
    assert source.uniform(size).shape == (size,)


def test_noised_is_the_value_plus_the_same_noise_rounded_once() -> None:
    values = np.linspace(-5, 5, 1000, dtype=np.float32)
    noised = FixedKeystream(9).noised(values, 2.0)
    assert noised.dtype == np.float32
    np.testing.assert_allclose(noised - values, FixedKeystream(9).gaussian(1000, 2.0), atol=2e-6)
    assert has_std(noised - values, 2.0)
    assert not has_std(noised - values, 2.0 * 2 / 3)
    assert not has_std(noised - values, 2.0 * 3 / 2)


def test_noised_results_near_zero_are_not_confined_to_the_grid_of_float32_noise() -> None:
    # A sum of 1 with noise near −1: float32 noise could only give multiples of 2⁻²⁴ here.
    noised = FixedKeystream(10).noised(np.ones(400_000, np.float32), 1.0).astype(np.float64)
    near_zero = noised[np.abs(noised) < 2.0**-6]
    on_grid = np.mean(near_zero * 2.0**24 == np.round(near_zero * 2.0**24))
    assert near_zero.size > 1000
    assert on_grid < 0.05


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_noise_without_a_proper_std_is_refused(std: float) -> None:
    with pytest.raises(UnsoundPlan, match="must be finite and above 0, and is .* No noise was drawn"):
        NoiseSource().gaussian(3, std)
    with pytest.raises(UnsoundPlan, match="nothing may leave"):
        NoiseSource().noised(np.zeros(3, np.float32), std)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_poisson_inclusion_has_the_rate_of_the_plan_and_not_a_near_one(rate: float) -> None:
    source, units = FixedKeystream(11), 500
    batches = np.array([np.count_nonzero(source.uniform(units) < rate) for _ in range(2000)])
    assert has_poisson_rate(batches, units, rate)
    assert not has_poisson_rate(batches, units, rate * 2 / 3)
    assert not has_poisson_rate(batches, units, rate * 3 / 2)


def test_poisson_verdict_rejects_batches_of_a_fixed_size_and_units_that_come_together() -> None:
    rate, units = 0.3, 500
    fixed = np.full(2000, units * rate)
    source = FixedKeystream(12)
    together = np.array([10 * np.count_nonzero(source.uniform(units // 10) < rate) for _ in range(2000)])
    assert not has_poisson_rate(fixed, units, rate)
    assert not has_poisson_rate(together, units, rate)


def test_uniforms_fill_zero_to_one_evenly_and_never_reach_one() -> None:
    drawn = FixedKeystream(13).uniform(200_000)
    assert stats.kstest(drawn, "uniform").pvalue > LEVEL
    assert stats.kstest(drawn**1.02, "uniform").pvalue < LEVEL
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0


class ExtremeKeystream(NoiseSource):
    """Every byte the same: the two ends of the generator's range."""

    def __init__(self, byte: int) -> None:
        self._byte = byte

    def _keystream(self, n_bytes: int) -> bytes:
        return bytes([self._byte]) * n_bytes


def test_ends_of_the_keystream_give_finite_noise_and_uniforms_below_one() -> None:
    lowest, highest = ExtremeKeystream(0x00), ExtremeKeystream(0xFF)
    assert lowest.gaussian(1, 1.0)[0] == pytest.approx(math.sqrt(2 * 53 * math.log(2)))
    assert highest.gaussian(1, 1.0)[0] == pytest.approx(0.0, abs=1e-7)
    assert lowest.uniform(1)[0] == 0.0
    assert highest.uniform(1)[0] < 1.0

"""Grid noise is the discrete Gaussian that was asked for, and what is left of it in a sum is the formula's.

Tables are exact, so they are compared with the true probabilities, not sampled. Samples come from fixed seeds, so
a verdict never changes from run to run, and each verdict is shown to say no to a near miss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import mpmath
import numpy as np
import pytest
from scipy import signal, stats

from shared.domain.errors import InvalidMessage, UnsoundPlan
from shared.privacy.alias_table import LARGEST_STD, AliasTable, Words, probabilities, table_of
from shared.privacy.discrete_gaussian import _levels, fresh_seed, from_seed
from shared.privacy.distributed import SMOOTHING_VARIANCE, retained_variance, share_variances
from shared.secagg.parameters import tolerance

LEVEL = 1e-5
"""Two-sided level of every verdict: true noise would fail for one seed in a hundred thousand."""
SIZE = 20_000


def seed(number: int) -> bytes:
    return number.to_bytes(32, "big")


def true_pmf(std: float, most: int) -> list[float]:
    """N_Z(0, std²) on −most … most."""
    weights = [math.exp(-(z * z) / (2 * std * std)) for z in range(-most, most + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def has_std(sample: np.ndarray, std: float) -> bool:
    """Σz²/std² of a centred Gaussian sample is chi-square with n degrees of freedom (nearly so from std 2)."""
    statistic = float(np.sum(np.square(sample, dtype=np.float64))) / std**2
    low, high = stats.chi2.ppf([LEVEL / 2, 1 - LEVEL / 2], df=sample.size)
    return bool(low < statistic < high)


def fits(sample: np.ndarray, std: float) -> bool:
    """Pearson's chi-square of the frequencies against N_Z(0, std²); rare values counted together."""
    most = math.ceil(6 * std)
    expected = np.array(true_pmf(std, most)) * sample.size
    observed = np.bincount(np.clip(sample, -most, most) + most, minlength=2 * most + 1)
    often = expected >= 20
    rest_expected, rest_observed = expected[~often].sum(), observed[~often].sum()
    statistic = float(np.sum((observed[often] - expected[often]) ** 2 / expected[often]))
    statistic += (rest_observed - rest_expected) ** 2 / max(rest_expected, 1e-9)
    return bool(statistic < stats.chi2.ppf(1 - LEVEL, df=int(often.sum())))


def pmf_of(table: AliasTable) -> dict[int, float]:
    """What the table draws, read back from its buckets."""
    pmf: dict[int, float] = {}
    buckets = 1 << table.bits
    full = 1 << (128 - table.bits)
    for bucket, (packed, fine) in enumerate(zip(table.packed.tolist(), table.fine.tolist(), strict=True)):
        threshold = ((packed >> table.bits) << 64) | fine
        for stored, weight in ((bucket, threshold), (packed & (buckets - 1), full - threshold)):
            pmf[stored - table.centre] = pmf.get(stored - table.centre, 0) + weight
    return pmf


@pytest.mark.parametrize("std", [0.3, 0.5, 1.0, 2.0, 30.0, 77.7, LARGEST_STD])
def test_table_draws_exactly_its_probabilities(std: float) -> None:
    wanted = probabilities(std)
    drawn = pmf_of(table_of(std))
    most = len(wanted) // 2
    assert sum(wanted) == 2**128
    assert [drawn.get(z, 0) for z in range(-most, most + 1)] == wanted
    assert sum(drawn.values()) == 2**128


@pytest.mark.parametrize("std", [0.3, 1.0, 2.5, 30.0])
def test_probabilities_are_the_discrete_gaussians_to_a_hundred_bits(std: float) -> None:
    with mpmath.workprec(400):
        wide = [
            mpmath.exp(-(mpmath.mpf(z) ** 2) / (2 * mpmath.mpf(std) ** 2)) for z in range(int(40 * std) + 9)
        ]
        whole = wide[0] + 2 * sum(wide[1:])
        ours = probabilities(std)
        half = ours[len(ours) // 2 :]
        apart = abs(half[0] / mpmath.mpf(2) ** 128 - wide[0] / whole)
        apart += sum(
            2 * abs(mpmath.mpf(w) / 2**128 - p / whole) for w, p in zip(half[1:], wide[1:], strict=False)
        )
        apart += 2 * sum(wide[len(half) :]) / whole
        assert apart / 2 < mpmath.mpf(2) ** -100


@pytest.mark.parametrize("std", [601.0, 1000.0, 1777.7])
def test_two_tables_together_are_one_wide_discrete_gaussian(std: float) -> None:
    (outer, factor), (inner, one) = _levels(std)
    assert one == 1
    spread = np.zeros(factor * (2 * outer.centre) + 1)
    coarse = pmf_of(outer)
    for z in range(-outer.centre, outer.centre + 1):
        spread[factor * (z + outer.centre)] = coarse[z] * 2.0**-128
    fine = pmf_of(inner)
    narrow = np.array([fine[z] * 2.0**-128 for z in range(-inner.centre, inner.centre + 1)])
    total = signal.convolve(spread, narrow, method="direct")
    most = 8 * int(std)
    middle = total.size // 2
    got = total[middle - most : middle + most + 1]
    assert np.max(np.abs(np.log(got / np.array(true_pmf(std, most))))) < 1e-9


def test_a_word_as_large_as_its_threshold_is_decided_by_a_second_word() -> None:
    # Bucket 1 of two: 0.75 of its words mean 1, the others 0, and the threshold ends in the middle of a word.
    threshold = (3 << 125) | (1 << 40)  # of 2¹²⁷
    table = AliasTable(
        bits=1,
        centre=0,
        packed=np.array([0, (threshold >> 64) << 1], np.uint64),
        fine=np.array([0, threshold & (2**64 - 1)], np.uint64),
    )
    tied = ((threshold >> 64) << 1) | 1
    asked: list[int] = []

    def second(value: int) -> Words:
        def more(size: int) -> Words:
            asked.append(size)
            return np.full(size, value, np.uint64)

        return table.look_up(np.array([tied - 2, tied, tied + 2], np.uint64), more)

    assert second((1 << 40) - 1).tolist() == [1, 1, 0]
    assert second(1 << 40).tolist() == [1, 0, 0]
    assert asked == [1, 1]


@pytest.mark.parametrize("std", [2.0, 30.0, 600.0, 601.0, 5e4, 3e7])
def test_std_is_what_was_asked_for_and_neither_two_thirds_nor_three_halves(std: float) -> None:
    sample = from_seed(seed(1), SIZE, std)
    assert sample.dtype == np.int64
    assert has_std(sample, std)
    assert not has_std(sample, std * 2 / 3)
    assert not has_std(sample, std * 3 / 2)


@pytest.mark.parametrize("std", [1.0, 2.0, 30.0])
def test_frequencies_are_the_discrete_gaussians_and_not_a_rounded_or_a_near_one(std: float) -> None:
    sample = from_seed(seed(2), 400_000, std)
    assert fits(sample, std)
    assert not fits(sample, std * 1.02)
    assert not fits(sample, std * 0.98)
    if std < 30:  # further out the two differ by less than this many draws can show
        rounded = np.rint(stats.norm.ppf((np.arange(400_000) + 0.5) / 400_000) * std).astype(np.int64)
        assert not fits(rounded, std)


@pytest.mark.parametrize("std", [1.0, 30.0, 1e5])
def test_draws_are_centred_and_independent_of_their_neighbours_and_of_other_chunks(std: float) -> None:
    sample = from_seed(seed(3), 1 << 17, std).astype(np.float64)
    bound = stats.norm.ppf(1 - LEVEL / 2)
    true_std = (
        math.sqrt(sum(p * (i - 400) ** 2 for i, p in enumerate(true_pmf(std, 400)))) if std < 31 else std
    )
    assert abs(sample.mean()) < bound * true_std / math.sqrt(sample.size)
    assert not abs((sample + 0.05 * std).mean()) < bound * true_std / math.sqrt(sample.size)
    for distance in (1, 2, 1 << 15, 1 << 16):
        first, second = sample[:-distance], sample[distance:]
        assert abs(np.corrcoef(first, second)[0, 1]) < bound / math.sqrt(first.size)
        assert abs(np.corrcoef(np.abs(first), np.abs(second))[0, 1]) < bound / math.sqrt(first.size)
        assert not abs(np.corrcoef(first, second + 0.1 * first)[0, 1]) < bound / math.sqrt(first.size)


def test_one_seed_gives_the_same_integers_everywhere_and_for_ever() -> None:
    # Both sides of a round must agree on them: a change here is a change of the protocol.
    key = bytes(range(32))
    assert from_seed(key, 8, 1.5).tolist() == [1, 0, 1, 0, -1, -1, -2, -3]
    assert from_seed(key, 8, 30.0).tolist() == [-16, 34, -8, 7, -52, -55, 42, 4]
    assert from_seed(key, 4, 1e5).tolist() == [-39450, 63187, -20844, 81622]
    long = from_seed(key, 70_000, 1e5)
    assert np.array_equal(long, from_seed(key, 70_000, 1e5))
    assert not np.array_equal(long, from_seed(seed(4), 70_000, 1e5))


def test_shipped_seeds_never_repeat_themselves() -> None:
    assert len({fresh_seed() for _ in range(100)}) == 100
    assert {len(fresh_seed()) for _ in range(100)} == {32}
    # The one draw here that no seed fixes: a twentieth is ten standard errors of SIZE draws, which chance never is.
    assert abs(from_seed(fresh_seed(), SIZE, 50.0).std() / 50.0 - 1.0) < 0.05


@pytest.mark.parametrize("size", [0, 1, 2, 32_767, 32_768, 32_769])
def test_every_size_is_filled_to_the_last_place(size: int) -> None:
    drawn = from_seed(seed(5), size, 1e9)
    assert drawn.shape == (size,)
    assert np.count_nonzero(drawn) == size


@pytest.mark.parametrize("std", [0.0, 0.29, -1.0, math.nan, math.inf, 2.0**41])
def test_noise_without_a_proper_std_is_refused(std: float) -> None:
    with pytest.raises(
        UnsoundPlan, match=r"deviation of 0.3 to 1.09951e\+12 grid steps, here it would be .* No "
    ):
        from_seed(seed(5), 3, std)


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_seed_of_another_length_is_refused(wrong: bytes) -> None:
    with pytest.raises(InvalidMessage, match=f"has 32 bytes, this one {len(wrong)}. No noise was drawn"):
        from_seed(wrong, 3, 1.0)


class Cohort:
    """Members whose noise is drawn component by component, as in a round."""

    def __init__(self, size: int, quorum: int, colluders: int, steps: int, total_variance: float) -> None:
        self.numbers = (total_variance, size, quorum, colluders)
        self.covered = tolerance(size, quorum, steps)
        stds = [math.sqrt(v) for v in share_variances(*self.numbers, self.covered)]
        self.components = [
            [from_seed(seed(1000 * member + j), SIZE, std) for j, std in enumerate(stds)]
            for member in range(size)
        ]

    def sum_of(self, survivors: Sequence[int], kept_steps: int) -> np.ndarray:
        """The survivors' noise once the steps above `kept_steps` are taken out."""
        return np.sum([part for m in survivors for part in self.components[m][: kept_steps + 1]], axis=0)

    def formula_std(self, survivors: int) -> float:
        return math.sqrt(retained_variance(*self.numbers, self.covered, survivors))


@pytest.mark.parametrize(
    ("size", "quorum", "colluders", "steps"), [(10, 7, 3, 3), (10, 7, 3, 2), (4, 3, 1, 1)]
)
def test_sum_keeps_the_noise_of_the_formula_at_full_participation_and_at_quorum(
    size: int, quorum: int, colluders: int, steps: int
) -> None:
    wanted = 900.0
    cohort = Cohort(size, quorum, colluders, steps, wanted**2)
    full = cohort.sum_of(range(size), 0)
    smoothing = size * SMOOTHING_VARIANCE
    assert cohort.formula_std(size) == pytest.approx(
        math.sqrt(wanted**2 * size / (size - colluders) + smoothing)
    )
    least = cohort.sum_of(range(quorum), steps)
    expected = math.sqrt(wanted**2 * quorum / (quorum - colluders) + quorum * SMOOTHING_VARIANCE)
    assert cohort.formula_std(quorum) == pytest.approx(expected)
    for total, std in ((full, cohort.formula_std(size)), (least, expected)):
        assert has_std(total, std)
        assert not has_std(total, std * 2 / 3)
        assert not has_std(total, std * 3 / 2)
    # Excess that is not removed is seen, and so is a step too many taken out.
    assert not has_std(cohort.sum_of(range(size), steps), cohort.formula_std(size))
    assert not has_std(cohort.sum_of(range(quorum), steps - 1), expected)


@pytest.mark.parametrize(("size", "quorum", "colluders"), [(10, 7, 3), (5, 4, 1), (20, 14, 6)])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_honest_survivors_always_retain_all_that_was_promised(
    size: int, quorum: int, colluders: int, steps: int
) -> None:
    for cohort in range(quorum, size + 1):
        covered = tolerance(cohort, quorum, steps)
        shares = share_variances(1e6, cohort, quorum, colluders, covered)
        for survivors in range(quorum, cohort + 1):
            kept = retained_variance(1e6, cohort, quorum, colluders, covered, survivors) / survivors
            honest = survivors - colluders
            assert honest * (kept - SMOOTHING_VARIANCE) >= 1e6 * (1 - 1e-12)
            if len(covered) == cohort - quorum:  # a step for each drop-out: not a bit more than promised
                assert honest * (kept - SMOOTHING_VARIANCE) == pytest.approx(1e6)
        assert min(shares) > 0.0


@pytest.mark.parametrize("covered", [(), (1, 2), (1, 2, 4), (3, 2, 3), (0, 3), (1, 1, 3)])
def test_steps_that_do_not_cover_what_the_quorum_tolerates_are_refused(covered: tuple[int, ...]) -> None:
    # With () a base component for ten would be left in a sum of seven: too little noise.
    with pytest.raises(
        UnsoundPlan, match="must cover the 3 drop-outs that a quorum of 7 in 10 members tolerates"
    ):
        share_variances(100.0, 10, 7, 3, covered)


def test_no_noise_is_promised_for_a_sum_below_the_quorum() -> None:
    with pytest.raises(UnsoundPlan, match="A sum holds 7 to 10 contributions, here it would hold 6"):
        retained_variance(100.0, 10, 7, 3, (1, 2, 3), 6)

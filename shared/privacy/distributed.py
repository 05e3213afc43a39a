"""Noise that honest members add together (clause 3): who adds how much, what remains, and why it is enough.

What has to be shown: the sum of (members counted on) discrete Gaussian shares costs no more than one
continuous Gaussian of std σ·C', which is what the accountant composes. Two steps, each within a factor
e^±τ of the probability of *every* outcome of a coordinate:

 1. *A sum is one.* For X ~ N_Z(0, a²) and Y ~ N_Z(0, b²) independent, X + Y is within 5·exp(−2π²t²),
    1/t² = 1/a² + 1/b², of N_Z(0, a² + b²): Kairouz, Liu, Steinke, "The distributed discrete Gaussian mechanism
    for federated learning with secure aggregation", ICML 2021, theorem on the convolution of two discrete
    Gaussians. Added one after the other, m components of std at least s are within 5·(m − 1)·exp(−π²s²).
 2. *One is post-processing.* Let Y = Δ + N(0, s² − r²) be the continuous mechanism, Δ whole, and draw z from
    the discrete Gaussian of variance r² *centred at Y*. The weights exp(−(z − Y)²/2r²) of all z sum to
    r·√(2π)·(1 ± η), η = 2·Σ_k exp(−2π²r²k²), wherever Y is (Poisson summation), so z is within
    5·exp(−2π²r²) of Δ + N_Z(0, s²). Whoever sees z could have made it from Y.

r² is SMOOTHING_VARIANCE: each member adds that much more than its part, so that σ itself is what the accountant
may take, for the consortium and for a member alone. Over T rounds of d coordinates the transcript is within
e^±a, a = T·d·τ, of post-processed continuous noise; with and without a record, that is (ε + 2a, e^a·δ).
`additive_slack` is 2a; soundness refuses a plan where it is more than the accountant's own rounding.

Reduction modulo 2^bits is post-processing of the noised sum: a wrap spoils a round and costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan, SecureTerms

COUNT_SCALE: Final = 32
"""Grid points of one counted unit of validation (clause 6.2): sensitivity is 1 unit, and whole, so no rounding."""
SMOOTHING_VARIANCE: Final = 4.0
"""r² of step 2 above, in grid steps squared: 5·exp(−2π²·4) is 3e-34."""

_TAIL_STDS: Final = 12.0
_LOG_UNLIKELY: Final = 12.0 * math.log(10.0)
_ROUNDED_SIZE: Final = 1.05
"""A declared size has two significant digits (clause 6.3): the true one is at most a twentieth more."""
_MOST_HELD_OUT: Final = 0.5


def share_variances(
    total_variance: float, cohort_size: int, quorum: int, colluders: int, covered: Sequence[int]
) -> tuple[float, ...]:
    """Variance of each noise component of one member, in the units of `total_variance`: base, step 1, 2 … (3.9).

    `total_variance` is (σ·C'/γ)² on the grid. Step j is needed when more than covered[j − 2] of the cohort
    drop out, and covers covered[j − 1] of them. With k steps kept each of the survivors retains
    total/(cohort − covered_k − colluders) + SMOOTHING_VARIANCE, so that the honest ones, at least
    cohort − covered_k − colluders, retain the total.

    Raises UnsoundPlan unless `covered` rises to exactly the drop-outs that the quorum tolerates.
    """
    tolerated = (0, *covered)
    rises = all(a < b for a, b in zip(tolerated, covered, strict=False))
    if not (rises and tolerated[-1] == cohort_size - quorum and 0 <= colluders < quorum):
        raise UnsoundPlan(
            f"Noise steps must cover the {cohort_size - quorum} drop-outs that a quorum of {quorum} in "
            f"{cohort_size} members tolerates, with fewer colluders than that; these cover "
            f"{list(covered) or 'none'} with {colluders} colluders. No noise was drawn. Plan at least one tolerance "
            "step."
        )
    retained = [total_variance / (cohort_size - lost - colluders) for lost in tolerated]
    steps = [after - before for before, after in zip(retained, retained[1:], strict=False)]
    return (retained[0] + SMOOTHING_VARIANCE, *steps)


def retained_variance(
    total_variance: float,
    cohort_size: int,
    quorum: int,
    colluders: int,
    covered: Sequence[int],
    survivors: int,
) -> float:
    """Variance of the noise in the sum of `survivors` once the excess is removed; from colluders too.

    Raises UnsoundPlan for fewer survivors than the quorum, and as `share_variances`.
    """
    shares = share_variances(total_variance, cohort_size, quorum, colluders, covered)
    dropped = cohort_size - survivors
    needed = next((k for k, most in enumerate((0, *covered)) if dropped <= most), None)
    if needed is None or dropped < 0:
        raise UnsoundPlan(
            f"A sum holds {quorum} to {cohort_size} contributions, here it would hold {survivors}. It has no "
            "noise to speak of. Close the round without a sum."
        )
    return survivors * sum(shares[: needed + 1])


def convolution_slack(least_std: float, components: int) -> float:
    """Step 1: how far, in the logarithm of a probability, the sum of `components` is from one discrete Gaussian.

    `least_std` of any component, in grid steps, is at least 1/2 (Kairouz, Liu, Steinke 2021).
    """
    if components > 1 and least_std < 0.5:
        return math.inf
    return 5.0 * (components - 1) * math.exp(-((math.pi * least_std) ** 2))


def smoothing_slack() -> float:
    """Step 2: how far one discrete Gaussian is from post-processed continuous noise."""
    return 5.0 * math.exp(-2.0 * math.pi**2 * SMOOTHING_VARIANCE)


def additive_slack(plan: Plan) -> float:
    """2·T·d·τ over training and validation: what ε could be more by, were nothing rounded up; 0.0 in mode local."""
    if plan.secure is None:
        return 0.0
    evaluations = plan.rounds // plan.evaluate_every if plan.evaluate_every else 0
    slack = (
        2.0
        * plan.rounds
        * plan.trainable_coordinates
        * _coordinate_slack(plan, plan.secure, grid_variance(plan))
    )
    if evaluations:
        slack += 4.0 * evaluations * _coordinate_slack(plan, plan.secure, count_variance(plan))
    return slack


def grid_variance(plan: Plan) -> float:
    """(σ·C'/γ)²: what the sum needs on each extractor coordinate, in grid steps squared (clause 3.2)."""
    steps = plan.noise_std_l2 / _secure(plan).grid_width
    return steps * steps  # of a plan that nobody checked yet it may be infinite, where ** raises


def count_variance(plan: Plan) -> float:
    """What the sum needs on each of the two validation counts, in units of 1/COUNT_SCALE squared (clause 6.2)."""
    return (plan.privacy.evaluation_noise_multiplier * COUNT_SCALE) ** 2


def largest_batch(plan: Plan, member_id: str) -> float:
    """Units that a Poisson batch of this member exceeds with a chance below 1e-12, from public numbers only.

    Bernstein's inequality for a sum of coins: P(N ≥ µ + x) ≤ exp(−x²/(2µ + 2x/3)).
    """
    mean = _ROUNDED_SIZE * plan.expected_batch_size(member_id)
    third = _LOG_UNLIKELY / 3.0
    drawn = mean + third + math.sqrt(third**2 + 2.0 * mean * _LOG_UNLIKELY)
    return min(drawn, mean / plan.privacy.sampling_rate)


def largest_sum(plan: Plan) -> float:
    """How far from 0 a coordinate of the sum can get, in grid steps: all units aligned, noise at 12 std (3.4)."""
    secure, members = _secure(plan), len(plan.members)
    clipped = sum(largest_batch(plan, m.member_id) for m in plan.members) * plan.privacy.clip_norm_l2
    return clipped / secure.grid_width + members / 2.0 + _TAIL_STDS * _full_std(plan, grid_variance(plan))


def largest_count(plan: Plan) -> float:
    """As `largest_sum`, for the two validation counts. A fifth of a data set is held out; half is allowed for."""
    return _MOST_HELD_OUT * COUNT_SCALE * plan.declared_total + _TAIL_STDS * _full_std(
        plan, count_variance(plan)
    )


def _full_std(plan: Plan, total_variance: float) -> float:
    """Std of all members' noise with every step still in it."""
    return math.sqrt(len(plan.members) * (total_variance / plan.least_honest + SMOOTHING_VARIANCE))


def _coordinate_slack(plan: Plan, secure: SecureTerms, total_variance: float) -> float:
    """τ of one coordinate in the worst cohort: the least std of any component, and the most components."""
    honest = len(plan.members) - plan.colluders
    least_variance = total_variance / honest + SMOOTHING_VARIANCE
    for cohort in range(plan.quorum + 1, len(plan.members) + 1):
        tolerated = cohort - plan.quorum
        # A step covers this many drop-outs or one more: total/h' − total/(h' + its width) is above the line below.
        width = tolerated // min(tolerated, max(1, secure.tolerance_steps))
        least_variance = min(least_variance, total_variance * width / (cohort - plan.colluders) ** 2)
    components = honest * (1 + secure.tolerance_steps)
    return convolution_slack(math.sqrt(least_variance), components) + smoothing_slack()


def _secure(plan: Plan) -> SecureTerms:
    if plan.secure is None:
        raise UnsoundPlan(
            "A plan of mode local has no grid. No noise was drawn. Ask for a plan of mode secure."
        )
    return plan.secure

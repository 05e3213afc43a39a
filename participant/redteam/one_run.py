"""A rigorous lower bound on ε from one run: Steinke, Nasr, Jagielski 2023, "Privacy auditing with one (1)
training run", theorem 5.2.

Each of m canaries was in the data with probability ½, independently. An auditor who saw only what left guesses
about r of them and is right v times. If the mechanism were (ε, δ)-DP for one canary added or removed, guessing so
well would have a probability of at most `p_value`; where that is below 1 - confidence, ε is refuted.

It is a bound: it holds whatever the mechanism does, and it is weak. With m = 1,000 it cannot exceed about 4.5, so
it can never refute a claim of 8. What catches errors in practice is the estimate in self_audit.py.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

CONFIDENCE = 0.95
GUESSED_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the canaries, half as present and half as absent. All are tried; the confidence is shared among them."""
_MOST_EPSILON, _EXACT = 32.0, 1e-4


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The largest probability with which an (ε, δ)-DP mechanism lets anyone be right so often.

    Theorem 5.2 (pure part: each guess is right with probability e^ε/(1 + e^ε), theorem 3.1 and following),
    as the algorithm of the paper's appendix D computes it.
    """
    chance = 1.0 / (1.0 + math.exp(-epsilon))
    pure = float(binom.sf(right - 1, guesses, chance))
    if right == 0:
        return min(1.0, pure)
    back = np.arange(1, right + 1)
    below = np.cumsum(binom.pmf(right - back, guesses, chance))
    alpha = float(np.max(below / back))
    return min(1.0, pure + alpha * delta * 2.0 * canaries)


def epsilon_refuted(canaries: int, guesses: int, right: int, delta: float, error: float) -> float:
    """The largest ε whose p-value is below `error`, a ten-thousandth too small at most; 0 where none is."""
    if p_value(canaries, guesses, right, 0.0, delta) >= error:
        return 0.0
    low, high = 0.0, 1.0
    while high < _MOST_EPSILON and p_value(canaries, guesses, right, high, delta) < error:
        low, high = high, 2.0 * high
    while high - low > _EXACT:
        middle = (low + high) / 2.0
        if p_value(canaries, guesses, right, middle, delta) < error:
            low = middle
        else:
            high = middle
    return low


def lower_bound(
    scores: npt.NDArray[np.float64],
    present: npt.NDArray[np.bool_],
    delta: float,
    confidence: float = CONFIDENCE,
) -> float:
    """The least ε that `confidence` allows: highest scores [m] are guessed present, lowest absent.

    How many guesses are best depends on the scores, so every share of GUESSED_SHARES is tried, each with an
    equal part of the error (Bonferroni): the bound keeps its confidence.
    """
    order, canaries = np.argsort(scores), len(scores)
    best = 0.0
    for share in GUESSED_SHARES:
        each = max(1, round(share * canaries / 2))
        if 2 * each > canaries:
            continue
        right = int(present[order[-each:]].sum() + (~present[order[:each]]).sum())
        error = (1.0 - confidence) / len(GUESSED_SHARES)
        best = max(best, epsilon_refuted(canaries, 2 * each, right, delta, error))
    return best

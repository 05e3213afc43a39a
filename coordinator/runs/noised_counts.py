"""Accuracy from validation counts that carry noise (clause 6.2): one formula for pages, programs and the terminal."""

from __future__ import annotations

import math

from shared.release.about import validation_text

MOST_NOISE = 0.25
"""Of the counts together, in one standard deviation: beyond it the first order below means nothing any more."""


def accuracy(correct: float, wrong: float, noise_std: float | None) -> tuple[float, float] | None:
    """Accuracy and its error bar of one standard deviation of the noise; None where the noise is not known, or so
    large that nothing can be read.

    With c + w = n and independent noise of std s on each count: c/n ± s·√(c² + w²)/n², to first order. Noise may
    carry a count below 0 and the other above n: an accuracy stays within 0 and 1.
    """
    total = correct + wrong
    if noise_std is None or total <= 0.0 or noise_std > MOST_NOISE * total:
        return None
    share = min(1.0, max(0.0, correct / total))
    return share, noise_std * math.hypot(1.0 - share, share) / total


def accuracy_text(found: tuple[float, float] | None) -> str:
    """What `accuracy` found, as people read it: `70.0 % ± 3.8 %`."""
    return "too noisy to read" if found is None else validation_text(*found)

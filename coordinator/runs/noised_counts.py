"""Accuracy from validation counts that carry noise (clause 6.2): one formula for pages, programs and the terminal."""

from __future__ import annotations

import math


def accuracy(correct: float, wrong: float, noise_std: float) -> tuple[float, float] | None:
    """Accuracy and its error bar of one standard deviation of the noise; None where noise left nothing.

    With c + w = n and independent noise of std s on each count: c/n ± s·√(c² + w²)/n², to first order.
    """
    total = correct + wrong
    if total <= 0.0:
        return None
    share = correct / total
    return share, noise_std * math.hypot(1.0 - share, share) / total

"""Held-out accuracy and how far it may be from the truth. Such numbers stay at home (clause 6.1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from shared.domain.errors import Invalid

if TYPE_CHECKING:
    from participant.heads.head import Head

_Z_95 = 1.959963984540054
"""97.5 % point of the standard normal distribution."""


class Accuracy(NamedTuple):
    """A share of records classified right, with its Wilson 95 % interval; all in 0…1."""

    accuracy: float
    low: float
    high: float


def accuracy_with_interval(correct: int, total: int) -> Accuracy:
    """Accuracy and the score interval of Wilson (JASA 1927), as in Brown, Cai, DasGupta (2001), eq. 4.

    It takes records as independent: with many records of each person the true interval is wider.
    Raises Invalid unless 0 ≤ correct ≤ total and total ≥ 1.
    """
    if not 0 <= correct <= total or total < 1:
        raise Invalid(
            "An accuracy needs at least 1 held-out record and no more correct than there are; found "
            f"{correct} of {total}. Nothing was measured. Add labelled records."
        )
    share, z2 = correct / total, _Z_95 * _Z_95
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # At 0 and 1 the interval touches the edge exactly; rounding must not push it past.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return Accuracy(share, low, high)


def measure(
    head: Head,
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    release_digest: str,
) -> Accuracy:
    """Accuracy of `head` on held-out embeddings [n, D] with labels [n] into `classes` (the data set's).

    A record of a class that the head never saw counts as wrong. Raises HeadMismatch, and Invalid when n is 0.
    """
    if len(labels) != len(embeddings):
        raise Invalid(f"Expected a label for each of {len(embeddings)} records, found {len(labels)}.")
    truth = [classes[int(k)] for k in labels]
    guessed = head.predict_names(embeddings, release_digest=release_digest)
    return accuracy_with_interval(sum(a == b for a, b in zip(truth, guessed, strict=True)), len(truth))

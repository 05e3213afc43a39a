"""The two numbers of a lens profile: how far embeddings move, and what a linear probe reads from them.

Both look at standardised embeddings (every dimension divided by its spread), so neither the scale nor the number
of dimensions of an extractor enters. Both are there for every picture, so that two extractors that looked at the same
ones are compared picture by picture (paired.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from shared.lens.estimate import Measured

Vectors = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

RESAMPLES = 1000
INTERVAL = 0.95
SEED = 20_261
PENALTY = 100.0
"""scikit-learn's C, for inputs whose mean square length is 1."""
_STEPS = 1000
_ROUNDING = 1e-5
"""A dimension that varies by less than so much of its largest value is constant: float32 rounds sums so."""


class Scale(NamedTuple):
    """What standardises embeddings: mean and spread of each dimension, float64 [D]; 0 takes a dimension out."""

    mean: Vectors
    factor: Vectors


def scale_of(embeddings: Vectors) -> Scale:
    """The scale under which `embeddings` [N, D] have a mean square length of 1; constant dimensions are out."""
    spread = embeddings.std(axis=0)
    varies = spread > _ROUNDING * np.abs(embeddings).max(axis=0)
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)
    return Scale(embeddings.mean(axis=0), factor / math.sqrt(max(int(varies.sum()), 1)))


def scaled(embeddings: Vectors, scale: Scale) -> Vectors:
    """`embeddings` [N, D] under `scale`."""
    return (embeddings - scale.mean) * scale.factor


class Distances(NamedTuple):
    """Of every picture, float64 [N]: how far a change moved it, and how far pictures of other subjects are."""

    moved: Vectors
    apart: Vectors


def distances(before: Vectors, after: Mapping[str, Vectors], subjects: Labels) -> dict[str, Distances]:
    """How far each change moves embeddings [N, D], and how far apart those with other labels in `subjects` [N] are.

    Euclidean. All embeddings together give the scale, so a dimension that only a change moves counts too.
    """
    scale = scale_of(np.concatenate([before, *after.values()]))
    start = scaled(before, scale)
    others = subjects[:, None] != subjects[None, :]
    apart = (cdist(start, start) * others).sum(axis=1) / others.sum(axis=1)
    return {
        name: Distances(np.linalg.norm(scaled(moved, scale) - start, axis=1), apart)
        for name, moved in after.items()
    }


def movement(found: Distances) -> Measured:
    """The mean distance that the pictures moved, in mean distances between pictures of different subjects.

    0: the embedding does not see the change; 1: the picture went as far as to another one. Where all unchanged
    pictures have one embedding, every movement is 0. The interval is the percentile bootstrap over pictures (Efron
    and Tibshirani 1993, section 13.3).
    """
    return Measured(float(ratio(found.moved.mean(), found.apart.mean())), *percentiles(moved_ratios(found)))


def moved_ratios(found: Distances) -> Vectors:
    """The movement of RESAMPLES draws of as many pictures, [RESAMPLES]; of equally many always the same draws."""
    drawn = draws(len(found.moved))
    return ratio(found.moved[drawn].mean(axis=1), found.apart[drawn].mean(axis=1))


def movements(before: Vectors, after: Mapping[str, Vectors], subjects: Labels) -> dict[str, Measured]:
    """`movement` of every change, as `distances` gives them."""
    return {name: movement(found) for name, found in distances(before, after, subjects).items()}


def answers(embeddings: Vectors, labels: Labels, held_out: Mask) -> Mask:
    """Of each held-out label, whether logistic regression on the other embeddings [N, D] gets it right.

    Of an embedding that is the same for all pictures the probe says the same of all.
    """
    scale = scale_of(embeddings[~held_out])
    learned, asked = (scaled(embeddings[mask], scale) for mask in (~held_out, held_out))
    # Turned so that all dimensions that the learned ones span come first: the same fit, of fewer numbers.
    axes = np.linalg.svd(learned, full_matrices=False)[2].T
    model = LogisticRegression(C=PENALTY, max_iter=_STEPS).fit(learned @ axes, labels[~held_out])
    right: Mask = model.predict(asked @ axes) == labels[held_out]
    return right


def share(right: Mask) -> Measured:
    """The share of right answers; the interval is Wilson's (JASA 1927)."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(INTERVAL, method="wilson")
    return Measured(float(right.mean()), float(interval.low), float(interval.high))


def probe(embeddings: Vectors, labels: Labels, held_out: Mask) -> Measured:
    """`share` of `answers`."""
    return share(answers(embeddings, labels, held_out))


def draws(pictures: int) -> Labels:
    """Which pictures are in each resample, [RESAMPLES, pictures]: the same for whoever asks."""
    return np.random.Generator(np.random.PCG64(SEED)).integers(pictures, size=(RESAMPLES, pictures))


def percentiles(resampled: Vectors) -> tuple[float, float]:
    """The ends of the percentile interval."""
    tail = (1 - INTERVAL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return float(low), float(high)


def ratio(moved: Vectors, apart: Vectors) -> Vectors:
    """`moved` / `apart`; 0 where nothing is apart."""
    return np.divide(moved, apart, out=np.zeros_like(moved), where=apart > 0)

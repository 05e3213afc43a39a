"""The folded head against scikit-learn's own pipeline of scaler and classifier, on handwritten digits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from participant.heads.fit import fit_head
from shared.domain.extractor import ExtractorSpec

RELEASE = "sha256:" + "a" * 64
SPEC = ExtractorSpec("small-gn", 1, 8, 8, embedding_dim=64)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("per_class", [10, 20, 80])
def test_head_gives_the_probabilities_of_the_scikit_learn_pipeline(classes: int, per_class: int) -> None:
    digits = load_digits()
    embeddings = digits.data.astype(np.float32)
    train = np.concatenate([np.flatnonzero(digits.target == k)[:per_class] for k in range(classes)])
    test = np.setdiff1d(np.flatnonzero(digits.target < classes), train)
    names = tuple(str(k) for k in range(classes))
    head = fit_head(embeddings[train], digits.target[train], names, spec=SPEC, release_digest=RELEASE)
    oracle = make_pipeline(
        StandardScaler(), LogisticRegression(C=head.inverse_regularisation, max_iter=2000)
    ).fit(embeddings[train].astype(np.float64), digits.target[train])
    mine = head.probabilities(embeddings[test], release_digest=RELEASE)
    # Not equal: the head holds float32, the pipeline float64.
    assert np.abs(mine - oracle.predict_proba(embeddings[test])).max() < 1e-5
    agree = head.predict(embeddings[test], release_digest=RELEASE) == oracle.predict(embeddings[test])
    assert agree.mean() > 0.998


def test_twenty_labels_a_class_beat_the_nearest_class_mean() -> None:
    digits = load_digits()
    embeddings = digits.data.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(digits.target))
    train = np.concatenate([order[digits.target[order] == k][:20] for k in range(10)])
    test = np.setdiff1d(order, train)
    names = tuple(str(k) for k in range(10))
    head = fit_head(embeddings[train], digits.target[train], names, spec=SPEC, release_digest=RELEASE)
    right = (head.predict(embeddings[test], release_digest=RELEASE) == digits.target[test]).mean()
    means = np.stack([embeddings[train][digits.target[train] == k].mean(axis=0) for k in range(10)])
    nearest = np.linalg.norm(embeddings[test][:, None] - means, axis=2).argmin(axis=1)
    assert right > 0.9 and right > (nearest == digits.target[test]).mean()

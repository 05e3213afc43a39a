"""Fit a head: multinomial logistic regression on frozen embeddings, without noise (clause 2.6).

The release is public and the records are the member's own, so nothing here needs a privacy budget, and
nothing here may leave.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from participant.heads.head import Head
from shared.domain.clock import Clock, SystemClock, to_text
from shared.domain.errors import Invalid
from shared.domain.extractor import ExtractorSpec

FEW_LABELS_C = 0.1
"""Used below LABELS_FOR_CHOICE. Measured with 2 to 50 labels a class on standardised features of
handwritten digits: within a point of the best of 10⁻⁴ … 10 on 64 raw pixels and on 256 and 1,280 random
convolutions; at worst 1.7 points below it on 64 random projections."""
CANDIDATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LABELS_FOR_CHOICE = 30
"""Labels that the rarest class needs before C is chosen by cross-validation; below it the choice is noise."""
FOLDS = 3
RECORDS_FOR_CHOICE = 2000
"""C is chosen on at most this many records; the head is then fitted on all."""
_ITERATIONS = 1000
_NEGLIGIBLE = 1e-6

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def fit_head(
    embeddings: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    spec: ExtractorSpec,
    release_digest: str,
    clock: Clock | None = None,
) -> Head:
    """A head fitted on `embeddings` [n, D] with `labels` [n] into `classes`.

    Classes without a record are left out of the head and named in `missing_classes`. Features are
    standardised for the fit and the scaling is folded back into weight and bias, so that these two are the
    whole head. Raises Invalid for lengths that do not match, values that are not finite, or fewer than 2
    classes with records.
    """
    _check(embeddings, labels, classes)
    present = np.unique(labels)
    codes = np.searchsorted(present, labels).astype(np.int64)
    mean, scale = _standardisation(embeddings)
    standardised = embeddings.astype(np.float64)  # changed in place: it is the largest thing that is held
    standardised -= mean
    standardised /= scale
    c = choose_c(standardised, codes)
    weight, bias = _fit(standardised, codes, c)
    folded = weight / scale
    return Head(
        classes=tuple(classes[k] for k in present),
        weight=folded.astype(np.float32),
        bias=(bias - folded @ mean).astype(np.float32),
        spec=spec,
        release_digest=release_digest,
        created_at=to_text((clock or SystemClock()).now()),
        labels_fitted=len(labels),
        missing_classes=tuple(name for k, name in enumerate(classes) if k not in present),
        inverse_regularisation=c,
    )


def choose_c(standardised: Matrix, codes: Labels) -> float:
    """C by stratified cross-validated accuracy where every class has enough labels, else FEW_LABELS_C.

    Of candidates with equal accuracy the smallest (most regularised) wins.
    """
    if np.bincount(codes).min() < LABELS_FOR_CHOICE:
        return FEW_LABELS_C
    # Seeded on purpose: the same records give the same head. Nothing here is noise for privacy.
    order = np.random.default_rng(0).permutation(len(codes))[:RECORDS_FOR_CHOICE]
    features, targets = standardised[order], codes[order]
    if np.bincount(targets, minlength=int(codes.max()) + 1).min() < FOLDS:
        return FEW_LABELS_C
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    scores = [
        float(cross_val_score(_model(c), features, targets, cv=folds, scoring="accuracy").mean())
        for c in CANDIDATES
    ]
    return CANDIDATES[int(np.argmax(scores))]


def _model(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=_ITERATIONS)


def _fit(standardised: Matrix, codes: Labels, c: float) -> tuple[Matrix, Matrix]:
    """weight [classes, D] and bias [classes] on standardised features."""
    model = _model(c).fit(standardised, codes)
    weight, bias = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(weight) == 1:  # two classes: scikit-learn keeps one row, the log-odds of the second
        weight, bias = np.concatenate((-weight / 2, weight / 2)), np.concatenate((-bias / 2, bias / 2))
    return weight, bias


def _standardisation(embeddings: npt.NDArray[np.floating]) -> tuple[Matrix, Matrix]:
    """Mean and std of each feature, float64 [D]; a feature that does not vary keeps scale 1."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    scale = embeddings.std(axis=0, dtype=np.float64)
    constant = scale <= _NEGLIGIBLE * max(float(scale.max()), np.finfo(np.float64).tiny)
    return mean, np.where(constant, 1.0, scale)


def _check(
    embeddings: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], classes: tuple[str, ...]
) -> None:
    if embeddings.ndim != 2 or labels.ndim != 1 or len(embeddings) != len(labels):
        raise Invalid(
            f"Expected embeddings [n, D] and labels [n], found {list(embeddings.shape)} and "
            f"{list(labels.shape)}. No head was fitted. Embed exactly the records whose labels are given."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise Invalid(
            f"Expected labels from 0 to {len(classes) - 1}, found {int(labels.min())} to "
            f"{int(labels.max())}. No head was fitted. Take labels and classes from the same data set."
        )
    if not np.isfinite(embeddings).all():
        raise Invalid("An embedding is not finite. No head was fitted. Check the release that made it.")
    found = len(np.unique(labels))
    if found < 2:
        raise Invalid(
            f"Expected labelled records of at least 2 classes, found {found}. No head was fitted. Label "
            "some records of another class."
        )

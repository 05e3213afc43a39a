"""Fitting a head: few labels, two classes, missing classes, constant features, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from participant.heads.accuracy import accuracy_with_interval, measure
from participant.heads.fit import CANDIDATES, FEW_LABELS_C, fit_head
from participant.heads.head import Head
from shared.domain.clock import FixedClock
from shared.domain.errors import HeadMismatch, Invalid
from shared.domain.extractor import ExtractorSpec

RELEASE = "sha256:" + "a" * 64
CLOCK = FixedClock(datetime(2026, 11, 21, 12, 0, tzinfo=UTC))


def spec(width: int) -> ExtractorSpec:
    return ExtractorSpec("small-gn", 1, 8, 8, embedding_dim=width)


def clusters(per_class: int, classes: int, width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    centres = np.random.default_rng(0).normal(0, 3, (classes, width))
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), per_class)
    points = centres[labels] + generator.normal(0, 1, (len(labels), width))
    return (points * np.geomspace(0.01, 100, width) + 5).astype(np.float32), labels


def fitted(per_class: int, classes: int, names: tuple[str, ...] | None = None) -> Head:
    points, labels = clusters(per_class, classes)
    names = names or tuple(f"c{k}" for k in range(classes))
    return fit_head(points, labels, names, spec=spec(20), release_digest=RELEASE, clock=CLOCK)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("per_class", [2, 20, 60])
def test_separate_clusters_are_told_apart_from_few_labels(classes: int, per_class: int) -> None:
    head = fitted(per_class, classes)
    assert head.weight.shape == (classes, 20) and head.weight.dtype == np.float32
    assert head.bias.shape == (classes,) and head.bias.dtype == np.float32
    assert head.created_at == "2026-11-21T12:00:00Z" and head.labels_fitted == per_class * classes
    points, labels = clusters(50, classes, seed=1)
    measured = measure(head, points, labels, head.classes, release_digest=RELEASE)
    assert measured.accuracy > 0.97
    likely = head.probabilities(points, release_digest=RELEASE)
    assert np.allclose(likely.sum(axis=1), 1, atol=1e-5)
    assert (likely.argmax(axis=1) == head.predict(points, release_digest=RELEASE)).all()


def test_regularisation_is_chosen_only_where_labels_suffice() -> None:
    assert fitted(29, 3).inverse_regularisation == FEW_LABELS_C
    assert fitted(60, 3).inverse_regularisation in CANDIDATES


def test_the_choice_is_by_what_generalises() -> None:
    """Many useless features and noisy labels want strong regularisation; it is found."""
    generator = np.random.default_rng(3)
    labels = np.arange(300) % 2
    points = generator.normal(0, 1, (300, 200)).astype(np.float32)
    points[:, 0] += labels * 1.5
    head = fit_head(points, labels, ("a", "b"), spec=spec(200), release_digest=RELEASE)
    assert head.inverse_regularisation <= 0.03


def test_the_same_records_give_the_same_head() -> None:
    one, two = fitted(60, 4), fitted(60, 4)
    assert np.array_equal(one.weight, two.weight) and np.array_equal(one.bias, two.bias)


def test_a_class_without_records_is_named_and_counts_as_wrong() -> None:
    points, labels = clusters(10, 3)
    some = labels != 1
    names = ("a", "b", "c")
    head = fit_head(points[some], labels[some], names, spec=spec(20), release_digest=RELEASE)
    assert head.classes == ("a", "c") and head.missing_classes == ("b",)
    assert measure(head, points, labels, names, release_digest=RELEASE).accuracy == pytest.approx(2 / 3)


def test_features_that_do_not_vary_do_no_harm() -> None:
    points, labels = clusters(10, 3)
    points[:, 4] = 7.0
    head = fit_head(points, labels, ("a", "b", "c"), spec=spec(20), release_digest=RELEASE)
    assert np.isfinite(head.weight).all() and np.allclose(head.weight[:, 4], 0)


def test_a_head_refuses_embeddings_of_another_release() -> None:
    head = fitted(5, 2)
    with pytest.raises(
        HeadMismatch, match=f"fitted on release {RELEASE}, and the embeddings come from sha256:b"
    ):
        head.predict(np.zeros((1, 20), np.float32), release_digest="sha256:b")


@pytest.mark.parametrize("shape", [(1, 19), (1, 21), (20,), (1, 1, 20)])
def test_a_head_refuses_embeddings_of_another_width(shape: tuple[int, ...]) -> None:
    with pytest.raises(HeadMismatch, match=r"expects embeddings of shape \[n, 20\], found"):
        fitted(5, 2).predict(np.zeros(shape, np.float32), release_digest=RELEASE)


def test_no_records_get_no_predictions() -> None:
    empty = np.zeros((0, 20), np.float32)
    assert fitted(5, 2).predict(empty, release_digest=RELEASE).shape == (0,)
    assert fitted(5, 2).probabilities(empty, release_digest=RELEASE).shape == (0, 2)


@pytest.mark.parametrize(
    ("points", "labels", "message"),
    [
        (
            np.zeros((3, 4)),
            np.array([0, 1]),
            r"Expected embeddings \[n, D\] and labels \[n\], found \[3, 4\] and \[2\]",
        ),
        (np.zeros((2, 4)), np.array([0, 5]), "Expected labels from 0 to 1, found 0 to 5"),
        (np.full((2, 4), np.nan), np.array([0, 1]), "An embedding is not finite"),
        (np.zeros((2, 4)), np.array([1, 1]), "at least 2 classes, found 1. No head was fitted"),
        (np.zeros((0, 4)), np.zeros(0, int), "at least 2 classes, found 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(points: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        fit_head(points, labels, ("a", "b"), spec=spec(4), release_digest=RELEASE)


def test_accuracy_interval_matches_the_published_table() -> None:
    """Newcombe (1998), table I, score method without continuity correction: 81/263, 15/148, 0/20, 1/29."""
    for correct, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        measured = accuracy_with_interval(correct, total)
        assert measured.accuracy == correct / total
        assert (round(measured.low, 4), round(measured.high, 4)) == (low, high)
    assert accuracy_with_interval(20, 20).high == 1.0


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 4)])
def test_an_accuracy_of_nothing_is_refused(correct: int, total: int) -> None:
    with pytest.raises(Invalid, match="An accuracy needs at least 1 held-out record"):
        accuracy_with_interval(correct, total)

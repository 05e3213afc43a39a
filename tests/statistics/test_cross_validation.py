"""The interval of a cross-validation holds the truth as often as it says, and would not if repeats were records."""

from __future__ import annotations

import numpy as np
import pytest

from shared.evaluation.cross_validation import REPEATS, crossed, crossed_share, parts_of
from shared.exports.comparison import Probe

TRIALS = 150


def trial(rng: np.random.Generator, apart: float) -> tuple[np.ndarray, float]:
    """Answers about 2 × 10 records of two normal clouds, and how often a probe of all of them is right elsewhere."""
    means = rng.normal(size=(2, 16))
    means *= apart / np.linalg.norm(means, axis=1, keepdims=True)

    def records(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(2), count)
        return (means[labels] + rng.normal(size=(2 * count, 16))).astype(np.float32), labels

    (here, labels), (elsewhere, asked) = records(10), records(500)
    right = crossed({"own": here}, "own", labels)["own"] == labels
    return right, float((Probe(here, labels).predict(elsewhere) == asked).mean())


@pytest.mark.parametrize("apart", [0.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_interval_of_twenty_records_holds_the_truth_about_as_often_as_it_says(apart: float) -> None:
    rng = np.random.default_rng(7)
    held = too_sure = 0
    for _ in range(TRIALS):
        right, truth = trial(rng, apart)
        found = crossed_share(right, 5)
        held += found.low <= truth <= found.high
        sure = crossed_share(right.reshape(1, -1), 5)  # as if every repeat were a record
        too_sure += sure.low <= truth <= sure.high
    assert 0.90 <= held / TRIALS <= 0.995
    assert too_sure / TRIALS < 0.75


def test_each_record_is_asked_about_once_a_repeat_by_probes_that_knew_every_label() -> None:
    labels = np.array([0] * 3 + [1] * 9)
    assert parts_of(labels) == 3
    embeddings = np.eye(12, dtype=np.float32) + 3 * labels[:, None].astype(np.float32)
    said = crossed({"a": embeddings, "b": -embeddings}, "a", labels)
    assert (
        said["a"].shape == (REPEATS, 12) and (said["a"] == labels).all() and not (said["b"] == labels).all()
    )
    assert (crossed({"a": embeddings}, "a", labels)["a"] == said["a"]).all()


def test_few_that_are_all_right_or_all_wrong_still_leave_room() -> None:
    sure, never = (crossed_share(np.full((REPEATS, 20), right), 5) for right in (True, False))
    assert (round(sure.low, 3), sure.high) == (0.806, 1.0) and (never.low, round(never.high, 3)) == (
        0.0,
        0.194,
    )

"""What int8 costs is asked of public records that anybody can draw again, and a loss is seen where there is one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.exports.comparison import Probe, compare_embeddings, error_share, paired_loss
from shared.exports.public_pictures import crops_of
from shared.exports.public_records import (
    HELD_OUT,
    LEARNED,
    MOST_BYTES,
    MOST_HELD_OUT,
    PublicRecords,
    public_records,
)

PICTURES = ExtractorSpec("small-gn", 3, 24, 32, 8)
TEXTS = ExtractorSpec("ngram-bag", 1, 1, 48, 8, kind=RecordKind.TEXT)
CLASSES, DIMENSIONS = 4, 6
PUBLISHED = {
    "small-gn": "sha256:f46cd982191814aff3ef70d54834fd85bff711cc1b4198ee499b310905e79664",
    "ngram-bag": "sha256:537e5a54384e720406488cee0c6ef767f137feedcd67718aee43b22d5412a524",
}
"""Of the sets that releases with HELD_OUT records a label were measured on."""


def clouds(count: int, seed: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(0, 1, (CLASSES, DIMENSIONS))
    labels = np.repeat(np.arange(CLASSES), count)
    return (centres[labels] + rng.normal(0, spread, (len(labels), DIMENSIONS))).astype(np.float32), labels


def records(labels: np.ndarray, held_out: np.ndarray) -> PublicRecords:
    none = np.zeros((0, 1, 1, 1), np.uint8)
    return PublicRecords("made up", none, labels, none, held_out)


@pytest.mark.parametrize("spec", [PICTURES, TEXTS], ids=["pictures", "texts"])
def test_public_records_are_the_same_for_everybody(spec: ExtractorSpec) -> None:
    one, other = public_records(spec), public_records(spec)
    assert one.digest == other.digest and np.array_equal(one.held_out, other.held_out)
    assert one.learned.shape == (LEARNED * one.labels, spec.height, spec.width, spec.channels)
    assert len(one.held_out) == HELD_OUT * one.labels and one.labels == 9
    assert public_records(replace(spec, width=spec.width + 1)).digest != one.digest


@pytest.mark.parametrize("spec", [PICTURES, TEXTS], ids=["pictures", "texts"])
def test_a_release_that_states_how_many_were_held_out_is_measured_on_the_same_ones(
    spec: ExtractorSpec,
) -> None:
    usual, more = public_records(spec), public_records(spec, 10**9)
    assert usual.digest == PUBLISHED[spec.architecture]
    assert public_records(spec, len(usual.held_out)).digest == usual.digest
    assert public_records(spec, len(more.held_out)).digest == more.digest
    assert np.array_equal(usual.learned, more.learned)
    assert len(usual.held_out) < len(more.held_out) <= MOST_HELD_OUT * more.labels
    assert len(set(np.bincount(more.held_out_labels))) == 1


@pytest.mark.parametrize("spec", [PICTURES, TEXTS], ids=["pictures", "texts"])
def test_nothing_held_out_is_learned_from(spec: ExtractorSpec) -> None:
    public = public_records(spec)
    learned = {each.tobytes() for each in public.learned}
    held_out = {each.tobytes() for each in public.held_out}
    assert not learned & held_out and len(held_out) == len(public.held_out)


def test_held_out_crops_are_of_other_parts_of_a_photograph() -> None:
    quarters = np.repeat(np.repeat(np.array([[10, 20], [30, 40]], np.uint8), 50, 0), 60, 1)
    whole, rng = Image.fromarray(quarters), np.random.default_rng(0)
    spec = replace(PICTURES, channels=1)
    assert set(np.unique(crops_of(whole, spec, False, 20, rng))) == {10, 40}
    assert set(np.unique(crops_of(whole, spec, True, 20, rng))) == {20, 30}


def test_large_pictures_are_fewer() -> None:
    public = public_records(replace(PICTURES, height=512, width=512))
    assert public.learned.nbytes + public.held_out.nbytes <= MOST_BYTES
    assert 2 * public.labels <= len(public.learned) < LEARNED * public.labels


def test_the_probe_reads_labels_whatever_the_scale() -> None:
    learned, labels = clouds(20, 1, 0.2)
    asked, truth = clouds(20, 2, 0.2)
    assert (Probe(learned, labels).predict(asked) == truth).mean() > 0.95
    moved = [1e4 * each * np.arange(1, DIMENSIONS + 1, dtype=np.float32) - 7 for each in (learned, asked)]
    assert np.array_equal(Probe(moved[0], labels).predict(moved[1]), Probe(learned, labels).predict(asked))
    nothing = np.zeros((len(labels), 3), np.float32)
    assert len(set(Probe(nothing, labels).predict(nothing[:5]))) == 1


def test_equal_embeddings_lose_nothing_and_noise_is_seen() -> None:
    learned, labels = clouds(20, 1, 0.2)
    asked, truth = clouds(50, 2, 0.2)
    public = records(labels, truth)
    same = compare_embeddings(learned, asked, asked.copy(), public)
    assert same.loss_points == 0 and same.loss_low == same.loss_high == 0
    assert same.cosine_least == pytest.approx(1.0)
    worse = asked + np.random.default_rng(3).normal(0, 2, asked.shape).astype(np.float32)
    lost = compare_embeddings(learned, asked, worse, public)
    assert lost.loss_points == pytest.approx(100 * (lost.top1_fp32 - lost.top1_int8))
    assert lost.loss_low > 10 and lost.cosine_mean < 0.9
    nothing = np.zeros_like(asked)
    assert compare_embeddings(learned, nothing, nothing, public).cosine_least == 1.0


def test_the_share_of_error_sees_noise_that_a_common_mean_hides_from_the_cosine() -> None:
    rng = np.random.default_rng(5)
    found = (100 + rng.normal(0, [1, 2, 3, 0], (400, 4))).astype(np.float32)
    noisy = found + rng.normal(0, [0.5, 1, 1.5, 0], (400, 4)).astype(np.float32)
    assert error_share(found, found) == 0
    assert error_share(found, noisy) == pytest.approx(0.25, rel=0.2)
    public = records(np.arange(400) % 2, np.arange(400) % 2)
    assert compare_embeddings(found, found, noisy, public).cosine_mean > 0.999


def test_the_interval_covers_the_true_loss_about_19_times_in_20_and_not_always() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(2000):
        draw = rng.random(400)
        before, after = draw < 0.80, (draw > 0.05) & (draw < 0.82)  # 5 % lost, 2 % won: 3 points
        loss, half = paired_loss(before, after)
        covered.append(abs(loss - 0.03) <= half)
    assert 0.92 < np.mean(covered) < 0.98

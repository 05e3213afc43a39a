import numpy as np
import pytest
import torch

from participant.training.augment import augment, check_augmentations
from participant.training.dp_sgd import make_engine
from participant.training.step import clipped_sum
from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.architectures import build
from shared.extractors.preprocess import to_input
from shared.privacy.mechanism import NoiseSource
from tests.plans import small_plan


class Coins:
    """Uniforms that a test chose."""

    def __init__(self, *values):
        self.values = np.array(values)

    def uniform(self, size):
        assert size == len(self.values)
        return self.values


X = torch.arange(2 * 3 * 6 * 5, dtype=torch.float32).reshape(2, 3, 6, 5)


def test_flip_mirrors_exactly_the_records_whose_coin_says_so():
    flipped = augment(X, ("flip",), Coins(0.2, 0.8))
    torch.testing.assert_close(flipped[0], X[0].flip(2))
    torch.testing.assert_close(flipped[1], X[1])


def test_shift2_moves_each_record_by_its_own_coins_and_repeats_edges():
    # Coins are (row of 0, row of 1, column of 0, column of 1); the fifths of [0, 1) are -2 … 2.
    shifted = augment(X, ("shift2",), Coins(0.5, 0.99, 0.5, 0.0))
    torch.testing.assert_close(shifted[0], X[0])
    rows, columns = np.minimum(np.arange(6) + 2, 5), np.maximum(np.arange(5) - 2, 0)
    torch.testing.assert_close(shifted[1], X[1][:, rows][:, :, columns])


def test_shift2_reaches_every_offset_about_equally_often():
    picture = torch.zeros(5000, 1, 5, 5)
    picture[:, 0, 2, 2] = 1.0
    where = augment(picture, ("shift2",), NoiseSource()).mean(dim=0)[0]
    assert where.min() > 0.025
    assert where.max() < 0.055


def test_augmenting_one_record_does_not_depend_on_the_others():
    alone = augment(X[:1], ("shift2",), Coins(0.1, 0.9))
    together = augment(X, ("shift2",), Coins(0.1, 0.7, 0.9, 0.3))
    torch.testing.assert_close(alone[0], together[0])


def test_empty_batch_stays_empty():
    assert augment(X[:0], ("shift2", "flip"), Coins()).shape == (0, 3, 6, 5)


def test_unknown_augmentation_is_refused_by_name():
    with pytest.raises(InvalidConfig, match="Expected augmentations among shift2, flip; found 'mixup'"):
        check_augmentations(("flip", "mixup"))


SPEC = ExtractorSpec("small-gn", 1, 8, 8, 4, options={"width": 4})


class TwoRecords:
    """Pictures in memory, as a data set's reader gives them."""

    classes = ("cat", "dog")
    images = np.random.default_rng(3).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)

    def load(self, indices):
        return self.images[indices], indices % 2


def plan_with(copies):
    return small_plan(
        extractor=SPEC, augmentations=("flip",), augmentation_multiplicity=copies, clip_norm_l2=100.0
    )


def test_each_copy_of_a_record_is_augmented_with_coins_of_its_own():
    torch.manual_seed(0)
    engine = make_engine(build(SPEC, 1), torch.nn.Linear(4, 2), 8, torch.device("cpu"))
    drawn = np.array([0, 1])
    # Record 0 is flipped in its first copy only, record 1 in both; no gradient reaches the clip norm of 100.
    found = clipped_sum(engine, TwoRecords(), drawn, plan_with(2), Coins(0.1, 0.9, 0.1, 0.1))
    x, y = torch.from_numpy(to_input(TwoRecords.images, SPEC)), torch.from_numpy(drawn)
    plain = engine.clipped_sum(x, y, 100.0)
    flipped = engine.clipped_sum(x.flip(3), y, 100.0)
    first_plain = engine.clipped_sum(x[:1], y[:1], 100.0)
    first_flipped = engine.clipped_sum(x[:1].flip(3), y[:1], 100.0)
    for part in (0, 1):
        expected = flipped[part] + (first_plain[part] - first_flipped[part]) / 2
        np.testing.assert_allclose(found[part], expected, rtol=1e-4, atol=1e-6)
        assert not np.allclose(found[part], plain[part], rtol=1e-3)


def test_one_copy_is_the_step_without_copies():
    engine = make_engine(build(SPEC, 1), torch.nn.Linear(4, 2), 8, torch.device("cpu"))
    drawn = np.array([0, 1])
    once = clipped_sum(engine, TwoRecords(), drawn, plan_with(1), Coins(0.9, 0.9))
    x, y = torch.from_numpy(to_input(TwoRecords.images, SPEC)), torch.from_numpy(drawn)
    for found, expected in zip(once, engine.clipped_sum(x, y, 100.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)

import numpy as np
import pytest
import torch

from participant.training.augment import augment, check_augmentations
from shared.domain.errors import InvalidConfig
from shared.privacy.mechanism import NoiseSource


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

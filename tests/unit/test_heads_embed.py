"""Embedding: the same rows whatever the batch, no training behaviour, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from participant.heads.embed import embed
from shared.domain.errors import Invalid, InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.preprocess import to_input

SPEC = ExtractorSpec("small-gn", channels=1, height=4, width=4, embedding_dim=6)
IMAGES = np.random.default_rng(0).integers(0, 256, (11, 4, 4, 1), dtype=np.uint8)


class Reader:
    """The records 0…10 of IMAGES, as a record reader hands them out."""

    def load(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return IMAGES[indices], np.zeros(len(indices), np.int64)


def module(width: int = 6) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, width))


@pytest.mark.parametrize("batch", [1, 4, 11, 100])
def test_embeddings_do_not_depend_on_the_batch(batch: int) -> None:
    chosen = module()
    seen: list[tuple[int, int]] = []
    made = embed(chosen, IMAGES, SPEC, batch=batch, progress=lambda done, total: seen.append((done, total)))
    with torch.no_grad():
        expected = chosen.eval()(torch.from_numpy(to_input(IMAGES, SPEC))).numpy()
    assert made.dtype == np.float32 and np.allclose(made, expected, atol=1e-6)
    assert seen[-1] == (11, 11)


def test_a_readers_records_come_in_the_order_asked() -> None:
    chosen = module()
    order = np.array([7, 0, 3])
    assert np.allclose(
        embed(chosen, Reader(), SPEC, indices=order), embed(chosen, IMAGES, SPEC)[order], atol=1e-6
    )
    assert embed(chosen, Reader(), SPEC, indices=np.array([], np.int64)).shape == (0, 6)
    with pytest.raises(Invalid, match="needs the records to embed, found none named"):
        embed(chosen, Reader(), SPEC)


@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_in_the_mode_it_was_in(training: bool) -> None:
    chosen = module().train(training)
    embed(chosen, IMAGES, SPEC)
    assert chosen.training is training


def test_an_extractor_of_another_width_is_refused() -> None:
    with pytest.raises(InvalidWeights, match=r"expected to give \[11, 6\] for a batch, and gave \[11, 5\]"):
        embed(module(5), IMAGES, SPEC)


def test_an_embedding_that_is_not_finite_is_refused() -> None:
    broken = module()
    with torch.no_grad():
        broken[2].bias[0] = float("nan")
    with pytest.raises(InvalidWeights, match="an embedding that is not finite"):
        embed(broken, IMAGES, SPEC)

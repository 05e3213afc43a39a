"""Batches of pictures to embeddings through a frozen extractor, on whatever device: nothing else is held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.preprocess import to_input

Embeddings = npt.NDArray[np.float32]


def embed_batches(
    module: nn.Module, batches: Iterable[npt.NDArray[np.uint8]], spec: ExtractorSpec, device: torch.device
) -> Iterator[Embeddings]:
    """uint8 [B, H, W, C] → float32 [B, embedding_dim], one after the other.

    `module` runs in evaluation mode without gradients and is put back into the mode it was in; it is moved to
    `device`. Raises InvalidWeights when an output has another shape or is not finite.
    """
    was_training = module.training
    module.to(device).eval()
    try:
        for pixels in batches:
            with torch.inference_mode():
                made = module(torch.from_numpy(to_input(pixels, spec)).to(device)).float().cpu().numpy()
            _check(made, (len(pixels), spec.embedding_dim))
            yield made
    finally:
        module.train(was_training)


def _check(made: Embeddings, expected: tuple[int, int]) -> None:
    if made.shape != expected:
        raise InvalidWeights(
            f"The extractor was expected to give {list(expected)} for a batch, and gave {list(made.shape)}. "
            "Nothing was embedded. Check that spec and weights are of the same release."
        )
    if not np.isfinite(made).all():
        raise InvalidWeights(
            "The extractor gave an embedding that is not finite. Nothing was embedded. Use another release."
        )

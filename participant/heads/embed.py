"""Records to embeddings through a frozen extractor: pixels stream in batches, only the result is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from shared.domain.errors import Invalid, InvalidWeights
from shared.domain.extractor import ExtractorSpec

Progress = Callable[[int, int], None]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Images(Protocol):
    """What embed asks of a record reader (participant/records/reader.py)."""

    def load(self, indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """(images uint8 [B, H, W, C], labels int64 [B])."""
        ...


def embed(
    module: nn.Module,
    images: Images | npt.NDArray[np.uint8],
    spec: ExtractorSpec,
    *,
    indices: npt.NDArray[np.int64] | None = None,
    batch: int = 256,
    device: str = "cpu",
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Embeddings float32 [n, D] of the records at `indices` of a reader, or of an array uint8 [n, H, W, C].

    `module` runs in evaluation mode without gradients and is put back into the mode it was in; it is moved
    to `device`. With a reader `indices` is required: which side of the split is meant must be said.
    Raises Invalid without them, InvalidWeights when an output has another shape than [B, D] or is not finite.
    """
    from shared.extractors.preprocess import to_input

    if isinstance(images, np.ndarray):
        chosen = np.arange(len(images), dtype=np.int64) if indices is None else indices
    elif indices is None:
        raise Invalid("Embedding a data set needs the records to embed, found none named. Nothing was read.")
    else:
        chosen = indices
    result = np.empty((len(chosen), spec.embedding_dim), np.float32)
    was_training = module.training
    module.to(device).eval()
    try:
        with torch.inference_mode():
            done = 0
            for pixels in _batches(images, chosen, batch):
                made = module(torch.from_numpy(to_input(pixels, spec)).to(device)).float().cpu().numpy()
                _check(made, (len(pixels), spec.embedding_dim))
                result[done : done + len(pixels)] = made
                done += len(pixels)
                if progress is not None:
                    progress(done, len(chosen))
    finally:
        module.train(was_training)
    return result


def _batches(
    images: Images | npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64], batch: int
) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        yield images[part] if isinstance(images, np.ndarray) else images.load(part)[0]


def _check(made: npt.NDArray[np.float32], expected: tuple[int, int]) -> None:
    if made.shape != expected:
        raise InvalidWeights(
            f"The extractor was expected to give {list(expected)} for a batch, and gave {list(made.shape)}. "
            "Nothing was embedded. Check that spec and weights are of the same release."
        )
    if not np.isfinite(made).all():
        raise InvalidWeights(
            "The extractor gave an embedding that is not finite. Nothing was embedded. Use another release."
        )

"""Records to embeddings through a frozen extractor: pixels stream in batches, only the result is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from shared.domain.errors import Invalid
from shared.domain.extractor import ExtractorSpec
from shared.extractors.embedding import embed_batches

Progress = Callable[[int, int], None]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
CPU = torch.device("cpu")
_MOST_RECORDS, _MOST_PLACES = 256, 2**20
"""Of one batch: pictures, and their pixels' places together, because what layers hold grows with both."""


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
    batch: int | None = None,
    device: torch.device = CPU,
    progress: Progress | None = None,
) -> npt.NDArray[np.float32]:
    """Embeddings float32 [n, D] of the records at `indices` of a reader, or of an array uint8 [n, H, W, C].

    With a reader `indices` is required: which side of the split is meant must be said. `batch` records are embedded
    at once; left out, fewer of large pictures. `module` is moved to `device`. Raises Invalid without indices,
    InvalidWeights as `embed_batches`.
    """
    if isinstance(images, np.ndarray):
        chosen = np.arange(len(images), dtype=np.int64) if indices is None else indices
    elif indices is None:
        raise Invalid("Embedding a data set needs the records to embed, found none named. Nothing was read.")
    else:
        chosen = indices
    result = np.empty((len(chosen), spec.embedding_dim), np.float32)
    done = 0
    at_once = batch or max(1, min(_MOST_RECORDS, _MOST_PLACES // (spec.height * spec.width)))
    for made in embed_batches(module, _batches(images, chosen, at_once), spec, device):
        result[done : done + len(made)] = made
        done += len(made)
        if progress is not None:
            progress(done, len(chosen))
    return result


def _batches(
    images: Images | npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64], batch: int
) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        yield images[part] if isinstance(images, np.ndarray) else images.load(part)[0]

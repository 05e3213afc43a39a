"""Images on disk to embeddings, with the weights that were read while a release was verified."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from shared.domain.errors import Invalid, InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_atomically
from shared.verification import VerifiedRelease

Embeddings = npt.NDArray[np.float32]
_BATCH: Final = 64
_SUFFIXES: Final = (".npy", ".csv")


def embed_files(release: VerifiedRelease, images: Sequence[Path]) -> Embeddings:
    """Embeddings float32 [len(images), embedding_dim], in the order given.

    Every image is read before torch starts. Raises InvalidRecords naming each file that is no image.
    """
    spec = release.plan.extractor
    pixels = _read_images(images, spec)

    import torch

    from shared.extractors.architectures import load
    from shared.extractors.preprocess import to_input

    module = load(spec, release.weights)
    module.eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(pixels), _BATCH):
            batch = torch.from_numpy(to_input(pixels[start : start + _BATCH], spec))
            rows.append(module(batch).numpy().astype(np.float32))
    return np.concatenate(rows)


def check_output(path: Path | None) -> None:
    """Raise Invalid, before anything is computed, unless `path` says which form is wanted."""
    if path is not None and path.suffix not in _SUFFIXES:
        raise Invalid(f"--out ends in .npy or .csv, not {path.suffix or 'nothing'!r}. Nothing was computed.")


def write_embeddings(images: Sequence[Path], embeddings: Embeddings, path: Path | None) -> None:
    """`.npy`: the array alone. `.csv` or stdout: one line an image, its path first."""
    if path is not None and path.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, embeddings, allow_pickle=False)
        write_atomically(path, buffer.getvalue(), mode=0o644)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for image, row in zip(images, embeddings, strict=True):
        writer.writerow([str(image), *(repr(float(value)) for value in row)])
    if path is None:
        sys.stdout.write(text.getvalue())
    else:
        write_atomically(path, text.getvalue().encode("utf-8"), mode=0o644)


def _read_images(images: Sequence[Path], spec: ExtractorSpec) -> npt.NDArray[np.uint8]:
    from shared.extractors.preprocess import fit_image

    pixels, faults = [], []
    for path in images:
        try:
            with Image.open(path) as image:
                pixels.append(fit_image(image, spec))
        except FileNotFoundError:
            faults.append(f"{path}: there is no such file")
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
            faults.append(f"{path}: not an image that can be read")
    if faults:
        raise InvalidRecords(
            f"{len(images)} images were expected, {len(faults)} cannot be read: {'; '.join(faults[:10])}. "
            "Nothing was written. Leave them out or repair them."
        )
    return np.stack(pixels)

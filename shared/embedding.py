"""Images on disk to embeddings, with the weights that were read while a release was verified."""

from __future__ import annotations

import csv
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.domain.errors import Invalid, InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import atomic_writer
from shared.extractors.pictures import decode, read_file
from shared.extractors.preprocess import fit_image
from shared.verification import VerifiedExtractor

Embeddings = npt.NDArray[np.float32]
_BATCH: Final = 64
_LISTED_AT_MOST: Final = 10
_SUFFIXES: Final = (".npy", ".csv")


def embed_files(release: VerifiedExtractor, images: Sequence[Path], device: str = "auto") -> Embeddings:
    """Embeddings float32 [len(images), embedding_dim], in the order given; pixels of one batch are held at once.

    Raises InvalidRecords naming each file that is no image, InvalidConfig for a device that is not here.
    """
    from shared.extractors.architectures import load
    from shared.extractors.device import choose_device
    from shared.extractors.embedding import embed_batches

    spec = release.spec
    module, where = load(spec, release.weights), choose_device(device)
    result = np.empty((len(images), spec.embedding_dim), np.float32)
    faults: list[str] = []
    done = 0
    with warnings.catch_warnings():
        # Pillow warns where pictures.py refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for made in embed_batches(module, _batches(images, spec, faults), spec, where):
            result[done : done + len(made)] = made
            done += len(made)
    if faults:
        more = len(faults) - _LISTED_AT_MOST
        raise InvalidRecords(
            f"{len(images)} images were expected, {len(faults)} cannot be used: "
            f"{'; '.join(faults[:_LISTED_AT_MOST])}{f'; and {more} more' if more > 0 else ''}. "
            "Nothing was written. Leave them out or repair them."
        )
    return result


def check_output(path: Path | None) -> None:
    """Raise Invalid, before anything is computed, unless `path` says which form is wanted."""
    if path is not None and path.suffix not in _SUFFIXES:
        raise Invalid(f"--out ends in .npy or .csv, not {path.suffix or 'nothing'!r}. Nothing was computed.")


def write_embeddings(images: Sequence[Path], embeddings: Embeddings, path: Path | None) -> None:
    """`.npy`: the array alone. `.csv` or stdout: one line an image, its path first."""
    if path is None:
        _write_rows(sys.stdout, images, embeddings)
        return
    with atomic_writer(path, mode=0o644) as file:
        if path.suffix == ".npy":
            np.save(file, embeddings, allow_pickle=False)
            return
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        _write_rows(text, images, embeddings)
        text.detach()  # flushed; the file is closed by whoever opened it


def _write_rows(file: TextIO, images: Sequence[Path], embeddings: Embeddings) -> None:
    writer = csv.writer(file, lineterminator="\n")
    for image, row in zip(images, embeddings, strict=True):
        writer.writerow([str(image), *(repr(float(value)) for value in row)])


def _batches(
    images: Sequence[Path], spec: ExtractorSpec, faults: list[str]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The pictures in portions, uint8 [B, H, W, C]. After the first fault only more faults are looked for."""
    pixels: list[npt.NDArray[np.uint8]] = []
    for path in images:
        try:
            fitted = fit_image(decode(read_file(path)), spec)
        except InvalidRecords as reason:
            faults.append(f"{path} {reason.message}")
        else:
            pixels.append(fitted)
        if len(pixels) == _BATCH:
            if not faults:
                yield np.stack(pixels)
            pixels.clear()
    if pixels and not faults:
        yield np.stack(pixels)

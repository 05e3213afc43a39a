"""Records to embeddings: by the weights that were read while a release was verified, or by its ONNX files.

Every command that embeds asks here. Nothing is run but bytes that a verified manifest promises.
"""

from __future__ import annotations

import csv
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import (
    CommonlensError,
    DigestMismatch,
    Invalid,
    InvalidRecords,
    InvalidWeights,
    ProofFailed,
)
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.files import atomic_writer
from shared.domain.release import ONNX_FILE
from shared.extractors.options import check_size
from shared.extractors.pictures import MAXIMUM_FILE_BYTES, read_file
from shared.extractors.preprocess import fit_record
from shared.release.envelope import read_bounded
from shared.verification import VerifiedExtractor

if TYPE_CHECKING:
    from shared.exports.onnx_file import OnnxFile

Embeddings = npt.NDArray[np.float32]
Embed = Callable[[npt.NDArray[np.uint8]], Embeddings]
"""uint8 [N, height, width, channels] → float32 [N, embedding_dim]."""
_BATCH: Final = 64
_LISTED_AT_MOST: Final = 10
_SUFFIXES: Final = (".npy", ".csv")
_STDIN: Final = Path("-")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Given:
    """One record that was asked about: an image file, or a line of text."""

    name: str
    """Its path, or the text itself: what stands beside its numbers."""
    place: str
    """Where it is, for the list of what cannot be used."""
    content: Path | bytes


def given_in(files: Sequence[Path], spec: ExtractorSpec) -> list[Given]:
    """The records in `files`: each an image, or for an extractor of texts each one a text a line, `-` being stdin.

    A folder stands for its files. Raises InvalidRecords for one without any, and for a file of texts that cannot be
    read.
    """
    files = [file for path in files for file in _meant(path)]
    if spec.kind is RecordKind.IMAGE:
        return [Given(str(path), str(path), path) for path in files]
    return [
        Given(line.decode("utf-8", "backslashreplace"), f"{path}, line {number},", line)
        for path in files
        for number, line in enumerate(_lines(path), start=1)
    ]


def _meant(path: Path) -> list[Path]:
    found = files_in(path) if path.is_dir() else [path]
    if not found:
        inside = any(each.is_dir() for each in path.iterdir())
        told, step = (", only folders", f"Name those: {path}/*") if inside else ("", "Name one that does")
        raise InvalidRecords(f"The folder {path} holds no file{told}. Nothing was read. {step}.")
    return found


def files_in(folder: Path) -> list[Path]:
    """By name; without hidden ones, and without what lies in folders of it."""
    return sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))


def embed_files(release: VerifiedExtractor, files: Sequence[Path], device: str = "auto") -> Embeddings:
    """Embeddings float32 [n, embedding_dim] of the records in `files`. Raises as `given_in` and `embed_given`."""
    return embed_given(release, given_in(files, release.spec), device)


def embed_given(release: VerifiedExtractor, given: Sequence[Given], device: str = "auto") -> Embeddings:
    """Embeddings float32 [len(given), embedding_dim], in the order given; pixels of one batch are held at once.

    Raises InvalidRecords naming each that is no image or text, InvalidConfig for a device that is not here.
    """
    return embed_given_by([by_torch(release, device)], given, release.spec)[0]


def embed_given_by(embeds: Sequence[Embed], given: Sequence[Given], spec: ExtractorSpec) -> list[Embeddings]:
    """The embeddings of `given` by each of `embeds`; every record is read once. Raises as `embed_given`."""
    results = [np.empty((len(given), spec.embedding_dim), np.float32) for _ in embeds]
    faults: list[str] = []
    done = 0
    with warnings.catch_warnings():
        # Pillow warns where pictures.py refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for pixels in _batches(given, spec, faults):
            for embed, result in zip(embeds, results, strict=True):
                result[done : done + len(pixels)] = embed(pixels)
            done += len(pixels)
    if faults:
        more = len(faults) - _LISTED_AT_MOST
        raise InvalidRecords(
            f"{len(faults)} of {len(given)} {spec.kind.value}s cannot be used: "
            f"{'; '.join(faults[:_LISTED_AT_MOST])}{f'; and {more} more' if more > 0 else ''}. "
            "Nothing was written. Leave them out or repair them."
        )
    return results


def embed_function(release: VerifiedExtractor, directory: Path) -> tuple[Embed, str]:
    """What embeds for the release in `directory`, and its name: model.onnx where it is promised, else torch.

    The ONNX file first, because it is what most strangers will use. Raises as `onnx_of`.
    """
    onnx = onnx_of(release, directory)
    if onnx is None:
        return by_torch(release, "cpu"), "torch"
    return by_onnx(onnx, release.spec), ONNX_FILE


def by_torch(release: VerifiedExtractor, device: str) -> Embed:
    """By the verified weights. Raises InvalidConfig for a device that is not here."""
    from shared.extractors.architectures import load
    from shared.extractors.device import choose_device
    from shared.extractors.embedding import embed_batches

    module, where = load(release.spec, release.weights), choose_device(device)
    return lambda records: np.concatenate(
        list(embed_batches(module, _portions(records), release.spec, where))
    )


def by_onnx(onnx: OnnxFile, spec: ExtractorSpec) -> Embed:
    """By a file of `onnx_of`. What it gives raises InvalidWeights where it is not finite."""

    def embed(records: npt.NDArray[np.uint8]) -> Embeddings:
        made = onnx.embed(records, spec)
        if not np.isfinite(made).all():
            raise InvalidWeights(
                f"The ONNX file gave {int(np.isfinite(made).sum())} finite numbers of {made.size}. Nothing was "
                "computed. Use another release."
            )
        return made

    return embed


def onnx_of(release: VerifiedExtractor, directory: Path, name: str = ONNX_FILE) -> OnnxFile | None:
    """An ONNX file of the release in `directory`; None where its manifest promises none of that name.

    Tried with one record and with two. Raises ProofFailed where it is no model of the release's shapes,
    DigestMismatch as `promised_bytes`.
    """
    from shared.exports.onnx_file import OnnxFile

    data = promised_bytes(release, directory, name)
    if data is None:
        return None
    spec = release.spec
    wanted = [[count, spec.embedding_dim] for count in (1, 2)]
    try:
        check_size(spec)
        onnx = OnnxFile(data)
        blank = np.zeros((2, spec.height, spec.width, spec.channels), np.uint8)
        found = [list(onnx.embed(blank[:count], spec).shape) for count in (1, 2)]
    except CommonlensError as error:
        raise ProofFailed(f"{name} of {release.manifest.release}: {error.message}") from error
    except Exception as error:  # onnxruntime's own classes have no common one
        raise ProofFailed(
            f"{name} of {release.manifest.release} should take one record or two of its spec, and fails with "
            f"{type(error).__name__}. Nothing was computed. Tell whoever published it."
        ) from error
    if found != wanted:
        raise ProofFailed(
            f"{name} of {release.manifest.release} should give embeddings of the shapes {wanted}, and gives {found}. "
            "Nothing was computed. Tell whoever published it."
        )
    return onnx


def promised_bytes(release: VerifiedExtractor, directory: Path, name: str) -> bytes | None:
    """A file of the release in `directory`, read once and held against the manifest; None where not promised.

    Raises DigestMismatch where the file is another one by now than the one that was verified.
    """
    promised = release.manifest.files.get(name)
    if promised is None:
        return None
    data = read_bounded(directory / name, promised.size_bytes)
    found = digest_of_bytes(data)
    if found != promised.digest:
        raise DigestMismatch(
            f"{name} should be {promised.digest[:23]}… and is {found[:23]}…: it was changed since the folder was "
            "verified. Nothing was computed. Pull the release again."
        )
    return data


def check_output(path: Path | None) -> None:
    """Raise Invalid, before anything is computed, unless `path` says which form is wanted."""
    if path is not None and path.suffix not in _SUFFIXES:
        raise Invalid(
            f"--out ends in .npy or .csv, not {path.suffix or 'nothing'!r}. Nothing was computed. Name another file."
        )


def write_embeddings(names: Sequence[str], embeddings: Embeddings, path: Path | None) -> None:
    """`.npy`: the array alone. `.csv` or stdout: one line a record, its name first."""
    if path is None:
        _write_rows(sys.stdout, names, embeddings)
        return
    with atomic_writer(path, mode=0o644) as file:
        if path.suffix == ".npy":
            np.save(file, embeddings, allow_pickle=False)
            return
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        _write_rows(text, names, embeddings)
        text.detach()  # flushed; the file is closed by whoever opened it


def _write_rows(file: TextIO, names: Sequence[str], embeddings: Embeddings) -> None:
    writer = csv.writer(file, lineterminator="\n")
    for name, row in zip(names, embeddings, strict=True):
        writer.writerow([name, *(repr(float(value)) for value in row)])


def _lines(path: Path) -> list[bytes]:
    """The lines of a file of texts, or of stdin, without their ends."""
    data = sys.stdin.buffer.read(MAXIMUM_FILE_BYTES + 1) if path == _STDIN else None
    try:
        if data is None:
            data = read_file(path)
        if len(data) > MAXIMUM_FILE_BYTES:
            raise InvalidRecords(f"is larger than {MAXIMUM_FILE_BYTES} bytes")
    except InvalidRecords as reason:
        raise InvalidRecords(
            f"{path} {reason.message}. Nothing was written. Give files of texts."
        ) from reason
    lines = data.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
    return [line.removesuffix(b"\r") for line in (lines[:-1] if lines[-1] == b"" else lines)]


def _portions(records: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for start in range(0, len(records), _BATCH):
        yield records[start : start + _BATCH]


def _batches(
    given: Sequence[Given], spec: ExtractorSpec, faults: list[str]
) -> Iterator[npt.NDArray[np.uint8]]:
    """The records in portions, uint8 [B, H, W, C]. After the first fault only more faults are looked for."""
    pixels: list[npt.NDArray[np.uint8]] = []
    for one in given:
        try:
            data = one.content if isinstance(one.content, bytes) else read_file(one.content)
            fitted = fit_record(data, spec)
        except InvalidRecords as reason:
            faults.append(f"{one.place} {reason.message}")
        else:
            pixels.append(fitted)
        if len(pixels) == _BATCH:
            if not faults:
                yield np.stack(pixels)
            pixels.clear()
    if pixels and not faults:
        yield np.stack(pixels)

"""The pixels of a data set at one size, uint8 [n, H, W, C], in one file that is mapped and never read whole.

A text's pixels are its bytes: H and C are 1 (shared/domain/extractor.py).

Built once per size, by the function that the users of a release call too (shared/extractors/preprocess.py).
It appears by rename, so it is either whole or not there; a file of any other length or shape is built again.
Its place is cache/<data set id>/<channels>x<height>x<width>.npy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from participant.records.dataset import DataSet
from participant.records.digests import digest_of_file_bytes
from participant.records.index import references
from participant.records.scan import Progress, in_order, quiet
from participant.records.source import Rejected, listing, read_content
from shared.domain.errors import InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import atomic_writer
from shared.domain.locking import held_lock
from shared.extractors.preprocess import fit_record

Pixels = npt.NDArray[np.uint8]
_REPORT_EVERY = 64


def open_pixels(dataset: DataSet, spec: ExtractorSpec, progress: Progress = quiet) -> Pixels:
    """The mapped pixels uint8 [n, H, W, C] in index order, read-only; builds them where there are none.

    A second process waits for the first and then uses its file. Raises InvalidRecords naming every file that
    changed or went since it was added, OutOfSpace when the disk is full; then there is no cache file.
    """
    folder = dataset.home / "cache" / dataset.id
    path = folder / f"{spec.channels}x{spec.height}x{spec.width}.npy"
    shape = (dataset.findings.records, spec.height, spec.width, spec.channels)
    with held_lock(folder / ".lock"):
        mapped = _map(path, shape)
        if mapped is None:
            for left_over in folder.glob(
                f".{path.name}.*.partial"
            ):  # of a process that died; we hold the lock
                left_over.unlink()
            _build(dataset, spec, path, shape, progress)
            mapped = _map(path, shape)
    if mapped is None:
        raise InvalidRecords(
            f'The pixels of "{dataset.name}" could not be mapped after they were written. Nothing was read. '
            "Check the disk that holds the cache folder."
        )
    return mapped


def _map(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    """The file as an array if it is whole and of this shape, else None."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return mapped if mapped.shape == shape and mapped.dtype == np.uint8 else None


def _build(
    dataset: DataSet, spec: ExtractorSpec, path: Path, shape: tuple[int, ...], progress: Progress
) -> None:
    # Plain writes, not a writable map: a full disk then is an error that can be caught, not a bus error.
    total, failed = shape[0], []
    with atomic_writer(path) as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call,unused-ignore]
        jobs = ((spec, *job) for job in _jobs(dataset))
        progress(0, total)
        for done, fitted in enumerate(in_order(_fit, jobs), start=1):
            if isinstance(fitted, Rejected):
                failed.append(fitted)
            else:
                file.write(fitted.tobytes())
            if done % _REPORT_EVERY == 0 or done == total:
                progress(done, total)
        if failed:
            raise _changed(dataset.name, failed)


def _jobs(dataset: DataSet) -> Iterator[tuple[str, bytes, Any]]:
    """(reference, file digest when added, content now) of every record in order."""
    source = dataset.open_source()
    contents = source.contents(ref for ref, _ in references(dataset.index_path))
    for (ref, digest), content in zip(references(dataset.index_path), contents, strict=True):
        yield ref, digest, content


def _fit(job: tuple[ExtractorSpec, str, bytes, Any]) -> Pixels | Rejected:
    spec, ref, digest, content = job
    if isinstance(content, Rejected):
        return content
    try:
        data = read_content(content)
        if digest_of_file_bytes(data) != digest:
            return Rejected(ref, "has other bytes than when it was added")
        fitted = np.ascontiguousarray(fit_record(data, spec))
    except InvalidRecords as reason:
        return Rejected(ref, reason.message)
    if fitted.dtype != np.uint8 or fitted.shape != (spec.height, spec.width, spec.channels):
        return Rejected(ref, f"was fitted to {fitted.dtype} {fitted.shape}")
    return fitted


def _changed(name: str, failed: list[Rejected]) -> InvalidRecords:
    return InvalidRecords(
        f'Expected the files of "{name}" as they were when it was added, found {len(failed)} that are not:\n'
        + listing(failed)
        + "\nNo pixels were cached. Put the files back as they were."
    )

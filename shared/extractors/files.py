"""Weights files: safetensors with the extractor's spec inside, written and read without torch (numpy only).

A file is: 8 bytes little-endian header length, a JSON header, then the float32 values. It is read here by
hand, so that every length is bounded before it is believed and so that equal weights are equal bytes; any
safetensors reader opens it. A stranger needs nothing else: the header names the architecture with all its
options, and tensors that training does not move (filters) are stored like the others.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.domain.canonical import Digest, canonical_bytes, digest_of_file
from shared.domain.errors import CommonlensError, InvalidWeights
from shared.domain.extractor import ExtractorSpec, WeightLayout
from shared.domain.files import atomic_writer
from shared.domain.strict import build, to_plain
from shared.extractors.flatten import Tensors, check_tensors, layout_of

WEIGHTS_FORMAT = "commonlens-weights/1"
ECOSYSTEM_FORMAT, FORMAT_BESIDE_IT = "pt", "commonlens"
"""`format` of a file that transformers reads too, as it wants it; and the key under which such a file names ours."""
MAXIMUM_HEADER_BYTES = 4 * 2**20
MAXIMUM_TENSORS = 10_000
MAXIMUM_DIMENSIONS = 8
TRAINED = "release"
"""The kind of an origin that members' records had a part in: a release that a run made."""
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Origin:
    """Where starting weights came from when they were not drawn from the plan's seed: it is on the card."""

    kind: str
    """TRAINED, library or public."""
    name: str
    digest: str
    """SHA-256 of the file that the tensors were read from."""
    licence: str
    """SPDX name, or empty where the source names none."""


@dataclass(frozen=True)
class Weights:
    """A weights file that was read and found whole: what it is, how it is laid out, and float32 tensors."""

    spec: ExtractorSpec
    layout: WeightLayout
    tensors: Tensors
    origin: Origin | None = None
    vocabulary: tuple[str, ...] = ()
    """Of an extractor that reads words: the one that each row of its table is for."""


def write_weights(
    path: Path,
    tensors: Mapping[str, npt.NDArray[np.float32]],
    spec: ExtractorSpec,
    layout: WeightLayout,
    origin: Origin | None = None,
    vocabulary: tuple[str, ...] = (),
) -> Digest:
    """Write `tensors` at `path`, whole or not at all; SHA-256 of the file. Equal weights give equal bytes.

    `origin` goes into the header as a claim of whoever writes the file; nothing here depends on it. A `vocabulary` of
    words without line breaks goes there too.

    Raises InvalidWeights when the tensors are not the layout's or not finite, OutOfSpace.
    """
    check_tensors(tensors, layout)
    metadata = {
        "format": WEIGHTS_FORMAT,
        "spec": canonical_bytes(to_plain(spec)).decode(),
        "trainable": canonical_bytes([slot.name for slot in layout.slots if slot.trainable]).decode(),
    }
    if origin is not None:
        metadata["origin"] = canonical_bytes(to_plain(origin)).decode()
    if vocabulary:
        metadata |= {"format": ECOSYSTEM_FORMAT, FORMAT_BESIDE_IT: WEIGHTS_FORMAT}
        metadata["vocabulary"] = "\n".join(vocabulary)
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for slot in layout.slots:
        _check_finite(slot.name, tensors[slot.name], path.name)
        start, end = end, end + 4 * slot.coordinates
        header[slot.name] = {"dtype": "F32", "shape": list(slot.shape), "data_offsets": [start, end]}
    text = canonical_bytes(header)
    text += b" " * (-len(text) % 8)  # so that values start on a multiple of 8, as the format advises
    with atomic_writer(path, 0o644) as file:
        file.write(_LENGTH.pack(len(text)))
        file.write(text)
        for slot in layout.slots:
            file.write(np.ascontiguousarray(tensors[slot.name], dtype="<f4").tobytes())
    return digest_of_file(path)


def read_weights(path: Path, expected: WeightLayout | None = None, maximum_bytes: int = 2**31) -> Weights:
    """Read and check the file at `path`; nothing in it can run, and nothing of it reaches torch here.

    Raises InvalidWeights for what is not a weights file (pickle, zip), is truncated or oversized, has another
    layout than `expected`, or holds NaN or infinite values.
    """
    data = _read_bounded(path, maximum_bytes)
    header, start = _read_header(data, path.name)
    metadata = header.pop("__metadata__", None)
    spec, trainable, origin, vocabulary = _read_metadata(metadata, path.name)
    values = memoryview(data)[start:]
    tensors = _read_tensors(header, values, path.name)
    unknown = sorted(trainable - set(tensors))
    if unknown:
        raise _wrong(path.name, f"every trainable tensor to be present, and {unknown[0]!r} is not")
    layout = layout_of(tensors, trainable)
    if expected is not None:
        check_tensors(tensors, expected)
        if layout != expected:
            raise _wrong(path.name, "other tensors to be trainable than the file names")
    for name, tensor in tensors.items():
        _check_finite(name, tensor, path.name)
    return Weights(spec, layout, tensors, origin, vocabulary)


def _read_bounded(path: Path, maximum_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            # Not read at all when it is too large; never more than was found, should it grow meanwhile.
            data = file.read(size_bytes) if size_bytes <= maximum_bytes else b""
    except FileNotFoundError as error:
        raise _wrong(path.name, "a weights file at this place, and there is none") from error
    if size_bytes > maximum_bytes:
        raise _wrong(path.name, f"at most {maximum_bytes} bytes, and it has {size_bytes}")
    return data


def _read_header(data: bytes, name: str) -> tuple[dict[str, Any], int]:
    """The JSON header and where the values start."""
    if len(data) <= _LENGTH.size:
        raise _wrong(name, f"more than {_LENGTH.size} bytes, and it has {len(data)}")
    if data[_LENGTH.size : _LENGTH.size + 1] != b"{":
        raise _wrong(
            name,
            "safetensors, and it is something else (pickle and zip files can run code and are never opened)",
        )
    (length,) = _LENGTH.unpack_from(data)
    if length > MAXIMUM_HEADER_BYTES:
        raise _wrong(name, f"a header of at most {MAXIMUM_HEADER_BYTES} bytes, and it claims {length}")
    start = _LENGTH.size + length
    if start > len(data):
        raise _wrong(
            name, f"a header of {length} bytes, and it ends after {len(data) - _LENGTH.size}: it is cut"
        )
    try:
        header = json.loads(data[_LENGTH.size : start].decode("utf-8"), object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"a JSON header, and it is not: {error}") from error
    if not isinstance(header, dict) or len(header) > MAXIMUM_TENSORS:
        raise _wrong(name, f"a header that is one table of at most {MAXIMUM_TENSORS} tensors")
    return header, start


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers could otherwise take two different tensors for the same name.
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice")
    return table


def _read_metadata(
    metadata: Any, name: str
) -> tuple[ExtractorSpec, frozenset[str], Origin | None, tuple[str, ...]]:
    told = metadata if isinstance(metadata, dict) else {}
    ours = told.get(FORMAT_BESIDE_IT) if told.get("format") == ECOSYSTEM_FORMAT else told.get("format")
    if ours != WEIGHTS_FORMAT:
        raise _wrong(name, f"the format {WEIGHTS_FORMAT!r} in its header, and it is not named there")
    try:
        spec = build(ExtractorSpec, json.loads(metadata["spec"]), "spec")
        trainable = build(tuple[str, ...], json.loads(metadata["trainable"]), "trainable")
        origin = build(Origin, json.loads(metadata["origin"]), "origin") if "origin" in metadata else None
        words = build(str, metadata.get("vocabulary", ""), "vocabulary")
    except (KeyError, TypeError, ValueError, RecursionError, CommonlensError) as error:
        raise _wrong(
            name, f"a readable spec, origin and list of trainable tensors, and it has none: {error}"
        ) from error
    return spec, frozenset(trainable), origin, tuple(words.split("\n")) if words else ()


def _read_tensors(header: dict[str, Any], values: memoryview, name: str) -> Tensors:
    """Slices of `values`, which the tensors must fill exactly: no gap, no overlap, nothing behind."""
    spans: list[tuple[int, int, str, tuple[int, ...]]] = []
    for tensor_name, entry in header.items():
        shape, begin, end = _read_entry(tensor_name, entry, name)
        spans.append((begin, end, tensor_name, shape))
    tensors: Tensors = {}
    position = 0
    for begin, end, tensor_name, shape in sorted(spans):
        if begin != position:
            raise _wrong(
                name, f"tensor {tensor_name!r} to start at byte {position}, and it starts at {begin}"
            )
        if end > len(values):
            raise _wrong(name, f"{end} bytes of values, and it has {len(values)}: it is cut")
        # Copied: aligned, native byte order, writable, and the file's bytes can be freed.
        tensors[tensor_name] = np.frombuffer(values[begin:end], dtype="<f4").astype(np.float32).reshape(shape)
        position = end
    if position != len(values):
        raise _wrong(name, f"{position} bytes of values, and it has {len(values)}")
    return tensors


def _read_entry(tensor_name: str, entry: Any, name: str) -> tuple[tuple[int, ...], int, int]:
    if not isinstance(entry, dict) or entry.get("dtype") != "F32":
        raise _wrong(name, f"tensor {tensor_name!r} to be F32, and it is not")
    shape, offsets = _counts(entry.get("shape")), _counts(entry.get("data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2:
        raise _wrong(name, f"tensor {tensor_name!r} to have a shape and two offsets, and it has not")
    size = 4
    for side in shape[:MAXIMUM_DIMENSIONS]:
        size *= side
    if len(shape) > MAXIMUM_DIMENSIONS or offsets[1] - offsets[0] != size:
        raise _wrong(
            name,
            f"tensor {tensor_name!r} of shape {shape[:MAXIMUM_DIMENSIONS]} to fill {size} bytes, and it "
            f"fills {offsets[1] - offsets[0]}",
        )
    return tuple(shape), offsets[0], offsets[1]


def _counts(value: Any) -> list[int] | None:
    is_list = isinstance(value, list) and all(type(item) is int and 0 <= item < 2**40 for item in value)
    return value if is_list else None


def _check_finite(tensor_name: str, tensor: npt.NDArray[np.float32], name: str) -> None:
    if not np.isfinite(tensor).all():
        raise _wrong(name, f"finite values in tensor {tensor_name!r}, and some are NaN or infinite")


def _wrong(name: str, what: str) -> InvalidWeights:
    return InvalidWeights(
        f"{name}: expected {what}. No tensor of it was used. Get the file again from its release."
    )

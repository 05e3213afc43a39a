"""Heads on disk, in heads/<name>/: head.json is the whole head, head.safetensors its numbers for other tools.

head.json is written last and read alone, so a crash between the two leaves a whole head, old or new.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from participant.heads.accuracy import Accuracy
from participant.heads.head import Head
from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Invalid, InvalidWeights, NotFound, OutOfSpace
from shared.domain.extractor import ExtractorSpec
from shared.domain.files import read_json, write_atomically, write_json
from shared.domain.strict import build, to_plain

HEAD_FORMAT = "commonlens-head/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class _AccuracyFile:
    accuracy: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True)
class _HeadFile:
    """head.json."""

    classes: tuple[str, ...]
    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    spec: ExtractorSpec
    release_digest: str
    created_at: str
    labels_fitted: int
    missing_classes: tuple[str, ...]
    inverse_regularisation: float
    accuracy: _AccuracyFile | None
    format: str = HEAD_FORMAT


def save_head(home: Path, name: str, head: Head) -> Path:
    """Write heads/<name>/, in place of a head of that name. Returns the folder. Raises Invalid,
    OutOfSpace."""
    folder = _folder(home, name)
    metadata = {
        "format": HEAD_FORMAT,
        "classes": json.dumps(head.classes),
        "release_digest": head.release_digest,
        "spec": canonical_bytes(to_plain(head.spec)).decode(),
    }
    tensors = {"weight": np.ascontiguousarray(head.weight), "bias": np.ascontiguousarray(head.bias)}
    accuracy = None if head.accuracy is None else _AccuracyFile(*head.accuracy)
    file = _HeadFile(
        classes=head.classes,
        weight=tuple(tuple(row) for row in head.weight.tolist()),
        bias=tuple(head.bias.tolist()),
        spec=head.spec,
        release_digest=head.release_digest,
        created_at=head.created_at,
        labels_fitted=head.labels_fitted,
        missing_classes=head.missing_classes,
        inverse_regularisation=head.inverse_regularisation,
        accuracy=accuracy,
    )
    try:
        write_atomically(folder / "head.safetensors", safetensors.numpy.save(tensors, metadata))
        write_json(folder / "head.json", to_plain(file))
    except OutOfSpace:
        if not (
            folder / "head.json"
        ).exists():  # of a new head nothing stays; one that was there is untouched
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def load_head(home: Path, name: str) -> Head:
    """The head `name`. Raises NotFound; InvalidConfig or InvalidWeights where head.json does not fit."""
    path = _folder(home, name) / "head.json"
    if not path.is_file():
        known = ", ".join(list_heads(home)) or "none"
        raise NotFound(f'There is no head "{name}" here; known: {known}. Fit it first.')
    file = build(_HeadFile, read_json(path), "head.json")
    if file.format != HEAD_FORMAT:
        raise InvalidWeights(
            f"head.json: expected format {HEAD_FORMAT}, found {file.format}. It was not loaded. Fit the head again."
        )
    if len(file.weight) != len(file.classes) or len(file.bias) != len(file.classes):
        raise InvalidWeights(
            f"head.json: expected weight and bias for {len(file.classes)} classes, found {len(file.weight)} "
            f"and {len(file.bias)}. It was not loaded. Fit the head again."
        )
    if any(len(row) != file.spec.embedding_dim for row in file.weight):
        raise InvalidWeights(
            f"head.json: expected {file.spec.embedding_dim} weights a class, found another number. It was "
            "not loaded. Fit the head again."
        )
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite and is refused below
        weight, bias = np.array(file.weight, np.float32), np.array(file.bias, np.float32)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InvalidWeights("head.json: a weight is not finite. It was not loaded. Fit the head again.")
    measured = file.accuracy
    return Head(
        classes=file.classes,
        weight=weight,
        bias=bias,
        spec=file.spec,
        release_digest=file.release_digest,
        created_at=file.created_at,
        labels_fitted=file.labels_fitted,
        missing_classes=file.missing_classes,
        inverse_regularisation=file.inverse_regularisation,
        accuracy=None if measured is None else Accuracy(measured.accuracy, measured.low, measured.high),
    )


def list_heads(home: Path) -> list[str]:
    """Names of all heads, sorted."""
    return sorted(path.parent.name for path in (home / "heads").glob("*/head.json"))


def remove_head(home: Path, name: str) -> None:
    """Delete heads/<name>/. Raises NotFound."""
    folder = _folder(home, name)
    if not (folder / "head.json").is_file():
        raise NotFound(f'There is no head "{name}" here. Nothing was removed. List the heads.')
    shutil.rmtree(folder)


def _folder(home: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise Invalid(
            "A head's name is 1 to 64 letters, digits, '.', '-' or '_' and starts with a letter or digit; "
            f"found {name!r}. Nothing was done. Choose another name."
        )
    return home / "heads" / name

"""A head as one JSON file that any language can apply: docs/formats.md has the arithmetic.

It is for the member's own programs. What it holds was fitted on the member's records without noise (clause 2.6), so
who gets the file may learn something of them; how many they were, and how well the head does, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from participant.heads.head import Head
from shared.domain.errors import HeadMismatch
from shared.domain.files import write_json
from shared.domain.strict import to_plain
from shared.exports.fitting import fit_of, per_channel
from shared.exports.head_schema import ARITHMETIC, HEAD_FILE_FORMAT
from shared.verification import VerifiedExtractor


@dataclass(frozen=True)
class HeadRelease:
    """The one release whose embeddings the head understands."""

    consortium: str
    release: str
    manifest_digest: str


@dataclass(frozen=True)
class HeadPreprocessing:
    """How a record becomes the extractor's input; `fit` in words, the rest in numbers."""

    kind: str
    """image or text."""
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    """One number a channel, as std has."""
    std: tuple[float, ...]
    fit: str


@dataclass(frozen=True)
class HeadFile:
    """The file. weight is [labels, embedding_dim], bias [labels]: float32, written out exactly."""

    labels: tuple[str, ...]
    embedding_dim: int
    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]
    release: HeadRelease
    preprocessing: HeadPreprocessing
    arithmetic: str = ARITHMETIC
    format: str = HEAD_FILE_FORMAT


def head_file(head: Head, release: VerifiedExtractor) -> HeadFile:
    """`head` with everything that is needed to apply it. Raises HeadMismatch for another release than the head's."""
    if release.manifest_digest != head.release_digest:
        raise HeadMismatch(
            f"This head was fitted on release {head.release_digest}, and the release is {release.manifest_digest}. "
            "Nothing was written. Name the release that it was fitted on."
        )
    spec = head.spec
    return HeadFile(
        labels=head.classes,
        embedding_dim=head.embedding_dim,
        weight=tuple(tuple(row) for row in head.weight.tolist()),
        bias=tuple(head.bias.tolist()),
        release=HeadRelease(release.manifest.consortium, release.manifest.release, release.manifest_digest),
        preprocessing=HeadPreprocessing(
            kind=spec.kind.value,
            channels=spec.channels,
            height=spec.height,
            width=spec.width,
            mean=per_channel(spec.mean, spec),
            std=per_channel(spec.std, spec),
            fit=fit_of(spec),
        ),
    )


def write_head_file(path: Path, file: HeadFile) -> None:
    """In place of what is at `path`, for its owner alone to read. Raises OutOfSpace."""
    write_json(path, to_plain(file))

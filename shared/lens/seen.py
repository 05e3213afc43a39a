"""What one extractor made of the probe set, and what is found in it picture by picture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.domain.errors import InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.preprocess import fit_image
from shared.lens.colour import Pixels
from shared.lens.measures import Distances, Mask, Vectors, answers, distances
from shared.lens.probe_set import ProbeSet

_BATCH = 32
_KEPT_BYTES = 2**25
"""Up to so many in all, pictures of one size are fitted once: two releases are mostly compared at the same one."""

Embed = Callable[[Pixels], npt.NDArray[np.float32]]
"""uint8 [N, height, width, channels] → float32 [N, D]."""


@dataclass(frozen=True)
class Seen:
    """Embeddings, float64 [N, D], of everything in the probe set, in its order."""

    channels: int
    height: int
    width: int
    photographs: Vectors
    changed: Mapping[str, Vectors]
    scenes: Vectors

    @property
    def embedding_dim(self) -> int:
        """D."""
        return int(self.photographs.shape[1])


@dataclass(frozen=True)
class Findings:
    """Of every held-out picture, so that two extractors are compared picture by picture."""

    moved: Mapping[str, Distances]
    """By change."""
    told: Mapping[str, Mask]
    """By question: which answers were right."""


def look(embed: Embed, channels: int, height: int, width: int, probe_set: ProbeSet) -> Seen:
    """Show `embed` the probe set, at most 32 pictures at a time, made by `fit_image`.

    With one channel pictures are grey. Raises InvalidWeights for embeddings of another shape or that are not
    finite, InvalidConfig for channels that no picture has.
    """

    size = (channels, height, width)
    parts = probe_set.pictures
    small = sum(map(len, parts.values())) * channels * height * width <= _KEPT_BYTES

    def batches(name: str) -> Iterator[Pixels]:
        pictures = _kept(probe_set, size)[name] if small else parts[name]
        for k in range(0, len(pictures), _BATCH):
            yield pictures[k : k + _BATCH] if small else _fitted(pictures[k : k + _BATCH], size)

    vectors = {
        name: np.concatenate([_checked(embed(batch), batch) for batch in batches(name)]) for name in parts
    }
    return Seen(
        channels,
        height,
        width,
        photographs=vectors["photographs"],
        changed={name: vectors[name] for name in probe_set.changed},
        scenes=vectors["scenes"],
    )


def find(seen: Seen, probe_set: ProbeSet) -> Findings:
    """How far every change moves each picture, and which of the questions' answers are right."""
    content = probe_set.content
    told = {content.name: answers(seen.photographs, content.labels, content.held_out)}
    for question in probe_set.scene_questions:
        told[question.name] = answers(seen.scenes, question.labels, question.held_out)
    before = seen.photographs[content.held_out]
    return Findings(distances(before, seen.changed, content.labels[content.held_out]), told)


@functools.lru_cache(maxsize=2)
def _kept(probe_set: ProbeSet, size: tuple[int, int, int]) -> Mapping[str, Pixels]:
    return {name: _fitted(pictures, size) for name, pictures in probe_set.pictures.items()}


def _fitted(pictures: Pixels, size: tuple[int, int, int]) -> Pixels:
    # Only the three numbers are read: a picture becomes what daily use would make of it.
    spec = ExtractorSpec("", *size, 1)
    return np.stack([fit_image(Image.fromarray(picture), spec) for picture in pictures])


def _checked(made: npt.NDArray[np.float32], batch: Pixels) -> Vectors:
    if made.ndim != 2 or len(made) != len(batch) or not made.shape[1] or not np.isfinite(made).all():
        raise InvalidWeights(
            f"Expected finite embeddings [{len(batch)}, D] of {len(batch)} pictures, found "
            f"{list(made.shape)}, {int(np.isfinite(made).sum())} of {made.size} values finite. No profile was "
            "made. Check the extractor."
        )
    return made.astype(np.float64)

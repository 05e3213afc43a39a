"""What one extractor made of the probe set, and what is found in it picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    def vectors(pictures: Pixels) -> Vectors:
        fit = _fitting(channels, height, width)
        batches = [pictures[k : k + _BATCH] for k in range(0, len(pictures), _BATCH)]
        return np.concatenate(
            [_checked(embed(np.stack([fit(x) for x in batch])), batch) for batch in batches]
        )

    return Seen(
        channels,
        height,
        width,
        photographs=vectors(probe_set.photographs),
        changed={name: vectors(pictures) for name, pictures in probe_set.changed.items()},
        scenes=vectors(probe_set.scenes),
    )


def find(seen: Seen, probe_set: ProbeSet) -> Findings:
    """How far every change moves each picture, and which of the questions' answers are right."""
    content = probe_set.content
    told = {content.name: answers(seen.photographs, content.labels, content.held_out)}
    for question in probe_set.scene_questions:
        told[question.name] = answers(seen.scenes, question.labels, question.held_out)
    before = seen.photographs[content.held_out]
    return Findings(distances(before, seen.changed, content.labels[content.held_out]), told)


def _fitting(channels: int, height: int, width: int) -> Callable[[Pixels], Pixels]:
    # Only the three numbers are read: a picture becomes what daily use would make of it.
    spec = ExtractorSpec("", channels, height, width, 1)
    return lambda picture: fit_image(Image.fromarray(picture), spec)


def _checked(made: npt.NDArray[np.float32], batch: Pixels) -> Vectors:
    if made.ndim != 2 or len(made) != len(batch) or not made.shape[1] or not np.isfinite(made).all():
        raise InvalidWeights(
            f"Expected finite embeddings [{len(batch)}, D] of {len(batch)} pictures, found "
            f"{list(made.shape)}, {int(np.isfinite(made).sum())} of {made.size} values finite. No profile was "
            "made. Check the extractor."
        )
    return made.astype(np.float64)

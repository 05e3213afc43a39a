"""Public pictures: which photograph a crop is from is the label.

Crops of photographs inside scikit-image's wheel (shared/lens/sources.py), fitted as every picture is. Two opposite
quarters of each photograph are to learn from, the other two are held out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.domain.extractor import ExtractorSpec
from shared.extractors.preprocess import fit_image
from shared.lens.sources import CONTENTS, TEXTURES, photograph

SET_NAME = "commonlens-export-pictures/1"
_QUARTERS = ((0, 3), (1, 2))
"""To learn from, and held out; counted row by row."""
_SMALLEST_CROP = 0.5
"""Side of a crop, in its quarter's shorter side."""

Bytes = npt.NDArray[np.uint8]
Draw = Callable[[ExtractorSpec, bool, int, np.random.Generator], Bytes]
"""(spec, held out?, count, generator) → records of one label, uint8 [count, H, W, C]."""


def picture_records() -> tuple[str, list[Draw]]:
    """The set's name, and for each photograph what draws crops of it. Raises InvalidConfig, DigestMismatch."""
    return SET_NAME, [functools.partial(crops_of, photograph(name)) for name in CONTENTS + TEXTURES]


def crops_of(
    whole: Image.Image, spec: ExtractorSpec, held_out: bool, count: int, rng: np.random.Generator
) -> Bytes:
    """Random squares of `whole` inside the quarters of that side, as uint8 [count, H, W, C]."""
    crops = [_crop(whole, _QUARTERS[held_out][k % 2], rng) for k in range(count)]
    return np.stack([fit_image(crop, spec) for crop in crops])


def _crop(whole: Image.Image, quarter: int, rng: np.random.Generator) -> Image.Image:
    """A random square inside one quarter."""
    row, column = divmod(quarter, 2)
    width, height = whole.width // 2, whole.height // 2
    side = int(min(width, height) * rng.uniform(_SMALLEST_CROP, 1.0))
    left = column * width + int(rng.integers(width - side + 1))
    top = row * height + int(rng.integers(height - side + 1))
    return whole.crop((left, top, left + side, top + side))

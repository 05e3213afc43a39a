"""Six textures without colour, each brought to the same mean and contrast: three photographed, three drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image
from scipy import ndimage

from shared.lens.colour import Plane
from shared.lens.sources import TEXTURES, photograph

SIDE = 256
"""Pixels of each side; photographed ones are halved, so that a small part still shows what they are."""
LIMIT = 2.5
"""Values lie within ± so many standard deviations."""
_STRIPES, _DOTS, _SPECKLE = 7.0, 11.0, 1.5
"""Period of the stripes, distance of the dots, size of the specks; pixels."""


def textures(rng: np.random.Generator) -> Mapping[str, Plane]:
    """Name → float64 [SIDE, SIDE], mean 0, standard deviation 1 but for what the limit cuts off."""
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    made = {name: _halved(photograph(name)) for name in TEXTURES}
    made["stripes"] = np.sin(2 * np.pi * (rows + 0.2 * columns) / _STRIPES)
    made["dots"] = np.cos(2 * np.pi * rows / _DOTS) + np.cos(2 * np.pi * columns / _DOTS)
    made["speckle"] = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), _SPECKLE)
    return {name: _even(plane) for name, plane in made.items()}


def patch(texture: Plane, side: int, rng: np.random.Generator, columns: tuple[int, int] = (0, SIDE)) -> Plane:
    """A square cut from between those columns at a random place, in one of its eight positions, mean 0."""
    row = int(rng.integers(SIDE - side + 1))
    column = int(rng.integers(columns[0], columns[1] - side + 1))
    cut = np.rot90(texture[row : row + side, column : column + side], int(rng.integers(4)))
    cut = cut.T if rng.integers(2) else cut
    return np.asarray(cut - cut.mean())


def _halved(picture: Image.Image) -> Plane:
    grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float64)


def _even(plane: Plane) -> Plane:
    """Without shading wider than an eighth of the side, at mean 0 and unit contrast."""
    flat = plane - ndimage.gaussian_filter(plane, SIDE / 8)
    return np.asarray(np.clip((flat - flat.mean()) / flat.std(), -LIMIT, LIMIT))

"""What is done to a picture to see how far its embedding moves. Each is a pure function of one stated strength.

A change takes a picture uint8 [S, S, 3] and what some changes draw from, and gives a picture of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from shared.lens import colour
from shared.lens.colour import Pixels, Plane
from shared.lens.profile_shape import CHANGE_NAMES
from shared.lens.textures import patch

HUE_DEGREES = 120.0
DARKER = 0.6
BLUR = 1 / 42
"""Standard deviation of the blur, as a part of the side."""
DETAIL = 1 / 28
"""What such a blur would take away is the texture that is swapped."""
KEPT = 0.7
"""Part of each side that the crop keeps."""
TILES = 3
LEAST_CONTRAST = 8.0
"""Grey levels; a smooth picture gets at least so strong a texture."""


class Supply(NamedTuple):
    """What a change may draw from: random numbers, and textures [S', S'] with S' at least the picture's side."""

    rng: np.random.Generator
    textures: Mapping[str, Plane]


def shift_colour(picture: Pixels, supply: Supply) -> Pixels:
    """Every hue turned by HUE_DEGREES."""
    luma, blue, red = colour.split(picture)
    return colour.join(luma, *colour.turned(blue, red, HUE_DEGREES))


def darken(picture: Pixels, supply: Supply) -> Pixels:
    """DARKER times every value."""
    return np.asarray(np.rint(picture * DARKER), dtype=np.uint8)


def blur(picture: Pixels, supply: Supply) -> Pixels:
    """A Gaussian blur of BLUR sides."""
    return _blurred(picture, BLUR)


def swap_texture(picture: Pixels, supply: Supply) -> Pixels:
    """Detail finer than DETAIL sides replaced by that of one of the textures, as strong as it was.

    Coarse shapes and their colours stay. Of what was there nothing finer is left, edges included.
    """
    coarse = _blurred(picture, DETAIL)
    luma, blue, red = colour.split(coarse)
    contrast = max(float((colour.split(picture)[0] - luma).std()), LEAST_CONTRAST)
    names = list(supply.textures)
    drawn = supply.textures[names[int(supply.rng.integers(len(names)))]]
    detail = patch(drawn, len(picture), supply.rng)
    return colour.join(luma + contrast * detail / detail.std(), blue, red)


def crop(picture: Pixels, supply: Supply) -> Pixels:
    """The middle, KEPT of each side, enlarged to the whole."""
    side = len(picture)
    edge = side * (1 - KEPT) / 2
    box = (edge, edge, side - edge, side - edge)
    whole = Image.fromarray(picture)
    return np.asarray(whole.resize((side, side), Image.Resampling.BILINEAR, box), dtype=np.uint8)


def rotate(picture: Pixels, supply: Supply) -> Pixels:
    """A quarter turn against the clock."""
    return np.ascontiguousarray(np.rot90(picture))


def shuffle_layout(picture: Pixels, supply: Supply) -> Pixels:
    """TILES × TILES tiles, each in the place of another: along one random ring through all places."""
    side = len(picture) // TILES
    ring = supply.rng.permutation(TILES * TILES)
    shuffled = picture.copy()
    for to, source in zip(ring, np.roll(ring, 1), strict=True):
        shuffled[_tile(int(to), side)] = picture[_tile(int(source), side)]
    return shuffled


def _tile(index: int, side: int) -> tuple[slice, slice]:
    row, column = divmod(index, TILES)
    return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)


def _blurred(picture: Pixels, part: float) -> Pixels:
    blurred = Image.fromarray(picture).filter(ImageFilter.GaussianBlur(part * len(picture)))
    return np.asarray(blurred, dtype=np.uint8)


@dataclass(frozen=True)
class Change:
    """One change: its name in profiles, what it does in words for a card, and the doing."""

    name: str
    words: str
    apply: Callable[[Pixels, Supply], Pixels]


_WORDS_AND_DOING: tuple[tuple[str, Callable[[Pixels, Supply], Pixels]], ...] = (
    (f"every hue turned by {HUE_DEGREES:g}°, lightness kept", shift_colour),
    (f"darkened to {DARKER * 100:g} % of its light", darken),
    (f"Gaussian blur, σ = {BLUR * 100:.1f} % of the side", blur),
    (
        f"detail finer than σ = {DETAIL * 100:.1f} % of the side replaced by that of another texture",
        swap_texture,
    ),
    (f"the middle {KEPT * 100:g} % of each side, enlarged", crop),
    ("a quarter turn", rotate),
    (f"cut into {TILES} × {TILES} tiles; every tile in another's place", shuffle_layout),
)
CHANGES = tuple(Change(name, *each) for name, each in zip(CHANGE_NAMES, _WORDS_AND_DOING, strict=True))

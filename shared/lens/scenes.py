"""Drawn scenes: two equal parts on a plain ground. Colour, texture, layout and orientation cross fully.

Every combination of the four is drawn once, so no answer tells anything about another and chance is exact.
What none of the questions asks for (brightness, a slope of the light, where in its quarter a part lies, its size,
which piece of the texture it shows) is drawn at random.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from shared.lens import colour
from shared.lens.colour import Pixels, Plane
from shared.lens.textures import SIDE as TEXTURE_SIDE
from shared.lens.textures import patch

HUE_NAMES = ("blue", "violet", "red", "yellow", "green", "cyan")
HUES = len(HUE_NAMES)
LAYOUTS: Mapping[str, tuple[int, int]] = {
    "above": (0, 1),
    "below": (2, 3),
    "falling": (0, 3),
    "rising": (1, 2),
}
"""Which quarters (row by row) hold a part; each quarter does in two of the four."""
TURN_NAMES = ("points up", "points left", "points down", "points right")
"""Where the gable of a part is."""
TURNS = len(TURN_NAMES)
HELD_OUT = 2
"""One of so many scenes is held out. It divides each number of answers, so any two still cross fully."""

_LARGEST_PART, _SMALLEST_PART = 0.46, 0.36
"""Side of a part, in sides of the picture."""
_WANDER = 0.02
_GROUND, _GROUND_SPREAD = 95.0, 25.0
_PART, _PART_SPREAD, _CONTRAST = 45.0, 8.0, 24.0
"""How much lighter a part is than the ground, and its texture's standard deviation; grey levels."""
_SLOPE = 18.0
_TINT = (14.0, 30.0)
"""Strength of the colour, between these two."""


def scenes(
    side: int, textures: Mapping[str, Plane], rng: np.random.Generator
) -> tuple[Pixels, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """uint8 [N, side, side, 3], int64 [N, 4] (colour, texture, layout, orientation), bool [N] held out.

    What is held out shows other pieces of the textures: their right half.
    """
    answers = list(itertools.product(range(HUES), range(len(textures)), range(len(LAYOUTS)), range(TURNS)))
    held_out = [sum(answer) % HELD_OUT == 0 for answer in answers]
    drawn = [
        _scene(side, answer, list(textures.values()), out, rng)
        for answer, out in zip(answers, held_out, strict=True)
    ]
    return np.stack(drawn), np.array(answers, dtype=np.int64), np.array(held_out)


def scene_classes(textures: Mapping[str, Plane]) -> tuple[tuple[str, ...], ...]:
    """What the labels of `scenes` stand for, by column."""
    return HUE_NAMES, tuple(textures), tuple(LAYOUTS), TURN_NAMES


def _scene(
    side: int, answer: tuple[int, ...], textures: list[Plane], out: bool, rng: np.random.Generator
) -> Pixels:
    hue, texture, layout, turn = answer
    luma = _ground(side, rng)
    light = luma.mean() + _PART + rng.uniform(-_PART_SPREAD, _PART_SPREAD)
    half = TEXTURE_SIDE // 2
    columns = (half, TEXTURE_SIDE) if out else (0, half)
    for quarter in list(LAYOUTS.values())[layout]:
        size = int(side * rng.uniform(_SMALLEST_PART, _LARGEST_PART))
        top, left = (_place(k, size, side, rng) for k in divmod(quarter, 2))
        window = luma[top : top + size, left : left + size]
        shape = np.rot90(_house(size), turn)
        window[shape] = (light + _CONTRAST * patch(textures[texture], size, rng, columns))[shape]
    strength = rng.uniform(*_TINT)
    plain = np.zeros_like(luma)
    return colour.join(luma, *colour.turned(plain + strength, plain, 360.0 * hue / HUES))


def _ground(side: int, rng: np.random.Generator) -> Plane:
    """A plain of random brightness that slopes in a random direction."""
    across = np.linspace(-1.0, 1.0, side)
    down, right = rng.uniform(-_SLOPE, _SLOPE, 2)
    level = _GROUND + rng.uniform(-_GROUND_SPREAD, _GROUND_SPREAD)
    return np.asarray(level + down * across[:, None] + right * across[None, :])


def _place(half: int, size: int, side: int, rng: np.random.Generator) -> int:
    """Where a part begins along one axis: about the middle of the first or second half, inside the picture."""
    middle = side * (0.25 + 0.5 * half + rng.uniform(-_WANDER, _WANDER))
    return int(np.clip(round(middle - size / 2), 0, side - size))


def _house(size: int) -> npt.NDArray[np.bool_]:
    """A square with a gable: it looks different in each of its four turns."""
    picture = Image.new("1", (size, size))
    corners = [(0, size), (0, size / 2), (size / 2, 0), (size, size / 2), (size, size)]
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    return np.asarray(picture)

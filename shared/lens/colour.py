"""Lightness and colour apart: what changes one of them leaves the other as it was.

Luma and the two colour differences are those of JPEG (ITU-T T.871, section 7), whose luma is also what Pillow
makes a picture grey by: a change of colour alone is invisible to an extractor of grey pictures.

Everything is computed in float64 and rounded once, so that the last bits, which differ between machines, do not
reach the pixels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float64]

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114
"""Weights of luma."""


def split(picture: Pixels) -> tuple[Plane, Plane, Plane]:
    """uint8 [H, W, 3] → luma 0…255 and colour differences blue and red, around 0; float64 [H, W] each."""
    red, green, blue = (picture[..., channel].astype(np.float64) for channel in range(3))
    luma = _RED * red + _GREEN * green + _BLUE * blue
    return luma, (blue - luma) / (2 * (1 - _BLUE)), (red - luma) / (2 * (1 - _RED))


def join(luma: Plane, blue: Plane, red: Plane) -> Pixels:
    """The inverse of `split`, uint8 [H, W, 3]. Luma is cut to 0…255; a colour too strong for it is weakened."""
    luma = np.clip(luma, 0.0, 255.0)
    parts = [
        2 * (1 - _RED) * red,
        -(2 * (1 - _BLUE) * _BLUE * blue + 2 * (1 - _RED) * _RED * red) / _GREEN,
        2 * (1 - _BLUE) * blue,
    ]
    fits = np.ones_like(luma)
    for part in parts:
        room = np.where(part > 0, 255.0 - luma, luma)
        fits = np.minimum(fits, room / np.maximum(np.abs(part), 1e-9))
    return np.stack([np.rint(luma + fits * part) for part in parts], axis=-1).astype(np.uint8)


def turned(blue: Plane, red: Plane, degrees: float) -> tuple[Plane, Plane]:
    """Every hue turned by that angle; how strong a colour is stays."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cosine * blue - sine * red, sine * blue + cosine * red

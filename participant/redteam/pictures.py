"""Pictures for the attacks: synthetic ones to aim at, two measures of likeness, and one image beside another.

PSNR is 10·log10(1/MSE) for values in 0 … 1. SSIM is Wang, Bovik, Sheikh, Simoncelli 2004, "Image quality
assessment: from error visibility to structural similarity", equation 13, with their Gaussian window of 11 pixels
and std 1.5 (smaller for smaller pictures), K1 = 0.01 and K2 = 0.03, averaged over all places and channels.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from shared.domain.extractor import ExtractorSpec
from shared.domain.files import write_atomically

Pixels = npt.NDArray[np.uint8]
Picture = npt.NDArray[np.float64]
"""float64 [height, width, channels], 0 … 1."""
BEST_PSNR_DB = 99.0
"""Stands for infinity: the pictures are equal."""
_WINDOW, _WINDOW_STD, _K1, _K2 = 11, 1.5, 0.01, 0.03
_SHOWN_PIXELS, _MARGIN, _CAPTION_PIXELS, _CAPTION_LETTERS = 112, 8, 56, 19


def synthetic_pictures(count: int, spec: ExtractorSpec, number: int = 0) -> Pixels:
    """uint8 [count, height, width, channels]: a soft slope with three soft spots each; nobody's records.

    Equal `number` gives equal pictures: they hide nothing, so nothing here needs a cryptographic generator.
    """
    generator = np.random.Generator(np.random.PCG64([number, count, spec.height, spec.width, spec.channels]))
    rows = np.linspace(0.0, 1.0, spec.height)[None, :, None, None]
    columns = np.linspace(0.0, 1.0, spec.width)[None, None, :, None]

    def some(low: float, high: float, of: int = spec.channels) -> Picture:
        return generator.uniform(low, high, (count, 1, 1, of))

    scene = some(0.15, 0.6) + some(-0.3, 0.3, 1) * rows + some(-0.3, 0.3, 1) * columns
    for _ in range(3):
        across, down, size = some(0.15, 0.85, 1), some(0.15, 0.85, 1), some(0.08, 0.22, 1)
        spot = np.exp(-((rows - down) ** 2 + (columns - across) ** 2) / (2.0 * size**2))
        scene = scene + spot * some(-0.5, 0.8)
    return np.asarray(np.clip(scene, 0.0, 1.0) * 255.0 + 0.5, dtype=np.uint8)


def psnr_db(found: Picture, true: Picture) -> float:
    """Peak signal-to-noise ratio; above about 30 dB two pictures look the same."""
    error = float(np.mean((found - true) ** 2))
    return BEST_PSNR_DB if error <= 10.0 ** (-BEST_PSNR_DB / 10.0) else -10.0 * math.log10(error)


def ssim(found: Picture, true: Picture) -> float:
    """Structural similarity, 1 for equal pictures and about 0 for unrelated ones; see the top of this file."""
    window = _window(min(_WINDOW, *found.shape[:2]))
    low, high = (_K1 * 1.0) ** 2, (_K2 * 1.0) ** 2
    mean_a, mean_b = _smooth(found, window), _smooth(true, window)
    variance_a = _smooth(found * found, window) - mean_a**2
    variance_b = _smooth(true * true, window) - mean_b**2
    together = _smooth(found * true, window) - mean_a * mean_b
    likeness = (2.0 * mean_a * mean_b + low) * (2.0 * together + high)
    return float(np.mean(likeness / ((mean_a**2 + mean_b**2 + low) * (variance_a + variance_b + high))))


def side_by_side(path: Path, pictures: Sequence[tuple[str, Picture]]) -> None:
    """A PNG of all pictures in a row, enlarged without smoothing, each with its caption of up to four lines."""
    step = _SHOWN_PIXELS + _MARGIN
    sheet = Image.new(
        "RGB", (_MARGIN + step * len(pictures), _SHOWN_PIXELS + _CAPTION_PIXELS + _MARGIN), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for place, (caption, picture) in enumerate(pictures):
        pixels = np.asarray(picture * 255.0 + 0.5, dtype=np.uint8)
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        left = _MARGIN + place * step
        sheet.paste(image.resize((_SHOWN_PIXELS, _SHOWN_PIXELS), Image.Resampling.NEAREST), (left, _MARGIN))
        lines = [part for line in caption.split("\n") for part in textwrap.wrap(line, _CAPTION_LETTERS)]
        pen.multiline_text((left, _MARGIN + _SHOWN_PIXELS + 3), "\n".join(lines), fill="black", font_size=11)
    data = io.BytesIO()
    sheet.save(data, format="PNG")
    write_atomically(path, data.getvalue())


def _window(side: int) -> Picture:
    places = np.arange(side) - (side - 1) / 2.0
    weights = np.exp(-(places**2) / (2.0 * _WINDOW_STD**2))
    return np.asarray(weights / weights.sum())


def _smooth(values: Picture, window: Picture) -> Picture:
    """Weighted mean over the window, only where it fits whole."""
    for axis in (0, 1):
        values = np.lib.stride_tricks.sliding_window_view(values, len(window), axis=axis) @ window
    return values

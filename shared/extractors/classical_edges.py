"""`hog` and `edge-layout`: which way edges run, and where in the picture they are."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.classical import (
    BRIGHTEST_LEVEL,
    BRIGHTNESS_PER_LEVEL,
    Brightness,
    Cells,
    Classical,
    check_whole,
)
from shared.extractors.options import Options

MOST_ORIENTATIONS = 36
MOST_PIXELS_A_CELL = 512
MOST_CELLS_A_BLOCK = 8
MOST_CELLS_A_SIDE = 64
_CLIP = 0.2
_SMALL = 1e-5
FAINT = 1e-3
"""Added to what an edge layout is divided by, in units of full contrast: faint edges stay small, none give 0."""
_SOBEL_UNIT = 4.0 * BRIGHTNESS_PER_LEVEL * BRIGHTEST_LEVEL
"""Brings the whole-number answer of the filter [1 2 1] x [1 0 -1] to a picture of 0…1 and weights of sum 1."""


class Hog(Classical):
    """Histograms of oriented gradients, as `skimage.feature.hog` of the 8-bit picture with block norm L2-Hys.

    Dalal and Triggs 2005, "Histograms of oriented gradients for human detection", section 6: central differences
    of the channel with the steepest one, votes by magnitude in bins of 180° / orientations within each cell, and
    blocks that are scaled to length 1, clipped at 0.2 and scaled again. So contrast and light of each block drop
    out, and features are comparable as they stand: a square root on top is not customary, and not taken.

    [B, C, H, W] → [B, features] in scikit-image's order: block row, block column, cell row, cell column,
    orientation. Equal to it within 1e-5.
    """

    bounds: Tensor

    def __init__(self, spec: ExtractorSpec, orientations: int, cell: int, block: int) -> None:
        self.rows, self.columns = (side // cell - block + 1 for side in (spec.height, spec.width))
        self.cell, self.block = cell, block
        super().__init__(spec, self.rows * self.columns * block * block * orientations)
        self.register_buffer("bounds", torch.from_numpy(directions(orientations)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, features]."""
        down, right = _steepest(self.levels(x))
        votes = torch.sqrt(down.square() + right.square()) * self._bins(down, right)
        cells = F.avg_pool2d(votes, self.cell)
        parts = [
            cells[:, :, i : i + self.rows, j : j + self.columns]
            for i in range(self.block)
            for j in range(self.block)
        ]
        # [B, block², orientations, rows, columns] → [B, rows, columns, block² · orientations]
        blocks = torch.stack(parts, dim=1).permute(0, 3, 4, 1, 2).flatten(3)
        return _scaled(_scaled(blocks).clamp(max=_CLIP)).flatten(1)

    def _bins(self, down: Tensor, right: Tensor) -> Tensor:
        """[B, orientations, H, W]: 1 in the bin of each pixel's gradient, 0 in the others.

        An angle is never computed. Opposite gradients count as one, which leaves angles from 0° to below 180°; one
        of these is at or past a bound β exactly if sin(angle - β) is not negative, and that is a comparison of two
        products which are equal where the angle is β (0°, 45° and 90° are frequent in pictures of whole levels).
        """
        backwards = (down < 0) | ((down == 0) & (right < 0))
        down, right = torch.where(backwards, -down, down), torch.where(backwards, -right, right)
        cosine, sine = self.bounds[:, 0, None, None], self.bounds[:, 1, None, None]
        past = (down * cosine >= right * sine).to(down.dtype)
        return past - F.pad(past[:, 1:], (0, 0, 0, 0, 0, 1))


class EdgeLayout(Classical):
    """How strong edges are in each cell of a grid, all together and in a few directions, by Sobel's filter.

    The first map is `skimage.filters.sobel` of the picture's brightness; map k ≥ 1 is |h·cos θ + v·sin θ| for
    θ = 180°·(k - 1) / orientations with h = `sobel_h` and v = `sobel_v`, the filter turned by θ (Freeman and
    Adelson 1991, "The design and use of steerable filters", section II); k = 1 answers to horizontal edges. The
    means in the cells are divided by their sum, so that contrast drops out, and square roots are taken: their
    Euclidean distance is that of Hellinger between the histograms, in which a few strong edges do not drown the
    others (Arandjelović and Zisserman 2012, "Three things everyone should know to improve object retrieval",
    section 3).

    [B, C, H, W] → [B, features] in the order map, row, column. Equal to scikit-image's maps so treated, within 1e-5.
    """

    directions: Tensor

    def __init__(self, spec: ExtractorSpec, grid: int, orientations: int) -> None:
        super().__init__(spec, grid * grid * (1 + orientations))
        self.brightness = Brightness(spec.channels)
        self.cells = Cells(spec, grid)
        self.register_buffer("directions", torch.from_numpy(directions(orientations)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, features]."""
        wide = F.pad(self.brightness(self.levels(x)), (1, 1, 1, 1), mode="replicate")
        # By slices, as a convolution may round its input on a GPU: sums here are exact, and flat parts exactly 0.
        across = wide[..., :-2] + 2.0 * wide[..., 1:-1] + wide[..., 2:]
        along = wide[..., :-2, :] + 2.0 * wide[..., 1:-1, :] + wide[..., 2:, :]
        horizontal = (across[..., 2:, :] - across[..., :-2, :]) / _SOBEL_UNIT
        vertical = (along[..., 2:] - along[..., :-2]) / _SOBEL_UNIT
        strength = torch.sqrt((horizontal.square() + vertical.square()) / 2.0)
        cosine, sine = self.directions[:, 0, None, None], self.directions[:, 1, None, None]
        turned = (horizontal * cosine + vertical * sine).abs()
        means = self.cells(torch.cat([strength, turned], dim=1)).flatten(1)
        return torch.sqrt(means / (means.sum(dim=1, keepdim=True) + FAINT))


def hog(spec: ExtractorSpec) -> Hog:
    """Options: orientations 9, cell 8 (pixels a side), block 2 (cells a side)."""
    options = Options(spec)
    orientations, cell = options.take("orientations", 9), options.take("cell", 8)
    block = options.take("block", 2)
    options.done()
    check_whole(spec, "orientations", orientations, 1, MOST_ORIENTATIONS)
    check_whole(spec, "cell", cell, 2, MOST_PIXELS_A_CELL)
    check_whole(spec, "block", block, 1, MOST_CELLS_A_BLOCK)
    if cell * block > min(spec.height, spec.width):
        raise InvalidConfig(
            f"Architecture 'hog' with cells of {cell} pixels and blocks of {block} cells expects pictures of at least "
            f"{cell * block}x{cell * block} pixels; found {spec.height}x{spec.width}. Nothing was built. Lower cell "
            "or block, or enlarge the pictures."
        )
    return Hog(spec, orientations, cell, block)


def edge_layout(spec: ExtractorSpec) -> EdgeLayout:
    """Options: grid 8 (cells a side), orientations 4."""
    options = Options(spec)
    grid, orientations = options.take("grid", 8), options.take("orientations", 4)
    options.done()
    check_whole(spec, "grid", grid, 1, MOST_CELLS_A_SIDE)
    check_whole(spec, "orientations", orientations, 1, MOST_ORIENTATIONS)
    return EdgeLayout(spec, grid, orientations)


def directions(count: int) -> npt.NDArray[np.float32]:
    """float32 [count, 2]: cosine and sine of 0°, 180° / count, 2 · 180° / count, …"""
    angles = math.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _steepest(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences [B, 1, H, W] downwards and to the right, of the channel where they are longest; 0 on the rim.

    Of channels with equal ones it is the first.
    """
    down = F.pad(levels[:, :, 2:] - levels[:, :, :-2], (0, 0, 1, 1))
    right = F.pad(levels[..., 2:] - levels[..., :-2], (1, 1))
    channel = (down.square() + right.square()).argmax(dim=1, keepdim=True)
    return down.gather(1, channel), right.gather(1, channel)


def _scaled(blocks: Tensor) -> Tensor:
    """[..., n] → x / √(|x|² + 10⁻¹⁰): each of length 1, and a block without edges stays 0."""
    # In units of 10⁻⁵, as tools that simplify ONNX files take a summand of 10⁻¹⁰ for 0.
    large = blocks / _SMALL
    return large / torch.sqrt(large.square().sum(dim=-1, keepdim=True) + 1.0)

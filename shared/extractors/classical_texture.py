"""`lbp`: which small patterns of brighter and darker neighbours a surface is made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.domain.extractor import ExtractorSpec
from shared.extractors.classical import BRIGHTNESS_PER_LEVEL, Brightness, Cells, Classical, check_whole
from shared.extractors.options import Options

NEIGHBOURS = 8
CODES = NEIGHBOURS + 2
"""0 to 8 brighter neighbours in one run, and one code for all patterns of several runs."""
MOST_CELLS_A_SIDE = 64
_AWAY = 0.70711
"""Rows and columns from a pixel to its diagonal neighbours on a circle of radius 1, with scikit-image's five digits."""
_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
"""Rows and columns to each neighbour, the first to the right and then anticlockwise."""


class Lbp(Classical):
    """Histograms of uniform local binary patterns, as `skimage.feature.local_binary_pattern(P=8, R=1, "uniform")`.

    Ojala, Pietikäinen and Mäenpää 2002, "Multiresolution gray-scale and rotation invariant texture classification
    with local binary patterns", section 2: eight neighbours on a circle, 1 where one is at least as bright as the
    centre. Patterns of at most two changes around the circle count by their number of ones (0…8), all others as 9.
    Outside of the picture it is black. The picture is its brightness, rounded to 8 bits, halves up.

    The histogram of each cell of the grid sums to 1, so cells of different sizes compare, and square roots are taken:
    their Euclidean distance is that of Hellinger, the customary one for histograms of few frequent and many rare
    patterns (Arandjelović and Zisserman 2012, section 3).

    [B, C, H, W] → [B, features] in the order row, column, code. Codes are scikit-image's, save where brightness lies
    exactly half-way between two levels, or an interpolated neighbour is exactly as bright as the centre though the
    pixels around it are not: there scikit-image's rounding in float64 decides, and here the exact values do. It is
    one pixel in 2,000,000 of photographs, and far more only in noise of few levels. Without such pixels histograms
    are equal within 1e-6.
    """

    def __init__(self, spec: ExtractorSpec, grid: int) -> None:
        super().__init__(spec, grid * grid * CODES)
        self.brightness = Brightness(spec.channels)
        self.cells = Cells(spec, grid)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, features]."""
        codes = self.codes(x)
        each = torch.cat([(codes == code).to(x.dtype) for code in range(CODES)], dim=1)
        return torch.sqrt(self.cells(each)).permute(0, 2, 3, 1).flatten(1)

    def codes(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the code of each pixel, whole numbers 0…9, [B, 1, H, W]."""
        halves_up = self.brightness(self.levels(x)) + BRIGHTNESS_PER_LEVEL / 2
        grey = torch.floor(halves_up / BRIGHTNESS_PER_LEVEL)
        signs = torch.cat(_signs(grey), dim=1).to(x.dtype)
        changes = (signs[:, 1:] - signs[:, :-1]).abs().sum(dim=1, keepdim=True)
        ones = signs.sum(dim=1, keepdim=True)
        # Without the step from the last neighbour to the first: changes around a circle are even in number.
        return torch.where(changes <= 2, ones, torch.full_like(ones, CODES - 1))


def _signs(grey: Tensor) -> list[Tensor]:
    """Eight bool [B, 1, H, W]: whether each neighbour is at least as bright as the centre.

    A diagonal neighbour is interpolated between centre, two sides and corner. Less the centre it is t · ((1 - t) ·
    (sides) + t · (corner)), all as differences to the centre, which are whole numbers: so the sign is exact, as 0
    comes out where it is 0, and what is not 0 is a thousand times float32's error or more.
    """
    rows, columns = grey.shape[2:]
    wide = F.pad(grey, (1, 1, 1, 1))
    signs = []
    for down, right in _RING:

        def at(i: int, j: int) -> Tensor:
            return wide[:, :, 1 + i : 1 + i + rows, 1 + j : 1 + j + columns] - grey

        if down and right:
            sides = at(down, 0) + at(0, right)
            signs.append((1.0 - _AWAY) * sides >= -_AWAY * at(down, right))
        else:
            signs.append(at(down, right) >= 0)
    return signs


def lbp(spec: ExtractorSpec) -> Lbp:
    """Options: grid 4 (cells a side; 1 counts over the whole picture)."""
    options = Options(spec)
    grid = options.take("grid", 4)
    options.done()
    check_whole(spec, "grid", grid, 1, MOST_CELLS_A_SIDE)
    return Lbp(spec, grid)

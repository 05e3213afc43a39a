"""What classical extractors share: 8-bit levels, brightness and the cells of a grid, and that nothing is trained.

A classical extractor is a formula that a person can read. It goes through the same pipe as a network: what it
counts with (bounds, palettes, sampling weights) lies in the weights file, as tensors that training does not move.
Levels and brightness are whole numbers below 2^24, so float32 holds them exactly, and every comparison falls on
the same side in torch, in ONNX, on a GPU and in scikit-image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.layers import Extractor
from shared.extractors.options import LARGEST_OPTION

BRIGHTEST_LEVEL = 255
BRIGHTNESS_PER_LEVEL = 10_000
_BRIGHTNESS_OF_RGB = (2125.0, 7154.0, 721.0)
"""Luma of Rec. ITU-R BT.709 with four decimals, as `skimage.color.rgb2gray` has it, times 10,000."""


class Classical(Extractor):
    """An extractor without trainable coordinates: [B, C, H, W] → [B, features].

    `features` follows from the picture's size and the options, and is what the spec's embedding_dim must be.
    """

    def __init__(self, spec: ExtractorSpec, features: int) -> None:
        super().__init__()
        self.features = features
        self.levels = Levels(spec)


class Levels(nn.Module):
    """Undoes `to_input`: normalised [B, C, H, W] → whole numbers 0…255, of the same shape and dtype.

    What is between two levels is rounded to the nearer one, what is outside becomes 0 or 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ExtractorSpec) -> None:
        super().__init__()
        fits = {len(spec.mean), len(spec.std)} <= {1, spec.channels}
        if not fits or not min(spec.std) > 0:
            raise InvalidConfig(
                f"Architecture {spec.architecture!r} expects 1 or {spec.channels} numbers as mean and as std, and "
                f"every std above 0; found {list(spec.mean)} and {list(spec.std)}. Nothing was built. Correct the "
                "extractor."
            )
        self.register_buffer("mean", column(spec.mean))
        self.register_buffer("std", column(spec.std))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        return torch.round((x * self.std + self.mean) * BRIGHTEST_LEVEL).clamp(0, BRIGHTEST_LEVEL)


class Brightness(nn.Module):
    """Levels [B, 1 or 3, H, W] → brightness [B, 1, H, W]: whole numbers, 10,000 of them a level."""

    weights: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        of_grey = (float(BRIGHTNESS_PER_LEVEL),)
        self.register_buffer("weights", column(_BRIGHTNESS_OF_RGB if channels == 3 else of_grey))

    def forward(self, levels: Tensor) -> Tensor:
        """[B, C, H, W] → [B, 1, H, W]."""
        return (levels * self.weights).sum(dim=1, keepdim=True)


class Cells(nn.Module):
    """The mean of each map in each cell of a grid: [B, n, H, W] → [B, n, grid, grid].

    Row cell i is the rows from ⌊i·H / grid⌋ to before ⌊(i+1)·H / grid⌋, and columns likewise: every pixel is in one
    cell, and sizes differ by one pixel where `grid` does not divide the side.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, spec: ExtractorSpec, grid: int) -> None:
        super().__init__()
        if grid > min(spec.height, spec.width):
            raise InvalidConfig(
                f"Architecture {spec.architecture!r} expects pictures of at least as many pixels a side as its grid "
                f"has cells, {grid}; found {spec.height}x{spec.width}. Nothing was built. Lower grid, or enlarge "
                "the pictures."
            )
        self.register_buffer("rows", torch.from_numpy(cell_weights(spec.height, grid)))
        self.register_buffer("columns", torch.from_numpy(cell_weights(spec.width, grid)))

    def forward(self, maps: Tensor) -> Tensor:
        """[B, n, H, W] → [B, n, grid, grid]."""
        return self.rows @ maps @ self.columns.T


def cell_weights(side: int, grid: int) -> npt.NDArray[np.float32]:
    """float32 [grid, side]: row i is 1 / size on the pixels of cell i, and 0 elsewhere."""
    cell_of_pixel = np.searchsorted(np.arange(1, grid + 1) * side // grid, np.arange(side), side="right")
    belongs = cell_of_pixel[None] == np.arange(grid)[:, None]
    weights: npt.NDArray[np.float32] = (belongs / belongs.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def column(numbers: tuple[float, ...]) -> Tensor:
    """float32 [n, 1, 1]: one number a channel."""
    # From numpy, so that they have values wherever parameters have shapes only.
    return torch.from_numpy(np.asarray(numbers, dtype=np.float32).reshape(-1, 1, 1))


def check_whole(spec: ExtractorSpec, name: str, value: int, least: int, most: int) -> None:
    """Raise InvalidConfig unless option `name` is from `least` to `most`."""
    if not least <= value <= most:
        raise InvalidConfig(
            f"Architecture {spec.architecture!r}, option {name!r}: expected a whole number from {least} to {most}, "
            f"found {value}. Nothing was built. Correct the extractor."
        )


def check_classical(module: Classical, spec: ExtractorSpec) -> None:
    """Raise InvalidConfig unless the spec's embedding is what the formula gives."""
    if module.features > LARGEST_OPTION:
        raise InvalidConfig(
            f"Architecture {spec.architecture!r} expects options that give at most {LARGEST_OPTION} numbers a "
            f"picture; these give {module.features}. Nothing was built. Make its cells larger, or its pictures "
            "smaller."
        )
    if module.features != spec.embedding_dim:
        raise InvalidConfig(
            f"Architecture {spec.architecture!r} gives {module.features} numbers for a picture of {spec.height}x"
            f"{spec.width} with these options; found an embedding_dim of {spec.embedding_dim}. Nothing was built. "
            f"Set embedding_dim to {module.features}."
        )

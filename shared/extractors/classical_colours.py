"""`colours`: which colours a picture is made of, wherever they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shared.domain.extractor import ExtractorSpec
from shared.extractors.classical import BRIGHTEST_LEVEL, Classical, check_whole
from shared.extractors.options import Options

MOST_COLOURS = 216
LEAST_SOFTNESS, MOST_SOFTNESS = 5, 50
_XYZ_OF_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
"""D65, 2° observer; IEC 61966-2-1 with the digits that scikit-image has."""


class Colours(Classical):
    """A soft histogram over a fixed palette in CIE Lab, where equal distances look about equally different.

    The palette is the `levels`³ colours whose R, G and B are equally spaced from 0 to 255, or the `levels` greys that
    are, for grey pictures. A pixel's share in palette colour k is proportional to exp(-ΔE² / (2 · softness²)) with ΔE
    the distance in Lab (CIE 1976, as `skimage.color.rgb2lab` gives it), and its shares sum to 1; so no colour jumps
    from one bin to the next. The mean of the shares over the picture sums to 1 too, and square roots are taken: their
    Euclidean distance is that of Hellinger, in which a small spot of a rare colour still counts beside a large
    background (Arandjelović and Zisserman 2012, section 3).

    [B, C, H, W] → [B, features], red slowest and blue fastest. Equal to the same formula on scikit-image's Lab within
    1e-4. Memory: a float32 for each pixel of the batch and colour.
    """

    palette: Tensor
    xyz_of_rgb: Tensor

    def __init__(self, spec: ExtractorSpec, levels: int, softness: int) -> None:
        super().__init__(spec, levels**spec.channels)
        self.softness = softness
        exact = np.asarray(_XYZ_OF_RGB) / np.asarray(_WHITE)[:, None]
        steps = np.linspace(0.0, 1.0, levels)
        mixed = np.stack(np.meshgrid(*[steps] * spec.channels, indexing="ij"), axis=-1)
        rgb = torch.from_numpy(mixed.reshape(-1, spec.channels)).expand(-1, 3)
        lab = to_lab(rgb, torch.from_numpy(exact))
        self.register_buffer("palette", torch.from_numpy(lab.numpy().astype(np.float32)))
        self.register_buffer("xyz_of_rgb", torch.from_numpy(exact.astype(np.float32)))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, features]."""
        rgb = (self.levels(x) / BRIGHTEST_LEVEL).expand(-1, 3, -1, -1).flatten(2).transpose(1, 2)
        lab = to_lab(rgb, self.xyz_of_rgb)
        # ΔE² less the pixel's own length, which is the same for every colour of the palette and falls out.
        nearness = lab @ self.palette.T - self.palette.square().sum(dim=1) / 2.0
        shares = torch.softmax(nearness / self.softness**2, dim=2)
        return torch.sqrt(shares.mean(dim=1))


def to_lab(rgb: Tensor, xyz_of_rgb: Tensor) -> Tensor:
    """sRGB 0…1 [..., 3] → CIE Lab [..., 3]; `xyz_of_rgb` [3, 3] gives X, Y and Z as parts of white's."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ xyz_of_rgb.T
    bent = torch.where(xyz > 0.008856, xyz ** (1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
    return torch.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], dim=-1)


def colours(spec: ExtractorSpec) -> Colours:
    """Options: levels 4 (of each channel), softness 10 (in ΔE)."""
    options = Options(spec)
    levels, softness = options.take("levels", 4), options.take("softness", 10)
    options.done()
    # 6 of each of three channels.
    check_whole(spec, "levels", levels, 2, round(MOST_COLOURS ** (1.0 / spec.channels)))
    check_whole(spec, "softness", softness, LEAST_SOFTNESS, MOST_SOFTNESS)
    return Colours(spec, levels, softness)

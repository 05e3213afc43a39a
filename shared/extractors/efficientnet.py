"""`efficientnet-lite0`: the backbone for which public ImageNet weights exist in a package (public_weights.py).

Tan and Le 2019, "EfficientNet", with the changes of its authors' "lite" variant: no squeeze-and-excitation, ReLU6
instead of swish. Its BatchNorm runs frozen, so no record meets another.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from shared.domain.extractor import ExtractorSpec
from shared.extractors.layers import DepthwiseConv2d, Extractor, FrozenNorm
from shared.extractors.options import Options

FEATURES = 1280
NORM_EPSILON = 1e-3
_STEM = 32
# Of each stage: blocks, kernel, stride of the first block, expansion, width.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class ConvNorm(nn.Module):
    """Convolution → frozen norm → ReLU6, or without the last. Padding as TensorFlow's "same", which at stride 2
    adds the odd row and column behind: the public weights were trained with it.
    """

    def __init__(
        self,
        narrow: int,
        wide: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.relu = kernel, stride, relu
        padding = (kernel - 1) // 2 if stride == 1 else 0
        self.conv: nn.Conv2d
        if depthwise:
            self.conv = DepthwiseConv2d(narrow, kernel, stride, padding)
        else:
            self.conv = nn.Conv2d(narrow, wide, kernel, stride, padding, bias=False)
        self.norm = FrozenNorm(wide, NORM_EPSILON)
        # Part of the frozen norm; the scope film trains it.
        self.norm.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, narrow, H, W] → [B, wide, ceil(H / stride), ceil(W / stride)]."""
        if self.stride > 1:
            rows, columns = (self._missing(side) for side in x.shape[2:])
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        out: Tensor = self.norm(self.conv(x))
        return F.relu6(out) if self.relu else out

    def _missing(self, side: int) -> int:
        places = -(-side // self.stride)
        return max((places - 1) * self.stride + self.kernel - side, 0)


class MobileBlock(nn.Module):
    """Expand → depthwise → project; added to the input where shapes allow (Sandler et al. 2018)."""

    def __init__(self, narrow: int, wide: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = narrow * expansion
        self.expand = ConvNorm(narrow, inner) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(inner, inner, kernel, stride, depthwise=True)
        self.project = ConvNorm(inner, wide, relu=False)
        self.adds = stride == 1 and narrow == wide

    def forward(self, x: Tensor) -> Tensor:
        """[B, narrow, H, W] → [B, wide, ceil(H / stride), ceil(W / stride)]."""
        change: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + change if self.adds else change


class EfficientNetLite0(Extractor):
    """[B, C, H, W] → [B, embedding_dim]; one channel counts as three equal ones."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.stem = ConvNorm(3, _STEM, 3, 2)
        blocks: list[nn.Module] = []
        narrow = _STEM
        for count, kernel, stride, expansion, wide in _STAGES:
            blocks.append(MobileBlock(narrow, wide, kernel, stride, expansion))
            blocks += [MobileBlock(wide, wide, kernel, 1, expansion) for _ in range(count - 1)]
            narrow = wide
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(narrow, FEATURES)
        self.out = nn.Identity() if embedding_dim == FEATURES else nn.Linear(FEATURES, embedding_dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, embedding_dim]."""
        features = self.head(self.blocks(self.stem(x.expand(-1, 3, -1, -1))))
        out: Tensor = self.out(features.mean(dim=(2, 3)))
        return out

    def last_block(self) -> list[nn.Module]:
        """The last mobile block and what follows it."""
        return [self.blocks[-1], self.head, self.out]


def efficientnet_lite0(spec: ExtractorSpec) -> Extractor:
    """3.4 M parameters, made for 224x224. Options: none; an embedding_dim of 1280 is the features themselves."""
    Options(spec).done()
    return EfficientNetLite0(spec.embedding_dim)

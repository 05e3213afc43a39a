"""Convolutional extractors with GroupNorm: `small-gn`, `wrn-16-4-gn`, `resnet18-gn`.

All know the option weight_standardisation, false by default (layers.StandardisedConv2d).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from shared.domain.extractor import ExtractorSpec
from shared.extractors.layers import Chain, Extractor, Pooled, convolution, norm_layer
from shared.extractors.options import Options


def small_gn(spec: ExtractorSpec) -> Extractor:
    """Three convolutions, about 70 thousand parameters. Options: width 32, norm group or batch (refused)."""
    options = Options(spec)
    width, norm = options.take("width", 32), options.take_one_of("norm", ("group", "batch"))
    conv = convolution(options)
    options.done()

    def block(narrow: int, wide: int) -> list[nn.Module]:
        # Norms without parameters: affine ones would cost 13 % of the step for very little.
        return [conv(narrow, wide, 3, padding=1), norm_layer(norm, wide, affine=False), nn.ReLU()]

    return Chain(
        *block(spec.channels, width),
        nn.AvgPool2d(2, ceil_mode=True),
        *block(width, 2 * width),
        nn.AvgPool2d(2, ceil_mode=True),
        *block(2 * width, 2 * width),
        Pooled(2),
        nn.Flatten(),
        nn.Linear(8 * width, spec.embedding_dim),
        block=conv,
    )


class PreActivationBlock(nn.Module):
    """norm → ReLU → conv → norm → ReLU → conv, added to the input (Zagoruyko and Komodakis 2016)."""

    def __init__(self, narrow: int, wide: int, stride: int, conv: type[nn.Conv2d]) -> None:
        super().__init__()
        self.norm1 = norm_layer("group", narrow, affine=True)
        self.conv1 = conv(narrow, wide, 3, stride, 1, bias=False)
        self.norm2 = norm_layer("group", wide, affine=True)
        self.conv2 = conv(wide, wide, 3, 1, 1, bias=False)
        same = narrow == wide and stride == 1
        self.shortcut = nn.Identity() if same else conv(narrow, wide, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, narrow, H, W] → [B, wide, H/stride, W/stride]."""
        active = F.relu(self.norm1(x))
        out: Tensor = self.shortcut(active if not isinstance(self.shortcut, nn.Identity) else x)
        change: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return out + change


class PostActivationBlock(nn.Module):
    """conv → norm → ReLU → conv → norm, added to the input, then ReLU (He et al. 2016)."""

    def __init__(self, narrow: int, wide: int, stride: int, norm: str, conv: type[nn.Conv2d]) -> None:
        super().__init__()
        self.conv1 = conv(narrow, wide, 3, stride, 1, bias=False)
        self.norm1 = norm_layer(norm, wide, affine=True)
        self.conv2 = conv(wide, wide, 3, 1, 1, bias=False)
        self.norm2 = norm_layer(norm, wide, affine=True)
        self.shortcut: nn.Module = nn.Identity()
        if narrow != wide or stride != 1:
            self.shortcut = nn.Sequential(
                conv(narrow, wide, 1, stride, bias=False), norm_layer(norm, wide, affine=True)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, narrow, H, W] → [B, wide, H/stride, W/stride]."""
        out = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


def wrn_16_4_gn(spec: ExtractorSpec) -> Extractor:
    """Wide ResNet 16-4 as De et al. 2022 train it privately, 2.7 M parameters. Options: widen 4."""
    options = Options(spec)
    widen, conv = options.take("widen", 4), convolution(options)
    options.done()
    widths = [16, 16 * widen, 32 * widen, 64 * widen]
    blocks: list[nn.Module] = []
    for group, (narrow, wide) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        blocks += [
            PreActivationBlock(narrow, wide, 1 if group == 0 else 2, conv),
            PreActivationBlock(wide, wide, 1, conv),
        ]
    last = widths[-1]
    return Chain(
        conv(spec.channels, 16, 3, padding=1, bias=False),
        *blocks,
        norm_layer("group", last, affine=True),
        nn.ReLU(),
        *_to_embedding(last, spec.embedding_dim),
        block=PreActivationBlock,
    )


def resnet18_gn(spec: ExtractorSpec) -> Extractor:
    """ResNet-18, 11 M parameters. Options: width 64, norm group or batch (refused), stem small (3x3, for
    pictures up to 64 pixels) or large (7x7 and pooling).
    """
    options = Options(spec)
    width, norm = options.take("width", 64), options.take_one_of("norm", ("group", "batch"))
    stem, conv = options.take_one_of("stem", ("small", "large")), convolution(options)
    options.done()
    layers: list[nn.Module] = []
    if stem == "small":
        layers += [conv(spec.channels, width, 3, 1, 1, bias=False)]
    else:
        layers += [conv(spec.channels, width, 7, 2, 3, bias=False)]
    layers += [norm_layer(norm, width, affine=True), nn.ReLU()]
    if stem == "large":
        layers += [nn.MaxPool2d(3, 2, 1)]
    narrow = width
    for group in range(4):
        wide = width * 2**group
        layers += [
            PostActivationBlock(narrow, wide, 1 if group == 0 else 2, norm, conv),
            PostActivationBlock(wide, wide, 1, norm, conv),
        ]
        narrow = wide
    return Chain(*layers, *_to_embedding(narrow, spec.embedding_dim), block=PostActivationBlock)


def _to_embedding(width: int, embedding_dim: int) -> list[nn.Module]:
    """Average over places, and a Linear only where the width is not what the spec asks for."""
    pooled: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return pooled if width == embedding_dim else [*pooled, nn.Linear(width, embedding_dim)]

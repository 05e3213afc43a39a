"""What architectures are made of: norms, convolutions; and the refusal of layers that mix records."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shared.domain.errors import MixesRecords
from shared.extractors.options import Options


class Extractor(nn.Module):
    """What every architecture is: float32 [B, C, H, W] → [B, embedding_dim]."""

    def last_block(self) -> list[nn.Module]:
        """The layers that the scope last_block trains (scopes.py)."""
        raise NotImplementedError


class Chain(nn.Sequential, Extractor):
    """Layers one after the other; the last block begins at the last layer of the kind `block`."""

    def __init__(self, *layers: nn.Module, block: type[nn.Module]) -> None:
        super().__init__(*layers)
        self.block = block

    def last_block(self) -> list[nn.Module]:
        """The last layer of the kind `block`, and what follows it."""
        layers = list(self)
        return layers[max(place for place, layer in enumerate(layers) if isinstance(layer, self.block)) :]


def norm_layer(kind: str, channels: int, affine: bool) -> nn.Module:
    """`group`: 16 groups or fewer, as many as divide `channels` (Wu and He 2018); `batch`: to be refused."""
    if kind == "batch":
        return nn.BatchNorm2d(channels, affine=affine)
    return nn.GroupNorm(math.gcd(16, channels), channels, affine=affine)


def pooled(x: Tensor, side: int) -> Tensor:
    """[B, C, H, W] → [B, C, side, side]: adaptive average pooling, also where torch has none for the device."""
    if torch_pools(x.device.type, x.shape[2], x.shape[3], side):
        return F.adaptive_avg_pool2d(x, side)
    return pooled_by_products(x, side)


def torch_pools(device: str, height: int, width: int, side: int) -> bool:
    """Whether torch (2.13) pools such maps on such a device: on Apple's GPU only into windows of one size."""
    return device != "mps" or (height % side == 0 and width % side == 0)


def pooled_by_products(x: Tensor, side: int) -> Tensor:
    """The same as two matrix products, for any device: within rounding of `F.adaptive_avg_pool2d`."""
    rows, columns = (torch.from_numpy(_windows(length, side)).to(x) for length in x.shape[2:])
    return rows @ x @ columns.mT


def _windows(length: int, side: int) -> npt.NDArray[np.float32]:
    """float32 [side, length]: row k has 1 / n at the n places of window k, which windows share at their ends."""
    weights = np.zeros((side, length), np.float32)
    for k in range(side):
        first, behind = k * length // side, -(-(k + 1) * length // side)
        weights[k, first:behind] = 1.0 / (behind - first)
    return weights


class Pooled(nn.Module):
    """`pooled` as a layer."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C, side, side]."""
        return pooled(x, self.side)


class ChannelAffine(nn.Module):
    """y = weight · x + bias with one number each per channel, for x [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        return torch.addcmul(self.bias[:, None, None], x, self.weight[:, None, None])


class FrozenNorm(nn.Module):
    """What BatchNorm is once its statistics are public constants: a fixed scale and shift for each channel.

    The statistics are buffers that nothing updates, so no record meets another here (clause 2.5).
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        # From numpy, so that they have values wherever the parameters have shapes only.
        self.register_buffer("mean", torch.from_numpy(np.zeros(channels, np.float32)))
        self.register_buffer("variance", torch.from_numpy(np.ones(channels, np.float32)))
        self.affine = ChannelAffine(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        scale = torch.rsqrt(self.variance + self.epsilon)
        shift = -self.mean * scale
        out: Tensor = self.affine(torch.addcmul(shift[:, None, None], x, scale[:, None, None]))
        return out


class DepthwiseConv2d(nn.Conv2d):
    """One filter for each channel. A class of its own, because it has a rule of its own for gradients."""

    def __init__(self, channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__(channels, channels, kernel, stride, padding, groups=channels, bias=False)


class StandardisedConv2d(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 / fan-in, whatever its weight is.

    Qiao et al. 2019, "Micro-batch training with batch-channel normalization and weight standardization",
    section 3.1; as De et al. 2022 use it before GroupNorm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C', H', W']."""
        return F.conv2d(x, standardised(self.weight), self.bias, self.stride, self.padding)


def standardised(weight: Tensor) -> Tensor:
    """[C', C, k, k] → the same shape: (w - mean) / sqrt(fan_in · variance + 1e-6), each filter by itself."""
    centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
    return centred * torch.rsqrt(centred.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-6)


def convolution(options: Options) -> type[nn.Conv2d]:
    """The kind of convolution that the option weight_standardisation (false by default) asks for."""
    return StandardisedConv2d if options.take("weight_standardisation", False) else nn.Conv2d


def check_layers(module: nn.Module) -> None:
    """Raise MixesRecords, naming the layer, if one record's output could depend on another's (clause 2.5)."""
    for name, layer in module.named_modules():
        keeps_statistics = (
            isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats
        )
        if isinstance(layer, _BatchNorm) or keeps_statistics:
            raise MixesRecords(
                f"Layer {name or 'itself'} is {type(layer).__name__}: each record's output depends on the "
                "others in its batch, so one record's influence cannot be bounded. Use GroupNorm "
                '(architecture "resnet18-gn").'
            )

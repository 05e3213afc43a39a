"""Per-example gradients of our own layers: from what went in and what came back, one gradient for each record.

Each rule is exact; tests/oracles/test_clipped_sum.py compares it with one record at a time. opacus_engine.py hands them
to Opacus, for layers that it has no rule for (its general fallback is as exact, and slower), and for
convolutions: its rule for those (1.6.0) reads tensors whose memory lies in channels_last order wrongly. So may
pictures with one channel lie, and the gradients came out over half wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.extractors.layers import ChannelAffine, DepthwiseConv2d, StandardisedConv2d, standardised

PerExample = dict[nn.Parameter, Tensor]


def channel_affine(layer: ChannelAffine, activations: list[Tensor], backprops: Tensor) -> PerExample:
    """[B, C] each: y = w·x + b per channel, so ∂w = Σ_places δ·x and ∂b = Σ_places δ."""
    x = activations[0].to(backprops.dtype)
    return {layer.weight: (backprops * x).sum(dim=(2, 3)), layer.bias: backprops.sum(dim=(2, 3))}


def convolution(layer: nn.Conv2d, activations: list[Tensor], backprops: Tensor) -> PerExample:
    """[B, C', C/groups, k, k] and [B, C']: what came back times the input's windows, summed over places."""
    x = activations[0].to(backprops.dtype)
    windows = F.unfold(x, layer.kernel_size, padding=layer.padding, stride=layer.stride)  # type: ignore[arg-type]
    batch, _, places = windows.shape
    came_back = backprops.reshape(batch, layer.groups, -1, places)
    windows = windows.reshape(batch, layer.groups, -1, places)
    gradients: PerExample = {}
    if layer.weight.requires_grad:
        by_group = torch.einsum("bgop,bgip->bgoi", came_back, windows)
        gradients[layer.weight] = by_group.reshape(batch, *layer.weight.shape)
    if layer.bias is not None and layer.bias.requires_grad:
        gradients[layer.bias] = backprops.sum(dim=(2, 3))
    return gradients


def standardised_convolution(
    layer: StandardisedConv2d, activations: list[Tensor], backprops: Tensor
) -> PerExample:
    """As `convolution` for the standardised weight, then through standardisation.

    The latter's derivative is linear and the same for every record, so the chain rule holds record by record.
    """
    gradients = convolution(layer, activations, backprops)
    if layer.weight in gradients:
        _, pull_back = torch.func.vjp(standardised, layer.weight.detach())
        (gradients[layer.weight],) = torch.func.vmap(pull_back)(gradients[layer.weight])
    return gradients


RULES: Mapping[type[nn.Module], Callable[..., PerExample]] = {
    ChannelAffine: channel_affine,
    nn.Conv2d: convolution,
    DepthwiseConv2d: convolution,
    StandardisedConv2d: standardised_convolution,
}

"""Augmentations by name, as a plan lists them: each changes a record by itself, before its gradient is taken.

The coins come from the member's noise source; they hide nothing and cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.domain.errors import InvalidConfig


class UniformSource(Protocol):
    """Anything that draws uniforms; in use a shared.privacy.mechanism.NoiseSource."""

    def uniform(self, size: int) -> npt.NDArray[np.float64]:
        """float64 [size] in [0, 1)."""
        ...


def augment(x: Tensor, names: Sequence[str], coins: UniformSource) -> Tensor:
    """float32 [B, C, H, W] → the same shape, each named augmentation in turn. Raises InvalidConfig."""
    check_augmentations(names)
    if len(x) == 0:
        return x
    for name in names:
        x = AUGMENTATIONS[name](x, coins)
    return x


def check_augmentations(names: Sequence[str]) -> None:
    """Raise InvalidConfig, naming it, for an augmentation that this software does not know."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise InvalidConfig(
                f"Expected augmentations among {', '.join(AUGMENTATIONS)}; found {name!r}. Nothing was "
                "trained. Correct the plan, or update this software."
            )


def flip(x: Tensor, coins: UniformSource) -> Tensor:
    """Mirror each record left to right with probability ½."""
    heads = torch.from_numpy(coins.uniform(len(x)) < 0.5).to(x.device)
    return torch.where(heads[:, None, None, None], x.flip(3), x)


def shift2(x: Tensor, coins: UniformSource) -> Tensor:
    """Move each record by -2 … 2 pixels in both directions, uniformly; edges are repeated outwards."""
    reach = 2
    batch, _, height, width = x.shape
    # uniform < 1 but 5·uniform may round up to 5; the minimum keeps it inside.
    draws = np.minimum((coins.uniform(2 * batch) * (2 * reach + 1)).astype(np.int64), 2 * reach)
    offsets = torch.from_numpy(draws).to(x.device).reshape(2, batch)
    padded = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    rows = offsets[0][:, None] + torch.arange(height, device=x.device)
    columns = offsets[1][:, None] + torch.arange(width, device=x.device)
    record = torch.arange(batch, device=x.device)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[record, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()


AUGMENTATIONS: Mapping[str, Callable[[Tensor, UniformSource], Tensor]] = {"shift2": shift2, "flip": flip}

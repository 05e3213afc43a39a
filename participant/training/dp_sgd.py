"""Step 4 of the walk: batch → clipped sum, as an interface that engines of another speed can fill.

Abadi et al. 2016, "Deep learning with differential privacy", section 3, with the joint clip of clause 2.2.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.extractors.layers import check_layers

Sum = npt.NDArray[np.floating]


class PerExampleEngine(Protocol):
    """Whatever can clip every record's gradient by itself; engines differ in speed, never in result."""

    def clipped_sum(self, x: Tensor, y: Tensor, clip_norm_l2: float, copies: int = 1) -> tuple[Sum, Sum]:
        """Σ clip(g_u) over the batch: (extractor part [d], head part [h]), of the modules' dtype (float32).

        x: [B·copies, C, H, W], the copies of a record one after the other, y: int64 [B]; g_u is the gradient of
        the cross-entropy of record u, averaged over its copies, at the modules' present weights, by the
        coordinates of extractor and head *together*: one vector (clause 2.2). The average comes before the clip
        (De et al. 2022, section 3), so a record moves the sum by as much as without copies.

        | case | result |
        |---|---|
        | ‖g_u‖₂ ≤ C | g_u |
        | ‖g_u‖₂ > C | g_u · C / ‖g_u‖₂ |
        | g_u has NaN or infinite coordinates, in any copy | nothing: that record adds zero |
        | B = 0 | zeros |

        A sum, never a mean; one added record moves it by at most C, in floats by C(1 + 1e-5) up to some 500 records
        (docs/sharp-edges.md). Part order is that of
        `vectors.get_flat`. Nothing about single records is kept.
        """
        ...


def make_engine(
    extractor: nn.Module, head: nn.Linear, micro_batch: int, device: torch.device
) -> PerExampleEngine:
    """An engine that works on these very modules, moved to `device`. Raises MixesRecords."""
    # Only training needs opacus, whose import takes longer than all else of a node's start.
    from participant.training.opacus_engine import HooksEngine

    check_layers(extractor)
    return HooksEngine(extractor, head, micro_batch, device)

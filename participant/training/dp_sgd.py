"""Step 4 of the walk: batch → clipped sum, as an interface that engines of another speed can fill.

Abadi et al. 2016, "Deep learning with differential privacy", section 3, with the joint clip of clause 2.2.

*What rounding adds to the clip norm.* Per-example gradients are float32; from there on everything is float64, whose
unit of rounding is u = 2⁻⁵³. One record more or less moves the sum of n records by at most C(1 + 1e-5), the slack that
the accountant adds, for d ≤ 10⁸ coordinates and n ≤ 200,000 records drawn in one step:

 - *Norm.* The square of a float32 is exact in float64 and overflows never. Adding d of them, in any order, is wrong by
   d·u of the sum at most, so the norm by d·u/2: 6e-9.
 - *Clip.* The factor C/‖g‖ and its product with a coordinate are rounded to u each: what a record adds is no longer
   than C(1 + 7e-9).
 - *Sum.* Adding n such vectors, in any order and in any portions, is wrong by n·u·Σ‖g_u‖ ≤ n²·u·C at most. Two sums,
   with a record and without: 2n²·u·C, which is 9e-6·C for n = 200,000 and 4e-9·C for n = 4,000.
 - *After it* the sum stays float64 until the noise is in it: on the grid in mode secure (its division by γ is counted
   in secagg/fixed_point.py), in `NoiseSource.noised` in mode local.

That takes a record's float32 gradient as given: what the device finds for one must not depend on the others. Weights
can be made by which rounding decides, and then it is no matter of last bits: in portions of the size of the draw, one
record among four moved the sum by 4.3·C, and in portions that lay in memory as they came, by 511·C. So all portions of
a step have one shape and one order in memory, and hold one record or a multiple of four (portions.py), and MKL is told
to round alike in every place (participant/__init__.py). Measured on x86, a record's gradient then is the same to the
last bit wherever it stands and beside whomever, and so is its norm, which is taken in chunks of one shape
(tests/oracles/test_float_margin.py, test_rounding_by_place.py). No library promises that, so a node looks before it
trains (places.py). How many records and coordinates there may be is a rule of every plan (privacy/soundness.py).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from shared.extractors.layers import check_layers

Sum = npt.NDArray[np.floating]
NO_RECORD = -100
"""The label of a place in which nobody is; torch's own number for a target that has no loss."""


class PerExampleEngine(Protocol):
    """Whatever can clip every record's gradient by itself; engines differ in speed, never in result."""

    portion: int
    """Pictures that are computed at once: a batch of a multiple of it is computed in one shape throughout."""

    def clipped_sum(self, x: Tensor, y: Tensor, clip_norm_l2: float, copies: int = 1) -> tuple[Sum, Sum]:
        """Σ clip(g_u) over the batch: (extractor part [d], head part [h]), float64.

        x: [B·copies, C, H, W], the copies of a record one after the other, y: int64 [B]; g_u is the gradient of
        the cross-entropy of record u, averaged over its copies, at the modules' present weights, by the
        coordinates of extractor and head *together*: one vector (clause 2.2). The average comes before the clip
        (De et al. 2022, section 3), so a record moves the sum by as much as without copies.

        | case | result |
        |---|---|
        | ‖g_u‖₂ ≤ C | g_u |
        | ‖g_u‖₂ > C | g_u · C / ‖g_u‖₂ |
        | g_u has NaN or infinite coordinates, in any copy | nothing: that record adds zero |
        | the label is NO_RECORD | nothing |
        | B = 0 | zeros |

        A sum, never a mean; one added record moves it by at most C, in floats by C(1 + 1e-5): see the top of this
        file. Part order is that of `vectors.get_flat`. Nothing about single records is kept.
        """
        ...


def make_engine(
    extractor: nn.Module, head: nn.Linear, micro_batch: int, device: torch.device
) -> PerExampleEngine:
    """An engine that works on these very modules, moved to `device`, at most `micro_batch` pictures at once.

    Raises MixesRecords.
    """
    # Only training needs opacus, whose import takes longer than all else of a node's start.
    from participant.training.opacus_engine import HooksEngine

    check_layers(extractor)
    return HooksEngine(extractor, head, micro_batch, device)

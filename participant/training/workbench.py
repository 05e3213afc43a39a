"""What stays at home while a round is trained: one object, so that the private things are seen at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from participant.training.head import HeadState
from participant.training.runtime import RuntimeOptions
from shared.privacy.mechanism import NoiseSource

Indices = npt.NDArray[np.int64]


class Records(Protocol):
    """What training needs of a data set; in use a participant.records.reader.RecordReader."""

    classes: tuple[str, ...]
    held_out_indices: Indices
    """One record of each held-out unit (clause 6.2)."""

    def poisson_draw(self, noise: NoiseSource, rate: float) -> Indices:
        """Each training unit independently with probability `rate`; int64 [drawn], may be empty."""
        ...

    def load(self, indices: Indices) -> tuple[npt.NDArray[np.uint8], Indices]:
        """(uint8 [B, H, W, C], int64 labels [B])."""
        ...


@dataclass(frozen=True)
class NoiseShare:
    """Mode secure: what one member's share of the round's noise is made from (clauses 3.2, 3.9)."""

    cohort_size: int
    """n': members whose masks cancel in this round's sum."""
    covered: tuple[int, ...]
    """Drop-outs that the noise tolerates once step 1, 2, … stays in the sum."""
    step_seeds: tuple[bytes, ...] = field(repr=False)
    """32 bytes a step, shared out among the cohort so that the excess can be removed."""


@dataclass
class Workbench:
    """A member's side of one round. `extractor` holds the plan's starting weights, so also its filters."""

    member_id: str
    extractor: nn.Module
    records: Records
    head: HeadState
    noise: NoiseSource = field(default_factory=NoiseSource)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)

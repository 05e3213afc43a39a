"""What an extractor is, without its weights: the spec that names it and the layout of its tensors."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.domain.strict import later

Option = int | float | str | bool


class RecordKind(enum.Enum):
    """What a record is. Both kinds are stored as uint8 [height, width, channels] and go the same way from there."""

    IMAGE = "image"
    TEXT = "text"


@dataclass(frozen=True)
class ExtractorSpec:
    """One architecture with all its options: image [channels, height, width] → [embedding_dim].

    Pixels are 0…1 float32, then (x - mean) / std per channel; both are public numbers of the plan. A text is its
    UTF-8 bytes, at most `width` of them: height and channels are 1, bytes stay 0…255, mean and std mean nothing.
    """

    architecture: str
    channels: int
    height: int
    width: int
    embedding_dim: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    options: Mapping[str, Option] = field(default_factory=dict)
    kind: RecordKind = later(RecordKind.IMAGE)
    """What records the extractor reads; the architecture must be one of that kind."""


@dataclass(frozen=True)
class TensorSlot:
    """One tensor of the weights file: name, shape, and whether training moves it."""

    name: str
    shape: tuple[int, ...]
    trainable: bool

    @property
    def coordinates(self) -> int:
        """Number of float32 values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class WeightLayout:
    """All tensors of an extractor, sorted by name; the flat vector holds the trainable ones in order."""

    slots: tuple[TensorSlot, ...]

    @property
    def trainable_coordinates(self) -> int:
        """Length d of the flat vector that is trained, sent and averaged."""
        return sum(slot.coordinates for slot in self.slots if slot.trainable)

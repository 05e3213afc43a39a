"""measured.json: what was measured of a release when it was made, with what and on what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.domain.errors import InvalidConfig
from shared.domain.files import read_json
from shared.domain.release import MEASURED_FILE
from shared.domain.strict import build

MEASURED_FORMAT = "commonlens-measured/1"
LARGEST_DIFFERENCE = 1e-4
"""Between torch and ONNX in any number of an embedding; above it nothing is exported."""
LOSS_BAR_POINTS = 0.5
"""Of top-1 between fp32 and int8; what is above it for certain is not published."""


@dataclass(frozen=True)
class PublicSet:
    """The public records that everything here was measured on (public_records.py)."""

    set_name: str
    digest: str
    """Of the records as the extractor got them, and of their labels."""
    learned: int
    held_out: int
    labels: int


@dataclass(frozen=True)
class Parity:
    """The largest |torch - ONNX fp32| in any number of an embedding."""

    largest_difference: float
    bound: float
    records: int


@dataclass(frozen=True)
class Int8Loss:
    """What int8 costs: one linear probe, fitted on fp32 embeddings, asked about fp32 and about int8 ones."""

    cosine_mean: float
    """Cosine between a record's fp32 and int8 embedding."""
    cosine_least: float
    top1_fp32: float
    """Share of held-out records whose label the probe says, 0…1."""
    top1_int8: float
    loss_points: float
    """100 · (top1_fp32 - top1_int8)."""
    loss_low: float
    """Lower end of the 95 % interval of loss_points, paired by record."""
    loss_high: float
    bar_points: float

    @property
    def over_the_bar(self) -> bool:
        """Whether the whole interval is."""
        return self.loss_low > self.bar_points

    @property
    def undecided(self) -> bool:
        """Whether the bar is inside the interval: too few records to tell."""
        return self.loss_low <= self.bar_points < self.loss_high


@dataclass(frozen=True)
class Int8:
    """How model-int8.onnx was made, and what it costs."""

    method: str
    loss: Int8Loss


@dataclass(frozen=True)
class Speed:
    """Records a second of one program at one batch size."""

    program: str
    """"torch eager", "onnx fp32" or "onnx int8"."""
    batch: int
    records_per_s: float


@dataclass(frozen=True)
class Energy:
    """Of embedding with ONNX fp32 at the largest batch of `speed`; nothing else is in it."""

    records: int
    joules: float
    method: str
    """How the joules were read or estimated."""
    co2_g: float
    grams_per_kwh: float
    co2_method: str

    @property
    def joules_a_thousand(self) -> float:
        """Joules for a thousand records."""
        return 1000.0 * self.joules / self.records

    @property
    def co2_g_a_thousand(self) -> float:
        """Grams of CO2 for a thousand records."""
        return 1000.0 * self.co2_g / self.records


@dataclass(frozen=True)
class Measured:
    """measured.json."""

    weights_digest: str
    """SHA-256 of the model.safetensors that all of this is about."""
    opset: int
    versions: Mapping[str, str]
    """Program → version."""
    public: PublicSet
    parity: Parity
    int8: Int8 | None
    int8_missing: str
    """Why there is no model-int8.onnx; empty where there is one."""
    sizes_bytes: Mapping[str, int]
    """File → its size."""
    processor: str
    """Of the machine that measured speed and energy."""
    threads: int
    speed: tuple[Speed, ...]
    energy: Energy
    format: str = MEASURED_FORMAT


def read_measured(folder: Path) -> Measured:
    """measured.json of the release in `folder`. Raises NotFound, Invalid, InvalidConfig."""
    measured = build(Measured, read_json(folder / MEASURED_FILE), MEASURED_FILE)
    if measured.format != MEASURED_FORMAT:
        raise InvalidConfig(
            f"{MEASURED_FILE}: expected format {MEASURED_FORMAT}, found {measured.format!r}. It was not read. "
            "Update this software."
        )
    return measured

"""Records whose influence on the sum is known exactly, and an extractor that gives it to them.

A *canary* is a record with a code in its pixels. `AuditedExtractor` is the plan's own extractor with one more
linear layer beside it, which answers to that code: the canary's gradient then points along one coordinate that
no other record touches (a Dirac canary: Nasr et al. 2023, "Tight auditing of differentially private machine
learning", section 4), and is far longer than any clip norm, as the worst record's may be. Everything
downstream, per-example gradients, joint clip, sum, noise, is whatever the member runs.

| what | real or injected |
|---|---|
| pictures, their codes and labels | injected: synthetic, nobody's records |
| the layer of canary coordinates, and gains on embeddings | injected: weights that a member may meet |
| the plan's extractor with all its layers, and their gradients | real; its output stays out of the loss |
| data set, held-out split, pixel cache, draw | real: participant/records |
| ledger, clip, sum, grid, noise, update, training head | real: participant/training, shared/privacy |

The code survives the plan's augmentations: it is one grey level above and one below, read in two corners.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from participant.records.add import add_data_set
from participant.records.dataset import DataSet
from participant.records.reader import RecordReader
from participant.redteam.pictures import Pixels, synthetic_pictures
from participant.training.head import HeadState
from participant.training.workbench import Indices
from shared.domain.extractor import ExtractorSpec
from shared.domain.privacy import Unit
from shared.privacy.mechanism import NoiseSource

CLASSES = ("dark", "light")
_CANARY_LEVELS = 200
"""Grey levels of the upper half that mean a canary: its number is 256·upper + lower."""
_LOUD, _DARK, _LIGHT = 240, 250, 255
_CANARY_GAIN = 1e6
"""A canary's gradient before the clip: far above any clip norm, and little in float32's range."""
_LOUDNESS, _PICTURE_GAIN = 50.0, 1e3
RECORDS_OF_A_PERSON = 2


@dataclass(frozen=True)
class AuditSet:
    """A synthetic data set, opened as a member opens its own, with the code of each record in index order."""

    reader: RecordReader
    codes: npt.NDArray[np.int64]
    """Number of the canary, or -1 for an ordinary picture, -2 for a loud one."""

    @property
    def canaries(self) -> npt.NDArray[np.int64]:
        """Numbers of the canaries on the training side, ascending."""
        found = np.unique(self.codes[self.reader.training_indices])
        return found[found >= 0]


class Chosen:
    """The records of a real reader, all but some removed: a unit's draw does not depend on the others' (1.2)."""

    def __init__(self, reader: RecordReader, keep: npt.NDArray[np.bool_]) -> None:
        self._reader = reader
        self._keep = keep
        self.classes = reader.classes
        self.held_out_indices = reader.held_out_indices

    @property
    def training_indices(self) -> Indices:
        """Of what is kept."""
        indices = self._reader.training_indices
        return indices[self._keep[indices]]

    def poisson_draw(self, noise: NoiseSource, rate: float) -> Indices:
        """The real draw."""
        drawn = self._reader.poisson_draw(noise, rate)
        return drawn[self._keep[drawn]]

    def load(self, indices: Indices) -> tuple[Pixels, Indices]:
        """The real pixels and labels."""
        return self._reader.load(indices)


class AuditedExtractor(nn.Module):
    """[B, C, H, W] → [B, embedding_dim]: what an embedding is follows from the code alone, its gradient not.

    Gradients reach the plan's extractor through a term whose value is 0, so that nothing the audit expects
    of an honest member depends on what the plan's weights happen to compute.
    """

    def __init__(self, inner: nn.Module, spec: ExtractorSpec, coordinates: int) -> None:
        super().__init__()
        self.inner = inner
        self.canaries = nn.Linear(coordinates, 1, bias=False)
        nn.init.zeros_(self.canaries.weight)
        self._coordinates = coordinates
        self._scale, self._shift = 255.0 * spec.std[0], 255.0 * spec.mean[0]

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, embedding_dim]."""
        upper, lower = self._level(x[:, 0, 0, 0]), self._level(x[:, 0, -1, 0])
        canary = upper < _CANARY_LEVELS
        numbers = torch.where(canary, 256 * upper + lower, 0).clamp(0, self._coordinates - 1)
        signal = self.canaries(F.one_hot(numbers, self._coordinates).to(x.dtype) * canary[:, None])
        embedded = self.inner(x)
        # Ordinary pictures lie on either side of the origin; the loud one far out on the wrong side.
        place = torch.where(canary, 0.0, torch.where(upper == _DARK, -1.0, 1.0))
        place = torch.where(upper == _LOUD, _LOUDNESS, place)
        gain = torch.where(canary, 0.0, _PICTURE_GAIN)[:, None]
        along = torch.full_like(embedded, embedded.shape[1] ** -0.5)
        moved = place[:, None] + _CANARY_GAIN * (signal - signal.detach())
        result: Tensor = moved * along + gain * (embedded - embedded.detach())
        return result

    def _level(self, pixel: Tensor) -> Tensor:
        return torch.round(pixel * self._scale + self._shift).long().clamp(0, 255)


def given_head(embedding_dim: int) -> HeadState:
    """A training head as earlier rounds might have left it: with one at zero no gradient would pass it."""
    along = np.full(embedding_dim, embedding_dim**-0.5, dtype=np.float32)
    return HeadState(np.stack([-along, along]), np.zeros(len(CLASSES), np.float32))


def make_audit_set(
    home: Path, spec: ExtractorSpec, unit: Unit, canaries: Sequence[int], pictures: int = 0, loud: int = 0
) -> AuditSet:
    """Write a Parquet of synthetic records and add it as a member does; `unit` person gives each canary two."""
    rows: list[tuple[Pixels, str, str]] = []
    for number in canaries:
        for which in range(RECORDS_OF_A_PERSON if unit is Unit.PERSON else 1):
            picture = _coded(spec, number // 256, number % 256)
            picture[spec.height // 2, spec.width // 2] ^= which
            rows.append((picture, CLASSES[0], f"canary {number}"))
    scenes = synthetic_pictures(pictures + loud, spec, number=1)
    upper = max(1, min(3, spec.height // 3))
    for place, scene in enumerate(scenes):
        light = place % 2
        scene[:upper] = _LOUD if place >= pictures else (_LIGHT if light else _DARK)
        label = CLASSES[light] if place < pictures else CLASSES[0]
        rows.append((scene, label, f"picture {place}"))
    source = home / "synthetic.parquet"
    home.mkdir(parents=True, exist_ok=True)
    table = {"image": [_png(picture) for picture, _, _ in rows], "label": [label for _, label, _ in rows]}
    if unit is Unit.PERSON:
        table["person"] = [person for _, _, person in rows]
    pq.write_table(pa.table(table), source)
    column = "person" if unit is Unit.PERSON else None
    data_set = add_data_set(home, "synthetic", source, None, column, classes=CLASSES)
    return _opened(data_set, spec)


def _opened(data_set: DataSet, spec: ExtractorSpec) -> AuditSet:
    reader = data_set.reader(spec)
    pixels, _ = reader.load(np.arange(reader.records))
    upper, lower = pixels[:, 0, 0, 0].astype(np.int64), pixels[:, -1, 0, 0].astype(np.int64)
    codes = np.where(upper < _CANARY_LEVELS, 256 * upper + lower, np.where(upper == _LOUD, -2, -1))
    return AuditSet(reader, codes)


def _coded(spec: ExtractorSpec, upper: int, lower: int) -> Pixels:
    picture = np.empty((spec.height, spec.width, spec.channels), dtype=np.uint8)
    picture[: spec.height // 2], picture[spec.height // 2 :] = upper, lower
    return picture


def _png(picture: Pixels) -> bytes:
    data = io.BytesIO()
    pixels = picture[:, :, 0] if picture.shape[2] == 1 else picture
    Image.fromarray(pixels).save(data, format="PNG", compress_level=1)
    return data.getvalue()

"""Step 3 of the walk: record → batch. A Poisson draw of units, and the pixels and labels of what was drawn.

Indices count records in index order. Everything here is private: draws, sizes and labels leave in no form.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from participant.records.cache import open_pixels
from participant.records.dataset import DataSet
from participant.records.index import read_index
from participant.records.scan import Progress, quiet
from shared.domain.errors import Invalid
from shared.domain.extractor import ExtractorSpec
from shared.domain.privacy import Unit

Indices = npt.NDArray[np.int64]


class UniformSource(Protocol):
    """Anything that draws uniforms; in use a shared.privacy.mechanism.NoiseSource."""

    def uniform(self, size: int) -> npt.NDArray[np.float64]:
        """float64 [size] in [0, 1)."""
        ...


class RecordReader:
    """The records of one data set at one image size.

    `training_indices`: all records of training units. `held_out_indices`: ONE record of each held-out unit,
    so that a count over them changes by at most 1 with a unit (clause 6.2); `held_out_records` are all of
    them, for numbers that stay at home. All int64, ascending.
    """

    def __init__(self, dataset: DataSet, spec: ExtractorSpec, progress: Progress = quiet) -> None:
        self.classes = dataset.classes
        self.unit = dataset.unit
        self.spec = spec
        self._pixels = open_pixels(dataset, spec, progress)
        table = read_index(dataset.index_path, ["label", "person", "held_out"])
        labels = pc.index_in(table["label"], value_set=pa.array(dataset.classes, pa.string()))
        self._labels: Indices = labels.to_numpy().astype(np.int64)
        held_out = table["held_out"].to_numpy().astype(bool)
        self.training_indices: Indices = np.flatnonzero(~held_out).astype(np.int64)
        self.held_out_records: Indices = np.flatnonzero(held_out).astype(np.int64)
        if dataset.unit is Unit.RECORD:
            units = np.arange(len(held_out), dtype=np.int64)
        else:
            persons = table["person"].combine_chunks()
            units = pc.index_in(persons, value_set=pc.unique(persons)).to_numpy().astype(np.int64)
        self._training = _Units(self.training_indices, units)
        held_out_units = _Units(self.held_out_records, units)
        self.held_out_indices: Indices = np.sort(held_out_units.first_of_each())

    @property
    def records(self) -> int:
        """Number of records on both sides."""
        return len(self._labels)

    @property
    def training_units(self) -> int:
        """Number of units that draws are made from."""
        return len(self._training)

    @property
    def held_out_units(self) -> int:
        """Number of units that validation counts are made over."""
        return len(self.held_out_indices)

    def poisson_draw(self, noise: UniformSource, rate: float) -> Indices:
        """Each training unit independently with probability `rate` (clause 2.4); record indices int64
        [drawn].

        Of a drawn person one record, uniformly (clause 1.1). May be empty: an empty batch is a legal batch.
        Raises Invalid unless 0 < rate ≤ 1.
        """
        if not 0.0 < rate <= 1.0:
            raise Invalid(f"A sampling rate must be above 0 and at most 1, and is {rate}. Nothing was drawn.")
        drawn = np.flatnonzero(noise.uniform(len(self._training)) < rate)
        if self.unit is Unit.RECORD:
            return self.training_indices[drawn]
        return self._training.one_of_each(drawn, noise)

    def load(self, indices: Indices) -> tuple[npt.NDArray[np.uint8], Indices]:
        """(images uint8 [B, H, W, C], labels int64 [B] into `classes`) of the records; B may be 0."""
        return np.asarray(self._pixels[indices]), self._labels[indices]

    def labels(self, indices: Indices) -> Indices:
        """Labels int64 [B] into `classes`, without reading pixels."""
        return self._labels[indices]


class _Units:
    """Records grouped by unit: `records` of one side, `units[record]` the unit of each."""

    def __init__(self, records: Indices, units: Indices) -> None:
        order = np.argsort(units[records], kind="stable")
        self._records = records[order]
        _, self._starts, self._counts = np.unique(units[self._records], return_index=True, return_counts=True)

    def __len__(self) -> int:
        return len(self._starts)

    def first_of_each(self) -> Indices:
        return self._records[self._starts]

    def one_of_each(self, chosen: Indices, noise: UniformSource) -> Indices:
        counts: Indices = self._counts[chosen]
        # uniform < 1 but uniform·count may round up to count; the minimum keeps it inside the group.
        offsets = np.minimum((noise.uniform(len(chosen)) * counts).astype(np.int64), counts - 1)
        drawn: Indices = self._records[self._starts[chosen] + offsets]
        return drawn

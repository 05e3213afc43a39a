"""A data set of this member: what dataset.json says, and the ways to open, list and size one.

The folder data/<name>/ holds dataset.json (written last: without it there is no data set), index.parquet and,
where files were skipped, rejected.csv. It is immutable: its `id` stands in the ledger for life. More
records later are added as a data set of their own, under another name; the same records are refused there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from participant.records.choose import choose_source
from participant.records.index import read_index
from participant.records.scan import Progress, quiet
from participant.records.source import Source
from shared.domain.consortium import round_declared_size
from shared.domain.errors import Invalid, InvalidConfig, NotFound
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.files import read_json
from shared.domain.privacy import Unit
from shared.domain.strict import build, later

if TYPE_CHECKING:
    from participant.records.reader import RecordReader

DATASET_FORMAT = "commonlens-dataset/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class SourceTerms:
    """Where the records are, as the operator named it when adding."""

    path: str
    labels_csv: str | None
    person_column: str | None
    text_column: str | None = later(None)
    """Set where the records are texts."""


@dataclass(frozen=True)
class Findings:
    """What the scan found; for the operator's eyes, never sent (clause 6.4)."""

    records: int
    training_units: int
    held_out_units: int
    skipped: int
    """Listed in rejected.csv."""
    duplicates: int
    """Records that show the same pixels, or say the same text, as an earlier one. Each is a record of its own."""
    conflicting: int
    """Pictures or texts that stand there under more than one label."""
    unlabelled: int
    """Files in the folder that the CSV does not name; they are not used."""

    def sentence(self) -> str:
        """All of it for a person: whatever was not used, or may be a mistake, has its number."""
        listed = " (rejected.csv lists them)" if self.skipped else ""
        # Only where a CSV of labels names the records: elsewhere it would only be asked which CSV.
        beside = f", {self.unlabelled} files not named by the CSV and not used" if self.unlabelled else ""
        return (
            f"{self.records} records, {self.training_units} units for training, {self.held_out_units} held out; "
            f"{self.skipped} skipped{listed}{beside}; {self.duplicates} duplicates, {self.conflicting} pictures or "
            "texts under more than one label"
        )


@dataclass(frozen=True)
class DataSetFile:
    """dataset.json."""

    id: str
    name: str
    source: SourceTerms
    unit: Unit
    classes: tuple[str, ...]
    salt: str
    """Key of the held-out hash, 64 hex digits."""
    findings: Findings
    added_at: str
    format: str = DATASET_FORMAT


class DataSet:
    """One data set of the member, opened. Public facts are attributes; records come through `reader`."""

    def __init__(self, home: Path, file: DataSetFile) -> None:
        self.home = home
        self.file = file
        self.id = file.id
        self.name = file.name
        self.classes = file.classes
        self.unit = file.unit
        self.findings = file.findings
        self.kind = RecordKind.IMAGE if file.source.text_column is None else RecordKind.TEXT

    @property
    def folder(self) -> Path:
        """data/<name>/."""
        return dataset_folder(self.home, self.name)

    @property
    def index_path(self) -> Path:
        """One line a record; see index.py."""
        return self.folder / "index.parquet"

    @property
    def suggested_size(self) -> int:
        """What n_declared of this data set would be: its training units, rounded to two digits (clause 6.3)."""
        return round_declared_size(self.findings.training_units)

    @property
    def split(self) -> tuple[bool, ...]:
        """Per record, in index order: whether its unit is held out."""
        return tuple(read_index(self.index_path, ["held_out"])["held_out"].to_pylist())

    def open_source(self) -> Source:
        """The source that the records came from."""
        terms = self.file.source
        labels = Path(terms.labels_csv) if terms.labels_csv else None
        return choose_source(Path(terms.path), labels, terms.person_column, terms.text_column)

    def check_kind(self, spec: ExtractorSpec) -> None:
        """Raise Invalid unless the extractor reads records of this data set's kind."""
        if spec.kind is not self.kind:
            raise Invalid(
                f'The extractor {spec.architecture!r} reads records of kind {spec.kind.value!r}, "{self.name}" has '
                f"records of kind {self.kind.value!r}. No record was touched. Choose another data set, or another "
                "extractor."
            )

    def reader(self, spec: ExtractorSpec, progress: Progress = quiet) -> RecordReader:
        """Records as uint8 of the spec's size; builds the pixel cache on first use.

        Raises Invalid as `check_kind`, InvalidRecords when a file changed or went since it was added, OutOfSpace
        when the disk is full.
        """
        from participant.records.reader import RecordReader

        self.check_kind(spec)
        return RecordReader(self, spec, progress)


def open_data_set(home: Path, name: str) -> DataSet:
    """The data set `name`. Raises NotFound, or InvalidConfig where dataset.json does not fit."""
    path = dataset_folder(home, name) / "dataset.json"
    if not path.is_file():
        known = ", ".join(found.name for found in list_data_sets(home)) or "none"
        raise NotFound(f'There is no data set "{name}" here; known: {known}. Add it first.')
    file = build(DataSetFile, read_json(path), "dataset.json")
    if file.format != DATASET_FORMAT or file.name != name:
        raise InvalidConfig(
            f'dataset.json: expected format {DATASET_FORMAT} and name "{name}", found {file.format} and '
            f'"{file.name}". The data set was not opened. Put the folder back under its own name.'
        )
    return DataSet(home, file)


def list_data_sets(home: Path) -> list[DataSet]:
    """All data sets of this member, by name."""
    folders = sorted((home / "data").glob("*/dataset.json"))
    return [open_data_set(home, path.parent.name) for path in folders]


def dataset_folder(home: Path, name: str) -> Path:
    """data/<name>/. Raises Invalid for a name that is no plain file name."""
    if not _NAME.fullmatch(name):
        raise Invalid(
            "A data set's name is 1 to 64 letters, digits, '.', '-' or '_' and starts with a letter or "
            f"digit; found {name!r}. Nothing was done. Choose another name."
        )
    return home / "data" / name

"""Which form of source a path is: a folder per class, a folder with a CSV of labels, or Parquet."""

from __future__ import annotations

from pathlib import Path

from participant.records.folders import ClassFolders, LabelledFolder
from participant.records.parquet import ParquetShards, shards_of
from participant.records.source import Source
from shared.domain.errors import InvalidConfig, NotFound


def choose_source(path: Path, labels_csv: Path | None, person_column: str | None) -> Source:
    """The form of source that `path` is. Raises NotFound, or InvalidConfig where options do not fit it."""
    if not path.exists():
        raise NotFound(f"There is nothing at {path}. Nothing was read. Check the path.")
    if labels_csv is not None and path.is_dir():
        return LabelledFolder(path, labels_csv, person_column)
    if labels_csv is not None:
        raise InvalidConfig(
            f"A CSV of labels goes with a folder of images, and {path} is a file. Nothing was read."
        )
    if shards_of(path):
        return ParquetShards(path, person_column)
    if not path.is_dir():
        raise InvalidConfig(f"Expected a folder or a .parquet file, found {path}. Nothing was read.")
    if person_column is not None:
        raise InvalidConfig(
            "A person column needs a CSV of labels or Parquet; folders of classes have no columns. Nothing "
            "was read."
        )
    return ClassFolders(path)

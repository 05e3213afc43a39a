"""Which form of source a path is: a folder per class, a folder with a CSV of labels, Parquet, or a CSV of texts."""

from __future__ import annotations

from pathlib import Path

from participant.records.folders import ClassFolders, LabelledFolder
from participant.records.parquet import ParquetShards, shards_of
from participant.records.source import Source
from participant.records.texts import TextTable
from shared.domain.errors import InvalidConfig, NotFound


def choose_source(
    path: Path, labels_csv: Path | None, person_column: str | None, text_column: str | None = None
) -> Source:
    """The form of source that `path` is, of texts where `text_column` names theirs.

    Raises NotFound, or InvalidConfig where options do not fit it.
    """
    if not path.exists():
        raise NotFound(f"There is nothing at {path}. Nothing was read. Check the path.")
    if text_column is not None:
        return _choose_texts(path, labels_csv, person_column, text_column)
    if labels_csv is not None and path.is_dir():
        return LabelledFolder(path, labels_csv, person_column)
    if labels_csv is not None:
        raise InvalidConfig(
            f"A CSV of labels goes with a folder of images, and {path} is a file. Nothing was read. Name the "
            "folder, or leave out --labels."
        )
    if shards_of(path):
        return ParquetShards(path, person_column)
    if not path.is_dir():
        raise InvalidConfig(
            f"Expected a folder or a .parquet file, found {path}. Nothing was read. A CSV of texts needs the name of "
            "their column (--text-column)."
        )
    if person_column is not None:
        raise InvalidConfig(
            "A person column needs a CSV of labels or Parquet; folders of classes have no columns. Nothing "
            "was read. Give --labels too, or leave out --person."
        )
    return ClassFolders(path)


def _choose_texts(path: Path, labels_csv: Path | None, person_column: str | None, text_column: str) -> Source:
    if labels_csv is not None:
        raise InvalidConfig(
            "A CSV of labels goes with a folder of images; texts stand beside their labels in one table. Nothing was "
            "read. Leave out --labels."
        )
    if shards_of(path):
        return ParquetShards(path, person_column, text_column)
    if path.suffix.lower() != ".csv" or not path.is_file():
        raise InvalidConfig(
            f"Expected texts in a .csv file or in Parquet, found {path}. Nothing was read. Name such a file."
        )
    return TextTable(path, text_column, person_column)

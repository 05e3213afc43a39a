"""Source made of Parquet: columns image (encoded bytes, or Hugging Face's struct of bytes and path), label,
person. Of texts, a column of texts stands in place of image.

One file, or a folder of shards. Rows are streamed in small batches: a shard may be larger than memory, also where all
its rows are one row group, as Arrow and pandas write them. Only a page is held whole, because it is compressed as one.
Arrow and pandas put 1,024 pictures into a page, up to 2 GiB: large pages are ordinary, and none is refused by its size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from participant.records.source import Entry, Rejected, is_system_file, printable
from shared.domain.errors import InvalidRecords
from shared.domain.extractor import RecordKind

_ROWS_AT_ONCE = 64
_BUFFER_BYTES = 1 << 20


def shards_of(path: Path) -> list[Path]:
    """The Parquet files at `path`: itself, or those in the folder, by name; empty where there are none."""
    if path.is_dir():
        return [child for child in _children(path) if _is_shard(child) and child.is_file()]
    return [path] if _is_shard(path) else []


class ParquetShards:
    """A record's reference is `<shard file>#<row>`, rows counted from 0. Whatever lies beside shards is listed."""

    def __init__(self, path: Path, person_column: str | None, text_column: str | None = None) -> None:
        self.shards = shards_of(path)
        self.beside = [child for child in _children(path) if child not in self.shards]
        self.person_column = person_column
        self.kind = RecordKind.IMAGE if text_column is None else RecordKind.TEXT
        self._content = text_column or "image"
        self._columns = [self._content, "label", *([person_column] if person_column else [])]

    def count(self) -> int:
        return len(self.beside) + sum(self._open(shard).metadata.num_rows for shard in self.shards)

    def unlabelled(self) -> int:
        return 0

    def entries(self) -> Iterator[Entry | Rejected]:
        for shard in self.shards:
            names = _class_names(self._open(shard).schema_arrow)
            for ref, row in self._rows(shard):
                yield self._entry(ref, row, names)
        for child in self.beside:
            yield Rejected(printable(child.name), "lies beside Parquet files, which are the source here")

    def contents(self, refs: Iterable[str]) -> Iterator[Path | bytes | Rejected]:
        rows = self._every_row()
        for ref in refs:
            found = next((row for at, row in rows if at == ref), None)
            content = None if found is None else _bytes_of(found[self._content])
            yield Rejected(ref, "is no longer in the Parquet source") if content is None else content

    def _every_row(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for shard in self.shards:
            if shard.is_file():
                yield from self._rows(shard)

    def _entry(self, ref: str, row: dict[str, Any], names: list[str]) -> Entry | Rejected:
        label, person = row["label"], None
        if self.person_column is not None:
            person = _text(row[self.person_column])
            if not person:
                return Rejected(ref, f"has no {self.person_column}")
        if names and isinstance(label, int):
            if not 0 <= label < len(names):
                return Rejected(ref, f"has label {label}, expected 0 to {len(names) - 1}")
            label = names[label]
        text = _text(label)
        if not text:
            # pandas makes whole numbers floats where one of them is missing.
            odd = isinstance(label, float) and not math.isnan(label)
            return Rejected(
                ref, f"has label {label}, expected a text or a whole number" if odd else "has no label"
            )
        content = _bytes_of(row[self._content])
        if content is None:
            missing = "holds no image bytes (a path alone is not followed)"
            return Rejected(ref, missing if self.kind is RecordKind.IMAGE else "has no text")
        return Entry(ref, text, person, content)

    def _rows(self, shard: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            for batch in self._open(shard).iter_batches(batch_size=_ROWS_AT_ONCE, columns=self._columns):
                for row in self._as_bytes(batch).to_pylist():
                    yield f"{shard.name}#{number}", row
                    number += 1
        except pa.ArrowMemoryError as error:
            raise InvalidRecords(
                f"{shard.name} has a page after row {number} that does not fit into memory: {error}. Nothing was "
                "added. Write it again with smaller pages (in pyarrow: write_batch_size=64, "
                'use_dictionary=["label"]), or use a machine with more memory.'
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise InvalidRecords(
                f"{shard.name} cannot be read after row {number}: {error}. Nothing was added. Repair the "
                "file."
            ) from error

    def _as_bytes(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Texts as their bytes: as texts, one that is not UTF-8 would take its whole batch with it."""
        if self.kind is RecordKind.IMAGE:
            return batch
        place = batch.schema.get_field_index(self._content)
        return batch.set_column(place, self._content, batch[place].cast(pa.binary()))

    def _open(self, shard: Path) -> pq.ParquetFile:
        try:
            # Left to itself, Arrow reads whole columns of a row group before it gives out the first row.
            file = pq.ParquetFile(shard, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise InvalidRecords(
                f"{shard.name} is not a Parquet file: {error}. Nothing was added. Write it again, or take it out."
            ) from error
        found = file.schema_arrow.names
        if missing := [column for column in self._columns if column not in found]:
            raise InvalidRecords(
                f"{shard.name}: expected the columns {', '.join(self._columns)}, found "
                f"{', '.join(found) or 'none'}; {', '.join(missing)} is missing. Nothing was added. Rename "
                "the columns."
            )
        return file


def _children(path: Path) -> list[Path]:
    """What is in a folder, by name; empty for a file."""
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if not is_system_file(child.name))


def _is_shard(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _bytes_of(value: Any) -> bytes | None:
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) and content else None


def _text(value: Any) -> str:
    """A label or person as text; whole numbers and texts only (a float or a list is nobody's name)."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return ""
    return str(value).strip()


def _class_names(schema: pa.Schema) -> list[str]:
    """Names behind whole-number labels, where a Hugging Face ClassLabel wrote them into the schema."""
    raw = (schema.metadata or {}).get(b"huggingface")
    if raw is None:
        return []
    try:
        names = json.loads(raw)["info"]["features"]["label"]["names"]
    except (ValueError, KeyError, TypeError):
        return []  # the label is no ClassLabel: its values are the names
    return [str(name) for name in names] if isinstance(names, list) else []

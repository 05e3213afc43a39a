"""index.parquet: one line a record — reference, label, person, two digests, held out or not — in source
order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from participant.records.digests import DIGEST_BYTES
from participant.records.scan import Scanned
from participant.records.source import Rejected
from participant.records.split import is_held_out
from shared.domain.privacy import Unit

SCHEMA = pa.schema(
    [
        pa.field("ref", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("person", pa.string()),
        pa.field("file_digest", pa.binary(DIGEST_BYTES), nullable=False),
        pa.field("pixel_digest", pa.binary(DIGEST_BYTES), nullable=False),
        pa.field("held_out", pa.bool_(), nullable=False),
    ]
)
_ROWS_AT_ONCE = 8192


@dataclass
class Written:
    """What writing an index found: how many records, which labels, and what was rejected."""

    records: int = 0
    labels: set[str] = field(default_factory=set)
    rejected: list[Rejected] = field(default_factory=list)


def write_index(file: BinaryIO, items: Iterable[Scanned | Rejected], unit: Unit, salt: bytes) -> Written:
    """Stream `items` into a Parquet index with the split decided; memory does not grow with the records."""
    written = Written()
    rows: list[dict[str, object]] = []
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for item in items:
            if isinstance(item, Rejected):
                written.rejected.append(item)
                continue
            written.records += 1
            written.labels.add(item.label)
            rows.append(_row(item, unit, salt))
            if len(rows) == _ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
    return written


def read_index(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of an index."""
    return pq.read_table(path, columns=columns)


def references(path: Path) -> Iterator[tuple[str, bytes]]:
    """(reference, file digest) of every record in order, streamed."""
    for batch in pq.ParquetFile(path).iter_batches(_ROWS_AT_ONCE, columns=["ref", "file_digest"]):
        yield from zip(batch["ref"].to_pylist(), batch["file_digest"].to_pylist(), strict=True)


def count_duplicates(path: Path) -> tuple[int, int]:
    """(records that show or say the same as an earlier one, contents that carry more than one label).

    Each stays a record of its own: the unit is the record (clause 1.1). All copies share one side of the
    split.
    """
    table = read_index(path, ["pixel_digest", "label"])
    groups = table.group_by("pixel_digest").aggregate([("label", "count_distinct")])
    conflicting = pc.sum(pc.greater(groups["label_count_distinct"], 1)).as_py() or 0
    return table.num_rows - groups.num_rows, int(conflicting)


def _row(item: Scanned, unit: Unit, salt: bytes) -> dict[str, object]:
    key = item.pixel_digest if unit is Unit.RECORD else str(item.person).encode("utf-8")
    return {
        "ref": item.ref,
        "label": item.label,
        "person": item.person,
        "file_digest": item.file_digest,
        "pixel_digest": item.pixel_digest,
        "held_out": is_held_out(key, salt),
    }

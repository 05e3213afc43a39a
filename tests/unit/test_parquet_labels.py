"""Labels in Parquet that are nobody's name: each is listed with what it is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from participant.records.parquet import ParquetShards
from participant.records.source import Rejected


def test_a_label_that_is_a_fraction_is_named_and_one_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    labels = pa.array([1.0, None, float("nan")], pa.float64())
    pq.write_table(pa.table({"image": [b"x"] * 3, "label": labels}), tmp_path / "p.parquet")
    found = list(ParquetShards(tmp_path / "p.parquet", None).entries())
    assert found == [
        Rejected("p.parquet#0", "has label 1.0, expected a text or a whole number"),
        Rejected("p.parquet#1", "has no label"),
        Rejected("p.parquet#2", "has no label"),
    ]

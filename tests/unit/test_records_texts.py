"""Texts as records: read from a CSV or from Parquet, what is wrong is listed, and nothing is added twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from participant.records.add import add_data_set
from participant.records.dataset import DataSet, open_data_set
from shared.domain.errors import Invalid, InvalidConfig, InvalidRecords, NotFound, OverlappingData
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.privacy import Unit
from tests.texts import write_csv

SPEC = ExtractorSpec("ngram-bag", 1, 1, 12, 6, kind=RecordKind.TEXT)
TEXTS = [("Straße", "de"), ("rue", "fr"), ("Weg", "de"), ("chemin", "fr"), ("sehr lange Straße", "de")]


def add(home: Path, path: Path, name: str = "names", **options: object) -> DataSet:
    return add_data_set(home, name, path, text_column="text", **options)  # type: ignore[arg-type]


def raw_csv(path: Path, lines: bytes) -> Path:
    path.write_bytes(lines)
    return path


def parquet(path: Path, labelled: list[tuple[str, str]]) -> Path:
    pq.write_table(pa.table({"text": [t for t, _ in labelled], "label": [c for _, c in labelled]}), path)
    return path


@pytest.mark.parametrize("form", [write_csv, parquet])
def test_texts_become_a_data_set_and_its_bytes_are_read_again(form: object, tmp_path: Path) -> None:
    source = tmp_path / ("names.csv" if form is write_csv else "names.parquet")
    form(source, TEXTS)  # type: ignore[operator]
    added = add(tmp_path / "home", source)
    assert (added.kind, added.classes, added.findings.records) == (RecordKind.TEXT, ("de", "fr"), 5)
    assert "5 records" in added.findings.sentence()
    opened = open_data_set(tmp_path / "home", "names")
    assert opened.file == added.file and opened.kind is RecordKind.TEXT
    images, labels = opened.reader(SPEC).load(np.arange(5))
    assert images.shape == (5, 1, 12, 1)
    read = [image.ravel().tobytes().rstrip(b"\0").decode() for image in images]
    assert read == ["Straße", "rue", "Weg", "chemin", "sehr lange S"]
    assert labels.tolist() == [0, 1, 0, 1, 0]


def test_rows_that_are_no_records_are_all_listed_with_their_reason(tmp_path: Path) -> None:
    source = raw_csv(
        tmp_path / "names.csv",
        b'text,label\nWeg,de\n,de\ncaf\xe9,fr\nrue,\nBonn, am Rhein,de\nSee,d\xe9\na\x00b,fr\n"chemin, petit",fr\n',
    )
    with pytest.raises(InvalidRecords) as caught:
        add(tmp_path / "home", source)
    text = caught.value.message
    assert "Expected every record of names.csv to be a labelled text, found 6 that cannot be used" in text
    for line in (
        "names.csv#1: has no text",
        "names.csv#2: is not UTF-8: byte 3 cannot be read",
        "names.csv#3: has no label (line 5)",
        "names.csv#4: has more fields than the first line has names (line 6)",
        "names.csv#5: has a label or person that is not UTF-8 (line 7)",
        "names.csv#6: holds the character NUL",
    ):
        assert line in text
    added = add(tmp_path / "home", source, skip_bad=True)
    assert (added.findings.records, added.findings.skipped) == (2, 6)
    assert "names.csv#1,has no text" in (tmp_path / "home/data/names/rejected.csv").read_text("utf-8")
    images, _ = added.reader(SPEC).load(np.arange(2))
    assert images[1].ravel().tobytes() == b"chemin, peti"


def test_text_in_parquet_that_is_not_utf8_is_listed_alone(tmp_path: Path) -> None:
    texts = pa.array([b"Weg", b"caf\xe9", None, b"rue"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts, "label": ["de", "fr", "fr", "fr"]}), tmp_path / "names.parquet")
    with pytest.raises(InvalidRecords) as caught:
        add(tmp_path / "home", tmp_path / "names.parquet")
    assert "found 2 that cannot be used" in caught.value.message
    assert "names.parquet#1: is not UTF-8: byte 3 cannot be read" in caught.value.message
    assert "names.parquet#2: has no text" in caught.value.message


def test_person_is_the_unit_where_a_column_names_them(tmp_path: Path) -> None:
    source = tmp_path / "notes.csv"
    source.write_text("note,label,author\none,x,Ann\ntwo,y,Ben\nthree,x,Ann\nfour,y,\n", "utf-8")
    added = add_data_set(tmp_path / "home", "notes", source, None, "author", True, text_column="note")
    assert added.unit is Unit.PERSON
    assert added.findings.training_units + added.findings.held_out_units == 2
    rejected = (tmp_path / "home/data/notes/rejected.csv").read_text("utf-8")
    assert "notes.csv#3,has no author (line 5)" in rejected


def test_same_text_typed_otherwise_gets_no_second_budget(tmp_path: Path) -> None:
    add(tmp_path / "home", write_csv(tmp_path / "a.csv", TEXTS), "first")
    with pytest.raises(OverlappingData, match='found 1 whose pictures or texts are also in "first"'):
        add(tmp_path / "home", write_csv(tmp_path / "b.csv", [(" Weg ", "x"), ("neu", "y")]), "second")


def test_text_that_was_changed_after_it_was_added_is_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "names.csv", TEXTS)
    added = add(tmp_path / "home", source)
    write_csv(source, [("Strasse", "de"), *TEXTS[1:]])
    with pytest.raises(InvalidRecords, match="names.csv#0: has other bytes than when it was added"):
        added.reader(SPEC)
    write_csv(source, TEXTS[:3])
    with pytest.raises(InvalidRecords, match="names.csv#3: is no longer in the CSV"):
        added.reader(SPEC)
    source.unlink()
    with pytest.raises(NotFound, match="There is nothing at"):
        added.reader(SPEC)


def test_extractor_of_another_kind_reads_no_record(tmp_path: Path) -> None:
    added = add(tmp_path / "home", write_csv(tmp_path / "names.csv", TEXTS))
    pictures = ExtractorSpec("small-gn", 1, 8, 8, 4)
    with pytest.raises(
        Invalid, match="'small-gn' reads records of kind 'image', \"names\" has .* kind 'text'"
    ):
        added.reader(pictures)
    assert not (tmp_path / "home" / "cache").exists()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (b"text;label\nWeg;de\n", "expected the columns text, label separated by commas, found 'text;label'"),
        (b'text,label\n"Weg,de\n', "names.csv cannot be read as a CSV"),
        (b"text,label\n", "Expected at least 1 labelled text in names.csv, found 0"),
    ],
)
def test_table_without_texts_is_refused_whole(lines: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecords, match=reason):
        add(tmp_path / "home", raw_csv(tmp_path / "names.csv", lines))


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "names.csv", TEXTS)
    with pytest.raises(
        InvalidConfig, match=r"A CSV of texts needs the name of their column \(--text-column\)"
    ):
        add_data_set(tmp_path / "home", "names", source)
    with pytest.raises(InvalidConfig, match="Expected texts in a .csv file or in Parquet"):
        add(tmp_path / "home", tmp_path)
    with pytest.raises(InvalidConfig, match="texts stand beside their labels in one table"):
        add(tmp_path / "home", source, labels_csv=source)

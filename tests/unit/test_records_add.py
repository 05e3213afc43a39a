"""Adding a data set: three forms of source, everything wrong is listed, nothing is added twice."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from participant.records.add import add_data_set
from participant.records.dataset import list_data_sets, open_data_set
from shared.domain.errors import (
    AlreadyExists,
    Invalid,
    InvalidConfig,
    InvalidRecords,
    NotFound,
    OverlappingData,
)
from shared.domain.privacy import Unit


def picture(number: int, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def class_folders(root: Path, count: int = 12, first: int = 0) -> Path:
    for number in range(count):
        folder = root / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(picture(first + number))
    return root


def labelled(root: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("path", "label")) -> Path:
    path = root.parent / "labels.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_folders_of_classes_become_a_data_set(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = class_folders(tmp_path / "photos")
    added = add_data_set(
        tmp_path / "home", "pets", source, progress=lambda done, total: seen.append((done, total))
    )
    opened = open_data_set(tmp_path / "home", "pets")
    assert opened.id == added.id and opened.id.startswith("dat_")
    assert opened.classes == ("cat", "dog") and opened.unit is Unit.RECORD
    assert opened.findings.records == 12 and opened.findings.skipped == 0
    assert opened.findings.training_units + opened.findings.held_out_units == 12
    assert len(opened.split) == 12 and sum(opened.split) == opened.findings.held_out_units
    assert seen[0] == (0, 12) and seen[-1] == (12, 12)
    assert [found.name for found in list_data_sets(tmp_path / "home")] == ["pets"]
    assert "0 skipped; 0 duplicates" in opened.findings.sentence(), "no CSV is named where there is none"


def test_csv_names_labels_and_persons_and_counts_what_it_leaves_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    rows = [(f"dog/{n:03d}.png", "big", f"p{n // 4}") for n in range(0, 8, 2)]
    labels = labelled(root, rows, ("path", "label", "patient"))
    added = add_data_set(tmp_path / "home", "pets", root, labels, "patient")
    assert added.unit is Unit.PERSON and added.classes == ("big",)
    assert added.findings.records == 4 and added.findings.unlabelled == 8
    assert added.findings.training_units + added.findings.held_out_units == 2


def test_everything_that_was_found_is_told(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", 30)
    rows = [(f"{'cat' if n % 2 else 'dog'}/{n:03d}.png", "x") for n in range(20)]
    (root / "again.png").write_bytes(picture(0))
    (root / "notes.heic").write_bytes(b"x")
    (root / "elsewhere").symlink_to(tmp_path)
    labels = labelled(root, [*rows, ("again.png", "y"), ("gone.png", "y")])
    labels = labels.rename(root / "labels.csv")
    told = add_data_set(tmp_path / "home", "pets", root, labels, skip_bad=True).findings.sentence()
    assert "21 records" in told and "1 skipped (rejected.csv lists them)" in told
    # Ten pictures, a kind of file that nobody reads, and a folder behind a link; the CSV itself is no record.
    assert "12 files not named by the CSV and not used" in told
    assert "1 duplicates, 1 pictures or texts under more than one label" in told


def test_a_folder_of_two_forms_is_refused_and_what_lies_beside_is_listed(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    pq.write_table(pa.table({"image": [picture(50)], "label": ["dog"]}), root / "more.parquet")
    with pytest.raises(InvalidRecords) as caught:
        add_data_set(tmp_path / "home", "pets", root)
    for name in ("cat", "dog"):
        assert f"  {name}: lies beside Parquet files, which are the source here" in caught.value.message
    added = add_data_set(tmp_path / "home", "pets", root, skip_bad=True)
    assert added.findings.records == 1 and added.findings.skipped == 2
    assert 'cat,"lies beside' in (tmp_path / "home/data/pets/rejected.csv").read_text()


def test_a_picture_whose_orientation_cannot_be_read_is_listed_and_stops_nothing_later(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    exif = Image.Exif()
    exif[0x0112] = 6
    broken = exif.tobytes().replace(b"MM", b"M\n").replace(b"II", b"I\n")
    Image.new("RGB", (4, 4)).save(root / "cat" / "odd.png", exif=broken)
    with pytest.raises(InvalidRecords, match="cat/odd.png: cannot be decoded: not a TIFF file"):
        add_data_set(tmp_path / "home", "pets", root)


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_parquet_of_encoded_images_becomes_a_data_set(tmp_path: Path, form: str) -> None:
    images = [picture(n) for n in range(6)]
    column = (
        images if form == "bytes" else [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(images)]
    )
    table = pa.table({"image": column, "label": [0, 1, 0, 1, 2, 2], "who": [7, 7, 8, 8, 9, 9]})
    names = {"info": {"features": {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({b"huggingface": json.dumps(names).encode()})
    (tmp_path / "shards").mkdir()
    pq.write_table(table.slice(0, 4), tmp_path / "shards" / "0.parquet")
    pq.write_table(table.slice(4), tmp_path / "shards" / "1.parquet")
    added = add_data_set(tmp_path / "home", "letters", tmp_path / "shards", person_column="who")
    assert added.classes == ("a", "b", "c") and added.findings.records == 6
    assert added.findings.training_units + added.findings.held_out_units == 3


def test_parquet_rows_without_image_or_label_are_listed(tmp_path: Path) -> None:
    table = pa.table({"image": [picture(0), None, picture(2), b"no"], "label": ["a", "a", None, "b"]})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InvalidRecords) as caught:
        add_data_set(tmp_path / "home", "x", tmp_path / "x.parquet")
    assert "x.parquet#1: holds no image bytes (a path alone is not followed)" in caught.value.message
    assert "x.parquet#2: has no label" in caught.value.message
    assert "x.parquet#3: is not an image" in caught.value.message


def test_a_wrong_column_is_named_with_what_was_found(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", 2)
    labels = labelled(root, [("dog/000.png", "d")], ("file", "label"))
    with pytest.raises(
        InvalidRecords, match="expected the columns path, label .* found 'file', 'label'; path"
    ):
        add_data_set(tmp_path / "home", "x", root, labels)
    pq.write_table(pa.table({"image": [b"x"], "target": [1]}), tmp_path / "x.parquet")
    with pytest.raises(InvalidRecords, match="expected the columns image, label, found image, target; label"):
        add_data_set(tmp_path / "home", "x", tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(
        InvalidRecords, match=r"y.parquet is not a Parquet file: .* Write it again, or take it out\.$"
    ):
        add_data_set(tmp_path / "home", "x", tmp_path / "y.parquet")


def test_labels_that_are_not_there_are_said_to_be_missing_and_leave_no_folder(tmp_path: Path) -> None:
    root, gone = class_folders(tmp_path / "photos", 2), tmp_path / "nofile.csv"
    with pytest.raises(InvalidRecords) as caught:
        add_data_set(tmp_path / "home", "x", root, gone)
    assert caught.value.message == f"There is no file {gone}. Nothing was added. Check the path."
    with pytest.raises(
        InvalidRecords, match=r" cannot be read: Is a directory\. Nothing was added\. Check the file\."
    ):
        add_data_set(tmp_path / "home", "x", root, root)
    assert not (tmp_path / "home/data/x").exists()
    (tmp_path / "latin.csv").write_bytes("path,label\nübung,x".encode("latin-1"))
    with pytest.raises(
        InvalidRecords, match="latin.csv cannot be read as a CSV in UTF-8: .*Save it again as UTF-8"
    ):
        add_data_set(tmp_path / "home", "x", root, tmp_path / "latin.csv")
    assert not (tmp_path / "home/data/x").exists()


def test_folder_that_a_refused_add_found_in_use_stays(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    add_data_set(tmp_path / "home", "pets", root)
    with pytest.raises(OverlappingData):
        add_data_set(tmp_path / "home", "again", root)
    assert [path.name for path in sorted((tmp_path / "home/data").iterdir())] == [".lock", "pets"]


def test_every_bad_file_is_listed_and_none_is_added(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    for number in range(25):
        (root / "cat" / f"bad{number:02d}.png").write_bytes(picture(99)[: 40 + number])
    with pytest.raises(InvalidRecords) as caught:
        add_data_set(tmp_path / "home", "pets", root)
    text = caught.value.message
    assert text.startswith(
        "Expected every record of photos to be a labelled image, found 25 that cannot be used:"
    )
    assert "cat/bad00.png: " in text and "and 5 more" in text and text.count("cat/bad") == 20
    assert "Nothing was added." in text and "data/pets/rejected.csv" in text
    with (tmp_path / "home/data/pets/rejected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"cat/bad{n:02d}.png" for n in range(25)]
    with pytest.raises(NotFound, match='There is no data set "pets" here; known: none'):
        open_data_set(tmp_path / "home", "pets")


def test_bad_files_are_skipped_only_when_asked_and_still_listed(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    (root / "cat" / "bad.png").write_bytes(b"")
    (root / "cat" / "notes.txt").write_text("x")
    (root / "lost.png").write_bytes(picture(50))
    (root / "labels.csv").write_text("path,label\n")
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "empty").mkdir()
    added = add_data_set(tmp_path / "home", "pets", root, skip_bad=True)
    assert added.findings.records == 12 and added.findings.skipped == 5
    listed = (tmp_path / "home/data/pets/rejected.csv").read_text()
    for line in (
        "cat/bad.png,is empty",
        "cat/notes.txt,has no image file's ending",
        '"lies beside the class folders, so it has no label"',
        "empty,is a class folder without a file",
        "where it names the pictures and their labels, add with --labels labels.csv",
    ):
        assert line in listed


def test_labels_missing_or_given_twice_are_listed(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", 4)
    rows = [("dog/000.png", "d"), ("cat/001.png", " "), ("./dog/000.png", "e"), ("dog/9.png", "d")]
    with pytest.raises(InvalidRecords) as caught:
        add_data_set(tmp_path / "home", "x", root, labelled(root, rows))
    assert "cat/001.png: has no label (line 3)" in caught.value.message
    assert "./dog/000.png: is named twice (lines 2 and 4)" in caught.value.message
    assert "dog/9.png: does not exist below the data folder" in caught.value.message


def test_a_name_is_used_once(tmp_path: Path) -> None:
    add_data_set(tmp_path / "home", "pets", class_folders(tmp_path / "a"))
    with pytest.raises(AlreadyExists, match="its ledger counts for life. Add the new records alone"):
        add_data_set(tmp_path / "home", "pets", class_folders(tmp_path / "b", first=100))


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="A data set's name is 1 to 64 letters"):
        add_data_set(tmp_path / "home", name, class_folders(tmp_path / "a", 2))


def test_the_same_files_get_no_second_budget_under_another_name(tmp_path: Path) -> None:
    add_data_set(tmp_path / "home", "first", class_folders(tmp_path / "a"))
    other = class_folders(tmp_path / "b", first=100)
    (other / "cat" / "again.png").write_bytes(picture(3))
    with pytest.raises(OverlappingData, match='found 1 whose files are also in "first". Nothing was added'):
        add_data_set(tmp_path / "home", "second", other)
    assert [found.name for found in list_data_sets(tmp_path / "home")] == ["first"]


def test_the_same_pictures_in_other_files_get_no_second_budget(tmp_path: Path) -> None:
    add_data_set(tmp_path / "home", "first", class_folders(tmp_path / "a"))
    root = tmp_path / "b" / "cat"
    root.mkdir(parents=True)
    (root / "converted.bmp").write_bytes(picture(3, "BMP"))
    with pytest.raises(OverlappingData, match='found 1 whose pictures or texts are also in "first"'):
        add_data_set(tmp_path / "home", "second", tmp_path / "b")


def test_the_same_persons_get_no_second_budget(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 100)):
        root = class_folders(tmp_path / name / "photos", 4, first)
        rows = [("dog/000.png", "d", "p1"), ("cat/001.png", "c", f"only-{name}")]
        labels = labelled(root, rows, ("path", "label", "who"))
        if name == "a":
            add_data_set(tmp_path / "home", name, root, labels, "who")
            continue
        with pytest.raises(OverlappingData, match='found 1 whose persons are also in "a"'):
            add_data_set(tmp_path / "home", name, root, labels, "who")


def test_duplicates_are_counted_and_share_a_side(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", 4)
    for copy in range(10):
        (root / "cat" / f"copy{copy}.bmp").write_bytes(picture(0, "BMP"))
    added = add_data_set(tmp_path / "home", "pets", root)
    assert added.findings.duplicates == 10 and added.findings.conflicting == 1
    assert len({side for side, at in zip(added.split, range(14), strict=True) if at >= 2 and at < 12}) == 1


def test_size_that_is_shown_counts_the_training_units(tmp_path: Path) -> None:
    added = add_data_set(tmp_path / "home", "pets", class_folders(tmp_path / "a"))
    assert added.suggested_size == added.findings.training_units


def test_declared_classes_stand_there_also_without_a_record(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "a")
    with pytest.raises(InvalidRecords, match="Expected labels among the 1 declared classes, found"):
        add_data_set(tmp_path / "home", "pets", root, classes=("cat",))
    found = add_data_set(tmp_path / "home", "pets", root, classes=("zebra", "cat", "dog"))
    assert found.classes == ("cat", "dog", "zebra")


def test_options_that_do_not_fit_the_source_are_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", 2)
    with pytest.raises(InvalidConfig, match="A person column needs a CSV of labels or Parquet"):
        add_data_set(tmp_path / "home", "x", root, person_column="who")
    with pytest.raises(NotFound, match="There is nothing at"):
        add_data_set(tmp_path / "home", "x", tmp_path / "nowhere")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InvalidRecords, match="Expected at least 1 labelled image in nothing, found 0"):
        add_data_set(tmp_path / "home", "x", tmp_path / "nothing")


def test_an_add_that_is_cut_off_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")

    def cut(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_data_set(tmp_path / "home", "pets", root, progress=cut)
    assert list_data_sets(tmp_path / "home") == []
    assert not list((tmp_path / "home/data").rglob("*.parquet"))
    assert add_data_set(tmp_path / "home", "pets", root).findings.records == 12

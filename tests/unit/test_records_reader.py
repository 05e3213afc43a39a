"""The reader: a cache that is whole or absent, draws from the training side, one record of a person."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from participant.records.add import add_data_set
from participant.records.dataset import DataSet, open_data_set
from shared.domain.errors import Invalid, InvalidRecords
from shared.domain.extractor import ExtractorSpec
from shared.privacy.mechanism import NoiseSource

SPEC = ExtractorSpec("fixed-mlp", channels=3, height=4, width=5, embedding_dim=8)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pets(tmp_path: Path) -> DataSet:
    for number in range(40):
        folder = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(encoded(number))
    return add_data_set(tmp_path / "home", "pets", tmp_path / "photos")


@pytest.fixture
def patients(tmp_path: Path) -> DataSet:
    """40 persons: person p has 1 + p % 4 records, scattered over the file."""
    who = [person for turn in range(4) for person in range(40) if person % 4 >= turn]
    table = pa.table(
        {"image": [encoded(n) for n in range(len(who))], "label": [f"c{p % 3}" for p in who], "who": who}
    )
    pq.write_table(table, tmp_path / "p.parquet")
    return add_data_set(tmp_path / "home", "patients", tmp_path / "p.parquet", person_column="who")


def test_pixels_and_labels_come_back_in_index_order(pets: DataSet) -> None:
    reader = pets.reader(SPEC)
    numbers = [*range(1, 40, 2), *range(0, 40, 2)]  # cat's files, then dog's
    images, labels = reader.load(np.array([0, 39, 3], dtype=np.int64))
    assert images.dtype == np.uint8 and images.shape == (3, 4, 5, 3)
    for image, place in zip(images, [0, 39, 3], strict=True):
        assert np.array_equal(image, picture(numbers[place]))
    assert [reader.classes[k] for k in labels] == ["cat", "dog", "cat"] and labels.dtype == np.int64
    nothing, no_labels = reader.load(np.array([], dtype=np.int64))
    assert nothing.shape == (0, 4, 5, 3) and no_labels.shape == (0,)


def test_both_sides_together_are_all_records_and_match_the_index(pets: DataSet) -> None:
    reader = pets.reader(SPEC)
    assert sorted([*reader.training_indices, *reader.held_out_indices]) == list(range(40))
    assert [n in set(reader.held_out_indices) for n in range(40)] == list(pets.split)
    assert (reader.training_units, reader.held_out_units) == (
        pets.findings.training_units,
        pets.findings.held_out_units,
    )


def test_a_cache_is_built_once_for_each_size(pets: DataSet) -> None:
    built: list[int] = []
    pets.reader(SPEC, lambda done, total: built.append(done))
    assert built[-1] == 40
    built.clear()
    pets.reader(SPEC, lambda done, total: built.append(done))
    assert built == []
    grey = ExtractorSpec("fixed-mlp", channels=1, height=2, width=2, embedding_dim=8)
    assert pets.reader(grey).load(np.array([0]))[0].shape == (1, 2, 2, 1)
    folder = pets.home / "cache" / pets.id
    assert sorted(p.name for p in folder.glob("*.npy")) == ["1x2x2.npy", "3x4x5.npy"]


@pytest.mark.parametrize("harm", ["cut", "emptied", "other shape", "text"])
def test_an_incomplete_cache_is_built_again(pets: DataSet, harm: str) -> None:
    pets.reader(SPEC)
    path = pets.home / "cache" / pets.id / "3x4x5.npy"
    if harm == "other shape":
        np.save(path, np.zeros((39, 4, 5, 3), np.uint8))
    else:
        path.write_bytes({"cut": path.read_bytes()[:-1], "emptied": b"", "text": b"hello"}[harm])
    assert np.array_equal(pets.reader(SPEC).load(np.array([0]))[0][0], picture(1))


@pytest.mark.parametrize("step", ["add", "cache"])
def test_a_process_killed_in_the_middle_leaves_nothing_half_done(
    tmp_path: Path, pets: DataSet, step: str
) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from participant.records.add import add_data_set
        from participant.records.dataset import open_data_set
        from shared.domain.extractor import ExtractorSpec
        die = lambda done, total: os.kill(os.getpid(), signal.SIGKILL) if done else None
        home, photos, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
        if step == "add":
            add_data_set(home, "again", photos, progress=die)
        open_data_set(home, "pets").reader(ExtractorSpec("fixed-mlp", 3, 4, 5, 8), die)
    """)
    home = tmp_path / ("other" if step == "add" else "home")
    arguments = [str(home), str(tmp_path / "photos"), step]
    died = subprocess.run([sys.executable, "-c", program, *arguments], env={**os.environ}, check=False)
    assert died.returncode == -signal.SIGKILL
    if step == "add":
        assert add_data_set(home, "again", tmp_path / "photos").findings.records == 40
        return
    folder = home / "cache" / pets.id
    assert list(folder.glob("*.partial")) and not list(folder.glob("*.npy"))
    assert len(open_data_set(home, "pets").reader(SPEC).load(np.arange(40))[0]) == 40
    assert not list(folder.glob("*.partial"))


def test_a_file_changed_after_adding_is_refused_by_name(pets: DataSet, tmp_path: Path) -> None:
    (tmp_path / "photos/cat/003.png").write_bytes(encoded(999))
    (tmp_path / "photos/dog/004.png").unlink()
    with pytest.raises(InvalidRecords) as caught:
        pets.reader(SPEC)
    assert 'the files of "pets" as they were when it was added, found 2 that are not' in caught.value.message
    assert "cat/003.png: has other bytes than when it was added" in caught.value.message
    assert "dog/004.png: does not exist below the data folder" in caught.value.message
    assert not list((pets.home / "cache" / pets.id).glob("*.npy"))


def test_parquet_pixels_follow_their_rows_when_some_were_skipped(tmp_path: Path) -> None:
    images = [encoded(0), b"broken", encoded(2), encoded(3)]
    pq.write_table(pa.table({"image": images, "label": ["a", "a", "b", "b"]}), tmp_path / "x.parquet")
    added = add_data_set(tmp_path / "home", "x", tmp_path / "x.parquet", skip_bad=True)
    loaded, labels = added.reader(SPEC).load(np.arange(3))
    assert all(np.array_equal(image, picture(n)) for image, n in zip(loaded, [0, 2, 3], strict=True))
    assert labels.tolist() == [0, 1, 1]


def test_a_draw_takes_training_records_only(pets: DataSet) -> None:
    reader = pets.reader(SPEC)
    everything = reader.poisson_draw(NoiseSource(), 1.0)
    assert everything.dtype == np.int64 and everything.tolist() == reader.training_indices.tolist()
    assert reader.poisson_draw(NoiseSource(), 1e-12).shape == (0,)


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(pets: DataSet, rate: float) -> None:
    with pytest.raises(Invalid, match="A sampling rate must be above 0 and at most 1"):
        pets.reader(SPEC).poisson_draw(NoiseSource(), rate)


def test_a_person_enters_a_batch_with_one_record(patients: DataSet) -> None:
    reader = patients.reader(SPEC)
    who = pq.read_table(patients.index_path, columns=["person"])["person"].to_pylist()
    training = {who[n] for n in reader.training_indices}
    assert reader.training_units == len(training) and len(reader.training_indices) > len(training)
    drawn = reader.poisson_draw(NoiseSource(), 1.0)
    assert sorted(who[n] for n in drawn) == sorted(training)


def test_no_person_is_on_both_sides_and_validation_counts_each_once(patients: DataSet) -> None:
    reader = patients.reader(SPEC)
    who = pq.read_table(patients.index_path, columns=["person"])["person"].to_pylist()
    held_out = {who[n] for n in reader.held_out_records}
    assert not held_out & {who[n] for n in reader.training_indices}
    assert sorted(who[n] for n in reader.held_out_indices) == sorted(held_out)
    assert reader.held_out_units == len(held_out) and reader.training_units + len(held_out) == 40

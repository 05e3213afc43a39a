"""Make a data set of a source: scan all of it, list what is wrong, refuse second budgets, then commit.

Order matters after a crash: index.parquet, rejected.csv, and dataset.json last. Without dataset.json there is
no data set, and adding again starts over.
"""

from __future__ import annotations

import contextlib
import csv
import io
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from participant.records.choose import choose_source
from participant.records.dataset import (
    DataSet,
    DataSetFile,
    Findings,
    SourceTerms,
    dataset_folder,
    list_data_sets,
)
from participant.records.index import Written, count_duplicates, read_index, write_index
from participant.records.overlap import refuse_overlap
from participant.records.scan import Progress, quiet, scan
from participant.records.source import Rejected, listing
from participant.records.split import SALT_BYTES
from shared.domain.clock import Clock, SystemClock, to_text
from shared.domain.errors import AlreadyExists, InvalidRecords
from shared.domain.extractor import RecordKind
from shared.domain.files import atomic_writer, write_atomically, write_json
from shared.domain.ids import new_id
from shared.domain.locking import held_lock
from shared.domain.privacy import Unit
from shared.domain.strict import to_plain


def add_data_set(
    home: Path,
    name: str,
    path: Path,
    labels_csv: Path | None = None,
    person_column: str | None = None,
    skip_bad: bool = False,
    progress: Progress = quiet,
    clock: Clock | None = None,
    classes: tuple[str, ...] | None = None,
    text_column: str | None = None,
) -> DataSet:
    """Scan `path` (folder per class, folder + CSV, Parquet, or a CSV) and add it as the data set `name`.

    With `text_column` the records are the texts in that column of a CSV or of Parquet.

    Every record is decoded once. All that is none is listed with its reason in one InvalidRecords and in
    data/<name>/rejected.csv; with `skip_bad` it is listed there and left out. With `person_column` the privacy
    unit is the person (clause 1.1), otherwise the record.

    The data set is immutable and its `id` is what the ledger counts under, for life. To train on more
    records later, add only the new ones under another name: the same name raises AlreadyExists, and the same
    files, pictures, texts or persons under another name raise OverlappingData. Also raises NotFound,
    InvalidConfig and OutOfSpace; nothing is added whenever anything is raised.
    """
    folder = dataset_folder(home, name)
    with held_lock(home / "data" / ".lock"), _no_empty_folder(folder):
        if (folder / "dataset.json").exists():
            raise AlreadyExists(
                f'There is a data set "{name}" already. Nothing was added: a data set does not change, '
                "because its ledger counts for life. Add the new records alone, under another name."
            )
        source = choose_source(path, labels_csv, person_column, text_column)
        unit = Unit.RECORD if person_column is None else Unit.PERSON
        salt = secrets.token_bytes(SALT_BYTES)
        index = folder / "index.parquet"
        with atomic_writer(index) as file:
            written = write_index(file, scan(source, progress), unit, salt)
            _list_rejected(folder, written.rejected)
            _check(name, path, source.kind, written, skip_bad)
            declared = _declared_classes(classes, written)
        try:
            refuse_overlap(name, index, [(other.name, other.index_path) for other in list_data_sets(home)])
        except BaseException:
            index.unlink()
            raise
        dataset_file = DataSetFile(
            id=new_id("dat"),
            name=name,
            source=_terms(path, labels_csv, person_column, text_column),
            unit=unit,
            classes=declared,
            salt=salt.hex(),
            findings=_findings(index, unit, written, source.unlabelled()),
            added_at=to_text((clock or SystemClock()).now()),
        )
        write_json(folder / "dataset.json", to_plain(dataset_file))
    return DataSet(home, dataset_file)


@contextlib.contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """Where nothing is added and nothing is listed, no folder of the data set stays behind."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # it was not made, or holds rejected.csv
            folder.rmdir()
        raise


def _terms(
    path: Path, labels_csv: Path | None, person_column: str | None, text_column: str | None
) -> SourceTerms:
    labels = None if labels_csv is None else str(labels_csv.resolve())
    return SourceTerms(str(path.resolve()), labels, person_column, text_column)


def _check(name: str, path: Path, kind: RecordKind, written: Written, skip_bad: bool) -> None:
    """Raise InvalidRecords where something was rejected and may not be skipped, or where nothing is left."""
    rejected = written.rejected
    if rejected and not skip_bad:
        raise InvalidRecords(
            f"Expected every record of {path.name} to be a labelled {kind.value}, found {len(rejected)} that cannot "
            "be used:\n"
            + listing(rejected)
            + f"\nNothing was added. All are listed in data/{name}/rejected.csv: correct or remove them, or "
            "add again and skip them (--skip-bad)."
        )
    if written.records == 0:
        raise InvalidRecords(
            f"Expected at least 1 labelled {kind.value} in {path.name}, found 0. Nothing was added. A folder needs "
            "one folder per class inside, a CSV of labels, or Parquet files."
        )


def _declared_classes(classes: tuple[str, ...] | None, written: Written) -> tuple[str, ...]:
    """The data set's classes: fixed now, and the same for neighbouring data sets (docs/privacy.md)."""
    found = set(written.labels)
    if classes is None:
        return tuple(sorted(found))
    unknown = sorted(found - set(classes))
    if unknown:
        raise InvalidRecords(
            f"Expected labels among the {len(set(classes))} declared classes, found {len(unknown)} others: "
            f"{', '.join(unknown[:10])}. Nothing was added. Declare them too, or correct the labels."
        )
    return tuple(sorted(set(classes)))


def _list_rejected(folder: Path, rejected: list[Rejected]) -> None:
    """Write rejected.csv, or remove the one of an earlier attempt."""
    path = folder / "rejected.csv"
    if not rejected:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "reason"])
    writer.writerows((item.path, item.reason) for item in rejected)
    write_atomically(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _findings(index: Path, unit: Unit, written: Written, unlabelled: int) -> Findings:
    table = read_index(index, ["person", "held_out"])
    held_out = np.asarray(table["held_out"].to_numpy(), dtype=bool)
    if unit is Unit.RECORD:
        training_units, held_out_units = int((~held_out).sum()), int(held_out.sum())
    else:
        training_units = len(pc.unique(table["person"].filter(~held_out)))
        held_out_units = len(pc.unique(table["person"].filter(held_out)))
    duplicates, conflicting = count_duplicates(index)
    return Findings(
        records=written.records,
        training_units=training_units,
        held_out_units=held_out_units,
        skipped=len(written.rejected),
        duplicates=duplicates,
        conflicting=conflicting,
        unlabelled=unlabelled,
    )

"""Sources made of files: one folder per class, or one folder and a CSV of labels.

A record's file must lie inside the data folder after every symbolic link is followed. What does not is listed
by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from participant.records.source import Entry, Rejected, is_system_file, printable
from participant.records.tables import csv_rows
from shared.domain.errors import InvalidRecords
from shared.domain.extractor import RecordKind

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
)


def find_inside(root: Path, ref: str) -> Path:
    """The regular file that `ref` names below `root`. Raises InvalidRecords whose message is the reason."""
    if not ref or "\0" in ref:
        raise InvalidRecords("is not a file name")
    relative = PurePosixPath(ref)
    if relative.is_absolute():
        raise InvalidRecords("is an absolute path, expected one below the data folder; it was not opened")
    if ".." in relative.parts:
        raise InvalidRecords("climbs out of the data folder with '..'; it was not opened")
    try:
        ref.encode("utf-8")
        path = (root / relative).resolve(strict=True)
    except UnicodeEncodeError as error:
        raise InvalidRecords("has a name that is not UTF-8; rename it") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise InvalidRecords("does not exist below the data folder") from error
    if not path.is_relative_to(root):
        raise InvalidRecords("is reached by a symbolic link that leaves the data folder; it was not opened")
    if not path.is_file():
        raise InvalidRecords("is not a regular file; it was not opened")
    return path


def _beside(file: Path) -> str:
    if file.suffix.lower() == ".csv":
        return f"is no picture; where it names the pictures and their labels, add with --labels {printable(file.name)}"
    return "lies beside the class folders, so it has no label"


class _Files:
    """Shared by both forms: find a record's file again."""

    kind = RecordKind.IMAGE

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def contents(self, refs: Iterable[str]) -> Iterator[Path | bytes | Rejected]:
        for ref in refs:
            try:
                yield find_inside(self.root, ref)
            except InvalidRecords as reason:
                yield Rejected(ref, reason.message)

    def _walk(self, folder: Path) -> Iterator[tuple[str, Path | None]]:
        """(path below the root, folder-like thing that is not entered or None), sorted, links not
        followed."""
        for directory, names, files in os.walk(folder, followlinks=False):
            names.sort()
            here = Path(directory)
            for name in names:
                if (here / name).is_symlink():
                    yield (here / name).relative_to(self.root).as_posix(), here / name
            for name in sorted(files):
                if not is_system_file(name):
                    yield (here / name).relative_to(self.root).as_posix(), None


class ClassFolders(_Files):
    """`root/<class>/**/<file>`: the name of the first folder is the label."""

    def count(self) -> int:
        return sum(1 for _ in self.entries())

    def unlabelled(self) -> int:
        return 0

    def entries(self) -> Iterator[Entry | Rejected]:
        for child in sorted(self.root.iterdir()):
            name = printable(child.name)
            if is_system_file(child.name):
                continue
            if child.is_symlink():
                yield Rejected(
                    name, "is a symbolic link where a class folder is expected; it was not followed"
                )
            elif not child.is_dir():
                yield Rejected(name, _beside(child))
            elif child.name.startswith("."):
                yield Rejected(name, "is a hidden folder, not a class")
            else:
                yield from self._class(child)

    def _class(self, folder: Path) -> Iterator[Entry | Rejected]:
        empty = True
        for ref, link in self._walk(folder):
            empty = False
            if link is not None:
                yield Rejected(printable(ref), "is a symbolic link to a folder; it was not followed")
            elif Path(ref).suffix.lower() not in SUFFIXES:
                yield Rejected(printable(ref), "has no image file's ending")
            else:
                yield _entry(self.root, ref, folder.name, None)
        if empty:
            yield Rejected(printable(folder.name), "is a class folder without a file")


class LabelledFolder(_Files):
    """A folder of images and a CSV with the columns path, label and, if named, the person."""

    def __init__(self, root: Path, labels_csv: Path, person_column: str | None) -> None:
        super().__init__(root)
        self.labels_csv = labels_csv
        self.person_column = person_column

    def count(self) -> int:
        return sum(1 for _ in self._rows())

    def unlabelled(self) -> int:
        named = {PurePosixPath(path).as_posix() for _, path, _, _ in self._rows()}
        # A folder behind a link is not walked: it counts once, unless a row of the CSV leads through it.
        named |= {parent.as_posix() for path in named for parent in PurePosixPath(path).parents}
        if self.labels_csv.resolve().is_relative_to(self.root):
            named.add(self.labels_csv.resolve().relative_to(self.root).as_posix())
        return sum(ref not in named for ref, _ in self._walk(self.root))

    def entries(self) -> Iterator[Entry | Rejected]:
        first_line: dict[str, int] = {}
        for line, path, label, person in self._rows():
            ref = PurePosixPath(path).as_posix() if path else ""
            if not label:
                yield Rejected(printable(path), f"has no label (line {line})")
            elif self.person_column is not None and not person:
                yield Rejected(printable(path), f"has no {self.person_column} (line {line})")
            elif ref in first_line:
                yield Rejected(printable(path), f"is named twice (lines {first_line[ref]} and {line})")
            else:
                first_line[ref] = line
                yield _entry(self.root, ref, label, person or None)

    def _rows(self) -> Iterator[tuple[int, str, str, str]]:
        columns = ["path", "label", *([self.person_column] if self.person_column else [])]
        for line, row, _ in csv_rows(self.labels_csv, columns):
            person = row[self.person_column] if self.person_column else ""
            yield line, row["path"], row["label"].strip(), person.strip()


def _entry(root: Path, ref: str, label: str, person: str | None) -> Entry | Rejected:
    try:
        return Entry(ref, label, person, find_inside(root, ref))
    except InvalidRecords as reason:
        return Rejected(printable(ref), reason.message)

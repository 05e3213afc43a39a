"""Source made of a CSV of texts: one text a row, with its label and, if named, the person whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from participant.records.source import Entry, Rejected, printable
from participant.records.tables import Row, csv_rows
from shared.domain.extractor import RecordKind

KEPT_BYTES = "surrogateescape"
"""How bytes that are not UTF-8 go through the reading of a CSV: unchanged, so that only their row is rejected."""


class TextTable:
    """A record's reference is `<file>#<row>`, rows counted from 0. Columns: the text's, label, and the person's."""

    kind = RecordKind.TEXT

    def __init__(self, path: Path, text_column: str, person_column: str | None) -> None:
        self.path = path
        self.text_column = text_column
        self.person_column = person_column

    def count(self) -> int:
        return sum(1 for _ in self._rows())

    def unlabelled(self) -> int:
        return 0

    def entries(self) -> Iterator[Entry | Rejected]:
        for ref, line, row, behind in self._rows():
            yield self._entry(ref, line, row, behind)

    def contents(self, refs: Iterable[str]) -> Iterator[Path | bytes | Rejected]:
        rows = self._rows()
        for ref in refs:
            row = next((row for at, _, row, _ in rows if at == ref), None)
            yield Rejected(ref, "is no longer in the CSV") if row is None else self._content(row)

    def _entry(self, ref: str, line: int, row: Row, behind: bool) -> Entry | Rejected:
        if behind:
            return Rejected(ref, f"has more fields than the first line has names (line {line})")
        label, person = row["label"].strip(), None
        if not label:
            return Rejected(ref, f"has no label (line {line})")
        if self.person_column is not None:
            person = row[self.person_column].strip()
            if not person:
                return Rejected(ref, f"has no {self.person_column} (line {line})")
        if any(name != printable(name) for name in (label, person or "")):
            return Rejected(
                ref, f"has a label or {self.person_column or 'person'} that is not UTF-8 (line {line})"
            )
        return Entry(ref, label, person, self._content(row))

    def _content(self, row: Row) -> bytes:
        return row[self.text_column].encode("utf-8", KEPT_BYTES)

    def _rows(self) -> Iterator[tuple[str, int, Row, bool]]:
        columns = [self.text_column, "label", *([self.person_column] if self.person_column else [])]
        for number, (line, row, behind) in enumerate(csv_rows(self.path, columns, KEPT_BYTES)):
            yield f"{self.path.name}#{number}", line, row, behind

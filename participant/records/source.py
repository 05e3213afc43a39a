"""What every form of source offers: its entries in a fixed order, and their bytes again later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.domain.extractor import RecordKind
from shared.extractors.pictures import read_file

LISTED_AT_MOST = 20
_SYSTEM_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Entry:
    """One record as the source names it. `content` is the encoded image or text, or the file that holds it."""

    ref: str
    """Path below the data folder, `shard.parquet#row` or `table.csv#row`; unique in the source."""
    label: str
    person: str | None
    content: Path | bytes


@dataclass(frozen=True)
class Rejected:
    """One thing in the source that is no record, and why. Shown to the operator only."""

    path: str
    reason: str


class Source(Protocol):
    """A folder of classes, a folder with a CSV, Parquet, or a CSV of texts."""

    kind: RecordKind
    """Of every record in it."""

    def count(self) -> int:
        """Number of items that `entries` will yield; for progress only."""
        ...

    def entries(self) -> Iterator[Entry | Rejected]:
        """Everything that is there, the same order each time; nothing is left out silently."""
        ...

    def contents(self, refs: Iterable[str]) -> Iterator[Path | bytes | Rejected]:
        """Where the bytes of `refs` are now, one item each, in that order, which is the order of
        `entries`."""
        ...

    def unlabelled(self) -> int:
        """Number of files (and linked folders) that the labels do not name."""
        ...


def read_content(content: Path | bytes) -> bytes:
    """The encoded image or text. Raises InvalidRecords (a reason) when it is too large or cannot be read."""
    return content if isinstance(content, bytes) else read_file(content)


def is_system_file(name: str) -> bool:
    """Left by file browsers, never anybody's record; the only names that are passed over unlisted."""
    return name in _SYSTEM_FILES or name.startswith("._")


def listing(rejected: list[Rejected]) -> str:
    """One line each for an error message; of more than 20 the first 20 and how many more."""
    lines = [f"  {item.path}: {item.reason}" for item in rejected[:LISTED_AT_MOST]]
    if len(rejected) > LISTED_AT_MOST:
        lines.append(f"  and {len(rejected) - LISTED_AT_MOST} more")
    return "\n".join(lines)


def printable(text: str) -> str:
    """`text` with undecodable bytes of a file name written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

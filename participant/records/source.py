"""What every form of source offers: its entries in a fixed order, and their bytes again later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from participant.records.decode import MAXIMUM_FILE_BYTES
from shared.domain.errors import InvalidRecords

LISTED_AT_MOST = 20


@dataclass(frozen=True)
class Entry:
    """One record as the source names it. `content` is the encoded image, or the file that holds it."""

    ref: str
    """Path below the data folder, or `shard.parquet#row`; unique in the source."""
    label: str
    person: str | None
    content: Path | bytes


@dataclass(frozen=True)
class Rejected:
    """One thing in the source that is no record, and why. Shown to the operator only."""

    path: str
    reason: str


class Source(Protocol):
    """A folder of classes, a folder with a CSV, or Parquet."""

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
        """Number of image files that the labels do not name."""
        ...


def read_content(content: Path | bytes) -> bytes:
    """The encoded image. Raises InvalidRecords (a reason) when it is too large or cannot be read."""
    if isinstance(content, bytes):
        return content
    try:
        size_bytes = content.stat().st_size
        if size_bytes > MAXIMUM_FILE_BYTES:
            raise InvalidRecords(f"is larger than {MAXIMUM_FILE_BYTES} bytes (it has {size_bytes})")
        return content.read_bytes()
    except OSError as error:
        raise InvalidRecords(f"cannot be read: {error.strerror or type(error).__name__}") from error


def listing(rejected: list[Rejected]) -> str:
    """One line each for an error message; of more than 20 the first 20 and how many more."""
    lines = [f"  {item.path}: {item.reason}" for item in rejected[:LISTED_AT_MOST]]
    if len(rejected) > LISTED_AT_MOST:
        lines.append(f"  and {len(rejected) - LISTED_AT_MOST} more")
    return "\n".join(lines)


def printable(text: str) -> str:
    """`text` with undecodable bytes of a file name written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

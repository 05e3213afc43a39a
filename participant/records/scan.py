"""Decode every record of a source once: that is how corruption is found, and where digests come from."""

from __future__ import annotations

import functools
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from PIL import Image

from participant.records.digests import digest_of_content, digest_of_file_bytes
from participant.records.source import Entry, Rejected, Source, read_content
from shared.domain.errors import InvalidRecords
from shared.domain.extractor import RecordKind

Progress = Callable[[int, int], None]
"""Called with (done, total) as work goes on; shown to the operator, sent to nobody."""
_REPORT_EVERY = 64
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Scanned:
    """One readable record and what is kept of it: names and digests, no pixels."""

    ref: str
    label: str
    person: str | None
    file_digest: bytes
    pixel_digest: bytes
    """Of the picture or text that the file's bytes are."""


def quiet(done: int, total: int) -> None:
    """The progress callback that shows nothing."""


def scan(source: Source, progress: Progress = quiet) -> Iterator[Scanned | Rejected]:
    """Each entry of `source`, decoded once, in the source's order. Memory: a few images, whatever the
    size."""
    total, examine = source.count(), functools.partial(_examine, source.kind)
    progress(0, total)
    for done, item in enumerate(in_order(examine, source.entries()), start=1):
        if done % _REPORT_EVERY == 0 or done == total:
            progress(done, total)
        yield item


def in_order(function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """`map` over a few threads with a short queue (Pillow decodes without Python's lock)."""
    threads = min(4, os.cpu_count() or 1)
    waiting: deque[Future[_R]] = deque()
    with ThreadPoolExecutor(threads) as pool, warnings.catch_warnings():
        # Pillow warns where pictures.py refuses; a warning printed between progress lines helps nobody.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _examine(kind: RecordKind, entry: Entry | Rejected) -> Scanned | Rejected:
    if isinstance(entry, Rejected):
        return entry
    try:
        data = read_content(entry.content)
        pixels = digest_of_content(data, kind)
    except InvalidRecords as reason:
        return Rejected(entry.ref, reason.message)
    return Scanned(entry.ref, entry.label, entry.person, digest_of_file_bytes(data), pixels)

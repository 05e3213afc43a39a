"""The audit log as files: CSV for a spreadsheet, JSON lines to recompute the chain somewhere else.

A JSON line has the fields of AuditEvent; `salt` only where the line was written with one. Its hash is SHA-256 over
the canonical JSON (shared/domain/canonical.py) of all of them but `hash`; `prev_hash` is the hash of the line
before, and of line 1 sixty-four zeros. Whoever is given an export can tell what its lines say by their hashes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from coordinator.audit.countersignatures import every
from coordinator.audit.log import AuditEvent, read_head
from coordinator.audit.search import Wanted, find
from coordinator.storage.database import reading
from shared.domain.canonical import canonical_bytes
from shared.domain.strict import to_plain

_BATCH = 1000
_COLUMNS = ("seq", "at", "actor", "action", "subject", "detail", "prev_hash", "hash", "salt")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def json_lines(engine: sa.Engine, wanted: Wanted) -> Iterator[bytes]:
    """Canonical JSON, one line an entry, oldest first."""
    for event in _events(engine, wanted):
        yield canonical_bytes(to_plain(event)) + b"\n"


def csv_lines(engine: sa.Engine, wanted: Wanted) -> Iterator[bytes]:
    """The same for a spreadsheet. A cell that it would take for a formula begins with an apostrophe."""
    yield _row(_COLUMNS)
    for event in _events(engine, wanted):
        fields = vars(event) | {"detail": canonical_bytes(event.detail).decode()}
        yield _row(str(fields[name]) for name in _COLUMNS)


def countersignature_lines(engine: sa.Engine, roll_key: str) -> Iterator[bytes]:
    """Every countersignature with the signer's key on the roll, as JSON lines: to be kept elsewhere."""
    with reading(engine) as connection:
        found = list(every(connection, roll_key))
    for one in found:
        yield canonical_bytes(one.view().model_dump()) + b"\n"


def _events(engine: sa.Engine, wanted: Wanted) -> Iterator[AuditEvent]:
    """Up to the head of now. A transaction a batch: a slow reader must not keep one open for minutes."""
    with reading(engine) as connection:
        end, after = read_head(connection).seq, 0
    while True:
        with reading(engine) as connection:
            batch = find(connection, wanted, after=after, before=end + 1, limit=_BATCH)
        yield from batch
        if len(batch) < _BATCH:
            return
        after = batch[-1].seq


def _row(cells: Iterable[str]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerow(f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells)
    return file.getvalue().encode("utf-8")

"""An append-only, hash-chained file of JSON lines: what is written cannot be changed unseen (clause 7.1).

Each line carries its number, the digest of the line before it and its own digest. Beside the file lies
`<name>.head` with number and digest of the newest line, replaced after every append. Together they show:

 - a line edited, removed, swapped or inserted: the chain does not close;
 - lines cut from the end, an older copy put back, or the whole chain computed anew: the head disagrees;
 - the file deleted alone: the head is there without it.

Whoever rewrites both files, or restores an older copy of both, is not caught: the member trusts its own
machine (clause 0), and a restored backup of the home folder forgets what was spent since.

A crash can leave one torn last line (no line end). It was never acknowledged, so the next writer drops it
and notes that in a line of its own. A crash between append and head leaves a head one line behind; fine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.domain.canonical import Digest, canonical_bytes, digest_of
from shared.domain.clock import Clock, to_text
from shared.domain.errors import BrokenChain, CommonlensError, OutOfSpace
from shared.domain.files import read_json, sync, sync_folder, write_json

OPENED, TORN = "opened", "torn"
"""Kinds of lines that the chain writes itself: the first one, and the note about a dropped tail."""
_NOTHING_BEFORE = Digest("sha256:" + 64 * "0")
_KEYS = {"at", "content", "digest", "kind", "previous", "sequence"}


@dataclass(frozen=True)
class Line:
    """One verified line; sequence counts from 0, recorded_at is UTC text of the member's clock."""

    sequence: int
    recorded_at: str
    kind: str
    content: Mapping[str, Any]
    digest: Digest


class ChainedFile:
    """The file at `path`, verified as far as it was read. Safe for threads and for several processes."""

    def __init__(self, path: Path, file_format: str, clock: Clock) -> None:
        self.lines: list[Line] = []
        self._path = path
        self._head_path = path.with_name(path.name + ".head")
        self._format = file_format
        self._clock = clock
        self._lock = threading.RLock()
        self._descriptor = -1
        self._read_bytes = 0
        self._last_raw = b""

    def refresh(self) -> None:
        """Read and verify what was added since the last look; takes no lock on the file.

        Raises BrokenChain. A torn last line, perhaps one that is being written now, is left out.
        """
        with self._lock:
            # The head before the file: a writer in between only makes the file longer than the head says.
            head = self._read_head()
            try:
                with self._path.open("rb") as file:
                    file.seek(self._read_bytes - len(self._last_raw))
                    self._take_in(file.read())
            except FileNotFoundError:
                if self.lines:
                    raise self._broken(f"{len(self.lines)} entries", "no file") from None
            self._check_head(head)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file for writing, alone on this machine, with everything verified up to its end.

        Creates the file when there is none; drops and notes a torn last line. Raises BrokenChain, OutOfSpace.
        """
        with self._lock:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Not `held_lock`: the file itself is locked, and written through the descriptor that holds the lock.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                self._descriptor = descriptor
                self.refresh()
                self._drop_torn_tail()
                if not self.lines:
                    self.append(OPENED, {"format": self._format})
                    sync_folder(self._path.parent)
                yield
            finally:
                self._descriptor = -1
                os.close(descriptor)

    def append(self, kind: str, content: Mapping[str, Any]) -> Line:
        """Add one line inside `locked`; it is on disk (fsync) when this returns. Raises OutOfSpace."""
        body = {
            "at": to_text(self._clock.now()),
            "content": dict(content),
            "kind": kind,
            "previous": self.lines[-1].digest if self.lines else _NOTHING_BEFORE,
            "sequence": len(self.lines),
        }
        raw = canonical_bytes({**body, "digest": digest_of(body)}) + b"\n"
        self._write(raw)
        line = self._verified(raw[:-1])
        self._accept(line, raw)
        write_json(self._head_path, {"digest": line.digest, "sequence": line.sequence})
        return line

    def _write(self, raw: bytes) -> None:
        try:
            written = 0
            while written < len(raw):
                written += os.write(self._descriptor, raw[written:])
            sync(self._descriptor)
        except OSError as error:
            # Whatever of the line arrived was not acknowledged; at worst it stays as a torn line.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._read_bytes)
                sync(self._descriptor)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutOfSpace(
                    f"The disk that holds {self._path.name} is full. The entry was not written and "
                    "nothing was charged. Free some space and try again."
                ) from error
            raise

    def _take_in(self, data: bytes) -> None:
        # The last line known is read again: a file put in place of this one must at least agree on it.
        if not data.startswith(self._last_raw):
            raise self._broken(f"entry {len(self.lines) - 1} where it was", "other bytes or none")
        whole = data[len(self._last_raw) :].split(b"\n")[:-1]
        for raw in whole:
            self._accept(self._verified(raw), raw + b"\n")

    def _accept(self, line: Line, raw: bytes) -> None:
        self.lines.append(line)
        self._last_raw = raw
        self._read_bytes += len(raw)

    def _verified(self, raw: bytes) -> Line:
        """`raw` as the next line of the chain. Raises BrokenChain."""
        sequence = len(self.lines)
        try:
            value = json.loads(raw)
            exact = isinstance(value, dict) and set(value) == _KEYS and canonical_bytes(value) == raw
        except (ValueError, RecursionError, CommonlensError):
            exact = False
        if not exact:
            raise self._broken(f"entry {sequence} in canonical form", "something else")
        digest = value.pop("digest")
        previous = self.lines[-1].digest if self.lines else _NOTHING_BEFORE
        if value["sequence"] != sequence:
            raise self._broken(f"entry {sequence}", f"one numbered {value['sequence']!r}")
        if value["previous"] != previous:
            raise self._broken(f"entry {sequence} to continue {previous}", f"{value['previous']!r}")
        if digest_of(value) != digest:
            raise self._broken(f"entry {sequence} to have the digest {digest!r}", digest_of(value))
        if sequence == 0 and (value["kind"] != OPENED or value["content"] != {"format": self._format}):
            raise self._broken(f"a first entry that opens {self._format}", f"{value['content']!r}")
        if not isinstance(value["content"], dict):
            raise self._broken(f"entry {sequence} to have content", type(value["content"]).__name__)
        return Line(sequence, str(value["at"]), str(value["kind"]), value["content"], digest)

    def _drop_torn_tail(self) -> None:
        torn_bytes = os.fstat(self._descriptor).st_size - self._read_bytes
        if torn_bytes > 0:
            os.ftruncate(self._descriptor, self._read_bytes)
            sync(self._descriptor)
            if self.lines:
                self.append(TORN, {"dropped_bytes": torn_bytes})

    def _read_head(self) -> tuple[int, str] | None:
        if not self._head_path.exists():
            return None
        try:
            head = read_json(self._head_path)
            return int(head["sequence"]), str(head["digest"])
        except (CommonlensError, KeyError, TypeError, ValueError) as error:
            raise self._broken("a head with a sequence and a digest", "something else") from error

    def _check_head(self, head: tuple[int, str] | None) -> None:
        if head is None:
            # A crash may come between the very first line, which says nothing, and its head.
            if len(self.lines) > 1:
                raise self._broken(f"{self._head_path.name} beside {len(self.lines)} entries", "no such file")
            return
        sequence, digest = head
        if not 0 <= sequence < len(self.lines):
            raise self._broken(f"at least {sequence + 1} entries", f"{len(self.lines)}")
        if self.lines[sequence].digest != digest:
            raise self._broken(f"entry {sequence} to have the digest {digest}", self.lines[sequence].digest)

    def _broken(self, expected: str, found: str) -> BrokenChain:
        return BrokenChain(
            f"{self._path.name} was changed outside Commonlens: expected {expected}, found {found}. "
            f"Nothing was charged and nothing will be until it is whole. Put back {self._path.name} and "
            f"{self._head_path.name} as they were; an older copy will not do."
        )

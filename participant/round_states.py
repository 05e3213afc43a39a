"""One member's secure rounds on disk, one file a round, and the newest of them in memory (clauses 3.8, 5).

A file begins with a whole state; each later step adds one line with the fields that it set. So a step writes what
is new in it, and what a restart reads is the lines in their order. The answer to unmasking, which drops every
secret, puts a new file in place of the old one. A crash can leave one torn last line (no line end): its step
was never answered, so it counts for nothing.

What is in memory is never ahead of the disk: it is dropped when a step or its writing fails, and used only while
the file is the one that it was written to. The caller holds the node's lock.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.domain.canonical import canonical_bytes
from shared.domain.errors import Invalid, NotFound, OutOfSpace
from shared.domain.files import sync, write_atomically
from shared.secagg.member import MemberRound
from shared.secagg.member_state import RoundState, Stage
from shared.secagg.roster import Sign

MOST_HELD = 4
"""Rounds in memory; of one run two are used in turns."""
Mark = tuple[int, int, int]
"""Inode, size and time of the last change of a file, in nanoseconds."""


@dataclass(frozen=True)
class _Held:
    """A round in memory, the state of it that is on disk, and the file that has it."""

    round: MemberRound
    written: RoundState
    mark: Mark


class RoundStates:
    """The folder of these files, one folder a run."""

    def __init__(self, folder: Path, sign: Sign) -> None:
        self._folder = folder
        self._sign = sign
        self._held: dict[Path, _Held] = {}

    def put(self, fresh: MemberRound) -> None:
        """A round that was just opened, in place of an older one if there is any."""
        self._held.pop(self._path_of(fresh), None)
        self._write(fresh)

    def read(self, run_id: str, round_number: int) -> MemberRound:
        """The round as it is on disk; to be changed inside `step` only. Raises NotFound, Invalid, InvalidConfig."""
        path = self._path(run_id, round_number)
        mark, held = mark_of(path), self._held.pop(path, None)
        if mark is None:
            raise NotFound(
                f"This member has no keys for round {round_number}: none were made, or the round is over. "
                "Nothing was done. The coordinator has to ask for new keys."
            )
        if held is None or held.mark != mark:
            current = MemberRound.from_plain(_whole_state(path), self._sign)
            held = _Held(current, current.state, mark_of(path) or mark)
        self._held[path] = held
        while len(self._held) > MOST_HELD:
            del self._held[next(iter(self._held))]
        return held.round

    @contextlib.contextmanager
    def step(self, run_id: str, round_number: int) -> Iterator[MemberRound]:
        """The round, for one step: what it changed is on disk when the block ends. Raises as `read`, OutOfSpace."""
        current = self.read(run_id, round_number)
        try:
            yield current
            self._write(current)
        except BaseException:
            self._held.pop(self._path(run_id, round_number), None)
            raise

    def forget(self, run_id: str, round_number: int) -> None:
        """Read this round from disk the next time."""
        self._held.pop(self._path(run_id, round_number), None)

    def newest(self, run_id: str) -> int | None:
        """The highest round that there are keys for."""
        return max((int(path.stem) for path in self._paths(run_id)), default=None)

    def delete_before(self, run_id: str, round_number: int) -> None:
        """Delete the rounds below this one."""
        for path in self._paths(run_id):
            if int(path.stem) < round_number:
                path.unlink(missing_ok=True)
                self._held.pop(path, None)

    def delete_untouched_since(self, moment: datetime) -> None:
        """Delete every round of every run whose file was last written before `moment`, and empty folders."""
        for path in self._folder.glob("*/*.jsonl"):
            if path.stat().st_mtime < moment.timestamp():
                path.unlink(missing_ok=True)
                self._held.pop(path, None)
        for folder in self._folder.glob("*/"):
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()

    def _write(self, current: MemberRound) -> None:
        path, state = self._path_of(current), current.state
        held = self._held.pop(path, None)
        changes = state.changes_since(held.written) if held else {}
        if held and not changes:
            self._held[path] = held
            return
        # An answer takes secrets out of the file, which no further line could.
        if held is None or held.mark != mark_of(path) or state.stage is Stage.ANSWERED:
            write_atomically(path, canonical_bytes(current.to_plain()) + b"\n")
        else:
            _append(path, canonical_bytes(changes) + b"\n")
        mark = mark_of(path)
        if mark is not None:
            self._held[path] = _Held(current, state, mark)

    def _path_of(self, current: MemberRound) -> Path:
        return self._path(current.terms.run_id, current.terms.round_number)

    def _path(self, run_id: str, round_number: int) -> Path:
        return self._folder / run_id / f"{round_number:06d}.jsonl"

    def _paths(self, run_id: str) -> list[Path]:
        return list((self._folder / run_id).glob("*.jsonl"))


def mark_of(path: Path) -> Mark | None:
    """What changes when the file does; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _whole_state(path: Path) -> dict[str, Any]:
    """The lines of the file, each over those before it; a torn last one is cut off the file."""
    data = path.read_bytes()
    lines, torn = data[: data.rfind(b"\n") + 1], data[data.rfind(b"\n") + 1 :]
    try:
        state: dict[str, Any] = {}
        for line in lines.splitlines():
            state |= json.loads(line)
    except (ValueError, TypeError) as error:
        raise Invalid(
            f"{path.name} holds a line that is not a table of JSON: {error}. Nothing was done. The round cannot "
            "go on here."
        ) from error
    if torn:
        os.truncate(path, len(lines))
    return state


def _append(path: Path, line: bytes) -> None:
    """One line, on disk when this returns. Raises OutOfSpace; then the file is as before, or ends with a torn line."""
    size_bytes = path.stat().st_size
    try:
        with path.open("ab", buffering=0) as file:
            written = file.write(line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "a short write")
            sync(file.fileno())
    except OSError as error:
        # A whole line that is not durable would be read as a step that was recorded, and a power cut undoes it.
        with contextlib.suppress(OSError):
            os.truncate(path, size_bytes)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"The disk that holds {path.name} is full. The step was not recorded, so it was not answered. "
                "Free some space; the coordinator asks again."
            ) from error
        raise

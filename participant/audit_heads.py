"""This member's signature under the coordinator's audit log: whoever rewrites the log later cannot make it again.

The node looks at the log's last line (its number and hash, nothing of what it says) and signs it with the identity
key, after asking what the log has today at the line that it signed before. It never signs a log that went back.
Trusting the coordinator is not needed: all that this member ever signed stays in audit_heads.jsonl, and can be held
against an export of the log.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from participant.enrol import read_link
from participant.home import Home
from shared.domain.canonical import canonical_bytes
from shared.domain.clock import Clock, SystemClock, to_text
from shared.domain.errors import BrokenChain, CommonlensError, Invalid, RolledBack
from shared.domain.files import sync, sync_folder
from shared.domain.locking import held_lock
from shared.domain.strict import build, to_plain
from shared.release.signing import SigningKey
from shared.wire.audit import KIND, AuditHead, CountersignatureRequest, SignedHead

LEAST_PAUSE_S = 600.0
"""Between two looks of one process; the first comes at once."""
_TAIL_BYTES = 4096
"""More than a line of the file has."""


class HeadSource(Protocol):
    """The coordinator's audit log, as far as a member sees it."""

    def audit_head(self, earlier: int) -> AuditHead:
        """Its last line, and the hash of the line `earlier`."""
        ...

    def send_countersignature(self, request: CountersignatureRequest) -> None:
        """Hand a signature in."""
        ...


@dataclass(frozen=True)
class KeptHead:
    """One line of audit_heads.jsonl."""

    member_id: str
    seq: int
    hash: str
    at: str
    signature: str


def newest_head(home: Home) -> KeptHead | None:
    """What this member signed last, or None. A line that a crash left unfinished was never sent."""
    try:
        with home.audit_heads.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            whole, end, _ = file.read().rpartition(b"\n")
    except FileNotFoundError:
        return None
    if not end:
        return None
    try:
        fields = json.loads(whole.rpartition(b"\n")[2])
    except ValueError as error:
        raise Invalid(
            f"The last line of {home.audit_heads.name} is not JSON. Nothing was signed. Put it back from a backup, or "
            "move it away to begin anew."
        ) from error
    return build(KeptHead, fields, home.audit_heads.name)


class HeadWatch:
    """Countersigns the log beside the rounds. One instance per node; tests pass another clock and no pause."""

    def __init__(
        self,
        home: Home,
        source: HeadSource,
        say: Callable[[str], None],
        clock: Clock | None = None,
        pause_s: float = LEAST_PAUSE_S,
    ) -> None:
        self._home = home
        self._source = source
        self._say = say
        self._clock = clock or SystemClock()
        self._pause_s = pause_s
        self._looked = -math.inf
        self._said: set[str] = set()

    def look(self) -> None:
        """Look and countersign. Says what is wrong, each thing once, and raises nothing."""
        if time.monotonic() - self._looked < self._pause_s:
            return
        self._looked = time.monotonic()
        try:
            with held_lock(self._home.root / "audit.lock"):
                countersign(self._home, self._source, self._clock)
        except CommonlensError as error:
            if error.message not in self._said:
                self._said.add(error.message)
                self._say(error.message)


def countersign(home: Home, source: HeadSource, clock: Clock) -> None:
    """Sign the log's head, keep the signature, then hand it in.

    Raises RolledBack for a log that lost lines, BrokenChain for one that has another hash at a line signed before.
    """
    kept = newest_head(home)
    head = source.audit_head(kept.seq if kept else 0)
    if head.seq == 0:
        return
    if kept is not None:
        _check_same_log(kept, head, source)
    if kept is None or kept.seq < head.seq:
        kept = _signed(home, head, clock)
        _append(home, kept)  # on disk before it is sent: what others hold of this member, it holds too
    _hand_in(source, kept)


def _hand_in(source: HeadSource, kept: KeptHead) -> None:
    source.send_countersignature(
        CountersignatureRequest(seq=kept.seq, hash=kept.hash, at=kept.at, signature=kept.signature)
    )


def _check_same_log(kept: KeptHead, head: AuditHead, source: HeadSource) -> None:
    tell = "It was not countersigned. Keep audit_heads.jsonl, and tell the consortium's auditor and the other members."
    if head.seq < kept.seq:
        raise RolledBack(
            f"The coordinator's audit log has {head.seq} lines; this member countersigned line {kept.seq} on "
            f"{kept.at}. The log lost lines. {tell}"
        )
    found = head.hash if head.seq == kept.seq else head.earlier_hash
    if found is None:
        # A member is told the hash only of a line whose countersignature arrived: perhaps this one never did.
        with contextlib.suppress(
            BrokenChain
        ):  # it has another hash there: said below in this node's own words
            _hand_in(source, kept)
            found = source.audit_head(kept.seq).earlier_hash
    if found != kept.hash:
        raise BrokenChain(
            f"Line {kept.seq} of the coordinator's audit log had the hash {kept.hash} when this member countersigned "
            f"it on {kept.at}; now it has {found or 'another one, or none'}. The log was rewritten. {tell}"
        )


def _signed(home: Home, head: AuditHead, clock: Clock) -> KeptHead:
    signed = SignedHead(
        member_id=read_link(home.root).member_id, seq=head.seq, hash=head.hash, at=to_text(clock.now())
    )
    signature = SigningKey.load(home.identity_key).sign_value(KIND, signed.model_dump())
    return KeptHead(**signed.model_dump(), signature=signature)


def _append(home: Home, kept: KeptHead) -> None:
    line = canonical_bytes(to_plain(kept)) + b"\n"
    descriptor = os.open(home.audit_heads, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
        file.truncate(size - len(tail.rpartition(b"\n")[2]))  # what a crash left unfinished
        file.seek(0, os.SEEK_END)
        file.write(line)
        file.flush()
        sync(file.fileno())
    sync_folder(home.root)

"""What people ask of releases: what each claims, whether its proofs hold today, how often it was fetched; withdrawing.

The files are the truth (shelf.py). What was read from them is kept in memory for as long as they are the very same
files, because looking at a page must not cost a verification each time.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.audit.masking import holds_secret
from coordinator.registry.build import Export
from coordinator.registry.claims import Claimed, ClaimedExtractor, other_manifest, read_claims
from coordinator.registry.downloads import DownloadCounts
from coordinator.registry.kept import Kept, stamp
from coordinator.registry.shelf import Shelf, point_channel, read_catalogue, yank
from coordinator.registry.standard import keep_standard
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import audit_events
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.errors import CommonlensError, IllegalMove, Invalid, NotFound
from shared.domain.ids import ReleaseId
from shared.domain.release import (
    EXTRACTOR_NAME,
    HIGHEST_NUMBER,
    MOST_REASON_CHARACTERS,
    Catalogue,
    CatalogueEntry,
)
from shared.explanation import Explanation, explain
from shared.release.envelope import parse_document
from shared.verification import Proof, VerifiedRelease, verify_extractor
from shared.wire.problems import to_problem

CHECK_LIFETIME_S: Final = 3600.0
"""Proofs also speak of today (the trust document's time), so they are checked again after this."""
LEAST_PAUSE_S: Final = 60.0
"""Between two verifications of the same files, whoever asks and however often."""
YANK_ACTION: Final = "release.yank"


@dataclass(frozen=True)
class Checked:
    """What a verification gave, and when."""

    at: str
    seconds: float
    problem: str
    """Which proof failed and why; "" where all hold."""
    facts: Explanation | None
    """What was proven of who spent what; None where a proof failed, or where nobody trained it."""
    proofs: tuple[Proof, ...] = ()
    """Those that held; none where one failed."""


@dataclass(frozen=True)
class Withdrawal:
    """Why a release is not offered any more."""

    at: str
    reason: str


class ReleaseService:
    """One instance per coordinator; may be asked from several threads."""

    def __init__(self, home: Path, engine: sa.Engine, clock: Clock) -> None:
        self.home = home
        self.downloads = DownloadCounts(engine)
        self._shelf = Shelf(home)
        self._engine = engine
        self._clock = clock
        self._claims: Kept[ClaimedExtractor] = Kept()
        self._checks: Kept[Checked] = Kept()
        self._running: dict[Hashable, Future[Checked]] = {}
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="verify")

    def catalogue(self) -> Catalogue:
        """What is visible."""
        return read_catalogue(self._shelf, self._clock)

    def find(self, extractor_name: str, number: str) -> CatalogueEntry:
        """The release at an address. Raises NotFound for whatever names none, however it is written."""
        plain = number.isascii() and number.isdecimal() and number == number.lstrip("0")
        if EXTRACTOR_NAME.match(extractor_name) and plain and len(number) <= len(str(HIGHEST_NUMBER)):
            for entry in self.catalogue().releases:
                if (entry.extractor_name, entry.number) == (extractor_name, int(number)):
                    return entry
        raise NotFound("There is no such release. Nothing was done. Look for it under Extractors.")

    def folder(self, entry: CatalogueEntry) -> Path:
        """Where its files are."""
        return self._shelf.folder(entry.extractor_name, entry.number)

    def claimed(self, entry: CatalogueEntry) -> Claimed:
        """`claimed_extractor` of a release that a run trained. Raises NotFound too, for one that none did."""
        found = self.claimed_extractor(entry)
        if not isinstance(found, Claimed):
            raise NotFound(
                f"{entry.id} was not trained here: it saw no member's records, so there is no plan and no certificate. "
                "Nothing was done. Ask about a release that a run trained."
            )
        return found

    def claimed_extractor(self, entry: CatalogueEntry) -> ClaimedExtractor:
        """What its files say. Raises Invalid, DigestMismatch where they do not fit the catalogue."""
        folder = self.folder(entry)
        return self._claims.get((stamp(folder), entry.manifest_digest), lambda: read_claims(folder, entry))

    def check(self, entry: CatalogueEntry) -> Checked:
        """Every proof, checked here under this coordinator's own root; at most CHECK_LIFETIME_S ago."""
        return self._checking(entry, CHECK_LIFETIME_S).result()

    def check_within(self, entry: CatalogueEntry, patience_s: float, again: bool = False) -> Checked | None:
        """The same; None where it takes longer. It goes on, for whoever asks next.

        With `again`, at most LEAST_PAUSE_S ago.
        """
        try:
            return self._checking(entry, LEAST_PAUSE_S if again else CHECK_LIFETIME_S).result(patience_s)
        except TimeoutError:
            return None

    def _checking(self, entry: CatalogueEntry, lifetime_s: float) -> Future[Checked]:
        """One verification at a time, and one for all who ask for it: a large release takes seconds."""
        files = (stamp(self.folder(entry)), entry.manifest_digest)
        with self._lock:
            kept = self._checks.peek(files)
            if kept is not None and self._age_s(kept) < lifetime_s:
                done: Future[Checked] = Future()
                done.set_result(kept)
                return done
            if files not in self._running:
                self._running[files] = self._worker.submit(self._verify, entry, files)
            return self._running[files]

    def _age_s(self, checked: Checked) -> float:
        """Without end for one that a clock that was put back says is yet to come."""
        age_s = (self._clock.now() - from_text(checked.at)).total_seconds()
        return age_s if age_s >= 0.0 else math.inf

    def withdraw(self, release: str, actor: str, reason: str) -> None:
        """Take a release out of what is offered, for a reason that everybody is told.

        Raises NotFound, IllegalMove where it is withdrawn already, Invalid for a reason that cannot be shown.
        """
        told = reason.strip()
        if not 1 <= len(told) <= MOST_REASON_CHARACTERS or not told.isprintable() or holds_secret(told):
            raise Invalid(
                f"A reason is one line of 1 to {MOST_REASON_CHARACTERS} characters without a secret, this one has "
                f"{len(told)}. Nothing was withdrawn. Say in a sentence why members should not use the release."
            )
        entry = self.catalogue().entry(release)
        if entry is not None and entry.yanked:
            raise IllegalMove(f"{release} is withdrawn already. Nothing was changed. Leave it as it is.")
        # Inside the transaction: where the audit log cannot be written to, nothing is withdrawn.
        with writing(self._engine) as connection:
            append(connection, self._clock, actor, YANK_ACTION, release[:120], {"reason": told})
            yank(self.home, release, self._clock, told)

    def point(self, extractor_name: str, channel: str, release: str, actor: str) -> None:
        """Move a channel to `release`, or take it away where that is "". Raises as `point_channel`."""
        with writing(self._engine) as connection:
            subject = f"{extractor_name[:64]}:{channel[:32]}"
            append(connection, self._clock, actor, "channel.move", subject, {"release": release[:80]})
            point_channel(self.home, extractor_name, channel, release, self._clock)

    def keep_standard(self, name: str, actor: str, export: Export, niceness: int = 0) -> ReleaseId:
        """Put a standard extractor into the library; its release. Raises as `keep_standard` of standard.py."""
        self._note(actor, "release.keep-begun", name[:64], {})
        try:
            release = keep_standard(self.home, name, self._clock, export, niceness)
        except Exception as error:
            self._note(actor, "release.refused", name[:64], {"code": to_problem(error).code})
            raise
        self._note(actor, "release.keep", str(release), {"standard": name[:64]})
        return release

    def withdrawal(self, entry: CatalogueEntry) -> Withdrawal | None:
        """Why it was withdrawn, as the catalogue says, and when, as the audit log has it; None for what is offered.

        Before reasons were signed the log alone had them.
        """
        if not entry.yanked:
            return None
        table = audit_events
        query = (
            sa.select(table.c.at, table.c.detail)
            .where((table.c.action == YANK_ACTION) & (table.c.subject == entry.id))
            .order_by(table.c.seq.desc())
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None:  # the database was restored from before
            return Withdrawal("", entry.reason)
        detail = parse_document(row.detail.encode("utf-8"), "audit line")
        return Withdrawal(row.at, entry.reason or str(detail.get("reason", "")))

    def _note(self, actor: str, action: str, subject: str, detail: dict[str, str]) -> None:
        with writing(self._engine) as connection:
            append(connection, self._clock, actor, action, subject, detail)

    def _verify(self, entry: CatalogueEntry, files: Hashable) -> Checked:
        try:
            return self._checks.put(files, self._verified(entry))
        finally:
            with self._lock:
                self._running.pop(files, None)

    def _verified(self, entry: CatalogueEntry) -> Checked:
        began = time.monotonic()
        problem, facts = "", None
        proofs: tuple[Proof, ...] = ()
        try:
            root = self._shelf.trust().root.fingerprint
            with self._shelf.large.whole(self.folder(entry)) as complete:
                verified = verify_extractor(complete, pinned_root=root, clock=self._clock)
            if verified.manifest_digest != entry.manifest_digest:
                raise other_manifest(entry, verified.manifest_digest)
            proofs = verified.proofs
            facts = explain(verified) if isinstance(verified, VerifiedRelease) else None
        except CommonlensError as error:
            problem = error.message.replace(f"{self.home}/", "")
        return Checked(to_text(self._clock.now()), time.monotonic() - began, problem, facts, proofs)

"""Step 13: from a checkpoint to a signed release that everybody may see (clause 9.1).

    13.1 intent      which number this will be, for which run and checkpoint
    13.2 build       every file, in a hidden folder; what needs torch in a process of its own
    13.3 sign        the manifest, then the whole folder
    13.4 verify      with the very code that a member uses
    13.5 place       one rename
    13.5.1 store     large files into the object store, where there is one; each read back before it goes from here
    13.6 show        the catalogue, signed again: only now is it visible

After a crash between any two steps, publishing again (or anything else) first finishes or clears what was
begun: no number is skipped or used twice, and nothing half made is ever visible.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.registry.build import (
    Export,
    KeepRequest,
    PublishRequest,
    ReleaseSlot,
    build_files,
    key_of,
)
from coordinator.registry.shelf import Shelf, read_catalogue, write_catalogue
from shared.domain.clock import Clock, to_text
from shared.domain.errors import IllegalMove, NotFound
from shared.domain.files import sync_folder, write_json
from shared.domain.ids import ReleaseId
from shared.domain.release import ABOUT_FILE, MANIFEST_FILE, CatalogueEntry, release_id
from shared.domain.strict import build, to_plain
from shared.release import limits
from shared.release.about import parse_about
from shared.release.envelope import read_bounded, read_document
from shared.release.manifest import parse_manifest, sign_manifest
from shared.verification import verify_extractor


@dataclass(frozen=True)
class Intent:
    """Step 13.1 on disk."""

    release: str
    extractor_name: str
    number: int
    previous: str | None
    created_at: str
    key: str
    """What makes two requests the same."""


def publish(
    home: Path,
    request: PublishRequest | KeepRequest,
    clock: Clock,
    after_step: Callable[[str], None] = lambda step: None,
    *,
    export: Export,
) -> ReleaseId:
    """Make the release and show it; its id. The same request again gives the same id and changes nothing.

    `after_step` is told each step as it ends. Raises InvalidWeights, NotTrusted leaves (13.4), UnsoundPlan
    for an ε that is not finite, OutOfSpace, what `export` and `LargeFiles.put_away` raise; then nothing new is visible.
    IllegalMove where the release is there with other notes.
    """
    shelf = Shelf(home)
    name = request.extractor_name
    release_id(name, 1)
    with shelf.alone():
        _settle(shelf, name, clock)
        key = request.key
        done = already_published(shelf, key, name, clock)
        if done is not None:
            _require_same_notes(shelf, done, request)
            return done
        intent = _intent(shelf, key, name, clock)
        after_step("13.1 intent")
        folder = shelf.building(intent.release)
        slot = ReleaseSlot(intent.number, intent.previous, intent.created_at)
        manifest = build_files(folder, request, slot, shelf.trust_envelope(), export)
        after_step("13.2 build")
        write_json(folder / MANIFEST_FILE, sign_manifest(manifest, shelf.release_key()), mode=0o644)
        shelf.sign_folder(folder)
        after_step("13.3 sign")
        verify_extractor(folder, pinned_root=shelf.trust().root.fingerprint, clock=clock)
        after_step("13.4 verify")
        _place(folder, shelf.folder(name, intent.number))
        after_step("13.5 place")
        shelf.large.put_away(shelf.folder(name, intent.number))
        after_step("13.5.1 store")
        _show(shelf, intent, clock)
        after_step("13.6 show")
        shelf.intent(name).unlink()
    return ReleaseId(intent.release)


def _settle(shelf: Shelf, extractor_name: str, clock: Clock) -> None:
    """Finish what a crash left after step 13.5; clear what it left before."""
    intent = _read_intent(shelf, extractor_name)
    if intent is None:
        return
    shutil.rmtree(shelf.building(intent.release).parent, ignore_errors=True)
    listed = read_catalogue(shelf, clock).entry(intent.release) is not None
    placed = shelf.folder(extractor_name, intent.number).is_dir()
    if placed and not listed:
        # It was verified before it was placed, so all that is missing is to store and to show it.
        shelf.large.put_away(shelf.folder(extractor_name, intent.number))
        _show(shelf, intent, clock)
    if placed:
        shelf.intent(extractor_name).unlink()


def already_published(shelf: Shelf, key: str, extractor_name: str, clock: Clock) -> ReleaseId | None:
    """The release that was made for the request of this key, or None."""
    for entry in read_catalogue(shelf, clock).releases:
        if entry.extractor_name == extractor_name:
            folder = shelf.folder(extractor_name, entry.number)
            manifest = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)).claimed
            if key_of(manifest) == key:
                return ReleaseId(entry.id)
    return None


def _require_same_notes(shelf: Shelf, release: ReleaseId, request: PublishRequest | KeepRequest) -> None:
    """Whoever sends notes must not believe that they were published when the release was there before."""
    if isinstance(request, KeepRequest) or not request.notes:
        return
    name, _, number = release.rpartition("-")
    folder = shelf.folder(name, int(number))
    promised = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)).claimed.files
    data = read_bounded(folder / ABOUT_FILE, limits.ABOUT_BYTES) if ABOUT_FILE in promised else None
    if parse_about(data).notes != request.notes:
        raise IllegalMove(
            f"{release} was made of this checkpoint before, with other notes. It was not changed: a release never "
            "changes. Say what is new with the next one."
        )


def _intent(shelf: Shelf, key: str, extractor_name: str, clock: Clock) -> Intent:
    """Step 13.1: take the next number, or the one that a crash left for this very request."""
    begun = _read_intent(shelf, extractor_name)
    if begun is not None and begun.key == key:
        return begun
    entries = [e for e in read_catalogue(shelf, clock).releases if e.extractor_name == extractor_name]
    last = max(entries, key=lambda e: e.number, default=None)
    number = next_number(shelf, extractor_name, clock)
    intent = Intent(
        release=release_id(extractor_name, number),
        extractor_name=extractor_name,
        number=number,
        previous=last.manifest_digest if last else None,
        created_at=to_text(clock.now()),
        key=key,
    )
    write_json(shelf.intent(extractor_name), to_plain(intent))
    return intent


def next_number(shelf: Shelf, extractor_name: str, clock: Clock) -> int:
    """Of the next release of an extractor's line."""
    listed = [e.number for e in read_catalogue(shelf, clock).releases if e.extractor_name == extractor_name]
    # A folder that the catalogue does not list (a restored backup) keeps its number to itself.
    standing = [int(p.name) for p in (shelf.releases / extractor_name).glob("*") if p.name.isdecimal()]
    return max([0, *standing, *listed]) + 1


def _place(building: Path, folder: Path) -> None:
    """Step 13.5."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    sync_folder(building)
    building.rename(folder)
    sync_folder(folder.parent)
    building.parent.rmdir()


def _show(shelf: Shelf, intent: Intent, clock: Clock) -> None:
    """Step 13.6."""
    folder = shelf.folder(intent.extractor_name, intent.number)
    manifest = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES))
    catalogue = read_catalogue(shelf, clock)
    entry = CatalogueEntry(intent.release, intent.extractor_name, intent.number, manifest.digest)
    write_catalogue(shelf, catalogue, clock, releases=(*catalogue.releases, entry))


def _read_intent(shelf: Shelf, extractor_name: str) -> Intent | None:
    try:
        return build(Intent, read_document(shelf.intent(extractor_name), limits.TRUST_BYTES), "intent")
    except NotFound:
        return None

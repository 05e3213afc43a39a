"""The registry's files: the catalogue and one folder for each release. No database is asked.

releases/catalogue.json                 signed; what is not in it is not visible
releases/<extractor>/<number>/          one release
releases/.building/<id>/                being made
releases/.intent-<extractor>.json       step 13.1: which number is being made, for what

Large files of a release may be in an object store instead (store.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from coordinator.registry.store import LargeFiles, objects_of
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.errors import (
    CatalogueDamaged,
    CommonlensError,
    IllegalMove,
    Invalid,
    InvalidConfig,
    NotFound,
    NotTrusted,
)
from shared.domain.files import write_atomically, write_json
from shared.domain.locking import held_lock
from shared.domain.release import (
    CHANNEL_NAME,
    LATEST,
    MANIFEST_FILE,
    SIGNATURE_FILE,
    TRUST_FILE,
    Catalogue,
    ChannelPointer,
)
from shared.release import limits, openssf
from shared.release.envelope import Envelope, read_document
from shared.release.manifest import UnverifiedManifest, parse_manifest, resign_manifest
from shared.release.roles import open_catalogue, sign_catalogue
from shared.release.signing import SigningKey
from shared.release.trust import Trust, parse_trust

CATALOGUE_LIFETIME: Final = timedelta(days=30)
"""How long a copy of the catalogue can be shown to somebody who is cut off. Re-signed at half of it."""
RESERVED_CHANNEL: Final = re.compile(rf"(?:{LATEST}|main|v[0-9]+|[0-9a-f]{{7,}})\Z")
"""`latest` follows the numbers by itself; the others are what hubs' tools call it, a tag and a commit."""
_PUBLIC = 0o644


@dataclass(frozen=True)
class Shelf:
    """Where everything is, under the coordinator's home."""

    home: Path

    @property
    def releases(self) -> Path:
        """The folder of all releases."""
        return self.home / "releases"

    @property
    def catalogue(self) -> Path:
        """The signed list of what is visible."""
        return self.releases / "catalogue.json"

    @property
    def large(self) -> LargeFiles:
        """The releases' large files, wherever coordinator.toml puts them. Raises InvalidConfig."""
        return LargeFiles(self.releases, objects_of(self.home))

    def folder(self, extractor_name: str, number: int) -> Path:
        """Where a finished release stands, but for large files that are in the object store."""
        return self.releases / extractor_name / str(number)

    def building(self, release: str) -> Path:
        """Where a release is made, one at a time; on the same disk, so that showing it is one rename."""
        return self.releases / ".building" / release

    def intent(self, extractor_name: str) -> Path:
        """Step 13.1's record."""
        return self.releases / f".intent-{extractor_name}.json"

    def trust_envelope(self) -> Envelope:
        """The trust document of today."""
        return read_document(self.home / TRUST_FILE, limits.TRUST_BYTES)

    def trust(self) -> Trust:
        """The same, opened."""
        return parse_trust(self.trust_envelope())

    def release_key(self) -> SigningKey:
        """The release key. Raises InvalidConfig where it is not the one that the trust document names."""
        key = SigningKey.load(self.home / "keys" / "release.pem")
        if key.public_hex != self.trust().release_key:
            raise InvalidConfig(
                f"The trust document names the release key {self.trust().release_key[:16]}…, "
                "keys/release.pem is "
                f"{key.public_hex[:16]}…. Nothing was signed. Put the right key in place or rotate "
                "the trust."
            )
        return key

    def sign_folder(self, folder: Path) -> None:
        """Put the OpenSSF signature into a release's folder, where the trust document names a key for one.

        Raises InvalidConfig where keys/openssf.pem is not that key.
        """
        named, path = self.trust().openssf_key, self.home / "keys" / "openssf.pem"
        if not named:
            return
        if openssf.public_key(path) != named:
            raise InvalidConfig(
                "The trust document names another OpenSSF key than keys/openssf.pem holds. Nothing was signed. Put the "
                "right key in place or rotate the trust."
            )
        with self.large.whole(folder) as complete:
            openssf.sign_folder(complete, path)
            if complete != folder:
                write_atomically(folder / SIGNATURE_FILE, (complete / SIGNATURE_FILE).read_bytes(), _PUBLIC)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One writer at a time, across threads and processes."""
        # Not left to `held_lock`, which makes a folder for its owner alone.
        self.releases.mkdir(parents=True, exist_ok=True)
        with held_lock(self.releases / ".lock"):
            yield


def read_catalogue(shelf: Shelf, clock: Clock) -> Catalogue:
    """What is visible; an empty catalogue of version 0 before the first release. Raises CatalogueDamaged."""
    trust = shelf.trust()
    with _own_file():
        try:
            envelope = read_document(shelf.catalogue, limits.CATALOGUE_BYTES)
        except NotFound:
            return Catalogue(trust.consortium, 0, to_text(clock.now()), ())
        # Signed by the release key of today or, between a rotation and `refresh`, by that of yesterday: this is
        # the coordinator's own file, and whoever could change it holds the key beside it.
        keys = [line["key"] for line in envelope["signatures"]]
        return open_catalogue(envelope, replace(trust, release_key=keys[0]), clock, allow_expired=True)


@contextmanager
def _own_file() -> Iterator[None]:
    """Whoever asks did nothing wrong where the coordinator's own file is damaged: no 401, no 422."""
    try:
        yield
    except (NotTrusted, Invalid, LookupError, TypeError, ValueError) as error:
        why = (
            error.message.partition(". ")[0] if isinstance(error, CommonlensError) else "it has another form"
        )
        raise CatalogueDamaged(
            f"This coordinator's catalogue of releases is damaged: {why}. Nothing was sent or changed. Its operator "
            "puts back releases/catalogue.json from a backup."
        ) from error


def write_catalogue(shelf: Shelf, current: Catalogue, clock: Clock, **changes: Any) -> Envelope:
    """Sign and store the next catalogue, `current` with `changes`; this is when a change becomes visible."""
    expires_at = to_text(clock.now() + CATALOGUE_LIFETIME)
    catalogue = replace(current, version=current.version + 1, expires_at=expires_at, **changes)
    envelope = sign_catalogue(catalogue, shelf.release_key())
    write_json(shelf.catalogue, envelope, mode=_PUBLIC)
    return envelope


def current_catalogue(home: Path, clock: Clock) -> Envelope:
    """The signed catalogue, signed again when half of its lifetime is over or the release key has changed.

    Raises CatalogueDamaged.
    """
    shelf = Shelf(home)
    envelope = _if_fresh(shelf, clock)
    if envelope is not None:
        return envelope
    with shelf.alone():
        catalogue = read_catalogue(shelf, clock)
        return _if_fresh(shelf, clock) or write_catalogue(shelf, catalogue, clock)


def yank(home: Path, release: str, clock: Clock, reason: str = "") -> None:
    """Withdraw a release: it stays listed with the reason, and is no longer offered. Raises NotFound."""
    shelf = Shelf(home)
    with shelf.alone():
        catalogue = read_catalogue(shelf, clock)
        entry = catalogue.entry(release)
        if entry is None:
            raise NotFound(f"There is no release {release[:80]!r}. Nothing was withdrawn. Check its name.")
        if not entry.yanked:
            entries = tuple(
                replace(e, yanked=True, reason=reason) if e.id == release else e for e in catalogue.releases
            )
            # A channel offers what it points to, so none points to this any more.
            channels = tuple(pointer for pointer in catalogue.channels if pointer.release != release)
            write_catalogue(shelf, catalogue, clock, releases=entries, channels=channels)


def point_channel(home: Path, extractor_name: str, channel: str, release: str, clock: Clock) -> None:
    """Let `channel` of an extractor's line point to `release`, or to nothing where that is "".

    Raises Invalid for a name that is none or is `latest`, which nobody moves; NotFound for a release that is not of
    this line, or to take away a channel that is none; IllegalMove for one that was withdrawn.
    """
    if not CHANNEL_NAME.match(channel) or RESERVED_CHANNEL.match(channel):
        raise Invalid(
            "A channel's name has lower-case letters, digits and '-' (32 at most), and is not latest, main, a "
            f"release's tag such as v3 or like a digest; found {channel[:40]!r}. Nothing was moved. Choose another, "
            "such as stable."
        )
    shelf = Shelf(home)
    with shelf.alone():
        catalogue = read_catalogue(shelf, clock)
        entry = catalogue.entry(release)
        if release and (entry is None or entry.extractor_name != extractor_name):
            raise NotFound(
                f"There is no release {release[:80]!r} of {extractor_name[:64]!r}. The channel was not moved. "
                "Name one of its releases."
            )
        if entry is not None and entry.yanked:
            raise IllegalMove(
                f"{release} was withdrawn. The channel was not moved. Choose one that is offered."
            )
        others = tuple(
            p for p in catalogue.channels if (p.extractor_name, p.channel) != (extractor_name, channel)
        )
        if not release and len(others) == len(catalogue.channels):
            raise NotFound(
                f"{extractor_name[:64]} has no channel {channel}. Nothing was taken away. Look at its releases."
            )
        pointer = (ChannelPointer(extractor_name, channel, release),) if release else ()
        if (*others, *pointer) != catalogue.channels:
            channels = sorted((*others, *pointer), key=lambda p: (p.extractor_name, p.channel))
            write_catalogue(shelf, catalogue, clock, channels=tuple(channels))


def refresh(home: Path, clock: Clock) -> int:
    """After a rotation: put the trust document of today into every release, sign manifests with the key of
    today, and the catalogue too. Manifest digests stay. Gives the number of releases changed."""
    shelf = Shelf(home)
    with shelf.alone():
        key, trust = shelf.release_key(), shelf.trust_envelope()
        catalogue = read_catalogue(shelf, clock)
        changed = 0
        for entry in catalogue.releases:
            folder = shelf.folder(entry.extractor_name, entry.number)
            manifest = read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)
            signed = resign_manifest(manifest, key)
            if signed != manifest or read_document(folder / TRUST_FILE, limits.TRUST_BYTES) != trust:
                # The manifest first: it then holds under both documents, whichever a crash leaves.
                write_json(folder / MANIFEST_FILE, signed, mode=_PUBLIC)
                write_json(folder / TRUST_FILE, trust, mode=_PUBLIC)
                changed += 1
            # Also where a crash came between the last two: it covers them both.
            shelf.sign_folder(folder)
        write_catalogue(shelf, catalogue, clock)
    return changed


def visible(home: Path, extractor_name: str, number: int, clock: Clock) -> tuple[Path, UnverifiedManifest]:
    """Folder and manifest of a release in the catalogue. Raises NotFound."""
    shelf = Shelf(home)
    catalogue = read_catalogue(shelf, clock)
    for entry in catalogue.releases:
        if (entry.extractor_name, entry.number) == (extractor_name, number):
            folder = shelf.folder(entry.extractor_name, entry.number)
            return folder, parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES))
    raise NotFound("There is no such release. Nothing was sent. Ask for the catalogue.")


def _if_fresh(shelf: Shelf, clock: Clock) -> Envelope | None:
    key = shelf.trust().release_key
    with _own_file():
        try:
            envelope = read_document(shelf.catalogue, limits.CATALOGUE_BYTES)
        except NotFound:
            return None
        if [line["key"] for line in envelope["signatures"]] != [key]:
            return None
        expires_at = from_text(envelope["signed"]["expires_at"])
    return envelope if expires_at - clock.now() > CATALOGUE_LIFETIME / 2 else None

"""What somebody who chooses an extractor wants to know of it, read from the small files of its release."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from shared.domain.release import (
    LENS_FILE,
    WEIGHTS_FILE,
    AnyManifest,
    CatalogueEntry,
)
from shared.lens.profile import LensProfile, read_profile
from shared.lens.words import describe
from shared.release.library import Library
from shared.release.manifest import card_of, kind_of


@dataclass(frozen=True)
class Facts:
    """One release."""

    entry: CatalogueEntry
    manifest: AnyManifest
    channels: tuple[str, ...]
    """Those that point to it."""
    profile: LensProfile | None
    card: str

    @property
    def kind(self) -> str:
        """trained, classical, random or public."""
        return kind_of(self.manifest)

    @property
    def sees(self) -> str:
        """The lens profile in a sentence; "" where it was not measured."""
        return "" if self.profile is None else describe(self.profile)

    @property
    def weights_bytes(self) -> int:
        """Of the weights file."""
        return self.manifest.files[WEIGHTS_FILE].size_bytes


def facts_of(library: Library, entry: CatalogueEntry) -> Facts:
    """Read manifest, card and profile. Raises DigestMismatch, Invalid, Unreachable."""
    manifest = library.manifest(entry)
    lens = library.file(entry, manifest, LENS_FILE)
    profile = None if lens is None else read_profile(json.loads(lens), LENS_FILE)
    card = library.file(entry, manifest, card_of(manifest)) or b""
    pointing = library.catalogue.channels_of(entry.extractor_name)
    return Facts(
        entry=entry,
        manifest=manifest,
        channels=tuple(sorted(name for name, found in pointing.items() if found.id == entry.id)),
        profile=profile,
        card=card.decode("utf-8", errors="replace"),
    )


def newest(library: Library) -> list[Facts]:
    """The newest offered release of every extractor, in order of their names."""
    found = (library.catalogue.newest(name) for name in library.names)
    return [facts_of(library, entry) for entry in found if entry is not None]


def matching(every: Iterable[Facts], words: Iterable[str]) -> list[Facts]:
    """Those whose name, kind or card has every one of `words`, whatever their capitals."""
    wanted = [word.casefold() for word in words]
    return [
        facts
        for facts in every
        if all(word in f"{facts.entry.id} {facts.kind} {facts.card}".casefold() for word in wanted)
    ]

"""What the pages show of releases: their lines in the catalogue, by extractor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.registry.claims import Claimed, ClaimedExtractor
from coordinator.registry.downloads import Downloads
from coordinator.registry.service import ReleaseService
from shared.domain.errors import CommonlensError, NotFound
from shared.domain.release import LENS_PICTURE_FILE, CatalogueEntry, KeptManifest
from shared.release.about import changelog_line

MOST_SHOWN = 20
"""Releases of one extractor on the first page; the rest is a link away."""


@dataclass(frozen=True)
class Line:
    """One release in the catalogue."""

    entry: CatalogueEntry
    claimed: ClaimedExtractor | None
    problem: str
    """Why nothing is claimed: its files do not fit the catalogue."""
    downloads: Downloads
    channels: tuple[str, ...]
    """Those that point to it; `latest` is the newest that is offered."""

    @property
    def trained(self) -> Claimed | None:
        """What is claimed of one that a run trained; None of what nobody trained here."""
        return self.claimed if isinstance(self.claimed, Claimed) else None

    @property
    def kept(self) -> KeptManifest | None:
        """What is claimed of one that nobody trained here."""
        manifest = self.claimed and self.claimed.manifest
        return manifest if isinstance(manifest, KeptManifest) else None

    @property
    def numbers(self) -> str:
        """What a changelog says of it beside its notes."""
        if self.trained is not None:
            return changelog_line(self.trained.summary, self.trained.about.validation)
        return self.kept.source.origin if self.kept is not None else ""

    @property
    def has_lens(self) -> bool:
        """Whether there is a picture of what it sees."""
        return self.claimed is not None and LENS_PICTURE_FILE in self.claimed.manifest.files

    @property
    def address(self) -> str:
        """The end of its address, under /extractors and under /privacy."""
        return f"{self.entry.extractor_name}/{self.entry.number}"


@dataclass(frozen=True)
class Group:
    """The releases of one extractor name, newest first."""

    name: str
    lines: tuple[Line, ...]
    total: int


def groups(service: ReleaseService, only: str = "") -> tuple[Group, ...]:
    """Every extractor's releases, or all of those of `only`. Raises NotFound for a name without any."""
    catalogue, counts = service.catalogue(), service.downloads.every()
    by_name: dict[str, list[CatalogueEntry]] = {}
    for entry in catalogue.releases:
        by_name.setdefault(entry.extractor_name, []).append(entry)
    if only and only not in by_name:
        raise NotFound("There is no extractor of that name. Look for it under Extractors.")
    found = []
    for name in [only] if only else sorted(by_name):
        entries = sorted(by_name[name], key=lambda e: e.number, reverse=True)
        pointing = catalogue.channels_of(name)
        shown = entries if only else entries[:MOST_SHOWN]
        lines = tuple(_line(service, entry, counts, pointing) for entry in shown)
        found.append(Group(name, lines, len(entries)))
    return tuple(found)


def line_of(service: ReleaseService, entry: CatalogueEntry) -> Line:
    """One release by itself."""
    pointing = service.catalogue().channels_of(entry.extractor_name)
    return _line(service, entry, {entry.id: service.downloads.of(entry.id)}, pointing)


def _line(
    service: ReleaseService,
    entry: CatalogueEntry,
    counts: Mapping[str, Downloads],
    pointing: Mapping[str, CatalogueEntry],
) -> Line:
    claimed, problem = None, ""
    try:
        claimed = service.claimed_extractor(entry)
    except CommonlensError as error:
        problem = error.message
    channels = tuple(name for name, found in pointing.items() if found.id == entry.id)
    return Line(entry, claimed, problem, counts.get(entry.id, Downloads()), channels)

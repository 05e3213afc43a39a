"""What somebody who chooses an extractor wants to know of it, read from the small files of its release."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from shared.domain.release import (
    ABOUT_FILE,
    CONFIG_FILE,
    LENS_FILE,
    WEIGHTS_FILE,
    AnyManifest,
    CatalogueEntry,
    KeptManifest,
    Manifest,
)
from shared.lens.profile_shape import LensProfile, read_profile
from shared.lens.words import above_chance, describe
from shared.release.about import About, changelog_line, parse_about
from shared.release.envelope import parse_document
from shared.release.library import Library
from shared.release.manifest import card_of, kind_of

MOST_CHANGES = 12
"""Releases that a changelog goes back."""


@dataclass(frozen=True)
class Facts:
    """One release."""

    entry: CatalogueEntry
    manifest: AnyManifest
    channels: tuple[str, ...]
    """Those that point to it."""
    profile: LensProfile | None
    card: str
    about: About
    embedding_dim: int | None
    """Numbers in an embedding, as the lens profile has it, or config.json; None for a release without either."""

    @property
    def kind(self) -> str:
        """trained, classical, random or public."""
        return kind_of(self.manifest)

    @property
    def purpose(self) -> str:
        """What its members trained it for, as its plan says; "" where the plan does not, or nobody trained it here."""
        return str(self.manifest.plan.get("purpose", "")) if isinstance(self.manifest, Manifest) else ""

    @property
    def sees(self) -> str:
        """The lens profile in sentences; without one, how the text on what nobody trained here begins, or ""."""
        if self.profile is not None:
            return describe(self.profile)
        if isinstance(self.manifest, KeptManifest):
            return re.split("[.:] ", self.manifest.source.about, maxsplit=1)[0].removesuffix(".") + "."
        return ""

    def tells(self, questions: Collection[str]) -> float:
        """How far above chance it answers these in sum, without those that no profile asks; 0 without a profile."""
        probes = () if self.profile is None else self.profile.tells
        return sum(above_chance(probe) for probe in probes if probe.question in questions)

    @property
    def weights_bytes(self) -> int:
        """Of the weights file."""
        return self.manifest.files[WEIGHTS_FILE].size_bytes


def facts_of(library: Library, entry: CatalogueEntry) -> Facts:
    """Read manifest, card and profile. Raises DigestMismatch, Invalid, Unreachable."""
    manifest = library.manifest(entry)
    lens = library.file(entry, manifest, LENS_FILE)
    profile = None if lens is None else read_profile(parse_document(lens, LENS_FILE), LENS_FILE)
    card = library.file(entry, manifest, card_of(manifest)) or b""
    about = parse_about(library.file(entry, manifest, ABOUT_FILE))
    # A file more from the coordinator only where the profile does not say it.
    configuration = None if profile is not None else library.file(entry, manifest, CONFIG_FILE)
    pointing = library.catalogue.channels_of(entry.extractor_name)
    return Facts(
        entry=entry,
        manifest=manifest,
        channels=tuple(sorted(name for name, found in pointing.items() if found.id == entry.id)),
        profile=profile,
        card=card.decode("utf-8", errors="replace"),
        about=about,
        embedding_dim=_embedding_dim(configuration, profile),
    )


def _embedding_dim(configuration: bytes | None, profile: LensProfile | None) -> int | None:
    found = None if configuration is None else parse_document(configuration, CONFIG_FILE).get("embedding_dim")
    if isinstance(found, int):
        return found
    return None if profile is None else profile.embedding_dim


@dataclass(frozen=True)
class Change:
    """One release in the changelog of its line."""

    entry: CatalogueEntry
    created_at: str
    what: tuple[str, ...]
    """Its notes, then what the numbers say."""


def changelog(library: Library, name: str) -> list[Change]:
    """The newest releases of an extractor, newest first; withdrawn ones are among them. Raises as `facts_of`."""
    line = [entry for entry in library.catalogue.releases if entry.extractor_name == name]
    newest_first = sorted(line, key=lambda entry: entry.number, reverse=True)
    return [_change(library, entry) for entry in newest_first[:MOST_CHANGES]]


def _change(library: Library, entry: CatalogueEntry) -> Change:
    manifest = library.manifest(entry)
    about = parse_about(library.file(entry, manifest, ABOUT_FILE))
    if about.summary is not None:
        numbers = changelog_line(about.summary, about.validation)
    elif isinstance(manifest, KeptManifest):
        numbers = manifest.source.origin
    else:
        numbers = f"run {manifest.run_id} of plan {manifest.plan_digest[:23]}…"
    return Change(entry, manifest.created_at, (*about.notes, numbers))


def newest(library: Library) -> list[Facts]:
    """The newest offered release of every extractor, in order of their names."""
    found = (library.catalogue.newest(name) for name in library.names)
    return [facts_of(library, entry) for entry in found if entry is not None]


_WORD = re.compile(r"\w+")
_ALIKE = ("Size and speed", "Energy", "Check it, use it", "Made again", "For other programs")
"""Headings of a card under which an extractor says what the others say, too."""


def _words_of(facts: Facts) -> set[str]:
    first, *sections = re.split(r"^## ", facts.card, flags=re.MULTILINE)
    own = [section for section in sections if not section.startswith(_ALIKE)]
    return set(_WORD.findall(" ".join((facts.kind, first, *own)).casefold()))


def _has_all(facts: Facts, words: Iterable[str]) -> bool:
    name, known = facts.entry.id.casefold(), _words_of(facts)
    return all(word in name or set(_WORD.findall(word)) <= known for word in words)


def matching(every: Iterable[Facts], words: Iterable[str]) -> list[Facts]:
    """Those whose name has every one of `words` as a part, or whose kind or card has it as a word, whatever their
    capitals. What every card says alike, of seconds, joules and checks, is not looked at.

    Where words are questions of the lens profile, such as texture, those that answer them best come first: every card
    with a profile has the word, blind or not.
    """
    wanted = [word.casefold() for word in words]
    found = (facts for facts in every if _has_all(facts, wanted))
    return sorted(found, key=lambda facts: facts.tells(wanted), reverse=True)

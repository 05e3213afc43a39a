"""The registry as a hub sees it: repositories with branches, tags and commits, over the same signed catalogue.

A repository is one extractor's line of releases. Nothing is read twice: the catalogue is kept until its file is
another one, and what a release says of itself for as long as the catalogue lists it.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from coordinator.registry.hub_errors import ENTRY_NOT_FOUND, REPO_NOT_FOUND, REVISION_NOT_FOUND, HubRefusal
from coordinator.registry.hub_facts import Facts, commit_of, file_stamp, read_facts
from coordinator.registry.kept import Kept
from coordinator.registry.service import ReleaseService
from coordinator.registry.shelf import Shelf
from coordinator.registry.store import LargeFiles
from shared.domain.canonical import digest_of_file
from shared.domain.errors import Broken, CommonlensError, NotFound, StoreUnreachable
from shared.domain.release import BESIDE_THE_PROMISE, Catalogue, CatalogueEntry, ReleaseFile

MAIN: Final = "main"
"""The branch that clients ask for unless told otherwise: what the channel `latest` points to."""
HEADS, TAGS = "refs/heads", "refs/tags"
"""Before the name of a branch or tag, as Git and the list of refs write them in full."""
LEAST_COMMIT_DIGITS: Final = 7
_COMMIT = re.compile(r"[0-9a-f]{7,40}\Z")
_MOST_SLUG_CHARACTERS = 60
_TAKEN = frozenset({"api", "v1", "static", "extractors", "datasets", "spaces", "kernels"})
"""First parts of addresses that mean something else here or to clients."""


def namespace(consortium: str) -> str:
    """The consortium's name as the first part of a repository's: lower-case ASCII letters, digits and hyphens."""
    plain = unicodedata.normalize("NFKD", consortium).encode("ascii", "ignore").decode("ascii").lower()
    found = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_MOST_SLUG_CHARACTERS].strip("-")
    return f"{found}-consortium".lstrip("-") if found in {"", *_TAKEN} else found


@dataclass(frozen=True)
class HubRepo:
    """One extractor's releases and every name that they go by."""

    id: str
    extractor: str
    entries: tuple[CatalogueEntry, ...]
    """Highest number first, withdrawn ones too: whoever pinned one still gets it."""
    branches: Mapping[str, CatalogueEntry]
    """`main` and the channels; a withdrawal takes them away from what they pointed to (shelf.yank)."""
    tags: Mapping[str, CatalogueEntry]

    @property
    def main(self) -> CatalogueEntry | None:
        """What is offered to whoever pins nothing; None where every release was withdrawn."""
        return self.branches.get(MAIN)

    def entry(self, revision: str) -> CatalogueEntry:
        """The release under a branch, a tag, a commit or an unambiguous beginning of one.

        A tag goes before a channel of the same name: what is pinned never moves. Raises HubRefusal.
        """
        kind, _, name = revision.rpartition("/")
        named = {"": {**self.branches, **self.tags}, HEADS: self.branches, TAGS: self.tags}
        known = named.get(kind, {}).get(name)
        if known is not None:
            return known
        if _COMMIT.match(revision):
            found = [entry for entry in self.entries if commit_of(entry).startswith(revision)]
            if len(found) == 1:
                return found[0]
        if revision == MAIN:
            why = f"Every release of {self.extractor} was withdrawn, so there is no main. Ask for one by its tag"
        else:
            why = (
                f"{self.extractor} has no such revision. A revision is a branch ({', '.join(sorted(self.branches))}), "
                f"a tag (v1, {self.extractor}-1) or a commit of at least {LEAST_COMMIT_DIGITS} digits"
            )
        raise HubRefusal(NotFound(f"{why}. Nothing was sent."), REVISION_NOT_FOUND)


class HubShelf:
    """One instance per coordinator; may be asked from several threads."""

    def __init__(self, releases: ReleaseService) -> None:
        self.releases = releases
        self._shelf = Shelf(releases.home)
        self._lock = threading.Lock()
        self._seen: Hashable = None
        self._repos: Mapping[str, HubRepo] = {}
        self._namespace = ""
        self._facts: dict[str, Facts] = {}
        self._digests: Kept[str] = Kept()

    @property
    def large(self) -> LargeFiles:
        """The releases' large files."""
        return self._shelf.large

    @property
    def namespace(self) -> str:
        """The first part of every repository's name."""
        self.repos()
        return self._namespace

    def repos(self) -> Mapping[str, HubRepo]:
        """Extractor → repository, as the catalogue has them now."""
        with self._lock:
            seen = file_stamp(self._shelf.catalogue)
            if seen is None or seen != self._seen:
                catalogue = self.releases.catalogue()
                self._namespace = namespace(catalogue.consortium)
                self._repos = _repos(catalogue, self._namespace)
                listed = {entry.manifest_digest for entry in catalogue.releases}
                self._facts = {digest: facts for digest, facts in self._facts.items() if digest in listed}
                self._seen = seen  # taken before reading: a catalogue written meanwhile is read next time
            return self._repos

    def repo(self, space: str, extractor: str) -> HubRepo:
        """The repository at an address. Raises HubRefusal."""
        found = self.repos().get(extractor)
        if found is None or space != self._namespace:
            raise HubRefusal(
                NotFound(
                    "This hub has no such repository. Nothing was sent. Its repositories are named "
                    f"{self._namespace}/EXTRACTOR; list them with /api/models."
                ),
                REPO_NOT_FOUND,
            )
        return found

    def facts(self, entry: CatalogueEntry) -> Facts:
        """What a release says of itself. Raises Broken where its folder is not what the catalogue lists."""
        digest = entry.manifest_digest
        known = self._facts.get(digest)
        if known is None:
            try:
                known = read_facts(self.releases.folder(entry), entry, self.large)
            except StoreUnreachable:
                raise
            except CommonlensError as error:
                raise Broken(f"The hub cannot show {entry.id}: {error.message}") from error
            self._facts[digest] = known
        return known if known.entry == entry else replace(known, entry=entry)

    def files(self, facts: Facts) -> dict[str, ReleaseFile]:
        """Every file that is served: what the manifest promises, and what stands beside it today."""
        found = dict(facts.promised)
        for name in BESIDE_THE_PROMISE:
            path = facts.folder / name
            stamped = file_stamp(path)
            if stamped is not None:
                digest = self._digests.get(stamped, partial(digest_of_file, path))
                found[name] = ReleaseFile(digest, path.stat().st_size)
        return found

    def file(self, facts: Facts, name: str) -> tuple[Path, ReleaseFile]:
        """Where a served file is, and what it is. Raises HubRefusal for a name that no file of the release has."""
        known = self.files(facts).get(name)
        if known is None:
            raise HubRefusal(
                NotFound(f"{facts.entry.id} has no such file. Nothing was sent. Ask for its tree."),
                ENTRY_NOT_FOUND,
                facts.commit,
            )
        return facts.folder / name, known


def _repos(catalogue: Catalogue, space: str) -> dict[str, HubRepo]:
    lines: dict[str, list[CatalogueEntry]] = {}
    for entry in sorted(catalogue.releases, key=lambda e: -e.number):
        lines.setdefault(entry.extractor_name, []).append(entry)
    repos = {}
    for extractor, entries in sorted(lines.items()):
        pointers = tuple(p for p in catalogue.channels if p.extractor_name == extractor)
        own = replace(catalogue, releases=tuple(entries), channels=pointers)
        channels = own.channels_of(extractor)
        newest = own.newest(extractor)
        repos[extractor] = HubRepo(
            id=f"{space}/{extractor}",
            extractor=extractor,
            entries=tuple(entries),
            branches=channels if newest is None else {MAIN: newest, **channels},
            tags={name: entry for entry in entries for name in (f"v{entry.number}", entry.id)},
        )
    return repos

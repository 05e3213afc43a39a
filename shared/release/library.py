"""Look into a coordinator's library without downloading weights; every byte is proven under the pinned root.

The trust document names the key of the catalogue, the catalogue the digest of each manifest, the manifest the digest
of each file: so a card or a profile that is shown here is the one that was signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from shared.domain.canonical import digest_of_bytes
from shared.domain.clock import Clock
from shared.domain.errors import DigestMismatch, NotFound
from shared.domain.release import AnyManifest, Catalogue, CatalogueEntry
from shared.release import limits
from shared.release.envelope import parse_document
from shared.release.hub_client import address, connect, promised_manifest
from shared.release.pinning import read_limited, verified_client

MOST_TEXT_BYTES: Final = 4 * 1024 * 1024
"""Of a card, a profile or a picture; nobody reads more."""


class Library:
    """One coordinator's library, while the connection to it is open."""

    def __init__(self, client: httpx.Client, catalogue: Catalogue, url: str) -> None:
        self._client = client
        self.catalogue = catalogue
        self.url = url

    @property
    def names(self) -> tuple[str, ...]:
        """The extractors that have a release to offer, in order of their names."""
        return tuple(sorted({entry.extractor_name for entry in self.catalogue.releases if not entry.yanked}))

    def find(self, wanted: str) -> CatalogueEntry:
        """As `Catalogue.find`. Raises NotFound."""
        found = self.catalogue.find(wanted)
        gone = next((e for e in self.catalogue.withdrawn if e.extractor_name == wanted), None)
        if found is None and gone is not None:
            raise NotFound(
                f"Every release of {wanted} was withdrawn, the newest of them {gone.id}{gone.because}. Nothing was "
                f"shown. Name one by its own id, such as {gone.id}."
            )
        if found is None:
            raise NotFound(
                f"The library has no {wanted[:80]!r}; it has {', '.join(self.names[:12]) or 'nothing yet'}. Nothing "
                "was shown. Name one of them, a release such as name-1, or a channel such as name@stable."
            )
        return found

    def manifest(self, entry: CatalogueEntry) -> AnyManifest:
        """What the release's manifest says. Raises DigestMismatch where it is not the one of the catalogue."""
        return promised_manifest(self._client, entry)[1]

    def file(self, entry: CatalogueEntry, manifest: AnyManifest, name: str) -> bytes | None:
        """A small file of the release, or None where it has none of that name. Raises DigestMismatch."""
        promised = manifest.files.get(name)
        if promised is None:
            return None
        data = read_limited(self._client, f"{address(entry)}/{name}", MOST_TEXT_BYTES, name)
        if digest_of_bytes(data) != promised.digest:
            raise DigestMismatch(
                f"The manifest promises {name} as {promised.digest[:23]}…; other bytes came. Nothing was shown. Try "
                "again, then ask the consortium."
            )
        return data


@contextmanager
def open_library(
    url: str, folder: Path, fingerprint: str | None, clock: Clock, token: str | None
) -> Iterator[Library]:
    """The library at `url`, with the pin that is kept beside `folder`. Raises as `connect` and `accept_catalogue`."""
    store = connect(url, folder, fingerprint, clock)
    with verified_client(store.state.url, store.state.ca_pem, token) as client:
        data = read_limited(client, "/api/v1/releases", limits.CATALOGUE_BYTES, "Catalogue")
        yield Library(client, store.accept_catalogue(parse_document(data, "catalogue"), clock), url)

"""Download one release: into a hidden folder, verified there, then shown by one rename (step 14).

The hidden folder is named by the release and its manifest's digest. It outlives a cut line, Ctrl-C and kill −9, so that
the next pull goes on from there; nothing in it is believed before every proof holds (fetch.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import httpx

from shared.domain.clock import Clock
from shared.domain.errors import (
    CertificateWrong,
    DigestMismatch,
    Invalid,
    NotAllowed,
    NotFound,
    NotTrusted,
    OutOfSpace,
    WrongAuthority,
)
from shared.domain.files import sync_folder, write_atomically, write_json
from shared.domain.locking import held_lock
from shared.domain.release import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    TRUST_FILE,
    AnyManifest,
    Catalogue,
    CatalogueEntry,
    Manifest,
)
from shared.release import limits
from shared.release.authority import checked_fingerprint, root_of_ca
from shared.release.envelope import parse_document, read_document
from shared.release.fetch import fetch_file
from shared.release.manifest import parse_manifest
from shared.release.pinning import current_trust, pinned_trust, read_limited, verified_client
from shared.release.store import TrustStore


class Proven(Protocol):
    """What a verification gives: at least the digests of the manifest that it proved, and of those behind it."""

    @property
    def manifest_digest(self) -> str:
        """`sha256:…` of the signed manifest."""
        ...

    @property
    def behind(self) -> Mapping[str, str]:
        """Release → digest of its manifest, of this consortium's releases that its weights came out of."""
        ...


V = TypeVar("V", bound=Proven)
Verify = Callable[[Path, str], V]
"""(folder, pinned root) → proof. Given by the caller, since `shared.verification` stands above this core."""
Progress = Callable[[str, int, int, int], object]
"""(file, bytes that are here, bytes in all, of those here from a pull that was cut)."""
STATE_FOLDER: Final = ".commonlens"
STATE_FILE: Final = "trust-state.json"
_STAGED: Final = "partial-"
_DIGITS: Final = slice(len("sha256:"), len("sha256:") + 16)
"""Of the manifest's digest, in a staging folder's name."""


@dataclass(frozen=True)
class Pulled(Generic[V]):
    """A release that stands verified in its folder."""

    folder: Path
    entry: CatalogueEntry
    verified: V
    downloaded_bytes: int
    """0 where it stood there already."""
    resumed_bytes: int = 0
    """What an earlier pull had brought that was cut, and that was not fetched again."""
    warning: str = ""
    """That it was withdrawn, why, and what to take in its place."""


def connect(url: str, destination: Path, fingerprint: str | None, clock: Clock) -> TrustStore:
    """The pin kept beside `destination`, made on first use from `fingerprint`, and brought up to date.

    Raises WrongAuthority where the stored pin is of another address or fingerprint, or where there is none
    yet and no fingerprint was given; then what `pinned_trust` and `TrustStore.accept_trust` raise.
    """
    path = destination / STATE_FOLDER / STATE_FILE
    store = TrustStore.open_or_none(path)
    if store is None:
        if fingerprint is None:
            raise WrongAuthority(
                "No certificate authority is pinned in this folder yet. Nothing was sent. Give "
                "--ca-fingerprint "
                "sha256:…, as your consortium publishes it."
            )
        pinned = pinned_trust(url, fingerprint, clock)
        return TrustStore.create(
            path,
            url=pinned.url,
            ca_pem=pinned.ca_pem,
            pinned_root=pinned.root_public_key,
            trust=pinned.trust_envelope,
            clock=clock,
        )
    if store.state.url != url.rstrip("/"):
        raise WrongAuthority(
            f"This folder is pinned to {store.state.url}, not to {url}. Nothing was sent. "
            "Use another folder (--to) for another consortium."
        )
    if fingerprint is not None:
        root_of_ca(store.state.ca_pem, checked_fingerprint(fingerprint))
    refresh(store, clock)
    return store


def refresh(store: TrustStore, clock: Clock) -> None:
    """Take the coordinator's trust document of today. Raises as `TrustStore.accept_trust`, Unreachable."""
    ca_pem, envelope = current_trust(store.state.url, store.state.ca_pem)
    store.accept_trust(envelope, clock, ca_pem=ca_pem)


def pull(
    store: TrustStore,
    wanted: str | None,
    destination: Path,
    verify: Verify[V],
    clock: Clock,
    progress: Progress = lambda *_: None,
    token: str | None = None,
) -> Pulled[V]:
    """Bring release `wanted` (an id such as `digits-3`, an extractor's name for its newest, `digits@stable` for a
    channel, or None where one extractor is there, or one that was trained) into `destination/<id>/`, verified.

    `token` is for registries that are not public. Raises Unreachable, NotFound, OutOfSpace, NotAllowed (where all of it
    was withdrawn): called again it goes on where it was. Raises RolledBack, Invalid and NotTrusted leaves: nothing is
    gone on with. Either way nothing new is visible in `destination`. Raises Conflict while another pull works there.
    """
    with verified_client(store.state.url, store.state.ca_pem, token) as client, _alone(destination):
        data = read_limited(client, "/api/v1/releases", limits.CATALOGUE_BYTES, "Catalogue")
        catalogue = store.accept_catalogue(parse_document(data, "catalogue"), clock)
        entry = choose(catalogue, wanted or _only_trained(client, catalogue))
        _tidy(destination, catalogue, entry)
        folder, staging = destination / entry.id, _staging(destination, entry)
        warning = withdrawal_warning(catalogue, entry)
        pinned_root = store.trust.root.fingerprint
        standing = _standing(folder, entry, store, verify)
        if standing is not None:
            shutil.rmtree(staging, ignore_errors=True)
            return Pulled(folder, entry, standing, 0, warning=warning)
        staging.mkdir(exist_ok=True)
        try:
            came, resumed = _download(client, entry, staging, progress)
            if store.trust.openssf_key:
                _download_signature(client, entry, staging)
            # The document of today, not the one the release was made under: it names the keys of today.
            write_json(staging / TRUST_FILE, store.trust_envelope, mode=0o644)
            verified = verify(staging, pinned_root)
            _check_behind(entry, verified, catalogue)
        except NotFound:  # says nothing of what came
            raise
        except (NotTrusted, Invalid):
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _show(staging, folder)
        return Pulled(folder, entry, verified, came, resumed, warning)


def _check_behind(entry: CatalogueEntry, verified: Proven, catalogue: Catalogue) -> None:
    """Raise CertificateWrong where a release behind this one is another than the catalogue's of that name."""
    for release, digest in verified.behind.items():
        listed = catalogue.entry(release)
        if listed is None or listed.manifest_digest != digest:
            found = "none of that name" if listed is None else f"{listed.manifest_digest[:23]}…"
            raise CertificateWrong(
                f"{entry.id} composes what {release} cost, with the manifest {digest[:23]}…; the catalogue has {found}"
                ". Nothing was kept. Do not rely on it; tell the consortium."
            )


def _only_trained(client: httpx.Client, catalogue: Catalogue) -> str | None:
    """The extractor that a run trained, where there is exactly one: beside it a library has what it was filled with."""
    newest = (catalogue.newest(name) for name in {entry.extractor_name for entry in catalogue.releases})
    offered = [entry for entry in newest if entry is not None]
    if len(offered) < 2:
        return None
    trained = [e.extractor_name for e in offered if isinstance(promised_manifest(client, e)[1], Manifest)]
    return trained[0] if len(trained) == 1 else None


def choose(catalogue: Catalogue, wanted: str | None) -> CatalogueEntry:
    """The catalogue's line for `wanted`: a withdrawn one by its own id only, for those who pinned it.

    Raises NotFound, or NotAllowed where all of it was withdrawn.
    """
    names = _offered(catalogue)
    if wanted is None:
        if len(names) != 1:
            raise NotFound(
                f"The catalogue offers {len(names)} extractors ({', '.join(names[:10])}). Nothing was downloaded. "
                "Name one of them."
            )
        wanted = names[0]
    entry = catalogue.find(wanted)
    if entry is not None and (not entry.yanked or wanted == entry.id):
        return entry
    name = wanted if entry is None else entry.extractor_name
    newest = catalogue.newest(name)
    if entry is None and (newest is not None or name not in {e.extractor_name for e in catalogue.releases}):
        raise NotFound(
            f"The catalogue has no release {wanted[:80]!r}; it offers {', '.join(names[:10]) or 'none yet'}. "
            f"Nothing was downloaded. {'Name one of them.' if names else 'Ask the consortium when there will be one.'}"
        )
    gone = entry or next(e for e in catalogue.withdrawn if e.extractor_name == name)
    withdrawn = f"every release of {name}, the newest of them {gone.id}" if entry is None else gone.id
    raise NotAllowed(
        f"The consortium withdrew {withdrawn}{gone.because}. Nothing was downloaded. {_in_its_place(catalogue, name)} "
        "Whoever relies on a withdrawn one still gets it by its own id."
    )


def withdrawal_warning(catalogue: Catalogue, entry: CatalogueEntry) -> str:
    """That a release was withdrawn, why, and what to take in its place; empty for what is offered."""
    if not entry.yanked:
        return ""
    return (
        f"{entry.id} was withdrawn by the consortium{entry.because or ', which says why on its page'}. It is still "
        f"given to those who rely on it. {_in_its_place(catalogue, entry.extractor_name)}"
    )


def _in_its_place(catalogue: Catalogue, name: str) -> str:
    newest = catalogue.newest(name)
    if newest is not None:
        return f"Take {newest.id}, its newest."
    return f"It offers {', '.join(_offered(catalogue)[:10]) or 'nothing now'}."


def _offered(catalogue: Catalogue) -> list[str]:
    """Names of the extractors that are not withdrawn as a whole."""
    every = sorted({entry.extractor_name for entry in catalogue.releases})
    return [name for name in every if catalogue.newest(name) is not None]


def _download(
    client: httpx.Client, entry: CatalogueEntry, staging: Path, progress: Progress
) -> tuple[int, int]:
    """Every file that the manifest promises, and the manifest; bytes that came, and that were here from before."""
    base = address(entry)
    data, claimed = promised_manifest(client, entry)
    files = claimed.files
    _clear(staging, set(files))
    _check_space(claimed, staging)
    total = sum(file.size_bytes for file in files.values())
    done = resumed = 0
    for name, file in sorted(files.items()):

        def told(here: int, kept: int, name: str = name, done: int = done, resumed: int = resumed) -> None:
            progress(name, done + here, total, resumed + kept)

        resumed += fetch_file(client, f"{base}/{name}", staging / name, file, told)
        done += file.size_bytes
    write_atomically(staging / MANIFEST_FILE, data, mode=0o644)
    return total - resumed + len(data), resumed


def promised_manifest(client: httpx.Client, entry: CatalogueEntry) -> tuple[bytes, AnyManifest]:
    """The manifest that the catalogue names by its digest: its bytes, and what it says. Raises DigestMismatch."""
    data = read_limited(client, f"{address(entry)}/{MANIFEST_FILE}", limits.MANIFEST_BYTES, "Manifest")
    manifest = parse_manifest(parse_document(data, MANIFEST_FILE))
    if manifest.digest != entry.manifest_digest:
        raise DigestMismatch(
            f"The catalogue promises {entry.id} with the manifest {entry.manifest_digest[:23]}…; the server sent "
            f"{manifest.digest[:23]}…. Nothing was kept. Try again, then ask the consortium."
        )
    return data, manifest.claimed


def _download_signature(client: httpx.Client, entry: CatalogueEntry, staging: Path) -> None:
    # Not promised by the manifest, since it is made anew when keys change; the proofs say whether it holds.
    data = read_limited(
        client, f"{address(entry)}/{SIGNATURE_FILE}", limits.SIGNATURE_BYTES, "OpenSSF signature"
    )
    write_atomically(staging / SIGNATURE_FILE, data, mode=0o644)


def address(entry: CatalogueEntry) -> str:
    """Where the files of a release are, at its coordinator."""
    return f"/api/v1/releases/{entry.extractor_name}/{entry.number}/files"


def _standing(folder: Path, entry: CatalogueEntry, store: TrustStore, verify: Verify[V]) -> V | None:
    """What stands in `folder` already, if it is this very release and verifies under the trust of today."""
    if not folder.exists():
        return None
    try:
        if read_document(folder / TRUST_FILE, limits.TRUST_BYTES) != store.trust_envelope:
            return None
        verified = verify(folder, store.trust.root.fingerprint)
    except (NotTrusted, Invalid):
        # Keys were rotated since, or the folder was touched: it is fetched again and replaced as a whole.
        return None
    return verified if verified.manifest_digest == entry.manifest_digest else None


def _show(staging: Path, folder: Path) -> None:
    """Rename into place. What stood there under the same name steps aside first and is then removed."""
    sync_folder(staging)
    aside = staging.with_name(f"{staging.name}.old")
    if folder.exists():
        folder.rename(aside)
    staging.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _staging(destination: Path, entry: CatalogueEntry) -> Path:
    return destination / STATE_FOLDER / f"{_STAGED}{entry.id}-{entry.manifest_digest[_DIGITS]}"


def _tidy(destination: Path, catalogue: Catalogue, wanted: CatalogueEntry) -> None:
    """Remove what cut pulls left of releases that are not offered as they were, and not wanted now."""
    offered = {_staging(destination, e) for e in catalogue.releases if not e.yanked or e == wanted}
    for left in (destination / STATE_FOLDER).glob(f"{_STAGED}*"):
        if left not in offered:
            shutil.rmtree(left, ignore_errors=True)


def _clear(staging: Path, promised: set[str]) -> None:
    """Remove whatever the manifest does not promise: half of a small file, or what somebody put there."""
    for path in sorted(staging.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif str(path.relative_to(staging)) not in promised:
            path.unlink()


def _check_space(manifest: AnyManifest, staging: Path) -> None:
    here = sum(path.lstat().st_size for path in staging.rglob("*") if path.is_file())
    needed = sum(file.size_bytes for file in manifest.files.values()) - here
    free = shutil.disk_usage(staging).free
    if free < needed:
        raise OutOfSpace(
            f"{manifest.release} needs {needed} bytes more and the disk has {free} left. Nothing was "
            "downloaded. "
            "Free some space and try again."
        )


@contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """One pull at a time in a folder."""
    state = destination / STATE_FOLDER
    # Not left to `held_lock`, which makes a folder for its owner alone.
    state.mkdir(parents=True, exist_ok=True)
    busy = "Another pull is at work in this folder. Nothing was downloaded. Wait for it."
    with held_lock(state / "lock", busy):
        yield

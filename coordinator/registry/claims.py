"""What a release's signed files claim, with their digests held against the catalogue; nothing here is proven."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coordinator.members.names import Names
from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import DigestMismatch, NotFound
from shared.domain.plan import Plan
from shared.domain.release import (
    ABOUT_FILE,
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    AnyManifest,
    CatalogueEntry,
    Manifest,
)
from shared.release import limits
from shared.release.about import About, Summary, parse_about, summarise
from shared.release.certificate import parse_certificate
from shared.release.envelope import Envelope, parse_document, read_bounded, read_document, signers
from shared.release.manifest import parse_manifest, plan_of


@dataclass(frozen=True)
class ClaimedExtractor:
    """A release as its signed files claim it. The digests hold together; the proofs are another question."""

    manifest: AnyManifest
    signed_by: tuple[str, ...]
    """Public keys whose signature under the manifest holds."""
    about: About
    """Its notes among them; empty where nobody trained it here, or it is from before there were any."""


@dataclass(frozen=True)
class Claimed(ClaimedExtractor):
    """One that a run trained."""

    manifest: Manifest
    plan: Plan
    summary: Summary
    """By its certificate."""
    names: Names
    """Member id → the name that the certificate gives it."""

    @property
    def epsilon(self) -> float:
        """The highest of any member at the plan's δ."""
        return self.summary.epsilon

    @property
    def epsilon_alone(self) -> float:
        """The same if all others deviate (clause 3.7); in mode local the same number."""
        return self.summary.epsilon_alone


def read_claims(folder: Path, entry: CatalogueEntry) -> ClaimedExtractor:
    """Raises DigestMismatch where files are missing or other than promised, Invalid where they cannot be read."""
    try:
        return _read(folder, entry)
    except NotFound as error:  # whose text names a folder of this machine
        raise DigestMismatch(
            f"Files of {entry.id} are missing here. Nothing of it is shown. Restore the release's folder from a backup."
        ) from error


def _read(folder: Path, entry: CatalogueEntry) -> ClaimedExtractor:
    envelope = read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)
    unverified = parse_manifest(envelope)
    if unverified.digest != entry.manifest_digest:
        raise other_manifest(entry, unverified.digest)
    manifest = unverified.claimed
    signed_by = tuple(sorted(signers("manifest", envelope, _keys(envelope))))
    about = About()
    if ABOUT_FILE in manifest.files:
        about = parse_about(_promised(folder, ABOUT_FILE, entry, manifest, limits.ABOUT_BYTES))
    if not isinstance(manifest, Manifest):
        return ClaimedExtractor(manifest, signed_by, about)
    data = _promised(folder, CERTIFICATE_FILE, entry, manifest, limits.CERTIFICATE_BYTES)
    certificate = parse_certificate(parse_document(data, CERTIFICATE_FILE))
    plan = plan_of(manifest)
    summary = summarise(certificate, plan.privacy.delta)
    names = Names({member.member_id: member.name for member in certificate.members})
    return Claimed(
        manifest=manifest, signed_by=signed_by, about=about, plan=plan, summary=summary, names=names
    )


def _promised(
    folder: Path, name: str, entry: CatalogueEntry, manifest: AnyManifest, maximum_bytes: int
) -> bytes:
    data = read_bounded(folder / name, maximum_bytes)
    promised, found = manifest.files[name].digest, digest_of_bytes(data)
    if found != promised:
        raise DigestMismatch(
            f"{name} of {entry.id} should be {promised[:23]}… and is {found[:23]}…. Nothing of it is shown. "
            "Restore the release's folder from a backup."
        )
    return data


def _keys(envelope: Envelope) -> list[str]:
    lines = envelope["signatures"]
    return (
        [str(line.get("key")) for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []
    )


def other_manifest(entry: CatalogueEntry, found: str) -> DigestMismatch:
    """What to raise where a folder is not what the catalogue lists."""
    return DigestMismatch(
        f"The catalogue lists {entry.id} with the manifest {entry.manifest_digest[:23]}…, its folder has "
        f"{found[:23]}…. Nothing of it is shown. Restore the release's folder from a backup."
    )

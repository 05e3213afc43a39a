"""What a release's signed files claim, with their digests held against the catalogue; nothing here is proven."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.domain.canonical import digest_of_bytes
from shared.domain.errors import DigestMismatch, NotFound
from shared.domain.plan import Plan
from shared.domain.release import CERTIFICATE_FILE, MANIFEST_FILE, AnyManifest, CatalogueEntry, Manifest
from shared.release import limits
from shared.release.certificate import parse_certificate
from shared.release.envelope import Envelope, parse_document, read_bounded, read_document, signers
from shared.release.manifest import parse_manifest, plan_of


@dataclass(frozen=True)
class ClaimedExtractor:
    """A release as its signed files claim it. The digests hold together; the proofs are another question."""

    manifest: AnyManifest
    signed_by: tuple[str, ...]
    """Public keys whose signature under the manifest holds."""


@dataclass(frozen=True)
class Claimed(ClaimedExtractor):
    """One that a run trained."""

    manifest: Manifest
    plan: Plan
    epsilon: float
    """The highest of any member at the plan's δ."""
    epsilon_alone: float
    """The same if all others deviate (clause 3.7); in mode local the same number."""


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
    if not isinstance(manifest, Manifest):
        return ClaimedExtractor(manifest, signed_by)
    data = read_bounded(folder / CERTIFICATE_FILE, limits.CERTIFICATE_BYTES)
    promised, found = manifest.files[CERTIFICATE_FILE].digest, digest_of_bytes(data)
    if found != promised:
        raise DigestMismatch(
            f"The certificate of {entry.id} should be {promised[:23]}… and is {found[:23]}…. Nothing of it is shown. "
            "Restore the release's folder from a backup."
        )
    certificate = parse_certificate(parse_document(data, CERTIFICATE_FILE))
    plan = plan_of(manifest)
    delta = plan.privacy.delta
    both = [(m.guarantees, m.guarantees_alone or m.guarantees) for m in certificate.members]
    return Claimed(
        manifest=manifest,
        plan=plan,
        signed_by=signed_by,
        epsilon=max((g.epsilon for own, _ in both for g in own if g.delta == delta), default=0.0),
        epsilon_alone=max((g.epsilon for _, alone in both for g in alone if g.delta == delta), default=0.0),
    )


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

"""What a release is made of: manifest, privacy certificate and catalogue, as words without behaviour.

A release is a folder that a stranger verifies offline (clause 9). These are the shapes of its signed
files; `shared/release/` writes and signs them, `shared/verification.py` proves them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.domain.errors import Invalid
from shared.domain.extractor import TensorSlot
from shared.domain.ids import ReleaseId
from shared.domain.privacy import GaussianEvent, PrivacyGuarantee, Unit
from shared.domain.run import RoundState
from shared.domain.strict import later

MANIFEST_FORMAT = "commonlens-manifest/1"
CERTIFICATE_FORMAT = "commonlens-certificate/1"
CATALOGUE_FORMAT = "commonlens-catalogue/1"

WEIGHTS_FILE = "model.safetensors"
CERTIFICATE_FILE = "certificate.json"
PLAN_FILE = "plan.json"
CARD_FILE = "card.md"
MANIFEST_FILE = "manifest.json"
TRUST_FILE = "trust.json"
REQUIRED_FILES = (WEIGHTS_FILE, CERTIFICATE_FILE, PLAN_FILE, CARD_FILE)
"""What every manifest promises. `manifest.json` and `trust.json` stand beside it: the first carries the
promise, the second vouches for the key that signed it and is replaced when keys are rotated."""

EXTRACTOR_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
HIGHEST_NUMBER = 999_999


@dataclass(frozen=True)
class ReleaseFile:
    """What the manifest promises about one file."""

    digest: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """The signed statement of one release; its digest is that of the canonical bytes as they were signed."""

    consortium: str
    release: str
    extractor_name: str
    number: int
    created_at: str
    previous: str | None
    """Manifest digest of the release before this one of the same extractor, None for the first."""
    plan: Mapping[str, Any]
    """The whole plan, plain, as members signed its digest."""
    plan_digest: str
    run_id: str
    checkpoint_digest: str
    layout: tuple[TensorSlot, ...]
    """Names and shapes of the weights file, so that they are checked without building the network."""
    files: Mapping[str, ReleaseFile]
    format: str = MANIFEST_FORMAT


@dataclass(frozen=True)
class CertificateMember:
    """What one member spent on this release, and the guarantees at the plan's δ and at 1e-6."""

    member_id: str
    name: str
    identity_public_key: str
    events: tuple[GaussianEvent, ...]
    guarantees: tuple[PrivacyGuarantee, ...]
    events_alone: tuple[GaussianEvent, ...] | None = later(None)
    """Mode secure: what it spent should every other member and the coordinator deviate (clause 3.7)."""
    guarantees_alone: tuple[PrivacyGuarantee, ...] | None = later(None)


@dataclass(frozen=True)
class CohortRound:
    """Who was asked in one round and who contributed. Whoever was asked counts as charged (clause 7.1)."""

    number: int
    state: RoundState
    asked: tuple[str, ...]
    contributed: tuple[str, ...]


@dataclass(frozen=True)
class ConsentRecord:
    """A member's Ed25519 signature, kind "consent", over {"plan_digest": …} (clause 8.2)."""

    member_id: str
    plan_digest: str
    signature: str


@dataclass(frozen=True)
class Certificate:
    """The privacy certificate of clause 9.2: from it a stranger recomputes every ε offline."""

    plan_digest: str
    run_id: str
    unit: Unit
    relation: str
    accountant: str
    members: tuple[CertificateMember, ...]
    rounds: tuple[CohortRound, ...]
    consents: tuple[ConsentRecord, ...]
    format: str = CERTIFICATE_FORMAT

    def member(self, member_id: str) -> CertificateMember | None:
        """The line of `member_id`, or None."""
        return next((m for m in self.members if m.member_id == member_id), None)


@dataclass(frozen=True)
class CatalogueEntry:
    """One release as the registry shows it. A yanked one stays listed and is no longer offered."""

    id: str
    extractor_name: str
    number: int
    manifest_digest: str
    yanked: bool = False


@dataclass(frozen=True)
class Catalogue:
    """All releases of a consortium, signed by the release key; a later one has a higher version."""

    consortium: str
    version: int
    expires_at: str
    releases: tuple[CatalogueEntry, ...]
    format: str = CATALOGUE_FORMAT

    def entry(self, release: str) -> CatalogueEntry | None:
        """The line of release id `release`, or None."""
        return next((e for e in self.releases if e.id == release), None)

    def newest(self, extractor_name: str) -> CatalogueEntry | None:
        """The highest number of `extractor_name` that is not yanked, or None."""
        offered = [e for e in self.releases if e.extractor_name == extractor_name and not e.yanked]
        return max(offered, key=lambda e: e.number, default=None)


def release_id(extractor_name: str, number: int) -> ReleaseId:
    """`<extractor name>-<number>`. Raises Invalid for a name that could not be a folder everywhere."""
    if not EXTRACTOR_NAME.match(extractor_name):
        raise Invalid(
            f"An extractor's name has lower-case letters, digits, '-' and '_' (64 at most), not "
            f"{extractor_name[:80]!r}. Nothing was named. Choose another name."
        )
    if not 1 <= number <= HIGHEST_NUMBER:
        raise Invalid(
            f"A release's number is between 1 and {HIGHEST_NUMBER}, not {number}. Nothing was named."
        )
    return ReleaseId(f"{extractor_name}-{number}")

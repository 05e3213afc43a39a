"""What a release is made of: manifest, privacy certificate and catalogue, as words without behaviour.

A release is a folder that a stranger verifies offline (clause 9). These are the shapes of its signed
files; `shared/release/` writes and signs them, `shared/verification.py` proves them.
"""

from __future__ import annotations

import enum
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
KEPT_FORMAT = "commonlens-kept/1"
CERTIFICATE_FORMAT = "commonlens-certificate/1"
CATALOGUE_FORMAT = "commonlens-catalogue/1"

WEIGHTS_FILE = "model.safetensors"
CERTIFICATE_FILE = "certificate.json"
PLAN_FILE = "plan.json"
CARD_FILE = "README.md"
FIRST_CARD_FILE = "card.md"
"""The card's name in the first releases, before hubs' tools were to find it."""
CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
ONNX_FILE = "model.onnx"
ONNX_INT8_FILE = "model-int8.onnx"
MEASURED_FILE = "measured.json"
ABOUT_FILE = "about.json"
LENS_FILE = "lens.json"
LENS_PICTURE_FILE = "lens.svg"
MANIFEST_FILE = "manifest.json"
TRUST_FILE = "trust.json"
SIGNATURE_FILE = "model.sig"
"""OpenSSF model signature over the whole folder; like the trust document it is made anew when keys are rotated."""
BESIDE_THE_PROMISE = (MANIFEST_FILE, TRUST_FILE, SIGNATURE_FILE)
"""What stands in a release's folder and is not promised by its manifest: the first carries the promise, the others
vouch for it and are replaced when keys are rotated."""
TRAINED_FILES = (WEIGHTS_FILE, CERTIFICATE_FILE, PLAN_FILE)
"""What the manifest of every trained release promises, beside its card."""
KEPT_FILES = (WEIGHTS_FILE,)
"""The same of one that was not trained here."""

EXTRACTOR_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
RELEASE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}-[1-9][0-9]{0,5}\Z")
NEW_EXTRACTOR_NAME = re.compile(r"(?!.*--|.*-\Z)[a-z0-9][a-z0-9_-]{0,63}\Z")
"""What a line of releases may be called from now on: hubs' clients refuse the others, which stay readable."""
CHANNEL_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
FILE_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
"""A plain name, or one in one folder; what hubs' tools look for has capitals."""
INERT_SUFFIXES = frozenset((".json", ".md", ".onnx", ".safetensors", ".svg", ".txt"))
"""Of every file that a manifest may list. Programs that load releases run what ends in .py or .bin: none has one."""
LATEST = "latest"
"""The channel that nobody moves: the highest number that is offered."""
HIGHEST_NUMBER = 999_999
MOST_REASON_CHARACTERS = 300
"""Of why a release was withdrawn."""


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


class SourceKind(enum.Enum):
    """What an extractor is that no run of the consortium trained."""

    CLASSICAL = "classical"
    RANDOM = "random"
    PUBLIC = "public"


@dataclass(frozen=True)
class Source:
    """Where such an extractor comes from."""

    kind: SourceKind
    about: str
    """What it sees and what it is for, a paragraph."""
    licence: str
    """SPDX name."""
    origin: str
    """The package, paper or seed that it was made from."""


@dataclass(frozen=True)
class KeptManifest:
    """The signed statement of one release that was not trained here: no records, no plan, no certificate."""

    consortium: str
    release: str
    extractor_name: str
    number: int
    created_at: str
    previous: str | None
    source: Source
    layout: tuple[TensorSlot, ...]
    files: Mapping[str, ReleaseFile]
    format: str = KEPT_FORMAT


AnyManifest = Manifest | KeptManifest


@dataclass(frozen=True)
class CertificateMember:
    """What one member spent on this release and all that its weights came out of, and the guarantees for it at the
    plan's δ and at 1e-6."""

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
    """A member's Ed25519 signature, kind "consent", over {"plan_digest": …, "member_id": …, "name": …} (clauses 8.2,
    8.4)."""

    member_id: str
    plan_digest: str
    signature: str
    name: str = later("")
    """Under which it agreed to stand in releases; empty, and neither it nor the id signed, where the plan itself names
    members."""


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
    predecessor: Predecessor | None = later(None)
    """The trained release that the plan started from. Its events, and those of its own predecessors, are among the
    members' events here: the weights are a function of those records too."""

    def member(self, member_id: str) -> CertificateMember | None:
        """The line of `member_id`, or None."""
        return next((m for m in self.members if m.member_id == member_id), None)


@dataclass(frozen=True)
class Predecessor:
    """What a stranger needs of the release that a run started from, to compose what both cost."""

    manifest: Mapping[str, Any]
    """What was signed of its manifest, plain; the plan names the digest."""
    certificate: Certificate
    """The manifest promises the digest of the file that it was written to."""


@dataclass(frozen=True)
class CatalogueEntry:
    """One release as the registry shows it. A yanked one stays listed and is no longer offered."""

    id: str
    extractor_name: str
    number: int
    manifest_digest: str
    yanked: bool = False
    reason: str = later("")
    """Why it was withdrawn, a line of plain text; empty for what is offered, or was withdrawn before reasons were
    signed."""

    @property
    def because(self) -> str:
        """The reason behind a colon, to go on after "withdrawn"; empty where there is none."""
        return f": {self.reason.rstrip('.')}" if self.reason else ""


@dataclass(frozen=True)
class ChannelPointer:
    """Where a channel of an extractor's line points; moved by signing the catalogue anew."""

    extractor_name: str
    channel: str
    release: str


@dataclass(frozen=True)
class Catalogue:
    """All releases of a consortium, signed by the release key; a later one has a higher version."""

    consortium: str
    version: int
    expires_at: str
    releases: tuple[CatalogueEntry, ...]
    format: str = CATALOGUE_FORMAT
    channels: tuple[ChannelPointer, ...] = later(())

    def entry(self, release: str) -> CatalogueEntry | None:
        """The line of release id `release`, or None."""
        return next((e for e in self.releases if e.id == release), None)

    def newest(self, extractor_name: str) -> CatalogueEntry | None:
        """The highest number of `extractor_name` that is not yanked, or None."""
        offered = [e for e in self.releases if e.extractor_name == extractor_name and not e.yanked]
        return max(offered, key=lambda e: e.number, default=None)

    @property
    def withdrawn(self) -> tuple[CatalogueEntry, ...]:
        """The yanked ones, by extractor, newest first."""
        return tuple(
            sorted((e for e in self.releases if e.yanked), key=lambda e: (e.extractor_name, -e.number))
        )

    def find(self, wanted: str) -> CatalogueEntry | None:
        """An extractor's newest (`digits`), a channel of it (`digits@stable`) or a release by its id (`digits-3`).

        By its id also a withdrawn one: what is to be said of it is for the caller.
        """
        name, _, channel = wanted.partition("@")
        if channel:
            return self.channels_of(name).get(channel)
        return self.newest(wanted) or self.entry(wanted)

    def channels_of(self, extractor_name: str) -> dict[str, CatalogueEntry]:
        """Channel → the release it points to; `latest` among them where any release is offered."""
        newest = self.newest(extractor_name)
        found = {} if newest is None else {LATEST: newest}
        for pointer in self.channels:
            entry = self.entry(pointer.release)
            if pointer.extractor_name == extractor_name and entry is not None:
                found[pointer.channel] = entry
        return found


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

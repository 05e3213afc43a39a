"""The manifest of one release: written, signed, and parsed into what nobody has verified yet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from shared.domain.canonical import Digest, digest_of
from shared.domain.clock import from_text
from shared.domain.errors import Invalid
from shared.domain.extractor import WeightLayout
from shared.domain.plan import PLAN_FORMAT, Plan
from shared.domain.release import (
    BESIDE_THE_PROMISE,
    CARD_FILE,
    FILE_NAME,
    FIRST_CARD_FILE,
    INERT_SUFFIXES,
    KEPT_FILES,
    KEPT_FORMAT,
    MANIFEST_FORMAT,
    TRAINED_FILES,
    AnyManifest,
    KeptManifest,
    Manifest,
    release_id,
)
from shared.domain.strict import to_plain
from shared.release import limits
from shared.release.envelope import AGAIN, Envelope, envelope_digest, read_signed, require, seal, signed_part
from shared.release.signing import SigningKey


@dataclass(frozen=True)
class UnverifiedManifest:
    """A manifest as parsing gives it; only `shared.verification` makes more of it."""

    claimed: AnyManifest
    envelope: Envelope

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical bytes of what was signed; signatures do not change it."""
        return envelope_digest(self.envelope)

    def require_signature(self, release_key: str) -> None:
        """Raise BadSignature unless the release key signed it."""
        require("manifest", self.envelope, [release_key], 1, "release key")


def sign_manifest(manifest: AnyManifest, release_key: SigningKey) -> Envelope:
    """The manifest in an envelope."""
    return seal("manifest", to_plain(manifest), [release_key])


def resign_manifest(envelope: Envelope, release_key: SigningKey) -> Envelope:
    """The same manifest, same digest, with a signature by the release key of today (after a rotation)."""
    if any(line["key"] == release_key.public_hex for line in envelope["signatures"]):
        return envelope
    fresh = seal("manifest", signed_part(envelope), [release_key])
    return {"signed": envelope["signed"], "signatures": [*envelope["signatures"], *fresh["signatures"]]}


def parse_manifest(envelope: Envelope) -> UnverifiedManifest:
    """Check form and bounds; nothing is proven by it. Raises Invalid."""
    value = signed_part(envelope)
    manifest: AnyManifest
    if value.get("format") == KEPT_FORMAT:
        manifest = read_signed(KeptManifest, KEPT_FORMAT, value, "manifest")
    else:
        manifest = read_signed(Manifest, MANIFEST_FORMAT, value, "manifest")
    if manifest.release != release_id(manifest.extractor_name, manifest.number):
        raise Invalid(
            f"The manifest names itself {manifest.release[:80]!r}; its name and number make "
            f"{manifest.extractor_name}-{manifest.number}. {AGAIN}"
        )
    try:
        from_text(manifest.created_at)
    except ValueError as error:
        raise Invalid(f"The manifest's created_at is not a UTC moment. {AGAIN}") from error
    _check_files(manifest)
    return UnverifiedManifest(manifest, envelope)


def layout_of(manifest: AnyManifest) -> WeightLayout:
    """Names and shapes that the weights file must have."""
    return WeightLayout(manifest.layout)


def plan_of(manifest: Manifest) -> Plan:
    """The plan inside the manifest. Raises Invalid unless its digest is the one that stands beside it."""
    found = digest_of(dict(manifest.plan))
    if found != manifest.plan_digest:
        raise Invalid(
            f"The manifest says the plan is {manifest.plan_digest[:23]}…; the plan inside it is "
            f"{found[:23]}…. "
            f"{AGAIN}"
        )
    return read_signed(Plan, PLAN_FORMAT, manifest.plan, "plan")


def kind_of(manifest: AnyManifest) -> str:
    """trained, by a run of this consortium; or classical, random, public."""
    return manifest.source.kind.value if isinstance(manifest, KeptManifest) else "trained"


def card_of(manifest: AnyManifest) -> str:
    """The name of its card."""
    return CARD_FILE if CARD_FILE in manifest.files else FIRST_CARD_FILE


def _check_files(manifest: AnyManifest) -> None:
    names = set(manifest.files)
    required = TRAINED_FILES if isinstance(manifest, Manifest) else KEPT_FILES
    missing = [name for name in (*required, card_of(manifest)) if name not in names]
    if missing:
        raise Invalid(f"The manifest lists {len(names)} files and not {missing[0]}. {AGAIN}")
    if len(names) > limits.RELEASE_FILES:
        raise Invalid(f"A release has at most {limits.RELEASE_FILES} files, this one {len(names)}. {AGAIN}")
    for name, file in manifest.files.items():
        if not FILE_NAME.match(name) or name in BESIDE_THE_PROMISE:
            raise Invalid(f"The manifest lists a file {name[:80]!r}, which is no name for one. {AGAIN}")
        if PurePosixPath(name).suffix not in INERT_SUFFIXES:
            raise Invalid(
                f"The manifest lists a file {name[:80]!r}. Only {', '.join(sorted(INERT_SUFFIXES))} are in a release, "
                f"which nothing that loads it runs. {AGAIN}"
            )
        if not 0 <= file.size_bytes <= limits.RELEASE_BYTES:
            raise Invalid(f"The manifest gives {name} a size of {file.size_bytes} bytes. {AGAIN}")
    _check_places(names)
    total = sum(file.size_bytes for file in manifest.files.values())
    if total > limits.RELEASE_BYTES:
        raise Invalid(f"A release has at most {limits.RELEASE_BYTES} bytes, this one {total}. {AGAIN}")


def _check_places(names: Iterable[str]) -> None:
    """Raise Invalid where two names cannot stand in one folder, on disks that do not tell capitals apart too."""
    folders = {folder for name in names for folder in [name.rpartition("/")[0]] if folder}
    for first, second in itertools.pairwise(
        sorted([*names, *folders], key=lambda name: (name.lower(), name))
    ):
        if first.lower() == second.lower():
            how = (
                "is a file and a folder"
                if first == second
                else f"and {second[:80]!r} differ in capitals only"
            )
            raise Invalid(f"The manifest's {first[:80]!r} {how}, which no disk holds everywhere. {AGAIN}")

"""The one way from a folder of bytes to a release that may be used: ten proofs, in order (clause 9).

The coordinator runs this before it shows a release, a member before it loads one, a stranger with
`commonlens verify`. It needs no network and no torch. Each proof has a name; the first that fails ends it.

An extractor that was not trained here has no plan and no certificate: five proofs are about it.

What is proven is that the release key of this trust document says so, and that what it says fits together.
Whether the trust document is the consortium's is proven only where a root is pinned. The proofs of the privacy
certificate are in certificate_proofs.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn, TypeVar

from shared.certificate_proofs import (
    ADVICE,
    Line,
    Recomputed,
    prove_cohorts,
    prove_consents,
    prove_epsilon,
    prove_sound,
)
from shared.domain.canonical import digest_of, digest_of_file
from shared.domain.clock import Clock, SystemClock
from shared.domain.errors import (
    CommonlensError,
    DigestMismatch,
    Invalid,
    InvalidWeights,
    NotTrusted,
    ProofFailed,
)
from shared.domain.extractor import ExtractorSpec
from shared.domain.plan import Plan
from shared.domain.release import (
    BESIDE_THE_PROMISE,
    CERTIFICATE_FILE,
    KEPT_FORMAT,
    MANIFEST_FILE,
    PLAN_FILE,
    SIGNATURE_FILE,
    TRUST_FILE,
    WEIGHTS_FILE,
    AnyManifest,
    Certificate,
    Manifest,
)
from shared.extractors.files import TRAINED, Weights, read_weights
from shared.release import limits
from shared.release.certificate import parse_certificate
from shared.release.client_notes import NOTES_FOLDER, NOTES_ROOT, count_notes, stranger_among_notes
from shared.release.envelope import read_document
from shared.release.lineage import Link, links_behind
from shared.release.manifest import UnverifiedManifest, layout_of, parse_manifest, plan_of
from shared.release.openssf import verify_folder
from shared.release.trust import Trust, check_pin, open_trust

T = TypeVar("T")

PROOFS: Final = (
    "trust file signed by the root",
    "manifest signed by the release key",
    "every file has the digest the manifest promises and no extra file",
    "plan digest",
    "weights match the plan's layout: names, shapes, finite",
    "consents signed by the identity keys on the certificate",
    "cohorts of every round meet the quorum",
    "the plan is sound by its own numbers",
    "ε recomputed from the events is not above what is claimed",
    "OpenSSF signature over the folder",
)
KEPT_PROOFS: Final = (*PROOFS[:3], "weights match the manifest's layout: names, shapes, finite", PROOFS[-1])
"""Those of an extractor that was not trained here."""
_GUARD: Final = object()


@dataclass(frozen=True)
class Proof:
    """One proof that held: its name, and one line with what was compared."""

    name: str
    line: str


class VerifiedExtractor:
    """An extractor whose every proof held. Only `verify_extractor` and `verify_release` make one."""

    def __init__(self, guard: object, found: _Found, weights: Weights, proofs: tuple[Proof, ...]) -> None:
        if guard is not _GUARD:
            raise NotTrusted("A release is verified by verify_release and by nothing else. Nothing was made.")
        self.manifest: AnyManifest = found.manifest.claimed
        self.manifest_digest: str = found.manifest.digest
        self.weights = weights
        """As read during the verification: use these, so that nothing is read a second time unproven."""
        self.trust = found.trust
        self.pinned = found.pinned
        """Whether a root was given. Without one the folder vouches only for itself."""
        self.proofs = proofs

    @property
    def spec(self) -> ExtractorSpec:
        """What the extractor is."""
        return self.weights.spec

    @property
    def behind(self) -> Mapping[str, str]:
        """Release → digest of its manifest, of this consortium's trained releases that the weights came out of."""
        return {}


class VerifiedRelease(VerifiedExtractor):
    """One that a run trained: with its plan, and its certificate recomputed."""

    def __init__(
        self,
        guard: object,
        found: _Found,
        weights: Weights,
        proofs: tuple[Proof, ...],
        *,
        trained: Manifest,
        line: Line,
        recomputed: Mapping[str, tuple[Recomputed, ...]],
    ) -> None:
        super().__init__(guard, found, weights, proofs)
        self.manifest: Manifest = trained
        self.plan: Plan = line[0].plan
        self.certificate: Certificate = line[0].certificate
        self.line = line
        """This release, then the trained releases that its weights came out of, the newest first."""
        self.recomputed = recomputed
        """Member id → its ε at the plan's δ and at 1e-6, computed during the verification."""

    @property
    def behind(self) -> Mapping[str, str]:
        """See VerifiedExtractor."""
        own = (link for link in self.line[1:] if link.plan.consortium == self.plan.consortium)
        return {link.release: link.manifest_digest for link in own}


def verify_extractor(
    directory: Path,
    *,
    pinned_root: str | None,
    clock: Clock | None = None,
    allow_expired: bool = False,
) -> VerifiedExtractor:
    """Check every proof of the release in `directory`, trained here or not.

    `pinned_root` is a root public key (64 hex digits) or the fingerprint of a whole root set (`sha256:…`).
    `allow_expired` lets the trust document's time be over: for a release that was verified here while it was
    not, or that a catalogue in date still lists.

    Raises a NotTrusted leaf whose text names the proof that failed (InvalidWeights where the weights file is
    not one), and Invalid for a `pinned_root` that can be none. Nothing in the folder is changed.
    """
    if pinned_root is not None:
        check_pin(pinned_root)
    folder = Path(directory)
    checks = _Checks(_proofs_of(folder))
    found = _found(checks, folder, pinned_root, clock or SystemClock(), allow_expired)
    trained = found.manifest.claimed
    if not isinstance(trained, Manifest):
        checks.names = KEPT_PROOFS  # now proven, whatever it was at first sight
        weights = checks.prove(3, lambda: _weights(folder, found.manifest.claimed, ()))
        checks.prove(4, lambda: _openssf(folder, found.trust))
        return VerifiedExtractor(_GUARD, found, weights, tuple(checks.held))
    line = checks.prove(3, lambda: _plan(folder, found.manifest, trained, found.trust))
    weights = checks.prove(4, lambda: _weights(folder, trained, line))
    checks.prove(5, lambda: prove_consents(line))
    checks.prove(6, lambda: prove_cohorts(line))
    checks.prove(7, lambda: prove_sound(line))
    recomputed = checks.prove(8, lambda: prove_epsilon(line))
    checks.prove(9, lambda: _openssf(folder, found.trust))
    return VerifiedRelease(
        _GUARD,
        found,
        weights,
        tuple(checks.held),
        trained=trained,
        line=line,
        recomputed=recomputed,
    )


def verify_release(
    directory: Path,
    *,
    pinned_root: str | None,
    clock: Clock | None = None,
    allow_expired: bool = False,
) -> VerifiedRelease:
    """`verify_extractor` where a privacy certificate is wanted.

    Raises Invalid as well, for an extractor that was not trained here and so has none.
    """
    found = verify_extractor(directory, pinned_root=pinned_root, clock=clock, allow_expired=allow_expired)
    if not isinstance(found, VerifiedRelease):
        raise Invalid(
            f"{found.manifest.release} was not trained here: it saw no member's records, so there is no plan and no "
            "certificate to show. Its proofs hold. Ask about a release that a run trained."
        )
    return found


@dataclass(frozen=True)
class _Found:
    """What the first three proofs gave, which are the same for every release."""

    trust: Trust
    manifest: UnverifiedManifest
    pinned: bool


def _found(
    checks: _Checks, folder: Path, pinned_root: str | None, clock: Clock, allow_expired: bool
) -> _Found:
    def trust_proof() -> tuple[Trust, str]:
        envelope = read_document(folder / TRUST_FILE, limits.TRUST_BYTES)
        trust = open_trust(envelope, pinned_root, clock, allow_expired=allow_expired)
        how = "the root pinned here" if pinned_root else "a root that nobody pinned here"
        return (
            trust,
            f"version {trust.version} of {trust.consortium}, by {how}, valid until {trust.expires_at}",
        )

    trust = checks.prove(0, trust_proof)
    manifest = checks.prove(1, lambda: _manifest(folder, trust))
    checks.prove(2, lambda: _files(folder, manifest.claimed))
    return _Found(trust, manifest, pinned_root is not None)


def _proofs_of(folder: Path) -> tuple[str, ...]:
    """Which proofs await it, by what its manifest says that it is: for the words of a failure, not for trust."""
    try:
        signed = read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES).get("signed")
    except CommonlensError:
        return PROOFS
    return KEPT_PROOFS if isinstance(signed, dict) and signed.get("format") == KEPT_FORMAT else PROOFS


class _Checks:
    """Runs proofs in order and puts the name of the one that fails in front of its error."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.held: list[Proof] = []

    def prove(self, number: int, check: Callable[[], tuple[T, str]]) -> T:
        try:
            value, line = check()
        except (NotTrusted, InvalidWeights) as error:
            raise type(error)(self._failed(number, error.message)) from error
        except CommonlensError as error:
            raise ProofFailed(self._failed(number, error.message)) from error
        self.held.append(Proof(self.names[number], line))
        return value

    def _failed(self, number: int, why: str) -> str:
        return f'Proof {number + 1} of {len(self.names)}, "{self.names[number]}", failed. {why}'


def _manifest(folder: Path, trust: Trust) -> tuple[UnverifiedManifest, str]:
    manifest = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES))
    manifest.require_signature(trust.release_key)
    if manifest.claimed.consortium != trust.consortium:
        _fail(
            f"The trust file is of {trust.consortium!r}, the manifest of {manifest.claimed.consortium!r}. {ADVICE}"
        )
    return manifest, f"{manifest.claimed.release}, {manifest.digest}, by {trust.release_key[:16]}…"


def _files(folder: Path, manifest: AnyManifest) -> tuple[None, str]:
    _no_extra_file(folder, {*manifest.files, *BESIDE_THE_PROMISE})
    for name, promised in manifest.files.items():
        path = folder / name
        found_bytes = path.stat().st_size if path.exists() else None
        if found_bytes is None:
            raise DigestMismatch(f"The file {name} is missing. Pull the release again.")
        # Compared first, so that a file of another size is not even read.
        if found_bytes != promised.size_bytes:
            raise DigestMismatch(
                f"{name} should have {promised.size_bytes} bytes and has {found_bytes}. Pull the "
                "release again."
            )
        found = digest_of_file(path)
        if found != promised.digest:
            raise DigestMismatch(
                f"{name} should be {promised.digest[:23]}… and is {found[:23]}…. Pull the release again."
            )
    notes = count_notes(folder)
    left_out = f"; left out: {NOTES_FOLDER}, {notes} notes of the client that fetched them" if notes else ""
    total = sum(file.size_bytes for file in manifest.files.values())
    return None, f"{len(manifest.files)} files, {total} bytes{left_out}"


def _no_extra_file(folder: Path, expected: Collection[str]) -> None:
    folders = {str(PurePosixPath(name).parent) for name in expected} - {"."}
    for place in (
        "",
        *sorted(name for name in folders if (folder / name).is_dir()),
    ):  # a missing one: see _files
        with os.scandir(folder / place) as entries:
            for entry in entries:
                name = f"{place}/{entry.name}" if place else entry.name
                if name in (*folders, NOTES_ROOT) and entry.is_dir(follow_symlinks=False):
                    continue
                if name not in expected:
                    _extra(name)
                if not entry.is_file(follow_symlinks=False):
                    _fail(f"{name} is not a plain file. Pull the release again.")
    hidden = stranger_among_notes(folder, expected)
    if hidden is not None:
        _extra(hidden)


def _extra(name: str) -> NoReturn:
    shown = name if len(name) <= 120 else f"{name[:60]}…{name[-59:]}"
    if name.startswith(f"{NOTES_FOLDER}/") and name.endswith(".incomplete"):
        _fail(
            f"There is an unfinished download {shown!r}. Run the same download again, which goes on with it; remove "
            "it if it is there after that."
        )
    _fail(f"There is an extra file {shown!r}. Remove it, or pull the release again.")


def _openssf(folder: Path, trust: Trust) -> tuple[None, str]:
    if not trust.openssf_key:
        # Not believed where nothing vouches for its key, and not missed where it was made before there was one.
        return None, "the trust document names no key for one"
    if not (folder / SIGNATURE_FILE).is_file():
        _fail(f"The file {SIGNATURE_FILE} is missing. Pull the release again.")
    # That nothing hides among the notes was proof 3.
    covered = verify_folder(folder, trust.openssf_key, left_out=NOTES_FOLDER)
    return None, f"{SIGNATURE_FILE} covers {covered} files, by the EC key that the trust document names"


def _plan(folder: Path, parsed: UnverifiedManifest, manifest: Manifest, trust: Trust) -> tuple[Line, str]:
    plan = plan_of(manifest)
    beside = digest_of(read_document(folder / PLAN_FILE, limits.PLAN_BYTES))
    certificate = parse_certificate(read_document(folder / CERTIFICATE_FILE, limits.CERTIFICATE_BYTES))
    for where, digest in (("plan.json", beside), ("the certificate", certificate.plan_digest)):
        if digest != manifest.plan_digest:
            raise DigestMismatch(
                f"The manifest's plan is {manifest.plan_digest[:23]}…, that of {where} {digest[:23]}…. {ADVICE}"
            )
    if certificate.run_id != manifest.run_id:
        _fail(f"The manifest and the certificate name different runs. {ADVICE}")
    if plan.consortium != trust.consortium or plan.extractor_name != manifest.extractor_name:
        _fail(f"The plan is of another consortium or extractor than the manifest. {ADVICE}")
    behind = links_behind(plan, certificate.predecessor)
    started = f", starting from {behind[0].release}, {behind[0].manifest_digest[:23]}…" if behind else ""
    own = Link(manifest.release, parsed.digest, plan, certificate, manifest.files[WEIGHTS_FILE].digest)
    return (own, *behind), f"{manifest.plan_digest}{started}"


def _weights(folder: Path, manifest: AnyManifest, line: Line) -> tuple[Weights, str]:
    plan = line[0].plan if line else None
    layout = layout_of(manifest)
    if plan is not None and layout.trainable_coordinates != plan.extractor_coordinates:
        raise InvalidWeights(
            f"The plan's extractor trains {plan.extractor_coordinates} coordinates, the manifest's layout "
            f"{layout.trainable_coordinates}. {ADVICE}"
        )
    weights = read_weights(folder / WEIGHTS_FILE, layout, maximum_bytes=limits.WEIGHTS_BYTES)
    if plan is not None and weights.spec != plan.extractor:
        raise InvalidWeights(
            f"The weights file is of another architecture, or other options, than the plan. {ADVICE}"
        )
    if len(line) > 1:
        _check_origin(weights, line[1])
    return (
        weights,
        f"{len(layout.slots)} tensors, {layout.trainable_coordinates} trained coordinates, no torch used",
    )


def _check_origin(weights: Weights, start: Link) -> None:
    """The weights' own header says what they went on from: the release whose certificate is composed."""
    origin = weights.origin
    said = (origin.kind, origin.name, origin.digest) if origin else None
    if said != (TRAINED, start.release, start.weights_digest):
        named = f"{origin.kind[:20]} {origin.name[:80]} ({origin.digest[:23]}…)" if origin else "no release"
        raise InvalidWeights(
            f"The plan starts from {start.release} ({start.weights_digest[:23]}…), and the weights say that they "
            f"started from {named}: the certificate may compose the wrong rounds. Do not rely on it; tell the "
            "consortium."
        )


def _fail(why: str) -> NoReturn:
    raise ProofFailed(why)

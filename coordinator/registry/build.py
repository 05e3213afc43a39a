"""Step 13.2: every file of a release, written into a hidden folder; gives the manifest that promises them."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.domain.canonical import Digest, digest_of, digest_of_file
from shared.domain.errors import DigestMismatch, InvalidWeights, UnsoundPlan
from shared.domain.extractor import WeightLayout
from shared.domain.files import write_atomically, write_json
from shared.domain.plan import Plan
from shared.domain.privacy import RELATION, REPORTED_DELTA, GaussianEvent, Mode, PrivacyGuarantee
from shared.domain.release import (
    ABOUT_FILE,
    BESIDE_THE_PROMISE,
    CARD_FILE,
    CERTIFICATE_FILE,
    MEASURED_FILE,
    PLAN_FILE,
    TRUST_FILE,
    WEIGHTS_FILE,
    AnyManifest,
    Certificate,
    CertificateMember,
    CohortRound,
    ConsentRecord,
    KeptManifest,
    Manifest,
    Predecessor,
    ReleaseFile,
    Source,
    release_id,
)
from shared.domain.strict import to_plain
from shared.exports.measured import read_measured
from shared.exports.model_index import model_index_of
from shared.exports.sentence_files import MODULES_FILE
from shared.exports.timm_file import TIMM_FILE
from shared.exports.training_energy import training_section
from shared.extractors.files import Origin, read_weights, write_weights
from shared.extractors.flatten import unflatten
from shared.privacy import accountant
from shared.release import limits
from shared.release.about import About, NoisedAccuracy, summarise
from shared.release.card import write_card, write_kept_card
from shared.release.certificate import Spend, spends
from shared.release.licence import OWN_TERMS, Licence
from shared.release.lineage import composed, links_behind, spends_of
from shared.wire.enrolment import software_version

_PUBLIC = 0o644
LOADED_BY: Mapping[str, str] = {MODULES_FILE: "sentence-transformers", TIMM_FILE: "timm"}
"""File → the program that loads a release with such a file by its name."""
Export = Callable[[Path, str], Mapping[str, str]]
"""(folder, release) → sections of the card. Adds to a folder that holds the weights what other programs read: ONNX,
their configuration, a lens profile, measurements."""


def weights_only(_folder: Path, _release: str) -> Mapping[str, str]:
    """The `Export` that adds nothing: weights and documents are a whole release."""
    return {}


@dataclass(frozen=True)
class Contributor:
    """Who a member on the certificate is; what it spent follows from the plan and the rounds."""

    member_id: str
    name: str
    identity_public_key: str


@dataclass(frozen=True)
class PublishRequest:
    """Everything a release is made of. Two requests for the same run and checkpoint are the same release."""

    plan: Plan
    run_id: str
    checkpoint_digest: str
    weights_f32: bytes
    """Little-endian float32 [d], the extractor's trained coordinates in the layout's order."""
    starting_weights: Path
    """The plan's starting weights file: gives the layout and the tensors that training does not move."""
    members: tuple[Contributor, ...]
    rounds: tuple[CohortRound, ...]
    consents: tuple[ConsentRecord, ...]
    notes: tuple[str, ...] = ()
    """What is new, by whoever publishes it; of the first request that made it."""
    licence: Licence = OWN_TERMS
    validation: NoisedAccuracy | None = None
    predecessor: Predecessor | None = None
    """What the plan's starting release cost; None where it starts from none."""
    starting_seed: int | None = None
    """As in About."""

    @property
    def extractor_name(self) -> str:
        """The line of releases that it belongs to."""
        return self.plan.extractor_name

    @property
    def key(self) -> Digest:
        """What makes two requests the same."""
        return digest_of([self.plan.digest, self.run_id, self.checkpoint_digest])


@dataclass(frozen=True)
class KeepRequest:
    """An extractor that was not trained here, as a file of weights."""

    extractor_name: str
    source: Source
    weights: Path

    @property
    def key(self) -> Digest:
        """As in PublishRequest."""
        return digest_of([self.extractor_name, digest_of_file(self.weights)])


def key_of(manifest: AnyManifest) -> Digest:
    """The key of the request that a release was made for."""
    if isinstance(manifest, KeptManifest):
        return digest_of([manifest.extractor_name, manifest.files[WEIGHTS_FILE].digest])
    return digest_of([manifest.plan_digest, manifest.run_id, manifest.checkpoint_digest])


@dataclass(frozen=True)
class ReleaseSlot:
    """Where the release stands in the order; fixed by the intent."""

    number: int
    previous: str | None
    created_at: str


def build_files(
    folder: Path,
    request: PublishRequest | KeepRequest,
    slot: ReleaseSlot,
    trust: Mapping[str, Any],
    export: Export,
) -> AnyManifest:
    """Write everything but the manifest into `folder`, emptied first.

    Raises InvalidWeights, DigestMismatch for other starting weights than the plan's, UnsoundPlan for an ε
    that is not finite, OutOfSpace, and what `export` raises.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if isinstance(request, KeepRequest):
        return _build_kept(folder, request, slot, trust, export)
    return _build_trained(folder, request, slot, trust, export)


def _build_trained(
    folder: Path, request: PublishRequest, slot: ReleaseSlot, trust: Mapping[str, Any], export: Export
) -> Manifest:
    plan = request.plan
    release = release_id(plan.extractor_name, slot.number)
    certificate = make_certificate(request)
    about = About(
        notes=request.notes,
        licence=request.licence,
        validation=request.validation,
        summary=summarise(certificate, plan.privacy.delta),
        software=software_version(),
        starting_seed=request.starting_seed,
    )
    layout, origin = _write_weights(folder / WEIGHTS_FILE, request)
    sections = dict(export(folder, release))
    if (folder / MEASURED_FILE).exists():
        sections |= training_section(plan, request.rounds, read_measured(folder).energy)
    write_json(folder / ABOUT_FILE, to_plain(about), mode=_PUBLIC)
    write_json(folder / CERTIFICATE_FILE, to_plain(certificate), mode=_PUBLIC)
    write_json(folder / PLAN_FILE, to_plain(plan), mode=_PUBLIC)
    write_json(folder / TRUST_FILE, trust, mode=_PUBLIC)
    card = write_card(
        release,
        slot.created_at,
        plan,
        request.run_id,
        certificate,
        about,
        _sentence(origin),
        sections,
        programs=_programs(folder),
        evaluations=model_index_of(folder, release, plan.extractor.kind),
    )
    write_atomically(folder / CARD_FILE, card.encode("utf-8"), mode=_PUBLIC)
    return Manifest(
        consortium=plan.consortium,
        release=release,
        extractor_name=plan.extractor_name,
        number=slot.number,
        created_at=slot.created_at,
        previous=slot.previous,
        plan=to_plain(plan),
        plan_digest=plan.digest,
        run_id=request.run_id,
        checkpoint_digest=request.checkpoint_digest,
        layout=layout.slots,
        files=_promises(folder),
    )


def _programs(folder: Path) -> list[str]:
    """Those that load the release by its name from a hub, by what stands in its folder: hubs find it by them."""
    return [program for file, program in LOADED_BY.items() if (folder / file).is_file()]


def _build_kept(
    folder: Path, request: KeepRequest, slot: ReleaseSlot, trust: Mapping[str, Any], export: Export
) -> KeptManifest:
    release = release_id(request.extractor_name, slot.number)
    consortium = str(trust["signed"]["consortium"])
    shutil.copyfile(request.weights, folder / WEIGHTS_FILE)
    weights = read_weights(folder / WEIGHTS_FILE, maximum_bytes=limits.WEIGHTS_BYTES)
    measured = export(folder, release)
    write_json(folder / TRUST_FILE, trust, mode=_PUBLIC)
    card = write_kept_card(
        release,
        consortium,
        slot.created_at,
        request.source,
        weights.spec,
        software_version(),
        measured,
        programs=_programs(folder),
        evaluations=model_index_of(folder, release, weights.spec.kind),
    )
    write_atomically(folder / CARD_FILE, card.encode("utf-8"), mode=_PUBLIC)
    return KeptManifest(
        consortium=consortium,
        release=release,
        extractor_name=request.extractor_name,
        number=slot.number,
        created_at=slot.created_at,
        previous=slot.previous,
        source=request.source,
        layout=weights.layout.slots,
        files=_promises(folder),
    )


def make_certificate(request: PublishRequest) -> Certificate:
    """The privacy certificate (clause 9.2), with every ε computed here, of all that the weights came out of.

    Raises UnsoundPlan, and DigestMismatch where the predecessor is not the plan's.
    """
    plan = request.plan
    behind = links_behind(plan, request.predecessor)
    spent, nothing = composed([spends(plan, request.rounds), *spends_of(behind)]), Spend((), ())
    own = {member.member_id for member in request.members}
    before = [m for link in behind[:1] for m in link.certificate.members if m.member_id not in own]
    members = (*request.members, *(Contributor(m.member_id, m.name, m.identity_public_key) for m in before))
    return Certificate(
        plan_digest=plan.digest,
        run_id=request.run_id,
        unit=plan.privacy.unit,
        relation=RELATION,
        accountant=accountant.ACCOUNTANT,
        members=tuple(_certify(member, plan, spent.get(member.member_id, nothing)) for member in members),
        rounds=request.rounds,
        consents=request.consents,
        predecessor=request.predecessor,
    )


def _certify(member: Contributor, plan: Plan, spend: Spend) -> CertificateMember:
    secure = plan.privacy.mode is Mode.SECURE
    return CertificateMember(
        member_id=member.member_id,
        name=member.name,
        identity_public_key=member.identity_public_key,
        events=spend.events,
        guarantees=_guarantees(member, plan, spend.events),
        events_alone=spend.events_alone if secure else None,
        guarantees_alone=_guarantees(member, plan, spend.events_alone) if secure else None,
    )


def _guarantees(
    member: Contributor, plan: Plan, events: tuple[GaussianEvent, ...]
) -> tuple[PrivacyGuarantee, ...]:
    deltas = dict.fromkeys((plan.privacy.delta, REPORTED_DELTA))
    guarantees = tuple(accountant.guarantee(events, delta, plan.privacy.unit) for delta in deltas)
    if not all(math.isfinite(guarantee.epsilon) for guarantee in guarantees):
        raise UnsoundPlan(
            f"The events of {member.member_id} have no finite ε, so there is nothing to certify. No "
            "release was made. Use a larger noise multiplier in a new plan."
        )
    return guarantees


def _sentence(origin: Origin | None) -> str:
    if origin is None:
        return ""
    licence = origin.licence or "no licence named"
    return f"{origin.kind} weights {origin.name} ({licence}), {origin.digest}"


def _write_weights(path: Path, request: PublishRequest) -> tuple[WeightLayout, Origin | None]:
    plan = request.plan
    found = digest_of_file(request.starting_weights)
    if found != plan.starting_weights:
        raise DigestMismatch(
            f"The plan starts from the weights {plan.starting_weights[:23]}…, the file has {found[:23]}…. "
            "No release was made. Restore the starting weights."
        )
    start = read_weights(request.starting_weights, maximum_bytes=limits.WEIGHTS_BYTES)
    expected = 4 * plan.extractor_coordinates
    if len(request.weights_f32) != expected:
        raise InvalidWeights(
            f"The plan's extractor trains {plan.extractor_coordinates} coordinates, {expected} bytes; the checkpoint "
            f"has {len(request.weights_f32)}. No release was made. Restore the checkpoint."
        )
    vector = np.frombuffer(request.weights_f32, dtype="<f4").astype(np.float32)
    write_weights(
        path, unflatten(vector, start.layout, start.tensors), start.spec, start.layout, start.origin
    )
    return start.layout, start.origin


def _promises(folder: Path) -> dict[str, ReleaseFile]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: ReleaseFile(digest_of_file(path), path.stat().st_size)
        for name, path in sorted(files.items())
        if name not in BESIDE_THE_PROMISE
    }

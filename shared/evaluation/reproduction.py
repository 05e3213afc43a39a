"""Measure again what a release states of itself, on the public records that anybody has, and judge every number.

A claim holds

- where it is a count, size, name or digest, or is told to other programs: if it is exactly so;
- where it has a 95 % interval (probes, movements, the loss by int8): if value and both ends are each within half the
  width of the interval that is found here, or 0.001, or two of the records that were asked;
- where it has none (cosines and top-1 of int8): within 0.01, for the integer kernels of other processors;
- parity of ONNX and torch: if what is claimed and what is found both keep 1e-4;
- in a section of the card: if the numbers of its lines are those that the release's own files give;
- ε: if what its own events recompute to is not above it, as in the verification.

Speed, energy and versions are of the machine that published; they are shown and not judged. Nothing is written.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shared.certificate_proofs import EPSILON_SLACK
from shared.domain.extractor import RecordKind
from shared.domain.release import ABOUT_FILE, LENS_PICTURE_FILE, ONNX_FILE, ONNX_INT8_FILE, WEIGHTS_FILE
from shared.embedding import embed_function, onnx_of, promised_bytes
from shared.evaluation.claims import Claim, at_most, equal, measured_again, near, shown
from shared.evaluation.configuration_claims import configuration_claims
from shared.evaluation.release_numbers import measured_of, profile_in
from shared.exports.card_sections import card_sections
from shared.exports.measured import LARGEST_DIFFERENCE, LOSS_BAR_POINTS, Int8Loss, Measured
from shared.exports.model_index import model_index
from shared.exports.onnx_file import OnnxFile
from shared.exports.public_records import PublicRecords, public_records
from shared.exports.training_energy import training_section
from shared.lens.card_section import lens_section
from shared.lens.estimate import Estimate
from shared.lens.picture import draw
from shared.lens.profile import measure
from shared.lens.profile_shape import LensProfile, Movement, Probe
from shared.release.about import changelog_line, parse_about, summarise
from shared.release.card import MODEL_INDEX
from shared.release.manifest import card_of
from shared.verification import VerifiedExtractor, VerifiedRelease

_INT8_SLACK = 0.01
_NUMBER = re.compile(r"[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
_MODEL_FILES = (WEIGHTS_FILE, ONNX_FILE, ONNX_INT8_FILE)


def reproduce(release: VerifiedExtractor, directory: Path) -> Iterator[Claim]:
    """Every claim of the release that was verified in `directory`, one after the other as it is measured.

    Raises ProofFailed and DigestMismatch as `onnx_of`, Invalid and InvalidConfig for a file of claims that is none.
    """
    if isinstance(release, VerifiedRelease):
        yield from _privacy(release)
        yield from _changelog(release, directory)
    measured = measured_of(release, directory)
    if measured is not None:
        yield from _measured(release, directory, measured)
    profile = profile_in(release, directory)
    if profile is not None:
        yield from _lens(release, directory, profile)
        yield _picture(release, directory, profile)
    yield from _card(release, directory, measured, profile)


def _privacy(release: VerifiedRelease) -> Iterator[Claim]:
    for member in release.certificate.members:
        for one in release.recomputed[member.member_id]:
            for name, claimed, found in (
                ("ε", one.claimed, one.epsilon),
                ("ε alone", one.alone_claimed, one.alone),
            ):
                what = f"{member.name}: {name} at δ {one.delta:g}"
                holds = found <= claimed * (1 + EPSILON_SLACK)
                yield Claim("privacy", what, f"{claimed:.4f}", f"{found:.4f}", "not above", holds)


def _changelog(release: VerifiedRelease, directory: Path) -> Iterator[Claim]:
    """The numbers beside its notes must be those of the certificate, which was proven."""
    stated = parse_about(promised_bytes(release, directory, ABOUT_FILE)).summary
    if stated is not None:
        found = summarise(release.certificate, release.plan.privacy.delta)
        yield equal("changelog", "its numbers", changelog_line(stated, None), changelog_line(found, None))


def _measured(release: VerifiedExtractor, directory: Path, measured: Measured) -> Iterator[Claim]:
    files = release.manifest.files
    yield equal("files", "measured weights", measured.weights_digest, files[WEIGHTS_FILE].digest)
    for name in dict.fromkeys((*_MODEL_FILES, *measured.sizes_bytes)):
        claimed = measured.sizes_bytes.get(name, "none")
        found = files[name].size_bytes if name in files else "none"
        yield equal("files", f"bytes of {name}", claimed, found)
    model = onnx_of(release, directory)
    opset = "no file" if model is None else model.opset
    yield equal("files", "opset of model.onnx", measured.opset, opset)
    yield from configuration_claims(release, directory)
    public = public_records(release.spec, measured.public.held_out)
    yield from _public_set(measured, public)
    yield from _parity(release, model, measured, public)
    yield from _int8(release, directory, model, measured, public)
    for speed in measured.speed:
        what = f"{speed.program}, batch {speed.batch}"
        yield shown("speed and energy", what, f"{speed.records_per_s:.1f} records/s")
    machine = f"{measured.processor}, threads: {measured.threads}"
    yield shown("speed and energy", "measured on", machine)
    joules = f"{measured.energy.joules_a_thousand:.3g} J, {measured.energy.co2_g_a_thousand:.2g} g CO₂"
    yield shown("speed and energy", "a thousand records", joules)
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items())
    yield shown("speed and energy", "programs", versions)


def _public_set(measured: Measured, public: PublicRecords) -> Iterator[Claim]:
    part, stated = "public records", measured.public
    yield equal(part, "set", stated.set_name, public.set_name)
    yield equal(part, "digest", stated.digest, public.digest)
    yield equal(part, "to learn from", stated.learned, len(public.learned))
    yield equal(part, "held out", stated.held_out, len(public.held_out))
    yield equal(part, "labels", stated.labels, public.labels)


def _parity(
    release: VerifiedExtractor, model: OnnxFile | None, measured: Measured, public: PublicRecords
) -> Iterator[Claim]:
    from shared.exports.comparison import parity
    from shared.extractors.architectures import load

    part, stated = "ONNX and torch", measured.parity
    if model is None:
        yield equal(part, "model.onnx", "there", "none in the release")
        return
    found = parity(load(release.spec, release.weights), model, public, release.spec)
    yield at_most(
        part,
        "largest difference in a number",
        stated.largest_difference,
        found.largest_difference,
        LARGEST_DIFFERENCE,
        ".1e",
    )
    yield equal(part, "bound", stated.bound, found.bound)
    yield equal(part, "records", stated.records, found.records)


def _int8(
    release: VerifiedExtractor,
    directory: Path,
    fp32: OnnxFile | None,
    measured: Measured,
    public: PublicRecords,
) -> Iterator[Claim]:
    from shared.exports.comparison import int8_loss

    part = "int8"
    int8 = onnx_of(release, directory, ONNX_INT8_FILE)
    stated = "none" if measured.int8 is None else "there"
    yield equal(part, ONNX_INT8_FILE, stated, "none" if int8 is None else "there")
    if measured.int8 is None:
        yield shown(part, "why there is none", measured.int8_missing)
        return
    yield shown(part, "made by", measured.int8.method)
    if fp32 is None or int8 is None:
        return
    claimed, found = measured.int8.loss, int8_loss(fp32, int8, public, release.spec)
    asked = len(public.held_out)
    for what, one, other in (
        ("cosine to fp32, mean", claimed.cosine_mean, found.cosine_mean),
        ("cosine to fp32, least", claimed.cosine_least, found.cosine_least),
    ):
        yield near(part, what, one, other, _INT8_SLACK)
    for what, one, other in (
        ("top-1 of fp32, %", claimed.top1_fp32, found.top1_fp32),
        ("top-1 of int8, %", claimed.top1_int8, found.top1_int8),
    ):
        yield near(part, what, 100 * one, 100 * other, 100 * _INT8_SLACK, ".2f")
    yield measured_again(
        part, "top-1 lost, points", _loss(claimed), _loss(found), asked=asked, scale=100.0, form=".2f"
    )
    yield equal(part, "bar for the loss, points", claimed.bar_points, LOSS_BAR_POINTS)


def _loss(loss: Int8Loss) -> Estimate:
    return Estimate(loss.loss_points / 100, loss.loss_low / 100, loss.loss_high / 100)


def _lens(release: VerifiedExtractor, directory: Path, stated: LensProfile) -> Iterator[Claim]:
    part, spec = "lens profile", release.spec
    if spec.kind is not RecordKind.IMAGE:
        yield equal(part, "kind of record", RecordKind.IMAGE.value, spec.kind.value)
        return
    found = measure(embed_function(release, directory)[0], spec.channels, spec.height, spec.width)
    for what in ("probe_set", "channels", "height", "width", "embedding_dim", "pictures"):
        yield equal(part, what.replace("_", " "), getattr(stated, what), getattr(found, what))
    for move, again in zip(stated.moves, found.moves, strict=True):
        yield measured_again(
            part, f"moves under {move.change}", _distance(move), _distance(again), form=".3f"
        )
        if move.what != again.what:
            yield equal(part, f"what {move.change} is", move.what, again.what)
    for tell, told in zip(stated.tells, found.tells, strict=True):
        yield measured_again(
            part,
            f"tells {tell.question}, %",
            _accuracy(tell),
            _accuracy(told),
            asked=told.asked,
            scale=100.0,
            form=".1f",
        )
        how = [f"{each.chance:.4f}, {each.learned}, {each.asked}" for each in (tell, told)]
        yield equal(part, f"{tell.question}: chance, learned, asked", *how)


def _picture(release: VerifiedExtractor, directory: Path, stated: LensProfile) -> Claim:
    """Not judged where it is another one: a later version may draw the same numbers otherwise."""
    found = promised_bytes(release, directory, LENS_PICTURE_FILE)
    names = (release.manifest.release, release.spec.architecture)
    if found in [draw([(name, stated)]).encode("utf-8") for name in names]:
        return equal("card", LENS_PICTURE_FILE, "drawn from lens.json", "drawn from lens.json")
    why = "none" if found is None else "not what this version draws from lens.json: trust the numbers"
    return shown("card", LENS_PICTURE_FILE, why)


def _card(
    release: VerifiedExtractor, directory: Path, measured: Measured | None, profile: LensProfile | None
) -> Iterator[Claim]:
    """The files were judged above; the card must not say anything else. A section that is not there claims nothing,
    and is named: cards of earlier versions have fewer.
    """
    sections = {} if measured is None else dict(card_sections(measured))
    sections |= {} if profile is None else lens_section(profile)
    if measured is not None and isinstance(release, VerifiedRelease):
        sections |= training_section(release.plan, release.certificate.rounds, measured.energy)
    card = (promised_bytes(release, directory, card_of(release.manifest)) or b"").decode("utf-8", "replace")
    yield from _model_index(release, card, measured, profile)
    for heading, text in sections.items():
        stated = f"\n{card}\n".partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        what = f"numbers under {heading!r}"
        if not stated:
            yield shown("card", what, "none, the card has no such section")
            continue
        said, given = _numbers_by_line(stated), _numbers_by_line(text)
        # The order of lines is that of the files' names, which is not a claim.
        if said == given:
            yield equal("card", what, f"{said.total()} lines", f"{given.total()} lines")
        else:
            odd = Counter(" ".join((said - given).elements()).split())
            right = Counter(" ".join((given - said).elements()).split())
            both = (" ".join((one - other).elements()) for one, other in ((odd, right), (right, odd)))
            yield equal("card", what, *(each or "nothing" for each in both))


def _model_index(
    release: VerifiedExtractor, card: str, measured: Measured | None, profile: LensProfile | None
) -> Iterator[Claim]:
    """What the card's metadata tells hubs; cards of earlier versions tell nothing."""
    begins = f"\n{MODEL_INDEX}: "
    stated = card.partition("\n---\n")[0].partition(begins)[2].partition("\n")[0]
    index = model_index(measured, profile, release.manifest.release, release.spec.kind)
    what = f"evaluations under {MODEL_INDEX!r}"
    if stated:
        same = stated == json.dumps(index, ensure_ascii=False)
        found = "the same figures" if same else "not the figures of measured.json and lens.json"
        yield equal("card", what, "the same figures", found)
    elif index:
        yield shown("card", what, "none in the card's metadata")


def _numbers_by_line(text: str) -> Counter[str]:
    lines = (" ".join(sorted(_NUMBER.findall(line))) for line in text.splitlines())
    return Counter(line for line in lines if line)


def _distance(move: Movement) -> Estimate:
    return Estimate(move.distance, move.low, move.high)


def _accuracy(probe: Probe) -> Estimate:
    return Estimate(probe.accuracy, probe.low, probe.high)

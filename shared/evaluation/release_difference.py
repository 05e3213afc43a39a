"""What two verified releases differ in, for a person who chooses between them: behaviour, ε, size and speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.domain.errors import Invalid
from shared.domain.extractor import RecordKind
from shared.domain.release import ONNX_FILE, ONNX_INT8_FILE, WEIGHTS_FILE
from shared.embedding import Embed, embed_function
from shared.evaluation.epsilon_added import spent_in_both
from shared.evaluation.release_numbers import measured_of
from shared.evaluation.release_shape import COMPARISON_FORMAT, ReleaseDifference, Side
from shared.exports.measured import Measured
from shared.lens.difference import difference, difference_of_records
from shared.lens.difference_shape import Difference
from shared.lens.probe_set import Question, build_probe_set
from shared.lens.seen import Seen, look
from shared.lens.words import describe_difference
from shared.verification import VerifiedExtractor

_MODEL_FILES = (WEIGHTS_FILE, ONNX_FILE, ONNX_INT8_FILE)


def compare_releases(
    before: VerifiedExtractor, before_in: Path, after: VerifiedExtractor, after_in: Path
) -> ReleaseDifference:
    """`before` is the release that was verified in the folder `before_in`, and so on.

    Raises Invalid where one reads pictures and the other texts, ProofFailed and DigestMismatch as `onnx_of`.
    """
    kinds = before.spec.kind, after.spec.kind
    if kinds[0] is not kinds[1]:
        raise Invalid(
            f"{before.manifest.release} reads {kinds[0].value}s, {after.manifest.release} {kinds[1].value}s: there is "
            "nothing that both could be shown. Nothing was compared. Give two releases of one kind."
        )
    embeds = embed_function(before, before_in), embed_function(after, after_in)
    compare = _of_texts if kinds[0] is RecordKind.TEXT else _of_pictures
    behaviour = compare(before, embeds[0][0], after, embeds[1][0])
    spent, missing = spent_in_both(before, after)
    return ReleaseDifference(
        before=_side(before, before_in, embeds[0][1]),
        after=_side(after, after_in, embeds[1][1]),
        behaviour=behaviour,
        words=describe_difference(behaviour),
        spent=spent,
        spent_missing=missing,
        format=COMPARISON_FORMAT,
    )


def _of_pictures(
    before: VerifiedExtractor, embed_before: Embed, after: VerifiedExtractor, embed_after: Embed
) -> Difference:
    probes = build_probe_set()

    def seen(release: VerifiedExtractor, embed: Embed) -> Seen:
        return look(embed, release.spec.channels, release.spec.height, release.spec.width, probes)

    return difference(seen(before, embed_before), seen(after, embed_after), probes)


def _of_texts(
    before: VerifiedExtractor, embed_before: Embed, after: VerifiedExtractor, embed_after: Embed
) -> Difference:
    """Which language a name is written in. Both are shown the same names, each cut to its own width."""
    from shared.exports.public_records import public_records
    from shared.exports.public_texts import LANGUAGES

    sets = [public_records(release.spec) for release in (before, after)]
    first, second = (
        np.concatenate([embed(each.learned), embed(each.held_out)]).astype(np.float64)
        for each, embed in zip(sets, (embed_before, embed_after), strict=True)
    )
    public = max(sets, key=lambda each: each.learned.shape[2])
    held_out = np.arange(len(first)) >= len(public.learned)
    labels = np.concatenate([public.learned_labels, public.held_out_labels])
    question = Question("language", LANGUAGES, labels, held_out)
    return difference_of_records(first, second, question, public.digest)


def _side(release: VerifiedExtractor, directory: Path, embedded_by: str) -> Side:
    measured = measured_of(release, directory)
    files = release.manifest.files
    return Side(
        release=release.manifest.release,
        manifest_digest=release.manifest_digest,
        embedded_by=embedded_by,
        sizes_bytes={name: files[name].size_bytes for name in _MODEL_FILES if name in files},
        speed=() if measured is None else measured.speed,
        measured_on="" if measured is None else _machine(measured),
        int8_missing="" if measured is None else measured.int8_missing,
    )


def _machine(measured: Measured) -> str:
    return f"{measured.processor}, {measured.threads} thread{'' if measured.threads == 1 else 's'}"

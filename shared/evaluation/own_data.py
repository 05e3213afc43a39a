"""A release on records that whoever asks brings along: a linear probe with few labels, by torch, ONNX and int8.

Where a class has too few records to hold others out, cross-validation takes the place of one held-out part. Nobody
claimed anything of these records, so nothing is judged; what is found stays on this machine.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from shared.domain.errors import Invalid, InvalidRecords
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import ONNX_FILE, ONNX_INT8_FILE
from shared.embedding import Given, by_onnx, by_torch, embed_given_by, files_in, given_in, onnx_of
from shared.evaluation.claims import Claim, own
from shared.evaluation.cross_validation import REPEATS, Floats, crossed, crossed_share, parts_of
from shared.lens.estimate import Estimate
from shared.lens.measures import Labels, Mask, share
from shared.verification import VerifiedExtractor

LABELS_A_CLASS = 20
LEAST_A_CLASS = 2
"""One to learn from and one to ask about."""
MOST_A_CLASS_CROSSED = 2 * LABELS_A_CLASS
"""Of classes beside one that is small: the rest would say more of them and nothing more of the small one."""
SEED = 20_262
"""Chooses what is learned from: the same folder gives the same numbers."""
Classes = Mapping[str, Sequence[Given]]
"""Class → its records."""
_PART = "your data"
_COLUMNS = ("text", "label")


def probe_own(release: VerifiedExtractor, directory: Path, classes: Classes) -> Iterator[Claim]:
    """A head on LABELS_A_CLASS records of each class, chosen by chance, and all others held out; or cross-validation.

    Raises InvalidRecords for a picture that cannot be read, ProofFailed and DigestMismatch as `onnx_of`.
    """
    few = min(len(each) for each in classes.values()) <= LABELS_A_CLASS
    if few:
        classes = {name: _some(each) for name, each in classes.items()}
    given = [one for each in classes.values() for one in each]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(each) for each in classes.values()])
    onnx = {name: onnx_of(release, directory, name) for name in (ONNX_FILE, ONNX_INT8_FILE)}
    embeds = {"torch": by_torch(release, "cpu")}
    embeds |= {name: by_onnx(model, release.spec) for name, model in onnx.items() if model is not None}
    made = dict(zip(embeds, embed_given_by(list(embeds.values()), given, release.spec), strict=True))
    yield own(_PART, "classes", ", ".join(classes))
    yield from _crossed(made, labels) if few else _held_out(made, labels)
    for name in [name for name in made if name != "torch"]:
        apart = float(np.abs(made[name] - made["torch"]).max())
        yield own(_PART, f"{name} from torch, largest difference in a number", f"{apart:.1e}")


def _held_out(made: Mapping[str, Floats], labels: Labels) -> Iterator[Claim]:
    from shared.exports.comparison import Probe

    learned = _learned(labels)
    head = Probe(made["torch"][learned], labels[learned])
    said = {name: head.predict(found[~learned]) for name, found in made.items()}
    yield own(_PART, "labels learned from, a class", str(LABELS_A_CLASS))
    yield own(_PART, "held out", str(int((~learned).sum())))
    yield own(_PART, "guessing, %", f"{100 / len(np.unique(labels)):.1f}")
    yield from _answers(said, labels[~learned], lambda right: Estimate(*share(right)))


def _crossed(made: Mapping[str, Floats], labels: Labels) -> Iterator[Claim]:
    """With what so few records can say, in words: an interval alone is easily read past."""
    parts, counts = parts_of(labels), np.unique(labels, return_counts=True)[1]
    said, guess = crossed(made, "torch", labels), float(counts.max() / counts.sum())
    yield own(_PART, "records, and of the smallest class", f"{len(labels)}, {counts.min()}")
    yield own(
        _PART,
        "how",
        f"too few to hold most out: each of {parts} parts held out once, dealt {REPEATS} times (cross-validation)",
    )
    yield own(_PART, "always naming the largest class, %", f"{100 * guess:.1f}")
    yield from _answers(said, labels, lambda right: crossed_share(right, parts))
    found = crossed_share(said["torch"] == labels, parts)
    wide = f"anything from {100 * found.low:.0f} to {100 * found.high:.0f} % fits them"
    verdict = f"better than that guess; how much better they cannot say: {wide}"
    if found.low <= guess:
        verdict = f"nothing: these records cannot tell it from that guess, {wide}. Label more"
    yield own(_PART, "what that says of the extractor", verdict)


def _answers(
    said: Mapping[str, Labels], labels: Labels, estimated: Callable[[Mask], Estimate]
) -> Iterator[Claim]:
    """Of answers [..., N] to records with `labels` [N]."""
    for name, answers in said.items():
        yield own(_PART, f"right by {name}, %", estimated(answers == labels).text(".1f", 100.0))
    for name in [name for name in said if name != "torch"]:
        same = estimated(said[name] == said["torch"]).text(".1f", 100.0)
        yield own(_PART, f"{name} says what torch says, %", same)


def _some(records: Sequence[Given]) -> Sequence[Given]:
    """At most MOST_A_CLASS_CROSSED of them, chosen by chance."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    chosen = sorted(rng.permutation(len(records))[:MOST_A_CLASS_CROSSED])
    return [records[place] for place in chosen]


def _learned(labels: np.ndarray) -> Mask:
    chosen = np.zeros(len(labels), dtype=np.bool_)
    rng = np.random.Generator(np.random.PCG64(SEED))
    for label in np.unique(labels):
        chosen[rng.permutation(np.flatnonzero(labels == label))[:LABELS_A_CLASS]] = True
    return chosen


def own_classes(data: Path, spec: ExtractorSpec) -> Classes:
    """Both classes and their records in the order of their names.

    `data` is a folder with one folder for each class, holding pictures, or for an extractor of texts files with one
    text a line; or for texts a CSV with the columns text and label. Raises Invalid where it is neither or has too
    few, InvalidRecords for a table or a text that cannot be read.
    """
    if data.is_dir():
        folders = sorted(each for each in data.iterdir() if each.is_dir() and not each.name.startswith("."))
        classes: Classes = {folder.name: given_in(files_in(folder), spec) for folder in folders}
    elif data.is_file() and spec.kind is RecordKind.TEXT:
        classes = _rows(data)
    else:
        wanted = "a folder with one folder for each class"
        wanted += " or a CSV with the columns text and label" if spec.kind is RecordKind.TEXT else ""
        raise Invalid(f"{data} is not {wanted}. Nothing was measured of it. Give {wanted}.")
    if len(classes) < 2:
        raise Invalid(
            f"{data} has {len(classes)} classes, at least 2 are needed. Nothing was measured of it. Put the records "
            "of each class into a folder of its own."
        )
    fewest = min(classes, key=lambda name: len(classes[name]))
    if len(classes[fewest]) < LEAST_A_CLASS:
        raise Invalid(
            f"Each class needs at least {LEAST_A_CLASS} records, one to learn from and one to ask about; {fewest!r} in "
            f"{data} has {len(classes[fewest])}. Nothing was measured of it. Add records, or leave the class out."
        )
    return classes


def _rows(data: Path) -> dict[str, list[Given]]:
    classes: dict[str, list[Given]] = {}
    try:
        with data.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise InvalidRecords(
                    f"{data}: expected the columns text and label separated by commas, found "
                    f"{', '.join(map(repr, reader.fieldnames or ())) or 'none'}. Nothing was measured of it. Correct "
                    "the first line."
                )
            for row in reader:
                text, label = ((row[name] or "").strip() for name in _COLUMNS)
                place = f"{data}, line {reader.line_num},"
                if not label:
                    raise InvalidRecords(f"{place} has no label. Nothing was measured of it. Add it.")
                classes.setdefault(label, []).append(Given(text, place, text.encode("utf-8")))
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise InvalidRecords(
            f"{data} cannot be read: {why}. Nothing was measured of it. Check the path."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRecords(
            f"{data} cannot be read as a CSV in UTF-8: {error}. Nothing was measured of it. Save it again as UTF-8."
        ) from error
    return dict(sorted(classes.items()))

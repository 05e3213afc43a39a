"""A release on records that whoever asks brings along: a linear probe with few labels, by torch, ONNX and int8.

Nobody claimed anything of these records, so nothing is judged; what is found stays on this machine.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from shared.domain.errors import Invalid, InvalidRecords
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.release import ONNX_FILE, ONNX_INT8_FILE
from shared.embedding import Given, by_onnx, by_torch, embed_given_by, files_in, given_in, onnx_of
from shared.evaluation.claims import Claim, own
from shared.lens.estimate import Estimate
from shared.lens.measures import Mask, share
from shared.verification import VerifiedExtractor

LABELS_A_CLASS = 20
SEED = 20_262
"""Chooses what is learned from: the same folder gives the same numbers."""
Classes = Mapping[str, Sequence[Given]]
"""Class → its records."""
_PART = "your data"
_COLUMNS = ("text", "label")


def probe_own(release: VerifiedExtractor, directory: Path, classes: Classes) -> Iterator[Claim]:
    """A head on LABELS_A_CLASS records of each class, chosen by chance; all others are held out.

    Raises InvalidRecords for a picture that cannot be read, ProofFailed and DigestMismatch as `onnx_of`.
    """
    from shared.exports.comparison import Probe

    given = [one for each in classes.values() for one in each]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(each) for each in classes.values()])
    learned = _learned(labels)
    onnx = {name: onnx_of(release, directory, name) for name in (ONNX_FILE, ONNX_INT8_FILE)}
    embeds = {"torch": by_torch(release, "cpu")}
    embeds |= {name: by_onnx(model, release.spec) for name, model in onnx.items() if model is not None}
    made = dict(zip(embeds, embed_given_by(list(embeds.values()), given, release.spec), strict=True))
    head = Probe(made["torch"][learned], labels[learned])
    said = {name: head.predict(found[~learned]) for name, found in made.items()}
    yield own(_PART, "classes", ", ".join(classes))
    yield own(_PART, "labels learned from, a class", str(LABELS_A_CLASS))
    yield own(_PART, "held out", str(int((~learned).sum())))
    yield own(_PART, "guessing, %", f"{100 / len(classes):.1f}")
    for name, answers in said.items():
        yield own(_PART, f"right by {name}, %", _percent(answers == labels[~learned]))
    for name in [name for name in said if name != "torch"]:
        yield own(_PART, f"{name} says what torch says, %", _percent(said[name] == said["torch"]))
        apart = float(np.abs(made[name] - made["torch"]).max())
        yield own(_PART, f"{name} from torch, largest difference in a number", f"{apart:.1e}")


def _percent(right: Mask) -> str:
    return Estimate(*share(right)).text(".1f", 100.0)


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
    if len(classes[fewest]) <= LABELS_A_CLASS:
        raise Invalid(
            f"Each class needs more than {LABELS_A_CLASS} records, those learned from and at least one held out; "
            f"{fewest!r} in {data} has {len(classes[fewest])}. Nothing was measured of it. Add records, or leave the "
            "class out."
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

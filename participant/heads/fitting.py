"""Step 15: a member's data set through a verified release, and a private head on top. All of it stays here."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from participant.heads.accuracy import measure
from participant.heads.embed import Floats, Labels, embed
from participant.heads.fit import fit_head
from participant.heads.head import Head
from participant.heads.store import save_head
from participant.home import Home
from participant.records.dataset import open_data_set
from participant.records.reader import RecordReader
from participant.training.runtime import apply_threads, read_options
from shared.domain.crash_points import crash_point
from shared.embedding import embed_given, given_in
from shared.extractors.architectures import load
from shared.extractors.device import choose_device
from shared.verification import VerifiedExtractor


def fit_on_release(home: Home, release: VerifiedExtractor, data: str, test: str | None, name: str) -> Head:
    """A head fitted on the training side of `data`, measured on `test` or on the held-out side, and saved.

    Embeds on the device of participant.toml. Where nothing is held out the accuracy stays None. Raises
    NotFound, Invalid as `fit_head`.
    """
    spec, options = release.spec, read_options(home.settings)
    apply_threads(options)
    device = choose_device(options.device)
    data_set = open_data_set(home.root, data)
    reader = data_set.reader(spec)
    module = load(spec, release.weights)

    def embedded(source: RecordReader, indices: Labels) -> Floats:
        return embed(module, source, spec, indices=indices, device=device)

    # A data set that is measured on another one gives all its records to the fit.
    fitted_on = reader.training_indices if test is None else np.arange(reader.records, dtype=np.int64)
    head = fit_head(
        embedded(reader, fitted_on),
        reader.labels(fitted_on),
        data_set.classes,
        spec=spec,
        release_digest=release.manifest_digest,
    )
    measured_on = reader if test is None else open_data_set(home.root, test).reader(spec)
    held_out = reader.held_out_records if test is None else np.arange(measured_on.records, dtype=np.int64)
    if len(held_out):
        accuracy = measure(
            head,
            embedded(measured_on, held_out),
            measured_on.labels(held_out),
            measured_on.classes,
            release_digest=release.manifest_digest,
        )
        head = dataclasses.replace(head, accuracy=accuracy)
    save_head(home.root, name, head)
    crash_point("15")
    return head


def predict_files(
    home: Home, head: Head, release: VerifiedExtractor, files: Sequence[Path]
) -> list[tuple[str, str, float]]:
    """(path or text, likeliest class, its probability) for each image, or for each line of files of texts.

    Raises HeadMismatch, InvalidRecords.
    """
    options = read_options(home.settings)
    apply_threads(options)
    given = given_in(files, release.spec)
    embeddings = embed_given(release, given, options.device)
    probabilities = head.probabilities(embeddings, release_digest=release.manifest_digest)
    best = probabilities.argmax(axis=1)
    return [
        (one.name, head.classes[k], float(row[k]))
        for one, k, row in zip(given, best, probabilities, strict=True)
    ]

"""docs/examples/python: a head of a stranger on a few labelled pictures, as the file that every example applies."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest

from coordinator.workers.export_worker import write_configuration
from shared.domain.release import WEIGHTS_FILE
from shared.embedding import embed_files
from shared.exports.head_schema import HEAD_SCHEMA_FILE
from shared.exports.public_records import public_records
from shared.extractors.files import read_weights
from shared.verification import VerifiedExtractor, verify_extractor
from tests.export_kit import EXAMPLES, SPEC, save_picture
from tests.release_kit import make_used_kit

FIT = str(EXAMPLES / "python" / "fit.py")


def export(folder: Path, _release: str) -> dict[str, str]:
    write_configuration(folder, read_weights(folder / WEIGHTS_FILE))
    return {}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, VerifiedExtractor]:
    kit = make_used_kit(tmp_path_factory.mktemp("kit"), SPEC, export)
    return kit.folder(), verify_extractor(kit.folder(), pinned_root=kit.root, clock=kit.clock)


def fit(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [FIT, *map(str, words)])
    runpy.run_path(FIT, run_name="__main__")


@pytest.mark.parametrize("count", [2, 3])
def test_twenty_labelled_pictures_become_a_head_that_every_language_can_apply(
    release: tuple[Path, VerifiedExtractor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    folder, verified = release
    public = public_records(SPEC)
    given, asked = [], []
    for k in range(count):
        shown = public.learned[public.learned_labels == k][:20]
        paths = [save_picture(tmp_path / f"{k}-{i}.png", one) for i, one in enumerate(shown)]
        made = embed_files(verified, paths, "cpu")
        np.save(tmp_path / f"{k}.npy", made[:10])
        given.append(f"label {k}={tmp_path / f'{k}.npy'}")
        asked.append(made)
    fit(monkeypatch, folder, tmp_path / "head.json", *given)

    head = json.loads((tmp_path / "head.json").read_text())
    jsonschema_rs.validate(json.loads((folder / HEAD_SCHEMA_FILE).read_text()), head)
    assert head["labels"] == [f"label {k}" for k in range(count)]
    assert head["release"]["manifest_digest"] == verified.manifest_digest
    weight, bias = np.array(head["weight"]), np.array(head["bias"])
    right = [(each @ weight.T + bias).argmax(axis=1) == k for k, each in enumerate(asked)]
    # Those that it learned from; the weights are random ones, which promise nothing of the others.
    assert np.mean([each[:10] for each in right]) > 1.5 / count


def test_what_it_was_not_given_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"Usage: python fit.py RELEASE HEAD.json LABEL=EMBEDDINGS.npy"):
        fit(monkeypatch, "release", "head.json", "cat=cat.npy")

"""One JSON file is the whole head: numpy alone gives the labels that the head gives."""

from __future__ import annotations

import json
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest

from participant.cli import app
from participant.heads.accuracy import accuracy_with_interval
from participant.heads.head import Head
from participant.heads.head_file import head_file
from participant.heads.store import save_head
from participant.home import Home
from shared.console import run_arguments
from shared.domain.errors import HeadMismatch
from shared.domain.extractor import ExtractorSpec
from shared.domain.strict import to_plain
from shared.exports.head_schema import head_schema
from shared.verification import VerifiedExtractor, verify_extractor
from tests.joined_home import joined
from tests.release_kit import Kit, make_used_kit

SPEC = ExtractorSpec(
    "fixed-mlp", 3, 16, 16, 8, (0.5,), (0.2, 0.25, 0.3), {"hidden": 8, "grid": 2, "scales": 1}
)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_used_kit(tmp_path_factory.mktemp("head"), SPEC)


@pytest.fixture(scope="module")
def release(kit: Kit) -> VerifiedExtractor:
    return verify_extractor(kit.folder(), pinned_root=kit.root, clock=kit.clock)


@pytest.fixture
def head(release: VerifiedExtractor) -> Head:
    generator = np.random.default_rng(0)
    return Head(
        classes=("dog", "猫", "fox"),
        weight=generator.normal(0, 1, (3, 8)).astype(np.float32),
        bias=generator.normal(0, 1, 3).astype(np.float32),
        spec=SPEC,
        release_digest=release.manifest_digest,
        created_at="2026-11-21T12:00:00Z",
        labels_fitted=4321,
        missing_classes=("hen",),
        inverse_regularisation=0.1,
        accuracy=accuracy_with_interval(987, 1000),
    )


@pytest.fixture
def home(kit: Kit, tmp_path: Path, head: Head) -> Home:
    home = joined(kit, tmp_path / "member")
    shutil.copytree(kit.folder(), home.releases / "digits-1")
    save_head(home.root, "pets", head)
    return home


def test_the_file_alone_gives_the_labels_and_probabilities_of_the_head(
    home: Home, head: Head, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pets.json"
    assert run_arguments(app, ["head", "export", "pets", "--to", str(path), "--home", str(home.root)]) == 0
    assert "pets: 3 labels on digits-1" in capsys.readouterr().out
    file = json.loads(path.read_text("utf-8"))
    embeddings = np.random.default_rng(1).normal(0, 1, (40, 8)).astype(np.float32)
    logits = embeddings.astype(float) @ np.array(file["weight"]).T + np.array(file["bias"])
    found = [file["labels"][k] for k in logits.argmax(axis=1)]
    assert found == list(head.predict_names(embeddings, release_digest=head.release_digest))
    assert set(found) == {"dog", "猫", "fox"}
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = head.probabilities(embeddings, release_digest=head.release_digest)
    assert np.abs(shares - wanted).max() < 1e-5
    assert np.array_equal(np.array(file["weight"], np.float32), head.weight)


def test_the_file_names_its_release_and_how_a_picture_becomes_an_input(
    head: Head, release: VerifiedExtractor
) -> None:
    file = to_plain(head_file(head, release))
    assert file["format"] == "commonlens-linear-head/1" and file["embedding_dim"] == 8
    assert file["release"] == {
        "consortium": "Test Consortium",
        "release": "digits-1",
        "manifest_digest": head.release_digest,
    }
    described = file["preprocessing"]
    assert (described["channels"], described["height"], described["width"]) == (3, 16, 16)
    assert list(described["mean"]) == [0.5] * 3 and list(described["std"]) == [0.2, 0.25, 0.3]
    assert described["kind"] == "image" and "bilinear" in described["fit"]


def test_the_file_tells_nothing_of_the_records_but_the_head(head: Head, release: VerifiedExtractor) -> None:
    text = json.dumps(to_plain(head_file(head, release)))
    # As a number of its own: one in a thousand digests of a release holds these four digits.
    assert not re.search(r"\b4321\b", text) and "0.987" not in text and "hen" not in text.replace("then", "")


def test_the_file_is_for_its_owner_alone(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "pets.json"
    assert run_arguments(app, ["head", "export", "pets", "--to", str(path), "--home", str(home.root)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_head_of_another_release_is_not_exported(head: Head, release: VerifiedExtractor) -> None:
    other = replace(head, release_digest="sha256:" + "a" * 64)
    with pytest.raises(HeadMismatch, match=r"fitted on release sha256:aaa.* Nothing was written"):
        head_file(other, release)


def test_a_releases_schema_fits_its_heads_and_no_others(head: Head, release: VerifiedExtractor) -> None:
    file = json.loads(json.dumps(to_plain(head_file(head, release))))
    jsonschema_rs.validate(head_schema(SPEC), file)
    short = file | {"weight": [row[1:] for row in file["weight"]]}
    grey = file | {"preprocessing": file["preprocessing"] | {"channels": 1}}
    bare = {name: value for name, value in file.items() if name != "bias"}
    for other in (short, grey, bare):
        assert not jsonschema_rs.is_valid(head_schema(SPEC), other)

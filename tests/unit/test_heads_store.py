"""Heads on disk: what is saved is what is loaded, JSON alone is the whole head, harm is named."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from participant.heads.accuracy import accuracy_with_interval
from participant.heads.head import Head
from participant.heads.store import list_heads, load_head, remove_head, save_head
from shared.domain.errors import Invalid, InvalidConfig, InvalidWeights, NotFound, OutOfSpace
from shared.domain.extractor import ExtractorSpec

RELEASE = "sha256:" + "a" * 64


@pytest.fixture
def head() -> Head:
    generator = np.random.default_rng(0)
    return Head(
        classes=("dog", "猫"),
        weight=generator.normal(0, 1, (2, 5)).astype(np.float32),
        bias=generator.normal(0, 1, 2).astype(np.float32),
        spec=ExtractorSpec("small-gn", 3, 32, 32, 5, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), {"norm": "group"}),
        release_digest=RELEASE,
        created_at="2026-11-21T12:00:00Z",
        labels_fitted=40,
        missing_classes=("fox",),
        inverse_regularisation=0.1,
        accuracy=accuracy_with_interval(9, 10),
    )


def test_a_head_comes_back_bit_for_bit(tmp_path: Path, head: Head) -> None:
    save_head(tmp_path, "pets", head)
    loaded = load_head(tmp_path, "pets")
    assert np.array_equal(loaded.weight, head.weight) and loaded.weight.dtype == np.float32
    assert np.array_equal(loaded.bias, head.bias)
    for field in dataclasses.fields(Head):
        if field.name not in ("weight", "bias"):
            assert getattr(loaded, field.name) == getattr(head, field.name)


def test_the_tensors_file_holds_the_same_numbers_and_the_release(tmp_path: Path, head: Head) -> None:
    path = save_head(tmp_path, "pets", head) / "head.safetensors"
    tensors = safetensors.numpy.load_file(path)
    assert np.array_equal(tensors["weight"], head.weight) and np.array_equal(tensors["bias"], head.bias)
    with safe_open(path, "numpy") as file:
        assert file.metadata()["release_digest"] == RELEASE
        assert json.loads(file.metadata()["classes"]) == ["dog", "猫"]


def test_json_alone_is_the_whole_head(tmp_path: Path, head: Head) -> None:
    (save_head(tmp_path, "pets", head) / "head.safetensors").unlink()
    assert np.array_equal(load_head(tmp_path, "pets").weight, head.weight)


@pytest.mark.parametrize("had", [False, True])
def test_a_full_disk_leaves_the_head_that_was_there_or_nothing(
    tmp_path: Path, head: Head, had: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if had:
        save_head(tmp_path, "pets", head)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfSpace, match="is full. The file was not written"):
        save_head(tmp_path, "pets", dataclasses.replace(head, labels_fitted=41))
    assert (tmp_path / "heads" / "pets").exists() == had
    assert not had or load_head(tmp_path, "pets").labels_fitted == 40


def test_heads_are_listed_replaced_and_removed(tmp_path: Path, head: Head) -> None:
    save_head(tmp_path, "pets", head)
    save_head(tmp_path, "b", head)
    save_head(tmp_path, "pets", dataclasses.replace(head, labels_fitted=41))
    assert list_heads(tmp_path) == ["b", "pets"] and load_head(tmp_path, "pets").labels_fitted == 41
    remove_head(tmp_path, "b")
    assert list_heads(tmp_path) == ["pets"]
    with pytest.raises(NotFound, match='There is no head "b" here; known: pets. Fit it first.'):
        load_head(tmp_path, "b")
    with pytest.raises(NotFound, match='There is no head "b" here. Nothing was removed.'):
        remove_head(tmp_path, "b")


@pytest.mark.parametrize("name", ["../pets", "a/b", ""])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, head: Head, name: str) -> None:
    with pytest.raises(Invalid, match="A head's name is 1 to 64 letters"):
        save_head(tmp_path, name, head)


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        (
            "format",
            "commonlens-head/9",
            InvalidWeights,
            "expected format commonlens-head/1, found commonlens-head/9",
        ),
        ("bias", [0.0], InvalidWeights, "expected weight and bias for 2 classes, found 2 and 1"),
        ("weight", [[0.0], [0.0]], InvalidWeights, "expected 5 weights a class, found another number"),
        ("bias", [0.0, 1e300], InvalidWeights, "a weight is not finite"),
        ("surprise", 1, InvalidConfig, "head.json: unknown key 'surprise'"),
    ],
)
def test_a_harmed_head_is_not_loaded(
    tmp_path: Path, head: Head, key: str, value: object, error: type[Invalid], message: str
) -> None:
    path = save_head(tmp_path, "pets", head) / "head.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(error, match=message):
        load_head(tmp_path, "pets")

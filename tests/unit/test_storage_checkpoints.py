"""Checkpoints are known by their content: what was changed on disk is never read as if it were not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from coordinator.storage.checkpoints import CheckpointStore
from shared.domain.errors import DigestMismatch, Invalid, NotFound, OutOfSpace

TENSORS = {
    "weights/a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "optimizer/m": np.zeros(4, dtype=np.float32),
}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def test_what_was_written_is_read_back(store: CheckpointStore) -> None:
    found = store.read(store.write(TENSORS))
    assert found.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


def test_a_transposed_view_is_written_as_it_reads(store: CheckpointStore) -> None:
    view = TENSORS["weights/a"].T
    np.testing.assert_array_equal(store.read(store.write({"a": view}))["a"], view)


def test_the_same_tensors_have_the_same_digest(store: CheckpointStore) -> None:
    other_order = dict(reversed(TENSORS.items()))
    assert store.write(TENSORS) == store.write(other_order)
    assert len(list(store.folder.iterdir())) == 1


def test_different_tensors_have_different_digests(store: CheckpointStore) -> None:
    assert store.write(TENSORS) != store.write({**TENSORS, "optimizer/m": np.ones(4, np.float32)})


def test_a_silently_corrupted_file_is_refused(store: CheckpointStore) -> None:
    digest = store.write(TENSORS)
    data = bytearray(store.path(digest).read_bytes())
    data[-1] ^= 1
    store.path(digest).write_bytes(bytes(data))
    with pytest.raises(DigestMismatch, match=f"expected {digest}, found sha256:"):
        store.read(digest)


def test_writing_again_mends_a_corrupted_file(store: CheckpointStore) -> None:
    digest = store.write(TENSORS)
    store.path(digest).write_bytes(b"broken")
    assert store.write(TENSORS) == digest
    store.read(digest)


def test_a_missing_checkpoint_is_not_found(store: CheckpointStore) -> None:
    digest = "sha256:" + "0" * 64
    assert not store.has(digest)
    with pytest.raises(NotFound, match="There is no checkpoint"):
        store.read(digest)


@pytest.mark.parametrize("name", ["../../etc/passwd", "sha256:../x", "", "sha256:" + "A" * 64])
def test_a_name_that_is_not_a_digest_never_becomes_a_path(store: CheckpointStore, name: str) -> None:
    with pytest.raises(Invalid, match="named by sha256"):
        store.read(name)


def test_a_full_disk_leaves_no_part(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfSpace, match="is full. The file was not written"):
        store.write(TENSORS)
    assert list(store.folder.iterdir()) == []

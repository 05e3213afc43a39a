"""After any crash a file is either the old one or the new one, whole."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from shared.domain import files
from shared.domain.errors import Invalid, NotFound, OutOfSpace
from shared.domain.files import atomic_writer, read_json, write_atomically, write_json


def test_file_is_written_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    write_atomically(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic_writer(path) as file:
        file.write(b"half of the n")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(OutOfSpace, match="what was there before is unchanged"), atomic_writer(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_of_the_disk_are_not_renamed(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic_writer(tmp_path / "file"):
        raise OSError(errno.EACCES, "no")
    assert list(tmp_path.iterdir()) == []


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, "ä"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, "ä"]}


def test_missing_and_broken_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file a\.json .* Nothing was read\. Check the folder\.$"):
        read_json(tmp_path / "a.json")
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(Invalid, match=r"is not JSON: .* Nothing was read\. Put back a whole copy\.$"):
            read_json(tmp_path / "a.json")


def test_an_outdated_file_is_written_over_whatever_their_lengths(tmp_path: Path) -> None:
    for old, new in ((b"a longer text than the next", b"short"), (b"short", b"a longer text than the last")):
        outdated, path = tmp_path / "1", tmp_path / "2"
        outdated.write_bytes(old)
        inode = outdated.stat().st_ino
        write_atomically(path, new, over=outdated)
        assert path.read_bytes() == new
        assert path.stat().st_ino == inode
        assert [entry.name for entry in tmp_path.iterdir()] == ["2"]


@pytest.mark.parametrize(("call", "synced"), [(fcntl.F_GETFD, False), (0x7FFFFFF, True), (None, True)])
def test_the_drives_own_cache_is_emptied_where_there_is_a_call_for_it_and_else_fsync_does_what_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int | None, synced: bool
) -> None:
    real, asked = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda descriptor: (asked.append(descriptor), real(descriptor)))
    monkeypatch.setattr(files, "_FULL_SYNC", call)
    with (tmp_path / "file").open("wb") as file:
        files.sync(file.fileno())
    assert bool(asked) is synced

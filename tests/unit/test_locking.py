"""One holder at a time, and none that outlives its block."""

from __future__ import annotations

import stat
from pathlib import Path
from threading import Event, Thread

import pytest

from shared.domain.errors import Conflict
from shared.domain.locking import held_lock

BUSY = "Another one is at work. Nothing was done. Wait for it."


def test_whoever_does_not_wait_is_told_that_the_lock_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held_lock(path), pytest.raises(Conflict, match=BUSY), held_lock(path, BUSY):
        pass
    with held_lock(path, BUSY):
        pass


def test_whoever_waits_gets_the_lock_when_its_holder_fails(tmp_path: Path) -> None:
    began, steps = Event(), []

    def wait() -> None:
        began.set()
        with held_lock(tmp_path / "lock"):
            steps.append("second")

    second = Thread(target=wait)
    with pytest.raises(KeyboardInterrupt), held_lock(tmp_path / "lock"):
        second.start()
        began.wait()
        second.join(0.05)
        steps.append("first")
        raise KeyboardInterrupt
    second.join()
    assert steps == ["first", "second"]


def test_lock_file_and_its_folder_are_for_their_owner_alone_and_stay(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    with held_lock(path):
        pass
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path)] == [0o700, 0o600]
